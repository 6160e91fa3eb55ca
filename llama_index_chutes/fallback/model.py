"""An LLM that falls back to the next member when one fails.

>>> from llama_index_chutes import ChutesFallback
>>> llm = ChutesFallback(["Qwen/Qwen3-32B-TEE", "deepseek-ai/DeepSeek-V3.2-TEE"], api_key="cpk_0123")
>>> llm.metadata.context_window
40960
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr, field_serializer
from llama_index.core.llms.llm import LLM
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import Model, TokenAsyncGen, TokenGen

from chutes_core.fallback import FallbackPolicy, Health, LiveStats
from chutes_core.fallback.face import FaceFallback
from chutes_core.fallback.report import common
from chutes_core.fallback.roster import listed_or_default
from chutes_core.secrets.frames import unseen
from llama_index_chutes._chat_model import ChatModel, Messages, Params
from llama_index_chutes._convert.profile import Described
from llama_index_chutes._settings import kept
from llama_index_chutes.fallback.members import Seat, member_roster, public_copy, seat_of
from llama_index_chutes.fallback.run import Run
from llama_index_chutes.fallback.wanted import Wanted
from llama_index_chutes.llms import Chutes

__all__ = ["ChutesFallback"]


class ChutesFallback(FaceFallback, ChatModel):
    """An LLM that falls back to the next member when one fails.

    Every whole answer, and the last chunk of a stream, has in ``raw`` the model that answered (``"model_name"``) and
    the attempts (``"chutes_attempts"``). If no member gives a complete answer, :class:`FallbackError` lists them.

    Args:
        members: Names of Chutes models, ``Chutes`` models, or any LlamaIndex LLMs, in order; without a list, the
            default model and its fallbacks.
        policy: When to move to the next member, and in which order.
        health: The recorded health of the members; pass the same object to several fallbacks to share it.
        shared: Arguments for members listed by name, such as ``api_key`` or ``temperature``, and arguments that every
            LlamaIndex LLM has, such as ``system_prompt``. ``e2ee`` applies to every member; a member that does not
            support it is refused.

    >>> llm = ChutesFallback(["acme/one", "acme/two"], policy=FallbackPolicy(deadline=60), api_key="cpk_0123")
    >>> [member.model for member in llm.members]
    ['acme/one', 'acme/two']
    >>> len(ChutesFallback.from_models("acme/one, acme/two", api_key="cpk_0123").members)
    2
    >>> config = {"summarization": {"models": ["acme/small", "acme/other"], "policy": {"deadline": 30}}}
    >>> ChutesFallback.route("summarization", config, api_key="cpk_0123").policy.deadline
    30
    >>> "cpk_" in repr(llm) + llm.to_json()
    False
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True)

    members: list[Any] = Field(description="The models, in order.")
    policy: Any = Field(description="A FallbackPolicy.")
    health: Any = Field(exclude=True, repr=False, description="The recorded health of the members.")
    clock: Any = Field(default=None, exclude=True, repr=False, description="For tests: a virtual clock.")

    _seated: Any = PrivateAttr(default=None)
    _stats: tuple[LiveStats | None] | None = PrivateAttr(default=None)
    _metadata: tuple[object, LLMMetadata, str | None] | None = PrivateAttr(default=None)
    _chance: Callable[[], float] = PrivateAttr(default=random.random)
    _separate: ClassVar[Collection[str]] = (
        LLM.model_fields.keys() - {"pydantic_program_mode", "system_prompt"}
        | {"model", "api_key", "catalog", "ledger", "context_window"}
    )  # fmt: skip

    @unseen
    def __init__(
        self,
        members: Sequence[str | Mapping[str, Any] | LLM] | None = None,
        *,
        policy: FallbackPolicy | Mapping[str, Any] | None = None,
        health: Health | None = None,
        **shared: Any,
    ) -> None:
        shared.pop("class_name", None)
        members = listed_or_default(members, shared)
        clock = shared.pop("clock", None)
        own = {name: shared.pop(name) for name in list(shared) if name in LLM.model_fields}
        common = {"clock": clock} | {name: own[name] for name in ("pydantic_program_mode",) if name in own}
        made = member_roster(**common).members(members, shared)
        if clock is None:
            clock = next((model.clock for model in made if isinstance(model, Chutes) and model.clock), None)
        super().__init__(made, policy, health, clock=clock, **own)

    @classmethod
    def class_name(cls) -> str:
        """Return the class name used in serialized data."""
        return "ChutesFallback_llm"

    # ------------------------------------------------------------------------------------------ what it is

    @property
    def metadata(self) -> LLMMetadata:
        """Metadata for the framework: prompts must fit every member; only members that support tools get them."""
        seats = self._sit()
        held = kept(self, "_metadata")
        if held is None or held[0] is not seats:
            held = self._metadata = (seats, self._joint_metadata(), self._joint_address())
        return held[1]  # type: ignore[no-any-return]

    def _joint_metadata(self) -> LLMMetadata:
        each = [member.metadata for member in self.members]
        shared: dict[str, Any] = common([data.model_extra or {} for data in each])
        return Described(
            context_window=min(data.context_window for data in each),
            num_output=min(data.num_output for data in each),
            is_chat_model=True,
            is_function_calling_model=any(data.is_function_calling_model for data in each),
            model_name=",".join(data.model_name for data in each),
            **shared,
        )

    @field_serializer("members")
    def _told_members(self, members: list[Any]) -> list[dict[str, Any]]:
        # Only the name of another provider's model: its other fields may be secret.
        return [
            member.to_dict()
            if isinstance(member, Chutes)
            else {"class_name": member.class_name(), "model": member.metadata.model_name}
            for member in members
        ]

    @field_serializer("policy")
    def _told_policy(self, policy: FallbackPolicy) -> dict[str, Any]:
        return dict(policy.to_dict())

    def __getstate__(self) -> dict[str, Any]:
        pickle.dumps(self.policy)  # fail loudly: the framework would silently drop a policy it cannot pickle
        public = {"members": [public_copy(member) for member in self.members], "clock": None}
        copy = ChatModel.model_copy(self, update=public)  # which checks nothing
        object.__setattr__(copy, "__pydantic_private__", None)
        return ChatModel.__getstate__(copy)

    # ------------------------------------------------------------------------------------------------- running

    def _seats_now(self) -> Sequence[Any]:
        """Return the members for one call; if they may share a request, all their parameters matter."""
        return self._described(self.members) if self.policy.first_hop == "server" else self._sit()

    def _seat(self, model: Any) -> Seat:
        return seat_of(model)

    def _exchanged(self, members: object) -> list[LLM]:
        return member_roster().exchanged(members)

    def _call(self, messages: Messages, params: Params, *, whole: bool) -> Run:
        return Run(self, self._extend_messages(list(messages)), dict(params), whole=whole)

    def _inquiry(self, output_cls: type[Model], messages: Messages, params: Params) -> Wanted:
        return Wanted(output_cls, messages, params)

    def _address(self) -> str | None:
        held = kept(self, "_metadata")
        return held[2] if held is not None else None

    def _joint_address(self) -> str | None:
        own = [member for member in self.members if isinstance(member, Chutes)]
        addresses = (member.api_base for member in own) if len(own) == len(self.members) else ()
        return next((address for address in addresses if address), None)

    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """Stream only the text; it has no room for a restart marker, so a broken answer raises."""
        return super(ChutesFallback, self._without_restart()).stream(prompt, **prompt_args)

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """Stream only the text; it has no room for a restart marker, so a broken answer raises."""
        return await super(ChutesFallback, self._without_restart()).astream(prompt, **prompt_args)

    def _without_restart(self) -> ChutesFallback:
        policy = self.policy.without_restart
        return self if policy is self.policy else self.model_copy(update={"policy": policy})
