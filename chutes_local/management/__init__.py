"""The management host: account, models, and signing in."""
