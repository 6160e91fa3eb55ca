"""Tokens and dollars: limits, who spent what, and what a request reserves before it is sent."""
