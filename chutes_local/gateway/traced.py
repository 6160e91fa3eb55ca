"""``X-Chutes-Trace: true``: the answer in events, between what the gateway did to get it.

The status is then 200 whatever comes of it, once machines are looked for: who is not let in, or asks for a model that
is not there, still gets a status.
"""

from __future__ import annotations

import codecs
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from chutes_local.faults.spoil import Cut, Step
from chutes_local.gateway.send import EVENT_STREAM, Steps, each
from chutes_local.wire import errors
from chutes_local.wire.errors import Refused, compact
from chutes_local.world.fleet import Chute
from chutes_local.world.journal import Entry
from chutes_local.world.world import World

__all__ = ["asks_for_it", "traced"]

ATTEMPTS = 3
"""How many machines the gateway asks before it gives up."""


def asks_for_it(request: Request) -> bool:
    """Return whether a request is to be traced."""
    return request.headers.get("x-chutes-trace", "").lower() == "true"


async def traced(
    world: World, entry: Entry, headers: dict[str, str], answer: Callable[[], Awaitable[Response]], *, streamed: bool
) -> Response:
    """Return an answer in events; ``headers`` are those of one that succeeds."""
    invocation = headers["X-Chutes-InvocationID"]
    try:
        response = await answer()
    except Refused as refused:
        teller, told = _teller(world, entry, invocation, streamed), _error(refused)
        if told is None:
            raise
        steps: AsyncIterator[Step] = each([*teller.in_vain(told), _event(told)])
    else:
        if response.status_code != 200:
            return response
        teller = _teller(world, entry, invocation, streamed)
        whole = not response.headers.get("content-type", "").startswith("text/event-stream")
        inside = response.steps if isinstance(response, Steps) else each([bytes(response.body)])
        steps = teller.whole(inside) if whole else teller.pieces(inside)
    return Steps(steps, entry, world.stopping, {**EVENT_STREAM, **headers})


def _error(refused: Refused) -> dict[str, object] | None:
    """Return what a refusal is in a trace; None if it comes before one."""
    try:
        detail = json.loads(refused.answer.body).get("detail")
    except (ValueError, AttributeError):
        return None
    if refused.answer.status == 400 and str(detail).startswith("Invalid request: "):
        return {"error": "bad_request", "detail": str(detail).removeprefix("Invalid request: ")}
    if detail == errors.CAPACITY:
        return {"error": "infra_overload", "detail": detail}
    return {"error": detail} if detail == errors.EXHAUSTED else None


def _event(told: dict[str, object]) -> bytes:
    return b"data: " + compact(told) + b"\n\n"


def _teller(world: World, entry: Entry, invocation: str, streamed: bool) -> _Teller:
    chute = world.fleet.find(entry.model or "")
    assert chute is not None  # it was asked
    return _Teller(chute, invocation, "chat_stream" if streamed else "chat", world.clock)


@dataclass(slots=True)
class _Teller:
    """Tells what is done for one request."""

    chute: Chute
    invocation: str
    function: str
    now: Callable[[], float]
    turn: int = 0

    def in_vain(self, told: dict[str, object]) -> Iterator[bytes]:
        """Yield the attempts of which none succeeded; a request that is wrong is made once."""
        yield self._found()
        for turn in range(1 if told["error"] == "bad_request" else ATTEMPTS):
            self.turn = turn
            yield self._asked()
            if told["error"] != "bad_request":
                yield self._failed("RATE_LIMIT" if told["error"] == "infra_overload" else "HTTP_500")

    async def whole(self, steps: AsyncIterator[Step]) -> AsyncGenerator[Step, None]:
        """Yield a reply in one piece."""
        yield self._found() + self._asked()
        body = b""
        async for step in steps:
            if isinstance(step, bytes):
                body += step
            else:
                yield step
                if isinstance(step, Cut):
                    return
        try:
            result: dict[str, object] = {"content_type": errors.JSON_TYPE, "json": json.loads(body)}
        except ValueError:
            yield self._failed("INVALID_RESPONSE") + _event({"error": errors.EXHAUSTED})
            return
        yield _event({"result": result})
        yield self._answered()

    async def pieces(self, steps: AsyncIterator[Step]) -> AsyncGenerator[Step, None]:
        """Yield a stream line by line; where another machine begins it anew, the first one failed."""
        yield self._found() + self._asked()
        decoder, ident = codecs.getincrementaldecoder("utf-8")(), ""
        async with aclosing(_closable(steps)) as inside:
            async for step in inside:
                if not isinstance(step, bytes):
                    yield step
                    continue
                if step.startswith(b'{"error"'):
                    yield self._failed("HTTP_500") + _event({"error": errors.EXHAUSTED})
                    return
                for line in decoder.decode(step).splitlines(keepends=True):
                    said = _id_of(line)
                    if ident and said and said != ident:
                        yield self._failed("HTTP_500")
                        self.turn += 1
                        yield self._asked()
                    ident = said or ident
                    yield _event({"result": line})
        yield self._answered()

    def _target(self) -> str:
        name = uuid.uuid5(uuid.NAMESPACE_OID, f"{self.chute.chute_id}:{self.turn}")
        return f"target={name} uid={self.turn} hotkey=5LocalHotkey coldkey=5LocalColdkey"

    def _found(self) -> bytes:
        return self._trace(f"identified {max(self.chute.machines, 1)} available targets", child=False)

    def _asked(self) -> bytes:
        return self._trace(f"attempting to query {self._target()}")

    def _answered(self) -> bytes:
        return self._trace(f"successfully called function={self.function!r} on {self._target()}")

    def _failed(self, why: str) -> bytes:
        return self._trace(f"error encountered while querying {self._target()}: exc={why}")

    def _trace(self, message: str, *, child: bool = True) -> bytes:
        attempt = str(uuid.uuid5(uuid.UUID(self.invocation), str(self.turn)))
        time = datetime.fromtimestamp(self.now(), UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
        told: dict[str, object] = {"timestamp": time, "invocation_id": self.invocation}
        told |= {"child_id": attempt} if child else {}
        return _event(
            {"trace": {**told, "chute_id": self.chute.chute_id, "function": self.function, "message": message}}
        )


async def _closable(steps: AsyncIterator[Step]) -> AsyncGenerator[Step, None]:
    try:
        async for step in steps:
            yield step
    finally:
        if isinstance(steps, AsyncGenerator):
            await steps.aclose()


def _id_of(line: str) -> str:
    """Return the id of the reply that a line of a stream is of; "" if it has none."""
    try:
        chunk = json.loads(line.removeprefix("data: "))
    except ValueError:
        return ""
    return str(chunk.get("id") or "") if isinstance(chunk, dict) else ""
