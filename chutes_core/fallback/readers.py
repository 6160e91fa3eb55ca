"""The two that run a race of members: one in threads, one in tasks of the event loop. Each is an answer itself.

They do what :func:`~chutes_core.fallback.hedge.race` decides. Every answer is read beside until one has begun; from
then on it is read directly, and no thread and no task is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from types import TracebackType
from typing import Self, cast

from chutes_core.calls.clock import Clock
from chutes_core.calls.racing import Tasks, Threads, tasks_on, threads_on
from chutes_core.calls.stopping import Stop, stopping
from chutes_core.fallback.call import Try
from chutes_core.fallback.hedge import Ask, Await, Command, Drop, Reader, race
from chutes_core.fallback.relay import Answer, AsyncAnswer, Relay, shows_any
from chutes_core.response import Delta, Reply

__all__ = ["AsyncHedged", "Hedged"]

_CLOSING = 0.1
"""Seconds for which a thread or a task that was stopped is waited for: that of a socket ends at once."""


class _Thread(Reader):
    """Reads in a thread."""

    __slots__ = ("_gate", "_over", "stop", "thread")

    def __init__(self, step: Try, answer: Answer) -> None:
        super().__init__(step, answer)
        self.stop = Stop()
        self.thread: threading.Thread | None = None
        self._gate = threading.Lock()
        self._over = False

    def run(self) -> Self:
        """Read up to the first piece that shows something; close the answer if it was dropped meanwhile."""
        stopping.set(self.stop)  # in this thread's own context
        answer = cast("Answer", self.answer)
        try:
            for delta in answer:
                self.read.append(delta)
                if shows_any(delta):
                    break
        except BaseException as error:  # whoever waits for this thread has to learn of it
            self.error = error
        with self._gate:
            self._over = True
            dropped = self.stop.stopped
        if dropped:
            _close(answer)
        return self

    def drop(self, *, outrun: bool) -> None:
        """End its reading, and close its answer."""
        with self._gate:
            over = self._over
            if not over:
                self.stop.stop(outrun=outrun)
        if not over and self.thread is not None:
            self.thread.join(_CLOSING)
            return
        # There may be a thread all the same, if starting it was interrupted: then it closes its answer.
        self.stop.stop(outrun=outrun)
        token = stopping.set(self.stop)
        try:
            _close(cast("Answer", self.answer))
        finally:
            stopping.reset(token)


def _close(answer: Answer) -> None:
    with contextlib.suppress(Exception):  # nobody asks any more what became of it
        answer.__exit__(None, None, None)


class Hedged(Iterator[Delta]):
    """The answer of the member that begins first, blocking: each is read in a thread until one has begun."""

    def __init__(self, relay: Relay, ask: Callable[[Try], Answer], step: Try, clock: Clock) -> None:
        self._ask = ask
        self._threads: Threads[_Thread] = threads_on(clock)
        self._race = race(relay, step)
        self._under_way: list[_Thread] = []
        self._deltas: Iterator[Delta] = self._raced()
        self._answer: Answer | None = None

    @property
    def reply(self) -> Reply:
        """The whole reply once the stream has ended; until then, what has arrived."""
        return self._answer.reply if self._answer is not None else Reply(None, None, ())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Delta:
        return next(self._deltas)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in list(self._under_way):
            self._drop(each, outrun=False)

    def _raced(self) -> Generator[Delta, None, None]:
        reader = self._won()
        self._answer = answer = cast("Answer", reader.answer)
        yield from reader.read
        yield from answer

    def _won(self) -> Reader:
        """Run the race."""
        value: object = None
        try:
            command = next(self._race)
            while True:
                try:
                    value = self._perform(command)
                except BaseException as error:
                    command = self._race.throw(error)
                else:
                    command = self._race.send(value)
        except StopIteration as end:
            return cast("Reader", end.value)

    def _perform(self, command: Command) -> object:
        if isinstance(command, Ask):
            answer = self._ask(command.step)
            answer.__enter__()
            reader = _Thread(command.step, answer)
            self._under_way.append(reader)
            reader.thread = self._threads.start(reader.run)
            return reader
        if isinstance(command, Await):
            return self._threads.next(command.seconds)
        if isinstance(command, Drop):
            self._drop(cast("_Thread", command.reader), outrun=command.outrun)
        return None

    def _drop(self, reader: _Thread, *, outrun: bool) -> None:
        if reader in self._under_way:  # not if dropping it was interrupted
            self._under_way.remove(reader)
            reader.drop(outrun=outrun)


class _Task(Reader):
    """Reads in a task."""

    __slots__ = ("stop", "task")

    def __init__(self, step: Try, answer: AsyncAnswer) -> None:
        super().__init__(step, answer)
        self.stop = Stop()
        self.task: asyncio.Task[_Task] | None = None

    async def run(self) -> Self:
        """Read up to the first piece that shows something."""
        stopping.set(self.stop)  # in this task's own context
        try:
            async for delta in cast("AsyncAnswer", self.answer):
                self.read.append(delta)
                if shows_any(delta):
                    break
        except Exception as error:
            self.error = error
        return self

    async def drop(self, *, outrun: bool) -> None:
        """End its reading, and close its answer; who takes its time for that, or is interrupted, is not waited for."""
        assert self.task is not None, "it was started"
        self.stop.stop(outrun=outrun)
        self.task.cancel()
        closing = asyncio.create_task(self._close(self.task))
        _under_way.add(closing)
        closing.add_done_callback(_under_way.discard)
        await asyncio.wait([closing], timeout=_CLOSING)

    async def _close(self, task: asyncio.Task[_Task]) -> None:
        stopping.set(self.stop)  # in this task's own context
        await asyncio.wait([task])
        with contextlib.suppress(Exception):  # nobody asks any more what became of it
            await cast("AsyncAnswer", self.answer).__aexit__(None, None, None)


_under_way: set[asyncio.Task[None]] = set()
"""What closes answers: the event loop itself keeps no task."""


class AsyncHedged(AsyncIterator[Delta]):
    """The answer of the member that begins first: each is read in a task until one has begun."""

    def __init__(self, relay: Relay, ask: Callable[[Try], AsyncAnswer], step: Try, clock: Clock) -> None:
        self._relay = relay
        self._ask = ask
        self._tasks: Tasks[_Task] = tasks_on(clock)
        self._race = race(relay, step)
        self._under_way: list[_Task] = []
        self._read: Iterator[Delta] | None = None
        self._answer: AsyncAnswer | None = None
        self._deltas: AsyncIterator[Delta] | None = None

    @property
    def reply(self) -> Reply:
        """The whole reply once the stream has ended; until then, what has arrived."""
        return self._answer.reply if self._answer is not None else Reply(None, None, ())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        if self._read is None:
            reader = await self._won()
            self._answer = cast("AsyncAnswer", reader.answer)
            self._read, self._deltas = iter(reader.read), aiter(self._answer)
        if (delta := next(self._read, None)) is not None:
            return delta
        return await anext(cast("AsyncIterator[Delta]", self._deltas))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in list(self._under_way):
            await self._drop(each, outrun=False)

    async def _won(self) -> Reader:
        """Run the race."""
        value: object = None
        try:
            command = next(self._race)
            while True:
                try:
                    value = await self._perform(command)
                except BaseException as error:
                    command = self._race.throw(error)
                else:
                    command = self._race.send(value)
        except StopIteration as end:
            return cast("Reader", end.value)

    async def _perform(self, command: Command) -> object:
        if isinstance(command, Ask):
            answer = self._ask(command.step)
            await answer.__aenter__()
            reader = _Task(command.step, answer)
            self._under_way.append(reader)
            reader.task = self._tasks.start(reader.run())
            return reader
        if isinstance(command, Await):
            return await self._tasks.next(command.seconds)
        if isinstance(command, Drop):
            await self._drop(cast("_Task", command.reader), outrun=command.outrun)
        else:
            await self._relay.heard()
        return None

    async def _drop(self, reader: _Task, *, outrun: bool) -> None:
        if reader in self._under_way:
            self._under_way.remove(reader)
            await reader.drop(outrun=outrun)
