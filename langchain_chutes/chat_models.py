"""The LangChain chat model for Chutes.

All decisions are made in the neighbouring modules and in the core; this one connects them to LangChain. The sync and
async form of a method share everything except the waiting.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, cast

from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult
from langchain_core.runnables import Runnable
from pydantic import BeforeValidator, Field, model_validator

from chutes_core.catalog.joint import Method, echoes_reasoning, price, structured_method
from chutes_core.catalog.names import model_infos
from chutes_core.connected import ModelCall
from chutes_core.default_model import default_model
from chutes_core.errors import ConfigurationError
from chutes_core.peers import CALLS, FIELDS, renames, with_parameters
from chutes_core.request.arguments import call_arguments
from chutes_core.request.chat import ChatParams, Effort, OnLength, effort_of
from chutes_core.tokens import estimate_tokens, request_tokens
from langchain_chutes._chat_model import ChatModel
from langchain_chutes._convert.messages import request_messages
from langchain_chutes._convert.profile import Resolved, model_profile
from langchain_chutes._convert.replies import ChunkMaker, chat_result, summed_usage
from langchain_chutes._convert.tools import tool_params
from langchain_chutes._settings import CONFIG, ChutesSettings, plain_e2ee
from langchain_chutes._structured.schemas import Schema, response_format, titled

if TYPE_CHECKING:
    from chutes_core.response import Reply
    from langchain_chutes._structured.forms import Form
    from langchain_chutes._structured.parsers import Source

__all__ = ["ChatChutes"]


class ChatChutes(ChutesSettings, ChatModel):
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

    model_config = CONFIG

    model: str = Field(default_factory=default_model, min_length=1)
    """A model name, a list of names for the gateway to route between (`"a,b:latency"`), or one of your aliases; by
    default that of `CHUTES_MODEL`, else the one that `chutes-connect models set` stored."""

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
    logit_bias: dict[Annotated[str, BeforeValidator(str)], float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    user: str | None = None
    reasoning: Annotated[bool | Effort | None, BeforeValidator(effort_of)] = None
    """Whether, or how hard, to reason. The reasoning is in `additional_kwargs["reasoning_content"]` and in
    `content_blocks`."""
    reasoning_effort: Effort | None = None
    on_length: OnLength | None = None
    """What an answer is that reaches `max_tokens`: with "raise" a `LengthLimitError`, which has it in `.partial`; by
    default ("keep") it is returned as far as it got, with the finish reason "length"."""
    trace: bool | None = None
    """Have the gateway tell which machines it asks: in `response_metadata["trace"]`, and to `hooks.on_trace`."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Other parameters from `chutes_core.ChatParams`, such as `guided_choice`."""
    extra_body: dict[str, Any] | None = None
    """Extra fields added to the request unchanged."""

    streaming: bool = False
    """Stream during `invoke` too, for callbacks that want tokens."""
    inline_images: Any = False
    """Download remote images and send them inline, for hosts that block the gateway: True, or an `ImagePolicy`."""

    _passed_on: ClassVar[Mapping[str, str]] = {**ChutesSettings._passed_on, "inline_images": "inline_images"}

    # ------------------------------------------------------------------------------------------ arguments

    @classmethod
    def _read(cls, owner: str, given: Mapping[str, Any], *more: str) -> dict[str, Any]:
        # A profile that was resolved came from another model's arguments: it is looked up again.
        given = {name: value for name, value in given.items() if not isinstance(value, Resolved)}
        return super()._read(owner, with_parameters(given, _LOOSE, "model_kwargs"), *more)

    @model_validator(mode="after")
    def _check_parameters(self) -> Self:
        """Check what pydantic cannot, and tell LangChain our version."""
        for name in self.model_kwargs:
            if name in _PARAMETERS:
                raise ConfigurationError(f"{name!r} is an argument of its own: pass it outside model_kwargs.")
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

    def _request(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, options: Mapping[str, Any], *, stream: bool
    ) -> dict[str, Any]:
        """Return the arguments for the core's ``chat`` and ``stream``."""
        given = {"model": self.model, **self._given(), "extra_body": self.extra_body}
        arguments: dict[str, Any] = call_arguments(given, options, _OTHER_NAMES, _READ, stop=stop, stream=stream)
        answered = any(isinstance(message, AIMessage) for message in messages)
        echo = answered and echoes_reasoning(model_infos(self._known_models(), arguments["model"]))
        return {"messages": request_messages(messages, echo_reasoning=echo), **arguments}

    def _asked(
        self, messages: list[BaseMessage], stop: list[str] | None, run_manager: Any, options: dict[str, Any], *,
        whole: bool,
    ) -> Call:  # fmt: skip
        return Call(self, self._request(messages, stop, options, stream=not whole))

    def _formed(self, form: Form) -> tuple[Method, Source, dict[str, Any]]:
        method = form.method or structured_method(
            model_infos(self._known_models(), self.model), by_schema=form.by_schema
        )
        form.refuse_unusable(method)
        if method == "function_calling":
            tool = titled(cast("Schema", form.schema))
            return method, "calls", {"tools": tool_params([tool], strict=form.strict), "tool_choice": "required"}
        held = method == "json_schema" and form.schema
        asked = {"response_format": response_format(held, strict=form.strict) if held else {"type": "json_object"}}
        return method, "text", {**asked, "tools": tool_params(form.tools)} if form.tools else asked

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
        return request_tokens(request_messages(messages), tool_params(tools or ()))

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

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return {"model_name": self.model, **summed_usage(llm_outputs)}


class Call(ModelCall):
    """A call of one model."""

    _model: ChatChutes

    def result(self, reply: Reply) -> ChatResult:
        """Return a whole answer as LangChain's."""
        return chat_result(reply, self._cost(reply))

    def maker(self) -> ChunkMaker:
        """Return what makes chunks of the deltas."""
        return ChunkMaker(self._cost, blocks=self._model.output_version == "v1")

    def _cost(self, reply: Reply) -> float | None:
        return price([self._model._known_models()], reply)


_READ: Mapping[str, Any] = {
    "tools": tool_params,
    "response_format": lambda form: response_format(form) if isinstance(form, type) else form,
}
_OTHER_NAMES = renames(CALLS)
_PARAMETERS = tuple(
    name for name in ChatChutes.__annotations__ if name in ChatParams.__annotations__.keys() - {"extra_body"}
)
"""The arguments of its own that are parameters of the request, by the service's names."""
_LOOSE = ChatParams.__annotations__.keys() - ChatChutes.model_fields.keys() - FIELDS["langchain"].keys()
"""The other parameters."""
