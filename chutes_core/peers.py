"""What the arguments of other packages' models are here: taken, called something else, or refused with what to do.

One table for both frameworks and for calls of the core: constructors, calls, errors, ``chutes-connect migrate`` and
docs/migrating.md read it. A name that is a field of the class, or a parameter of a call, is taken as it is and has no
row. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Literal, TypeVar

from chutes_core.errors import ConfigurationError

__all__ = [
    "CALLS",
    "FIELDS",
    "PEERS",
    "Face",
    "Peer",
    "Word",
    "closest",
    "known_arguments",
    "renames",
    "with_parameters",
]

T = TypeVar("T")
Face = Literal["langchain", "llama_index"]


@dataclass(frozen=True, slots=True)
class Word:
    """What an argument of another package is here. None as its value is as good as leaving it out.

    Attributes:
        to: Its name here.
        free: Values that ask for what happens here anyway: taken, and nothing is done.
        say: What to do instead of any other value.
    """

    to: str = ""
    free: tuple[object, ...] = ()
    say: str = ""

    def is_free(self, value: object) -> bool:
        """Return whether a value asks for nothing that does not happen anyway.

        >>> Word(free=(False,)).is_free(False), Word(free=(False,)).is_free(0)
        (True, False)
        """
        return value is None or any(type(value) is type(each) and value == each for each in self.free)


@dataclass(frozen=True, slots=True)
class Peer:
    """A class that people come from.

    Attributes:
        name: Its name.
        module: Where it is imported from.
        package: The distribution it is in.
        face: The framework.
        calls: Whose parameters its calls pass on; see ``CALLS``.
    """

    name: str
    module: str
    package: str
    face: Face
    calls: str

    @property
    def ours(self) -> str:
        """The class that takes its place."""
        return "ChatChutes" if self.face == "langchain" else "Chutes"

    @property
    def home(self) -> str:
        """Where that is imported from."""
        return "langchain_chutes" if self.face == "langchain" else "llama_index_chutes"


PEERS = (
    Peer("ChatOpenAI", "langchain_openai", "langchain-openai", "langchain", "openai"),
    Peer("ChatOpenRouter", "langchain_openrouter", "langchain-openrouter", "langchain", "openrouter"),
    Peer("ChatLiteLLM", "langchain_litellm", "langchain-litellm", "langchain", "litellm"),
    Peer("OpenAILike", "llama_index.llms.openai_like", "llama-index-llms-openai-like", "llama_index", "openai"),
    Peer("LiteLLM", "llama_index.llms.litellm", "llama-index-llms-litellm", "llama_index", "litellm"),
    Peer("OpenRouter", "llama_index.llms.openrouter", "llama-index-llms-openrouter", "llama_index", "openai"),
)

_LEAVE = "Leave it out."
_FALLBACK = "ask several models with ChutesFallback([...])"
_CONNECTIONS = "The clients are made from the settings: for connections of your own pass {http} and {ahttp}."
_RESPONSES = f"It belongs to the Responses API, which Chutes does not have: chat completions do the same. {_LEAVE}"
_CACHED = f"The engines reuse the beginnings of prompts by themselves. {_LEAVE}"
_TEXT = "Chutes answers a chat in text: for speech, images or video ask a chute for it with ChutesClient.call()."
_KEY = "A key of another service opens nothing here: set CHUTES_API_KEY, or pass a key of Chutes as api_key=."
_TRIM = "Shorten the conversation before the call: nothing is cut off here unseen."
_TIER = f"There is one tier for all requests; for models that are less busy {_FALLBACK}."
_LENGTH = "Say in the prompt how long the answer shall be, or limit it with max_tokens."
_ROUTE = (
    "Which machine answers is the service's choice: for other models in an order of yours use ChutesFallback([...])."
)
_PLUGINS = "The service has no plugins: give the model tools, and search or parse in them."
_TRACE = "Pass it to your tracer: see docs/observability.md for what a call tells of itself."
_FUNCTIONS = "Functions are tools here: {tools}."
_BY_METHOD = "It is no parameter: the method you call decides it."
_SETTING = (
    "It is a setting of the model and not of a call: call model.model_copy(update={{'{name}': ...}}), or make another."
)


def _rows(say: str, *names: str, free: tuple[object, ...] = ()) -> dict[str, Word]:
    return dict.fromkeys(names, Word(say=say, free=free))


# What both a constructor and a call may be given.
_BOTH: Mapping[str, Word] = {
    "max_completion_tokens": Word("max_tokens"),
    "model_name": Word("model"),
    "request_timeout": Word("timeout"),
    "stop_sequences": Word("stop"),
    "stream_usage": Word(free=(True,), say="Every stream ends with its usage, from which costs are counted. " + _LEAVE),
    "service_tier": Word(free=("auto", "default"), say=_TIER),
    "modalities": Word(free=(["text"],), say=_TEXT),
    "thinking": Word(say="Pass reasoning=True, False, or an effort such as 'low'."),
    "safety_identifier": Word(say="Pass user= for what tells your users apart."),
    "use_responses_api": Word(free=(False,), say=_RESPONSES),
    "custom_llm_provider": Word(
        free=("chutes", "openai"), say="Every model here is one of Chutes: name it in model= without a provider."
    ),
    "api_version": Word(free=("",), say=f"The service has no versions to choose. {_LEAVE}"),
    "deployment_id": Word(say="Name the model in model=."),
    "top_a": Word(say="No engine of the service knows it: use min_p, which is close."),
    "mode": Word(say="How an object is asked for follows from the model; {mode} sets it."),
    **_rows(_RESPONSES, "include", "use_previous_response_id", "previous_response_id", free=(False,)),
    **_rows(_TRIM, "truncation", "context_management", free=("disabled",)),
    **_rows(_CACHED, "prompt_cache_options", "prompt_cache_key", "prompt_cache_retention", "cache_control"),
    **_rows(_TEXT, "audio", "audio_config", "image_config"),
    **_rows(_LENGTH, "verbosity"),
    **_rows(_ROUTE, "openrouter_provider", "provider", "order", "route", "models", "model_list"),
    **_rows(_ROUTE, "allow_fallbacks", free=(False,)),
    **_rows(_PLUGINS, "plugins", "web_search_options"),
    **_rows(_TRACE, "session_id"),
    **_rows(_FUNCTIONS, "functions", "function_call"),
}

_OTHERS_KEYS = (
    "anthropic_api_key", "azure_api_key", "cohere_api_key", "huggingface_api_key", "openrouter_api_key",
    "replicate_api_key", "together_ai_api_key",
)  # fmt: skip

# What only constructors are given.
_CONSTRUCTORS: Mapping[str, Word] = {
    **_BOTH,
    "chutes_api_key": Word("api_key"),
    "openai_api_key": Word("api_key"),
    "chutes_api_base": Word("{base}"),
    "openai_api_base": Word("{base}"),
    "base_url": Word("{base}"),
    "api_base": Word("{base}"),
    "store": Word(free=(False,), say=f"The service stores no answers. {_LEAVE}"),
    "extra_headers": Word("default_headers"),
    "extra_query": Word("default_query"),
    "reasoning_effort": Word("reasoning"),
    "num_output": Word("max_tokens"),
    "max_new_tokens": Word("max_tokens"),
    "max_output_tokens": Word("max_tokens"),
    "is_chat_model": Word(free=(True,), say=f"Every model here is a chat model, and is asked as one. {_LEAVE}"),
    "reuse_client": Word(free=(True, False), say=_LEAVE),
    "stream_chunk_timeout": Word(say="Pass timeout=TimeLimits(gap=SECONDS), from chutes_core."),
    "disabled_params": Word(free=({},), say="What you do not set is not sent: leave that parameter out, and this."),
    "include_response_headers": Word(free=(False,), say="{headers}"),
    "base_model": Word(say=f"The catalogue knows the model. {_LEAVE}"),
    "num_ctx": Word(say=f"A model has its whole window here; {{window}}. {_LEAVE}"),
    "api_type": Word(free=("open_ai", "openai"), say=f"There is one kind of interface. {_LEAVE}"),
    "tiktoken_model_name": Word(say="Tokens are estimated; for exact counts {tokenizer}."),
    "tokenizer": Word(say="Tokens are estimated; for exact counts {tokenizer}."),
    "app_url": Word(say="Pass default_headers={'HTTP-Referer': ...}."),
    "app_title": Word(say="Pass default_headers={'X-Title': ...}."),
    "app_categories": Word(say=f"The service does not rank applications. {_LEAVE}"),
    "openrouter_api_base": Word(say="The address is Chutes' own: leave it out, or pass another one as {base}=."),
    "openai_proxy": Word(say="Set HTTPS_PROXY, or pass {http} and {ahttp} made with proxy=..."),
    "http_socket_options": Word(
        free=((), []), say="Pass {http} made with transport=httpx.HTTPTransport(socket_options=...), and {ahttp}."
    ),
    **_rows(_CONNECTIONS, "client", "async_client", "root_client", "root_async_client"),
    **_rows(_CONNECTIONS, "openai_client", "async_openai_client"),
    **_rows(f"A key belongs to one account, and there are no organizations. {_LEAVE}", "organization"),
    **_rows(f"A key belongs to one account, and there are no organizations. {_LEAVE}", "openai_organization"),
    **_rows(_KEY, *_OTHERS_KEYS),
}

_CALLS: Mapping[str, Word] = {
    **_BOTH,
    "http_headers": Word("extra_headers"),
    "timeout_ms": Word(say="Pass timeout= in seconds."),
    "retries": Word(say="Pass max_retries= to the model: a call has no number of its own."),
    "http_referer": Word(say="Pass extra_headers={'HTTP-Referer': ...}."),
    "x_open_router_title": Word(say="Pass extra_headers={'X-Title': ...}."),
    "x_open_router_categories": Word(say=f"The service does not rank applications. {_LEAVE}"),
    "x_open_router_metadata": Word(say=_TRACE),
    "moderation": Word(say="The service moderates nothing: ask a model that does before, or check the answer."),
    "prediction": Word(say=f"The engines decide by themselves how they guess ahead. {_LEAVE}"),
    "debug": Word(free=(False, {}), say="Turn on the log of chutes_core, as docs/observability.md shows."),
    "shared_session": Word(say="Connections are pooled; for some of your own pass HTTP clients to the model."),
    "enable_json_schema_validation": Word(
        free=(True, False), say="An answer is checked against its form where you ask for an object."
    ),
    "include_server_side_tool_invocations": Word(free=(False,), say=f"The service runs no tools. {_LEAVE}"),
    "stop_server_tools_when": Word(say=f"The service runs no tools. {_LEAVE}"),
    "guided_regex": Word(
        say="The gateway has disabled regular expressions for answers: describe the format with a JSON schema instead."
    ),
    **{each: Word(say=_SETTING.format(name=each)) for each in ("api_key", "base_url", "max_retries")},
    **_rows("Pass base_url= to the model: a call has no address of its own.", "server_url", "api_base"),
    **_rows(_BY_METHOD, "stream", "messages", "model"),
}

_TERMS: Mapping[str, Mapping[str, str]] = {
    "call": {"tools": "pass tools=[...]", "mode": "response_format="},
    "langchain": {
        "base": "base_url",
        "http": "http_client=",
        "ahttp": "http_async_client=",
        "tools": "use bind_tools([...])",
        "mode": "with_structured_output(..., method=...)",
        "headers": "What the service's headers say is in response_metadata, by a name of its own.",
        "tokenizer": "pass custom_get_token_ids=",
        "window": "model.profile has its size",
    },
    "llama_index": {
        "base": "api_base",
        "http": "http_client=",
        "ahttp": "async_http_client=",
        "tools": "pass tools=[...], or use chat_with_tools",
        "mode": "pydantic_program_mode=",
        "headers": "What the service's headers say is in raw['chutes'].",
        "tokenizer": "set llama_index.core.Settings.tokenizer",
        "window": "context_window= makes it smaller",
    },
}


def _said(table: Mapping[str, Word], where: str, *taken: str) -> dict[str, Word]:
    """Return a table in the words of a framework, or of a call, without what is taken there as it is."""

    def told(text: str) -> str:
        for name, term in _TERMS[where].items():
            text = text.replace(f"{{{name}}}", term)
        return text

    return {name: Word(told(word.to), word.free, told(word.say)) for name, word in table.items() if name not in taken}


FIELDS: Mapping[Face, Mapping[str, Word]] = {
    "langchain": _said(_CONSTRUCTORS, "langchain", "base_url", "reasoning_effort"),
    "llama_index": _said(_CONSTRUCTORS, "llama_index", "api_base"),
}
"""What constructors are given, and is no field there, by framework."""
CALLS: Mapping[str, Word] = _said(_CALLS, "call")
"""What a call is given, and is no parameter of it here."""


def renames(table: Mapping[str, Word]) -> dict[str, str]:
    """Return the names here of what is only called something else.

    >>> renames(CALLS)["stop_sequences"]
    'stop'
    """
    return {name: word.to for name, word in table.items() if word.to}


def known_arguments(
    owner: str,
    given: Mapping[str, T],
    fields: Collection[str],
    table: Mapping[str, Word],
    *,
    unset: Collection[str] = (),
    advice: str = "",
) -> dict[str, T]:
    """Return what was given under the names of the fields; refuse any other argument, and say what to do.

    Args:
        owner: What takes the arguments.
        given: The arguments.
        fields: The names that it has for them.
        table: What other packages' arguments are here.
        unset: The fields for which None is as good as leaving them out.
        advice: What to say of one that is not known at all.

    >>> known_arguments("Chutes", {"model_name": "acme/one", "store": None}, ["model"], FIELDS["llama_index"])
    {'model': 'acme/one'}
    >>> known_arguments("Chutes", {"modle": "acme/one"}, ["model"], {})
    Traceback (most recent call last):
    chutes_core.errors.ConfigurationError: Chutes has no argument 'modle'. Did you mean 'model'?
    """
    taken: dict[str, T] = {}
    for name, value in given.items():
        word = _NONE if name in fields else table.get(name, _NONE)
        if word is not _NONE and word.is_free(value):
            continue
        known = word.to or name
        if known not in fields:
            said = [word.say] if word.say else [closest(name, [*fields, *renames(table)]), advice]
            raise ConfigurationError(" ".join(filter(None, (f"{owner} has no argument {name!r}.", *said))))
        if value is None and known in unset:
            continue
        if known in taken:
            raise ConfigurationError(f"{owner} was given {known!r} twice, once by another name for {known!r}.")
        taken[known] = value
    return taken


_NONE = Word()


def with_parameters(given: Mapping[str, object], parameters: Set[str], into: str) -> Mapping[str, object]:
    """Return what a constructor was given, with the parameters of requests that have no field in the one for others.

    >>> with_parameters({"model": "acme/one", "min_tokens": 3}, {"min_tokens"}, "model_kwargs")
    {'model': 'acme/one', 'model_kwargs': {'min_tokens': 3}}
    """
    if parameters.isdisjoint(given):
        return given
    loose = {name: value for name, value in given.items() if name in parameters}
    inner = given.get(into) or {}
    if not isinstance(inner, Mapping) or not loose.keys().isdisjoint(inner):
        raise ConfigurationError(f"{', '.join(loose)}: pass it once, by itself or in {into}.")
    return {**{name: given[name] for name in given if name not in loose}, into: {**inner, **loose}}


def closest(name: str, names: Iterable[str]) -> str:
    """Say which of the names was probably meant; empty if none is close."""
    from difflib import get_close_matches  # for a message that is seldom needed

    close = get_close_matches(name, names, n=1, cutoff=0.7)
    return f"Did you mean {close[0]!r}?" if close else ""
