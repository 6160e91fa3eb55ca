"""One attempt: call a member in its own way and yield checked parts.

Chutes models check their own answers, and are called through the core when no caller sees the chunks. Other
providers' models get their timeouts here and are checked by :mod:`langchain_chutes._foreign`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk
from langchain_core.runnables import Runnable

from chutes_core.errors import Kind
from chutes_core.failures.reading import failure
from chutes_core.fallback import Try
from chutes_core.fallback.bounded import abounded, bounded, threaded
from chutes_core.settings import TimeLimits
from langchain_chutes._foreign import Checked, as_chunk, bind_foreign, blocks
from langchain_chutes._forms import Form, Held, bind_ours
from langchain_chutes._members import Seat
from langchain_chutes._parts import Part, aclosed, aover, closed, over, shows
from langchain_chutes._profile import default_method
from langchain_chutes._replies import chat_result
from langchain_chutes._runs import Runs
from langchain_chutes._settings import translated_errors
from langchain_chutes.chat_models import ChatChutes

__all__ = ["Request", "aask", "ask"]


@dataclass(frozen=True, slots=True)
class Request:
    """The original request to the fallback; every attempt starts from it, never from the attempt before.

    Attributes:
        messages: The conversation.
        stop: Stop sequences.
        options: Other arguments of the call.
        limit: Its own time limit.
        runs: Reports attempts as runs of their own; None without observers.
        form: The requested structured output.
        begun: Called when an answer begins, if it is wanted in one part; None asks for chunks.
    """

    messages: Sequence[BaseMessage]
    stop: list[str] | None
    options: Mapping[str, Any]
    limit: TimeLimits | None = None
    runs: Runs | None = None
    form: Form | None = field(default=None)
    begun: Callable[[], None] | None = None


def ask(seat: Seat, step: Try, request: Request) -> Iterator[Part]:
    """Call a member."""
    prepared = _Prepared(seat, step, request)
    parts: Iterator[Any]
    if prepared.direct is not None:
        parts = prepared.chunks(prepared.direct) if request.begun is None else prepared.whole(prepared.direct)
        if prepared.runs is not None:
            parts = prepared.runs.over(parts, seat.model, request.messages, stop=request.stop, **prepared.options)
    elif seat.own is not None:
        parts = prepared.stream()
    else:
        given = bounded(prepared.stream, prepared.limits, shows=shows, model=step.member.name)
        parts = over(given, Checked(step.member.name))
    return parts if prepared.form is None else over(parts, Held(prepared.form, step.member.name))


def aask(seat: Seat, step: Try, request: Request) -> AsyncIterator[Part]:
    """Async version of :func:`ask`."""
    prepared = _Prepared(seat, step, request)
    parts: AsyncIterator[Any]
    if prepared.direct is not None:
        parts = prepared.achunks(prepared.direct) if request.begun is None else prepared.awhole(prepared.direct)
        if prepared.runs is not None:
            parts = prepared.runs.aover(parts, seat.model, request.messages, stop=request.stop, **prepared.options)
    elif seat.own is not None:
        parts = prepared.astream()
    else:
        chunks = partial(threaded, prepared.stream) if blocks(seat.model) else prepared.astream
        given = abounded(chunks, prepared.limits, shows=shows, model=step.member.name)
        parts = aover(given, Checked(step.member.name))
    return parts if prepared.form is None else aover(parts, Held(prepared.form, step.member.name))


class _Prepared:
    """A member and the arguments to call it with, in its own format.

    Attributes:
        direct: A Chutes model without LangChain wrappers, called directly.
        runs: Reports the attempt as a run of its own; None without observers.
        options: The arguments of its call.
        limits: Its time limits.
        form: The structured output to check its answer against.
    """

    def __init__(self, seat: Seat, step: Try, request: Request) -> None:
        self._request = request
        runs = request.runs
        self._config = runs.config if runs is not None else None
        self.runs = runs if self._config is not None else None
        self.form = request.form if request.form is not None and not request.form.include_raw else None
        self.direct: ChatChutes | None = None
        self._model: Runnable[Any, Any]
        self.limits = seat.limits(step.limits, request.limit)
        own, options = seat.own, dict(request.options)
        if own is None:
            try:
                self._model, self.options = bind_foreign(seat.model, options, request.form)
            except (NotImplementedError, TypeError, ValueError) as problem:
                raise failure(Kind.UNSUPPORTED, str(problem), model=step.member.name) from problem
            return
        form = request.form
        if own.e2ee and self.form is not None:
            self.form = replace(self.form, quiet=True)
        if step.together:
            options["model"] = step.member.name
            if form is not None and form.method is None:  # one method for all members
                form = replace(form, method=default_method([each.info for each in step.together if each.info]))
        self._model, self.options = own, bind_ours(own, options, form)
        self.options["timeout"] = self.limits
        if own.rate_limiter is None and not own.callbacks and not own.verbose:
            self.options.pop("ls_structured_output_format", None)
            self.direct = own

    # Chutes models without LangChain wrappers.

    def chunks(self, own: ChatChutes) -> Iterator[ChatGenerationChunk]:
        return own._stream(cast("list[BaseMessage]", self._request.messages), stop=self._request.stop, **self.options)

    def achunks(self, own: ChatChutes) -> AsyncIterator[ChatGenerationChunk]:
        return own._astream(cast("list[BaseMessage]", self._request.messages), stop=self._request.stop, **self.options)

    def whole(self, own: ChatChutes) -> Iterator[ChatGeneration]:
        """Stream an answer but yield it in one part: no caller sees chunks, so none are made."""
        begun = self._request.begun
        assert begun is not None
        with translated_errors:
            call = own._call(self._request.messages, self._request.stop, self.options, stream=True)
            with own.client.stream(call.messages, **call.arguments) as deltas:
                for delta in deltas:
                    if delta.content or delta.reasoning or delta.tool_calls:
                        begun()
                        break
                for _ in deltas:
                    pass
                reply = deltas.reply
            yield from chat_result(reply, own._cost(reply)).generations

    async def awhole(self, own: ChatChutes) -> AsyncIterator[ChatGeneration]:
        """Async version of :meth:`whole`."""
        begun = self._request.begun
        assert begun is not None
        with translated_errors:
            call = own._call(self._request.messages, self._request.stop, self.options, stream=True)
            async with own.async_client.stream(call.messages, **call.arguments) as deltas:
                async for delta in deltas:
                    if delta.content or delta.reasoning or delta.tool_calls:
                        begun()
                        break
                async for _ in deltas:
                    pass
                reply = deltas.reply
            for generation in chat_result(reply, own._cost(reply)).generations:
                yield generation

    # All others, through the public interface.

    def stream(self) -> Iterator[ChatGenerationChunk]:
        request = self._request
        messages = self._model.stream(list(request.messages), self._config, stop=request.stop, **self.options)
        if request.runs is not None:
            messages = request.runs.unseen(messages)
        with closed(messages):
            for message in messages:
                yield as_chunk(message)

    async def astream(self) -> AsyncIterator[ChatGenerationChunk]:
        request = self._request
        messages = self._model.astream(list(request.messages), self._config, stop=request.stop, **self.options)
        if request.runs is not None:
            messages = request.runs.aunseen(messages)
        async with aclosed(messages):
            async for message in messages:
                yield as_chunk(message)
