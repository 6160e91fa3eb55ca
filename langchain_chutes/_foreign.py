"""Other providers' chat models as fallback members, whose answers are checked here.

Requests go through their own ``bind_tools`` and ``with_structured_output``. An answer that is empty, truncated, or
ends in a broken tool call counts as a failure.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, InvalidToolCall
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import Runnable

from chutes_core.errors import Kind
from chutes_core.failures.reading import failure
from langchain_chutes._forms import Form, ToolList, asked_of
from langchain_chutes._parts import Part, shows
from langchain_chutes._schemas import titled
from langchain_chutes._tool_pieces import spoiled

__all__ = ["Checked", "as_chunk", "bind_foreign", "blocks"]

# Options that only the gateway understands.
_OURS = frozenset(
    {"min_p", "repetition_penalty", "length_penalty", "chat_template_kwargs", "structured_outputs"}
    | {"guided_json", "guided_choice", "guided_grammar"}
)
# Where these providers report that an answer is complete; others may not.
_ENDINGS = {
    **dict.fromkeys(
        ("openai", "openrouter", "deepseek", "groq", "fireworks", "xai", "together"),
        ("finish_reason", "status"),
    ),
    "anthropic": ("stop_reason",),
}


def blocks(model: BaseChatModel) -> bool:
    """Return whether a model has only blocking calls, which LangChain would run in the event loop's executor."""
    cls = type(model)
    return cls._astream is BaseChatModel._astream and cls._agenerate is BaseChatModel._agenerate


def bind_foreign(
    model: BaseChatModel, options: dict[str, Any], form: Form | None
) -> tuple[Runnable[Any, Any], dict[str, Any]]:
    """Bind tools or structured output to a model in its own way; return it with the remaining call options."""
    options = {name: value for name, value in options.items() if name not in _OURS}
    if isinstance(options.get("reasoning"), bool | str):
        del options["reasoning"]
    if form is not None:
        schema = cast("type", form.schema and titled(form.schema))
        return asked_of(model.with_structured_output(schema, **form.wish(model))), options
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
    """Return a tool choice in the form that every provider accepts."""
    if choice is True:
        return "any"
    if isinstance(choice, Mapping):
        function = choice.get("function")
        return function.get("name", choice) if isinstance(function, Mapping) else dict(choice)
    return "any" if choice == "required" else choice


def as_chunk(message: BaseMessage) -> ChatGenerationChunk:
    """Convert a message from a member's run to a chunk of the fallback's."""
    if not isinstance(message, AIMessageChunk):
        assert isinstance(message, AIMessage)
        # A model that does not stream returns its answer in one piece.
        message = AIMessageChunk(
            content=message.content,
            additional_kwargs=message.additional_kwargs,
            response_metadata=message.response_metadata,
            tool_calls=message.tool_calls,
            invalid_tool_calls=[_invalid(made) for made in message.invalid_tool_calls],
            usage_metadata=message.usage_metadata,
            id=message.id,
            chunk_position="last",
        )
    if message.id is not None and message.id.startswith("lc_"):
        message.id = None  # it names the attempt's run, but the answer belongs to the fallback's
    return ChatGenerationChunk(message=message)


def _invalid(made: InvalidToolCall) -> InvalidToolCall:
    """Mark a tool call as invalid, so that adding up chunks does not make it a valid one."""
    return {**made, "args": spoiled(made["args"] or "")}


class Checked:
    """Checks the answer of another provider's model and ends it as a Chutes model would.

    The model name and other metadata come only with the last chunk, because LangChain concatenates names and lists
    across chunks.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._said = False
        self._told: dict[str, Any] = {}
        self._last: dict[str, Any] = {}
        self._calls: dict[object, list[str]] = {}

    def see(self, part: Part) -> Part:
        """Check a chunk, and hold back what must come last."""
        message = cast("AIMessageChunk", part.message)
        self._said = self._said or shows(part)
        for number, piece in enumerate(message.tool_call_chunks):
            index = piece.get("index")
            key = ("last", number) if index is None else index
            self._calls.setdefault(key, []).append(piece.get("args") or "")
        told = message.response_metadata
        self._told.update(told)
        last = message.chunk_position == "last"
        if "model_name" not in told and not last:
            return part
        if last:
            self._last = told
        kept = {} if last else {name: value for name, value in told.items() if name != "model_name"}
        # The model's own run adds up these same objects, so do not change them.
        return ChatGenerationChunk(
            message=message.model_copy(update={"response_metadata": kept, "chunk_position": None})
        )

    def end(self) -> Iterator[Part]:
        """End the answer, or raise if it is incomplete."""
        if not self._said:
            raise failure(Kind.EMPTY, model=self._model)
        endings = _ENDINGS.get(str(self._told.get("model_provider")))
        if endings is not None and not any(self._told.get(name) for name in endings):
            raise failure(Kind.TRUNCATED, model=self._model)
        for pieces in self._calls.values():
            try:
                whole = isinstance(json.loads("".join(pieces) or "{}", strict=False), dict)
            except (ValueError, RecursionError):
                whole = False
            if not whole:
                raise failure(Kind.MALFORMED, "a tool call was cut, or is not valid", model=self._model)
        name = self._told.get("model_name")
        told = {**self._last, "model_name": name} if name else self._last
        yield ChatGenerationChunk(message=AIMessageChunk(content="", response_metadata=told, chunk_position="last"))
