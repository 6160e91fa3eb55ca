"""What members give: the chunks of a stream, or a whole answer in one part. Pure."""

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
    """Tell whether a part has something of an answer."""
    message = part.message
    return bool(
        message.content
        or getattr(message, "tool_call_chunks", None)
        or message.additional_kwargs.get("reasoning_content")
    )


def ends(part: Part) -> bool:
    """Tell whether a part ends an answer: the last chunk, or the whole of it."""
    return getattr(part.message, "chunk_position", "last") == "last"


def usage(part: Part) -> Usage | None:
    """The tokens that a part reports.

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
    """What the last part of an answer says of it."""
    told = part.message.response_metadata
    model, cost = told.get("model_name"), told.get("cost")
    return Receipt(model if isinstance(model, str) else None, cost if isinstance(cost, float) else None)


class Look(Protocol):
    """Looks at an answer on its way."""

    def see(self, part: Part) -> Part:
        """Look at a part, and return what is given out of it."""

    def end(self) -> Iterable[Part]:
        """Return what is left to be given out, or raise what is wrong with the answer."""


def over(parts: Iterator[Part], look: Look) -> Iterator[Part]:
    """Give an answer out under somebody's eyes."""
    with closed(parts):
        for part in parts:
            yield look.see(part)
    yield from look.end()


async def aover(parts: AsyncIterator[Part], look: Look) -> AsyncIterator[Part]:
    """The same for an async stream."""
    async with aclosed(parts):
        async for part in parts:
            yield look.see(part)
    for part in look.end():
        yield part


@contextmanager
def closed(parts: object) -> Iterator[None]:
    """Close an iterator in the end, where it can be closed: its connection is not to wait for the collector."""
    try:
        yield
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()


@asynccontextmanager
async def aclosed(parts: object) -> AsyncIterator[None]:
    """The same for an async iterator."""
    try:
        yield
    finally:
        close = getattr(parts, "aclose", None)
        if close is not None:
            await close()
