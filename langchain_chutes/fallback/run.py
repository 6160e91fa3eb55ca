"""One call of a fallback: what it needs, how each member is asked, and what becomes of its deltas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from chutes_core.catalog.joint import structured_method
from chutes_core.errors import APIError, ChutesError
from chutes_core.fallback import FallbackError, Needs, Try
from chutes_core.fallback.carried import Carried
from chutes_core.fallback.face import FaceRun
from chutes_core.fallback.foreign import as_failure, moving_on
from chutes_core.fallback.relay import Restart
from chutes_core.fallback.report import beside
from chutes_core.fallback.roster import asked_seats, taken_limit
from chutes_core.fallback.stream import FallbackReply
from chutes_core.response import Delta, Reply
from langchain_chutes._convert.replies import ChunkMaker, chat_result
from langchain_chutes._convert.restart import restart_chunk, restartable
from langchain_chutes._errors import as_langchain
from langchain_chutes._structured.forms import Form
from langchain_chutes.fallback.foreign import Question
from langchain_chutes.fallback.members import Seat
from langchain_chutes.fallback.tracing import current_runs

if TYPE_CHECKING:
    from langchain_chutes.chat_models import ChatChutes
    from langchain_chutes.fallback import ChutesFallback

__all__ = ["Run", "needs_of"]

_COST = attrgetter("cost")


class Run(FaceRun[Seat, ChatGenerationChunk]):
    """One call of a fallback."""

    def __init__(
        self, owner: ChutesFallback, messages: list[BaseMessage], stop: list[str] | None, run_manager: Any,
        options: dict[str, Any], *, whole: bool,
    ) -> None:  # fmt: skip
        self._messages, self._stop, self._options = messages, stop, options
        seats = asked_seats(owner._sit(), options, owner._again)
        limit = taken_limit(options)
        options.pop("stream", None)
        self._wanted: Form | None = options.pop("chutes_form", None)
        self._handled = owner.handled
        self._blocks = owner.output_version == "v1"
        policy = owner.policy
        # Only LangChain's event protocol streams with a run manager, and it cannot express a restart.
        events = not whole and run_manager is not None
        if events:
            policy = policy.without_restart
        objects = None
        if self._wanted is not None and not self._wanted.include_raw:
            objects = self._wanted.parser.form
            if self._wanted.parser.is_model:  # which comes out whole
                policy = replace(policy, after_commit="hold")
        self._runs = current_runs(run_manager)
        super().__init__(
            cast("Sequence[Seat]", seats), needs_of(messages, options, self._wanted), options, policy, owner.health,
            owner.clock,
            limit=limit, whole=whole, stats=owner._live_stats(), objects=objects, observer=self._runs,
            thinks=not events, about={"face": "langchain"},
        )  # fmt: skip

    def result(self, reply: Reply) -> ChatResult:
        """Return a whole answer as LangChain's."""
        told = cast("FallbackReply", reply)
        if told.origin is not None:
            result = generate_from_stream(iter([cast("ChatGenerationChunk", told.origin)]))
        else:
            result = chat_result(told, told.cost)
        _report(told, result.generations[0].message)
        return result

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
                    found.attempts = self.call.attempts
                raise error
            if refused:
                self.call.unable(error)  # type: ignore[arg-type]  # on this side: the others may be asked all the same
            else:
                self.failed(moving_on(error, step.member.name))
        finally:
            self.tell(error)

    # ----------------------------------------------------------------------------------------------------- asking

    def _params_of(self, seat: Seat) -> dict[str, Any] | None:
        own = seat.direct
        return {**own._given(), **self._options, "stop": self._stop} if own is not None else None

    def _request(self, seat: Seat, step: Try) -> dict[str, Any]:
        assert seat.own is not None
        return seat.own._request(self._messages, self._stop, self._options_of(seat.own, step), stream=True)

    def _options_of(self, own: ChatChutes, step: Try) -> dict[str, Any]:
        """Return the options of a Chutes member's call."""
        options, form = self._options, self._wanted
        if step.together:
            options = {**options, "model": step.member.name}
            if form is not None and form.method is None:  # one method for all members
                infos = [each.info for each in step.together if each.info]
                form = replace(form, method=structured_method(infos, by_schema=form.by_schema))
        return options if form is None else {**own._formed(form)[2], **options}

    def _check(self, seat: Seat) -> Form | None:
        """Return what the answer of a member is held to."""
        form = self._wanted
        if form is None or form.include_raw:
            return None
        return replace(form, quiet=True) if seat.own is not None and seat.own.e2ee else form

    def _question(self, seat: Seat, step: Try) -> Question:
        limits = seat.limits(step.limits, self._limit)
        config = self._runs.config(step) if self._runs is not None else None
        told = self._messages, self._stop, self._check(seat), self.whole, self._runs, config
        if seat.own is None:
            return Question(step.member.name, limits, seat.model, self._for_others(self._options), self._wanted, *told)
        # A model of ours that is asked through LangChain keeps its own limits, and has been told of the form.
        options = {**self._options_of(seat.own, step), "timeout": limits}
        return Question(step.member.name, None, seat.model, options, None, *told)


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
