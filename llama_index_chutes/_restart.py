"""Streams in which an answer may begin anew: how to read them.

With ``FallbackPolicy(after_commit="restart")`` a member that breaks after a part of its answer was given out is
followed by the next one's whole answer, and between the two stands a marker: a chunk without text. What came before
it is void.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

from llama_index_chutes._parts import RESTART

__all__ = ["acollect", "arender", "collect", "is_restart", "render"]

Chunk = ChatResponse | CompletionResponse
C = TypeVar("C", ChatResponse, CompletionResponse)


def is_restart(chunk: Chunk) -> bool:
    """Tell whether a chunk is the marker.

    >>> is_restart(CompletionResponse(text="Hi", delta="Hi"))
    False
    """
    return RESTART in chunk.additional_kwargs


def collect(chunks: Iterable[C]) -> C:
    """Return the whole answer of a stream: its last chunk.

    >>> collect([CompletionResponse(text="H", delta="H"), CompletionResponse(text="Hi", delta="i")]).text
    'Hi'

    Raises:
        ValueError: The stream is empty.
    """
    last = None
    for chunk in chunks:
        last = chunk
    return _there(last)


async def acollect(chunks: AsyncIterable[C]) -> C:
    """Return the whole answer of an async stream.

    >>> import asyncio
    >>> async def stream():
    ...     yield CompletionResponse(text="H", delta="H")
    ...     yield CompletionResponse(text="Hi", delta="i")
    >>> asyncio.run(acollect(stream())).text
    'Hi'
    """
    last = None
    async for chunk in chunks:
        last = chunk
    return _there(last)


def render(chunks: Iterable[Chunk]) -> Iterator[str]:
    """Give the text to show after each chunk, from its beginning: show it in place of what stood there.

    >>> mark = CompletionResponse(text="", delta="", additional_kwargs={"chutes_restart": "acme/two"})
    >>> list(render([CompletionResponse(text="Fo"), mark, CompletionResponse(text="Forty")]))
    ['Fo', '', 'Forty']
    """
    for chunk in chunks:
        yield _text(chunk)


async def arender(chunks: AsyncIterable[Chunk]) -> AsyncIterator[str]:
    """Give the same of an async stream.

    >>> import asyncio
    >>> async def stream():
    ...     yield CompletionResponse(text="Hi", delta="Hi")
    >>> async def shown():
    ...     return [text async for text in arender(stream())]
    >>> asyncio.run(shown())
    ['Hi']
    """
    async for chunk in chunks:
        yield _text(chunk)


def _text(chunk: Chunk) -> str:
    return chunk.text if isinstance(chunk, CompletionResponse) else chunk.message.content or ""


def _there(last: C | None) -> C:
    if last is None:
        raise ValueError("The stream had no chunks.")
    return last
