"""One call of a fallback: what it needs, how each member is called, and how its parts are relayed.

Every attempt starts from the original request, never from the attempt before.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from llama_index.core.base.llms.types import AudioBlock, ChatMessage, ChatResponse, ImageBlock, TextBlock, VideoBlock

from chutes_core import APIError, AsyncStream, Delta, Reply, Stream, Usage
from chutes_core.calls.clock import SystemClock
from chutes_core.fallback import Attempt, Call, Needs, Receipt, Try
from chutes_core.fallback.drivers import Relay, afallback, fallback
from chutes_core.fallback.report import RESTART, beside
from chutes_core.fallback.roster import refuse_several, taken_limit
from chutes_core.usage import cost
from llama_index_chutes._attempts import Attempts
from llama_index_chutes._base import kept
from llama_index_chutes._foreign import Question, aparts, parts
from llama_index_chutes._members import Seat, unheard
from llama_index_chutes._messages import chat_response, flat
from llama_index_chutes._parts import (
    Final,
    Part,
    Pieces,
    Restart,
    Wanted,
    adopted,
    ends,
    shows,
    usage_in,
    waits,
)
from llama_index_chutes._stream import Draft
from llama_index_chutes._structured import Plan
from llama_index_chutes.llms import Chutes

if TYPE_CHECKING:
    from chutes_core.spending.meter import Unbegun
    from llama_index_chutes.fallback import ChutesFallback

__all__ = ["Run", "needs_of"]

T = TypeVar("T")
_CLOCK = SystemClock()
_MEDIA: Mapping[type, str] = {ImageBlock: "image", VideoBlock: "video", AudioBlock: "audio"}


class Run(Relay[Part]):
    """One call: run :meth:`whole` or :meth:`stream`, or an async version, once.

    Args:
        owner: The fallback.
        messages: The conversation.
        params: Other arguments of the call.
        visible: Whether the answer is streamed to the caller.
    """

    def __init__(
        self, owner: ChutesFallback, messages: Sequence[ChatMessage], params: dict[str, Any], *, visible: bool
    ) -> None:
        self._owner = owner
        self._messages = messages
        self._params = params
        self._limit = taken_limit(params)
        self._visible = visible
        self._clock = owner.clock or _CLOCK
        self._end: Part | None = None
        self._deltas: Stream | AsyncStream | None = None
        needs = needs_of(messages, params)
        seats, unable = owner._seats_now(), []
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
        self._pieces = Pieces(wanted, call) if visible and isinstance(wanted, Wanted) else None
        super().__init__(
            call,
            shows=self._pieces or shows,
            usage=usage_in,
            marker=Restart,
            holds=waits if owner.policy.after_commit == "restart" else ends,
            whole=not visible,
            receipt=partial(_receipt, seats),  # not a method: that would be a reference cycle
        )
        self._attempts = Attempts(call)

    # ---------------------------------------------------------------------------------------------- the four ways

    def whole(self, draft: Draft[T]) -> T:
        """Return the whole answer."""
        with self._attempts:
            for part in fallback(self, self._ask, clock=self._clock):
                self._end = part
        return self._finish(draft, None)

    async def awhole(self, draft: Draft[T]) -> T:
        """Return the whole answer."""
        with self._attempts:
            async for part in afallback(self, self._aask, clock=self._clock):
                self._end = part
        return self._finish(draft, None)

    def stream(self, draft: Draft[T], before: Unbegun) -> Generator[T, None, None]:
        """Stream the answer."""
        before.begin()
        with self._attempts, closing(fallback(self, self._ask, clock=self._clock)) as given:
            for part in given:
                chunk = draft.add(part) if type(part) is Delta else self._chunk(draft, part)
                if chunk is not None:
                    yield chunk
        yield self._finish(draft, "")

    async def astream(self, draft: Draft[T], before: Unbegun) -> AsyncGenerator[T, None]:
        """Stream the answer."""
        before.begin()
        with self._attempts:
            async with aclosing(afallback(self, self._aask, clock=self._clock)) as given:
                async for part in given:
                    chunk = draft.add(part) if type(part) is Delta else self._chunk(draft, part)
                    if chunk is not None:
                        yield chunk
        yield self._finish(draft, "")

    def _chunk(self, draft: Draft[T], part: object) -> T | None:
        """Convert a part other than a delta to a chunk; the end is kept for the last chunk."""
        if isinstance(part, ChatResponse):
            return draft.relay(part)
        if isinstance(part, Restart):
            return draft.restart({RESTART: part.step.member.name})
        self._end = part  # type: ignore[assignment]
        return None

    def _finish(self, draft: Draft[T], delta: str | None) -> T:
        added = beside(self.call)
        if isinstance(self._end, Final):
            return draft.adopt(self._end.response, delta, adopted(self._end, added))
        assert isinstance(self._end, Reply), "a complete answer has an end"
        return draft.finish(self._end, delta, added)

    # ------------------------------------------------------------------------------------------ what the engine does

    def begin(self, step: Try) -> list[Part]:
        """Start an attempt."""
        if self._pieces is not None:
            self._pieces.begin()
        return super().begin(step)

    def end(self) -> list[Part]:
        """Return the parts still held, now that the answer is complete."""
        given = super().end()
        self._attempts.end()
        return given

    def broke(self, error: Exception, step: Try) -> None:
        """Record a member's failure; re-raise anything else unchanged."""
        try:
            super().broke(error, step)
        finally:
            self._attempts.end(error)

    def failed(self, error: APIError) -> None:
        """Record a failure that counts."""
        self.call.failed(error, self._used())

    def left(self) -> None:
        """Record that the caller stopped early."""
        self.call.cancelled(self._used())

    def _used(self) -> Usage | None:
        """Return what an unfinished attempt used, which deltas do not report."""
        return self._deltas.reply.usage if self._deltas is not None else None

    # ----------------------------------------------------------------------------------------------------- asking

    def _ask(self, step: Try) -> Generator[Part, None, None]:
        """Call a member."""
        seat = self._take_seat(step)
        if not isinstance(seat.model, Chutes):
            yield from parts(self._question(seat, step))
            return
        plan, request = self._request(seat.model, step)
        client = seat.model._client(self._headers(seat.model))
        self._deltas = deltas = client.stream(**request, timeout=seat.limits(step.limits, self._limit))
        with deltas:
            if self._visible:
                yield from deltas
            else:  # not shown: only the start and the end of the answer matter
                for delta in deltas:
                    if self._begins(delta):
                        break
                for _ in deltas:
                    pass
        yield self._checked(plan, deltas.reply)

    async def _aask(self, step: Try) -> AsyncGenerator[Part, None]:
        """Async version of :meth:`_ask`."""
        seat = self._take_seat(step)
        if not isinstance(seat.model, Chutes):
            async with aclosing(aparts(self._question(seat, step))) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        plan, request = self._request(seat.model, step)
        client = seat.model._async_client(self._headers(seat.model))
        self._deltas = deltas = client.stream(**request, timeout=seat.limits(step.limits, self._limit))
        async with deltas:
            if self._visible:
                async for delta in deltas:
                    yield delta
            else:
                async for delta in deltas:
                    if self._begins(delta):
                        break
                async for _ in deltas:
                    pass
        yield self._checked(plan, deltas.reply)

    def _take_seat(self, step: Try) -> Seat:
        """Return the member to call; any of those that share a request can make it."""
        seat = self._seats[(step.together[0] if step.together else step.member).place]
        self._deltas = None
        self._attempts.begin(step, seat.model)
        return seat

    def _headers(self, llm: Chutes) -> dict[str, str] | None:
        """Return the request headers if the policy adds to the model's."""
        policy = self.call.policy
        return policy.headers(llm.default_headers) if policy.confidential else None

    def _begins(self, delta: Delta) -> bool:
        if not shows(delta):
            return False
        self.call.first_part(given_out=False)
        return True

    def _question(self, seat: Seat, step: Try) -> Question:
        llm = unheard(seat.model, self._owner.callback_manager)
        name, span_id = seat.member.name, self._attempts.span_id
        return Question(
            llm, name, self._messages, self._params, self._visible, seat.limits(step.limits, self._limit), span_id
        )

    def _request(self, llm: Chutes, step: Try) -> tuple[Plan[Any] | None, dict[str, Any]]:
        name = step.member.name if step.together else llm.model
        wanted = self._params.get("structured")
        if not isinstance(wanted, Wanted):
            return None, llm._request(self._messages, self._params, name)
        params = {given: value for given, value in self._params.items() if given != "structured"}
        plan = llm._plan(wanted.output_cls, self._messages, params, name)
        return plan, llm._request(plan.messages, plan.params, name)

    def _checked(self, plan: Plan[Any] | None, reply: Reply) -> Reply:
        """Check structured output: an unusable answer is a failure, and the next member is tried."""
        if plan is not None:
            self._params["structured"].result = plan.read(chat_response(reply))
        return reply


def needs_of(messages: Sequence[ChatMessage], params: Mapping[str, Any]) -> Needs:
    """Return what a request needs from a model.

    >>> needs_of([ChatMessage("Hello there!")], {"max_tokens": 100})
    Needs(features=frozenset(), modalities=frozenset(), tokens=102)
    """
    blocks = [block for message in messages for block in flat(message.blocks)]
    texts = [block.text for block in blocks if isinstance(block, TextBlock)]
    return Needs.of(params, texts, {_MEDIA[type(block)] for block in blocks if type(block) in _MEDIA})


def _receipt(seats: Sequence[Seat], part: Part) -> Receipt:
    """Return who answered and the cost; if members shared a request, only the answer says."""
    if not isinstance(part, Reply) or part.model is None:
        return Receipt()
    found = (seat.model._known_models().get(part.model) for seat in seats if isinstance(seat.model, Chutes))
    info = next((info for info in found if info is not None), None)
    return Receipt(part.model, cost(part.usage, info) if part.usage is not None and info is not None else None)
