"""From the caller's parameters to what the gateway takes. Pure."""
