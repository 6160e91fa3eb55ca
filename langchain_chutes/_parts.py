"""The parts that members yield: stream chunks, or a whole answer in one part. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from langchain_core.outputs import ChatGeneration, ChatGenerationChunk

from chutes_core.fallback import Receipt
from chutes_core.usage import Usage

__all__ = ["Look", "Part", "aclosed", "aover", "closed", "ends", "over", "receipt", "shows", "usage"]

Part = ChatGenerationChunk | ChatGeneration


def shows(part: Part) -> bool:
    """Return whether a part contains any of the answer."""
    message = part.message
    return bool(
        message.content
        or getattr(message, "tool_call_chunks", None)
        or message.additional_kwargs.get("reasoning_content")
    )


def ends(part: Part) -> bool:
    """Return whether a part ends an answer: the last chunk, or a whole answer."""
    return getattr(part.message, "chunk_position", "last") == "last"


def usage(part: Part) -> Usage | None:
    """Return the token usage that a part reports.

    >>> from langchain_core.messages import AIMessageChunk
    >>> told = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14, "input_token_details": {"cache_read": 4}}
    >>> usage(ChatGenerationChunk(message=AIMessageChunk("Hi", usage_metadata=told)))
    Usage(prompt_tokens=9, completion_tokens=5, total_tokens=14, reasoning_tokens=None, cached_tokens=4)
    """
    told = part.message.usage_metadata  # type: ignore[attr-defined]
    if not told:
        return None
    return Usage(
        told["input_tokens"],
        told["output_tokens"],
        told["total_tokens"],
        told.get("output_token_details", {}).get("reasoning"),
        told.get("input_token_details", {}).get("cache_read"),
    )


def receipt(part: Part) -> Receipt:
    """Return the model and cost from the last part of an answer."""
    told = part.message.response_metadata
    model, cost = told.get("model_name"), told.get("cost")
    return Receipt(model if isinstance(model, str) else None, cost if isinstance(cost, float) else None)


class Look(Protocol):
    """Checks an answer as it passes through."""

    def see(self, part: Part) -> Part:
        """Check a part and return what to pass on."""

    def end(self) -> Iterable[Part]:
        """Return the remaining parts, or raise if the answer is faulty."""


def over(parts: Iterator[Part], look: Look) -> Iterator[Part]:
    """Pass an answer through a check."""
    with closed(parts):
        for part in parts:
            yield look.see(part)
    yield from look.end()


async def aover(parts: AsyncIterator[Part], look: Look) -> AsyncIterator[Part]:
    """Async version of :func:`over`."""
    async with aclosed(parts):
        async for part in parts:
            yield look.see(part)
    for part in look.end():
        yield part


@contextmanager
def closed(parts: object) -> Iterator[None]:
    """Close an iterator on exit if possible, so its connection does not wait for garbage collection."""
    try:
        yield
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()


@asynccontextmanager
async def aclosed(parts: object) -> AsyncIterator[None]:
    """Async version of :func:`closed`."""
    try:
        yield
    finally:
        close = getattr(parts, "aclose", None)
        if close is not None:
            await close()
