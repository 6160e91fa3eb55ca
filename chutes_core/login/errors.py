"""Exceptions of the login."""

from __future__ import annotations

from chutes_core.errors import ConfigurationError, MissingKeyError

__all__ = ["CannotListenError", "LoginEndedError", "LoginError"]


class LoginError(ConfigurationError):
    """Signing in or using a stored login failed; the message says what to do."""


class LoginEndedError(LoginError, MissingKeyError):
    """The stored login has ended and cannot be renewed: sign in again. Nothing was sent with it."""


class CannotListenError(LoginError):
    """The redirect address is in use, or not on this machine."""
