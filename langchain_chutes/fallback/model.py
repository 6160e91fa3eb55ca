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

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, cast

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    CallbackManager,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from pydantic import ConfigDict, Field, InstanceOf, PrivateAttr

from chutes_core.catalog.joint import Method
from chutes_core.catalog.names import model_infos
from chutes_core.errors import RequestRefusedError
from chutes_core.fallback import FallbackPolicy, Health, LiveStats
from chutes_core.fallback.face import FaceFallback
from chutes_core.fallback.report import common
from chutes_core.fallback.roster import listed_or_default
from chutes_core.request.tools import Toolbox
from chutes_core.secrets.frames import unseen
from chutes_core.usage import Ledger
from langchain_chutes._chat_model import ChatModel
from langchain_chutes._convert.profile import Resolved, model_profile
from langchain_chutes._convert.tools import Tool
from langchain_chutes._structured.forms import Form
from langchain_chutes._structured.parsers import Source
from langchain_chutes.chat_models import ChatChutes
from langchain_chutes.fallback.members import Listed, Seat, member_roster, seat_of, template_maker
from langchain_chutes.fallback.run import Run
from langchain_chutes.fallback.tracing import announce, announced, watched

__all__ = ["ChutesFallback"]


class ChutesFallback(FaceFallback, ChatModel):
    """A chat model that falls back to the next member when one fails.

    Args:
        members: In order: names of Chutes models (which share the other arguments), ``ChatChutes`` models, or chat
            models from any other provider. Their own retries are turned off. Without a list, the default model and
            its fallbacks.
        policy: When to move to the next member, and in which order.
        health: The recorded health of the members; pass the same object to several models to share it.
        **arguments: For this model (``cache``, ``rate_limiter``, ``callbacks``, …) and for every member listed by
            name (``api_key``, ``temperature``, …). ``e2ee`` applies to every member; a member that does not support
            it is refused.

    >>> ChutesFallback.from_models("acme/one, acme/two", api_key="cpk_0123")
    ChutesFallback(['acme/one', 'acme/two'])
    >>> routes = {"summarization": {"models": ["acme/small", "acme/other"], "policy": {"deadline": 30}}}
    >>> ChutesFallback.route("summarization", routes, api_key="cpk_0123")
    ChutesFallback(['acme/small', 'acme/other'], deadline=30)

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

    _seated: Any = PrivateAttr(default=None)
    _stats: tuple[LiveStats | None] | None = PrivateAttr(default=None)
    _separate: ClassVar[Collection[str]] = {
        "model", "api_key", "name", "profile", "catalog", "ledger", "cache", "tags", "metadata",
    }  # fmt: skip

    @unseen
    def __init__(
        self,
        members: Sequence[Listed] | None = None,
        *,
        policy: FallbackPolicy | Mapping[str, Any] | None = None,
        health: Health | None = None,
        **arguments: Any,
    ) -> None:
        members = listed_or_default(members, arguments)
        own = {name: arguments.pop(name) for name in list(arguments) if name in type(self).model_fields}
        if isinstance(own.get("profile"), Resolved):
            del own["profile"]  # resolved for other members
        rebuilt = "template" in own  # by LangChain, which makes a configured fallback of another one's fields
        named: list[ChatChutes] = []
        maker = template_maker(own["template"]) if rebuilt else _maker(own, named)
        made = member_roster(maker).members(members, arguments)
        if not rebuilt:
            own["template"] = next((each for each in named if each.model in members), None)
        super().__init__(made, policy, health, **own)

    # ------------------------------------------------------------------------------------------ the call

    def _seat(self, model: Any) -> Seat:
        return seat_of(model, self.policy)

    def _asked(
        self, messages: list[BaseMessage], stop: list[str] | None, run_manager: Any, options: dict[str, Any], *,
        whole: bool,
    ) -> Run:  # fmt: skip
        return Run(self, messages, stop, run_manager, options, whole=whole)

    def _tool_list(self, described: list[dict[str, Any]], tools: Sequence[Tool], strict: bool | None) -> Toolbox:
        return Toolbox(described, tools, {"strict": strict})

    def _formed(self, form: Form) -> tuple[Method | None, Source, dict[str, Any]]:
        if form.method is not None:
            form.refuse_unusable(form.method)
        elif form.schema is None:
            raise RequestRefusedError("Structured output needs a schema, except with method='json_mode'.")
        return form.method, "either", {"chutes_form": form}

    # Only LangChain knows a stream's run: pass it on to the attempts here.

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, *, stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:  # fmt: skip
        """Stream the answer."""
        yield from super().stream(input, announced(config, CallbackManager), stop=stop, **kwargs)

    def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, *, stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:  # fmt: skip
        """Stream the answer."""
        # Not a generator around another: a loop that ends closes both at once, and one fails.
        return super().astream(input, announced(config, AsyncCallbackManager), stop=stop, **kwargs)

    def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        return watched(super()._astream(messages, stop, run_manager, **kwargs))

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

    # ----------------------------------------------------------------------- what LangChain asks about us

    @property
    def model_name(self) -> str:
        """The names of all members."""
        return ",".join(seat.member.name for seat in self._sit())

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
        own = [each for each in self.members if isinstance(each, ChatChutes)]
        others = [each for each in self.members if not isinstance(each, ChatChutes)]
        told: list[Any] = [getattr(each, "profile", None) or {} for each in others]
        if own:
            infos = [info for each in own for info in model_infos(each._known_models(), each.model)]
            told.append(model_profile(infos) or {})
        names = set.intersection(*map(set, told)) - {"name"}
        if others:
            names -= {"structured_output"}  # methods differ between providers; only tools are common to all
        joint = Resolved({name: _joint([each[name] for each in told]) for name in names})
        return cast("ModelProfile", joint) if joint else None

    @property
    def _llm_type(self) -> str:
        return "chutes-fallback"

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        parts = [member._cache_part() for member in self.members if isinstance(member, ChatChutes)]
        return super()._get_llm_string(stop, **kwargs) + "".join(parts)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        each = [{**member._identifying_params, "_type": member._llm_type} for member in self.members]
        policy = "custom order" if callable(self.policy.order) else _rules(self.policy)
        return {**common(each), "members": each, "policy": policy}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        shared = self._identifying_params
        told = {f"ls_{name}": shared[name] for name in ("temperature", "max_tokens") if name in shared}
        return cast("LangSmithParams", {**told, **super()._get_ls_params(stop=stop, **kwargs)})

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return where LangChain's serialization looks for the class: where it is public."""
        return ["langchain_chutes", "fallback"]

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """Return the policy as plain data."""
        return {} if callable(self.policy.order) else {"policy": self.policy.to_dict()}

    def _exchanged(self, members: object) -> list[BaseChatModel]:
        return member_roster(template_maker(self.template)).members(members, {})

    def _changed(self, names: Collection[str]) -> None:
        self.__dict__.pop("_serialized", None)  # cached by LangChain as part of its cache keys
        if "members" in names and isinstance(self.profile, Resolved):
            self.profile = self._resolve_model_profile()

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        if not any(member is self.template for member in self.members):  # it may have connections of its own
            state["__dict__"] = {**state["__dict__"], "template": None}
        return {**state, "__pydantic_private__": {"_seated": None, "_stats": None}}


def _joint(values: Sequence[Any]) -> Any:
    if all(isinstance(value, bool) for value in values):
        return all(values)
    return min(values) if all(isinstance(value, int) for value in values) else values[0]


_rules = lru_cache(maxsize=64)(FallbackPolicy.to_dict)


def _maker(own: Mapping[str, Any], made: list[ChatChutes]) -> Any:
    """Return the function that makes a member from a name, and adds it to ``made``; all members share one ledger."""
    ledger = Ledger()
    common = {name: own[name] for name in ("clock", "output_version") if own.get(name) is not None}

    def make(**arguments: Any) -> ChatChutes:
        made.append(ChatChutes(**{"ledger": ledger, **common, **arguments}))
        return made[-1]

    return make
