"""One call of a fallback: what it needs, how each member is asked, and what becomes of its deltas."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from langchain_core.language_models.chat_models import BaseChatModel, generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from chutes_core.calls.clock import SystemClock
from chutes_core.errors import APIError, ChutesError, ConfigurationError, Kind, Retry
from chutes_core.failures.reading import failure
from chutes_core.fallback import Call, FallbackError, Needs, Try
from chutes_core.fallback.carried import AsyncCarriedStream, Carried, CarriedStream
from chutes_core.fallback.foreign import as_failure
from chutes_core.fallback.objects import asked_form
from chutes_core.fallback.relay import Relay, Restart
from chutes_core.fallback.report import beside
from chutes_core.fallback.resume import continued, fits
from chutes_core.fallback.roster import named, price, refuse_several, taken_limit
from chutes_core.fallback.stream import AsyncFallbackStream, FallbackReply, FallbackStream
from chutes_core.response import Delta, Reply
from langchain_chutes._convert.profile import default_method
from langchain_chutes._convert.replies import ChunkMaker, chat_result
from langchain_chutes._convert.restart import restart_chunk, restartable
from langchain_chutes._errors import as_langchain, elsewhere
from langchain_chutes._settings import translated_errors
from langchain_chutes.fallback.foreign import Question, astream, stream
from langchain_chutes.fallback.forms import Form, bind_ours, check_form
from langchain_chutes.fallback.members import Seat, again
from langchain_chutes.fallback.tracing import current_runs

if TYPE_CHECKING:
    from chutes_core.client import AsyncStream, Stream
    from langchain_chutes.chat_models import ChatChutes
    from langchain_chutes.fallback import ChutesFallback

__all__ = ["Run", "needs_of"]

_SYSTEM = SystemClock()


class Run(Relay):
    """One call of a fallback: use :meth:`result` or :meth:`chunks`, or an async version, once.

    Args:
        owner: The fallback.
        messages: The conversation.
        stop: Stop sequences.
        run_manager: LangChain's run manager, if it passed one.
        options: Other arguments of the call.
        whole: Emit nothing before the answer is complete.
    """

    def __init__(
        self,
        owner: ChutesFallback,
        messages: list[BaseMessage],
        stop: list[str] | None,
        run_manager: Any,
        options: dict[str, Any],
        *,
        whole: bool,
    ) -> None:
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
            [seat.member for seat in seats],
            policy,
            owner.health,
            needs_of(messages, options, self._asked),
            now=self._clock.now,
            visible=not whole,
            stats=owner._live_stats(),
        )
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

    def result(self) -> ChatResult:
        """Return the whole answer."""
        return _result(FallbackStream(self, self._ask, self._clock).read())

    async def aresult(self) -> ChatResult:
        """Async version of :meth:`result`."""
        return _result(await AsyncFallbackStream(self, self._aask, self._clock).read())

    def chunks(self) -> Iterator[ChatGenerationChunk]:
        """Stream the answer."""
        with translated_errors:
            maker = _Chunks(self)
            with FallbackStream(self, self._ask, self._clock) as deltas:
                for delta in deltas:
                    yield from maker.step(delta)
                reply = deltas.reply
            yield from maker.end(reply)

    async def achunks(self) -> AsyncIterator[ChatGenerationChunk]:
        """Async version of :meth:`chunks`."""
        with translated_errors:
            maker = _Chunks(self)
            async with AsyncFallbackStream(self, self._aask, self._clock) as deltas:
                async for delta in deltas:
                    for chunk in maker.step(delta):
                        yield chunk
                reply = deltas.reply
            for chunk in maker.end(reply):
                yield chunk

    # ------------------------------------------------------------------------------------------ what the engine does

    def accept(self, reply: Reply) -> Reply:
        """Check structured output of our models: an answer that does not match is a failure."""
        seat = self._seat_of(self.step) if self.step is not None else None
        if seat is not None and seat.own is not None and (check := self._check(seat.own)) is not None:
            check_form(check, chat_result(reply).generations[0], str(reply.model))
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
                self.failed(_moving_on(error, found, step.member.name))
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
        call = own._call(self._messages, self._stop, options, stream=True)
        sent = {"messages": call.messages, **call.arguments}
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
                form = replace(form, method=default_method([each.info for each in step.together if each.info]))
        options = bind_ours(own, options, form)
        options["timeout"] = seat.limits(step.limits, self._limit)
        if seat.direct is not None:
            options.pop("ls_structured_output_format", None)
        return seat, options

    def _seat_of(self, step: Try) -> Seat:
        """Return the member to ask; members that share a request differ in name."""
        member = step.together[0] if step.together else step.member
        return next(seat for seat in self._seats if seat.member is member)

    def _check(self, own: ChatChutes) -> Form | None:
        """Return what the answer of a model of ours is checked against."""
        form = self._asked
        if form is None or form.include_raw:
            return None
        return replace(form, quiet=True) if own.e2ee else form

    def _question(self, seat: Seat, step: Try, options: dict[str, Any]) -> Question:
        # A model of ours that is asked through LangChain keeps its own limits, and is checked like any of ours.
        limits = seat.limits(step.limits, self._limit) if seat.own is None else None
        if seat.own is None:
            form, check = self._asked, None if self._asked is not None and self._asked.include_raw else self._asked
        else:
            form, check = None, self._check(seat.own)
        model: BaseChatModel = seat.own or seat.model
        config = self._runs.config(step) if self._runs is not None else None
        return Question(
            model, step.member.name, self._messages, self._stop, options, limits, form, check, self.whole,
            self._runs, config,
        )  # fmt: skip


class _Chunks:
    """Makes the chunks of one stream, whichever member gives it."""

    def __init__(self, run: Run) -> None:
        self._blocks = run._blocks
        self._restarts = run.call.policy.after_commit in ("restart", "resume_or_restart")
        self._begun = False
        self._maker = ChunkMaker(blocks=self._blocks)

    def step(self, delta: Delta) -> Sequence[ChatGenerationChunk]:
        """Return the chunks for a delta."""
        if type(delta) is Delta:
            chunks: Sequence[ChatGenerationChunk] = self._maker.step(delta)
        elif isinstance(delta, Restart):
            self._maker = ChunkMaker(blocks=self._blocks)
            chunks = [restart_chunk(delta.model, blocks=self._blocks, text=delta.text)]
        else:
            chunks = [cast("ChatGenerationChunk", cast("Carried", delta).origin)]
        if self._begun or not chunks:
            return chunks
        self._begun = True
        # What may be void later has to be, where LangChain adds all other chunks to the first.
        return [restartable(chunks[0]), *chunks[1:]] if self._restarts or not delta.content else chunks

    def end(self, reply: FallbackReply) -> Sequence[ChatGenerationChunk]:
        """Return the closing chunks of a complete answer, the last of which reports the attempts."""
        foreign = reply.origin is not None
        chunks = [_last(reply)] if foreign else list(self._maker.end(reply, reply.cost))
        last = chunks[-1].message
        last.response_metadata = {**last.response_metadata, **beside(reply)}
        return chunks


def _last(reply: FallbackReply) -> ChatGenerationChunk:
    """Return what another provider's answer ends with."""
    told = cast("ChatGenerationChunk", reply.origin).message.response_metadata
    return ChatGenerationChunk(message=AIMessageChunk(content="", response_metadata=told, chunk_position="last"))


def _result(reply: FallbackReply) -> ChatResult:
    if reply.origin is not None:
        result = generate_from_stream(iter([cast("ChatGenerationChunk", reply.origin)]))
    else:
        result = chat_result(reply, reply.cost)
    message = result.generations[0].message
    message.response_metadata = {**message.response_metadata, **beside(reply)}
    return result


def _moving_on(error: Exception, found: APIError | None, model: str) -> APIError:
    """Turn an exception that the caller declared a member's failure into an ``APIError``."""
    made = found or failure(Kind.UPSTREAM, f"{type(error).__name__}: {error}", model=model)
    if made.retry is Retry.NEVER:
        made = elsewhere(made)
    if made is not error:
        made.__cause__ = error
    return made


def needs_of(messages: Sequence[BaseMessage], options: Mapping[str, Any], form: Form | None) -> Needs:
    """Return what a request needs from a model."""
    params = dict(options)
    if form is not None:
        if form.method == "function_calling" or form.tools:
            params["tools"] = [*(options.get("tools") or ()), *form.tools] or [True]
        if form.method in ("json_schema", "json_mode"):
            params["response_format"] = {"type": {"json_mode": "json_object"}.get(form.method, form.method)}
    return Needs.of_contents(params, (message.content for message in messages))
