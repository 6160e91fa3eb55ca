"""The LlamaIndex LLM for Chutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.bridge.pydantic import BeforeValidator, Field, PrivateAttr
from llama_index.core.types import Model, PydanticProgramMode

from chutes_core import ChatParams, ImagePolicy, ModelInfo
from chutes_core.catalog.names import model_infos
from chutes_core.connected import ModelCall
from chutes_core.default_model import default_model
from chutes_core.peers import CALLS, FIELDS, renames, with_parameters
from chutes_core.request.chat import Effort, OnLength, build_chat_request, effort_of
from chutes_core.request.objects import Mode
from chutes_core.request.schema import is_taken
from chutes_core.secrets.frames import unseen
from llama_index_chutes._chat_model import ChatModel, Messages, Params
from llama_index_chutes._convert.messages import wire_messages
from llama_index_chutes._convert.profile import described
from llama_index_chutes._convert.tools import tool_specs
from llama_index_chutes._settings import ChutesComponent, kept
from llama_index_chutes._structured.plans import Plan

__all__ = ["Chutes"]

_ALIASES = {"max_completion_tokens": "max_tokens", "reasoning_effort": "reasoning"}
_RENAMED = renames(CALLS)


class Chutes(ChutesComponent, ChatModel):
    """A Chutes chat model.

    Parameters you do not set are not sent. A call that does not produce a complete answer raises an error from
    :mod:`chutes_core.errors`; its ``.partial`` has the text received so far. Reasoning is returned as a
    ``ThinkingBlock``, and in streams as ``additional_kwargs["thinking_delta"]``.

    Args:
        model: A model name, a routing list (``"a,b:latency"``) or an alias; by default that of ``CHUTES_MODEL``, else
            the one that ``chutes-connect models set`` stored.
        temperature: Sampling temperature.
        max_tokens: Maximum length of the answer.
        top_p: Nucleus sampling threshold.
        reasoning: True, False or an effort such as "low", for reasoning models.
        on_length: What an answer is that reaches ``max_tokens``: with "raise" a ``LengthLimitError``, which has it in
            ``.partial``; by default ("keep") it is returned as far as it got, with the finish reason "length".
        trace: Have the gateway tell which machines it asks: in ``raw["chutes"]["trace"]``, and to ``hooks.on_trace``.
        additional_kwargs: Other request parameters, as named in ``chutes_core.ChatParams``.
        context_window: Overrides the catalogue's value, if it is missing or to use less.
        is_function_calling_model: Whether the model supports tool calls; None looks it up in the catalogue.
        should_use_structured_outputs: Whether it is asked for objects by their schema; None looks it up.
        strict: Whether calls of tools must follow their schemas; sent only if set.
        inline_images: Download remote images and send them inline.
        e2ee: Encrypt every request end to end to the machine that answers it: True, or an ``E2EE`` that sets how
            strictly its attestation is checked. See docs/privacy.md.
        api_key: A key or token, or a function that returns one; without it ``CHUTES_OAUTH_TOKEN``, then
            ``CHUTES_API_KEY``, then the login stored by ``chutes-connect login``.

    >>> llm = Chutes(model="Qwen/Qwen3-32B-TEE", api_key="cpk_0123", temperature=0)
    >>> llm.metadata.context_window, llm.metadata.is_function_calling_model
    (40960, True)
    >>> "cpk_" in repr(llm) + llm.to_json()
    False

    Call it with ``llm.complete("Hello")`` or ``llm.chat([ChatMessage("Hello")])``.
    """

    model: str = Field(default_factory=default_model, description="A model name, a routing list, or an alias.")
    temperature: float | None = Field(default=None, description="Sampling temperature.")
    max_tokens: int | None = Field(default=None, description="Maximum length of the answer, in tokens.")
    top_p: float | None = Field(default=None, description="Nucleus sampling threshold.")
    reasoning: Annotated[bool | Effort | None, BeforeValidator(effort_of)] = Field(
        default=None, description="Whether, or how hard, to reason before answering."
    )
    on_length: OnLength | None = Field(
        default=None, description="What an answer is that reaches max_tokens: returned as far as it got, or an error."
    )
    trace: bool | None = Field(default=None, description="Have the gateway tell which machines it asks.")
    additional_kwargs: dict[str, Any] = Field(default_factory=dict, description="Other request parameters.")
    context_window: int | None = Field(default=None, gt=0, description="Overrides the catalogue's context window.")
    is_function_calling_model: bool | None = Field(
        default=None, description="Whether the model supports tool calls; None looks it up in the catalogue."
    )
    should_use_structured_outputs: bool | None = Field(
        default=None,
        description="Whether the model is asked for objects by their schema; None looks it up in the catalogue.",
    )
    strict: bool | None = Field(default=None, description="Whether calls of tools must follow their schemas.")
    inline_images: bool | ImagePolicy = Field(default=False, description="Download remote images and send them inline.")

    _metadata: tuple[object, LLMMetadata] | None = PrivateAttr(default=None)
    _passed_on: ClassVar[Mapping[str, str]] = {
        **ChutesComponent._passed_on, "base_url": "api_base", "inline_images": "inline_images",
    }  # fmt: skip

    if not TYPE_CHECKING:

        @unseen
        def __init__(self, **data: Any) -> None:
            super().__init__(**with_parameters(data, _LOOSE, "additional_kwargs"))
            # Refuse invalid parameters here, not at the first call.
            build_chat_request([{"role": "user", "content": "-"}], self.model, self._params({}))

    @classmethod
    def class_name(cls) -> str:
        """Return the class name used in serialized data."""
        return "Chutes_llm"

    # ------------------------------------------------------------------------------------------ what it is

    @property
    def metadata(self) -> LLMMetadata:
        """Model metadata for the framework, from the catalogue.

        ``num_output`` is ``max_tokens`` or the model's maximum, but at most half the window, because the framework
        reserves that much in every prompt. The parameters of its requests are there too, for tracers.
        """
        calls, window, longest = self.is_function_calling_model, self.context_window, self.max_tokens
        own = (self.temperature, self.top_p, self.reasoning, self.on_length, self.trace, {**self.additional_kwargs})
        known = (self.model, window, longest, calls, id(self._known_models()), own)
        held = kept(self, "_metadata")
        if held is None or held[0] != known:
            params = self._params({})
            params.pop("extra_body", None)  # anything may be in there
            held = self._metadata = (known, described(self.model, self._infos(), window, longest, calls, params))
        return held[1]  # type: ignore[no-any-return]

    def _infos(self, model: str | None = None) -> list[ModelInfo]:
        """Return what is known about each model that may answer; ``model`` overrides the configured one."""
        return model_infos(self._known_models(), model or self.model)

    # ------------------------------------------------------------------------------------------- requests

    def _params(self, given: Params) -> dict[str, Any]:
        """Merge the parameters of a call: fields, then ``additional_kwargs``, then the call's own."""
        own = {"temperature": self.temperature, "max_tokens": self.max_tokens, "top_p": self.top_p}
        params: dict[str, Any] = {**own, "reasoning": self.reasoning, "on_length": self.on_length, "trace": self.trace}
        for layer in (self.additional_kwargs, given):
            for name, value in layer.items():
                name = _RENAMED.get(name, name) if name not in _ALIASES else name
                params.pop(_ALIASES.get(name, ""), None)
                inner = params.get(name) if name in ("extra_body", "chat_template_kwargs") else None
                params[name] = {**inner, **value} if isinstance(inner, Mapping) and value else value
        return {name: value for name, value in params.items() if value is not None}

    def _request(self, messages: Messages, given: Params, model: str | None = None) -> dict[str, Any]:
        """Build the arguments of a client call; ``model`` overrides the configured one."""
        params = self._params(given)
        if tools := params.get("tools"):
            params["tools"] = tool_specs(tools, strict=self.strict)
        elif "tools" in params:
            del params["tools"]
        echo = any(info.traits.echo_reasoning is True for info in self._infos(model))
        wire = wire_messages(self._extend_messages(list(messages)), echo_reasoning=echo)
        return {"messages": wire, "model": model or self.model, **params}

    def _call(self, messages: Messages, params: Params, *, whole: bool) -> ModelCall:
        return ModelCall(self, self._request(messages, params))

    def _inquiry(
        self, output_cls: type[Model], messages: Messages, params: Params, model: str | None = None
    ) -> Plan[Model]:
        infos = self._infos(model)
        mode = self._structured_mode(infos, output_cls)
        if params.get("allow_parallel_tool_calls") and self.metadata.is_function_calling_model:
            mode = Mode.TOOL  # only calls are asked for in parallel
        json_mode = all(info.supports("json_mode") for info in infos)
        return Plan(
            output_cls, mode, messages, params, model=model or self.model, json_mode=json_mode, quiet=self._is_sealed()
        )

    def _address(self) -> str | None:
        return self.api_base

    def _structured_mode(self, infos: Sequence[ModelInfo], output_cls: type[Model]) -> Mode:
        wish = self.pydantic_program_mode
        if wish == PydanticProgramMode.LLM:
            return Mode.WORDS
        able = self.should_use_structured_outputs
        if able is None:
            able = all(info.supports("structured_outputs") for info in infos)
        if able and wish != PydanticProgramMode.FUNCTION and is_taken(output_cls.model_json_schema()):
            return Mode.SCHEMA
        return Mode.TOOL if self.metadata.is_function_calling_model else Mode.WORDS


_LOOSE = ChatParams.__annotations__.keys() - Chutes.model_fields.keys() - FIELDS["llama_index"].keys()
"""The parameters of requests that have no field."""
