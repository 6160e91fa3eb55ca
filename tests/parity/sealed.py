"""What both frameworks must make of the encrypted path: a server, and a table of calls that knows neither of them.

Sealed, a call must come to the same as on the plain path, so most of the table says only what is asked. Each
framework's test makes the call both ways, in the four modes of :data:`MODES`, and compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from chutes_core import Kind
from chutes_core.calls.clock import SystemClock
from chutes_local import LocalChutes, serve
from tests.core.e2ee.test_client import FAULTS as ALL_FAULTS

from .scenarios import _HISTORY, MODES, PIXEL, TOOLS, Turn

__all__ = [
    "CASES", "EMBEDDER", "FAULTS", "MENDED", "MODEL", "MODES", "OTHER", "PLAIN", "Case", "OwnClock", "connection",
    "running", "server",
]  # fmt: skip

MODEL = "Qwen/Qwen3-32B-TEE"
OTHER = "google/gemma-4-31B-turbo-TEE"  # it sees images
EMBEDDER = "Qwen/Qwen3-Embedding-8B-TEE"
PLAIN = "chutes-local/outside-sample"
"""A model of the embedded server without confidential compute."""


class OwnClock(SystemClock):
    """The system's time, and machines that no other test knows."""


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        name: A slug.
        ask: The conversation.
        model: The model that is asked.
        tools: Tools, one of which it must call.
        params: Parameters of the call.
        shows: What the plain answer must have, so that the case is about something.
    """

    name: str
    shows: str
    ask: Sequence[Turn] = (Turn("user", "Please say something of a few words."),)
    model: str = MODEL
    tools: Sequence[Mapping[str, Any]] = ()
    params: Mapping[str, Any] = field(default_factory=dict)


CASES = (
    Case("text", "text"),
    Case("reasoning", "reasoning", params={"reasoning": True}),
    Case("length", "length", params={"max_tokens": 3}),
    Case("tool-call", "tool_calls", tools=TOOLS),
    Case("tool-result", "text", ask=_HISTORY),
    Case("image", "text", ask=(Turn("user", "What is this?", image=PIXEL),), model=OTHER),
)

FAULTS: dict[str, tuple[Kind | None, Kind | None]] = {
    name: ALL_FAULTS[name]
    for name in (
        "capacity", "account_limit", "cold", "auth", "overflow", "bad_gateway", "garbage", "half_close", "no_finish",
        "error_line", "restart", "malformed", "empty", "role_only", "done_only", "no_usage", "sealed_nonce",
        "sealed_gone", "sealed_busy", "sealed_exchange", "sealed_flip", "sealed_replay",
        "sealed_swap(after=0)", "sealed_clear", "sealed_cut", "sealed_error", "sealed_no_init",
    )
}  # fmt: skip
"""What each fault comes to, streamed and in one piece; None is a whole answer."""

MENDED = {
    "sealed_nonce": Kind.SEALED_NONCE,
    "sealed_gone": Kind.SEALED_INSTANCE,
    "sealed_unknown": Kind.SEALED_INSTANCE,
    "sealed_exchange": Kind.SEALED_INSTANCE,
    "sealed_busy": Kind.SEALED_BUSY,
    "sealed_flip(after=0)": Kind.SEALED_REPLY,
    "sealed_cut(after=0)": Kind.SEALED_REPLY,
    "sealed_clear(after=0)": Kind.SEALED_REPLY,
}
"""Failures of the sealed path, each of one member, and as what they stand in the attempts."""


@pytest.fixture(scope="module")
def running() -> Iterator[LocalChutes]:
    """The embedded Chutes with an echo."""
    with serve(backend="echo") as chutes:
        yield chutes


@pytest.fixture
def server(running: LocalChutes) -> LocalChutes:
    """The same, as new."""
    running.reset()
    return running


def connection(server: LocalChutes, **more: Any) -> dict[str, Any]:
    """The arguments that lead a model of either framework to the server, sealed."""
    return {
        "api_key": server.api_key,
        "base_url": server.base_url,
        "management_url": server.management_url,
        "clock": OwnClock(),
        "e2ee": True,
        **more,
    }
