"""The members of a fallback: models with retries turned off."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from importlib import import_module
from typing import Any

from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms.llm import LLM

from chutes_core import ChutesError, ChutesWarning, ConfigurationError, ModelInfo
from chutes_core.auth import Credential, KeyFunction
from chutes_core.fallback import Member
from chutes_core.fallback.hop import joint_info
from chutes_core.fallback.members import refuse_other_names, verify_of
from chutes_core.secrets.headers import Headers
from chutes_core.settings import BASE_URL, Settings, TimeLimits
from llama_index_chutes._base import refuse_unknown
from llama_index_chutes._chat_model import ChatModel
from llama_index_chutes.llms import Chutes

__all__ = ["Seat", "as_model", "made_models", "public_copy", "reseated", "seats_of", "unheard"]

_SECRET = ("api_key", "token", "secret", "password", "headers")
_ADDRESSES = ("api_base", "base_url", "azure_endpoint", "endpoint")
# Where route files find other providers' models.
_PROVIDERS = {
    "openai": "llama_index.llms.openai:OpenAI",
    "openai_like": "llama_index.llms.openai_like:OpenAILike",
    "azure_openai": "llama_index.llms.azure_openai:AzureOpenAI",
    "anthropic": "llama_index.llms.anthropic:Anthropic",
    "openrouter": "llama_index.llms.openrouter:OpenRouter",
    "groq": "llama_index.llms.groq:Groq",
    "mistralai": "llama_index.llms.mistralai:MistralAI",
    "google_genai": "llama_index.llms.google_genai:GoogleGenAI",
    "ollama": "llama_index.llms.ollama:Ollama",
    "fireworks": "llama_index.llms.fireworks:Fireworks",
}
# What defines a request apart from model and key: members with the same values can share one.
_NOT_SENT = {"model", "api_key", "catalog", "ledger", "context_window"}
_ALIKE = sorted((({*Chutes.model_fields} - {*LLM.model_fields}) | {"pydantic_program_mode"}) - _NOT_SENT)
_FIELDS = (*Chutes.model_fields, *Chutes._other_names, "members", "policy", "health")
_warned: set[type] = set()


@dataclass(frozen=True, slots=True, eq=False)
class Seat:
    """A member as the engine sees it, with its model and what is known about that."""

    member: Member
    llm: LLM
    infos: tuple[ModelInfo, ...] = ()

    @property
    def place(self) -> str:
        """The host, regardless of the account."""
        return self.member.host.partition("#")[0]

    def limits(self, step: TimeLimits) -> TimeLimits:
        """Return the time limits of an attempt: the shorter of the fallback's and the model's."""
        own = self.llm.timeout if isinstance(self.llm, Chutes) else None
        if own is None:
            return step
        told = TimeLimits.of(own)
        names = ("connect", "first_token", "gap", "total")
        return TimeLimits(**{name: _least(getattr(told, name), getattr(step, name)) for name in names})


def made_models(listed: Any, shared: Mapping[str, Any]) -> list[LLM]:
    """Turn entries into models; those listed by name get the ``shared`` arguments."""
    refuse_other_names(shared)
    if isinstance(listed, str) or not isinstance(listed, Sequence) or not listed:
        raise ConfigurationError(
            "A fallback takes a list of at least one model, members=['a/one', 'b/two']; for a comma-separated string "
            "use from_models()."
        )
    refuse_unknown("ChutesFallback", _FIELDS, shared, Chutes._hints)
    if shared.get("max_retries"):
        raise ConfigurationError("A fallback does its own retries: limit them with FallbackPolicy(max_attempts=...).")
    entries = [one for each in listed for one in _seated(each)]
    made = [as_model(each, shared) for each in entries]
    unused = shared.keys() - {"clock", "pydantic_program_mode", "max_retries", "e2ee"}
    if unused and all(isinstance(each, LLM) for each in entries):
        raise ConfigurationError(
            f"{', '.join(sorted(unused))}: these arguments are for members listed by name, and there are none. "
            "Pass them to the models themselves."
        )
    return made


def reseated(models: Any) -> list[LLM]:
    """Validate members assigned to an existing fallback."""
    if not isinstance(models, Sequence) or not models or not all(isinstance(each, LLM) for each in models):
        raise ConfigurationError(
            "The members of a fallback are a list of models, such as [Chutes(model=...)]; names are for the "
            "constructor, which knows the arguments that they share."
        )
    return made_models(models, {})


def _seated(entry: object) -> Sequence[object]:
    """Return an entry's models: a fallback is replaced by its members."""
    is_fallback = isinstance(entry, ChatModel) and not isinstance(entry, Chutes)
    return entry.members if is_fallback else (entry,)  # type: ignore[attr-defined]


def as_model(entry: object, shared: Mapping[str, Any]) -> LLM:
    """Turn an entry (a name, a table from a route, or a model) into a model.

    >>> as_model("acme/one", {"api_key": "cpk_0123"}).max_retries
    0
    """
    if isinstance(entry, str):
        return Chutes(**{**shared, "model": entry, "max_retries": 0})
    if isinstance(entry, Mapping):
        return _from_table(entry, shared)
    if not isinstance(entry, LLM):
        raise ConfigurationError(
            f"A member must be the name of a model or a LlamaIndex LLM, not {type(entry).__name__}."
        )
    return _sealed(_without_retries(entry), shared)


def _sealed(llm: LLM, shared: Mapping[str, Any]) -> LLM:
    """Return a member with ``e2ee`` applied, or refuse it."""
    wish = shared.get("e2ee", False)
    if wish is False or (isinstance(llm, Chutes) and llm.e2ee):
        return llm
    if not isinstance(llm, Chutes):
        raise ConfigurationError(
            f"e2ee= seals what every member is asked, and {type(llm).__name__} cannot be asked sealed. To fall back "
            "from sealed members to another provider's model, pass e2ee= to the models themselves."
        )
    copy = llm.model_copy(update={"e2ee": llm._sealing(wish)})
    copy._clients = type(copy._clients)()
    return copy


def _from_table(table: Mapping[str, Any], shared: Mapping[str, Any]) -> LLM:
    told = dict(table)
    if told.pop("class_name", Chutes.class_name()) != Chutes.class_name():
        raise ConfigurationError(
            "Another provider's model cannot be restored from its description: create it again and list it."
        )
    provider = str(told.pop("provider", "chutes"))
    if provider == "chutes":
        return _sealed(Chutes(**{**shared, **told, "max_retries": 0}), shared)
    place = _PROVIDERS.get(provider, provider)
    module, colon, name = place.partition(":")
    if not colon:
        raise ConfigurationError(
            f"There is no provider {provider!r} here. Use {', '.join(sorted(_PROVIDERS))}, or any class as "
            "'package.module:Class'."
        )
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        package = module.replace(".", "-").replace("_", "-")
        raise ConfigurationError(f"provider={provider!r} needs {name}: pip install {package}.") from None
    if not (isinstance(found, type) and issubclass(found, LLM)):
        raise ConfigurationError(f"{place} is not a LlamaIndex LLM.")
    return _sealed(_without_retries(found(**told)), shared)


def _without_retries(llm: LLM) -> LLM:
    """Return the model with its own retries turned off, since nested retry loops multiply."""
    tries = getattr(llm, "max_retries", None)
    if tries == 0:
        return llm
    if tries is None or "max_retries" not in type(llm).model_fields:
        if type(llm) not in _warned:
            _warned.add(type(llm))
            warnings.warn(
                f"{type(llm).__name__} has no max_retries to turn off. If it retries by itself, turn that off: "
                "its retries delay the next member.",
                ChutesWarning,
                stacklevel=6,
            )
        return llm
    copy = llm.model_copy(update={"max_retries": 0})
    if isinstance(copy, Chutes):
        copy._clients = type(copy._clients)()
        return copy
    for name in ("_client", "_aclient"):  # existing clients still use the old number
        client = getattr(copy, name, None)
        if client is not None and getattr(client, "max_retries", None) and hasattr(client, "with_options"):
            setattr(copy, name, client.with_options(max_retries=0))
    return copy


def unheard(llm: LLM, manager: CallbackManager) -> LLM:
    """Return another provider's model without the fallback's handlers, which would count everything twice."""
    heard = [each for each in llm.callback_manager.handlers if not any(each is own for own in manager.handlers)]
    if len(heard) == len(llm.callback_manager.handlers):
        return llm
    own = CallbackManager()
    own.set_handlers(heard)  # not through the constructor, which adds the global one
    return llm.model_copy(update={"callback_manager": own})


def public_copy(llm: LLM) -> LLM:
    """Return a model in picklable form: another provider's without keys; Chutes models omit theirs themselves."""
    if isinstance(llm, Chutes):
        return llm
    secret = [name for name in type(llm).model_fields if any(part in name.lower() for part in _SECRET)]
    hidden = {name: None for name in secret if not isinstance(getattr(llm, name, None), bool | int | float)}
    copy = llm.model_copy(update=hidden)
    for name in ("_client", "_aclient"):
        if getattr(copy, name, None) is not None:
            setattr(copy, name, None)
    return copy


# ------------------------------------------------------------------------------------------- for the engine


def seats_of(llms: Iterable[LLM], *, pools: bool = False) -> list[Seat]:
    """Describe the members to the engine.

    Args:
        llms: The members.
        pools: Determine which of them can share a request.

    >>> [seat.member.name for seat in seats_of([as_model("acme/one", {"api_key": "cpk_0123"})])]
    ['acme/one']
    """
    seats: list[Seat] = []
    for llm in llms:
        seat = _own(llm, pools) if isinstance(llm, Chutes) else _foreign(llm)
        twins = [other.member for other in seats if (other.member.name, other.place) == (seat.member.name, seat.place)]
        if any(twin.account == seat.member.account for twin in twins):
            raise ConfigurationError(f"{seat.member.name!r} is listed twice: once is enough, the policy retries it.")
        if twins:  # the same model with another key is a separate chance with its own health
            seat = replace(seat, member=replace(seat.member, host=f"{seat.place}#{seat.member.account}"))
        seats.append(seat)
    return seats


def _own(llm: Chutes, pools: bool) -> Seat:
    infos = tuple(llm._infos())
    where = Settings.resolve(base_url=llm.api_base).base_url
    try:
        found = None if callable(llm.api_key) else Credential(llm.api_key).at_hand()
        key: object = llm.api_key if found is None else found.get_secret_value()
    except ChutesError:
        key = None  # the first call reports the missing key
    account, host = _account("chutes", where, key), "" if where == BASE_URL else where
    pool = _digest(account, *(_said(llm, name) for name in _ALIKE)) if pools and not llm.e2ee else None
    sealed = verify_of(llm.e2ee)
    return Seat(Member(llm.model, account, joint_info(llm.model, infos), host, pool, sealed), llm, infos)


def _said(llm: Chutes, name: str) -> str:
    """Return a setting as text that is the same for equal ones only, also if its repr hides it."""
    setting = getattr(llm, name)
    return repr(setting.told_apart(llm.api_key) if isinstance(setting, Headers) else setting)


def _foreign(llm: LLM) -> Seat:
    kind = type(llm).__name__
    where = next((value for value in (getattr(llm, name, None) for name in _ADDRESSES) if isinstance(value, str)), "")
    key = getattr(llm, "api_key", None)
    if key is not None and hasattr(key, "get_secret_value"):
        key = key.get_secret_value()
    name = llm.metadata.model_name
    if not name or name == "unknown":
        name = str(getattr(llm, "model", None) or kind)
    # Where the key cannot be seen, nothing says that two models share an account.
    return Seat(Member(name, _account(kind, where, key or name), None, where or kind), llm)


def _account(provider: str, where: str, key: object) -> str:
    """Identify an account without revealing its key; members with the same account share limits and failures.

    The digest is too short to recover a key, and the same in every process, so that health can be shared.
    """
    key = key.function if isinstance(key, KeyFunction) else key
    told = key if isinstance(key, str) else f"{id(key):x}" if key is not None else ""
    return f"{provider}-{_digest(where, told)}"


def _digest(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=4, person=b"chutes-account").hexdigest()


def _least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)
