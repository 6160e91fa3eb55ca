"""Other providers' models as fallback members: how they are asked, and how their chunks are read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.instrumentation.span import active_span_id
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM
from llama_index.core.prompts import ChatPromptTemplate

from chutes_core import Kind, Reply, TimeLimits, Usage
from chutes_core.failures.reading import failure
from chutes_core.fallback.bounded import threaded
from chutes_core.fallback.carried import AsyncCarriedStream, Carried, CarriedReply, CarriedStream, check_whole
from llama_index_chutes._convert.tools import Toolbox
from llama_index_chutes._convert.unusable import arrived, usage_of
from llama_index_chutes.fallback.wanted import Wanted

__all__ = ["Question", "astream", "has_calls", "stream"]


@dataclass(frozen=True, slots=True)
class Question:
    """A request to another provider's model."""

    llm: LLM
    name: str
    messages: Sequence[ChatMessage]
    params: Mapping[str, Any]
    stream: bool
    limits: TimeLimits
    span_id: str | None = None


def stream(question: Question) -> CarriedStream[ChatResponse]:
    """Ask a model within the time limits."""
    return CarriedStream(lambda: _fetch(question), _Reading(question), question.limits, question.name)


def astream(question: Question) -> AsyncCarriedStream[ChatResponse]:
    """Async version of :func:`stream`."""

    def ask() -> AsyncGenerator[ChatResponse, None]:
        if blocks(question.llm):
            return threaded(lambda: _fetch(question))
        return _inside(question.span_id, _afetch(question))

    return AsyncCarriedStream(ask, _Reading(question), question.limits, question.name)


def blocks(llm: LLM) -> bool:
    """Return whether a model has only blocking calls, in which the framework would hold up the whole event loop."""
    # Where it is defined: what an attribute of the class gives is wrapped anew at every look.
    return next(cls for cls in type(llm).__mro__ if "astream_chat" in vars(cls)) is CustomLLM


def _fetch(question: Question) -> Generator[ChatResponse, None, None]:
    active_span_id.set(question.span_id)  # this runs in its own thread and context
    llm, wanted = question.llm, question.params.get("structured")
    if isinstance(wanted, Wanted):
        arguments = _structured(question, wanted)
        with _sense(question):
            if not question.stream:
                yield _spoken(llm.structured_predict(wanted.output_cls, **arguments))
                return
            for value in llm.stream_structured_predict(wanted.output_cls, **arguments):
                yield _spoken(value)
        return
    given = _arguments(question)
    begun = False
    try:
        for chunk in llm.stream_chat(**given):
            begun = True
            yield chunk
    except NotImplementedError:  # it cannot stream
        if begun:
            raise
        yield llm.chat(**given)


async def _inside(
    span_id: str | None, chunks: AsyncGenerator[ChatResponse, None]
) -> AsyncGenerator[ChatResponse, None]:
    """Run every step of a generator inside a span, and yield its chunks outside it."""
    async with aclosing(chunks):
        while True:
            token = active_span_id.set(span_id)
            try:
                chunk = await anext(chunks, None)
            finally:
                active_span_id.reset(token)
            if chunk is None:
                return
            yield chunk


async def _afetch(question: Question) -> AsyncGenerator[ChatResponse, None]:
    llm, wanted = question.llm, question.params.get("structured")
    if isinstance(wanted, Wanted):
        arguments = _structured(question, wanted)
        with _sense(question):
            if not question.stream:
                yield _spoken(await llm.astructured_predict(wanted.output_cls, **arguments))
                return
            async with _closing(await llm.astream_structured_predict(wanted.output_cls, **arguments)) as values:
                async for value in values:
                    yield _spoken(value)
        return
    given = _arguments(question)
    begun = False
    try:
        async with _closing(await llm.astream_chat(**given)) as chunks:
            async for chunk in chunks:
                begun = True
                yield chunk
    except NotImplementedError:
        if begun:
            raise
        yield await llm.achat(**given)


@asynccontextmanager
async def _closing(stream: Any) -> AsyncGenerator[Any, None]:
    """Close a stream at once, if it can be closed."""
    try:
        yield stream
    finally:
        if (close := getattr(stream, "aclose", None)) is not None:
            await close()


def _arguments(question: Question) -> dict[str, Any]:
    """Build the call arguments, with tools prepared by the model itself."""
    params = dict(question.params)
    params.pop("on_length", None)
    tools = params.get("tools")
    if not isinstance(tools, Toolbox) or not isinstance(question.llm, FunctionCallingLLM):
        return {"messages": list(question.messages), **params}
    for name in ("tools", "tool_choice", "parallel_tool_calls"):
        params.pop(name, None)
    return question.llm._prepare_chat_with_tools_compat(
        tools.tools, chat_history=list(question.messages), **tools.options, **params
    )


def _structured(question: Question, wanted: Wanted) -> dict[str, Any]:
    params = {name: value for name, value in question.params.items() if name not in _OURS} or None
    # Each text is the value of a template variable, so that nothing in it is read as a variable.
    texts: dict[str, str] = {}
    template = [_template(message, texts) for message in question.messages]
    return {"prompt": ChatPromptTemplate(message_templates=template), "llm_kwargs": params, **texts}


def _template(message: ChatMessage, texts: dict[str, str]) -> ChatMessage:
    """Replace a message's texts by template variables, keeping the rest."""
    blocks: list[Any] = []
    for block in message.blocks:
        if isinstance(block, TextBlock):
            name = f"text_{len(texts)}"
            texts[name], block = block.text, TextBlock(text=f"{{{name}}}")
        blocks.append(block)
    return message.model_copy(update={"blocks": blocks})


class _sense:
    """Context manager that turns a framework program's error for an unusable answer into a model failure."""

    def __init__(self, question: Question) -> None:
        self._name = question.name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError):
            raise failure(Kind.MALFORMED, f"the structured answer cannot be used: {error}", model=self._name) from error


def _spoken(value: object) -> ChatResponse:
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
        if "structured" in self._question.params:  # raw is the structured output
            self._spoke = True
            return _carried(chunk)
        self._usage = usage_of(chunk) or self._usage
        reasons = _finish_reasons(chunk.raw)
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
        wanted = self._question.params.get("structured")
        if isinstance(wanted, Wanted):
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
    for call in last.message.additional_kwargs.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, Mapping) else getattr(call, "function", None)
        told = function.get("arguments") if isinstance(function, Mapping) else getattr(function, "arguments", None)
        given.append(told)
    return given


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


def _finish_reasons(raw: object) -> list[object] | None:
    """Return the finish reasons of a chunk in OpenAI's format; None for any other format."""
    choices = raw.get("choices") if isinstance(raw, Mapping) else getattr(raw, "choices", None)
    if not isinstance(choices, list) or not choices:
        return None
    read = [
        each.get("finish_reason", _NONE) if isinstance(each, Mapping) else getattr(each, "finish_reason", _NONE)
        for each in choices
    ]
    return None if _NONE in read else [reason for reason in read if reason]


_NONE = object()
_OURS = ("structured", "on_length")
