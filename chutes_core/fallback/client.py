"""A fallback as a client: the same calls as :class:`chutes_core.ChutesClient`, over several models.

>>> from chutes_core import FallbackClient, FallbackPolicy
>>> client = FallbackClient(["acme/one", "acme/two"], "cpk_0123", policy=FallbackPolicy(deadline=60))
>>> client
FallbackClient(['acme/one', 'acme/two'], deadline=60)

``client.chat([{"role": "user", "content": "Hello"}])`` returns one whole answer, with the ``attempts`` behind it, or
raises a :class:`FallbackError` that lists them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from operator import is_not
from types import TracebackType
from typing import Generic, Self, TypedDict, TypeVar, Unpack, cast

from chutes_core import hooks
from chutes_core.attempt import Attempt
from chutes_core.auth import ApiKey
from chutes_core.calls.clock import Clock, SystemClock
from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.names import model_infos
from chutes_core.client import AsyncChutesClient, ChutesClient
from chutes_core.client_base import ClientBase
from chutes_core.default_model import default_models
from chutes_core.errors import ChutesError, ConfigurationError
from chutes_core.fallback.call import Try
from chutes_core.fallback.health import Health
from chutes_core.fallback.live import LiveStats
from chutes_core.fallback.members import Member, Needs
from chutes_core.fallback.policy import FallbackPolicy
from chutes_core.fallback.relay import Answer, AsyncAnswer
from chutes_core.fallback.roster import (
    named,
    own_member,
    placed,
    refuse_retries,
    refuse_several,
    rules_of,
    shortest,
)
from chutes_core.fallback.run import Run
from chutes_core.fallback.stream import AsyncFallbackStream, FallbackReply, FallbackStream
from chutes_core.fallback.telling import About
from chutes_core.request.chat import ChatParams
from chutes_core.request.image_policy import ImagePolicy
from chutes_core.request.messages import Message
from chutes_core.secrets.frames import unseen
from chutes_core.settings import TimeLimits
from chutes_core.usage import Ledger

__all__ = ["AsyncFallbackClient", "FallbackClient"]

C = TypeVar("C", ChutesClient, AsyncChutesClient)
Limits = TimeLimits | float | None


class ClientOptions(TypedDict, total=False):
    """The arguments of :class:`ChutesClient` that a fallback passes on to the clients of its members."""

    base_url: str | None
    management_url: str | None
    timeout: Limits
    default_headers: Mapping[str, str] | None
    http_client: object
    catalog: Catalog | None
    ledger: Ledger | None
    inline_images: bool | ImagePolicy
    e2ee: object  # a bool or an E2EE, whose modules are not loaded for its type alone
    max_retries: int


_OWN = {"model", "api_key", *ClientOptions.__annotations__, *ChatParams.__annotations__}


@dataclass(frozen=True, slots=True, eq=False)
class _Seat(Generic[C]):
    """A member: its model, the client to ask it with, its own parameters, and what the engine knows of it."""

    name: str
    client: C
    params: ChatParams
    options: Mapping[str, object] = field(default_factory=dict)
    member: Member = field(default=Member(""))

    @property
    def catalog(self) -> Catalog:
        """The catalogue of its client."""
        return self.client.catalog

    def limits(self, step: TimeLimits, asked: TimeLimits | None = None) -> TimeLimits:
        """Return the time limits of an attempt: the shortest of the fallback's, the call's and its client's."""
        return shortest(step, self.client.limits, asked)


class _FallbackBase(Generic[C]):
    """What the sync and async fallback share: members, and the planning of every call."""

    _client: type[C]

    @unseen
    def __init__(
        self,
        members: Sequence[str | Mapping[str, object]] | None = None,
        api_key: ApiKey | None = None,
        *,
        policy: FallbackPolicy | Mapping[str, object] | None = None,
        health: Health | None = None,
        on_attempt: Callable[[Attempt], object] | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
        **shared: Unpack[ClientOptions],
    ) -> None:
        if members is None:
            members = default_models()
        _check_members(members, shared)
        self._set_up(policy, health, on_attempt, clock, chance)
        self.ledger = shared.get("ledger") or Ledger()
        shared = {**shared, "ledger": self.ledger}
        by_name: C | None = None
        for each in members:
            if isinstance(each, str):
                by_name = by_name or self._made(api_key, shared)
                self._seats.append(_Seat(each, by_name, {}))
            else:
                self._seats.append(self._own_seat(each, api_key, shared))

    @classmethod
    def over(
        cls,
        client: C,
        models: Sequence[str],
        *,
        policy: FallbackPolicy | Mapping[str, object] | None = None,
        health: Health | None = None,
        on_attempt: Callable[[Attempt], object] | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Create a fallback whose members are asked with an existing client, whose own retries are turned off.

        >>> FallbackClient.over(ChutesClient("cpk_0123"), ["acme/one", "acme/two"])
        FallbackClient(['acme/one', 'acme/two'])
        """
        _check_members(models, {})
        made = cls.__new__(cls)
        made._set_up(policy, health, on_attempt, clock or client._clock, random.random)
        made.ledger = client.ledger
        quiet = client.without_retries(made.policy.headers(client.default_headers))
        made._seats = [_Seat(name, quiet, {}) for name in models]
        return made

    @property
    def clients(self) -> list[C]:
        """The client of each member, in order; members that were listed by name share one."""
        return [seat.client for seat in self._seats]

    def with_policy(self, policy: FallbackPolicy) -> Self:
        """Return the same fallback with another policy; members, health and ledger are shared.

        >>> fallback = FallbackClient(["acme/one", "acme/two"], "cpk_0123")
        >>> fallback.with_policy(FallbackPolicy(deadline=60))
        FallbackClient(['acme/one', 'acme/two'], deadline=60)
        """
        if policy is self.policy:
            return self
        self._sit()  # before it is copied, so that no copy describes the members anew
        made = copy(self)
        made.policy = policy
        return made

    def _set_up(
        self,
        policy: FallbackPolicy | Mapping[str, object] | None,
        health: Health | None,
        on_attempt: Callable[[Attempt], object] | None,
        clock: Clock | None,
        chance: Callable[[], float],
    ) -> None:
        self.policy = rules_of(policy)
        self._clock: Clock = clock or SystemClock()
        self.health = health if health is not None else Health(now=self._clock.now)
        self._on_attempt = on_attempt
        self._chance = chance
        self._seats: list[_Seat[C]] = []
        self._catalogs: list[Catalog] = []
        self._stats: tuple[LiveStats | None] | None = None

    def _own_seat(self, listed: Mapping[str, object], api_key: ApiKey | None, shared: ClientOptions) -> _Seat[C]:
        """Return a member that has a client of its own."""
        name = listed.get("model")
        if not isinstance(name, str):
            raise ConfigurationError(f"A member needs the name of its model: {{'model': 'a/one', ...}}, not {name!r}.")
        for given in listed:
            if given not in _OWN:
                raise ConfigurationError(f"A member has no {given!r}: {', '.join(sorted(_OWN))}.")
        options = {given: value for given, value in listed.items() if given in ClientOptions.__annotations__}
        params = {given: value for given, value in listed.items() if given in ChatParams.__annotations__}
        refuse_several(params, [])
        key = cast("ApiKey | None", listed.get("api_key", api_key))
        client = self._made(key, cast("ClientOptions", {**shared, **options}))
        return _Seat(name, client, cast("ChatParams", params), options)

    def _made(self, key: ApiKey | None, options: ClientOptions) -> C:
        options = {**options, "max_retries": 0}
        if self.policy.confidential:
            options["default_headers"] = self.policy.headers(options.get("default_headers"))
        return self._client(key, clock=self._clock, **options)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        names = [seat.name for seat in self._seats]
        return f"{type(self).__name__}({', '.join([repr(names), *self.policy.set_apart])})"

    def _sit(self) -> list[_Seat[C]]:
        """Return the members as the engine sees them, described anew when a client has a newer catalogue."""
        catalogs = [seat.client.catalog for seat in self._seats]
        if len(catalogs) != len(self._catalogs) or any(map(is_not, catalogs, self._catalogs)):
            described = [replace(seat, member=self._described(seat.name, seat.client)) for seat in self._seats]
            self._seats = placed(described, lambda seat: (seat.options, seat.params))
            self._catalogs = catalogs
        return self._seats

    def _described(self, model: str, client: C) -> Member:
        sealing = client._sealed.settings if client._sealed is not None else False
        infos = model_infos(client.catalog, model)
        return own_member(model, client.settings.base_url, _key_of(client), infos, sealing)

    def _again(self, seat: _Seat[C], model: str) -> _Seat[C]:
        """Return a member with another model."""
        return replace(seat, name=model, member=self._described(model, seat.client))

    def _live(self) -> LiveStats | None:
        """Return the service's statistics, if the policy's order uses them."""
        if not self.policy.ranks_live:
            return None
        if self._stats is None:
            client = self._seats[0].client
            self._stats = (LiveStats.of_service(client.settings, client.catalog),)
        return self._stats[0]


class _Run(Run[_Seat[C]]):
    """One call of a client."""

    def __init__(
        self, fallback: _FallbackBase[C], messages: Sequence[Message], params: ChatParams, timeout: Limits,
        model: str | None, *, whole: bool,
    ) -> None:  # fmt: skip
        seats = named(fallback._sit(), model, fallback._again)
        self._params: Mapping[str, object] = {"messages": messages, **params}
        refuse_several(self._params, [])
        about: About = {}
        if hooks.listening():
            url = f"{seats[0].client.settings.base_url}/chat/completions"
            about = {"url": url, "request": self._params_of(seats[0])}
        told = fallback._on_attempt
        super().__init__(
            seats,  # type: ignore[arg-type]  # of one kind of client or the other, which is lost on the way to super()
            Needs.of_contents(params, (message.get("content") for message in messages)), self._params,
            fallback.policy, fallback.health, fallback._clock,
            limit=TimeLimits.of(timeout) if timeout is not None else None, whole=whole, stats=fallback._live(),
            chance=fallback._chance, observer=_Told(told) if told is not None else None, about=about,
        )  # fmt: skip

    def _params_of(self, seat: _Seat[C]) -> Mapping[str, object]:
        return {**seat.params, **self._params}

    def _answer_of(self, seat: _Seat[C], step: Try, *, waits: bool) -> Answer | AsyncAnswer:
        return seat.client.stream(**self._planned(self._params_of(seat), seat, step))  # type: ignore[arg-type]


class FallbackClient(_FallbackBase[ChutesClient]):
    """Sync client that asks the next model when one fails.

    Args:
        members: In order: names of models, or mappings with a ``"model"`` and what is that member's own: any argument
            of ``ChutesClient``, such as ``"api_key"`` or ``"base_url"``, and any parameter of a call. Without a list,
            the default model and its fallbacks.
        api_key: The key of all members that have none of their own.
        policy: When to move to the next member, and in which order.
        health: The recorded health of the members; pass the same object to several fallbacks to share it.
        on_attempt: Is told of each attempt that has ended, and of each member that was skipped.
        clock: For tests.
        chance: For tests: returns a random number between 0 and 1.
        **shared: Any other argument of ``ChutesClient``, for all members.
    """

    _client = ChutesClient

    def chat(
        self,
        messages: Sequence[Message],
        *,
        model: str | None = None,
        timeout: Limits = None,
        **params: Unpack[ChatParams],
    ) -> FallbackReply:
        """Return the whole answer of the first member that gives one.

        Args:
            messages: The conversation.
            model: Ask this model only: a member, or another one with the first member's client.
            timeout: Limits of each attempt, beside those of the policy: the shorter ones hold.
            **params: The parameters of the call.

        Raises:
            FallbackError: No member gave a whole answer; it lists the attempts.
        """
        return self._stream(messages, params, timeout, whole=True, model=model).read()

    def stream(
        self,
        messages: Sequence[Message],
        *,
        model: str | None = None,
        timeout: Limits = None,
        **params: Unpack[ChatParams],
    ) -> FallbackStream:
        """Stream the answer of the first member that gives one.

        A member that fails before any of its answer was given out is replaced unnoticed. After that the error is
        raised, or with ``FallbackPolicy(after_commit="restart")`` a ``Restart`` comes and then another answer.
        """
        return self._stream(messages, params, timeout, whole=False, model=model)

    def _stream(
        self, messages: Sequence[Message], params: ChatParams, timeout: Limits, *, whole: bool, model: str | None = None
    ) -> FallbackStream:
        return _Run(self, messages, params, timeout, model, whole=whole).stream()

    def close(self) -> None:
        """Close the clients of all members."""
        for seat in self._seats:
            seat.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncFallbackClient(_FallbackBase[AsyncChutesClient]):
    """Async client that asks the next model when one fails, with the same arguments as :class:`FallbackClient`."""

    _client = AsyncChutesClient

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        model: str | None = None,
        timeout: Limits = None,
        **params: Unpack[ChatParams],
    ) -> FallbackReply:
        """Return the whole answer of the first member that gives one."""
        return await self._stream(messages, params, timeout, whole=True, model=model).read()

    def stream(
        self,
        messages: Sequence[Message],
        *,
        model: str | None = None,
        timeout: Limits = None,
        **params: Unpack[ChatParams],
    ) -> AsyncFallbackStream:
        """Stream the answer of the first member that gives one: ``async for delta in client.stream(...)``."""
        return self._stream(messages, params, timeout, whole=False, model=model)

    def _stream(
        self, messages: Sequence[Message], params: ChatParams, timeout: Limits, *, whole: bool, model: str | None = None
    ) -> AsyncFallbackStream:
        return _Run(self, messages, params, timeout, model, whole=whole).astream()

    async def aclose(self) -> None:
        """Close the clients of all members."""
        for seat in self._seats:
            await seat.client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Told:
    """Tells a function of attempts that have ended."""

    def __init__(self, on_attempt: Callable[[Attempt], object]) -> None:
        self._on_attempt = on_attempt

    def begins(self, step: Try) -> None:
        """Say nothing."""

    def ended(self, attempt: Attempt, error: BaseException | None, step: Try | None) -> None:
        """Tell of an attempt."""
        self._on_attempt(attempt)

    async def heard(self) -> None:
        """Wait for nothing."""


def _check_members(members: Sequence[object], shared: ClientOptions) -> None:
    if isinstance(members, str | Mapping) or not isinstance(members, Sequence) or not members:
        raise ConfigurationError("A fallback takes a list of at least one model: ['a/one', 'b/two'].")
    for each in members:
        if not isinstance(each, str | Mapping):
            raise ConfigurationError(
                "A member is the name of a model, or a mapping with its 'model' and whatever is its own, such as "
                f"'api_key' or 'temperature', not a {type(each).__name__}."
            )
    refuse_retries(shared.get("max_retries"))


def _key_of(client: ClientBase) -> object:
    """Return what tells a client's account apart from others."""
    try:
        return client._credential.at_hand() or client._credential
    except ChutesError:
        return client._credential  # the first call says what is wrong with the key
