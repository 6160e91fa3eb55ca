"""Build a chat request that Chutes accepts: a pure function from the caller's parameters to the request body.

Whatever OpenAI clients send that the gateway refuses, ignores or interprets differently is fixed here, once for both
frameworks. Nothing is invented: a parameter that was not given is not sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypedDict

from chutes_core.catalog.model_info import ModelInfo
from chutes_core.catalog.names import ModelRef
from chutes_core.errors import RequestRefusedError
from chutes_core.peers import CALLS, Word, closest
from chutes_core.request.messages import Message, fit_messages, prompt_bytes
from chutes_core.request.schema import by_reference, is_refused, without_patterns

__all__ = ["ChatParams", "ChatRequest", "build_chat_request", "effort_of"]

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
OnLength = Literal["keep", "raise"]
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


class ChatParams(TypedDict, total=False):
    """The parameters of a chat call; each is sent only if given.

    Three are this library's own: ``reasoning`` (True, False or an effort, for every model that can think; OpenAI's
    ``{"effort": ...}`` is one too); ``on_length``: with ``"raise"`` an answer that reaches ``max_tokens`` is an error,
    which has what there is in ``.partial``; with ``"keep"``, the default, that is returned; and ``trace``: with True
    the gateway tells which machines it asks, in ``reply.meta.trace`` and to ``hooks.on_trace``. ``extra_headers`` and
    ``extra_query`` are not sent in the body. Parameters not in this list go into ``extra_body``.
    """

    max_tokens: int | None
    max_completion_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    min_tokens: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    repetition_penalty: float | None
    length_penalty: float | None
    stop: str | Sequence[str] | None
    stop_token_ids: Sequence[int] | None
    include_stop_str_in_output: bool | None
    ignore_eos: bool | None
    skip_special_tokens: bool | None
    spaces_between_special_tokens: bool | None
    seed: int | None
    n: int | None
    best_of: int | None
    logit_bias: Mapping[str, float] | None
    logprobs: bool | None
    top_logprobs: int | None
    user: str | None
    tools: Sequence[Mapping[str, object]] | None
    tool_choice: str | Mapping[str, object] | None
    parallel_tool_calls: bool | None
    response_format: Mapping[str, object] | None
    guided_json: Mapping[str, object] | None
    guided_choice: Sequence[str] | None
    guided_grammar: str | None
    structured_outputs: Mapping[str, object] | None
    chat_template_kwargs: Mapping[str, object] | None
    continue_final_message: bool | None
    add_generation_prompt: bool | None
    reasoning: bool | Effort | Mapping[str, object] | None
    reasoning_effort: Effort | None
    stream_options: Mapping[str, object] | None
    store: bool | None
    metadata: Mapping[str, str] | None
    extra_body: Mapping[str, object] | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, str] | None
    on_length: OnLength | None
    trace: bool | None


_KNOWN = frozenset(ChatParams.__annotations__)
_REGEX = CALLS["guided_regex"].say


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request ready to be sent, and what is needed to read its answer.

    Attributes:
        model: The model string sent.
        body: The JSON body.
        notes: What was changed or will be lost, as sentences for a warning.
        choices: How many answers were requested.
        allow_empty: Whether an empty answer is valid.
        refuse_cut: Whether an answer that reached ``max_tokens`` is none.
        trace: Whether the gateway is asked to tell what it does.
        starts_thinking: Whether the answer begins inside the reasoning, without an opening tag.
        infos: The catalogue entries of the models that may answer.
        headers: Headers of this request.
        query: What is added to its address.
    """

    model: str
    body: dict[str, object]
    notes: tuple[str, ...] = ()
    choices: int = 1
    allow_empty: bool = False
    refuse_cut: bool = False
    trace: bool = False
    starts_thinking: bool = False
    infos: Sequence[ModelInfo] = ()
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    query: Mapping[str, str] | None = field(default=None, repr=False)

    @property
    def stream(self) -> bool:
        """Whether a stream was requested."""
        return bool(self.body["stream"])


def build_chat_request(
    messages: Sequence[Message],
    model: str,
    params: ChatParams | Mapping[str, object],
    *,
    stream: bool = False,
    infos: Sequence[ModelInfo] = (),
    inline: bool = False,
) -> ChatRequest:
    """Build the request for a chat call.

    Args:
        messages: The conversation in OpenAI's format.
        model: A model, a routing list, or an alias.
        params: The given parameters; unknown ones are refused.
        stream: Whether to request a stream.
        infos: The catalogue entries of the models that may answer.
        inline: Remote images will be fetched here, so the gateway's limit on them does not apply.

    >>> request = build_chat_request([{"role": "user", "content": "Hi"}], "acme/one", {"max_completion_tokens": 9})
    >>> request.body
    {'model': 'acme/one', 'messages': [{'role': 'user', 'content': 'Hi'}], 'max_tokens': 9, 'stream': False}
    """
    given = {
        name: value
        for name, value in params.items()
        if (name in _KNOWN or _is_known(name, value)) and value is not None
    }
    ref = ModelRef((model,)) if any(info.id == model for info in infos) else ModelRef.parse(model)
    ref = replace(ref, names=tuple(_canonical(name, infos) for name in ref.names))
    notes: list[str] = []
    single_system = any(info.traits.single_system for info in infos)
    fitted = fit_messages(messages, single_system=single_system, inline=inline)
    body: dict[str, object] = {"model": ref.wire, "messages": fitted}
    extra = given.pop("extra_body", {})
    if not isinstance(extra, Mapping):
        raise RequestRefusedError("extra_body must be a mapping of the fields to add to the request.")
    headers, query = given.pop("extra_headers", None), given.pop("extra_query", None)
    given.pop("store", None)
    cut = given.pop("on_length", "keep")
    if cut not in ("keep", "raise"):
        raise RequestRefusedError(f"on_length must be 'keep' or 'raise', not {cut!r}.")
    trace = given.pop("trace", False)
    if not isinstance(trace, bool):
        raise RequestRefusedError(f"trace must be True or False, not {trace!r}.")
    _thinking(given, ref)
    _max_tokens(given, fitted, infos, notes)
    _schemas(given, notes)
    if "tools" in given and not given["tools"]:
        # Engines refuse an empty list, and tool_choice or parallel_tool_calls without tools.
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            given.pop(name, None)
    if given.get("logprobs") or given.get("top_logprobs"):
        notes.append("The gateway omits logprobs from its answers; a model's own host may send them.")
    body.update(given)
    if isinstance(stop := body.get("stop"), tuple):
        body["stop"] = list(stop)
    body["stream"] = stream
    if stream:
        body.setdefault("stream_options", {"include_usage": True})
    else:
        body.pop("stream_options", None)
    _add(body, extra)
    return ChatRequest(
        ref.wire,
        body,
        tuple(notes),
        choices=_count(body.get("n", 1)),
        allow_empty=bool(body.get("stop") or body.get("stop_token_ids")),
        refuse_cut=cut == "raise",
        trace=trace,
        starts_thinking=starts_thinking(body, infos),
        infos=infos if body["model"] == ref.wire else (),  # extra_body may name another
        headers=headers,  # type: ignore[arg-type]  # who sends them checks them
        query=query,  # type: ignore[arg-type]
    )


def _add(body: dict[str, object], extra: Mapping[str, object]) -> None:
    """Add the caller's extra fields. Template arguments are merged with those already set, not replaced."""
    for key, value in extra.items():
        chosen = body.get(key) if key == "chat_template_kwargs" else None
        if isinstance(chosen, Mapping) and isinstance(value, Mapping):
            body[key] = {**chosen, **value}
        elif key != "stream":
            body[key] = value


def _canonical(name: str, infos: Sequence[ModelInfo]) -> str:
    """Return a name in the service's spelling: it is case-sensitive, and needs ``-TEE`` in lists."""
    if any(info.id == name for info in infos):
        return name
    lowered = name.lower()
    return next((info.id for info in infos if info.id.lower() in (lowered, f"{lowered}-tee")), name)


def _is_known(name: str, value: object) -> bool:
    """Return False for a foreign parameter with which nothing changes; refuse any other."""
    word = CALLS.get(name, _OTHER)
    if word is not _OTHER and word.is_free(value):
        return False
    if word is _OTHER:
        hint = f"{closest(name, _KNOWN)} To send it all the same: extra_body={{{name!r}: ...}}.".lstrip()
    else:
        hint = word.say or f"It is called {word.to!r} here."
    raise RequestRefusedError(f"Unknown parameter {name!r}. {hint}")


_OTHER = Word()


def effort_of(wish: object) -> object:
    """Return what other packages' way to ask for reasoning asks for; any other value as it is.

    >>> effort_of({"effort": "low"}), effort_of({"enabled": False}), effort_of(True)
    ('low', False, True)
    """
    if not isinstance(wish, Mapping):
        return wish
    given = {name: value for name, value in wish.items() if value is not None and (name, value) != ("exclude", False)}
    for name in given:
        if name not in ("effort", "enabled"):
            raise RequestRefusedError(_NOT_IN_REASONING.get(str(name), f"reasoning has no {name!r}: pass its effort."))
    effort, on = given.get("effort"), given.get("enabled")
    return effort if effort is not None and on is not False else on


_NOT_IN_REASONING = {
    **dict.fromkeys(
        ("summary", "generate_summary"),
        "reasoning has no summary here: what the model thinks is returned as it is. Pass its effort alone.",
    ),
    "max_tokens": "Thoughts have no limit of their own: limit the answer with max_tokens, or pass reasoning's effort.",
    "exclude": "What the model thinks is returned beside the answer: do not show it, or pass reasoning=False.",
}


def _thinking(given: dict[str, object], ref: ModelRef) -> None:
    """Convert every way of requesting reasoning to the one that all hosts of the service read."""
    wish, effort = effort_of(given.pop("reasoning", None)), given.pop("reasoning_effort", None)
    if wish is not None and not isinstance(wish, bool) and wish not in _EFFORTS:
        raise RequestRefusedError(f"reasoning must be True, False or one of {', '.join(_EFFORTS)}, not {wish!r}.")
    if effort is not None and effort not in _EFFORTS:
        raise RequestRefusedError(f"reasoning_effort must be one of {', '.join(_EFFORTS)}, not {effort!r}.")
    if None not in (wish, effort) and wish not in (effort, effort != "none"):
        raise RequestRefusedError(f"reasoning={wish!r} and reasoning_effort={effort!r} contradict: give one.")
    chosen = given.get("chat_template_kwargs", {})
    if not isinstance(chosen, Mapping):
        raise RequestRefusedError("chat_template_kwargs must be a mapping of what the model's template reads.")
    wish = effort or wish
    if wish is None and not ref.thinking:
        return
    on = wish not in (False, "none")
    level = {"reasoning_effort": wish} if on and isinstance(wish, str) else {}
    given["chat_template_kwargs"] = {"thinking": on, "enable_thinking": on, **level, **chosen}


def _max_tokens(
    given: dict[str, object], messages: Sequence[Message], infos: Sequence[ModelInfo], notes: list[str]
) -> None:
    """Use the parameter name that the gateway reads, and clamp it to the limits of every model that may answer."""
    modern = given.pop("max_completion_tokens", None)
    if modern is not None and given.setdefault("max_tokens", modern) != modern:
        raise RequestRefusedError("max_tokens and max_completion_tokens mean the same here but differ: give one.")
    wanted = given.get("max_tokens")
    if wanted is None:
        return
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise RequestRefusedError(f"max_tokens must be a positive whole number, not {wanted!r}.")
    # Three bytes per token overestimates the prompt in most languages, so the rest is sure to fit.
    tools = json.dumps(given["tools"], default=str) if given.get("tools") else ""
    prompt = (prompt_bytes(messages) + len(tools)) // 3 + 8 * len(messages)
    limits = [info.max_output for info in infos if info.max_output]
    limits += [info.context_length - prompt for info in infos if info.context_length and info.context_length > prompt]
    if limits and wanted > min(limits):
        given["max_tokens"] = min(limits)
        notes.append(
            f"max_tokens={wanted} is more than the model can generate after this prompt; {min(limits)} is sent instead."
        )


def _schemas(given: dict[str, object], notes: list[str]) -> None:
    """Remove from the answer's schemas what the gateway refuses; raise for what cannot be removed."""
    structured = given.get("structured_outputs")
    if isinstance(structured, Mapping) and structured.get("regex"):
        raise RequestRefusedError(_REGEX)
    removed = 0
    for name in ("response_format", "guided_json", "structured_outputs"):
        if name in given:
            given[name], count = without_patterns(given[name])
            removed += count
    if removed:
        notes.append(
            f"A 'pattern' in a JSON schema can crash an engine, and the gateway refuses some, so {removed} of them "
            f"{'was' if removed == 1 else 'were'} removed: the model does not know of them. Structured output "
            "and the answers of a fallback are checked against them all the same."
        )
    form = given.get("response_format")
    if isinstance(form, Mapping) and isinstance(described := form.get("json_schema"), Mapping):
        given["response_format"] = {**form, "json_schema": _taken(described, "schema", notes)}
    if isinstance(structured := given.get("structured_outputs"), Mapping):
        given["structured_outputs"] = _taken(structured, "json", notes)


def _taken(given: Mapping[str, object], name: str, notes: list[str]) -> Mapping[str, object]:
    """Write the schema of this name so that the gateway takes it."""
    if not is_refused(given.get(name)):
        return given
    schema = by_reference(given[name])
    if is_refused(schema):
        notes.append(
            "The gateway refuses this schema, since it takes a property named 'pattern' for a regular expression: "
            "rename it, or ask for the object by a tool call."
        )
    return {**given, name: schema}


def starts_thinking(body: Mapping[str, object], infos: Sequence[ModelInfo]) -> bool:
    """Return whether the answer begins inside the reasoning; one with a fixed format, or that goes on, does not."""
    if body.get("continue_final_message"):
        return False
    if any(body.get(name) for name in ("response_format", "guided_json", "guided_choice", "structured_outputs")):
        return False
    return bool(infos) and all(info.traits.starts_thinking is True for info in infos)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RequestRefusedError(f"n must be a positive whole number, not {value!r}.")
    return value
