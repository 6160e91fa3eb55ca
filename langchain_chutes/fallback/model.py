"""A chat model that falls back to the next member when one fails.

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
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, Self

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    CallbackManager,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import ConfigDict, Field, InstanceOf, PrivateAttr, field_validator

from chutes_core.errors import RequestRefusedError
from chutes_core.fallback import FallbackPolicy, Health, LiveStats
from chutes_core.fallback.routes import route, split_models
from chutes_core.secrets.frames import unseen
from chutes_core.usage import Ledger
from langchain_chutes._convert.profile import Resolved
from langchain_chutes._convert.replies import PROVIDER
from langchain_chutes._convert.tools import Tool, tool_choice_param, tool_names, tool_params
from langchain_chutes._settings import signed, translated_errors
from langchain_chutes._structured.methods import check_method, parsed
from langchain_chutes._structured.schemas import Schema
from langchain_chutes.chat_models import ChatChutes
from langchain_chutes.fallback.forms import Form, ToolList
from langchain_chutes.fallback.members import Listed, Seat, live_stats, member_roster, seats, template_maker
from langchain_chutes.fallback.profile import common, identity, joint_profile, rules
from langchain_chutes.fallback.run import Run
from langchain_chutes.fallback.tracing import announce, announced

__all__ = ["ChutesFallback"]


class ChutesFallback(BaseChatModel):
    """A chat model that falls back to the next member when one fails.

    Args:
        members: In order: names of Chutes models (which share the other arguments), ``ChatChutes`` models, or chat
            models from any other provider. Their own retries are turned off.
        policy: When to move to the next member, and in which order.
        health: The recorded health of the members; pass the same object to several models to share it.
        **arguments: For this model (``cache``, ``rate_limiter``, ``callbacks``, …) and for every member listed by
            name (``api_key``, ``temperature``, …). ``e2ee`` applies to every member; a member that does not support
            it is refused.

    ``message.response_metadata["chutes_attempts"]`` lists the attempts; ``model.health`` holds the members' health.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    members: list[InstanceOf[BaseChatModel]] = Field(default_factory=list)
    policy: InstanceOf[FallbackPolicy] = Field(default_factory=FallbackPolicy)
    health: InstanceOf[Health] = Field(default_factory=Health, exclude=True, repr=False)
    clock: Any = Field(default=None, exclude=True, repr=False)
    """For tests: a clock such as `chutes_core.testing.VirtualClock`."""
    handled: tuple[type[Exception], ...] | None = Field(default=None, exclude=True, repr=False)
    """The exceptions that move on to the next member; by default (None) every model failure."""

    template: Any = Field(default=None, exclude=True, repr=False)
    """A member that was listed by name: what it shares with the others, those that are configured later get too."""

    _seats: list[Seat] | None = PrivateAttr(default=None)
    _stats: tuple[LiveStats | None] | None = PrivateAttr(default=None)

    @unseen
    def __init__(
        self,
        members: Sequence[Listed] = (),
        *,
        policy: FallbackPolicy | Mapping[str, Any] | None = None,
        health: Health | None = None,
        **arguments: Any,
    ) -> None:
        own = {name: arguments.pop(name) for name in list(arguments) if name in type(self).model_fields}
        if isinstance(own.get("profile"), Resolved):
            del own["profile"]  # resolved for other members
        clock = own.get("clock")
        if health is None:
            health = Health(now=clock.now) if clock is not None else Health()
        rebuilt = "template" in own  # by LangChain, which makes a configured fallback of another one's fields
        named: list[ChatChutes] = []
        maker = template_maker(own["template"]) if rebuilt else _maker(own, named)
        made = member_roster(maker).members(members, arguments, depth=2)
        if not rebuilt:
            own["template"] = next((each for each in named if each.model in members), None)
        given = {"members": made, "policy": policy or FallbackPolicy(), "health": health, **own}
        super().__init__(**given)

    @field_validator("policy", mode="before")
    @classmethod
    def _read_policy(cls, value: Any) -> Any:
        return FallbackPolicy.from_dict(value) if isinstance(value, Mapping) else value

    @classmethod
    @unseen
    def from_models(cls, models: str, **arguments: Any) -> Self:
        """Create a fallback from a comma-separated string of names.

        >>> ChutesFallback.from_models("acme/one, acme/two", api_key="cpk_0123")
        ChutesFallback(['acme/one', 'acme/two'])
        """
        return cls(split_models(models), **arguments)

    @classmethod
    @unseen
    def route(cls, name: str, source: Mapping[str, object] | str | os.PathLike[str], **arguments: Any) -> Self:
        """Create the fallback for a task, from a mapping or a TOML or YAML file of routes.

        >>> routes = {"summarization": {"models": ["acme/small", "acme/other"], "policy": {"deadline": 30}}}
        >>> ChutesFallback.route("summarization", routes, api_key="cpk_0123")
        ChutesFallback(['acme/small', 'acme/other'], deadline=30)
        """
        found = route(source, name)
        return cls(found.models, **{"policy": found.policy, **found.options, **arguments})

    # ------------------------------------------------------------------------------------------ the call

    def _sit(self) -> list[Seat]:
        """Return the members as the engine sees them, rebuilt when the catalogue has changed."""
        taken = self._seats
        if taken is None or any(seat.is_stale(self.policy) for seat in taken):
            taken = self._seats = seats(self.members, self.policy)
        return taken

    def _live_stats(self) -> LiveStats | None:
        """Return the service's statistics, if the order uses them."""
        if not self.policy.ranks_live:
            return None
        if self._stats is None:
            self._stats = (live_stats(self._sit()),)
        return self._stats[0]

    @signed
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translated_errors:
            return Run(self, messages, stop, run_manager, kwargs, whole=True).result()

    @signed
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translated_errors:
            return await Run(self, messages, stop, run_manager, kwargs, whole=True).aresult()

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with translated_errors:
            return Run(self, messages, stop, run_manager, kwargs, whole=False).chunks()

    def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with translated_errors:
            return Run(self, messages, stop, run_manager, kwargs, whole=False).achunks()

    # Only LangChain knows a stream's run: pass it on to the attempts here.

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, *, stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:  # fmt: skip
        """Stream the answer."""
        yield from super().stream(input, announced(config, CallbackManager), stop=stop, **kwargs)

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, *, stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:  # fmt: skip
        """Stream the answer."""
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
        """Bind tools to every member, in each provider's format.

        Args:
            tools: Functions, tools, pydantic models, TypedDicts, or tool specifications as dicts.
            tool_choice: "auto", "none", "any" (or "required", or True), or the name of a tool.
            strict: Whether arguments must follow the schema; sent only if set.
            **kwargs: Other parameters for the calls, such as ``parallel_tool_calls``.
        """
        with translated_errors:
            described = tool_params(tools, strict=strict)
            tool_choice_param(tool_choice, tool_names(described))
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
        """Return structured output that matches a schema, using each member's best method.

        An answer that does not match counts as a failure, and the next member takes over.

        Args:
            schema: A pydantic model (answers are instances), a TypedDict or a JSON schema (answers are dicts).
            method: One method for all members, instead of each member's best.
            include_raw: Return ``{"raw": message, "parsed": answer, "parsing_error": error}`` for the first answer,
                whether or not it matches.
            strict: Sent only if set.
            tools: Additional tools for the model, with ``method="json_schema"``; Chutes members only.
            **kwargs: Other parameters for the calls.
        """
        with translated_errors:
            if method is not None:
                check_method(method, schema, strict, tools)
            if schema is None and method != "json_mode":
                raise RequestRefusedError("Structured output needs a schema, except with method='json_mode'.")
        form = Form(schema, method, strict, include_raw, tuple(tools or ()))
        if schema is not None:
            kwargs["ls_structured_output_format"] = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
        return parsed(self.bind(chutes_form=form, **kwargs), form.parser, include_raw=include_raw)

    # ----------------------------------------------------------------------- what LangChain asks about us

    @property
    def model_name(self) -> str:
        """The names of all members."""
        return ",".join(seat.member.name for seat in self._seats or self._sit())

    def get_num_tokens(self, text: str) -> int:
        """Count tokens as the first member does."""
        return self.members[0].get_num_tokens(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Count tokens as the first member does."""
        return self.members[0].get_num_tokens_from_messages(messages, tools)

    def get_token_ids(self, text: str) -> list[int]:
        """Tokenize a text as the first member does."""
        return self.members[0].get_token_ids(text)

    def _resolve_model_profile(self) -> ModelProfile | None:
        """Return what holds for every member: the smallest window and the shared capabilities."""
        return joint_profile(self.members)

    @property
    def _llm_type(self) -> str:
        return "chutes-fallback"

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        parts = [member._cache_part() for member in self.members if isinstance(member, ChatChutes)]
        return super()._get_llm_string(stop, **kwargs) + "".join(parts)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        each = [identity(member) for member in self.members]
        return {**common(each), "members": each, "policy": rules(self.policy)}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = PROVIDER
        shared = common([identity(member) for member in self.members])
        if "temperature" in shared:
            params.setdefault("ls_temperature", shared["temperature"])
        if "max_tokens" in shared:
            params.setdefault("ls_max_tokens", shared["max_tokens"])
        return params

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return where LangChain's serialization looks for the class: where it is public."""
        return ["langchain_chutes", "fallback"]

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return True; members must be serializable too. Secrets become references to the environment."""
        return True

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """Return the policy as plain data."""
        return {} if callable(self.policy.order) else {"policy": self.policy.to_dict()}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the model; replaced members are checked again."""
        if update and "members" in update:
            update = {**update, "members": self._exchanged(update["members"])}
        copied = super().model_copy(update=update, deep=deep)
        copied._changed(update or {"members"})
        return copied

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an argument and drop whatever was derived from its old value."""
        super().__setattr__(name, self._exchanged(value) if name == "members" else value)
        if self.__pydantic_private__ and name in type(self).model_fields:
            self._changed({name})

    def _exchanged(self, members: Sequence[Listed]) -> list[BaseChatModel]:
        return member_roster(template_maker(self.template)).members(members, {}, depth=2)

    def _changed(self, names: Collection[str]) -> None:
        self._seats = self._stats = None
        self.__dict__.pop("_serialized", None)  # cached by LangChain as part of its cache keys
        if "members" in names and isinstance(self.profile, Resolved):
            self.profile = self._resolve_model_profile()

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        if not any(member is self.template for member in self.members):  # it may have connections of its own
            state["__dict__"] = {**state["__dict__"], "template": None}
        return {**state, "__pydantic_private__": {"_seats": None, "_stats": None}}

    def __repr__(self) -> str:
        seats = self._sit()
        names = [seat.member.name for seat in seats]
        sealed = ["e2ee=True"] if all(seat.member.sealed for seat in seats) else []
        return f"ChutesFallback({', '.join([repr(names), *sealed, *self.policy.set_apart])})"

    __str__ = __repr__


def _maker(own: Mapping[str, Any], made: list[ChatChutes]) -> Any:
    """Return the function that makes a member from a name, and adds it to ``made``; all members share one ledger."""
    ledger = Ledger()
    common = {name: own[name] for name in ("clock", "output_version") if own.get(name) is not None}

    def make(**arguments: Any) -> ChatChutes:
        made.append(ChatChutes(**{"ledger": ledger, **common, **arguments}))
        return made[-1]

    return make
