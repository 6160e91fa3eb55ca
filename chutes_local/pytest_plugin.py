"""Test your own program against a failing Chutes.

Opt in with ``pytest_plugins = ["chutes_local.pytest_plugin"]`` in the top-level ``conftest.py``. ``chutes_local``
is the running server, one per session; ``chutes_faults`` is its fault plan, emptied before and after each test
that uses it. Answers come from the echo, so a test takes milliseconds; ``--chutes-backend=auto`` uses the small
model instead.

::

    def test_my_chain_survives_a_busy_model(chutes_local, chutes_faults):
        chutes_faults.add("Qwen/Qwen3-32B-TEE", "capacity", times=2)
        assert my_chain(base_url=chutes_local.base_url, api_key=chutes_local.api_key)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from chutes_local.backends.backend import BackendKind
from chutes_local.faults.plan import FaultPlan
from chutes_local.server import LocalChutes, serve

__all__ = ["chutes_faults", "chutes_local"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that chooses the backend."""
    parser.addoption(
        "--chutes-backend",
        choices=("auto", "llama", "echo"),
        default="echo",
        help="backend of the embedded Chutes (default: echo)",
    )


@pytest.fixture(scope="session")
def chutes_local(request: pytest.FixtureRequest) -> Iterator[LocalChutes]:
    """The embedded Chutes, started once per session."""
    kind = cast(BackendKind, request.config.getoption("--chutes-backend", "echo"))
    with serve(backend=kind) as server:
        yield server


@pytest.fixture
def chutes_faults(chutes_local: LocalChutes) -> Iterator[FaultPlan]:
    """The server's fault plan; the server is reset before and after each test."""
    chutes_local.reset()
    yield chutes_local.faults
    chutes_local.reset()
