"""Other providers' models as fallback members: how they are asked, and how their chunks are read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.instrumentation.span import active_span_id
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM
from llama_index.core.prompts import ChatPromptTemplate

from chutes_core import Kind, Reply, Usage
from chutes_core.failures.reading import failure
from chutes_core.fallback import carried
from chutes_core.fallback.bounded import ending, inside
from chutes_core.fallback.carried import Carried, CarriedReply, check_whole, finish_reasons, value_of
from chutes_core.request.tools import Toolbox
from llama_index_chutes._convert.unusable import arrived, usage_of
from llama_index_chutes.fallback.wanted import Wanted

if TYPE_CHECKING:
    from llama_index.core.tools.types import BaseTool

__all__ = ["Question", "has_calls"]


@dataclass(frozen=True, slots=True)
class Question(carried.Question[ChatResponse]):
    """A request to another provider's model."""

    llm: LLM
    messages: Sequence[ChatMessage]
    params: Mapping[str, Any]
    wanted: Wanted | None
    streams: bool
    span_id: str | None

    @property
    def blocks(self) -> bool:
        """Whether the model has only blocking calls."""
        # Where it is defined: what an attribute of the class gives is wrapped anew at every look.
        return next(cls for cls in type(self.llm).__mro__ if "astream_chat" in vars(cls)) is CustomLLM

    def fetch(self) -> Generator[ChatResponse, None, None]:
        """Ask the model, and yield its chunks."""
        active_span_id.set(self.span_id)  # this runs in its own thread and context
        way, begun = _way(self), False
        with _sensing(self):
            try:
                if way.streams:
                    for given in getattr(self.llm, f"stream_{way.method}")(**way.arguments):
                        begun = True
                        yield _spoken(given)
                    return
            except NotImplementedError:  # it cannot stream
                if begun:
                    raise
            yield _spoken(getattr(self.llm, way.method)(**way.arguments))

    def afetch(self) -> AsyncGenerator[ChatResponse, None]:
        """Async version of :meth:`fetch`."""
        return inside(active_span_id, self.span_id, self._afetch())

    async def _afetch(self) -> AsyncGenerator[ChatResponse, None]:
        way, begun = _way(self), False
        with _sensing(self):
            try:
                if way.streams:
                    async with ending(await getattr(self.llm, f"astream_{way.method}")(**way.arguments)) as stream:
                        async for given in stream:
                            begun = True
                            yield _spoken(given)
                    return
            except NotImplementedError:
                if begun:
                    raise
            yield _spoken(await getattr(self.llm, f"a{way.method}")(**way.arguments))

    def reading(self) -> _Reading:
        """Return what reads the chunks."""
        return _Reading(self)


@contextmanager
def _sensing(question: Question) -> Generator[None, None, None]:
    """Turn a framework program's error for an unusable answer into a model failure."""
    try:
        yield
    except ValueError as error:
        if question.wanted is None:
            raise
        said = f"the structured answer cannot be used: {error}"
        raise failure(Kind.MALFORMED, said, model=question.name) from error


_OURS = ("on_length", "trace", "extra_headers", "extra_query")
"""What is for Chutes alone."""


class _Way(NamedTuple):
    """How a model is asked: a method without its prefixes, its arguments, and whether to try its stream first."""

    method: str
    arguments: Mapping[str, Any]
    streams: bool = True


def _way(question: Question) -> _Way:
    llm, wanted, messages = question.llm, question.wanted, list(question.messages)
    params = {name: value for name, value in question.params.items() if name not in _OURS}
    if wanted is not None:
        # Each text is the value of a template variable, so that nothing in it is read as a variable.
        texts: dict[str, str] = {}
        prompt = ChatPromptTemplate(message_templates=[_template(message, texts) for message in messages])
        told = {"output_cls": wanted.output_cls, "prompt": prompt, "llm_kwargs": params or None, **texts}
        return _Way("structured_predict", told, question.streams)
    tools = params.get("tools")
    if isinstance(tools, Toolbox) and isinstance(llm, FunctionCallingLLM):
        # The model prepares them itself.
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            params.pop(name, None)
        params, own = {**tools.options, **params}, cast("list[BaseTool]", tools.tools)
        return _Way("chat", llm._prepare_chat_with_tools_compat(own, chat_history=messages, **params))
    return _Way("chat", {"messages": messages, **params})


def _template(message: ChatMessage, texts: dict[str, str]) -> ChatMessage:
    """Replace a message's texts by template variables, keeping the rest."""
    blocks: list[Any] = []
    for block in message.blocks:
        if isinstance(block, TextBlock):
            name = f"text_{len(texts)}"
            texts[name], block = block.text, TextBlock(text=f"{{{name}}}")
        blocks.append(block)
    return message.model_copy(update={"blocks": blocks})


def _spoken(value: Any) -> ChatResponse:
    """Return what a model gave as a chunk; an object is in ``raw``."""
    if isinstance(value, ChatResponse):
        return value
    text = value.model_dump_json(by_alias=True) if isinstance(value, BaseModel) else str(value)
    return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=text), raw=value)


class _Reading:
    """Reads the chunks of one answer, and holds tool calls back until it is whole."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._last: ChatResponse | None = None
        self._usage: Usage | None = None
        self._spoke = False
        self._ended: bool | None = None
        self._cut = False

    def shows(self, chunk: ChatResponse) -> bool:
        """Return whether a chunk shows any of the answer."""
        if chunk.delta or chunk.message.additional_kwargs:
            return True
        return any(not isinstance(block, TextBlock) or block.text for block in chunk.message.blocks)

    def take(self, chunk: ChatResponse) -> Carried | None:
        """Take a chunk and return what may be shown."""
        self._last = chunk
        if self._question.wanted is not None:  # raw is the structured output
            self._spoke = True
            return _carried(chunk)
        self._usage = usage_of(chunk) or self._usage
        reasons = finish_reasons(chunk.raw)
        if reasons is not None:
            self._ended, self._cut = bool(self._ended or reasons), self._cut or "length" in reasons
        self._spoke = self._spoke or self.shows(chunk)
        shown = _without_calls(chunk) if has_calls(chunk) else chunk
        return _carried(shown) if shown is not None else None

    def end(self) -> CarriedReply:
        """Return the whole answer, or raise if it is not whole."""
        last = self._last
        calls = _arguments_in(last) if last is not None else []
        refused = self._cut and self._question.params.get("on_length") == "raise"
        check_whole(self._question.name, said=self._spoke, ended=self._ended, calls=calls, refused=refused)
        assert last is not None, "it has said something"
        reply = self.arrived()
        wanted = self._question.wanted
        if wanted is not None:
            wanted.result = [last.raw] if wanted.several else last.raw
            last = last.model_copy(update={"raw": None})
        whole = _with_calls(self._question.llm, last)
        return CarriedReply(reply.id, reply.model, reply.choices, reply.usage, origin=whole)

    def arrived(self) -> Reply:
        """Return what has arrived."""
        if self._last is None:
            return Reply(None, None, ())
        return replace(arrived(self._last, self._question.name), usage=self._usage)


def _carried(chunk: ChatResponse) -> Carried:
    text = chunk.delta or chunk.message.content or ""
    return Carried(text, str(chunk.additional_kwargs.get("thinking_delta") or ""), origin=chunk)


def has_calls(chunk: ChatResponse) -> bool:
    """Return whether a chunk has a tool call, in either of the framework's formats."""
    message = chunk.message
    return bool(message.additional_kwargs.get("tool_calls")) or any(
        isinstance(block, ToolCallBlock) for block in message.blocks
    )


def _arguments_in(last: ChatResponse) -> list[object]:
    """Return the arguments of the tool calls, in either of the framework's formats."""
    given: list[object] = [block.tool_kwargs for block in last.message.blocks if isinstance(block, ToolCallBlock)]
    older = last.message.additional_kwargs.get("tool_calls") or ()
    return [*given, *(value_of(value_of(call, "function"), "arguments") for call in older)]


def _without_calls(chunk: ChatResponse) -> ChatResponse | None:
    """Return what a chunk with tool calls adds to the text; None if nothing."""
    message = chunk.message
    if not (chunk.delta and (message.content or "").endswith(chunk.delta)):
        return None  # some integrations send fragments of a call's arguments as the delta
    blocks = [block for block in message.blocks if not isinstance(block, ToolCallBlock)]
    extra = {name: value for name, value in message.additional_kwargs.items() if name != "tool_calls"}
    spoken = message.model_copy(update={"blocks": blocks, "additional_kwargs": extra})
    return chunk.model_copy(update={"message": spoken, "raw": None})


def _with_calls(llm: LLM, last: ChatResponse) -> ChatResponse:
    """Move tool calls into blocks, the one place where every member can read them later."""
    if not has_calls(last) or not isinstance(llm, FunctionCallingLLM):
        return last
    calls = llm.get_tool_calls_from_response(last, error_on_no_tool_call=False)
    blocks: list[Any] = [block for block in last.message.blocks if not isinstance(block, ToolCallBlock)]
    blocks += [
        # Without an id, a tool result could not be matched to its call in the next turn.
        ToolCallBlock(
            tool_call_id=each.tool_id or f"call_{number}", tool_name=each.tool_name, tool_kwargs=each.tool_kwargs
        )
        for number, each in enumerate(calls)
    ]
    return last.model_copy(update={"message": last.message.model_copy(update={"blocks": blocks})})
