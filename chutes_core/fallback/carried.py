"""Answers of other providers' models as streams of deltas, each of which carries the framework's own chunk along.

A framework says how its chunks are read; when they are late, whether an answer is whole, and what closing one means, is
the same for all.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from chutes_core.errors import Kind
from chutes_core.failures.reading import failure
from chutes_core.fallback.bounded import abounded, bounded, threaded
from chutes_core.response import Delta, Reply
from chutes_core.settings import TimeLimits

__all__ = [
    "AsyncCarriedStream", "Carried", "CarriedReply", "CarriedStream", "Question", "Reading", "check_whole",
    "finish_reasons", "value_of",
]  # fmt: skip

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(slots=True)
class Carried(Delta):
    """A delta of another provider's model.

    Attributes:
        origin: The framework's own chunk, to be given out as it is.
        shown: Whether it has something to see that is neither text, reasoning nor a tool call, such as an image.
    """

    origin: object = None
    shown: bool = False


@dataclass(frozen=True, slots=True)
class CarriedReply(Reply):
    """The whole answer of another provider's model.

    Attributes:
        origin: The framework's own answer.
    """

    origin: object = None


class Reading(Protocol[T_contra]):
    """Reads the chunks of one answer."""

    def shows(self, chunk: T_contra) -> bool:
        """Return whether a chunk shows any of the answer."""

    def take(self, chunk: T_contra) -> Carried | None:
        """Return what a chunk says; None if it has to wait for the end."""

    def end(self) -> CarriedReply:
        """Return the whole answer, or raise if it is not whole."""

    def arrived(self) -> Reply:
        """Return what has arrived."""


class _Base(Generic[T]):
    """What the blocking and the async stream share."""

    def __init__(self, reading: Reading[T]) -> None:
        self._reading = reading
        self._whole: CarriedReply | None = None

    @property
    def reply(self) -> Reply:
        """The whole reply once the stream has ended; until then, what has arrived."""
        return self._whole or self._reading.arrived()


class CarriedStream(_Base[T], Iterator[Delta]):
    """The answer of another provider's model, within time limits.

    Args:
        chunks: Asks the model; in a thread of its own if there are limits.
        reading: Reads its chunks.
        limits: The time limits; None if the model keeps its own.
        model: The name of the model, for errors.
    """

    def __init__(
        self, chunks: Callable[[], Generator[T, None, None]], reading: Reading[T], limits: TimeLimits | None, model: str
    ) -> None:
        super().__init__(reading)
        given = chunks() if limits is None else bounded(chunks, limits, shows=reading.shows, model=model)
        self._deltas = self._read(given)

    def _read(self, chunks: Generator[T, None, None]) -> Generator[Delta, None, None]:
        with closing(chunks):
            for chunk in chunks:
                if (delta := self._reading.take(chunk)) is not None:
                    yield delta
        self._whole = self._reading.end()

    def __next__(self) -> Delta:
        return next(self._deltas)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deltas.close()


class AsyncCarriedStream(_Base[T], AsyncIterator[Delta]):
    """Async version of :class:`CarriedStream`."""

    def __init__(
        self,
        chunks: Callable[[], AsyncGenerator[T, None]],
        reading: Reading[T],
        limits: TimeLimits | None,
        model: str,
    ) -> None:
        super().__init__(reading)
        given = chunks() if limits is None else abounded(chunks, limits, shows=reading.shows, model=model)
        self._deltas = self._read(given)

    async def _read(self, chunks: AsyncGenerator[T, None]) -> AsyncGenerator[Delta, None]:
        async with aclosing(chunks):
            async for chunk in chunks:
                if (delta := self._reading.take(chunk)) is not None:
                    yield delta
        self._whole = self._reading.end()

    async def __anext__(self) -> Delta:
        return await anext(self._deltas)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._deltas.aclose()


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """A request to a model through its framework, which says how it is asked.

    Attributes:
        name: The name of the model, for errors.
        limits: The time limits; None if the model keeps its own.
    """

    name: str
    limits: TimeLimits | None

    @property
    def blocks(self) -> bool:
        """Whether the model has only blocking calls, in which the framework would hold up the event loop."""
        raise NotImplementedError

    def fetch(self) -> Generator[T, None, None]:
        """Ask the model, and yield its chunks."""
        raise NotImplementedError

    def afetch(self) -> AsyncGenerator[T, None]:
        """Async version of :meth:`fetch`."""
        raise NotImplementedError

    def reading(self) -> Reading[T]:
        """Return what reads the chunks."""
        raise NotImplementedError

    def stream(self) -> CarriedStream[T]:
        """Ask the model within the time limits."""
        return CarriedStream(self.fetch, self.reading(), self.limits, self.name)

    def astream(self) -> AsyncCarriedStream[T]:
        """Async version of :meth:`stream`."""
        chunks = partial(threaded, self.fetch) if self.limits is not None and self.blocks else self.afetch
        return AsyncCarriedStream(chunks, self.reading(), self.limits, self.name)


def check_whole(model: str, *, said: bool, ended: bool | None, calls: Iterable[object], refused: bool = False) -> None:
    """Raise if an answer is empty, was cut off, or ends in a broken tool call.

    Some clients repair the arguments of a call that was cut, which makes another call of it.

    Args:
        model: The model that answered.
        said: Whether there was anything to see.
        ended: Whether it said that it has ended; None if its provider never says so.
        calls: The arguments of each tool call, as text or read.
        refused: Whether it reached ``max_tokens`` where that is an error.

    >>> check_whole("other/model", said=True, ended=None, calls=['{"city": "Par'])
    Traceback (most recent call last):
    chutes_core.errors.MalformedReplyError: other/model: ... (a tool call was cut, or is not valid). ...
    """
    if not said:
        raise failure(Kind.EMPTY, model=model)
    if ended is False:
        raise failure(Kind.TRUNCATED, model=model)
    if refused:
        raise failure(Kind.LENGTH_LIMIT, model=model)
    for arguments in calls:
        if isinstance(arguments, str) and not _is_whole(arguments):
            raise failure(Kind.MALFORMED, "a tool call was cut, or is not valid", model=model)


def _is_whole(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments or "{}", strict=False), dict)
    except (ValueError, RecursionError):
        return False


def finish_reasons(raw: object) -> list[object] | None:
    """Return those of a chunk in OpenAI's format, as a mapping or an object; None for any other format.

    >>> finish_reasons({"choices": [{"finish_reason": "stop"}]}), finish_reasons({"choices": [{"text": "Hi"}]})
    (['stop'], None)
    """
    choices = value_of(raw, "choices")
    if not isinstance(choices, list) or not choices:
        return None
    reasons = [value_of(each, "finish_reason", _NONE) for each in choices]
    return None if _NONE in reasons else [reason for reason in reasons if reason]


def value_of(thing: object, name: str, default: object = None) -> object:
    """Return a value that one provider's client has in a mapping, and another's in an object."""
    return thing.get(name, default) if isinstance(thing, Mapping) else getattr(thing, name, default)


_NONE = object()
