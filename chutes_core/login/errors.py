"""What can go wrong with a login."""

from __future__ import annotations

from chutes_core.errors import ConfigurationError, MissingKeyError

__all__ = ["CannotListenError", "LoginEndedError", "LoginError"]


class LoginError(ConfigurationError):
    """Signing in, or using a stored login, did not work; the message says what to do."""


class LoginEndedError(LoginError, MissingKeyError):
    """The stored login is over and cannot be renewed: sign in again. Nothing was sent with it."""


class CannotListenError(LoginError):
    """The redirect address is taken, or not on this machine."""
