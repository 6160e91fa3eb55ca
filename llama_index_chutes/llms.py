"""The chat models of Chutes for LlamaIndex."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import llama_index.core.instrumentation as instrument
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.prompts import PromptTemplate
from llama_index.core.types import Model, PydanticProgramMode

from chutes_core import ChatParams, ImagePolicy, Kind, ModelInfo
from chutes_core.failures import failure
from chutes_core.request import build_chat_request, model_infos
from llama_index_chutes._base import ChutesComponent
from llama_index_chutes._messages import chat_response, completion_response, wire_messages
from llama_index_chutes._metadata import described
from llama_index_chutes._stream import ChatDraft, CompletionDraft, adrain, drain
from llama_index_chutes._structured import Mode, Plan
from llama_index_chutes._tools import chosen_tool, selections_in, tool_specs

if TYPE_CHECKING:
    from llama_index.core.program.utils import FlexibleModel
    from llama_index.core.tools.types import BaseTool

__all__ = ["Chutes"]

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]

_ALIASES = {"max_completion_tokens": "max_tokens", "reasoning_effort": "reasoning"}
_HINTS = {
    "base_url": "Did you mean 'api_base'?",
    "model_name": "Did you mean 'model'?",
    "is_chat_model": "Every model here is a chat model: leave it out.",
    **dict.fromkeys(ChatParams.__annotations__, "Parameters of the request go into additional_kwargs={...}."),
    "max_completion_tokens": "Did you mean 'max_tokens'?",
    "reasoning_effort": "Did you mean 'reasoning'?",
}


class Chutes(ChutesComponent, FunctionCallingLLM):
    """A chat model on Chutes.

    What is not given is not sent. A call that does not end in a whole answer raises one of the errors of
    :mod:`chutes_core.errors`; ``.partial`` has what there is of one. Reasoning comes as a ``ThinkingBlock``, and
    in streams as ``additional_kwargs["thinking_delta"]``.

    Args:
        model: A model, a routing list (``"a,b:latency"``) or an alias.
        temperature: How freely to choose words.
        max_tokens: The longest answer.
        top_p: The share of likely words to choose from.
        reasoning: True, False or an effort such as "low", for models that can think.
        additional_kwargs: Further parameters of each request, under the names of ``chutes_core.ChatParams``.
        context_window: Where the catalogue does not know the model's, or to use less of it.
        is_function_calling_model: Whether it calls tools; None asks the catalogue.
        inline_images: Fetch remote images here and send them along.
        api_key: A key or token, or a function that returns one; None looks in ``CHUTES_OAUTH_TOKEN`` and
            ``CHUTES_API_KEY``.

    >>> llm = Chutes(model="Qwen/Qwen3-32B-TEE", api_key="cpk_0123", temperature=0)
    >>> llm.metadata.context_window, llm.metadata.is_function_calling_model
    (40960, True)
    >>> "cpk_" in repr(llm) + llm.to_json()
    False

    A call is ``llm.complete("Hello")`` or ``llm.chat([ChatMessage("Hello")])``.
    """

    model: str = Field(description="A model, a routing list, or an alias.")
    temperature: float | None = Field(default=None, description="How freely to choose words.")
    max_tokens: int | None = Field(default=None, description="The longest answer, in tokens.")
    top_p: float | None = Field(default=None, description="The share of likely words to choose from.")
    reasoning: bool | Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="Whether, or how hard, to think before answering."
    )
    additional_kwargs: dict[str, Any] = Field(default_factory=dict, description="Further parameters of each request.")
    context_window: int | None = Field(default=None, gt=0, description="The model's window, where you know better.")
    is_function_calling_model: bool | None = Field(
        default=None, description="Whether the model calls tools; None asks the catalogue."
    )
    inline_images: bool | ImagePolicy = Field(default=False, description="Fetch remote images and send them along.")

    _metadata: tuple[object, LLMMetadata] | None = PrivateAttr(default=None)
    _hints: ClassVar[Mapping[str, str]] = _HINTS

    if not TYPE_CHECKING:

        def __init__(self, **data: Any) -> None:
            super().__init__(**data)
            # A parameter that no request could carry is refused here, not at the first call.
            build_chat_request([{"role": "user", "content": "-"}], self.model, self._params({}))

    @classmethod
    def class_name(cls) -> str:
        """Name the class in serialized data."""
        return "Chutes_llm"

    # ------------------------------------------------------------------------------------------ what it is

    @property
    def metadata(self) -> LLMMetadata:
        """What the framework needs to know of the model, from the catalogue.

        ``num_output`` is ``max_tokens``, or what the model can give, but no more than half of the window: the
        framework reserves that much in every prompt.
        """
        catalog = self._known_models()
        calls = self.is_function_calling_model
        known = (self.model, self.max_tokens, self.context_window, calls, id(catalog))
        if self._metadata is None or self._metadata[0] != known:
            self._metadata = (known, described(self.model, self._infos(), self.context_window, self.max_tokens, calls))
        return self._metadata[1]

    def _infos(self) -> list[ModelInfo]:
        return model_infos(self._known_models(), self.model)

    def _own_settings(self) -> dict[str, Any]:
        return {"base_url": self.api_base, "inline_images": self.inline_images}

    # ------------------------------------------------------------------------------------------- requests

    def _params(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Put together the parameters of a call: the fields', then ``additional_kwargs``, then the call's own."""
        own = {"temperature": self.temperature, "max_tokens": self.max_tokens, "top_p": self.top_p}
        params: dict[str, Any] = {**own, "reasoning": self.reasoning}
        for layer in (self.additional_kwargs, given):
            for name, value in layer.items():
                params.pop(_ALIASES.get(name, ""), None)
                inner = params.get(name) if name in ("extra_body", "chat_template_kwargs") else None
                params[name] = {**inner, **value} if isinstance(inner, Mapping) and value else value
        return {name: value for name, value in params.items() if value is not None}

    def _request(self, messages: Sequence[ChatMessage], given: Mapping[str, Any]) -> dict[str, Any]:
        """Make the arguments of a call of the client."""
        params = self._params(given)
        if tools := params.get("tools"):
            params["tools"] = tool_specs(tools)
        elif "tools" in params:
            del params["tools"]
        echo = any(info.traits.echo_reasoning is True for info in self._infos())
        wire = wire_messages(self._extend_messages(list(messages)), echo_reasoning=echo)
        return {"messages": wire, "model": self.model, **params}

    def _extend_messages(self, messages: list[ChatMessage]) -> list[ChatMessage]:
        """Put the system prompt first, once: some ways through the framework have done it by now, others never do."""
        if any(each.role == MessageRole.SYSTEM and each.content == self.system_prompt for each in messages):
            return messages
        return super()._extend_messages(messages)

    def _prompted(self, prompt: str, formatted: bool) -> list[ChatMessage]:
        if not formatted and self.completion_to_prompt is not None:
            prompt = self.completion_to_prompt(prompt)
        return [ChatMessage(role=MessageRole.USER, content=prompt)]

    # ------------------------------------------------------------------------------------------------ chat

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask, and wait for the whole answer."""
        return chat_response(self._client().chat(**self._request(messages, kwargs)))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask, and wait for the whole answer."""
        return chat_response(await self._async_client().chat(**self._request(messages, kwargs)))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Ask, and take the answer as it comes; the last chunk has the tool calls and the usage."""
        return drain(self._client().stream(**self._request(messages, kwargs)), ChatDraft())

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Ask, and take the answer as it comes; the last chunk has the tool calls and the usage."""
        return adrain(self._async_client().stream(**self._request(messages, kwargs)), ChatDraft())

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt."""
        return completion_response(self._client().chat(**self._request(self._prompted(prompt, formatted), kwargs)))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt."""
        request = self._request(self._prompted(prompt, formatted), kwargs)
        return completion_response(await self._async_client().chat(**request))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer a prompt, and give the answer as it comes."""
        request = self._request(self._prompted(prompt, formatted), kwargs)
        return drain(self._client().stream(**request), CompletionDraft())

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Answer a prompt, and give the answer as it comes."""
        request = self._request(self._prompted(prompt, formatted), kwargs)
        return adrain(self._async_client().stream(**request), CompletionDraft())

    # ----------------------------------------------------------------------------------------------- tools

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
        return {"messages": messages, "tools": specs, "tool_choice": choice, **parallel, **kwargs}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the complete tool calls of a response; in the middle of a stream there are none yet.

        Raises:
            MalformedReplyError: The model called a tool with arguments that are not valid: to go on without that
                call would be to lose it.
            ValueError: There is none, and ``error_on_no_tool_call`` is set.
        """
        invalid = response.message.additional_kwargs.get("invalid_tool_calls")
        if invalid:
            said = "; ".join(f"the call of {call['function']['name']!r}: {call['error']}" for call in invalid)
            raise failure(Kind.MALFORMED, said, model=self.model)
        selections = selections_in(response.message)
        if not selections and error_on_no_tool_call:
            raise ValueError(f"{self.model} called no tool; it said: {(response.message.content or '')[:200]!r}")
        return selections

    # ------------------------------------------------------------------------------------ structured answers

    def _plan(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: Mapping[str, Any] | None,
        prompt_args: Mapping[str, Any],
    ) -> Plan[Model]:
        dispatcher.event(
            LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=dict(prompt_args))
        )
        infos = self._infos()
        messages = prompt.format_messages(llm=self, **prompt_args)
        json_mode = all(info.supports("json_mode") for info in infos)
        mode = self._structured_mode(infos)
        return Plan.make(output_cls, mode, messages, llm_kwargs, model=self.model, json_mode=json_mode)

    def _structured_mode(self, infos: Sequence[ModelInfo]) -> Mode:
        wish = self.pydantic_program_mode
        if wish == PydanticProgramMode.LLM:
            return Mode.WORDS
        if wish != PydanticProgramMode.FUNCTION and all(info.supports("structured_outputs") for info in infos):
            return Mode.SCHEMA
        return Mode.TOOL if self.metadata.is_function_calling_model else Mode.WORDS

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
        plan = self._plan(output_cls, prompt, llm_kwargs, prompt_args)
        return _ended(plan.read(self.chat(plan.messages, **plan.params)))

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Ask for an object of a class, and return it."""
        plan = self._plan(output_cls, prompt, llm_kwargs, prompt_args)
        return _ended(plan.read(await self.achat(plan.messages, **plan.params)))

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel, None, None]:
        """Ask for an object of a class, and give out what is there of it until it is whole."""
        plan = self._plan(output_cls, prompt, llm_kwargs, prompt_args)
        for chunk in self.stream_chat(plan.messages, **plan.params):
            if (piece := _step(plan, chunk)) is not None:
                yield piece

    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | FlexibleModel, None]:
        """Ask for an object of a class, and give out what is there of it until it is whole."""
        plan = self._plan(output_cls, prompt, llm_kwargs, prompt_args)
        chunks = await self.astream_chat(plan.messages, **plan.params)

        async def steps() -> AsyncGenerator[Model | FlexibleModel, None]:
            async for chunk in chunks:
                if (piece := _step(plan, chunk)) is not None:
                    yield piece

        return steps()


def _step(plan: Plan[Model], chunk: ChatResponse) -> Model | FlexibleModel | None:
    """Read a chunk: loosely while the answer is being written, strictly at its end."""
    if chunk.raw is not None:
        return _ended(plan.read(chunk))
    piece = plan.partial(chunk)
    if piece is not None:
        dispatcher.event(LLMStructuredPredictInProgressEvent(output=piece))
    return piece


def _ended(output: Model) -> Model:
    dispatcher.event(LLMStructuredPredictEndEvent(output=output))
    return output
