"""The list of a fallback's members: what may be in it, and what the engine is told of each.

A framework says how it makes and quiets one of its models (:class:`Roster`); the rules and their texts are here,
so that a list that one framework takes, the other takes too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from importlib import import_module
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

from chutes_core.auth import Credential, KeyFunction
from chutes_core.calls.clock import Clock
from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.default_model import default_models
from chutes_core.errors import ChutesError, ConfigurationError, RequestRefusedError
from chutes_core.fallback.health import Health
from chutes_core.fallback.hop import joint_info
from chutes_core.fallback.members import Member, refuse_other_names, verify_of
from chutes_core.fallback.policy import FallbackPolicy
from chutes_core.settings import BASE_URL, Settings, TimeLimits
from chutes_core.warned import warn

if TYPE_CHECKING:
    from chutes_core.connected import Connected

__all__ = [
    "Roster", "Seat", "Seated", "account_id", "asked_seats", "foreign_member", "health_of", "listed_or_default",
    "named", "own_member", "placed", "refuse_retries", "refuse_several", "rules_of", "seated", "shortest",
    "taken_limit",
]  # fmt: skip

L = TypeVar("L")
M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)
C = TypeVar("C", bound="Connected")
O_co = TypeVar("O_co", bound="Connected", covariant=True)
_LIMITS = ("connect", "first_token", "gap", "total", "reply")
_NAMES = ("model_name", "model", "model_id", "deployment_name", "azure_deployment")
_ADDRESSES = (
    "api_base", "base_url", "openai_api_base", "anthropic_api_url", "azure_endpoint", "endpoint", "openrouter_api_base",
)  # fmt: skip
_KEYS = ("openai_api_key", "anthropic_api_key", "api_key", "groq_api_key", "openrouter_api_key", "google_api_key")
_PASSED_ON = ("extra_body", "additional_kwargs", "model_kwargs")


class Maker(Protocol[M_co]):
    """Makes a model from arguments."""

    def __call__(self, **arguments: object) -> M_co:
        """Make one."""


@dataclass(frozen=True, slots=True)
class Roster(Generic[M, C]):
    """How a framework makes the members of its fallbacks.

    Attributes:
        base: Its class of chat models.
        kind: What it calls one.
        providers: Where other providers' models are, as "package.module:Class", by the name that routes use.
        own: Its class of Chutes models.
        make: Makes one from arguments.
        quiet: Returns another provider's model with its own retries turned off; None where that cannot be done.
    """

    base: type[M]
    kind: str
    providers: Mapping[str, str]
    own: type[C]
    make: Maker[M]
    quiet: Callable[[M], M | None]

    def members(self, listed: object, shared: Mapping[str, object]) -> list[M]:
        """Make the members from what was listed, with their own retries turned off.

        Args:
            listed: Names, tables of a route, and models; a fallback among them is replaced by its members.
            shared: The arguments for members listed by name; ``e2ee`` is for all.
        """
        refuse_other_names(shared)
        if isinstance(listed, str) or not isinstance(listed, Sequence) or not listed:
            raise ConfigurationError(
                "A fallback takes a list of at least one model, members=['a/one', 'b/two']; for a comma-separated "
                "string use from_models()."
            )
        refuse_retries(shared.get("max_retries"))
        shared = {name: value for name, value in shared.items() if name != "max_retries"}
        shared = self.own._read("ChutesFallback", shared, "members", "policy", "health")
        unused = sorted(shared.keys() - {"e2ee"})
        if unused and all(isinstance(each, self.base) for each in listed):
            raise ConfigurationError(
                f"{', '.join(unused)}: these arguments are for members listed by name, and there are none. "
                "Pass them to the models themselves."
            )
        for place, entry in enumerate(listed):
            if any(_is_same(entry, other) for other in listed[:place]):
                raise _twice(_name(entry))
        made = [model for entry in listed for model in _seated(self._made(entry, shared))]
        quiet = [self._quiet(model) for model in made]
        if restless := dict.fromkeys(type(made[place]).__name__ for place, each in enumerate(quiet) if each is None):
            warn(
                f"{', '.join(restless)}: its own retries cannot be turned off from here, so any that it makes delay "
                "the next member."
            )
        members = [model if each is None else each for model, each in zip(made, quiet, strict=True)]
        wish = shared.get("e2ee", False)
        return members if wish is False else [self._sealed(model, wish) for model in members]

    def exchanged(self, models: object) -> list[M]:
        """Check models that take the place of an existing fallback's members."""
        several = isinstance(models, Sequence) and not isinstance(models, str) and bool(models)
        if not several or not all(isinstance(each, self.base) for each in cast("Sequence[object]", models)):
            raise ConfigurationError(
                "The members of a fallback are a list of models, such as [model, other_model]; names are for the "
                "constructor, which knows the arguments that they share."
            )
        return self.members(models, {})

    def _made(self, entry: object, shared: Mapping[str, object]) -> M:
        if isinstance(entry, str):
            return self.make(**{**shared, "model": entry, "max_retries": 0})
        if isinstance(entry, Mapping):
            table = dict(entry)
            provider = str(table.pop("provider", "chutes"))
            if provider == "chutes":
                return self.make(**{**shared, **table, "max_retries": 0})
            return self._class_of(provider)(**table)
        if isinstance(entry, self.base):
            return entry
        raise ConfigurationError(
            f"A member is the name of a model or a {self.kind}, not {type(entry).__name__}: tools and schemas are for "
            "the fallback, not for its members."
        )

    def _class_of(self, provider: str) -> Maker[M]:
        place = self.providers.get(provider, provider)
        module, colon, name = place.partition(":")
        if not colon:
            raise ConfigurationError(
                f"There is no provider {provider!r} here. Use {', '.join(sorted(self.providers))}, or any class as "
                "'package.module:Class'."
            )
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError):
            package = module.replace(".", "-").replace("_", "-")
            how = f"pip install {package}" if provider in self.providers else f"it is not in {module!r}"
            raise ConfigurationError(f"provider={provider!r} needs {name}: {how}.") from None
        if not (isinstance(found, type) and issubclass(found, self.base)):
            raise ConfigurationError(f"{place} is not a {self.kind}.")
        return cast("Maker[M]", found)

    def _quiet(self, model: M) -> M | None:
        if not isinstance(model, self.own):
            return self.quiet(model)
        return cast("M", model.model_copy(update={"max_retries": 0}) if model.max_retries else model)

    def _sealed(self, model: M, wish: object) -> M:
        if not isinstance(model, self.own):
            raise ConfigurationError(
                f"e2ee= seals what every member is asked, and {type(model).__name__} cannot be asked sealed. To fall "
                "back from sealed members to another provider's model, pass e2ee= to the models themselves."
            )
        return cast("M", model if model.e2ee else model.model_copy(update={"e2ee": model._sealing(wish)}))


def listed_or_default(members: L | None, shared: Mapping[str, object]) -> L | list[str]:
    """Return the members that were listed, or the default model and its fallbacks where there is no list."""
    if members is not None:
        return members
    refuse_other_names(shared)
    return default_models()


def _seated(model: M) -> Sequence[M]:
    """Return the members of a fallback, which take its place; of any other model itself."""
    is_fallback = isinstance(getattr(model, "policy", None), FallbackPolicy)
    return cast("Sequence[M]", getattr(model, "members", ())) if is_fallback else (model,)


def _is_same(entry: object, other: object) -> bool:
    return entry is other or (isinstance(entry, str | Mapping) and entry == other)


def _name(entry: object) -> str:
    found = entry.get("model") if isinstance(entry, Mapping) else getattr(entry, "model", None)
    return entry if isinstance(entry, str) else str(found or type(entry).__name__)


def _twice(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name!r} is listed twice with the same key and settings: once is enough, the policy retries it."
    )


# ---------------------------------------------------------------------------------------- what the engine is told


class Seated(Protocol):
    """What stands for a member."""

    @property
    def member(self) -> Member:
        """What the engine is told of it."""

    @property
    def catalog(self) -> Catalog | None:
        """The catalogue that has its price; None for another provider's model."""

    def limits(self, step: TimeLimits, asked: TimeLimits | None = None) -> TimeLimits:
        """Return the time limits of an attempt: the shortest of the fallback's, the call's and its own."""


S = TypeVar("S", bound=Seated)


@dataclass(frozen=True, slots=True, eq=False)
class Seat(Generic[M_co, O_co]):
    """A member of a framework's fallback: its model, and what the engine is told of it.

    Attributes:
        model: The model.
        member: What the engine is told.
        own: The model as the caller listed it, if it is a Chutes model.
    """

    model: M_co
    member: Member
    own: O_co | None = None

    @property
    def direct(self) -> O_co | None:
        """The Chutes model, if nothing of the framework's is to be passed on the way to it."""
        return self.own

    @property
    def catalog(self) -> Catalog | None:
        """The newest catalogue of a Chutes model."""
        return self.own._known_models() if self.own is not None else None

    def limits(self, step: TimeLimits, asked: TimeLimits | None = None) -> TimeLimits:
        """Return the time limits of an attempt: the shortest of the fallback's, the call's and a Chutes model's own."""
        own = getattr(self.model, "timeout", None) if self.member.info is not None else None
        return shortest(step, asked, TimeLimits.of(own) if own is not None else None)


def shortest(step: TimeLimits, *others: TimeLimits | None) -> TimeLimits:
    """Return the shortest of several limits, each by itself.

    >>> shortest(TimeLimits(gap=5, total=60), TimeLimits(first_token=3, gap=50), None)
    TimeLimits(connect=10.0, first_token=3, gap=5, total=60, reply=None)
    """
    given = [step, *(each for each in others if each is not None)]
    if len(given) == 1:
        return step
    known = {name: [value for each in given if (value := getattr(each, name)) is not None] for name in _LIMITS}
    return TimeLimits(**{name: min(values, default=None) for name, values in known.items()})


def own_member(model: str, base_url: str | None, key: object, infos: Sequence[ModelInfo], e2ee: object) -> Member:
    """Describe a Chutes model.

    >>> own_member("acme/one", None, "cpk_0123", [ModelInfo(id="acme/one")], False).target
    '|acme/one'
    """
    where = Settings.resolve(base_url=base_url).base_url
    host = "" if where == BASE_URL else where
    account = account_id("chutes", where, _at_hand(key))
    return Member(model, account, joint_info(model, infos), host, None, verify_of(e2ee))


def foreign_member(model: object, name: str = "") -> Member:
    """Describe another provider's model, by what its class calls its name, its address and its key."""
    kind = type(model).__name__
    name = name or _text_in(model, _NAMES) or kind
    where = _text_in(model, _ADDRESSES)
    key = next((value for value in (getattr(model, each, None) for each in _KEYS) if value), None)
    # Where the key cannot be seen, nothing says that two models share an account.
    return Member(name, account_id(kind, where, key or name), None, where or kind)


def _text_in(model: object, names: Iterable[str]) -> str:
    """Return the first of several attributes that is a text."""
    values = (getattr(model, name, None) for name in names)
    return next((value for value in values if isinstance(value, str) and value), "")


def _at_hand(key: object) -> object:
    """Return the key that requests will have: the given one, or that of the environment."""
    if key is not None:
        return key
    try:
        return Credential().at_hand()
    except ChutesError:
        return None  # the first call says what is wrong with it


def account_id(provider: str, where: str, key: object) -> str:
    """Identify an account without revealing its key; members with the same account share limits and failures.

    The digest is too short to recover a key, and the same in every process, so that health can be shared.

    >>> account_id("chutes", "https://example.org", "cpk_0123")
    'chutes-...'
    """
    reveal = getattr(key, "get_secret_value", None)
    plain = reveal() if callable(reveal) else key.function if isinstance(key, KeyFunction) else key
    told = plain if isinstance(plain, str) else f"{id(plain):x}" if plain is not None else ""
    digest = blake2b("\0".join((where, told)).encode(), digest_size=4, person=b"chutes-account")
    return f"{provider}-{digest.hexdigest()}"


def seated(members: Sequence[Member], settings: Callable[[int], object]) -> list[Member]:
    """Tell members with the same model apart, and find those that can share a request.

    The same model with another key has its own health. With the same key and other settings it shares that, and is one
    more member; with the same settings it would add nothing, and is refused.

    Args:
        members: The members, as described one by one.
        settings: Returns what else a member's requests depend on, by its place in the list.

    >>> one, same, other = (Member("acme/one", account) for account in ("a", "a", "b"))
    >>> [(each.target, each.place) for each in seated([one, same, other], lambda place: place)]
    [('|acme/one', '|acme/one|a'), ('|acme/one', '|acme/one|a|1'), ('#b|acme/one', '#b|acme/one|b')]
    """
    placed: list[Member] = []
    known: list[tuple[str, str, object]] = []
    for place, member in enumerate(members):
        twins = [other for other in range(place) if _is_twin(members[other], member)]
        alike = [other for other in twins if members[other].account == member.account]
        if any(settings(other) == settings(place) for other in alike):
            raise _twice(member.name)
        pool, host = None, member.host
        if not member.sealed and member.info is not None:  # sealed requests are for one machine of one model
            told = (member.account, member.host, settings(place))
            if told not in known:
                known.append(told)
            pool = f"pool-{known.index(told)}"
        if twins:
            host = placed[alike[0]].host if alike else f"{host}#{member.account}"
        placed.append(replace(member, host=host, pool=pool, number=len(alike)))
    return placed


def placed(seats: Sequence[S], settings: Callable[[S], object]) -> list[S]:
    """Return the seats with their members told apart; see :func:`seated`."""
    members = seated([seat.member for seat in seats], lambda place: settings(seats[place]))
    return [replace(seat, member=member) for seat, member in zip(seats, members, strict=True)]  # type: ignore[type-var]


def _is_twin(member: Member, other: Member) -> bool:
    return (member.name, member.host) == (other.name, other.host)


# ---------------------------------------------------------------------------------------- what a caller gives


def rules_of(policy: object) -> FallbackPolicy:
    """Return the policy that a caller gives, as it is or as a table of settings; None stands for the usual one.

    >>> rules_of({"deadline": 60}).deadline, rules_of(None) == FallbackPolicy()
    (60, True)
    """
    if isinstance(policy, FallbackPolicy):
        return policy
    if policy is not None and not isinstance(policy, Mapping):
        raise ConfigurationError(f"policy must be a FallbackPolicy or a mapping, not {type(policy).__name__}.")
    return FallbackPolicy.from_dict(policy or {})


def health_of(health: object, clock: Clock | None = None) -> Health:
    """Return the health that a caller gives; where there is a clock, None stands for a new one."""
    if health is None and clock is not None:
        return Health(now=clock.now)
    if not isinstance(health, Health):
        raise ConfigurationError(f"health must be a Health, not {type(health).__name__}.")
    return health


# ---------------------------------------------------------------------------------------- what a call may ask for


def taken_limit(params: dict[str, object]) -> TimeLimits | None:
    """Take a call's own time limit out of its parameters.

    >>> params: dict[str, object] = {"timeout": 3, "seed": 1}
    >>> taken_limit(params).total, params
    (3, {'seed': 1})
    """
    given = [params.pop(name) for name in ("request_timeout", "timeout") if name in params]
    return TimeLimits.of(cast("TimeLimits | float", given[-1])) if given and given[-1] is not None else None


F = TypeVar("F", bound=Seat[object, "Connected"])


def named(seats: Sequence[S], name: object, again: Callable[[S, str], S]) -> Sequence[S]:
    """Return the members to ask if a call says which model it wants: that one, with the key of the first of ours.

    Args:
        seats: The members.
        name: The model that the call names; None if it names none.
        again: Returns one of our members with another model.
    """
    if name is None:
        return seats
    if not isinstance(name, str) or not name:
        raise RequestRefusedError(f"model= at a call is the name of one model, not {name!r}.")
    found = [seat for seat in seats if seat.member.name == name]
    ours = next((seat for seat in seats if seat.member.info is not None), None)
    if not found and ours is None:
        raise RequestRefusedError(
            f"model={name!r} is none of this fallback's members, and all of them are other providers' models: "
            "add it to the members, or call a model of its provider."
        )
    return found or [again(cast("S", ours), name)]


def asked_seats(seats: Sequence[F], params: dict[str, object], again: Callable[[F, str], F]) -> Sequence[F]:
    """Take the model that a call names out of its parameters, and return the members to ask; see :func:`named`.

    Raises:
        RequestRefusedError: Several answers are asked for.
    """
    models = [params.pop(name) for name in ("model_name", "model") if name in params]
    found = named(seats, models[-1] if models else None, again)
    refuse_several(params, (seat.model for seat in found))
    return found


def refuse_retries(number: object) -> None:
    """Refuse retries of the members' own: the policy does them."""
    if number:
        raise ConfigurationError("A fallback does its own retries: limit them with FallbackPolicy(max_attempts=...).")


def refuse_several(params: Mapping[str, object], models: Iterable[object]) -> None:
    """Refuse a call for several answers, whether it asks for them itself or a member's settings do.

    >>> refuse_several({"n": 2}, [])
    Traceback (most recent call last):
    chutes_core.errors.RequestRefusedError: A fallback returns one answer: for n > 1, call one of its members directly.
    """
    asked = _answers(params) or max((_answers(vars(model)) for model in models), default=0)
    if asked > 1:
        raise RequestRefusedError("A fallback returns one answer: for n > 1, call one of its members directly.")


def _answers(params: Mapping[str, object]) -> int:
    """Return how many answers are asked for, under the parameter or past it; 0 if nothing is said."""
    number = params.get("n")
    most = number if type(number) is int else 0
    for name in _PASSED_ON:
        if name in params and (inner := params[name]) and isinstance(inner, Mapping):
            most = max(most, _answers(inner))
    return most
