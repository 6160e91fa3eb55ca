"""A script of answers and faults, and the transport that plays it."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, cast

from chutes_core.testing.answers import Answer, SentRequest
from chutes_core.testing.clock import VirtualClock
from chutes_core.testing.faults import FAULTS, Fault, clean_play
from chutes_core.testing.plays import Play, Refuse, Wait

if TYPE_CHECKING:
    import httpx

__all__ = ["FaultScript", "FaultyTransport"]


class FaultScript:
    """The answer or fault for each request, in order; after the last entry, the default.

    Args:
        entries: Answers, faults, or names of faults (``"stall:5"``).
        default: The answer after the last entry.
        by_model: Separate scripts for some models.

    >>> script = FaultScript(["cold"], default=Answer("Hi"))
    >>> script.next("acme/one"), script.next("acme/one").text
    (Fault(kind='cold', after=2, seconds=10000.0, value='5', answer=None), 'Hi')
    """

    def __init__(
        self,
        entries: Iterable[Answer | Fault | str] = (),
        *,
        default: Answer | None = None,
        by_model: Mapping[str, Iterable[Answer | Fault | str]] | None = None,
    ) -> None:
        self.default = default or Answer()
        self._entries = iter([_entry(entry) for entry in entries])
        self._by_model = {model: iter([_entry(entry) for entry in own]) for model, own in (by_model or {}).items()}

    def next(self, model: str) -> Answer | Fault:
        """Return the entry for a model's next request."""
        return next(self._by_model.get(model, self._entries), self.default)


def _entry(entry: Answer | Fault | str) -> Answer | Fault:
    return Fault.parse(entry) if isinstance(entry, str) else entry


class FaultyTransport:
    """A transport that plays a script instead of contacting a server.

    Attributes:
        requests: The received requests, in order.
        open_replies: How many replies have not been closed.
    """

    def __init__(
        self, script: FaultScript | Iterable[Answer | Fault | str] = (), *, clock: VirtualClock | None = None
    ) -> None:
        self.script = script if isinstance(script, FaultScript) else FaultScript(script)
        self.clock = clock or VirtualClock()
        self.requests: list[SentRequest] = []
        self.open_replies = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a blocking client."""
        request.read()
        play, package = self._play(request), _package_of(request)
        for seconds in self._waits(play, request, package):
            self.clock.sleep(seconds)
        return self._response(play, request, package)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer an async client."""
        await request.aread()
        play, package = self._play(request), _package_of(request)
        for seconds in self._waits(play, request, package):
            await self.clock.asleep(seconds)
        return self._response(play, request, package)

    def close(self) -> None:
        """Nothing to close."""

    async def aclose(self) -> None:
        """Nothing to close."""

    def __enter__(self) -> FaultyTransport:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self) -> FaultyTransport:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    def _play(self, request: httpx.Request) -> Play:
        headers = {name: value for name, value in request.headers.items() if name != "authorization"}
        body = json.loads(request.content) if request.content else {}
        sent = SentRequest(request.method, str(request.url), headers, body)
        self.requests.append(sent)
        entry = self.script.next(sent.model)
        if isinstance(entry, Answer):
            return clean_play(entry, sent)
        return FAULTS[entry.kind](entry, entry.answer or self.script.default, sent)

    def _waits(self, play: Play, request: httpx.Request, package: ModuleType) -> Iterator[float]:
        for step in play.before:
            if isinstance(step, Refuse):
                raise package.ConnectError("Connection refused", request=request)
            yield from _wait(step, request, package)

    def _response(self, play: Play, request: httpx.Request, package: ModuleType) -> httpx.Response:
        self.open_replies += 1
        stream = _stream_class(package)(play, request, self, package)
        return cast(
            "httpx.Response",
            package.Response(play.status, headers=dict(play.headers), stream=stream, request=request),
        )


def _package_of(request: object) -> ModuleType:
    """Return the HTTP package, httpx or httpx2, that a request comes from."""
    return sys.modules[type(request).__module__.partition(".")[0]]


def _wait(step: Wait, request: httpx.Request, package: ModuleType) -> Iterator[float]:
    """Wait like a socket, at most until the client's timeout. Our own clients announce one for every read."""
    limits = request.extensions.get("timeout", {})
    limit = limits.get("wait", limits.get("read"))
    if limit is not None and step.seconds > limit:
        yield limit
        raise package.ReadTimeout("timed out", request=request)
    yield step.seconds


class _Playback:
    """The body of a reply, played step by step."""

    def __init__(self, play: Play, request: httpx.Request, transport: FaultyTransport, package: ModuleType) -> None:
        self._play = play
        self._request = request
        self._transport = transport
        self._package = package
        self._open = True

    def _steps(self) -> Iterator[bytes | float]:
        for step in self._play.steps:
            if isinstance(step, bytes):
                yield step
            elif isinstance(step, Wait):
                yield from _wait(step, self._request, self._package)
            else:
                raise self._package.ReadError("Connection reset by peer", request=self._request)

    def __iter__(self) -> Iterator[bytes]:
        for step in self._steps():
            if isinstance(step, bytes):
                yield step
            else:
                self._transport.clock.sleep(step)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self._steps():
            if isinstance(step, bytes):
                yield step
            else:
                await self._transport.clock.asleep(step)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._transport.open_replies -= 1

    async def aclose(self) -> None:
        self.close()


@lru_cache(maxsize=2)
def _stream_class(package: ModuleType) -> type[_Playback]:
    return type("Playback", (_Playback, package.SyncByteStream, package.AsyncByteStream), {})
