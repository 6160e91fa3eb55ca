"""Answers of a form that the caller gave."""
