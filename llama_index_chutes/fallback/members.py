"""The members of a fallback: how LlamaIndex's models are made, and what the engine is told of each."""

from __future__ import annotations

from functools import partial
from typing import Any

from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms.llm import LLM

from chutes_core import ConfigurationError
from chutes_core.fallback import roster
from llama_index_chutes.llms import Chutes

__all__ = ["Seat", "member_roster", "public_copy", "seat_of", "unheard"]

Seat = roster.Seat[LLM, Chutes]
_SECRET = ("api_key", "token", "secret", "password", "headers")
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


def member_roster(**common: Any) -> roster.Roster[LLM, Chutes]:
    """Return how members are made; those that are listed by name get the ``common`` arguments too.

    >>> [llm.max_retries for llm in member_roster().members(["acme/one"], {"api_key": "cpk_0123"})]
    [0]
    """
    return roster.Roster(LLM, "LlamaIndex LLM", _PROVIDERS, Chutes, partial(_make, **common), _quiet)  # type: ignore[type-abstract]


def _make(**arguments: Any) -> Chutes:
    if arguments.pop("class_name", Chutes.class_name()) != Chutes.class_name():
        raise ConfigurationError(
            "Another provider's model cannot be restored from its description: create it again and list it."
        )
    return Chutes(**arguments)


def _quiet(llm: LLM) -> LLM | None:
    tries = getattr(llm, "max_retries", None)
    if tries == 0:
        return llm
    if tries is None or "max_retries" not in type(llm).model_fields:
        return None
    copy = llm.model_copy(update={"max_retries": 0})
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


def seat_of(llm: LLM) -> Seat:
    """Describe a model to the engine."""
    if isinstance(llm, Chutes):
        return roster.Seat(llm, roster.own_member(llm.model, llm.api_base, llm.api_key, llm._infos(), llm.e2ee), llm)
    name = llm.metadata.model_name
    return roster.Seat(llm, roster.foreign_member(llm, name if name != "unknown" else ""))
