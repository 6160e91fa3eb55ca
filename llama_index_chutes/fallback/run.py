"""One call of a fallback: what it needs, and how each member is asked.

Every attempt starts from the original request, never from the attempt before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.instrumentation.span import active_span_id

from chutes_core import Reply
from chutes_core.fallback import Attempt, Needs, Try
from chutes_core.fallback.face import FaceRun
from chutes_core.fallback.roster import asked_seats, taken_limit
from llama_index_chutes._convert.messages import flat
from llama_index_chutes._settings import kept
from llama_index_chutes._structured.plans import Plan
from llama_index_chutes.fallback.foreign import Question
from llama_index_chutes.fallback.members import Seat, unheard
from llama_index_chutes.fallback.tracing import Attempts, somebody_listens
from llama_index_chutes.fallback.wanted import Wanted

if TYPE_CHECKING:
    from llama_index_chutes.fallback import ChutesFallback

__all__ = ["Run", "needs_of"]


class Run(FaceRun[Seat, ChatResponse]):
    """One call of a fallback.

    Args:
        owner: The fallback.
        messages: The conversation.
        params: Other arguments of the call.
        whole: Whether the answer is returned in one piece.
    """

    def __init__(
        self, owner: ChutesFallback, messages: Sequence[ChatMessage], params: dict[str, Any], *, whole: bool
    ) -> None:
        self._handlers = owner.callback_manager
        self._messages = messages
        self._params = params
        self._plans: dict[str, Plan[Any]] = {}  # by the member that was asked with it
        needs, limit = needs_of(messages, params), taken_limit(params)
        seats, unable = asked_seats(owner._seats_now(), params, owner._again), []
        if "tools" in needs.features:
            # Only the model itself knows whether another provider's supports tools.
            able = [each for each in seats if each.own is not None or each.model.metadata.is_function_calling_model]
            seats, unable = able, [each for each in seats if each not in able]
        wanted = params.get("structured")
        self._wanted: Wanted | None = params.pop("structured") if isinstance(wanted, Wanted) else None
        self._attempts = Attempts() if somebody_listens() else None
        super().__init__(
            seats, needs, params, owner.policy, owner.health, owner.clock,
            limit=limit, whole=whole, stats=owner._live_stats(), chance=kept(owner, "_chance"),
            objects=self._wanted.reader.form if self._wanted is not None else None, observer=self._attempts,
            about={"face": "llama_index"},
        )  # fmt: skip
        self.call.attempts += [Attempt(seat.member.name, "skipped", detail="no tools") for seat in unable]

    def accept(self, reply: Reply) -> Reply:
        """Check structured output: an unusable answer is a failure, and the next member is tried."""
        plan = self._plans.get(self.step.member.place) if self.step is not None else None
        if plan is not None:
            assert self._wanted is not None, "it is what was planned for"
            self._wanted.result = plan.read(reply)
        return super().accept(reply)

    # ----------------------------------------------------------------------------------------------------- asking

    def _params_of(self, seat: Seat) -> Mapping[str, Any] | None:
        return seat.own._params(self._params) if seat.own is not None else None

    def _question(self, seat: Seat, step: Try) -> Question:
        return Question(
            seat.member.name, seat.limits(step.limits, self._limit), unheard(seat.model, self._handlers),
            self._messages, self._for_others(self._params), self._wanted, not self.whole,
            self._attempts.span_id(step) if self._attempts is not None else active_span_id.get(),
        )  # fmt: skip

    def _request(self, seat: Seat, step: Try) -> dict[str, Any]:
        assert seat.own is not None
        name, messages, params = step.member.name, self._messages, self._params
        if self._wanted is not None:
            plan = self._plans[step.member.place] = seat.own._inquiry(self._wanted.output_cls, messages, params, name)
            params = dict(plan.request)
            messages = params.pop("messages")
        return seat.own._request(messages, params, name)


def needs_of(messages: Sequence[ChatMessage], params: Mapping[str, Any]) -> Needs:
    """Return what a request needs from a model.

    >>> needs_of([ChatMessage("Hello there!")], {"max_tokens": 100})
    Needs(features=frozenset(), modalities=frozenset(), tokens=102)
    """
    blocks = (block for message in messages for block in flat(message.blocks))
    parts = [{"type": block.block_type, "text": getattr(block, "text", None)} for block in blocks]
    return Needs.of_contents(params, [parts])
