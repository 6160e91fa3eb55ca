"""A service to sign in at, and an environment that leads there without a key."""

from __future__ import annotations

from tests.core.login.conftest import running, server

__all__ = ["running", "server"]
