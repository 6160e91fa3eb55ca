"""A chat request made fit for Chutes: a pure function from what a caller says to what is sent.

What OpenAI's clients send and the gateway refuses, ignores or reads otherwise is put right here, once for
both frameworks. Nothing is invented: a parameter that was not given is not sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypedDict

from chutes_core.conversation import Message, fit_messages, prompt_bytes
from chutes_core.errors import RequestRefusedError
from chutes_core.model_info import ModelInfo, traits_for
from chutes_core.schema import without_patterns

if TYPE_CHECKING:
    from chutes_core.catalog import Catalog

__all__ = ["ChatParams", "ChatRequest", "ModelRef", "build_chat_request", "check_model", "model_infos"]

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


class ChatParams(TypedDict, total=False):
    """The parameters of a chat call; each is sent only when it is given.

    ``reasoning`` is this library's own: True, False or an effort, for every model that can think. What is
    not in this list travels in ``extra_body``.
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
    reasoning: bool | Effort | None
    reasoning_effort: Effort | None
    stream_options: Mapping[str, object] | None
    store: bool | None
    metadata: Mapping[str, str] | None
    extra_body: Mapping[str, object] | None


_KNOWN = frozenset(ChatParams.__annotations__)
_REGEX = "The gateway has regular expressions for answers switched off: describe the form with a JSON schema instead."


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model string, understood: one model, or a routing list that the gateway works through.

    >>> ModelRef.parse("a/one, b/two:latency")
    ModelRef(names=('a/one', 'b/two'), strategy='latency', thinking=False)
    >>> ModelRef.parse("a/one:THINKING").wire
    'a/one'
    """

    names: tuple[str, ...]
    strategy: str | None = None
    thinking: bool = False

    @classmethod
    def parse(cls, model: str) -> ModelRef:
        """Read a model string: ``name``, ``a,b,c``, either with ``:latency``, ``:throughput`` or ``:THINKING``.

        The gateway knows ``:THINKING`` only at the very end of a single name; here it may stand with a
        list or a strategy too, because it is turned into the switch in the body.
        """
        check_model(model)
        rest, strategy, thinking = model.strip(), None, False
        while True:
            head, colon, suffix = rest.rpartition(":")
            if colon and suffix == "THINKING":
                rest, thinking = head, True
            elif colon and suffix.lower() in ("latency", "throughput") and strategy is None:
                rest, strategy = head, suffix.lower()
            else:
                break
        names = [name.strip() for name in rest.split(",") if name.strip()]
        marked = [name for name in names if name.endswith(":THINKING")]
        if marked and not thinking and len(marked) != len(names):
            raise RequestRefusedError("':THINKING' holds for a whole request: put it at the end of the list.")
        if not names:
            raise RequestRefusedError(f"The model string {model!r} names no model.")
        unmarked = dict.fromkeys(name.removesuffix(":THINKING") for name in names)
        return cls(tuple(unmarked), strategy, thinking or bool(marked))

    @property
    def wire(self) -> str:
        """The string as it is sent."""
        return ",".join(self.names) + (f":{self.strategy}" if self.strategy else "")

    @property
    def routed(self) -> bool:
        """Whether the gateway chooses among several models."""
        return len(self.names) > 1 or self.strategy is not None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that is ready to be sent, and what has to be known to read its answer.

    Attributes:
        model: The model string as it is sent.
        body: The JSON body.
        notes: What was changed or will be lost, as sentences for a warning.
        choices: How many answers were asked for.
        allow_empty: Whether an answer without a word is a valid one.
        starts_thinking: Whether the answer begins inside the reasoning, without an opening tag.
    """

    model: str
    body: dict[str, object]
    notes: tuple[str, ...] = ()
    choices: int = 1
    allow_empty: bool = False
    starts_thinking: bool = False

    @property
    def stream(self) -> bool:
        """Whether the answer is asked for as a stream."""
        return bool(self.body["stream"])


def check_model(model: object) -> None:
    """Refuse what is no name of a model."""
    if not isinstance(model, str) or not model.strip():
        raise RequestRefusedError(f"model must be the name of a model, such as 'Qwen/Qwen3-32B-TEE', not {model!r}.")


def model_infos(catalog: Catalog, model: str) -> list[ModelInfo]:
    """Return what is known of each model that may answer; of an unknown one, what its family is known for.

    >>> from chutes_core import Catalog
    >>> model_infos(Catalog.bundled(), "Qwen/Qwen3-32B-TEE, acme/one")
    [<ModelInfo Qwen/Qwen3-32B-TEE: ...>, <ModelInfo acme/one: chat>]
    """
    check_model(model)
    whole = catalog.get(model)
    names = (model,) if whole is not None else ModelRef.parse(model).names
    return [catalog.get(name) or _unlisted(name) for name in names]


@lru_cache(maxsize=256)
def _unlisted(name: str) -> ModelInfo:
    return ModelInfo(id=name, traits=traits_for(name))


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
        messages: The conversation in OpenAI's form.
        model: A model, a routing list, or an alias.
        params: The parameters that were given; unknown ones are refused.
        stream: Whether to ask for a stream.
        infos: What the catalogue knows of the models that may answer.
        inline: Remote images will be fetched here, so the gateway's limit on them does not hold.

    >>> request = build_chat_request([{"role": "user", "content": "Hi"}], "acme/one", {"max_completion_tokens": 9})
    >>> request.body
    {'model': 'acme/one', 'messages': [{'role': 'user', 'content': 'Hi'}], 'max_tokens': 9, 'stream': False}
    """
    _refuse_unknown(params)
    given = {name: value for name, value in params.items() if value is not None}
    ref = ModelRef((model,)) if any(info.id == model for info in infos) else ModelRef.parse(model)
    ref = replace(ref, names=tuple(_canonical(name, infos) for name in ref.names))
    notes: list[str] = []
    single_system = any(info.traits.single_system for info in infos)
    fitted = fit_messages(messages, single_system=single_system, inline=inline)
    body: dict[str, object] = {"model": ref.wire, "messages": fitted}
    extra = given.pop("extra_body", {})
    if not isinstance(extra, Mapping):
        raise RequestRefusedError("extra_body must be a mapping of the fields to add to the request.")
    given.pop("store", None)
    _thinking(given, ref)
    _max_tokens(given, fitted, infos, notes)
    _schemas(given, notes)
    if "tools" in given and not given["tools"]:
        # Engines refuse an empty list, and a choice or parallel calls without tools.
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            given.pop(name, None)
    if given.get("logprobs") or given.get("top_logprobs"):
        notes.append("The gateway leaves logprobs out of its answers; a model's own host may send them.")
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
        starts_thinking=_starts_thinking(body, infos),
    )


def _add(body: dict[str, object], extra: Mapping[str, object]) -> None:
    """Add the caller's own fields. Switches of the template are added to those chosen, not put in their place."""
    for key, value in extra.items():
        chosen = body.get(key) if key == "chat_template_kwargs" else None
        if isinstance(chosen, Mapping) and isinstance(value, Mapping):
            body[key] = {**chosen, **value}
        elif key != "stream":
            body[key] = value


def _canonical(name: str, infos: Sequence[ModelInfo]) -> str:
    """Spell a name as the service does: it knows no other case, and in lists no name without its ``-TEE``."""
    if any(info.id == name for info in infos):
        return name
    lowered = name.lower()
    return next((info.id for info in infos if info.id.lower() in (lowered, f"{lowered}-tee")), name)


def _refuse_unknown(params: Mapping[str, object]) -> None:
    for name in params:
        if name in _KNOWN:
            continue
        if name in ("stream", "model", "messages"):
            raise RequestRefusedError(f"{name!r} is not a parameter here: the method you call decides it.")
        if name == "guided_regex":
            raise RequestRefusedError(_REGEX)
        close = get_close_matches(name, _KNOWN, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise RequestRefusedError(
            f"Unknown parameter {name!r}. {hint}To send it all the same: extra_body={{{name!r}: ...}}."
        )


def _thinking(given: dict[str, object], ref: ModelRef) -> None:
    """Turn every way to ask for reasoning into the one the service reads on all its hosts."""
    wish, effort = given.pop("reasoning", None), given.pop("reasoning_effort", None)
    if wish is not None and not isinstance(wish, bool) and wish not in _EFFORTS:
        raise RequestRefusedError(f"reasoning must be True, False or one of {', '.join(_EFFORTS)}, not {wish!r}.")
    if effort is not None and effort not in _EFFORTS:
        raise RequestRefusedError(f"reasoning_effort must be one of {', '.join(_EFFORTS)}, not {effort!r}.")
    if None not in (wish, effort) and wish not in (effort, effort != "none"):
        raise RequestRefusedError(f"reasoning={wish!r} and reasoning_effort={effort!r} disagree: give one.")
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
    """Use the one name the gateway reads, and keep within what every model that may answer can give."""
    modern = given.pop("max_completion_tokens", None)
    if modern is not None and given.setdefault("max_tokens", modern) != modern:
        raise RequestRefusedError("max_tokens and max_completion_tokens are one thing here and disagree: give one.")
    wanted = given.get("max_tokens")
    if wanted is None:
        return
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise RequestRefusedError(f"max_tokens must be a positive whole number, not {wanted!r}.")
    # Three bytes a token is a high guess for the prompt in most languages, so what remains surely fits.
    tools = json.dumps(given["tools"], default=str) if given.get("tools") else ""
    prompt = (prompt_bytes(messages) + len(tools)) // 3 + 8 * len(messages)
    limits = [info.max_output for info in infos if info.max_output]
    limits += [info.context_length - prompt for info in infos if info.context_length and info.context_length > prompt]
    if limits and wanted > min(limits):
        given["max_tokens"] = min(limits)
        notes.append(
            f"max_tokens={wanted} is more than the model can give after this prompt; {min(limits)} is sent instead."
        )


def _schemas(given: dict[str, object], notes: list[str]) -> None:
    """Take out of the schemas of an answer what the gateway refuses; refuse what cannot be taken out."""
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
            f"The gateway refuses 'pattern' in a JSON schema, so {removed} of them {'was' if removed == 1 else 'were'} "
            "taken out: check the answer against them yourself."
        )


def _starts_thinking(body: Mapping[str, object], infos: Sequence[ModelInfo]) -> bool:
    """Tell whether the answer begins inside the reasoning: an answer of a fixed form does not."""
    if any(body.get(name) for name in ("response_format", "guided_json", "guided_choice", "structured_outputs")):
        return False
    return bool(infos) and all(info.traits.starts_thinking is True for info in infos)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RequestRefusedError(f"n must be a positive whole number, not {value!r}.")
    return value
