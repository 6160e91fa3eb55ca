"""The members of a fallback: how LangChain's models are made, and what the engine is told of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel

from chutes_core.catalog.names import model_infos
from chutes_core.errors import ConfigurationError
from chutes_core.fallback import FallbackPolicy, roster
from langchain_chutes.chat_models import ChatChutes

__all__ = ["Listed", "Seat", "member_roster", "seat_of", "template_maker"]

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
_RETRIES = ("max_retries", "num_retries")
_BUILT = frozenset({"client", "async_client", "root_client", "root_async_client"})


@dataclass(frozen=True, slots=True, eq=False)
class Seat(roster.Seat[BaseChatModel, ChatChutes]):
    """A member as the engine sees it."""

    @property
    def direct(self) -> ChatChutes | None:
        """The Chutes model, if nothing of LangChain's is to be passed on the way to it."""
        own = self.own
        return own if own is not None and own.rate_limiter is None and not own.callbacks and not own.verbose else None


def member_roster(make: Callable[..., ChatChutes] = ChatChutes) -> roster.Roster[BaseChatModel, ChatChutes]:
    """Return how members are made; ``make`` makes those that are listed by name."""
    return roster.Roster(BaseChatModel, "LangChain chat model", _PROVIDERS, ChatChutes, make, _quiet)  # type: ignore[type-abstract]


def template_maker(template: ChatChutes | None) -> Callable[..., ChatChutes]:
    """Return what makes members with the key, the address and the settings of another one.

    >>> template_maker(ChatChutes(model="acme/one", api_key="cpk_0123", temperature=0))(model="acme/two").temperature
    0.0
    """

    def make(**arguments: Any) -> ChatChutes:
        if template is None:
            raise ConfigurationError(
                "No member of this fallback was listed by name, so nothing says with which key, address and settings "
                "others are to be asked: pass models, such as ChatChutes(model=...)."
            )
        given = {name: getattr(template, name) for name in template.model_fields_set if name != "profile"}
        return ChatChutes(**{**given, **arguments})

    return make


def _quiet(model: BaseChatModel) -> BaseChatModel | None:
    fields = type(model).model_fields
    name = next((each for each in _RETRIES if each in fields), None)
    if name is None:
        return None
    if getattr(model, name) == 0:
        return model
    # Rebuilt, because a copy would keep clients that were built with retries.
    given = {each: getattr(model, each) for each in model.model_fields_set - _BUILT if each in fields} | {name: 0}
    try:
        return type(model)(**{fields[each].alias or each: value for each, value in given.items()})
    except Exception:  # third-party constructors may raise anything
        return None


def seat_of(model: BaseChatModel, policy: FallbackPolicy) -> Seat:
    """Describe a model to the engine."""
    if not isinstance(model, ChatChutes):
        return Seat(model, roster.foreign_member(model))
    catalog = model._known_models()
    infos = model_infos(catalog, model.model)
    member = roster.own_member(model.model, model.base_url, model.api_key, infos, model.e2ee)
    asked = model
    if policy.confidential:
        headers = policy.headers(model.default_headers)
        asked = model.model_copy(update={"default_headers": headers, "catalog": catalog})
    return Seat(asked, member, model)
