"""What the model and the fallback have in common: the ways of the framework to ask, written once.

A way is one of eight methods (chat or complete, whole or streamed, blocking or async). All come down to four that a
subclass brings, each of which is given the messages, the parameters, and a draft that knows the form of the answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

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

from llama_index_chutes._stream import ChatDraft, CompletionDraft, Draft
from llama_index_chutes._structured import Inquiry
from llama_index_chutes._tools import Toolbox, chosen_tool, selections_in, tool_specs
from llama_index_chutes._unusable import invalid_calls, said_of, unusable

if TYPE_CHECKING:
    from llama_index.core.program.utils import FlexibleModel
    from llama_index.core.tools.types import BaseTool

__all__ = ["ChatModel"]

T = TypeVar("T")
dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]


class ChatModel(FunctionCallingLLM):
    """A chat model that calls tools and gives objects, out of four methods."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None:
            """Take the fields of a subclass."""

        # What a subclass brings. Were these abstract methods, the framework would open a span for each.

        def _whole(self, messages: Sequence[ChatMessage], params: Mapping[str, Any], draft: Draft[T]) -> T:
            """Ask, and wait for the whole answer."""

        async def _awhole(self, messages: Sequence[ChatMessage], params: Mapping[str, Any], draft: Draft[T]) -> T:
            """Ask, and wait for the whole answer."""

        def _streamed(
            self, messages: Sequence[ChatMessage], params: Mapping[str, Any], draft: Draft[T]
        ) -> Generator[T, None, None]:
            """Ask, and give the answer as it comes; a request that cannot be sent is refused at once."""

        def _astreamed(
            self, messages: Sequence[ChatMessage], params: Mapping[str, Any], draft: Draft[T]
        ) -> AsyncGenerator[T, None]:
            """Ask, and give the answer as it comes; a request that cannot be sent is refused at once."""

        def _inquiry(
            self,
            output_cls: type[Model],
            prompt: PromptTemplate,
            params: Mapping[str, Any],
            prompt_args: Mapping[str, Any],
        ) -> Inquiry[Model]:
            """Prepare the question for an object."""

        def _speaker(self, response: ChatResponse) -> str:
            """Name the model that gave a response."""

        def _is_sealed(self) -> bool:
            """Whether answers may have come sealed: their words are then for nobody but the caller."""

    # ------------------------------------------------------------------------------------------------ messages

    def _extend_messages(self, messages: list[ChatMessage]) -> list[ChatMessage]:
        """Put the system prompt first, once: some ways through the framework have done it by now, others never do."""
        prompt = self.system_prompt
        if not prompt or any(each.role == MessageRole.SYSTEM and each.content == prompt for each in messages):
            return messages
        return super()._extend_messages(messages)

    def _prompted(self, prompt: str, formatted: bool) -> list[ChatMessage]:
        if not formatted and self.completion_to_prompt is not None:
            prompt = self.completion_to_prompt(prompt)
        return [ChatMessage(role=MessageRole.USER, content=prompt)]

    # -------------------------------------------------------------------------------------------- the eight ways

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask, and wait for the whole answer."""
        return self._whole(messages, kwargs, ChatDraft())

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask, and wait for the whole answer."""
        return await self._awhole(messages, kwargs, ChatDraft())

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Ask, and take the answer as it comes; the last chunk has the tool calls, and in ``raw`` all else."""
        return self._streamed(messages, kwargs, ChatDraft())

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Ask, and take the answer as it comes; the last chunk has the tool calls, and in ``raw`` all else."""
        return self._astreamed(messages, kwargs, ChatDraft())

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt."""
        return self._whole(self._prompted(prompt, formatted), kwargs, CompletionDraft())

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt."""
        return await self._awhole(self._prompted(prompt, formatted), kwargs, CompletionDraft())

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer a prompt, and give the answer as it comes."""
        return self._streamed(self._prompted(prompt, formatted), kwargs, CompletionDraft())

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Answer a prompt, and give the answer as it comes."""
        return self._astreamed(self._prompted(prompt, formatted), kwargs, CompletionDraft())

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
        """Make the arguments of ``chat``; the history stays as it is."""
        messages = list(chat_history or [])
        if user_msg is not None:
            user = ChatMessage(role=MessageRole.USER, content=user_msg) if isinstance(user_msg, str) else user_msg
            messages.append(user)
        specs = tool_specs(tools)
        if not specs:
            return {"messages": messages, **kwargs}
        choice = chosen_tool(tool_choice, required=tool_required, specs=specs)
        # Engines allow several calls at once unless they are told not to.
        parallel = {} if allow_parallel_tool_calls else {"parallel_tool_calls": False}
        asked = {"allow_parallel_tool_calls": allow_parallel_tool_calls, "tool_required": tool_required}
        box = Toolbox(specs, tools, asked if tool_choice is None else {**asked, "tool_choice": tool_choice})
        return {"messages": messages, "tools": box, "tool_choice": choice, **parallel, **kwargs}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the complete tool calls of a response; in the middle of a stream there are none yet.

        Raises:
            MalformedReplyError: The model called a tool with arguments that are not valid: to go on without that
                call would be to lose it.
            ValueError: There is none, and ``error_on_no_tool_call`` is set.
        """
        if invalid := invalid_calls(response):
            raise unusable(said_of(invalid), response, model=self._speaker(response), quiet=self._is_sealed())
        selections = selections_in(response.message)
        if not selections and error_on_no_tool_call:
            said = (response.message.content or "")[:200]
            raise ValueError(f"{self._speaker(response)} called no tool; it said: {said!r}")
        return selections

    # --------------------------------------------------------------------------------------------------- objects

    def _asked(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: Mapping[str, Any] | None,
        prompt_args: Mapping[str, Any],
    ) -> Inquiry[Model]:
        dispatcher.event(
            LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=dict(prompt_args))
        )
        return self._inquiry(output_cls, prompt, llm_kwargs or {}, prompt_args)

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Ask for an object of a class, and return it.

        Raises:
            MalformedReplyError: The answer is not one.
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
        """Ask for an object of a class, and return it."""
        asked = self._asked(output_cls, prompt, llm_kwargs, prompt_args)
        return _ended(asked.read(await self.achat(**asked.request)))

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel, None, None]:
        """Ask for an object of a class, and give out what is there of it: each piece replaces those before."""
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
        """Ask for an object of a class, and give out what is there of it: each piece replaces those before."""
        asked = self._asked(output_cls, prompt, llm_kwargs, prompt_args)
        chunks = await self.astream_chat(**asked.request)

        async def pieces() -> AsyncGenerator[Model | FlexibleModel, None]:
            async for chunk in chunks:
                if (piece := _step(asked, chunk)) is not None:
                    yield piece

        return pieces()


def _step(asked: Inquiry[Model], chunk: ChatResponse) -> Model | FlexibleModel | None:
    """Read a chunk: loosely while the answer is being written, strictly at its end."""
    if asked.ends(chunk):
        return _ended(asked.read(chunk))
    piece = asked.partial(chunk)
    if piece is not None:
        dispatcher.event(LLMStructuredPredictInProgressEvent(output=piece))
    return piece


def _ended(output: Model) -> Model:
    dispatcher.event(LLMStructuredPredictEndEvent(output=output))
    return output
