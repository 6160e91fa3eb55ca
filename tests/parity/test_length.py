"""An answer that reaches max_tokens: returned as far as it got, or an error, in every client and every way to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk

from chutes_core import (
    AsyncChutesClient,
    AsyncFallbackClient,
    ChutesClient,
    FallbackClient,
    Kind,
    LengthLimitError,
    RequestRefusedError,
    Retry,
)
from chutes_core.fallback import FallbackError, FallbackPolicy
from chutes_core.testing import Answer, FaultyTransport, VirtualClock
from chutes_core.wire.pools import http_package
from tests.langchain_chutes import fallback_stage as langchain
from tests.langchain_chutes.models import MODES, call
from tests.llama_index_chutes import rigs, stages
from tests.llama_index_chutes.strangers import Stranger, chunk_raw, said

CUT = Answer("It was a dark and", finish_reason="length", pieces=3)
HELLO = [{"role": "user", "content": "Once upon a time"}]
NAMES = ["acme/one", "acme/two"]


def told(error: Any, usage: int | None = 14) -> None:
    """It is the error of an answer that was cut, with all of it, in whatever group."""
    found = error.exceptions[0] if isinstance(error, FallbackError) else error
    assert isinstance(found, LengthLimitError)
    assert (found.kind, found.partial) == (Kind.LENGTH_LIMIT, CUT.text)
    assert (error.kind, error.partial) == (Kind.LENGTH_LIMIT, CUT.text)
    assert "max_tokens" in str(error)
    if usage is not None:
        assert found.partial_reply is not None
        assert found.partial_reply.usage is not None
        assert found.partial_reply.usage.total_tokens == usage


def answered(client: Any, *, stream: bool, **params: Any) -> Any:
    """Ask a client of the core, blocking or not."""
    if isinstance(client, ChutesClient | FallbackClient):
        if not stream:
            return client.chat(HELLO, **params)
        with client.stream(HELLO, **params) as deltas:
            for _ in deltas:
                pass
        return deltas.reply

    async def ask() -> Any:
        if not stream:
            return await client.chat(HELLO, **params)
        async with client.stream(HELLO, **params) as deltas:
            async for _ in deltas:
                pass
        return deltas.reply

    return asyncio.run(ask())


def client(kind: type[Any], transport: FaultyTransport) -> Callable[..., Any]:
    package = http_package()
    waits = kind in (AsyncChutesClient, AsyncFallbackClient)
    http = (package.AsyncClient if waits else package.Client)(transport=transport)
    given = {"http_client": http, "clock": transport.clock}
    if kind in (ChutesClient, AsyncChutesClient):
        return lambda **params: answered(kind("cpk_test", **given), model=NAMES[0], **params)
    return lambda **params: answered(kind(NAMES, "cpk_test", **given), **params)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", [ChutesClient, AsyncChutesClient, FallbackClient, AsyncFallbackClient])
def test_in_the_core(kind: type[Any], stream: bool) -> None:
    """Who asks for it gets an error after one request, with the answer and its tokens; nobody else does."""
    transport = FaultyTransport([CUT, CUT], clock=VirtualClock())
    ask = client(kind, transport)
    with pytest.raises((LengthLimitError, FallbackError)) as caught:
        ask(stream=stream, on_length="raise")
    told(caught.value)
    assert caught.value.retry is Retry.NEVER
    assert len(transport.requests) == 1, "neither again, nor of another model"
    assert "on_length" not in transport.requests[0].body
    reply = ask(stream=stream, on_length="keep")
    assert (reply.content, reply.truncated) == (CUT.text, True)
    with pytest.raises(RequestRefusedError, match="'keep' or 'raise'"):
        ask(stream=stream, on_length="shout")


@pytest.mark.parametrize("mode", MODES)
def test_in_langchain(mode: str) -> None:
    """As an argument of the model, and of a call; by default the answer says how it ended."""
    told(call(mode, [CUT], on_length="raise").error)
    told(call(mode, [CUT], params={"on_length": "raise"}).error)
    kept = call(mode, [CUT])
    assert kept.message is not None
    assert kept.message.response_metadata["finish_reason"] == "length"
    assert call(mode, [Answer("Whole.")], on_length="raise").error is None


@pytest.mark.parametrize("after", ["raise", "hold", "restart", "resume", "resume_or_restart"])
@pytest.mark.parametrize("mode", MODES)
def test_in_langchains_fallback(mode: str, after: str) -> None:
    """It is no other member's turn, whatever a broken stream leads to: the members are asked for the same."""
    made = langchain.stage([CUT], on_length="raise", policy=FallbackPolicy(after_commit=after)).call(mode)  # type: ignore[arg-type]
    told(made.error)
    assert made.models == NAMES[:1]
    assert made.model.health.vitals("|acme/one").failures == 0
    kept = langchain.stage([CUT]).call(mode)
    assert kept.message.response_metadata["finish_reason"] == "length"


@pytest.mark.parametrize("mode", MODES)
def test_in_langchains_fallback_from_another_provider(mode: str) -> None:
    """An answer that another provider's model cut is one too, where a member of ours would raise."""
    ending = {"model_provider": "openai", "model_name": "other-1", "finish_reason": "length"}

    def other() -> Any:
        return langchain.Other.of(CUT.text, AIMessageChunk("", response_metadata=ending))

    made = langchain.stage([], [other(), "acme/two"], on_length="raise").call(mode)
    told(made.error, None)
    assert made.models == []
    assert langchain.stage([], [other(), "acme/two"]).call(mode).message.text == CUT.text


@pytest.mark.parametrize("mode", MODES)
def test_with_fallbacks_asks_the_next(mode: str) -> None:
    """There every exception that is to be handled is the next one's turn, which this is not spared."""
    base = langchain.stage([CUT], on_length="raise")
    one, two = base.model.members[:2]
    base.model = one.with_fallbacks([two])  # type: ignore[assignment, list-item]
    base.model.clock = base.clock
    outcome = base.call(mode)
    if mode in langchain.STREAMED:
        told(outcome.error)  # what was given out cannot be taken back
    else:
        assert outcome.message.text == langchain.ANSWER.text


@pytest.mark.parametrize("style", rigs.STYLES)
def test_in_llama_index(style: str) -> None:
    """As an argument of the model, and of a call."""
    told(rigs.ask(rigs.rig([CUT], on_length="raise").llm, style).error)
    told(rigs.ask(rigs.rig([CUT]).llm, style, on_length="raise").error)
    assert rigs.text_of(rigs.ask(rigs.rig([CUT]).llm, style).last) == CUT.text


@pytest.mark.parametrize("style", rigs.STYLES)
def test_in_llama_indexs_fallback(style: str) -> None:
    """It is no other member's turn, whoever's answer was cut."""
    made = stages.stage([CUT], on_length="raise")
    told(rigs.ask(made.llm, style).error)
    assert made.asked == stages.MEMBERS[:1]

    def other() -> Stranger:
        return Stranger(plays=[[said(CUT.text, raw=chunk_raw()), said(CUT.text, raw=chunk_raw("length"), delta="")]])

    made = stages.stage([], members=[other(), stages.MEMBERS[0]], on_length="raise")
    told(rigs.ask(made.llm, style).error, None)
    assert made.asked == []
    made = stages.stage([], members=[other(), stages.MEMBERS[0]])
    assert rigs.text_of(rigs.ask(made.llm, style).last) == CUT.text
