"""The embedded Chutes as the counterpart: with an echo behind it, and with the real models where marked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chutes_local import LocalChutes, serve
from chutes_local.pytest_plugin import chutes_faults, chutes_local

__all__ = ["chutes_faults", "chutes_local"]


@pytest.fixture
def server(chutes_local: LocalChutes, chutes_faults: object) -> LocalChutes:
    """The session's server with an echo, as new."""
    return chutes_local


@pytest.fixture(scope="session")
def model_server() -> Iterator[LocalChutes]:
    """A server with the real models behind it."""
    with serve(backend="llama") as running:
        yield running
