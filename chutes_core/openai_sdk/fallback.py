"""Requests of the openai SDK that a fallback answers, as a flow: asked of its members, and written as a reply.

Only chat goes to the members; :class:`Asks` says which requests these are, and refuses what could not be kept. One flow
is that of both clients of a fallback; what waits is its hand.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from chutes_core.calls.effects import Effect, Flow, adrive, drive
from chutes_core.errors import APIError, ChutesError, ConfigurationError, RequestRefusedError
from chutes_core.fallback.client import AsyncFallbackClient, FallbackClient
from chutes_core.fallback.policy import FallbackPolicy
from chutes_core.fallback.relay import Restart
from chutes_core.fallback.report import ATTEMPTS, report
from chutes_core.fallback.stream import AsyncFallbackStream, FallbackReply, FallbackStream
from chutes_core.fallback.trace import FallbackError
from chutes_core.openai_sdk.completion import Chunks, completion
from chutes_core.openai_sdk.door import AsyncDoor, Door, read_json
from chutes_core.openai_sdk.exchange import Head
from chutes_core.request.chat import ChatParams
from chutes_core.request.messages import Message
from chutes_core.response import Delta
from chutes_core.secrets.headers import MASK
from chutes_core.settings import TimeLimits

if TYPE_CHECKING:
    import httpx

__all__ = ["Asks", "AsyncAsks", "Plan", "read_plan"]

F = TypeVar("F", FallbackClient, AsyncFallbackClient)
S = TypeVar("S", FallbackStream, AsyncFallbackStream)
_ALL = "fallback"
"""The model that stands for all members."""
_KNOWN = ChatParams.__annotations__.keys() - {"extra_body"}
_TAKEN = ("model", "messages", "stream", "stream_options")
_MEANT = ("x-tee-only", "x-enable-thinking")
"""Headers that would change the answer."""
_BAD = 400


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request asks of a fallback.

    Attributes:
        messages: The conversation.
        model: The one model to ask; None means all members.
        params: The parameters of the call.
        streams: Whether a stream was requested.
        include_usage: Whether a separate chunk with the usage was requested.
        within: The SDK's time limit, which is one for the whole call here.
    """

    messages: Sequence[Message]
    model: str | None
    params: ChatParams
    streams: bool = False
    include_usage: bool = False
    within: float | None = None


def read_plan(body: object, within: float | None = None) -> Plan:
    """Read the body of a chat request; what the core does not know by name is sent all the same.

    >>> plan = read_plan({"model": "fallback", "messages": [], "seed": 1, "top_a": 0.5})
    >>> plan.model, plan.params
    (None, {'seed': 1, 'extra_body': {'top_a': 0.5}})
    """
    messages = body.get("messages") if isinstance(body, Mapping) else None
    if not isinstance(messages, list) or not all(isinstance(each, Mapping) for each in messages):
        raise RequestRefusedError("messages must be a list of messages: [{'role': 'user', 'content': '...'}].")
    fields = cast("Mapping[str, object]", body)
    options = fields.get("stream_options")
    given = options if isinstance(options, Mapping) else {}
    params = {name: value for name, value in fields.items() if name in _KNOWN and name not in _TAKEN}
    if extra := {name: value for name, value in fields.items() if name not in _KNOWN and name not in _TAKEN}:
        params["extra_body"] = extra
    model = fields.get("model")
    return Plan(
        messages,
        None if model == _ALL else str(model or ""),
        cast("ChatParams", params),
        streams=fields.get("stream") is True,
        include_usage=bool(given.get("include_usage")),
        within=within,
    )


class _Hear(Effect):
    """Wait for what comes next: a delta, the reply if it was not streamed or has ended, or the failure."""

    __slots__ = ()


class _Asks(Generic[F]):
    """Sorts the requests of an SDK client: chat is for the fallback, anything else for its first member's client."""

    _kind: type[F]
    _door: type[Door]

    def __init__(self, fallback: F) -> None:
        if not isinstance(fallback, self._kind):
            raise ConfigurationError(f"fallback= takes only {self._kind.__name__} here, not {type(fallback).__name__}.")
        self.door = self._door.of(fallback.clients[0])
        self._fallback: F = fallback.with_policy(fallback.policy.without_restart)

    def plan(self, request: httpx.Request) -> Plan | None:
        """Return what a request asks of the fallback; None if it is not for it.

        Raises:
            RequestRefusedError: It is for neither.
        """
        path = request.url.path
        if path.endswith("/chat/completions") and request.method == "POST":
            self._refuse_lost(request)
            waits = cast("Mapping[str, float | None]", request.extensions.get("timeout") or {})
            return read_plan(read_json(request.content), waits.get("read"))
        if self.door.sealed and request.method != "GET":
            raise RequestRefusedError(
                f"The first member of this fallback encrypts its requests, which {path} cannot be: use its client."
            )
        if request.content.startswith(b"{"):
            asked = read_json(request.content)
            if isinstance(asked, Mapping) and asked.get("model") == _ALL:
                raise RequestRefusedError(f"A fallback answers chat: for {path} name one model, not {_ALL!r}.")
        _limit(request)
        return None

    def _refuse_lost(self, request: httpx.Request) -> None:
        """Refuse what a call sets beside its body and a fallback has from its members."""
        own = {name.lower(): value for name, value in self.door.default_headers.items()}
        lost = [name for name in _MEANT if request.headers.get(name) != own.get(name)]
        if MASK not in request.headers.get("authorization", ""):
            lost.append("api_key")
        base = type(request.url)(f"{self.door.settings.base_url}/")  # as the package writes it
        if not str(request.url).startswith(str(base)):
            lost.append("base_url")
        if request.url.query:
            lost.append("extra_query")
        if lost:
            raise RequestRefusedError(
                f"{', '.join(lost)}: a fallback has these from its members, and not from a call: set them where the "
                "FallbackClient is created."
            )

    def client(self, plan: Plan) -> F:
        """Return the fallback to ask, with the time limit of the call."""
        if plan.within is None:
            return self._fallback
        return self._fallback.with_policy(_within(self._fallback.policy, plan.within))


def _limit(request: httpx.Request) -> None:
    """Give a request that does not go to the members the limits that the policy has for those that do."""
    waits, usual = cast("Mapping[str, float | None]", request.extensions.get("timeout") or {}), TimeLimits()
    limits = {"connect": usual.connect, "read": usual.whole}
    given = {name: value for name, value in waits.items() if value is not None}
    request.extensions = {**request.extensions, "timeout": {**waits, **limits, **given}}


def _within(policy: FallbackPolicy, seconds: float) -> FallbackPolicy:
    """Return a policy with a deadline that is no later than in ``seconds``.

    >>> _within(FallbackPolicy(first_token=8, deadline=60), 5).to_dict()
    {'first_token': 5, 'gap': 5, 'deadline': 5}
    >>> _within(FallbackPolicy(first_token=8, deadline=60), 90).deadline
    60
    """

    def least(limit: float | None) -> float | None:
        return None if limit is None else min(limit, seconds)

    return replace(
        policy,
        first_token=least(policy.first_token),
        gap=least(policy.gap),
        attempt=least(policy.attempt),
        deadline=seconds if policy.deadline is None else min(policy.deadline, seconds),
    )


class _Flow(Generic[F, S]):
    """One request: the flow that decides, and writes the reply."""

    def __init__(self, asks: _Asks[F], plan: Plan) -> None:
        self._asks: _Asks[F] = asks
        self._plan = plan
        self._stream: S | None = None

    def run(self) -> Flow[None]:
        """Yield the reply: a :class:`Head`, then the chunks of a stream."""
        first = yield _Hear()
        if isinstance(first, ChutesError):
            yield _failed(first)
        elif self._plan.streams:
            yield from self._streamed(first)
        else:
            reply = cast("FallbackReply", first)
            yield Head(200, _headers(reply, b"application/json"), completion(reply))

    def _streamed(self, got: object) -> Flow[None]:
        chunks, fresh = Chunks(include_usage=self._plan.include_usage), True
        reply = self._arrived()
        yield Head(200, _headers(reply, b"text/event-stream"))
        while isinstance(got, Delta):
            reply = self._arrived() if fresh else reply  # which takes long to tell: once for each member
            fresh = isinstance(got, Restart)
            yield from chunks.take(got, reply)
            got = yield _Hear()
        if isinstance(got, ChutesError):
            raise _told(got)
        yield from chunks.end(cast("FallbackReply", got))

    def _arrived(self) -> FallbackReply:
        return cast("S", self._stream).reply


class _Call(_Flow[FallbackClient, FallbackStream]):
    """One request, and the hand that asks a fallback, blocking."""

    def perform(self, effect: Effect) -> object:
        """Return what comes next."""
        plan = self._plan
        try:
            if self._stream is None:
                client = self._asks.client(plan)
                if not plan.streams:
                    return client.chat(plan.messages, model=plan.model, **plan.params)
                self._stream = client.stream(plan.messages, model=plan.model, **plan.params)
            return next(self._stream, None) or self._stream.reply
        except ChutesError as error:
            return error

    def close(self) -> None:
        """Release the member's connection."""
        if self._stream is not None:
            self._stream.close()


class _AsyncCall(_Flow[AsyncFallbackClient, AsyncFallbackStream]):
    """One request, and the hand that asks a fallback on the event loop."""

    async def perform(self, effect: Effect) -> object:
        """Return what comes next."""
        plan = self._plan
        try:
            if self._stream is None:
                client = self._asks.client(plan)
                if not plan.streams:
                    return await client.chat(plan.messages, model=plan.model, **plan.params)
                self._stream = client.stream(plan.messages, model=plan.model, **plan.params)
            return await anext(self._stream, None) or self._stream.reply
        except ChutesError as error:
            return error

    async def close(self) -> None:
        """Release the member's connection."""
        if self._stream is not None:
            await self._stream.aclose()


class Asks(_Asks[FallbackClient]):
    """Answers the requests of a blocking SDK client that are for the fallback.

    Args:
        fallback: The fallback.

    Attributes:
        door: Where the others go, with the settings of the first member's client.
    """

    _kind, _door = FallbackClient, Door

    def __call__(self, request: httpx.Request) -> Generator[object, None, None] | None:
        """Return the steps of an answer; None if the request is for the door."""
        plan = self.plan(request)
        if plan is None:
            return None
        call = _Call(self, plan)
        return drive(call.run(), call, [])


class AsyncAsks(_Asks[AsyncFallbackClient]):
    """The same for an SDK client on the event loop."""

    door: AsyncDoor
    _kind, _door = AsyncFallbackClient, AsyncDoor

    def __call__(self, request: httpx.Request) -> AsyncGenerator[object, None] | None:
        """Return the steps of an answer; None if the request is for the door."""
        plan = self.plan(request)
        if plan is None:
            return None
        call = _AsyncCall(self, plan)
        return adrive(call.run(), call, [])


def _headers(reply: FallbackReply, kind: bytes) -> list[tuple[bytes, bytes]]:
    given = [(b"content-type", kind)]
    if (invocation := reply.meta.invocation_id) is not None:
        given.append((b"x-chutes-invocationid", invocation.encode("latin-1", "replace")))
    return given


def _told(error: ChutesError) -> ChutesError:
    """Return the failure that an SDK client raises: of a group the last one, with the words and attempts of all."""
    if not isinstance(error, FallbackError):
        return error
    last, kind = error.last, type(error.last)
    told = kind.__new__(kind, error.message)
    told.__dict__.update(last.__dict__, attempts=error.attempts)
    told.args = (error.message,)
    return told


def _failed(error: ChutesError) -> Head:
    """Return a refusal by status, which the SDK raises as its own exception; raise any other failure."""
    told = _told(error)
    if not isinstance(told, APIError) or (told.status_code or 0) < _BAD:
        raise told
    said = {"message": str(told), "type": "chutes", "code": told.kind.value, "param": None}
    attempts = [report(attempt) for attempt in told.attempts]
    # The policy has retried wherever that may help; the SDK would begin all over.
    headers = [(b"content-type", b"application/json"), (b"x-should-retry", b"false")]
    return Head(cast("int", told.status_code), headers, json.dumps({"error": {**said, ATTEMPTS: attempts}}).encode())
