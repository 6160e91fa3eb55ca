"""One call of a fallback: what it needs, and how each member is asked.

Every attempt starts from the original request, never from the attempt before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.instrumentation.span import active_span_id

from chutes_core import AsyncStream, Reply, Stream
from chutes_core.calls.clock import SystemClock
from chutes_core.fallback import Attempt, Call, Needs, Try
from chutes_core.fallback.carried import AsyncCarriedStream, CarriedStream
from chutes_core.fallback.objects import asked_form
from chutes_core.fallback.relay import Relay
from chutes_core.fallback.resume import continued, fits
from chutes_core.fallback.roster import named, price, refuse_several, taken_limit
from chutes_core.fallback.stream import AsyncFallbackStream, FallbackStream
from llama_index_chutes._convert.messages import flat
from llama_index_chutes._settings import kept
from llama_index_chutes._structured.plans import Plan
from llama_index_chutes.fallback.foreign import Question, astream, stream
from llama_index_chutes.fallback.members import Seat, again, unheard
from llama_index_chutes.fallback.tracing import Attempts, somebody_listens
from llama_index_chutes.fallback.wanted import Wanted
from llama_index_chutes.llms import Chutes

if TYPE_CHECKING:
    from llama_index_chutes.fallback import ChutesFallback

__all__ = ["Run", "needs_of"]

_CLOCK = SystemClock()


class Run(Relay):
    """One call: use :meth:`stream` or :meth:`astream`, once.

    Args:
        owner: The fallback.
        messages: The conversation.
        params: Other arguments of the call.
        visible: Whether the answer is streamed to the caller.
    """

    def __init__(
        self, owner: ChutesFallback, messages: Sequence[ChatMessage], params: dict[str, Any], *, visible: bool
    ) -> None:
        self._handlers = owner.callback_manager
        self._messages = messages
        self._params = params
        self._limit = taken_limit(params)
        self._clock = owner.clock or _CLOCK
        self._plans: dict[str, Plan[Any]] = {}  # by the member that was asked with it
        needs = needs_of(messages, params)
        seats, unable = list(named(owner._seats_now(), params.pop("model", None), again)), []
        refuse_several(params, (seat.model for seat in seats))
        if "tools" in needs.features:
            # Only the model itself knows whether another provider's supports tools.
            able = [seat for seat in seats if seat.infos or seat.model.metadata.is_function_calling_model]
            unable = [seat for seat in seats if seat not in able]
            seats = able
        self._seats = {seat.member.place: seat for seat in seats}
        call = Call(
            [seat.member for seat in seats],
            owner.policy,
            owner.health,
            needs,
            now=self._clock.now,
            chance=kept(owner, "_chance"),
            visible=visible,
            stats=owner._stats(),
        )
        call.attempts += [Attempt(seat.member.name, "skipped", detail="no tools") for seat in unable]
        wanted = params.get("structured")
        self._wanted: Wanted | None = params.pop("structured") if isinstance(wanted, Wanted) else None
        self._attempts = Attempts() if somebody_listens() else None
        # Looked up when there is an answer, of which there is one.
        catalogs = (seat.model._known_models() for seat in seats if isinstance(seat.model, Chutes))
        form = asked_form(params)
        objects = self._wanted.reader.form if self._wanted is not None else form
        super().__init__(
            call,
            whole=not visible,
            price=partial(price, catalogs),
            observer=self._attempts,
            objects=objects,
            form=form,
            fits=self._fits,
            about={"face": "llama_index", "streamed": visible},
        )

    def _fits(self) -> bool:
        models = (seat.model for seat in self._seats.values())
        asked = (llm._params(self._params) for llm in models if isinstance(llm, Chutes))
        return all(fits({**each, "messages": ()}) for each in asked)

    def stream(self) -> FallbackStream:
        """Return the answer, blocking."""
        return FallbackStream(self, self._ask, self._clock)

    def astream(self) -> AsyncFallbackStream:
        """Return the answer."""
        return AsyncFallbackStream(self, self._aask, self._clock)

    def accept(self, reply: Reply) -> Reply:
        """Check structured output: an unusable answer is a failure, and the next member is tried."""
        plan = self._plans.get(self.step.member.place) if self.step is not None else None
        if plan is not None:
            assert self._wanted is not None, "it is what was planned for"
            self._wanted.result = plan.read(reply)
        return super().accept(reply)

    # ----------------------------------------------------------------------------------------------------- asking

    def _ask(self, step: Try) -> Stream | CarriedStream[ChatResponse]:
        seat = _seat_of(self._seats, step)
        if not isinstance(seat.model, Chutes):
            return stream(self._question(seat, step))
        return seat.model._client(self._headers(seat.model)).stream(**self._request(seat, seat.model, step))

    def _aask(self, step: Try) -> AsyncStream | AsyncCarriedStream[ChatResponse]:
        seat = _seat_of(self._seats, step)
        if not isinstance(seat.model, Chutes):
            return astream(self._question(seat, step))
        return seat.model._async_client(self._headers(seat.model)).stream(**self._request(seat, seat.model, step))

    def _headers(self, llm: Chutes) -> dict[str, str] | None:
        """Return the request headers if the policy adds to the model's."""
        policy = self.call.policy
        return policy.headers(llm.default_headers) if policy.confidential else None

    def _question(self, seat: Seat, step: Try) -> Question:
        llm = unheard(seat.model, self._handlers)
        limits = seat.limits(step.limits, self._limit)
        span_id = self._attempts.span_id(step) if self._attempts is not None else active_span_id.get()
        params = self._params
        if any(isinstance(each.model, Chutes) and each.model.on_length == "raise" for each in self._seats.values()):
            params = {"on_length": "raise", **params}
        return Question(llm, seat.member.name, self._messages, params, self._wanted, not self.whole, limits, span_id)

    def _request(self, seat: Seat, llm: Chutes, step: Try) -> dict[str, Any]:
        name = step.member.name if step.together else llm.model
        messages, params = self._messages, self._params
        if self._wanted is not None:
            plan = self._plans[step.member.place] = llm._inquiry(self._wanted.output_cls, messages, params, name)
            params = dict(plan.request)
            messages = params.pop("messages")
        asked = llm._request(messages, params, name)
        if self.resume is not None:
            asked = continued(asked, self.resume)
        return {**asked, "timeout": seat.limits(step.limits, self._limit)}


def _seat_of(seats: Mapping[str, Seat], step: Try) -> Seat:
    """Return the member to call; any of those that share a request can make it."""
    return seats[(step.together[0] if step.together else step.member).place]


def needs_of(messages: Sequence[ChatMessage], params: Mapping[str, Any]) -> Needs:
    """Return what a request needs from a model.

    >>> needs_of([ChatMessage("Hello there!")], {"max_tokens": 100})
    Needs(features=frozenset(), modalities=frozenset(), tokens=102)
    """
    blocks = (block for message in messages for block in flat(message.blocks))
    parts = [{"type": block.block_type, "text": getattr(block, "text", None)} for block in blocks]
    return Needs.of_contents(params, [parts])
