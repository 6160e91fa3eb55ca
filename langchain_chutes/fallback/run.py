"""One call of a fallback: what it needs, how each member is asked, and what becomes of its deltas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from chutes_core.calls.clock import SystemClock
from chutes_core.catalog.joint import structured_method
from chutes_core.errors import APIError, ChutesError, ConfigurationError
from chutes_core.fallback import Call, FallbackError, Needs, Try
from chutes_core.fallback.carried import AsyncCarriedStream, Carried, CarriedStream
from chutes_core.fallback.foreign import as_failure, moving_on
from chutes_core.fallback.objects import asked_form
from chutes_core.fallback.relay import Relay, Restart
from chutes_core.fallback.report import beside
from chutes_core.fallback.resume import continued, fits
from chutes_core.fallback.roster import named, price, refuse_several, taken_limit
from chutes_core.fallback.stream import AsyncFallbackStream, FallbackReply, FallbackStream
from chutes_core.response import Delta, Reply
from langchain_chutes._convert.replies import ChunkMaker, chat_result
from langchain_chutes._convert.restart import restart_chunk, restartable
from langchain_chutes._errors import as_langchain
from langchain_chutes._structured.forms import Form
from langchain_chutes.fallback.foreign import Question, astream, stream
from langchain_chutes.fallback.members import Seat, again
from langchain_chutes.fallback.tracing import current_runs

if TYPE_CHECKING:
    from chutes_core.client import AsyncStream, Stream
    from langchain_chutes.chat_models import ChatChutes
    from langchain_chutes.fallback import ChutesFallback

__all__ = ["Run", "needs_of"]

_SYSTEM = SystemClock()
_COST = attrgetter("cost")


class Run(Relay):
    """One call of a fallback: use :meth:`result` or :meth:`stream`, or an async version, once."""

    def __init__(
        self, owner: ChutesFallback, messages: list[BaseMessage], stop: list[str] | None, run_manager: Any,
        options: dict[str, Any], *, whole: bool,
    ) -> None:  # fmt: skip
        self._messages, self._stop, self._options = messages, stop, options
        asked = [options.pop(name) for name in ("model_name", "model") if name in options]
        self._seats = seats = named(owner._sit(), asked[-1] if asked else None, partial(again, owner.policy))
        refuse_several(options, (seat.model for seat in seats))
        self._limit = taken_limit(options)
        options.pop("stream", None)
        self._asked: Form | None = options.pop("chutes_form", None)
        self._handled = owner.handled
        self._blocks = owner.output_version == "v1"
        self._clock = owner.clock or _SYSTEM
        policy = owner.policy
        # Only LangChain's event protocol streams with a run manager, and it cannot express a restart.
        events = not whole and run_manager is not None
        if events:
            policy = policy.without_restart
        form = asked_form(options)
        objects = form
        if self._asked is not None and not self._asked.include_raw:
            objects = self._asked.parser.form
            if self._asked.parser.is_model:  # which comes out whole
                policy = replace(policy, after_commit="hold")
        call = Call(
            [seat.member for seat in seats], policy, owner.health, needs_of(messages, options, self._asked),
            now=self._clock.now, visible=not whole, stats=owner._live_stats(),
        )  # fmt: skip
        catalogs = (seat.own._known_models() for seat in seats if seat.own is not None)
        self._runs = current_runs(run_manager)
        super().__init__(
            call, whole=whole, price=partial(price, catalogs), observer=self._runs, objects=objects, form=form,
            thinks=not events, fits=self._fits, about={"face": "langchain", "streamed": not whole},
        )  # fmt: skip

    def _fits(self) -> bool:
        given = {**self._options, "stop": self._stop, "messages": ()}
        return all(fits({**seat.direct._given(), **given}) for seat in self._seats if seat.direct is not None)

    # ---------------------------------------------------------------------------------------------- the four ways

    def stream(self) -> FallbackStream:
        """Stream the deltas of whichever member answers."""
        return FallbackStream(self, self._ask, self._clock)

    def astream(self) -> AsyncFallbackStream:
        """Async version of :meth:`stream`."""
        return AsyncFallbackStream(self, self._aask, self._clock)

    def result(self) -> ChatResult:
        """Return the whole answer."""
        return _result(self.stream().read())

    async def aresult(self) -> ChatResult:
        """Async version of :meth:`result`."""
        return _result(await self.astream().read())

    def maker(self) -> _Chunks:
        """Return what makes chunks of the deltas."""
        return _Chunks(self)

    # ------------------------------------------------------------------------------------------ what the engine does

    def accept(self, reply: Reply) -> Reply:
        """Check structured output of our models: an answer that does not match is a failure."""
        seat = self._seat_of(self.step) if self.step is not None else None
        if seat is not None and seat.direct is not None and (check := self._check(seat)) is not None:
            check.check(chat_result(reply).generations[0], str(reply.model))
        return super().accept(reply)

    def broke(self, error: Exception, step: Try) -> None:
        """Record a member's failure, or re-raise a caller's mistake, which no other member can fix."""
        if isinstance(error, ChutesError):
            error = as_langchain(error)
        if self._handled is None:
            super().broke(error, step)
            return
        found = as_failure(error, step.member.name)
        refused = isinstance(error, ChutesError) and not isinstance(error, APIError | FallbackError)
        try:
            if not isinstance(error, self._handled):
                if found is None:
                    self.left(error)
                else:
                    self.failed(found)
                    found.attempts = tuple(self.call.attempts)
                raise error
            if refused:
                self.call.unable(error)  # type: ignore[arg-type]  # on this side: the others may be asked all the same
            else:
                self.failed(moving_on(error, step.member.name))
        finally:
            self.tell(error)

    # ----------------------------------------------------------------------------------------------------- asking

    def _ask(self, step: Try) -> Stream | CarriedStream[ChatGenerationChunk]:
        seat, options = self._prepared(step)
        if seat.direct is None:
            return stream(self._question(seat, step, options))
        return seat.direct.client.stream(**self._sent(seat.direct, options))

    def _aask(self, step: Try) -> AsyncStream | AsyncCarriedStream[ChatGenerationChunk]:
        seat, options = self._prepared(step)
        if seat.direct is None:
            return astream(self._question(seat, step, options))
        return seat.direct.async_client.stream(**self._sent(seat.direct, options))

    def _sent(self, own: ChatChutes, options: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call of the member's client."""
        sent = own._request(self._messages, self._stop, options, stream=True)
        return sent if self.resume is None else continued(sent, self.resume)

    def _prepared(self, step: Try) -> tuple[Seat, dict[str, Any]]:
        """Return the member to ask, and the arguments of its call."""
        seat = self._seat_of(step)
        options, form, own = dict(self._options), self._asked, seat.own
        if self.resume is not None and seat.direct is None:
            raise ConfigurationError("A model that is asked through LangChain cannot go on with another's answer.")
        if own is None:
            if any(each.own is not None and each.own.on_length == "raise" for each in self._seats):
                options.setdefault("on_length", "raise")
            return seat, options
        if step.together:
            options["model"] = step.member.name
            if form is not None and form.method is None:  # one method for all members
                form = replace(form, method=structured_method([each.info for each in step.together if each.info]))
        if form is not None:
            options = {**own._formed(form)[2], **options}
        options["timeout"] = seat.limits(step.limits, self._limit)
        return seat, options

    def _seat_of(self, step: Try) -> Seat:
        """Return the member to ask; members that share a request differ in name."""
        member = step.together[0] if step.together else step.member
        return next(seat for seat in self._seats if seat.member is member)

    def _check(self, seat: Seat) -> Form | None:
        """Return what the answer of a member is held to."""
        form = self._asked
        if form is None or form.include_raw:
            return None
        return replace(form, quiet=True) if seat.own is not None and seat.own.e2ee else form

    def _question(self, seat: Seat, step: Try, options: dict[str, Any]) -> Question:
        # A model of ours that is asked through LangChain keeps its own limits, and has been told of the form.
        ours = seat.own is not None
        return Question(
            seat.model, step.member.name, self._messages, self._stop, options,
            limits=None if ours else seat.limits(step.limits, self._limit), form=None if ours else self._asked,
            check=self._check(seat), whole=self.whole, runs=self._runs,
            config=self._runs.config(step) if self._runs is not None else None,
        )  # fmt: skip


class _Chunks(ChunkMaker):
    """Makes the chunks of one stream, whichever member gives it."""

    def __init__(self, run: Run) -> None:
        super().__init__(_COST, blocks=run._blocks)
        self._restarts = run.call.policy.after_commit in ("restart", "resume_or_restart")
        self._begun = False

    def step(self, delta: Delta) -> Sequence[ChatGenerationChunk]:
        """Return the chunks for a delta."""
        if type(delta) is Delta:
            chunks = super().step(delta)
        elif isinstance(delta, Restart):
            super().__init__(_COST, blocks=self._blocks)
            chunks = [restart_chunk(delta.model, blocks=self._blocks, text=delta.text)]
        else:
            chunks = [cast("ChatGenerationChunk", cast("Carried", delta).origin)]
        if self._begun or not chunks:
            return chunks
        self._begun = True
        # What may be void later has to be, where LangChain adds all other chunks to the first.
        return [restartable(chunks[0]), *chunks[1:]] if self._restarts or not delta.content else chunks

    def end(self, reply: Reply) -> Iterator[ChatGenerationChunk]:
        """Yield the closing chunks of a complete answer, the last of which reports the attempts."""
        told = cast("FallbackReply", reply)
        origin = cast("ChatGenerationChunk | None", told.origin)
        *chunks, last = [origin] if origin is not None else super().end(told)
        _report(told, last.message)
        yield from chunks
        yield last


def _result(reply: FallbackReply) -> ChatResult:
    if reply.origin is not None:
        result = generate_from_stream(iter([cast("ChatGenerationChunk", reply.origin)]))
    else:
        result = chat_result(reply, reply.cost)
    _report(reply, result.generations[0].message)
    return result


def _report(reply: FallbackReply, message: BaseMessage) -> None:
    message.response_metadata = {**message.response_metadata, **beside(reply)}


def needs_of(messages: Sequence[BaseMessage], options: Mapping[str, Any], form: Form | None) -> Needs:
    """Return what a request needs from a model."""
    params = dict(options)
    if form is not None:
        if form.method == "function_calling" or form.tools:
            params["tools"] = [*(options.get("tools") or ()), *form.tools] or [True]
        if form.method in ("json_schema", "json_mode"):
            params["response_format"] = {"type": {"json_mode": "json_object"}.get(form.method, form.method)}
    return Needs.of_contents(params, (message.content for message in messages))
