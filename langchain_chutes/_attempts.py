"""One attempt: ask a member in its own way, and hand over chunks that can be trusted.

Our models check themselves. Those of other providers are held to time limits here, and an answer of theirs that is
empty, was cut, or ends in a broken tool call is a failure.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import Runnable, RunnableBinding, RunnableSequence

from chutes_core.errors import Kind
from chutes_core.failures import failure
from chutes_core.fallback import Try
from chutes_core.fallback.bounded import abounded, bounded
from chutes_core.usage import Usage
from langchain_chutes._forms import Form, ToolList
from langchain_chutes._members import Seat
from langchain_chutes._runs import Runs
from langchain_chutes._tools import tool_choice_param
from langchain_chutes.chat_models import ChatChutes

__all__ = ["Request", "aask", "ask", "shows", "usage"]

# What only the gateway understands.
_OURS = frozenset(
    {"min_p", "repetition_penalty", "length_penalty", "chat_template_kwargs", "structured_outputs"}
    | {"guided_json", "guided_choice", "guided_grammar"}
)
# Where these providers say that an answer is whole; of others it is not known whether they do.
_ENDINGS = {
    **dict.fromkeys(
        ("openai", "openrouter", "deepseek", "groq", "fireworks", "xai", "together"),
        ("finish_reason", "status"),
    ),
    "anthropic": ("stop_reason",),
}


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked of the fallback; every member gets it from here and not from the attempt before."""

    messages: Sequence[BaseMessage]
    stop: list[str] | None
    options: Mapping[str, Any]
    runs: Runs | None = None
    form: Form | None = field(default=None)


def shows(chunk: ChatGenerationChunk) -> bool:
    """Tell whether a chunk has something of an answer."""
    message = chunk.message
    return bool(
        message.content or message.tool_call_chunks or message.additional_kwargs.get("reasoning_content")  # type: ignore[attr-defined]
    )


def usage(chunk: ChatGenerationChunk) -> Usage | None:
    """The tokens that a chunk reports."""
    told = chunk.message.usage_metadata  # type: ignore[attr-defined]
    return Usage(told["input_tokens"], told["output_tokens"], told["total_tokens"]) if told else None


def ask(seat: Seat, step: Try, request: Request) -> Iterator[ChatGenerationChunk]:
    """Ask a member, blocking."""
    prepared = _Prepared(seat, step, request)
    if prepared.direct is not None:
        parts = prepared.direct._stream(list(request.messages), stop=request.stop, **prepared.options)
        if prepared.runs is not None:
            parts = prepared.runs.over(parts, seat.model, request.messages, stop=request.stop, **prepared.options)
    elif seat.own is not None:
        parts = prepared.stream()
    else:
        checked = _Checked(step.member.name)
        parts = checked.over(bounded(prepared.stream, step.limits, shows=shows, model=step.member.name))
    form = prepared.form
    return parts if form is None else form.over(parts, step.member.name)


def aask(seat: Seat, step: Try, request: Request) -> AsyncIterator[ChatGenerationChunk]:
    """Ask a member on the event loop."""
    prepared = _Prepared(seat, step, request)
    if prepared.direct is not None:
        parts = prepared.direct._astream(list(request.messages), stop=request.stop, **prepared.options)
        if prepared.runs is not None:
            parts = prepared.runs.aover(parts, seat.model, request.messages, stop=request.stop, **prepared.options)
    elif seat.own is not None:
        parts = prepared.astream()
    else:
        checked = _Checked(step.member.name)
        parts = checked.aover(abounded(prepared.astream, step.limits, shows=shows, model=step.member.name))
    form = prepared.form
    return parts if form is None else form.aover(parts, step.member.name)


class _Prepared:
    """A member with what it is to be asked, in its own way.

    Attributes:
        direct: One of our models with nothing of LangChain's around it: it is asked at once.
        runs: Where the attempt is told as a run of its own; None when nobody watches.
        options: What it is asked with.
        form: What its answer has to be checked against.
    """

    def __init__(self, seat: Seat, step: Try, request: Request) -> None:
        self._request = request
        self._config = request.runs.config if request.runs is not None else None
        self.runs = request.runs if self._config is not None else None
        options = dict(request.options)
        model: Runnable[Any, Any]
        try:
            model, self.options = (
                _bind_ours(seat.own, options, request.form)
                if seat.own is not None
                else _bind_foreign(seat.model, options, request.form)
            )
        except (NotImplementedError, TypeError, ValueError) as problem:
            if seat.own is not None:
                raise
            raise failure(Kind.UNSUPPORTED, str(problem), model=step.member.name) from problem
        self.direct: ChatChutes | None = None
        if seat.own is not None:
            self.options["timeout"] = seat.limits(step.limits)
            own = seat.own
            if own.rate_limiter is None and not own.callbacks and not own.verbose:
                self.options.pop("ls_structured_output_format", None)
                self.direct = own
        self._model = model
        strict = request.form is not None and not request.form.include_raw
        self.form = request.form if strict else None

    def stream(self) -> Iterator[ChatGenerationChunk]:
        request = self._request
        for message in self._model.stream(list(request.messages), self._config, stop=request.stop, **self.options):
            yield _chunk(message)

    async def astream(self) -> AsyncIterator[ChatGenerationChunk]:
        request = self._request
        async for message in self._model.astream(
            list(request.messages), self._config, stop=request.stop, **self.options
        ):
            yield _chunk(message)


def _bind_ours(
    model: ChatChutes, options: dict[str, Any], form: Form | None
) -> tuple[Runnable[Any, Any], dict[str, Any]]:
    if form is not None:
        asked = _first(model.with_structured_output(form.schema, **form.wish(model)))
        return model, {**_kwargs(asked), **options}
    tools = options.get("tools")
    if isinstance(choice := options.get("tool_choice"), str | bool | Mapping) and tools:
        names = [str(tool.get("function", tool).get("name")) for tool in tools if isinstance(tool, Mapping)]
        options["tool_choice"] = tool_choice_param(choice, names)
        if options["tool_choice"] is None:
            del options["tool_choice"]
    return model, options


def _bind_foreign(
    model: BaseChatModel, options: dict[str, Any], form: Form | None
) -> tuple[Runnable[Any, Any], dict[str, Any]]:
    options = {name: value for name, value in options.items() if name not in _OURS}
    if isinstance(options.get("reasoning"), bool | str):
        del options["reasoning"]
    if form is not None:
        return _first(model.with_structured_output(cast("type", form.schema), **form.wish(model))), options
    tools = options.pop("tools", None)
    choice = options.pop("tool_choice", None)
    if not tools:
        return model, options
    given: dict[str, Any] = {}
    if choice is not None and choice is not False:
        given["tool_choice"] = _name(choice)
    parameters = inspect.signature(model.bind_tools).parameters
    wishes = {"strict": getattr(tools, "strict", None), "parallel_tool_calls": options.pop("parallel_tool_calls", None)}
    given |= {name: value for name, value in wishes.items() if value is not None and name in parameters}
    raw = tools.raw if isinstance(tools, ToolList) else tools
    return model.bind_tools(cast("list[dict[str, Any]]", list(raw)), **given), options


def _name(choice: object) -> object:
    """A choice of a tool in the form that every provider's model takes."""
    if choice is True:
        return "any"
    if isinstance(choice, Mapping):
        function = choice.get("function")
        return function.get("name", choice) if isinstance(function, Mapping) else dict(choice)
    return "any" if choice == "required" else choice


def _first(runnable: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """The model of a chain that a model made for answers of a given form, without its parser."""
    return runnable.first if isinstance(runnable, RunnableSequence) else runnable


def _kwargs(bound: Runnable[Any, Any]) -> Mapping[str, Any]:
    return bound.kwargs if isinstance(bound, RunnableBinding) else {}


def _chunk(message: BaseMessage) -> ChatGenerationChunk:
    """A message of a member's run as a chunk of ours."""
    if not isinstance(message, AIMessageChunk):
        assert isinstance(message, AIMessage)
        # A model that does not stream gives its answer in one piece.
        message = AIMessageChunk(
            content=message.content,
            additional_kwargs=message.additional_kwargs,
            response_metadata=message.response_metadata,
            tool_calls=message.tool_calls,
            usage_metadata=message.usage_metadata,
            id=message.id,
            chunk_position="last",
        )
    if message.id is not None and message.id.startswith("lc_"):
        message.id = None  # it is the attempt's run, and the answer is that of ours
    return ChatGenerationChunk(message=message)


class _Checked:
    """Looks at the answer of a model that does not look at it itself."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._said = False
        self._told: dict[str, Any] = {}
        self._calls: dict[object, str] = {}

    def over(self, parts: Iterator[ChatGenerationChunk]) -> Iterator[ChatGenerationChunk]:
        for part in parts:
            self._see(part)
            yield part
        self._end()

    async def aover(self, parts: AsyncIterator[ChatGenerationChunk]) -> AsyncIterator[ChatGenerationChunk]:
        async for part in parts:
            self._see(part)
            yield part
        self._end()

    def _see(self, part: ChatGenerationChunk) -> None:
        message = part.message
        self._said = self._said or shows(part)
        if message.response_metadata:
            self._told.update(message.response_metadata)
        for number, piece in enumerate(message.tool_call_chunks):  # type: ignore[attr-defined]
            index = piece.get("index")
            key = ("last", number) if index is None else index
            self._calls[key] = self._calls.get(key, "") + (piece.get("args") or "")

    def _end(self) -> None:
        if not self._said:
            raise failure(Kind.EMPTY, model=self._model)
        endings = _ENDINGS.get(str(self._told.get("model_provider")))
        if endings is not None and not any(self._told.get(name) for name in endings):
            raise failure(Kind.TRUNCATED, model=self._model)
        for arguments in self._calls.values():
            try:
                json.loads(arguments or "{}", strict=False)
            except ValueError:
                raise failure(Kind.MALFORMED, "a tool call was cut", model=self._model) from None
