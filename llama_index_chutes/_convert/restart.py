"""Read streams whose answer may restart.

With ``FallbackPolicy(after_commit="restart")``, if a member fails after part of its answer was emitted, a marker (a
chunk without text) and then the next member's whole answer follow. Discard everything before the marker.

A reader that joins the ``delta`` of every chunk, as the framework's chat engines and agents do, would join two answers:
to read the delta of a marker that voids text is an error, so that such a reader gets one.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse

from chutes_core import ConfigurationError
from chutes_core.fallback.report import RESTART, two_answers
from llama_index_chutes._convert.raw import RawChunk

__all__ = ["acollect", "arender", "collect", "is_restart", "render"]

Chunk = ChatResponse | CompletionResponse
C = TypeVar("C", ChatResponse, CompletionResponse)


def is_restart(chunk: Chunk) -> bool:
    """Return whether a chunk is the restart marker.

    >>> is_restart(CompletionResponse(text="Hi", delta="Hi"))
    False
    """
    return RESTART in chunk.additional_kwargs


def void(marker: C) -> C:
    """Make a marker refuse to be read for its delta.

    >>> marker = void(CompletionResponse(text="", delta="", additional_kwargs={"chutes_restart": "acme/two"}))
    >>> is_restart(marker), marker.text
    (True, '')
    >>> marker.delta
    Traceback (most recent call last):
    chutes_core.errors.ConfigurationError: acme/two begins the answer anew, ...
    """
    marker.__class__ = _VoidChat if isinstance(marker, ChatResponse) else _VoidCompletion
    return marker


def marker(model: str, *, text: bool) -> ChatResponse:
    """Return the marker of a restart, which voids text, or reasoning alone."""
    mark = {RESTART: model}
    empty = ChatMessage(role="assistant", content="")
    made = ChatResponse(message=empty, delta="", raw=RawChunk(mark), additional_kwargs=mark)
    return void(made) if text else made


def is_void(chunk: Chunk) -> bool:
    """Return whether a chunk refuses to be read for its delta."""
    return isinstance(chunk, _Void)


class _Void:
    """A chunk whose delta is not to be joined to those before it."""

    additional_kwargs: dict[str, Any]

    def __getattribute__(self, name: str) -> Any:
        if name == "delta":
            raise ConfigurationError(two_answers(self.additional_kwargs[RESTART]))
        return super().__getattribute__(name)


class _VoidChat(_Void, ChatResponse): ...


class _VoidCompletion(_Void, CompletionResponse): ...


def collect(chunks: Iterable[C]) -> C:
    """Return the whole answer of a stream: its last chunk.

    >>> collect([CompletionResponse(text="H", delta="H"), CompletionResponse(text="Hi", delta="i")]).text
    'Hi'

    Raises:
        ValueError: The stream is empty.
    """
    last = None
    for last in chunks:  # noqa: B007
        pass
    return _there(last)


async def acollect(chunks: AsyncIterable[C]) -> C:
    """Async version of :func:`collect`."""
    last = None
    async for last in chunks:  # noqa: B007
        pass
    return _there(last)


def render(chunks: Iterable[Chunk]) -> Iterator[str]:
    """Yield the full text to show after each chunk, replacing what was shown before.

    >>> mark = CompletionResponse(text="", delta="", additional_kwargs={"chutes_restart": "acme/two"})
    >>> list(render([CompletionResponse(text="Fo"), mark, CompletionResponse(text="Forty")]))
    ['Fo', '', 'Forty']
    """
    for chunk in chunks:
        yield _text(chunk)


async def arender(chunks: AsyncIterable[Chunk]) -> AsyncIterator[str]:
    """Async version of :func:`render`."""
    async for chunk in chunks:
        yield _text(chunk)


def _text(chunk: Chunk) -> str:
    return chunk.text if isinstance(chunk, CompletionResponse) else chunk.message.content or ""


def _there(last: C | None) -> C:
    if last is None:
        raise ValueError("The stream had no chunks.")
    return last
