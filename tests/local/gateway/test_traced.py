"""Tests for chutes_local.gateway.traced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chutes_core import APIError, ChutesClient, Kind
from chutes_local import LocalChutes, serve
from chutes_local.faults.kinds import Fault

MODEL = "Qwen/Qwen3-32B-TEE"
HELLO: Any = [{"role": "user", "content": "Say something in a few words."}]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalChutes]:
    with serve(backend="echo") as chutes:
        yield chutes


@pytest.fixture
def client(server: LocalChutes) -> Iterator[ChutesClient]:
    server.reset()
    with ChutesClient(server.api_key, base_url=server.base_url, max_retries=0, trace=True) as made:
        yield made


def steps(told: Any) -> list[str]:
    return [event.step for event in told.meta.trace]


def test_whole_and_streamed_answers_are_told_of(client: ChutesClient) -> None:
    """Each in its own events, with the machine and the request's own name."""
    reply = client.chat(HELLO, model=MODEL)
    with client.stream(HELLO, model=MODEL) as stream:
        said = "".join(delta.content for delta in stream)
    for each in (reply, stream.reply):
        assert each.content == said != ""
        assert steps(each) == ["found", "asked", "answered"]
        assert {event.invocation_id for event in each.meta.trace} == {each.meta.invocation_id}
        assert each.meta.quota_total is not None


def test_a_restart_is_a_machine_that_failed(server: LocalChutes, client: ChutesClient) -> None:
    """The stream goes on with another one."""
    server.faults.add(MODEL, Fault("restart", after=1, value="same"), times=1)
    with client.stream(HELLO, model=MODEL) as stream:
        for _ in stream:
            pass
    assert steps(stream.reply) == ["found", "asked", "failed", "asked", "answered"]
    first, second = (event.instance for event in stream.reply.meta.trace if event.step == "asked")
    assert first != second


@pytest.mark.parametrize(
    ("fault", "kind"), [("capacity", Kind.CAPACITY), ("exhausted", Kind.EXHAUSTED), ("overflow", Kind.CONTEXT_LENGTH)]
)
def test_what_would_be_a_status_is_one(server: LocalChutes, client: ChutesClient, fault: str, kind: Kind) -> None:
    """The gateway answers 200 with an error in events, and the client says what it would have without."""
    server.faults.add(MODEL, fault)
    with pytest.raises(APIError) as caught:
        client.chat(HELLO, model=MODEL)
    assert caught.value.kind is kind


@pytest.mark.parametrize("fault", ["error_line", "reset", "empty", "slow_drip", "malformed"])
def test_faults_come_through(server: LocalChutes, client: ChutesClient, fault: str) -> None:
    """The same failure as without, whole and streamed."""
    for streamed in (False, True):
        found = []
        for trace in (True, False):
            server.reset()
            server.faults.add(MODEL, Fault(fault, seconds=0.0))
            try:
                if streamed:
                    with client.stream(HELLO, model=MODEL, trace=trace) as stream:
                        found.append("".join(delta.content for delta in stream))
                else:
                    found.append(client.chat(HELLO, model=MODEL, trace=trace).content)
            except APIError as error:
                found.append(error.kind)
        if not streamed and fault in ("malformed", "empty"):
            assert found[0] is Kind.EXHAUSTED  # the gateway reads a whole reply itself
        else:
            assert found[0] == found[1]


def test_who_is_not_let_in_gets_a_status(server: LocalChutes) -> None:
    """A trace begins where machines are looked for."""
    stranger = ChutesClient("cpk_bad", base_url=server.base_url, max_retries=0, trace=True)
    with stranger, pytest.raises(APIError) as caught:
        stranger.chat(HELLO, model=MODEL)
    assert caught.value.status_code == 401
