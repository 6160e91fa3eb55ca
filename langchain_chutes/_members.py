"""The members of a fallback: models with retries turned off, and what the engine knows about each."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from chutes_core.auth import KeyFunction
from chutes_core.catalog.catalog import Catalog
from chutes_core.errors import ChutesWarning, ConfigurationError
from chutes_core.fallback import FallbackPolicy, LiveStats, Member
from chutes_core.fallback.hop import joint_info
from chutes_core.fallback.members import refuse_other_names, verify_of
from chutes_core.settings import BASE_URL, Settings, TimeLimits
from langchain_chutes._profile import model_infos
from langchain_chutes._settings import rename_and_check
from langchain_chutes.chat_models import ChatChutes

__all__ = ["Listed", "Seat", "live_stats", "made_members", "seats"]

Listed = str | Mapping[str, Any] | BaseChatModel

# Where route files find other providers' models.
_PROVIDERS = {
    "openai": "langchain_openai:ChatOpenAI",
    "azure_openai": "langchain_openai:AzureChatOpenAI",
    "anthropic": "langchain_anthropic:ChatAnthropic",
    "openrouter": "langchain_openrouter:ChatOpenRouter",
    "groq": "langchain_groq:ChatGroq",
    "mistralai": "langchain_mistralai:ChatMistralAI",
    "google_genai": "langchain_google_genai:ChatGoogleGenerativeAI",
    "ollama": "langchain_ollama:ChatOllama",
    "fireworks": "langchain_fireworks:ChatFireworks",
}
_FIELDS = (*ChatChutes.model_fields, "members", "policy", "health")
_RETRIES = ("max_retries", "num_retries")
_BUILT = frozenset({"client", "async_client", "root_client", "root_async_client"})
_NAMES = ("model_name", "model", "model_id", "deployment_name", "azure_deployment")
_ADDRESSES = ("base_url", "openai_api_base", "anthropic_api_url", "azure_endpoint", "endpoint", "openrouter_api_base")
# What may differ between models that share one request.
_SEPARATE = frozenset({"model", "name", "profile", "catalog", "ledger", "cache", "tags", "metadata"})
_KEYS = ("openai_api_key", "anthropic_api_key", "api_key", "groq_api_key", "openrouter_api_key", "google_api_key")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Seat:
    """A member: the model, and what the engine knows of it.

    Attributes:
        model: The model.
        member: What the engine knows about it.
        own: The model, if it is a Chutes model.
        catalog: The catalogue its facts come from.
        listed: The Chutes model as passed by the caller.
    """

    model: BaseChatModel
    member: Member
    own: ChatChutes | None = None
    catalog: Catalog | None = None
    listed: ChatChutes | None = None

    def is_stale(self, policy: FallbackPolicy) -> bool:
        """Return whether the catalogue, or the policy's or model's request settings, have changed since."""
        if self.listed is None:
            return False
        if bool(self.listed.e2ee) is not bool(self.member.sealed):
            return True
        return self.listed._known_models() is not self.catalog or (self.own is self.listed) is bool(policy.confidential)

    def limits(self, step: TimeLimits, asked: TimeLimits | float | None = None) -> TimeLimits:
        """Return the time limits of an attempt: the shortest of the fallback's, the call's and the model's."""
        own = self.own.timeout if self.own is not None else None
        if own is None and asked is None:
            return step
        all_of_them = (step, *(TimeLimits.of(each) for each in (own, asked) if each is not None))
        names = ("connect", "first_token", "gap", "total")
        return TimeLimits(**{name: _least(*(getattr(each, name) for each in all_of_them)) for name in names})


def made_members(
    listed: Sequence[Listed], shared: Mapping[str, Any], make: Callable[..., ChatChutes] = ChatChutes
) -> list[BaseChatModel]:
    """Turn member entries of any kind into models with retries turned off."""
    if isinstance(listed, str | Mapping) or not isinstance(listed, Sequence):
        raise ConfigurationError("A fallback takes a list of models; for a comma-separated string use from_models().")
    refuse_other_names(shared)
    if not listed:
        raise ConfigurationError("A fallback needs at least one model among its members: members=['a/one', 'b/two'].")
    if "max_retries" in shared:
        raise ConfigurationError("A fallback does its own retries: limit them with FallbackPolicy(max_attempts=...).")
    shared = rename_and_check(dict(shared), _FIELDS, ChatChutes._other_names(), "ChutesFallback")
    if (unused := shared.keys() - {"e2ee"}) and all(isinstance(each, BaseChatModel) for each in listed):
        raise ConfigurationError(
            f"{', '.join(sorted(unused))}: these arguments are for members listed by name, and there are none. "
            "Pass them to the models themselves."
        )
    made: list[BaseChatModel] = []
    restless: list[str] = []
    for each in listed:
        if isinstance(each, str):
            made.append(make(model=each, **{**shared, "max_retries": 0}))
        elif isinstance(each, Mapping):
            made.append(_of_table(each, shared, make))
        elif isinstance(each, BaseChatModel):
            made.append(_without_retries(each, restless))
        else:
            raise ConfigurationError(
                f"A member is the name of a model or a chat model, not {type(each).__name__}: bind tools and "
                "schemas to the fallback, not to its members."
            )
    if restless:
        warnings.warn(
            f"{', '.join(dict.fromkeys(restless))}: its own retries cannot be turned off from here, so any that it "
            "makes delay the next member.",
            ChutesWarning,
            stacklevel=4,
        )
    return [_sealed(each, shared["e2ee"]) for each in made] if shared.get("e2ee", False) is not False else made


def _sealed(model: BaseChatModel, wish: Any) -> BaseChatModel:
    """Return a member with ``e2ee`` applied, or refuse it."""
    if isinstance(model, ChatChutes):
        return model if model.e2ee else model.model_copy(update={"e2ee": model._sealing(wish)})
    inner = getattr(model, "members", None)
    if isinstance(inner, list) and inner and all(isinstance(each, ChatChutes) and each.e2ee for each in inner):
        return model
    raise ConfigurationError(
        f"e2ee= seals what every member is asked, and {type(model).__name__} cannot be asked sealed. To fall back from "
        "sealed members to another provider's model, pass e2ee= to the models themselves."
    )


def _of_table(table: Mapping[str, Any], shared: Mapping[str, Any], make: Callable[..., ChatChutes]) -> BaseChatModel:
    given = dict(table)
    provider = given.pop("provider", "chutes")
    if provider == "chutes":
        return make(**{**shared, **given, "max_retries": 0})
    place = _PROVIDERS.get(provider, provider)
    module, colon, name = str(place).partition(":")
    if not colon:
        raise ConfigurationError(
            f"There is no provider {provider!r} here. Use {', '.join(sorted(_PROVIDERS))}, or any class as "
            "'package.module:Class'."
        )
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        raise ConfigurationError(
            f"provider={provider!r} needs {name}: pip install {module.partition('.')[0].replace('_', '-')}."
        ) from None
    model = found(**given)
    if not isinstance(model, BaseChatModel):
        raise ConfigurationError(f"{place} is not a LangChain chat model.")
    return _without_retries(model, [])


def _without_retries(model: BaseChatModel, restless: list[str]) -> BaseChatModel:
    """Return a copy of the model with its own retries turned off."""
    if isinstance(model, ChatChutes):
        return model.model_copy(update={"max_retries": 0}) if model.max_retries else model
    fields = type(model).model_fields
    if "members" in fields and "policy" in fields:
        return model  # a fallback as a member keeps its own policy
    name = next((each for each in _RETRIES if each in fields), None)
    if name is None:
        restless.append(type(model).__name__)
        return model
    if getattr(model, name) == 0:
        return model
    # Rebuilt, because a copy would keep clients that were built with retries.
    given = {each: getattr(model, each) for each in model.model_fields_set - _BUILT if each in fields} | {name: 0}
    try:
        made = type(model)(**{fields[each].alias or each: value for each, value in given.items()})
    except Exception:  # third-party constructors may raise anything
        restless.append(type(model).__name__)
        return model
    return made


# ---------------------------------------------------------------------------------------- what is known of them


def seats(models: Sequence[BaseChatModel], policy: FallbackPolicy) -> list[Seat]:
    """Describe each model to the engine: its name, host and account."""
    taken: list[Seat] = []
    pools: list[dict[str, Any]] = []
    for model in models:
        seat = _own(model, pools, policy) if isinstance(model, ChatChutes) else Seat(model, _foreign(model))
        member = seat.member
        twins = [each for each in taken if each.member.target == member.target]
        if twins and all(each.member.account != member.account for each in twins):
            # The same model with another key is a separate chance that need not wait for the first to recover.
            member = dataclasses.replace(member, host=f"{member.host}#{member.account}")
            seat = dataclasses.replace(seat, member=member)
        taken.append(seat)
    return taken


def live_stats(seats: Sequence[Seat]) -> LiveStats | None:
    """Return the service's statistics for the Chutes models; None if there is nothing to fetch."""
    own = next((seat.own for seat in seats if seat.own is not None), None)
    if own is None:
        return None
    settings = Settings.resolve(base_url=own.base_url, management_url=own.management_url)
    return LiveStats.of_service(settings, own._known_models(), http_client=own.http_client)


def _own(model: ChatChutes, pools: list[dict[str, Any]], policy: FallbackPolicy) -> Seat:
    where = Settings.resolve(base_url=model.base_url).base_url
    key: object = model.api_key
    if key is None:
        key = os.environ.get("CHUTES_OAUTH_TOKEN") or os.environ.get("CHUTES_API_KEY")
    catalog = model._known_models()
    info = joint_info(model.model, model_infos(catalog, model.model))
    host = "" if where == BASE_URL else where
    sealed = verify_of(model.e2ee)
    member = Member(model.model, _account("chutes", where, key), info, host, _pool(model, pools), sealed)
    asked = model
    if policy.confidential:
        headers = policy.headers(model.default_headers)
        asked = model.model_copy(update={"default_headers": headers, "catalog": catalog})
    return Seat(asked, member, asked, catalog, model)


def _pool(model: ChatChutes, pools: list[dict[str, Any]]) -> str | None:
    """Return the pool of a model: models that differ only in name can share a request."""
    if model.e2ee:
        return None  # encrypted for one machine of one model
    told = {name: value for name, value in model.__dict__.items() if name not in _SEPARATE}
    if told not in pools:
        pools.append(told)
    return f"pool-{pools.index(told)}"


def _foreign(model: BaseChatModel) -> Member:
    provider = type(model).__name__
    name = next((value for value in (_text(model, each) for each in _NAMES) if value), provider)
    where = next((value for value in (_text(model, each) for each in _ADDRESSES) if value), "")
    key = next((value for value in (getattr(model, each, None) for each in _KEYS) if value), None)
    # Where the key cannot be seen, nothing says that two models share an account.
    return Member(name, _account(provider, where, key or name), None, where or provider)


def _text(model: BaseChatModel, name: str) -> str:
    value = getattr(model, name, None)
    return value if isinstance(value, str) else ""


def _account(provider: str, where: str, key: object) -> str:
    """Identify an account by a short digest, which does not reveal its long random key."""
    if isinstance(key, SecretStr):
        key = key.get_secret_value()
    key = key.function if isinstance(key, KeyFunction) else key
    told = key if isinstance(key, str) else f"{id(key):x}" if key is not None else ""
    digest = hashlib.blake2b(f"{where}\0{told}".encode(), digest_size=4, person=b"chutes-account").hexdigest()
    return f"{provider}-{digest}"


def _least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)
