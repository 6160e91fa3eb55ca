"""One request of the openai SDK as a flow: what is sent, and whether the reply is an answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from chutes_core import hooks
from chutes_core.calls.bodies import JSON, MIB, Most, most_of
from chutes_core.calls.effects import (
    Abandoned,
    Arrived,
    Authorize,
    Flow,
    Open,
    Read,
    StatusFailure,
    WireFailure,
    opened,
)
from chutes_core.calls.flows import BROKEN_OFF, UNOPENED
from chutes_core.errors import APIError, Kind
from chutes_core.failures.reading import failure
from chutes_core.response import Reply
from chutes_core.secrets.masking import Known
from chutes_core.secrets.secret import Secret

if TYPE_CHECKING:
    import httpx

    from chutes_core.openai_sdk.bill import Bill
    from chutes_core.openai_sdk.door import Door

__all__ = ["Exchange", "Head"]

_WAITS = ("retry-after", "retry-after-ms")
"""Headers that the SDK reads its own way, and stumbles over some of their values."""
_NOTHING = Reply(None, None, ())
_PASSED = Most(1024 * MIB, JSON.unpacked)


@dataclass(frozen=True, slots=True)
class Head:
    """What the SDK gets first: status and headers, and the whole body unless it follows in blocks.

    Header values are bytes as they were sent: not all of them can be written as text.
    """

    status: int
    headers: Iterable[tuple[bytes, bytes]]
    content: bytes | None = None


class Exchange:
    """Sends a request of the SDK and checks the reply. Yields a :class:`Head`, then the blocks of a longer body.

    The SDK's timeout for reading is the limit for a whole reply, and in a stream for each further part of the answer.
    """

    def __init__(self, door: Door, request: httpx.Request) -> None:
        self._door = door
        self._request = request
        self._question = door.question(request)
        self._known = Known()
        timeouts = cast("Mapping[str, float | None]", request.extensions.get("timeout") or {})
        self._connect, self._wait = timeouts.get("connect"), timeouts.get("read")
        self._started = door.clock.now()
        self._record = door.record(self._question)
        self._reply: Reply | None = None  # what was read of it
        self._price: float | None = None
        self._done = False  # whether it is all there, so that it makes no difference when the SDK turns away
        self._failed: APIError | None = None

    def run(self) -> Flow[None]:
        """Yield the reply."""
        ended: BaseException | None = None
        self._record.begins(self._question.body)
        try:
            yield from self._answered()
        except BaseException as error:
            ended = error
            raise
        finally:
            self._tell(ended)
            ended = self._failed = None  # a traceback keeps its frames, and they would keep the error

    def _tell(self, ended: BaseException | None) -> None:
        """Tell how the request, which is one attempt, has ended."""
        record, elapsed = self._record, self._door.clock.now() - self._started
        failed = ended if isinstance(ended, APIError) else self._failed
        if isinstance(ended, WireFailure):  # which the SDK gets as a failure of its HTTP package
            kind = BROKEN_OFF.get(ended.reason) or UNOPENED.get(ended.reason, Kind.TOTAL_TIMEOUT)
            failed = failure(kind, model=self._question.model)
        reply, price = self._reply or _NOTHING, self._price
        if hooks.on_attempt.active or hooks.on_end.active:
            reply = self._known.identity(reply)
        if failed is not None:
            record.failed(self._known.name(failed), elapsed, price)
            record.gives_up(failed)
        elif ended is None or self._done:
            record.answered(elapsed, reply.model, reply.usage, price, reply.meta.invocation_id)
            ended = None
        elif isinstance(ended, GeneratorExit | Abandoned):
            record.cancelled(elapsed, reply.model, reply.usage, price)
        record.reply = reply if self._reply is not None else None
        record.ends(failed or ended)

    def _answered(self) -> Flow[None]:
        door, question = self._door, self._question
        with door.bill(question) as bill:
            answer: StatusFailure | None = None
            try:
                headers = yield from self._open()
            except StatusFailure as failed:
                answer = failed
            if answer is not None:
                yield self._refused(answer)
            elif question.streams:
                yield self._head(headers.status, headers.raw)
                yield from self._stream(headers, bill)
            elif question.body is None:
                yield self._head(headers.status, headers.raw)
                yield from self._passed()
            else:
                content = yield from self._whole()
                content, self._reply = door.check(question, headers, content, bill)
                self._price, self._done = bill.account.spent, True
                # A reply that was read as JSON is JSON, whatever the service calls it.
                yield self._head(headers.status, _changed(headers.raw, {"content-type": "application/json"}), content)

    def _open(self) -> Flow[Arrived]:
        """Send the request; if the key is refused and may be renewed, send it again with the new one."""
        secret = cast("Secret", (yield Authorize()))
        try:
            return (yield from self._sent(secret))
        except StatusFailure as failed:
            answer = failed
        fresh = cast("Secret", (yield Authorize(secret))) if answer.status == 401 else secret
        if fresh == secret:
            raise answer
        return (yield from self._sent(fresh))

    def _sent(self, secret: Secret) -> Flow[Arrived]:
        most = _PASSED if self._question.body is None else most_of(self._question.body)
        request = self._door.outgoing(self._request, self._question, secret)
        self._known.learn(request.telling, request.secret)
        effect = Open(request, self._connect, self._left(self._started), most)
        return cast("Arrived", (yield from opened(effect, self._door.clock.now)))

    def _left(self, since: float) -> float | None:
        return None if self._wait is None else max(self._wait - (self._door.clock.now() - since), 0.0)

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]], content: bytes | None = None) -> Head:
        """Build what the SDK gets first, and logs: without the secrets that a service writes into its headers."""
        given = list(headers)
        values = cast("list[str]", self._known.value([value.decode("latin-1") for _, value in given]))
        named = zip((name for name, _ in given), values, strict=True)
        return Head(status, [(name, value.encode("latin-1")) for name, value in named], content)

    def _refused(self, answer: StatusFailure) -> Head:
        self._failed = self._door.failure(self._question, answer, self._known)
        content, changed = self._door.refusal(self._failed)
        named = ((name, value) for name, value in answer.headers.items() if name.lower() not in _WAITS)
        raw = [(name.encode("ascii", "replace"), value.encode()) for name, value in named]
        return self._head(answer.status, _changed(raw, changed), content)

    def _whole(self) -> Flow[bytes]:
        content = bytearray()
        while (block := (yield Read(self._left(self._started)))) is not None:
            content += cast("bytes", block)
        return bytes(content)

    def _passed(self) -> Flow[None]:
        """Pass on a body unchecked; a stream may go on for as long as something comes."""
        since, endless = self._started, _asks_for_stream(self._question.content)
        while (block := (yield Read(self._left(since)))) is not None:
            yield block
            since = self._door.clock.now() if endless else since

    def _stream(self, headers: Arrived, bill: Bill) -> Flow[None]:
        stream = self._door.stream(self._question, headers)
        guard, block, since = stream.guard, cast("bytes | None", b""), self._started
        timed = self._record.timed
        try:
            while block is not None:
                end: tuple[Kind, str] | None = None
                try:
                    block = cast("bytes | None", (yield Read(self._left(since))))
                except WireFailure as problem:
                    late = Kind.STALL if guard.delivered else Kind.FIRST_TOKEN_TIMEOUT
                    block, end = None, (BROKEN_OFF.get(problem.reason, late), problem.said)
                before = guard.count
                if timed and not guard.delivered:
                    self._record.first = self._door.clock.now() - self._started
                try:
                    yield from stream.close(*(end or ())) if block is None else stream.feed(block)
                finally:
                    if not guard.delivered:
                        self._record.first = None
                since = since if guard.count == before else self._door.clock.now()
        finally:
            self._door.settled(stream, bill)
            self._reply, self._price, self._done = guard.reply, bill.account.spent, guard.whole


def _asks_for_stream(content: bytes) -> bool:
    try:
        body = json.loads(content) if content.startswith(b"{") else None
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and body.get("stream") is True


def _changed(headers: Iterable[tuple[bytes, bytes]], changed: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    names = {name.encode() for name in changed}
    kept = [(name, value) for name, value in headers if name.lower() not in names]
    return [*kept, *((name.encode(), value.encode()) for name, value in changed.items())]
