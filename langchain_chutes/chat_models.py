"""The LangChain chat model for Chutes.

All decisions are made in the neighbouring modules and in the core; this one connects them to LangChain. The sync and
async form of a method share everything except the waiting.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import ConfigDict, Field, model_validator

from chutes_core.errors import ConfigurationError
from chutes_core.request.chat import ChatParams, Effort, OnLength
from chutes_core.tokens import estimate_tokens
from chutes_core.usage import cost
from langchain_chutes._arguments import call_arguments
from langchain_chutes._convert.messages import request_messages
from langchain_chutes._convert.profile import Resolved, default_method, echoes_reasoning, model_infos, model_profile
from langchain_chutes._convert.replies import PROVIDER, ChunkMaker, chat_result, summed_usage
from langchain_chutes._convert.tokens import estimate_message_tokens
from langchain_chutes._convert.tools import Tool, tool_choice_param, tool_names, tool_params
from langchain_chutes._settings import ChutesSettings, plain_e2ee, signed, translated_errors
from langchain_chutes._structured.methods import check_method, parsed
from langchain_chutes._structured.schemas import Schema, response_format, titled

if TYPE_CHECKING:
    from chutes_core.response import Reply

__all__ = ["ChatChutes"]


@dataclass(frozen=True, slots=True)
class _Call:
    """What a call sends: the conversation, and the arguments for the core's ``chat`` and ``stream``."""

    messages: list[dict[str, Any]]
    arguments: dict[str, Any]


class ChatChutes(ChutesSettings, BaseChatModel):
    """A Chutes chat model.

    A call returns a complete, checked answer or raises an error that says what happened. Every error belongs both
    to :mod:`chutes_core.errors` and to LangChain's ``ModelError`` family. Parameters you do not set are not sent.

    The key comes from ``api_key``, else ``CHUTES_OAUTH_TOKEN``, ``CHUTES_API_KEY``, or the stored login.

    >>> from langchain_chutes import ChatChutes
    >>> model = ChatChutes(model="Qwen/Qwen3-32B-TEE", api_key="cpk_0123", temperature=0)
    >>> model.profile["max_input_tokens"]
    40960
    >>> ChatChutes(model="Qwen/Qwen3-32B-TEE", temprature=0)
    Traceback (most recent call last):
    pydantic_core._pydantic_core.ValidationError: ...
      Value error, ChatChutes has no argument 'temprature'. Did you mean 'temperature'? ...

    Call it with ``model.invoke("Hello").content``; ``stream``, ``batch``, ``bind_tools``,
    ``with_structured_output`` and the async methods work as usual in LangChain.
    """

    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, protected_namespaces=(), hide_input_in_errors=True
    )

    model: str = Field(min_length=1)
    """A model name, a list of names for the gateway to route between (`"a,b:latency"`), or one of your aliases."""

    temperature: float | None = None
    max_tokens: int | None = None
    """Maximum length of the answer, including reasoning. Alias: `max_completion_tokens`."""
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: str | list[str] | None = None
    """Stop sequences. Alias: `stop_sequences`."""
    seed: int | None = None
    n: int | None = None
    """Number of answers; more than one only without streaming."""
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    user: str | None = None
    reasoning: bool | Effort | None = None
    """Whether, or how hard, to reason. The reasoning is in `additional_kwargs["reasoning_content"]` and in
    `content_blocks`."""
    reasoning_effort: Effort | None = None
    on_length: OnLength | None = None
    """What an answer is that reaches `max_tokens`: with "raise" a `LengthLimitError`, which has it in `.partial`; by
    default ("keep") it is returned as far as it got, with the finish reason "length"."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Other parameters from `chutes_core.ChatParams`, such as `guided_choice`."""
    extra_body: dict[str, Any] | None = None
    """Extra fields added to the request unchanged."""

    streaming: bool = False
    """Stream during `invoke` too, for callbacks that want tokens."""
    inline_images: Any = False
    """Download remote images and send them inline, for hosts that block the gateway: True, or an `ImagePolicy`."""

    _passed_on: ClassVar[tuple[str, ...]] = (*ChutesSettings._passed_on, "inline_images")

    # ------------------------------------------------------------------------------------------ arguments

    @classmethod
    def _other_names(cls) -> Mapping[str, str]:
        return {
            **super()._other_names(),
            "model_name": "model",
            "max_completion_tokens": "max_tokens",
            "stop_sequences": "stop",
        }

    @model_validator(mode="before")
    @classmethod
    def _drop_what_was_found(cls, given: Any) -> Any:
        """Drop a resolved profile copied from another model's arguments, so it is looked up again."""
        if isinstance(given, dict) and isinstance(given.get("profile"), Resolved):
            return {name: value for name, value in given.items() if name != "profile"}
        return given

    @model_validator(mode="after")
    def _check_parameters(self) -> Self:
        """Check what pydantic cannot."""
        for name in self.model_kwargs:
            if name in _PARAMETERS:
                raise ConfigurationError(f"{name!r} is an argument of its own: pass it outside model_kwargs.")
        return self

    @model_validator(mode="after")
    def _set_chutes_version(self) -> Self:
        from langchain_chutes import __version__

        if hasattr(self, "_add_version"):  # langchain-core 1.4 and later
            self._add_version("chutes-connect", __version__)
        return self

    def _changed(self, names: Collection[str]) -> None:
        super()._changed(names)
        found = self.profile is None or isinstance(self.profile, Resolved)
        if found and "profile" not in names and not {"model", "catalog"}.isdisjoint(names):
            self.profile = self._resolve_model_profile()

    def _given(self) -> dict[str, Any]:
        """Return the parameters that were set, by the service's names."""
        values = self.__dict__
        given = {name: values[name] for name in _PARAMETERS if values[name] is not None}
        return {**given, **self.model_kwargs} if self.model_kwargs else given

    # ------------------------------------------------------------------------------------------ the call

    def _call(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, options: Mapping[str, Any], *, stream: bool
    ) -> _Call:
        """Build what is sent; all four call methods use this."""
        arguments = call_arguments(
            self._given(), options, _OTHER_NAMES, model=self.model, stop=stop, extra_body=self.extra_body, stream=stream
        )
        answered = any(isinstance(message, AIMessage) for message in messages)
        echo = answered and echoes_reasoning(model_infos(self._known_models(), arguments["model"]))
        return _Call(request_messages(messages, echo_reasoning=echo), arguments)

    def _cost(self, reply: Reply) -> float | None:
        """Return the cost of a reply in US dollars, if its price and token counts are known."""
        info = self._known_models().get(reply.model) if reply.model and reply.usage else None
        return cost(reply.usage, info) if info is not None and reply.usage is not None else None

    @signed
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translated_errors:
            call = self._call(messages, stop, kwargs, stream=False)
            reply = self.client.chat(call.messages, **call.arguments)
            return chat_result(reply, self._cost(reply))

    @signed
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translated_errors:
            call = self._call(messages, stop, kwargs, stream=False)
            reply = await self.async_client.chat(call.messages, **call.arguments)
            return chat_result(reply, self._cost(reply))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with translated_errors:
            call = self._call(messages, stop, kwargs, stream=True)
            maker = ChunkMaker(blocks=self.output_version == "v1")
            with self.client.stream(call.messages, **call.arguments) as deltas:
                for delta in deltas:
                    for chunk in maker.step(delta):
                        if run_manager is not None:
                            run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                        yield chunk
                reply = deltas.reply
            yield from maker.end(reply, self._cost(reply))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with translated_errors:
            call = self._call(messages, stop, kwargs, stream=True)
            maker = ChunkMaker(blocks=self.output_version == "v1")
            async with self.async_client.stream(call.messages, **call.arguments) as deltas:
                async for delta in deltas:
                    for chunk in maker.step(delta):
                        if run_manager is not None:
                            await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                        yield chunk
                reply = deltas.reply
            for chunk in maker.end(reply, self._cost(reply)):
                yield chunk

    # ------------------------------------------------------------------------------- tools and structure

    def bind_tools(
        self,
        tools: Sequence[Tool],
        *,
        tool_choice: str | bool | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools that the model may call.

        Args:
            tools: Functions, tools, pydantic models, TypedDicts, or tool specifications as dicts.
            tool_choice: "auto", "none", "any" (or "required", or True), or the name of a tool.
            parallel_tool_calls: Whether the model may call several tools at once.
            strict: Whether arguments must follow the schema; sent only if set.
            **kwargs: Other parameters for the calls.
        """
        with translated_errors:
            described = tool_params(tools, strict=strict)
            choice = tool_choice_param(tool_choice, tool_names(described))
        bound = {"tools": described, "tool_choice": choice, "parallel_tool_calls": parallel_tool_calls, **kwargs}
        return self.bind(**{name: value for name, value in bound.items() if value is not None})

    def with_structured_output(
        self,
        schema: Schema | None = None,
        *,
        method: Literal["json_schema", "function_calling", "json_mode"] | None = None,
        include_raw: bool = False,
        strict: bool | None = None,
        tools: Sequence[Tool] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return structured output that matches a schema.

        Args:
            schema: A pydantic model (answers are instances), a TypedDict or a JSON schema (answers are dicts).
                Required unless ``method="json_mode"``.
            method: How to request it; by default the most reliable method the catalogue lists for the model.
            include_raw: Return ``{"raw": message, "parsed": answer, "parsing_error": error}`` instead of raising
                parsing errors.
            strict: Sent only if set.
            tools: Additional tools for the model, with ``method="json_schema"``.
            **kwargs: Other parameters for the calls.
        """
        from langchain_chutes._structured.parsers import answer_parser

        with translated_errors:
            chosen = method or default_method(model_infos(self._known_models(), self.model))
            check_method(chosen, schema, strict, tools)
        if schema is not None:
            kwargs["ls_structured_output_format"] = {"kwargs": {"method": chosen, "strict": strict}, "schema": schema}
        if chosen == "function_calling":
            assert schema is not None
            asked = self.bind_tools([titled(schema)], tool_choice="any", strict=strict, **kwargs)
            return parsed(asked, answer_parser(schema, "calls"), include_raw=include_raw)
        held = chosen == "json_schema" and schema
        form = response_format(held, strict=strict) if held else {"type": "json_object"}
        kwargs["response_format"] = form
        asked = self.bind_tools(tools, **kwargs) if tools else self.bind(**kwargs)
        return parsed(asked, answer_parser(schema, "text"), include_raw=include_raw)

    def with_fallbacks(
        self,
        fallbacks: Sequence[Runnable[LanguageModelInput, Any]],
        *,
        exceptions_to_handle: tuple[type[BaseException], ...] = (Exception,),
        exception_key: str | None = None,
    ) -> Any:
        """Return a `ChutesFallback` of this model and others, or LangChain's own fallback where that is impossible."""
        models = all(isinstance(each, BaseChatModel) for each in fallbacks)
        usual = all(isinstance(each, type) and issubclass(each, Exception) for each in exceptions_to_handle)
        if exception_key is not None or not (models and usual and exceptions_to_handle):
            return super().with_fallbacks(
                fallbacks, exceptions_to_handle=exceptions_to_handle, exception_key=exception_key
            )
        from langchain_chutes.fallback import ChutesFallback

        return ChutesFallback([self, *fallbacks], handled=exceptions_to_handle)  # type: ignore[list-item]

    # ----------------------------------------------------------------------- what LangChain asks about us

    @property
    def model_name(self) -> str:
        """Alias of :attr:`model`, as other integrations call it."""
        return self.model

    def _resolve_model_profile(self) -> ModelProfile | None:
        return model_profile(model_infos(self._known_models(), self.model))

    def get_num_tokens(self, text: str) -> int:
        """Count the tokens in a text with ``custom_get_token_ids`` if set, else estimate them."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return estimate_tokens(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Count or estimate the tokens in a conversation and its tool specifications."""
        if self.custom_get_token_ids is not None:
            return super().get_num_tokens_from_messages(messages, tools)
        return estimate_message_tokens(messages, tools)

    def get_token_ids(self, text: str) -> list[int]:
        """Tokenize a text with ``custom_get_token_ids``."""
        if self.custom_get_token_ids is None:
            raise ConfigurationError(
                "Token ids need the model's tokenizer: pass it as custom_get_token_ids=. "
                "get_num_tokens estimates their number without one."
            )
        return self.custom_get_token_ids(text)

    @property
    def _llm_type(self) -> str:
        return "chutes-chat"

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        return super()._get_llm_string(stop, **kwargs) + self._cache_part()

    @property
    def _identifying_params(self) -> dict[str, Any]:
        told = {"model": self.model, "base_url": self.base_url, **self._given(), "extra_body": self.extra_body}
        told["e2ee"] = plain_e2ee(self.e2ee) if self.e2ee else None
        return {name: value for name, value in told.items() if value is not None}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = PROVIDER
        ends = stop or kwargs.get("stop") or self.stop
        if ends:
            params["ls_stop"] = [ends] if isinstance(ends, str) else list(ends)
        return params

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return {"model_name": self.model, **summed_usage(llm_outputs)}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return True: secrets are serialized as references to the environment."""
        return True


_OTHER_NAMES = ChatChutes._other_names()
_PARAMETERS = tuple(
    name for name in ChatChutes.__annotations__ if name in ChatParams.__annotations__.keys() - {"extra_body"}
)
"""The arguments of its own that are parameters of the request, by the service's names."""
