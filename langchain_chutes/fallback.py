"""A chat model made of several: when one fails, the next one takes over.

>>> from langchain_chutes import ChutesFallback, FallbackPolicy
>>> model = ChutesFallback(
...     ["Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE"],
...     policy=FallbackPolicy(first_token=8, deadline=60),
...     api_key="cpk_0123",
... )
>>> model
ChutesFallback(['Qwen/Qwen3-32B-TEE', 'google/gemma-4-31B-turbo-TEE'], first_token=8, deadline=60)
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from operator import itemgetter
from typing import Any, Literal, Self, cast

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    CallbackManager,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig, RunnableMap, RunnablePassthrough
from pydantic import ConfigDict, Field, InstanceOf, PrivateAttr, field_validator

from chutes_core.clock import SystemClock
from chutes_core.errors import RequestRefusedError
from chutes_core.fallback import Call, FallbackError, FallbackPolicy, Health
from chutes_core.fallback.drivers import afallback, fallback
from chutes_core.fallback.routes import route, split_models
from chutes_core.usage import Ledger
from langchain_chutes._attempts import Request, aask, ask
from langchain_chutes._calls import Relay, closing_chunk, is_last, needs_of, raised, reports
from langchain_chutes._forms import Form, ToolList, form_parser
from langchain_chutes._members import Listed, Seat, made_members, seats
from langchain_chutes._profile import model_infos, model_profile
from langchain_chutes._replies import PROVIDER
from langchain_chutes._restart import acollect, collect, is_restart, render, restartable
from langchain_chutes._runs import announce, announced, current_runs
from langchain_chutes._settings import translated_errors
from langchain_chutes._structured import Schema, check_method
from langchain_chutes._tools import Tool, tool_choice_param, tool_params
from langchain_chutes.chat_models import ChatChutes

__all__ = [
    "ChutesFallback", "FallbackError", "FallbackPolicy", "Health", "acollect", "collect", "is_restart", "render",
]  # fmt: skip


class ChutesFallback(BaseChatModel):
    """A chat model made of several.

    Args:
        members: In their order: names of models on Chutes, which share the other arguments; models of ours; chat
            models of any other provider. Their own retries are turned off.
        policy: When the next one takes over, and in which order.
        health: What is known of how well members are; share one between models to share what they learn.
        **arguments: Of this model (``cache``, ``rate_limiter``, ``callbacks``, …) and of every member that is
            listed by its name (``api_key``, ``temperature``, …).

    ``message.response_metadata["chutes_attempts"]`` says what happened, ``model.health`` how everybody is.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    members: list[InstanceOf[BaseChatModel]] = Field(default_factory=list)
    policy: InstanceOf[FallbackPolicy] = Field(default_factory=FallbackPolicy)
    health: InstanceOf[Health] = Field(default_factory=Health, exclude=True, repr=False)
    clock: Any = Field(default=None, exclude=True, repr=False)
    """For tests: a clock such as `chutes_core.testing.VirtualClock`."""
    handled: tuple[type[Exception], ...] | None = Field(default=None, exclude=True, repr=False)
    """The exceptions of members after which the next one is asked; None, the default, is every failure of a model."""

    _seats: list[Seat] | None = PrivateAttr(default=None)

    def __init__(
        self,
        members: Sequence[Listed] = (),
        *,
        policy: FallbackPolicy | Mapping[str, Any] | None = None,
        health: Health | None = None,
        **arguments: Any,
    ) -> None:
        own = {name: arguments.pop(name) for name in list(arguments) if name in type(self).model_fields}
        clock = own.get("clock")
        if health is None:
            health = Health(now=clock.now) if clock is not None else Health()
        made = made_members(members, arguments, _maker(own))
        given = {"members": made, "policy": policy or FallbackPolicy(), "health": health, **own}
        super().__init__(**given)

    @field_validator("policy", mode="before")
    @classmethod
    def _read_policy(cls, value: Any) -> Any:
        return FallbackPolicy.from_dict(value) if isinstance(value, Mapping) else value

    @classmethod
    def from_models(cls, models: str, **arguments: Any) -> Self:
        """Make one of a line of names.

        >>> ChutesFallback.from_models("acme/one, acme/two", api_key="cpk_0123")
        ChutesFallback(['acme/one', 'acme/two'])
        """
        return cls(split_models(models), **arguments)

    @classmethod
    def route(cls, name: str, source: Mapping[str, object] | str | os.PathLike[str], **arguments: Any) -> Self:
        """Make the one for a task, from a mapping or a TOML or YAML file with the routes of all tasks.

        >>> routes = {"summarization": {"models": ["acme/small", "acme/other"], "policy": {"deadline": 30}}}
        >>> ChutesFallback.route("summarization", routes, api_key="cpk_0123")
        ChutesFallback(['acme/small', 'acme/other'], deadline=30)
        """
        found = route(source, name)
        return cls(found.models, **{"policy": found.policy, **found.options, **arguments})

    # ------------------------------------------------------------------------------------------ the call

    def _sit(self) -> list[Seat]:
        """The members with what is known of them; anew for each call where the catalogue has changed."""
        if self._seats is None or any(
            seat.own is not None and seat.member.info is not None
            and seat.own._known_models().get(seat.own.model) not in (None, seat.member.info)
            for seat in self._seats
        ):  # fmt: skip
            self._seats = seats(self.members)
        return self._seats

    def _begin(
        self, messages: list[BaseMessage], stop: list[str] | None, run_manager: Any, options: dict[str, Any], *,
        whole: bool,
    ) -> _Run:  # fmt: skip
        """Make what a call needs: the one function behind all four ways to call."""
        return _Run(self, messages, stop, run_manager, options, whole=whole)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translated_errors:
            return generate_from_stream(self._begin(messages, stop, run_manager, kwargs, whole=True).parts())

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translated_errors:
            run = self._begin(messages, stop, run_manager, kwargs, whole=True)
            return generate_from_stream(iter([part async for part in run.aparts()]))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with translated_errors:
            yield from self._begin(messages, stop, run_manager, kwargs, whole=False).parts()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with translated_errors:
            async for part in self._begin(messages, stop, run_manager, kwargs, whole=False).aparts():
                yield part

    # The run of a stream is known to nobody but LangChain: here it is made known to the attempts.

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, *, stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:  # fmt: skip
        """Give the answer out as it comes."""
        yield from super().stream(input, announced(config, CallbackManager), stop=stop, **kwargs)

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, *, stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:  # fmt: skip
        """Give the answer out as it comes."""
        async for chunk in super().astream(input, announced(config, AsyncCallbackManager), stop=stop, **kwargs):
            yield chunk

    def _generate_with_cache(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> ChatResult:  # fmt: skip
        announce(run_manager)
        return super()._generate_with_cache(messages, stop, run_manager, **kwargs)

    async def _agenerate_with_cache(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> ChatResult:  # fmt: skip
        announce(run_manager)
        return await super()._agenerate_with_cache(messages, stop, run_manager, **kwargs)

    # ------------------------------------------------------------------------------- tools and structure

    def bind_tools(
        self,
        tools: Sequence[Tool],
        *,
        tool_choice: str | bool | Mapping[str, Any] | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Give every member tools that it may ask to call, each in its own way.

        Args:
            tools: Functions, tools, pydantic models, TypedDicts, or descriptions as dicts.
            tool_choice: "auto", "none", "any" (or "required", or True), or the name of a tool.
            strict: Whether the arguments must follow the schema; sent only where it is given.
            **kwargs: Further parameters of the calls, such as ``parallel_tool_calls``.
        """
        with translated_errors:
            described = tool_params(tools, strict=strict)
            tool_choice_param(tool_choice, [str(tool.get("function", tool).get("name")) for tool in described])
        bound = {"tools": ToolList(described, tools, strict), "tool_choice": tool_choice, **kwargs}
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
        """Get answers of a given form, from each member by its own best method.

        A member whose answer does not have the form has failed, and the next one takes over.

        Args:
            schema: A pydantic model (answers are its objects), a TypedDict or a JSON schema (answers are dicts).
            method: The same method for all members, rather than the best of each.
            include_raw: Return ``{"raw": message, "parsed": answer, "parsing_error": error}`` of the first answer,
                whether or not it has the form.
            strict: Sent along where it is given.
            tools: Further tools for the model, with ``method="json_schema"``; our own models only.
            **kwargs: Further parameters of the calls.
        """
        with translated_errors:
            if method is not None:
                check_method(method)
            if schema is None and method != "json_mode":
                raise RequestRefusedError("An answer of a given form needs a schema; only method='json_mode' does not.")
        form = Form(schema, method, strict, include_raw, tuple(tools or ()))
        parser = form_parser(schema)
        if schema is not None:
            kwargs["ls_structured_output_format"] = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
        asked = self.bind(chutes_form=form, **kwargs)
        if not include_raw:
            return asked | parser
        parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=asked) | parsed.with_fallbacks([failed], exception_key="parsing_error")

    # ----------------------------------------------------------------------- what LangChain asks about us

    @property
    def model_name(self) -> str:
        """The names of all members."""
        return ",".join(seat.member.name for seat in self._seats or self._sit())

    def get_num_tokens(self, text: str) -> int:
        """Count as the first member does."""
        return self.members[0].get_num_tokens(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Count as the first member does."""
        return self.members[0].get_num_tokens_from_messages(messages, tools)

    def get_token_ids(self, text: str) -> list[int]:
        """Cut a text as the first member does."""
        return self.members[0].get_token_ids(text)

    def _resolve_model_profile(self) -> ModelProfile | None:
        """What holds whoever answers: a window that fits all, and what each of them can do."""
        own = [member for member in self.members if isinstance(member, ChatChutes)]
        told: list[Mapping[str, Any]] = [
            *([model_profile([info for member in own for info in model_infos(member._known_models(), member.model)])
               or {}] if own else []),
            *(getattr(member, "profile", None) or {} for member in self.members if member not in own),
        ]  # fmt: skip
        names = set.intersection(*(set(each) for each in told)) if told else set()
        if len(own) < len(self.members):
            names -= {"structured_output"}  # each provider has its own way, and only tools are common to all
        joint = {name: _joint([each[name] for each in told]) for name in names if name != "name"}
        return cast("ModelProfile", joint) if joint else None

    @property
    def _llm_type(self) -> str:
        return "chutes-fallback"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        policy = "custom order" if callable(self.policy.order) else _rules(self.policy)
        return {"members": [_identity(member) for member in self.members], "policy": policy}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = PROVIDER
        params["ls_model_name"] = self.model_name
        return params

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It is, if its members are: secrets are written as references to the environment."""
        return True

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """The policy as plain data."""
        return {} if callable(self.policy.order) else {"policy": self.policy.to_dict()}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy; other members are looked at anew."""
        copied = super().model_copy(update=update, deep=deep)
        copied._seats = None
        return copied

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        return {**state, "__pydantic_private__": {**(state["__pydantic_private__"] or {}), "_seats": None}}

    def __repr__(self) -> str:
        rules = "order=<function>" if callable(self.policy.order) else ", ".join(
            f"{name}={value!r}" for name, value in self.policy.to_dict().items()
        )  # fmt: skip
        names = [seat.member.name for seat in self._sit()]
        return f"ChutesFallback({names!r}" + (f", {rules})" if rules else ")")

    __str__ = __repr__


class _Run:
    """One call: its state, and the two ways to run it."""

    def __init__(
        self, owner: ChutesFallback, messages: list[BaseMessage], stop: list[str] | None, run_manager: Any,
        options: dict[str, Any], *, whole: bool,
    ) -> None:  # fmt: skip
        if "model" in options or "model_name" in options:
            raise RequestRefusedError("A fallback has several models: name them when it is made, not in a call.")
        options.pop("stream", None)
        form = options.pop("chutes_form", None)
        self._runs = current_runs(run_manager)
        self._request = Request(messages, stop, options, self._runs, form)
        self._seats = {id(seat.member): seat for seat in owner._sit()}
        self._clock = owner.clock or _SYSTEM
        policy = owner.policy
        if not whole and run_manager is not None and policy.after_commit == "restart":
            # LangChain's event protocol, which alone comes this way, has no word for what is to be forgotten.
            policy = replace(policy, after_commit="raise")
        self._call = Call(
            [seat.member for seat in self._seats.values()],
            policy,
            owner.health,
            needs_of(messages, options, form),
            now=self._clock.now,
            visible=not whole,
        )
        blocks = owner.output_version == "v1"
        self._relay = Relay(self._call, handled=owner.handled, whole=whole, blocks=blocks)
        self._restarts = not whole and policy.after_commit == "restart"
        self._told = 0

    def _news(self) -> list[dict[str, Any]]:
        """The attempts that nobody was told of yet."""
        new = self._call.attempts[self._told :]
        self._told += len(new)
        return reports(new)

    def parts(self) -> Iterator[ChatGenerationChunk]:
        """The answer, blocking."""
        held: ChatGenerationChunk | None = None
        runs, request, found = self._runs, self._request, self._seats

        def attempt(step: Any) -> Iterator[ChatGenerationChunk]:
            if runs is not None:
                for report in self._news():
                    runs.tell(report)
            return ask(found[id(step.member)], step, request)

        parts = fallback(self._relay, attempt, clock=self._clock)
        try:
            for part in parts:
                if is_last(part):
                    held = part
                elif self._restarts:
                    self._restarts = False
                    yield restartable(part)
                else:
                    yield part
            yield closing_chunk(held, self._call, restarts=self._restarts)
        except FallbackError as error:
            raise raised(error) from None
        finally:
            parts.close()
            if runs is not None:
                for report in self._news():
                    runs.tell(report)

    async def aparts(self) -> AsyncIterator[ChatGenerationChunk]:
        """The answer, on the event loop."""
        held: ChatGenerationChunk | None = None
        runs, request, found = self._runs, self._request, self._seats

        async def watched(step: Any) -> AsyncIterator[ChatGenerationChunk]:
            assert runs is not None
            for report in self._news():
                await runs.atell(report)
            async for part in aask(found[id(step.member)], step, request):
                yield part

        def attempt(step: Any) -> AsyncIterator[ChatGenerationChunk]:
            return watched(step) if runs is not None else aask(found[id(step.member)], step, request)

        parts = afallback(self._relay, attempt, clock=self._clock)
        try:
            async for part in parts:
                if is_last(part):
                    held = part
                elif self._restarts:
                    self._restarts = False
                    yield restartable(part)
                else:
                    yield part
            yield closing_chunk(held, self._call, restarts=self._restarts)
        except FallbackError as error:
            raise raised(error) from None
        finally:
            await parts.aclose()
            if runs is not None:
                for report in self._news():
                    await runs.atell(report)


_SYSTEM = SystemClock()


def _maker(own: Mapping[str, Any]) -> Any:
    """What makes a member of a name; all of them add up in one ledger."""
    ledger = Ledger()
    common = {name: own[name] for name in ("clock", "output_version") if own.get(name) is not None}

    def make(**arguments: Any) -> ChatChutes:
        return ChatChutes(**{"ledger": ledger, **common, **arguments})

    return make


@lru_cache(maxsize=64)
def _rules(policy: FallbackPolicy) -> dict[str, object]:
    return policy.to_dict()


def _joint(values: Sequence[Any]) -> Any:
    if all(isinstance(value, bool) for value in values):
        return all(values)
    return min(values) if all(isinstance(value, int) for value in values) else values[0]


def _identity(member: BaseChatModel) -> dict[str, Any]:
    return {**dict(member._identifying_params), "_type": member._llm_type}
