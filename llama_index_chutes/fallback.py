"""A model made of several: when one fails, the next takes over.

>>> from llama_index_chutes import ChutesFallback
>>> llm = ChutesFallback(["Qwen/Qwen3-32B-TEE", "deepseek-ai/DeepSeek-V3.2-TEE"], api_key="cpk_0123")
>>> llm.metadata.context_window
40960
"""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

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
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr, field_serializer
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM, ToolSelection
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.types import Model, TokenAsyncGen, TokenGen

from chutes_core import ConfigurationError, Delta, Kind
from chutes_core.clock import Clock, SystemClock
from chutes_core.failures import failure
from chutes_core.fallback import FallbackError, FallbackPolicy, Health
from chutes_core.fallback.drivers import afallback, fallback
from chutes_core.fallback.routes import route, split_models
from llama_index_chutes._members import Seat, as_model, public_copy, seats_of
from llama_index_chutes._parts import ChatWriter, CompletionWriter, Toolbox, Wanted, Writer
from llama_index_chutes._restart import acollect, arender, collect, is_restart, render
from llama_index_chutes._run import Run
from llama_index_chutes._structured import Mode, Plan
from llama_index_chutes._tools import chosen_tool, selections_in, tool_specs
from llama_index_chutes.llms import Chutes

if TYPE_CHECKING:
    from llama_index.core.program.utils import FlexibleModel
    from llama_index.core.tools.types import BaseTool

__all__ = [
    "AttemptEvent",
    "ChutesFallback",
    "FallbackError",
    "FallbackPolicy",
    "Health",
    "acollect",
    "arender",
    "collect",
    "is_restart",
    "render",
]

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]
T = TypeVar("T")


class AttemptEvent(BaseEvent):
    """One member's part in a call has ended: what ``raw["chutes_attempts"]`` says of it."""

    attempt: dict[str, Any]

    @classmethod
    def class_name(cls) -> str:
        """Name the event."""
        return "ChutesAttemptEvent"


class ChutesFallback(FunctionCallingLLM):
    """A chat model made of several: when a member fails, the next one takes over.

    The last chunk of a stream, and every whole answer, says in ``raw`` who gave it (``"model_name"``) and what was
    tried (``"chutes_attempts"``). When nobody gives a whole answer, :class:`FallbackError` lists what was tried.

    Args:
        members: Names of models on Chutes, models of ours, or any LLM of LlamaIndex, in their order.
        policy: When the next one takes over, and in which order.
        health: What is known of the members; give several fallbacks the same to share it.
        shared: Arguments for the members that are given by name, such as ``api_key`` or ``temperature``, and
            those that every LLM of the framework has, such as ``system_prompt``.

    >>> llm = ChutesFallback(["acme/one", "acme/two"], policy=FallbackPolicy(deadline=60), api_key="cpk_0123")
    >>> [member.model for member in llm.members]
    ['acme/one', 'acme/two']
    >>> "cpk_" in repr(llm) + llm.to_json()
    False
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True)

    members: list[Any] = Field(description="The models, in their order.")
    policy: Any = Field(description="The rules: a FallbackPolicy.")
    health: Any = Field(exclude=True, repr=False, description="What is known of the members.")
    clock: Any = Field(default=None, exclude=True, repr=False, description="For tests: a clock that you move.")

    _seated: tuple[object, list[Seat]] | None = PrivateAttr(default=None)
    _metadata: tuple[object, LLMMetadata] | None = PrivateAttr(default=None)
    _chance: Callable[[], float] = PrivateAttr(default=random.random)

    def __init__(
        self,
        members: Sequence[str | Mapping[str, Any] | LLM],
        *,
        policy: FallbackPolicy | Mapping[str, Any] | None = None,
        health: Health | None = None,
        **shared: Any,
    ) -> None:
        if isinstance(members, str) or not isinstance(members, Sequence) or not members:
            raise ConfigurationError(
                "A fallback takes a list of at least one model; for a line of names there is from_models()."
            )
        if shared.get("max_retries"):
            raise ConfigurationError("A fallback retries by itself: FallbackPolicy(max_attempts=...) says how often.")
        shared.pop("class_name", None)
        clock = shared.get("clock")
        own = {name: shared.pop(name) for name in list(shared) if name in LLM.model_fields}
        if "pydantic_program_mode" in own:
            shared["pydantic_program_mode"] = own["pydantic_program_mode"]
        listed: list[Any] = []
        for each in members:
            listed += each.members if isinstance(each, ChutesFallback) else [each]
        made = [as_model(each, shared) for each in listed]
        if set(shared) - {"clock", "pydantic_program_mode", "max_retries"} and all(isinstance(m, LLM) for m in listed):
            raise ConfigurationError(
                f"{', '.join(sorted(shared))}: such arguments go to the members that are listed by name, and there "
                "are none. Give them to the models themselves."
            )
        if clock is None:
            clock = next((model.clock for model in made if isinstance(model, Chutes) and model.clock), None)
        super().__init__(
            members=made,
            policy=policy if isinstance(policy, FallbackPolicy) else FallbackPolicy.from_dict(policy or {}),
            health=health if health is not None else Health(now=(clock or SystemClock()).now),
            clock=clock,
            **own,
        )

    @classmethod
    def from_models(cls, models: str, **arguments: Any) -> ChutesFallback:
        """Make one of a line of names.

        >>> len(ChutesFallback.from_models("acme/one, acme/two", api_key="cpk_0123").members)
        2
        """
        return cls(split_models(models), **arguments)

    @classmethod
    def route(cls, name: str, config: Mapping[str, Any] | str | os.PathLike[str], **arguments: Any) -> ChutesFallback:
        """Make the one that a configuration has for a task; arguments given here come before the route's own.

        >>> config = {"summarization": {"models": ["acme/small", "acme/other"], "policy": {"deadline": 30}}}
        >>> ChutesFallback.route("summarization", config, api_key="cpk_0123").policy.deadline
        30
        """
        found = route(config, name)
        return cls(found.models, **{"policy": found.policy, **found.options, **arguments})

    @classmethod
    def class_name(cls) -> str:
        """Name the class in serialized data."""
        return "ChutesFallback_llm"

    # ------------------------------------------------------------------------------------------ what it is

    @property
    def metadata(self) -> LLMMetadata:
        """What the framework needs to know: prompts are made to fit every member, and tools go to those that can."""
        seats = self._seats()
        if self._metadata is None or self._metadata[0] is not seats:
            self._metadata = (seats, self._described())
        return self._metadata[1]

    def _described(self) -> LLMMetadata:
        each = [member.metadata for member in self.members]
        return LLMMetadata(
            context_window=min(data.context_window for data in each),
            num_output=min(data.num_output for data in each),
            is_chat_model=True,
            is_function_calling_model=any(data.is_function_calling_model for data in each),
            model_name=",".join(data.model_name for data in each),
        )

    def _seats(self) -> list[Seat]:
        """Return the members as the engine sees them, anew when one or what is known of it has changed."""
        state: list[tuple[object, ...]] = [
            (member, member.model, member.max_tokens, member.api_key, member._known_models())
            if isinstance(member, Chutes)
            else (member, None, None, None, None)
            for member in self.members
        ]
        known = self._seated
        if known is None or not _same(known[0], state):
            known = self._seated = (state, seats_of(self.members))
        return known[1]

    @field_serializer("members")
    def _told_members(self, members: list[Any]) -> list[dict[str, Any]]:
        # Nothing but the name of another provider's model: what else it has may be secret.
        return [
            member.to_dict()
            if isinstance(member, Chutes)
            else {"class_name": member.class_name(), "model": member.metadata.model_name}
            for member in members
        ]

    @field_serializer("policy")
    def _told_policy(self, policy: FallbackPolicy) -> dict[str, Any]:
        return dict(policy.to_dict())

    def __repr__(self) -> str:
        return f"ChutesFallback({[seat.member.name for seat in self._seats()]}, policy={self.policy!r})"

    __str__ = __repr__

    def __getstate__(self) -> dict[str, Any]:
        pickle.dumps(self.policy)  # fails loudly: the framework would leave out what it cannot pickle, rules and all
        copy = self.model_copy(update={"members": [public_copy(member) for member in self.members], "clock": None})
        object.__setattr__(copy, "__pydantic_private__", None)
        return FunctionCallingLLM.__getstate__(copy)

    # ------------------------------------------------------------------------------------------------- running

    @property
    def _clock(self) -> Clock:
        return cast("Clock", self.clock) if self.clock is not None else _CLOCK

    def _run(self, messages: Sequence[ChatMessage], given: Mapping[str, Any], *, visible: bool) -> Run:
        if "timeout" in given:
            raise ConfigurationError("The time limits of a fallback are its policy's: FallbackPolicy(deadline=...).")
        return Run(
            self._seats(),
            self.policy,
            self.health,
            self._extend_messages(list(messages)),
            given,
            visible=visible,
            clock=self._clock,
            chance=self._chance,
            tell=_tell,
        )

    def _extend_messages(self, messages: list[ChatMessage]) -> list[ChatMessage]:
        """Put the system prompt first, once."""
        if any(each.role == MessageRole.SYSTEM and each.content == self.system_prompt for each in messages):
            return messages
        return super()._extend_messages(messages)

    def _prompted(self, prompt: str, formatted: bool) -> list[ChatMessage]:
        if not formatted and self.completion_to_prompt is not None:
            prompt = self.completion_to_prompt(prompt)
        return [ChatMessage(role=MessageRole.USER, content=prompt)]

    def _stream(self, run: Run, writer: Writer[T]) -> Generator[T, None, None]:
        try:
            with closing(fallback(run.relay, run.ask, clock=self._clock)) as parts:
                for part in parts:
                    chunk = writer.own(part) if type(part) is Delta else run.write(writer, part)
                    if chunk is not None:
                        yield chunk
            yield run.finish(writer, "")
        finally:
            run.report()

    async def _astream(self, run: Run, writer: Writer[T]) -> AsyncGenerator[T, None]:
        try:
            async with aclosing(afallback(run.relay, run.aask, clock=self._clock)) as parts:
                async for part in parts:
                    chunk = writer.own(part) if type(part) is Delta else run.write(writer, part)
                    if chunk is not None:
                        yield chunk
            yield run.finish(writer, "")
        finally:
            run.report()

    def _whole(self, run: Run, writer: Writer[T]) -> T:
        try:
            for part in fallback(run.relay, run.ask, clock=self._clock):
                run.end = part
        finally:
            run.report()
        return run.finish(writer, None)

    async def _awhole(self, run: Run, writer: Writer[T]) -> T:
        try:
            async for part in afallback(run.relay, run.aask, clock=self._clock):
                run.end = part
        finally:
            run.report()
        return run.finish(writer, None)

    # ------------------------------------------------------------------------------------------------ chat

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask, and wait for the whole answer."""
        return self._whole(self._run(messages, kwargs, visible=False), ChatWriter())

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask, and wait for the whole answer."""
        return await self._awhole(self._run(messages, kwargs, visible=False), ChatWriter())

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Ask, and take the answer as it comes; the last chunk has the tool calls and the attempts."""
        return self._stream(self._run(messages, kwargs, visible=True), ChatWriter())

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Ask, and take the answer as it comes; the last chunk has the tool calls and the attempts."""
        return self._astream(self._run(messages, kwargs, visible=True), ChatWriter())

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt."""
        return self._whole(self._run(self._prompted(prompt, formatted), kwargs, visible=False), CompletionWriter())

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt."""
        run = self._run(self._prompted(prompt, formatted), kwargs, visible=False)
        return await self._awhole(run, CompletionWriter())

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer a prompt, and give the answer as it comes."""
        return self._stream(self._run(self._prompted(prompt, formatted), kwargs, visible=True), CompletionWriter())

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Answer a prompt, and give the answer as it comes."""
        return self._astream(self._run(self._prompted(prompt, formatted), kwargs, visible=True), CompletionWriter())

    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """Give out the words of an answer alone: no marker fits among them, so a broken answer is raised."""
        return FunctionCallingLLM.stream(self._without_restart(), prompt, **prompt_args)

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """Give out the words of an answer alone: no marker fits among them, so a broken answer is raised."""
        return await FunctionCallingLLM.astream(self._without_restart(), prompt, **prompt_args)

    def _without_restart(self) -> ChutesFallback:
        if self.policy.after_commit == "raise":
            return self
        return self.model_copy(update={"policy": replace(self.policy, after_commit="raise")})

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
        """Make the arguments of ``chat``; each member translates the tools its own way."""
        messages = list(chat_history or [])
        if user_msg is not None:
            user = ChatMessage(role=MessageRole.USER, content=user_msg) if isinstance(user_msg, str) else user_msg
            messages.append(user)
        specs = tool_specs(tools)
        if not specs:
            return {"messages": messages, **kwargs}
        options: dict[str, Any] = {
            "allow_parallel_tool_calls": allow_parallel_tool_calls,
            "tool_required": tool_required,
            **({"tool_choice": tool_choice} if tool_choice is not None else {}),
        }
        choice = chosen_tool(tool_choice, required=tool_required, specs=specs)
        parallel = {} if allow_parallel_tool_calls else {"parallel_tool_calls": False}
        box = Toolbox(specs, tools, options)
        return {"messages": messages, "tools": box, "tool_choice": choice, **parallel, **kwargs}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the complete tool calls of a response; in the middle of a stream there are none yet.

        Raises:
            MalformedReplyError: The model called a tool with arguments that are not valid.
            ValueError: There is none, and ``error_on_no_tool_call`` is set.
        """
        served = response.raw.get("model_name") if isinstance(response.raw, Mapping) else None
        invalid = response.message.additional_kwargs.get("invalid_tool_calls")
        if invalid:
            said = "; ".join(f"the call of {call['function']['name']!r}: {call['error']}" for call in invalid)
            raise failure(Kind.MALFORMED, said, model=served)
        selections = selections_in(response.message)
        if not selections and error_on_no_tool_call:
            said = (response.message.content or "")[:200]
            raise ValueError(f"{served or 'The model'} called no tool; it said: {said!r}")
        return selections

    # ------------------------------------------------------------------------------------ structured answers

    def _question(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: Mapping[str, Any] | None,
        prompt_args: Mapping[str, Any],
    ) -> tuple[Wanted, dict[str, Any]]:
        dispatcher.event(
            LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=dict(prompt_args))
        )
        wanted = Wanted(output_cls, prompt, prompt_args)
        messages = prompt.format_messages(llm=self, **prompt_args)
        return wanted, {**(llm_kwargs or {}), "messages": messages, "structured": wanted}

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Ask for an object of a class; a member whose answer is none is followed by the next."""
        wanted, request = self._question(output_cls, prompt, llm_kwargs, prompt_args)
        self.chat(**request)
        return _ended(wanted)  # type: ignore[no-any-return]

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Ask for an object of a class; a member whose answer is none is followed by the next."""
        wanted, request = self._question(output_cls, prompt, llm_kwargs, prompt_args)
        await self.achat(**request)
        return _ended(wanted)  # type: ignore[no-any-return]

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel, None, None]:
        """Ask for an object of a class, and give out what is there of it: each piece replaces those before."""
        wanted, request = self._question(output_cls, prompt, llm_kwargs, prompt_args)
        reader = _reader(output_cls)
        for chunk in self.stream_chat(**request):
            if (piece := _piece(reader, chunk)) is not None:
                yield piece
        yield _ended(wanted)

    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | FlexibleModel, None]:
        """Ask for an object of a class, and give out what is there of it: each piece replaces those before."""
        wanted, request = self._question(output_cls, prompt, llm_kwargs, prompt_args)
        reader = _reader(output_cls)
        chunks = await self.astream_chat(**request)

        async def pieces() -> AsyncGenerator[Model | FlexibleModel, None]:
            async for chunk in chunks:
                if (piece := _piece(reader, chunk)) is not None:
                    yield piece
            yield _ended(wanted)

        return pieces()


_CLOCK = SystemClock()


def _same(one: object, other: list[tuple[object, ...]]) -> bool:
    """Whether nothing was exchanged; equal is not enough, and comparing models by value would be slow."""
    before = cast("list[tuple[object, ...]]", one)
    return len(before) == len(other) and all(
        a is b for row, told in zip(before, other, strict=True) for a, b in zip(row, told, strict=True)
    )


def _tell(attempt: dict[str, Any]) -> None:
    dispatcher.event(AttemptEvent(attempt=attempt))


def _reader(output_cls: type[Model]) -> Plan[Model]:
    return Plan.make(output_cls, Mode.WORDS, [], None, model="")


def _piece(reader: Plan[Model], chunk: ChatResponse) -> Model | FlexibleModel | None:
    if isinstance(chunk.raw, Mapping):  # the end, which is read strictly, or a marker
        return None
    piece = reader.partial(chunk)
    if piece is not None:
        dispatcher.event(LLMStructuredPredictInProgressEvent(output=piece))
    return piece


def _ended(wanted: Wanted) -> Any:
    dispatcher.event(LLMStructuredPredictEndEvent(output=wanted.result))
    return wanted.result
