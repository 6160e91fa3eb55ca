"""The framework's chat and completion methods, shared by the LLM and the fallback.

There are eight (chat or complete, whole or streamed, sync or async). All delegate to one method of the subclass, which
takes the messages and the parameters, and returns a call that can be made in four ways.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import llama_index.core.instrumentation as instrument
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    MessageRole,
)
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.prompts import PromptTemplate
from llama_index.core.types import Model

from chutes_core.reply.reader import told_of
from chutes_core.request.schema import check_form
from chutes_core.request.tools import Toolbox, tool_choice_param, tool_names
from llama_index_chutes._convert.messages import chat_response
from llama_index_chutes._convert.stream import achunks, chunks, completion, unbegun
from llama_index_chutes._convert.tools import selections_in, tool_specs
from llama_index_chutes._convert.unusable import arrived, unusable

if TYPE_CHECKING:
    from llama_index.core.program.utils import FlexibleModel
    from llama_index.core.tools.types import BaseTool

    from chutes_core.connected import ModelCall
    from llama_index_chutes._structured.plans import Plan
    from llama_index_chutes.fallback.run import Run
    from llama_index_chutes.fallback.wanted import Wanted

__all__ = ["ChatModel"]

Messages = Sequence[ChatMessage]
Params = Mapping[str, Any]
dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]


class ChatModel(FunctionCallingLLM):
    """A chat model with tool calls and structured output, built on what a subclass has."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None:
            """Accept the fields of a subclass."""

        # Implemented by subclasses. If these were abstract methods, the framework would open a span for each.

        def _call(self, messages: Messages, params: Params, *, whole: bool) -> ModelCall | Run:
            """Prepare a call, or refuse it; ``whole`` if its deltas are not shown."""

        def _inquiry(self, output_cls: type[Model], messages: Messages, params: Params) -> Plan[Model] | Wanted:
            """Prepare a structured output request."""

        def _address(self) -> str | None:
            """Return the address that was set for its gateway, whose prices are its own."""

        def _is_sealed(self) -> bool:
            """Return whether answers may have come encrypted, so that only the caller may see them."""

    def to_payload(self) -> dict[str, Any]:
        """Return what events and callbacks are told of the model: what it is, and the parameters of its requests."""
        told, where = super().to_payload(), self._address()
        return {**told, "model": told["model_name"], **({} if where is None else {"api_base": where})}

    # ------------------------------------------------------------------------------------------------ messages

    def _extend_messages(self, messages: list[ChatMessage]) -> list[ChatMessage]:
        """Put the system prompt first, unless the framework already has; only some of its code paths do."""
        prompt = self.system_prompt
        if not prompt or any(each.role == MessageRole.SYSTEM and each.content == prompt for each in messages):
            return messages
        return super()._extend_messages(messages)

    def _completing(self, prompt: str, formatted: bool, params: Params, *, whole: bool) -> ModelCall | Run:
        if not formatted and self.completion_to_prompt is not None:
            prompt = self.completion_to_prompt(prompt)
        return self._call([ChatMessage(role=MessageRole.USER, content=prompt)], params, whole=whole)

    # -------------------------------------------------------------------------------------------- the eight ways

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Return the whole answer."""
        return chat_response(self._call(messages, kwargs, whole=True).read())

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Return the whole answer."""
        return chat_response(await self._call(messages, kwargs, whole=True).aread())

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Stream the answer; the last chunk has the tool calls, and everything else in ``raw``."""
        return chunks(self._call(messages, kwargs, whole=False).stream(), unbegun())

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Stream the answer; the last chunk has the tool calls, and everything else in ``raw``."""
        return achunks(self._call(messages, kwargs, whole=False).astream(), unbegun())

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Complete a prompt."""
        return completion(chat_response(self._completing(prompt, formatted, kwargs, whole=True).read()))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Complete a prompt."""
        return completion(chat_response(await self._completing(prompt, formatted, kwargs, whole=True).aread()))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Complete a prompt, streaming the answer."""
        return chunks(self._completing(prompt, formatted, kwargs, whole=False).stream(), unbegun(), completion)

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Complete a prompt, streaming the answer."""
        return achunks(self._completing(prompt, formatted, kwargs, whole=False).astream(), unbegun(), completion)

    # ----------------------------------------------------------------------------------------------------- tools

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: str | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Build the arguments for ``chat`` without changing the history."""
        messages = list(chat_history or [])
        if user_msg is not None:
            user = ChatMessage(role=MessageRole.USER, content=user_msg) if isinstance(user_msg, str) else user_msg
            messages.append(user)
        specs = tool_specs(tools)
        if not specs:
            return {"messages": messages, **kwargs}
        wish = "required" if tool_choice is None and tool_required else tool_choice
        choice = tool_choice_param(wish, tool_names(specs))
        # Engines allow parallel tool calls unless told otherwise.
        parallel = {} if allow_parallel_tool_calls else {"parallel_tool_calls": False}
        asked = {"allow_parallel_tool_calls": allow_parallel_tool_calls, "tool_required": tool_required}
        box = Toolbox(specs, tools, asked if tool_choice is None else {**asked, "tool_choice": tool_choice})
        return {"messages": messages, "tools": box, "tool_choice": choice, **parallel, **kwargs}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the complete tool calls of a response; mid-stream there are none yet.

        Raises:
            MalformedReplyError: A tool call has invalid arguments; ignoring it would lose the call.
            ValueError: There is no tool call, and ``error_on_no_tool_call`` is set.
        """
        speaker, quiet = self._speaker(response), self._is_sealed()
        if response.message.additional_kwargs.get("invalid_tool_calls"):
            reply = arrived(response, speaker)
            said = "a tool call is not valid" if quiet else told_of(reply.invalid_tool_calls)
            raise unusable(said, reply, model=speaker, quiet=quiet)
        selections = selections_in(response.message)
        if not selections and error_on_no_tool_call:
            said = "" if quiet else f"; it said: {(response.message.content or '')[:200]!r}"
            raise ValueError(f"{speaker} called no tool{said}")
        return selections

    def _speaker(self, response: ChatResponse) -> str:
        """Return the name of the model that answered."""
        told = response.raw.get("model_name") if isinstance(response.raw, Mapping) else None
        return str(told or getattr(self, "model", "The model"))

    # --------------------------------------------------------------------------------------------------- objects

    def _asked(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: Mapping[str, Any] | None,
        prompt_args: Mapping[str, Any],
    ) -> Plan[Model] | Wanted:
        check_form(output_cls)
        dispatcher.event(
            LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=dict(prompt_args))
        )
        return self._inquiry(output_cls, prompt.format_messages(llm=self, **prompt_args), llm_kwargs or {})

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Return structured output as an instance of a class.

        Raises:
            MalformedReplyError: The answer does not match the class.
        """
        asked = self._asked(output_cls, prompt, llm_kwargs, prompt_args)
        return _ended(asked.read(self.chat(**asked.request)))

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Async version of :meth:`structured_predict`."""
        asked = self._asked(output_cls, prompt, llm_kwargs, prompt_args)
        return _ended(asked.read(await self.achat(**asked.request)))

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel, None, None]:
        """Stream structured output: each partial object replaces the previous one."""
        asked = self._asked(output_cls, prompt, llm_kwargs, prompt_args)
        for chunk in self.stream_chat(**asked.request):
            if (piece := _step(asked, chunk)) is not None:
                yield piece

    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | FlexibleModel, None]:
        """Stream structured output: each partial object replaces the previous one."""
        asked = self._asked(output_cls, prompt, llm_kwargs, prompt_args)
        chunks = await self.astream_chat(**asked.request)

        async def pieces() -> AsyncGenerator[Model | FlexibleModel, None]:
            async for chunk in chunks:
                if (piece := _step(asked, chunk)) is not None:
                    yield piece

        return pieces()


def _step(asked: Plan[Model] | Wanted, chunk: ChatResponse) -> Model | FlexibleModel | None:
    """Parse a chunk: leniently during the stream, strictly at its end."""
    if asked.ends(chunk):
        return _ended(asked.read(chunk))
    piece = asked.partial(chunk)
    if piece is not None:
        dispatcher.event(LLMStructuredPredictInProgressEvent(output=piece))
    return piece


def _ended(output: Model) -> Model:
    dispatcher.event(LLMStructuredPredictEndEvent(output=output))
    return output
