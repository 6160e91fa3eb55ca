"""Another provider's answer as a stream of deltas: read chunk by chunk, within limits, whole or an error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest

from chutes_core import APIError, Kind
from chutes_core.fallback.carried import AsyncCarriedStream, Carried, CarriedReply, CarriedStream, check_whole
from chutes_core.response import Choice, Reply
from chutes_core.settings import TimeLimits

LIMITS = TimeLimits(first_token=30, gap=30, total=60)


class Words:
    """Reads an answer of words; "hidden" waits for the end."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def shows(self, chunk: str) -> bool:
        return bool(chunk)

    def take(self, chunk: str) -> Carried | None:
        self.seen.append(chunk)
        return Carried(chunk, origin=chunk) if chunk != "hidden" else None

    def end(self) -> CarriedReply:
        check_whole("other/model", said=any(self.seen), ended="end" in self.seen, calls=[])
        return CarriedReply(None, "other-1", self.arrived().choices, origin=tuple(self.seen))

    def arrived(self) -> Reply:
        return Reply(None, "other/model", (Choice(0, " ".join(self.seen), "", (), (), None),))


class Source:
    """Words of a model, and whether it was let go."""

    def __init__(self, *words: Any) -> None:
        self.words = words
        self.closed = threading.Event()

    def blocking(self) -> Generator[str, None, None]:
        try:
            for word in self.words:
                if isinstance(word, Exception):
                    raise word
                yield word
        finally:
            self.closed.set()

    async def waiting(self) -> AsyncGenerator[str, None]:
        try:
            for word in self.words:
                await asyncio.sleep(0)
                if isinstance(word, Exception):
                    raise word
                yield word
        finally:
            self.closed.set()


def read(source: Source, limits: TimeLimits | None, style: str, most: int = 99) -> tuple[list[Any], Reply]:
    """Read at most so many deltas; return their origins, and the reply as it is then."""
    got: list[Any] = []

    async def waiting() -> Reply:
        async with AsyncCarriedStream(source.waiting, Words(), limits, "other/model") as stream:
            async for delta in stream:
                got.append(delta.origin)  # type: ignore[attr-defined]
                if len(got) == most:
                    break
            return stream.reply

    if style == "async":
        return got, asyncio.run(waiting())
    with CarriedStream(source.blocking, Words(), limits, "other/model") as stream:
        for delta in stream:
            got.append(delta.origin)  # type: ignore[attr-defined]
            if len(got) == most:
                break
        return got, stream.reply


STYLES = pytest.mark.parametrize("style", ["blocking", "async"])
LIMITED = pytest.mark.parametrize("limits", [LIMITS, None], ids=["limited", "unlimited"])


@STYLES
@LIMITED
def test_a_whole_answer(style: str, limits: Any) -> None:
    """Every chunk that may be seen comes with what the framework said, and the reply has all of them."""
    source = Source("one", "hidden", "end")
    got, reply = read(source, limits, style)
    assert got == ["one", "end"]
    assert isinstance(reply, CarriedReply)
    assert (reply.model, reply.origin, reply.content) == ("other-1", ("one", "hidden", "end"), "one hidden end")
    assert source.closed.wait(30)


@STYLES
@LIMITED
def test_who_leaves_gets_what_has_arrived(style: str, limits: Any) -> None:
    """And the model is let go."""
    source = Source("one", "two", "end")
    got, reply = read(source, limits, style, most=1)
    assert (got, reply.content.split()[0]) == (["one"], "one")
    assert not isinstance(reply, CarriedReply)
    assert source.closed.wait(30)


@STYLES
@LIMITED
@pytest.mark.parametrize(("words", "kind"), [((), Kind.EMPTY), (("",), Kind.EMPTY), (("one",), Kind.TRUNCATED)])
def test_an_answer_that_is_not_whole(style: str, limits: Any, words: Any, kind: Kind) -> None:
    """Its end is checked, as the model's own client may not."""
    with pytest.raises(APIError) as caught:
        read(Source(*words), limits, style)
    assert caught.value.kind is kind


@STYLES
@LIMITED
def test_a_models_own_error_comes_as_it_is(style: str, limits: Any) -> None:
    """Whether it is a failure is the engine's to say."""
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        read(Source("one", error), limits, style)
    assert caught.value is error


@pytest.mark.parametrize(
    ("calls", "whole"),
    [
        ([], True),
        (["", "{}", {"read": True}], True),
        (['{"a": "line\nbreak"}'], True),
        (['{"a": 1}', '{"a": '], False),
        (["[1]"], False),
        (["[" * 100_000], False),
    ],
)
def test_a_call_is_an_object(calls: Any, whole: bool) -> None:
    """A call that was cut is no call."""
    if whole:
        check_whole("other/model", said=True, ended=True, calls=calls)
        return
    with pytest.raises(APIError, match="a tool call was cut"):
        check_whole("other/model", said=True, ended=True, calls=calls)
