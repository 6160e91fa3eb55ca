"""The decisions of a call, as generators: what to send, and when to wait, retry or give up.

A flow does no I/O. It yields an :class:`~chutes_core.calls.effects.Effect` and is sent the result, yields the deltas
of a stream, and returns the reply, so sync and async calls run the same code.

The theory of operation: a call is one or more attempts in one loop, ``_Call._attempts``, and a call has no other.
What waits above a call multiplies it: a fallback over clients that retry would ask a dead model three times before the
next one has its turn, so it sets their retries to 0. An attempt shares nothing with the one before except when the call
started; each stream has a guard of its own.

- Nobody reads a word twice. A stream is retried until its first delta has gone out, and never after.
- Every token is counted once. An attempt ends in a reply, in an error with a partial reply, or in ``GeneratorExit``
  (or ``Abandoned``) because the caller left, and each of the three has one line that records its usage.
- A reservation is released after that record and before the pause. So for a moment both count, but a budget never sees
  neither, and a call that sleeps holds nothing of its client's.
- A pause that the time left would cut short is not begun: the error is raised at once.
- A refused key is asked for once more, and that costs no retry.

What would break it: an ``except`` here that takes ``GeneratorExit`` for a failure, or a ``yield`` while one is handled,
which Python refuses; a sleep or a clock of its own, which tests could not move; a rule about retries outside
:mod:`chutes_core.failures.table`; an error raised inside the handler of the raw failure, whose context would keep the
raw reply.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast
from urllib.parse import urlsplit

from chutes_core import hooks
from chutes_core.calls.bodies import Most, most_of
from chutes_core.calls.clock import Clock
from chutes_core.calls.effects import (
    Abandoned,
    Authorize,
    Flow,
    Inline,
    Open,
    Read,
    Sleep,
    StatusFailure,
    WireFailure,
    WireRequest,
    opened,
)
from chutes_core.calls.record import Record
from chutes_core.calls.stopping import outrun
from chutes_core.calls.traced import Trace
from chutes_core.door import loads
from chutes_core.errors import APIError, AuthenticationError, Kind, Retry
from chutes_core.failures.hints import Wanted
from chutes_core.failures.reading import FACTS, error_from_response, failure, reported_error
from chutes_core.reply.assemble import flaw_of, parse_reply
from chutes_core.reply.guard import StreamGuard
from chutes_core.reply.pieces import as_events
from chutes_core.reply.sse import EventDecoder
from chutes_core.request.chat import ChatRequest
from chutes_core.request.image_policy import ImagePolicy
from chutes_core.request.messages import Message
from chutes_core.response import Reply, ReplyMeta
from chutes_core.secrets.masking import Known
from chutes_core.secrets.secret import Secret
from chutes_core.settings import TimeLimits
from chutes_core.spending.recording import Account
from chutes_core.usage import Usage

__all__ = [
    "BROKEN_OFF",
    "UNOPENED",
    "CallPolicy",
    "JsonCall",
    "StreamCall",
    "WarmUpCall",
    "WarmUpStatus",
    "WholeCall",
    "patient_pause",
    "retry_pause",
]

T = TypeVar("T")

MAX_RETRY_AFTER = 60.0
_MAX_PAUSE = 30.0
_DOUBLINGS = 10
_LINGER = 0.5


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """Timeout and retry settings of a call.

    Attributes:
        limits: The time limits.
        max_retries: Maximum number of retries, where the failure table allows them.
        clock: The clock.
        chance: Returns a random number between 0 and 1, for jitter.
        started: Start time, if the call is one of several with a shared limit; None starts with the call.
        explain: Adds what is known about the model to a failure, given the kind of model that the call needs.
        face: The framework through which the call is made, if any.
    """

    limits: TimeLimits
    max_retries: int
    clock: Clock
    chance: Callable[[], float] = field(default=random.random)
    started: float | None = None
    explain: Callable[[APIError, Wanted | None], APIError] = field(default=lambda error, wanted: error)
    face: str | None = None


def retry_pause(error: APIError, tried: int, policy: CallPolicy, *, remaining: float | None) -> float | None:
    """Return how long to wait before retrying here; None gives up.

    The wait doubles with each attempt, with jitter over its upper half. A Retry-After is obeyed, unless it is so long
    that raising the error is better.

    >>> from chutes_core.calls.clock import SystemClock
    >>> policy = CallPolicy(TimeLimits(), 2, SystemClock(), chance=lambda: 1.0)
    >>> busy = failure(Kind.CAPACITY)
    >>> [retry_pause(busy, tried, policy, remaining=None) for tried in (0, 1, 2)]
    [4.0, 8.0, None]
    """
    if tried >= policy.max_retries or error.retry is not Retry.HERE:
        return None
    if error.retry_after is not None and error.retry_after > MAX_RETRY_AFTER:
        return None
    pause = _pause(error, tried, FACTS[error.kind].wait, policy.chance())
    return None if remaining is not None and pause >= remaining else pause


def patient_pause(error: APIError, tried: int, chance: float) -> float | None:
    """Return how long to wait before asking again where there is time and no other model; None if it does not help.

    >>> [patient_pause(failure(kind), 0, 1.0) for kind in (Kind.CAPACITY, Kind.COLD, Kind.DISABLED)]
    [4.0, 1.0, None]
    """
    wait = FACTS[error.kind].patient
    return _pause(error, tried, wait, chance) if wait else None


def _pause(error: APIError, tried: int, wait: float, chance: float) -> float:
    if error.retry_after is not None:
        return error.retry_after * (1 + 0.1 * chance)
    return min(wait * 2.0 ** min(tried, _DOUBLINGS), _MAX_PAUSE) * (0.5 + 0.5 * chance)


class _Call:
    """Base of all calls: the key, the remaining time, and the retries."""

    late = Kind.TOTAL_TIMEOUT
    """The kind of failure if the reply's headers do not arrive in time."""
    wanted: Wanted | None = None
    """The kind of model that the call needs."""

    def __init__(
        self, request: WireRequest, policy: CallPolicy, *, model: str | None = None, ledger: Account | None = None
    ) -> None:
        self._ledger = ledger
        self._request = request
        self._policy = policy
        self._model = model
        self._started = policy.clock.now() if policy.started is None else policy.started
        self._total_is_next = False
        self._most: Most | None = None  # by what is asked
        self._media_type = ""
        operation = _OPERATIONS.get(self.wanted or "", "request")
        name = model or f"{request.method} {urlsplit(request.url).path}"
        self.record = Record(operation, name, request.url, policy.face, streamed=isinstance(self, StreamCall))
        self.trace: Trace | None = None

    @property
    def payer(self) -> Account | None:
        """Where its usage is recorded, and who reserves for it."""
        return self._ledger

    def _left(self, limit: float | None, since: float) -> float | None:
        """Return the time left of a limit that started at ``since``, capped by the whole call's."""
        now, total = self._policy.clock.now(), self._policy.limits.total
        own = None if limit is None else limit - (now - since)
        whole = None if total is None else total - (now - self._started)
        self._total_is_next = whole is not None and (own is None or whole < own)
        left = whole if self._total_is_next else own
        return left if left is None or left > 0.0 else 0.0

    def _late(self, kind: Kind) -> Kind:
        """Return which limit has passed: the whole call's if that came first."""
        return Kind.TOTAL_TIMEOUT if self._total_is_next else kind

    def _open(self, secret: Secret | None, within: float | None, late: Kind | None = None) -> Flow[ReplyMeta]:
        late = late or self.late
        if within == 0.0:
            raise failure(self._late(late), model=self._model)
        request = replace(self._request, secret=secret)
        most = self._most or most_of(self._request.body)
        try:
            headers = yield from opened(
                Open(request, self._policy.limits.connect, within, most), self._policy.clock.now
            )
        except StatusFailure as answer:
            error = error_from_response(answer.status, answer.content, answer.headers, model=self._model)
            error = self._policy.explain(error, self.wanted)
        except WireFailure as problem:
            kind = UNOPENED.get(problem.reason) or self._late(late)
            error = failure(kind, problem.said, model=self._model)
        else:
            self._media_type = headers.get("content-type", "")
            meta = ReplyMeta.parse(headers)
            return meta if self.trace is None else replace(meta, trace=self.trace.events)
        raise error  # raised out here, it has no context and so nothing of the raw reply

    def _whole(self, secret: Secret | None) -> Flow[tuple[bytes, ReplyMeta]]:
        """Send the request and read the reply to its end."""
        started = self._policy.clock.now()
        meta = yield from self._open(secret, self._left(self._policy.limits.whole, started), Kind.TOTAL_TIMEOUT)
        blocks: list[bytes] = []
        try:
            while (block := (yield Read(self._left(self._policy.limits.whole, started)))) is not None:
                blocks.append(cast("bytes", block))
        except WireFailure as problem:
            raise self._broken_off(problem) from None
        return b"".join(blocks), meta

    def _broken_off(self, problem: WireFailure) -> APIError:
        """Return the failure of a reply that did not arrive in whole."""
        return failure(BROKEN_OFF.get(problem.reason, Kind.TOTAL_TIMEOUT), problem.said, model=self._model)

    def _inline(self, policy: ImagePolicy | None) -> Flow[None]:
        """Inline the remote images in the request, if enabled."""
        if policy is None or self._request.body is None:
            return
        messages = cast("list[Message]", self._request.body["messages"])
        left, late = self._left(None, self._started), False
        try:
            inlined = yield Inline(messages, policy, left)
        except WireFailure:
            late = True
        if late:
            raise failure(Kind.TOTAL_TIMEOUT, "while fetching the images", model=self._model)
        self._request = replace(self._request, body={**self._request.body, "messages": inlined})

    def _retrying(self, attempt: Callable[[Secret | None], Flow[T]], images: ImagePolicy | None = None) -> Flow[T]:
        """Run the whole call; if it is left early, wherever it waits, say so."""
        self.record.begins(self._request.body)
        with self.record:
            try:
                yield from self._inline(images)
                result = yield from self._attempts(attempt)
            except (GeneratorExit, Abandoned):
                if self._ledger is not None and self.wanted == "chat" and not outrun():
                    self._ledger.left()  # what is open for a handler is a chat, and over unless another was faster
                raise
            self.record.reply = result if isinstance(result, Reply) else None
            return result

    def _attempts(self, attempt: Callable[[Secret | None], Flow[T]]) -> Flow[T]:
        """Run attempts until one succeeds or fails for good."""
        tried, renewed, clock, record = 0, False, self._policy.clock, self.record
        secret = cast("Secret | None", (yield Authorize()))
        while True:
            began = clock.now()
            record.sent = began - self._started
            # Released only after usage is recorded: for a moment both count, but never neither.
            hold = self._ledger.hold(self._reserved_for()) if self._ledger is not None else None
            try:
                result = yield from attempt(secret)
            except (GeneratorExit, Abandoned):
                model, usage = self._partly()
                price = self._account(model, usage)  # stopped early: usage so far is billed
                record.cancelled(clock.now() - began, model, usage, price)
                raise
            except APIError as error:
                self._sent(secret).name(error)  # before anybody is told of it
                price = None
                if error.partial_reply is not None and error.partial_reply.usage is not None:
                    price = self._account(error.partial_reply.model, error.partial_reply.usage)
                record.failed(error, clock.now() - began, price)
                refused = secret
                if isinstance(error, AuthenticationError) and not renewed:
                    # A key from a function or a login may be renewed: ask once more.
                    renewed, secret = True, cast("Secret | None", (yield Authorize(refused)))
                pause = 0.0
                if secret == refused:
                    left, worth = self._left(None, self._started), self._worth_retrying(error)
                    wait = retry_pause(error, tried, self._policy, remaining=left) if worth else None
                    if wait is None:
                        if not self._steps_down(error):
                            record.gives_up(error)
                        raise
                    tried, pause = tried + 1, wait
                record.retried(error, pause)
            else:
                if hooks.on_attempt.active or hooks.on_end.active:
                    result = self._sent(secret).identity(result)
                model, usage, request_id = self._told(result)
                price = self._account(model, usage) if isinstance(result, Reply) else None  # or its reader has
                record.answered(clock.now() - began, model, usage, price, request_id)
                return result
            finally:
                if hold is not None:
                    hold.release()
            if pause:
                yield Sleep(pause)

    def _sent(self, secret: Secret | None) -> Known:
        """Return the secrets of the call, to mask what the service writes back of them."""
        known = Known()
        known.learn(self._request.telling, secret)
        return known

    def _reserved_for(self) -> Mapping[str, object] | None:
        """Return the request for which budgets reserve."""
        return self._request.body

    def _account(self, model: str | None, usage: Usage | None) -> float | None:
        """Record what was used; return what it cost, if that is known."""
        return self._ledger(model or self._model, usage) if self._ledger is not None and (model or usage) else None

    def _told(self, result: object) -> tuple[str | None, Usage | None, str | None]:
        """Return what a result says of itself: its model, its usage, and the service's name for the request."""
        return (result.model, result.usage, result.meta.invocation_id) if isinstance(result, Reply) else (None,) * 3

    def _steps_down(self, error: APIError) -> bool:
        """Return whether who made this call makes another one after this failure, which asks for less."""
        return False

    def _partly(self) -> tuple[str | None, Usage | None]:
        """Return what the current attempt has used so far."""
        return None, None

    def _worth_retrying(self, error: APIError) -> bool:
        """Return whether this call may be retried after this failure."""
        return True


class JsonCall(_Call):
    """A request whose reply is one JSON value: embeddings, the catalogue, the account."""

    def __init__(
        self,
        request: WireRequest,
        policy: CallPolicy,
        *,
        model: str | None = None,
        give_up: frozenset[Kind] = frozenset(),
        ledger: Account | None = None,
    ) -> None:
        super().__init__(request, policy, model=model, ledger=ledger)
        self._give_up = give_up

    def _worth_retrying(self, error: APIError) -> bool:
        return error.kind not in self._give_up

    def _steps_down(self, error: APIError) -> bool:
        return error.kind in self._give_up

    def run(self) -> Flow[object]:
        """Return the value."""
        return self._retrying(self._value)

    def _value(self, secret: Secret | None) -> Flow[object]:
        value, _ = yield from self._exchange(secret)
        return value

    def _exchange(self, secret: Secret | None) -> Flow[tuple[object, ReplyMeta]]:
        content, meta = yield from self._whole(secret)
        try:
            return loads(content), meta
        except ValueError:
            raise failure(Kind.MALFORMED, "the body is not JSON", model=self._model) from None


class WholeCall(JsonCall):
    """A chat call without streaming."""

    wanted = "chat"

    def __init__(
        self,
        request: WireRequest,
        policy: CallPolicy,
        chat: ChatRequest,
        images: ImagePolicy | None = None,
        ledger: Account | None = None,
    ) -> None:
        super().__init__(request, policy, model=chat.model, ledger=ledger)
        self._chat = chat
        self.trace = Trace(self.record.traced, policy.clock.now) if chat.trace else None
        self._images = images

    def run(self) -> Flow[Reply]:
        """Return the reply."""
        return self._retrying(self._reply, self._images)

    def _reply(self, secret: Secret | None) -> Flow[Reply]:
        body, meta = yield from self._exchange(secret)
        if not isinstance(body, dict):
            raise failure(Kind.MALFORMED, "the reply is not an object", model=self._model)
        if body.get("error") or (body.get("detail") and "choices" not in body):
            raise reported_error(body, model=self._model, request_id=meta.invocation_id)
        chat = self._chat
        try:
            reply = parse_reply(body, meta, starts_thinking=chat.starts_thinking, choices=chat.choices)
        except ValueError as problem:
            raise failure(Kind.MALFORMED, str(problem), model=self._model, request_id=meta.invocation_id) from None
        unfinished = [choice for choice in reply.choices if choice.finish_reason is None]
        flaw = flaw_of(reply, allow_empty=chat.allow_empty, refuse_cut=chat.refuse_cut)
        if unfinished or len(reply.choices) < chat.choices:
            flaw = Kind.TRUNCATED, ""
        if flaw is not None:
            raise failure(*flaw, model=self._model, request_id=meta.invocation_id, partial_reply=reply)
        return reply


class StreamCall(_Call):
    """A chat call with streaming. It is retried only until the first delta is delivered.

    Attributes:
        guard: The guard of the current attempt.
        unseen: Whether nobody sees the answer as it comes.
        in_one_piece: Returns whether the answer is to be asked for in one piece, which is then given out as a stream.
    """

    late, wanted = Kind.FIRST_TOKEN_TIMEOUT, "chat"
    unseen = False

    def __init__(
        self,
        request: WireRequest,
        policy: CallPolicy,
        chat: ChatRequest,
        images: ImagePolicy | None = None,
        ledger: Account | None = None,
    ) -> None:
        super().__init__(request, policy, model=chat.model, ledger=ledger)
        self._chat = chat
        self.trace = Trace(self.record.traced, policy.clock.now) if chat.trace else None
        self._images = images
        self.in_one_piece: Callable[[], bool] | None = None
        self.guard = self._new_guard()

    def run(self) -> Flow[Reply]:
        """Yield the deltas and return the whole reply."""
        return self._retrying(self._reply, self._images)

    @property
    def body(self) -> Mapping[str, object]:
        """What is asked."""
        return self._chat.body

    def _new_guard(self, meta: ReplyMeta | None = None) -> StreamGuard:
        chat = self._chat
        return StreamGuard(
            model=chat.model,
            choices=chat.choices,
            allow_empty=chat.allow_empty,
            refuse_cut=chat.refuse_cut,
            starts_thinking=chat.starts_thinking,
            meta=meta,
            heals=self.in_one_piece is None,  # a sealed stream has one answer, and a piece that was moved is none
        )

    def _worth_retrying(self, error: APIError) -> bool:
        return not self.guard.delivered

    def _partly(self) -> tuple[str | None, Usage | None]:
        reply = self.guard.reply
        return reply.model, reply.usage

    def _reply(self, secret: Secret | None) -> Flow[Reply]:
        whole = self.in_one_piece
        if whole is None:
            return (yield from self._streamed(secret))
        if not whole():
            try:
                return (yield from self._streamed(secret))
            except APIError as error:
                if error.kind is not Kind.SEALED_REPLY or self.guard.delivered or not whole():
                    raise
        return (yield from self._one_piece(secret))  # at once, where a stream has just shown that it cannot be one

    def _streamed(self, secret: Secret | None) -> Flow[Reply]:
        limits, clock = self._policy.limits, self._policy.clock
        last = clock.now()
        self.guard = guard = self._new_guard()
        meta = yield from self._open(secret, self._left(limits.first_token, last))
        self.guard = guard = self._new_guard(meta)
        timed = self.record.timed
        while not guard.done:
            before = guard.count
            left = self._left(limits.gap if before else limits.first_token, last)
            try:
                if left == 0.0:
                    raise WireFailure("timeout", "the time limit passed")
                block = yield Read(left)
            except WireFailure as problem:
                yield from guard.close(self._broken(problem), problem.said)
                return guard.reply
            if block is None:
                break
            if timed and not before:
                self.record.first = clock.now() - self._started
            try:
                yield from guard.feed(cast("bytes", block))
            finally:
                if not guard.count:
                    self.record.first = None
            if guard.count != before:
                last = clock.now()  # only additions to the answer reset it; the reader's own time does not count
        yield from guard.close()
        yield from self._drain()
        return guard.reply

    def _one_piece(self, secret: Secret | None) -> Flow[Reply]:
        self.guard = self._new_guard()
        asked, body = self._request, self._request.body or {}
        kept = {name: value for name, value in body.items() if name != "stream_options"}
        self._request = replace(asked, body={**kept, "stream": False})
        try:
            content, meta = yield from self._whole(secret)
        finally:
            self._request = asked
        self.guard = guard = self._new_guard(meta)
        if self.record.timed:
            self.record.first = self._policy.clock.now() - self._started
        yield from guard.feed(as_events(content))
        yield from guard.close()
        return guard.reply

    def _broken(self, problem: WireFailure) -> Kind:
        late = self._late(Kind.STALL if self.guard.delivered else Kind.FIRST_TOKEN_TIMEOUT)
        return BROKEN_OFF.get(problem.reason, late)

    def _drain(self) -> Flow[None]:
        """Briefly read to the end of the HTTP reply, so that its connection can be reused."""
        since = self._policy.clock.now()
        try:
            while left := self._left(_LINGER, since):
                if (yield Read(left)) is None:
                    return
        except WireFailure:
            pass


@dataclass(frozen=True, slots=True)
class WarmUpStatus:
    """The service's status while it wakes a model: ``status`` is ``cold`` or ``hot``."""

    status: str
    log: str = ""

    @property
    def hot(self) -> bool:
        """Whether the model is ready."""
        return self.status == "hot"


class WarmUpCall(_Call):
    """A warm-up call: the service sends events until the model is hot, or gives up after 600 s."""

    def run(self) -> Flow[None]:
        """Yield each status."""
        return self._retrying(self._statuses)

    def _statuses(self, secret: Secret | None) -> Flow[None]:
        started = self._policy.clock.now()
        yield from self._open(secret, self._left(self._policy.limits.whole, started))
        decoder, ended = EventDecoder(), False
        try:
            while not ended:
                block = yield Read(self._left(self._policy.limits.whole, started))
                ended = block is None
                for payload in decoder.close() if ended else decoder.feed(cast("bytes", block)):
                    status = _warm_up_status(payload)
                    yield status
                    if status.hot:
                        return
        except WireFailure as problem:
            kind = BROKEN_OFF.get(problem.reason, Kind.TOTAL_TIMEOUT)
            raise failure(kind, problem.said, model=self._model) from None
        raise failure(Kind.COLD, "the service stopped waiting for a machine", model=self._model)

    def _worth_retrying(self, error: APIError) -> bool:
        return error.kind is Kind.CONNECT


def _warm_up_status(payload: bytes) -> WarmUpStatus:
    try:
        event = loads(payload)
    except ValueError:
        event = None
    event = event if isinstance(event, dict) else {}
    return WarmUpStatus(str(event.get("status", "unknown")), str(event.get("log", "")))


_OPERATIONS: Mapping[str, str] = {"chat": "chat", "embedding": "embeddings"}
UNOPENED: Mapping[str, Kind] = {
    "connect": Kind.CONNECT,
    "broken": Kind.CONNECT,
    "connect_timeout": Kind.CONNECT_TIMEOUT,
    "invalid": Kind.MALFORMED,
}
"""By the reason of a failure before the headers; the others are time limits."""
BROKEN_OFF: Mapping[str, Kind] = {"broken": Kind.RESET, "too_large": Kind.MALFORMED, "invalid": Kind.MALFORMED}
"""By the reason of a failure after the headers; the others are time limits."""
