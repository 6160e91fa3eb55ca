"""One call of a fallback: its request, its attempts, and its result."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from chutes_core.calls.clock import SystemClock
from chutes_core.errors import RequestRefusedError
from chutes_core.fallback import Attempt, Call, FallbackError, Try
from chutes_core.fallback.drivers import afallback, fallback
from chutes_core.fallback.report import report
from chutes_core.fallback.roster import refuse_several, taken_limit
from langchain_chutes._attempts import Request, aask, ask
from langchain_chutes._calls import Relay, needs_of, raised
from langchain_chutes._members import Seat
from langchain_chutes._parts import Part
from langchain_chutes._runs import Runs, current_runs
from langchain_chutes._settings import translated_errors

if TYPE_CHECKING:
    from langchain_chutes.fallback import ChutesFallback

__all__ = ["Run"]

_SYSTEM = SystemClock()


class Run:
    """One call of a fallback.

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
        if "model" in options or "model_name" in options:
            raise RequestRefusedError("A fallback has several models: set them when you create it, not in a call.")
        self._seats = owner._sit()
        refuse_several(options, (seat.model for seat in self._seats))
        limit = taken_limit(options)
        options.pop("stream", None)
        form = options.pop("chutes_form", None)
        policy = owner.policy
        if not whole and run_manager is not None and policy.after_commit == "restart":
            # Only LangChain's event protocol comes this way, and it cannot express a restart.
            policy = replace(policy, after_commit="raise")
        self._clock = owner.clock or _SYSTEM
        self._call = Call(
            [seat.member for seat in self._seats],
            policy,
            owner.health,
            needs_of(messages, options, form),
            now=self._clock.now,
            visible=not whole,
            stats=owner._live_stats(),
        )
        self._runs = current_runs(run_manager)
        begun = self._call.first_part if whole else None
        self._request = Request(messages, stop, options, limit, self._runs, form, begun)
        self._relay = Relay(self._call, handled=owner.handled, whole=whole, blocks=owner.output_version == "v1")
        self._told = 0

    def result(self) -> ChatResult:
        """Return the whole answer."""
        return _result(list(self._parts()))

    async def aresult(self) -> ChatResult:
        """Async version of :meth:`result`."""
        return _result([part async for part in self._aparts()])

    def stream(self) -> Iterator[ChatGenerationChunk]:
        """Stream the answer."""
        return self._parts()  # type: ignore[return-value]

    def astream(self) -> AsyncIterator[ChatGenerationChunk]:
        """Async version of :meth:`stream`."""
        return self._aparts()  # type: ignore[return-value]

    def _parts(self) -> Iterator[Part]:
        with translated_errors:
            try:
                yield from fallback(self._relay, self._ask, clock=self._clock)
            except FallbackError as error:
                raise raised(error) from None
            finally:
                if self._runs is not None:
                    self._tell(self._runs)

    async def _aparts(self) -> AsyncIterator[Part]:
        with translated_errors:
            parts = afallback(self._relay, self._aask, clock=self._clock)
            try:
                async for part in parts:
                    yield part
            except FallbackError as error:
                raise raised(error) from None
            finally:
                await parts.aclose()
                if self._runs is not None:
                    await self._atell(self._runs)

    def _ask(self, step: Try) -> Iterator[Part]:
        if self._runs is not None:
            self._tell(self._runs)
        return ask(self._seat(step), step, self._request)

    def _aask(self, step: Try) -> AsyncIterator[Part]:
        parts = aask(self._seat(step), step, self._request)
        return parts if self._runs is None else self._told_before(self._runs, parts)

    async def _told_before(self, runs: Runs, parts: AsyncIterator[Part]) -> AsyncIterator[Part]:
        try:
            await self._atell(runs)
            async for part in parts:
                yield part
        finally:
            await parts.aclose()  # type: ignore[attr-defined]

    def _seat(self, step: Try) -> Seat:
        """Return the member to call; members that share a request differ only in name."""
        member = step.together[0] if step.together else step.member
        return next(seat for seat in self._seats if seat.member is member)

    def _news(self) -> list[Attempt]:
        """Return the attempts not yet reported."""
        new = self._call.attempts[self._told :]
        self._told += len(new)
        return new

    def _tell(self, runs: Runs) -> None:
        for attempt in self._news():
            runs.tell(report(attempt))

    async def _atell(self, runs: Runs) -> None:
        for attempt in self._news():
            await runs.atell(report(attempt))


def _result(parts: list[Part]) -> ChatResult:
    """Combine the parts: Chutes models yield one, other providers' models yield chunks."""
    if isinstance(parts[0], ChatGenerationChunk):
        return generate_from_stream(iter(parts))  # type: ignore[arg-type]
    (whole,) = parts
    assert isinstance(whole, ChatGeneration)
    return ChatResult(generations=[whole])
