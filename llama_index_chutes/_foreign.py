"""Other providers' models as fallback members, with checks so that truncated answers never pass as complete."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.instrumentation.span import active_span_id
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM
from llama_index.core.prompts import ChatPromptTemplate

from chutes_core import Kind, TimeLimits, Usage
from chutes_core.failures.reading import failure
from chutes_core.fallback.bounded import abounded, bounded, threaded
from chutes_core.fallback.foreign import as_failure
from llama_index_chutes._parts import Final, Wanted, has_calls
from llama_index_chutes._tools import Toolbox
from llama_index_chutes._unusable import arrived, usage_of

__all__ = ["Question", "aparts", "parts"]


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


def parts(question: Question) -> Generator[ChatResponse | Final, None, None]:
    """Call the model within the time limits and check the complete answer."""
    check = _Check(question)
    fetch: Callable[[], Iterator[ChatResponse]] = lambda: _fetch(question)  # noqa: E731
    with check, closing(bounded(fetch, question.limits, shows=_shows, model=question.name)) as chunks:
        for chunk in chunks:
            if (given := check.take(chunk)) is not None:
                yield given
        end = check.end()
    yield end


async def aparts(question: Question) -> AsyncGenerator[ChatResponse | Final, None]:
    """Async version of :func:`parts`."""
    check = _Check(question)

    def ask() -> AsyncIterator[ChatResponse]:
        if blocks(question.llm):
            return threaded(lambda: _fetch(question))
        return _inside(question.span_id, _afetch(question))

    chunks = abounded(ask, question.limits, shows=_shows, model=question.name)
    with check:
        async with aclosing(chunks):
            async for chunk in chunks:
                if (given := check.take(chunk)) is not None:
                    yield given
        end = check.end()
    yield end


def blocks(llm: LLM) -> bool:
    """Return whether a model has only blocking calls, in which the framework would hold up the whole event loop."""
    # Where it is defined: what an attribute of the class gives is wrapped anew at every look.
    return next(cls for cls in type(llm).__mro__ if "astream_chat" in vars(cls)) is CustomLLM


def _fetch(question: Question) -> Iterator[ChatResponse]:
    active_span_id.set(question.span_id)  # this runs in its own thread and context
    llm, wanted = question.llm, question.params.get("structured")
    if isinstance(wanted, Wanted):
        arguments = _structured(question, wanted)
        with _reading(question):
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


async def _inside(span_id: str | None, chunks: AsyncGenerator[ChatResponse, None]) -> AsyncIterator[ChatResponse]:
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
        with _reading(question):
            if not question.stream:
                yield _spoken(await llm.astructured_predict(wanted.output_cls, **arguments))
                return
            async for value in await llm.astream_structured_predict(wanted.output_cls, **arguments):
                yield _spoken(value)
        return
    given = _arguments(question)
    begun = False
    try:
        async for chunk in await llm.astream_chat(**given):
            begun = True
            yield chunk
    except NotImplementedError:
        if begun:
            raise
        yield await llm.achat(**given)


def _arguments(question: Question) -> dict[str, Any]:
    """Build the call arguments, with tools prepared by the model itself."""
    params = dict(question.params)
    tools = params.get("tools")
    if not isinstance(tools, Toolbox) or not isinstance(question.llm, FunctionCallingLLM):
        return {"messages": list(question.messages), **params}
    for name in ("tools", "tool_choice", "parallel_tool_calls"):
        params.pop(name, None)
    return question.llm._prepare_chat_with_tools_compat(
        tools.tools, chat_history=list(question.messages), **tools.options, **params
    )


def _structured(question: Question, wanted: Wanted) -> dict[str, Any]:
    params = {name: value for name, value in question.params.items() if name != "structured"} or None
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


class _reading:
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


def _shows(chunk: ChatResponse) -> bool:
    if chunk.delta or chunk.message.additional_kwargs:
        return True
    return any(not isinstance(block, TextBlock) or block.text for block in chunk.message.blocks)


class _Check:
    """Checks the answer of another provider's model for completeness, as far as possible.

    As a context manager, it adds what has arrived to failures raised inside.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        self._last: ChatResponse | None = None
        self._usage: Usage | None = None
        self._spoke = self._finishes = self._finished = False

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        found = as_failure(error, self._question.name) if isinstance(error, Exception) else None
        if found is None or found.partial_reply is not None or self._last is None:
            return
        found.partial_reply = replace(arrived(self._last, self._question.name), usage=self._usage)
        if found is not error:
            raise found from error

    def take(self, chunk: ChatResponse) -> ChatResponse | None:
        """Take a chunk and return what may be shown; tool calls wait until the answer is complete."""
        self._last = chunk
        if "structured" in self._question.params:  # raw is the structured output
            self._spoke = True
            return chunk
        self._usage = usage_of(chunk) or self._usage
        reasons = _finish_reasons(chunk.raw)
        if reasons is not None:
            self._finishes = True
            self._finished = self._finished or bool(reasons)
        self._spoke = self._spoke or _shows(chunk)
        return _without_calls(chunk) if has_calls(chunk) else chunk

    def end(self) -> Final:
        """Return the answer of a stream that has ended, or raise if it is faulty."""
        name, last = self._question.name, self._last
        if last is None or not self._spoke:
            raise failure(Kind.EMPTY, model=name)
        if self._finishes and not self._finished:
            raise failure(Kind.TRUNCATED, model=name)
        self._whole_calls(last)
        wanted = self._question.params.get("structured")
        if isinstance(wanted, Wanted):
            wanted.result = [last.raw] if wanted.several else last.raw
            last = last.model_copy(update={"raw": None})
        return Final(_with_calls(self._question.llm, last), self._usage)

    def _whole_calls(self, last: ChatResponse) -> None:
        """Refuse truncated arguments: some integrations repair them, which changes the call."""
        given: list[Any] = [block.tool_kwargs for block in last.message.blocks if isinstance(block, ToolCallBlock)]
        for call in last.message.additional_kwargs.get("tool_calls") or ():
            function = call.get("function") if isinstance(call, Mapping) else getattr(call, "function", None)
            told = function.get("arguments") if isinstance(function, Mapping) else getattr(function, "arguments", None)
            given.append(told)
        for arguments in given:
            if isinstance(arguments, str) and arguments:
                try:
                    json.loads(arguments)
                except (ValueError, RecursionError):
                    said = "a tool call whose arguments are not whole"
                    raise failure(Kind.MALFORMED, said, model=self._question.name) from None


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
