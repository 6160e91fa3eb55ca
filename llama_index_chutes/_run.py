"""One call of a fallback: what it needs, how each member is asked, and what becomes of the parts.

Every attempt is made of the original request, never of the attempt before.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ImageBlock, TextBlock, VideoBlock

from chutes_core import Delta, Reply, Usage
from chutes_core.clock import Clock
from chutes_core.fallback import Attempt, Call, FallbackPolicy, Health, Needs, Try
from chutes_core.fallback.drivers import Relay
from llama_index_chutes._foreign import Question, aparts, has_calls, parts
from llama_index_chutes._members import Seat
from llama_index_chutes._messages import chat_response
from llama_index_chutes._parts import Final, Restart, Wanted, Writer, row
from llama_index_chutes._structured import Plan
from llama_index_chutes.llms import Chutes

__all__ = ["Run", "needs_of"]

Part = Delta | Reply | ChatResponse | Final | Restart
T = TypeVar("T")
# A token is longer than this in next to no text: the estimate stays below the truth.
_CHARACTERS = 6


class Run:
    """One call.

    Attributes:
        relay: What the drivers give the parts to.
        end: The last part, which has the whole answer.
    """

    def __init__(
        self,
        seats: Sequence[Seat],
        policy: FallbackPolicy,
        health: Health,
        messages: Sequence[ChatMessage],
        params: Mapping[str, Any],
        *,
        visible: bool,
        clock: Clock,
        chance: Callable[[], float],
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self._messages = messages
        self._params = params
        self._visible = visible
        self._tell = tell
        self._told = 0
        self.end: Part | None = None
        needs = needs_of(messages, params)
        able, unable = seats, []
        if "tools" in needs.features:
            # Nobody but the model itself knows whether another provider's takes tools.
            able = [seat for seat in seats if seat.infos or seat.llm.metadata.is_function_calling_model]
            unable = [seat for seat in seats if seat not in able]
        self._seats = {seat.member.target: seat for seat in able}
        self._call = Call(
            [seat.member for seat in able], policy, health, needs, now=clock.now, chance=chance, visible=visible
        )
        self._call.attempts += [Attempt(seat.member.name, "skipped", detail="no tools") for seat in unable]
        self.relay: Relay[Part] = Relay(
            self._call,
            shows=_shows,
            usage=_usage,
            marker=Restart,
            holds=_waits if policy.after_commit == "restart" else _ends,
            whole=not visible,
        )

    # ----------------------------------------------------------------------------------------------- asking

    def ask(self, step: Try) -> Generator[Part, None, None]:
        """Ask a member, blocking."""
        self.report()
        seat = self._seats[step.member.target]
        if not isinstance(seat.llm, Chutes):
            yield from parts(self._question(seat, step))
            return
        plan, request = self._request(seat, seat.llm)
        with seat.llm._client().stream(**request, timeout=seat.limits(step.limits)) as stream:
            yield from stream
        yield self._checked(plan, stream.reply)

    async def aask(self, step: Try) -> AsyncGenerator[Part, None]:
        """Ask a member on the event loop."""
        self.report()
        seat = self._seats[step.member.target]
        if not isinstance(seat.llm, Chutes):
            chunks = aparts(self._question(seat, step))
            try:
                async for chunk in chunks:
                    yield chunk
            finally:
                await chunks.aclose()
            return
        plan, request = self._request(seat, seat.llm)
        async with seat.llm._async_client().stream(**request, timeout=seat.limits(step.limits)) as stream:
            async for delta in stream:
                yield delta
        yield self._checked(plan, stream.reply)

    def _question(self, seat: Seat, step: Try) -> Question:
        return Question(seat.llm, seat.member.name, self._messages, self._params, self._visible, step.limits)

    def _request(self, seat: Seat, llm: Chutes) -> tuple[Plan[Any] | None, dict[str, Any]]:
        wanted = self._params.get("structured")
        if not isinstance(wanted, Wanted):
            return None, llm._request(self._messages, self._params)
        params = {name: value for name, value in self._params.items() if name != "structured"}
        json_mode = all(info.supports("json_mode") for info in seat.infos)
        mode = llm._structured_mode(list(seat.infos))
        plan = Plan.make(wanted.output_cls, mode, self._messages, params, model=llm.model, json_mode=json_mode)
        return plan, llm._request(plan.messages, plan.params)

    def _checked(self, plan: Plan[Any] | None, reply: Reply) -> Reply:
        """An answer of which no object can be made is a failure like any other, and the next member is asked."""
        if plan is not None:
            self._params["structured"].result = plan.read(chat_response(reply))
        return reply

    # ---------------------------------------------------------------------------------------------- telling

    def write(self, writer: Writer[T], part: Part) -> T | None:
        """Return the chunk that a part makes; the end is kept for :meth:`finish`."""
        if isinstance(part, ChatResponse):
            return writer.foreign(part)
        if isinstance(part, Restart):
            return writer.restart(part.step)
        self.end = part
        return None

    def finish(self, writer: Writer[T], delta: str | None) -> T:
        """Return the whole answer, with what was tried."""
        served = self._call.served
        assert isinstance(self.end, (Reply, Final)), "an answer that is whole has an end"
        assert served is not None, "somebody gave it"
        return writer.finish(self.end, delta, served.name, self._call.attempts)

    def report(self) -> None:
        """Tell of the attempts that have ended since."""
        for attempt in self._call.attempts[self._told :]:
            self._tell(row(attempt))
        self._told = len(self._call.attempts)


def needs_of(messages: Sequence[ChatMessage], params: Mapping[str, Any]) -> Needs:
    """Read off a request what it needs.

    >>> needs_of([ChatMessage("Hello there!")], {"max_tokens": 100})
    Needs(features=frozenset(), modalities=frozenset(), tokens=102)
    """
    form = params.get("response_format")
    body: dict[str, object] = {"tools": params.get("tools"), "response_format": form}
    body["max_tokens"] = params.get("max_tokens") or params.get("max_completion_tokens")
    length, modalities = 0, set[str]()
    for message in messages:
        for block in message.blocks:
            if isinstance(block, TextBlock):
                length += len(block.text)
            elif isinstance(block, ImageBlock):
                modalities.add("image")
            elif isinstance(block, VideoBlock):
                modalities.add("video")
    told = Needs.of(body, prompt_tokens=length // _CHARACTERS)
    return Needs(told.features, frozenset(modalities), told.tokens)


def _shows(part: Part) -> bool:
    if isinstance(part, Delta):
        return bool(part.content or part.reasoning or part.tool_calls)
    if isinstance(part, ChatResponse):
        return bool(part.delta or part.message.content or part.additional_kwargs.get("thinking_delta"))
    return False


def _usage(part: Part) -> Usage | None:
    return None if isinstance(part, (ChatResponse, Restart)) else part.usage


def _ends(part: Part) -> bool:
    """The end waits for the engine to note that the answer is whole."""
    return not isinstance(part, (Delta, ChatResponse))


def _waits(part: Part) -> bool:
    """Where an answer may begin anew, tool calls wait too: they must not be seen before they are whole."""
    if isinstance(part, Delta):
        return bool(part.tool_calls)
    return not isinstance(part, ChatResponse) or has_calls(part)
