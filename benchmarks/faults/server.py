"""The gateway, as a transport inside the process: it plays what the world drew, takes its time, and keeps the books."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from functools import lru_cache
from types import ModuleType
from typing import Any

from benchmarks.faults.world import MODELS, REFUSAL, Call, Fate, World
from chutes_core.testing import Answer, Fault, SentRequest
from chutes_core.testing.faults import FAULTS, clean_play
from chutes_core.testing.plays import Play, Reset

_CALL = re.compile(r"Call (\d+)\. (?:Pay|Count)")


class Server:
    """An async transport for httpx and httpx2, with a ledger by call."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.attempts: Counter[int] = Counter()
        self.tokens: Counter[int] = Counter()
        self.open: Counter[int] = Counter()
        self._tries: Counter[tuple[int, int]] = Counter()
        self._busy: Counter[int] = Counter()

    def begin(self, model: int) -> None:
        self._busy[model] += 1

    def end(self, model: int) -> None:
        self._busy[model] -= 1

    def _fate(self, call: Call, model: int) -> Fate:
        nth = self._tries[call.index, model]
        self._tries[call.index, model] += 1
        capacity = self.world.scenario.capacity
        if capacity is not None and self._busy[model] >= capacity:
            return Fate("capacity")
        return self.world.fate(call, model, nth, asyncio.get_running_loop().time())

    async def handle_async_request(self, request: Any) -> Any:
        body = json.loads(await request.aread())
        asked = [found for message in body["messages"] for found in _CALL.findall(json.dumps(message))]
        call, model = self.world.calls[int(asked[-1])], MODELS.index(body["model"])
        self.attempts[call.index] += 1
        fate, package = self._fate(call, model), sys.modules[type(request).__module__.partition(".")[0]]
        last = body["messages"][-1]
        goes_on = body.get("continue_final_message") and last["role"] == "assistant"
        begun = last["content"] if goes_on else ""
        play = _play(call, fate, SentRequest(request.method, str(request.url), {}, body), begun)
        reply = _reply_class(package)(self, request, play, call, model, fate)
        if play.status != 200:
            await reply.wait(REFUSAL)
        else:
            self.begin(model)
            try:
                await reply.wait(fate.first if body.get("stream") else fate.first + fate.pace * _said(call, fate))
            except BaseException:
                self.end(model)
                raise
            reply.holds = True
        self.open[call.index] += 1
        return package.Response(play.status, headers=dict(play.headers), stream=reply, request=request)

    async def aclose(self) -> None:
        """Nothing to close."""

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


def _said(call: Call, fate: Fate) -> int:
    """How many tokens are generated before a reply in one piece is sent, or breaks."""
    return fate.after if fate.kind == "reset" else call.tokens


def _play(call: Call, fate: Fate, sent: SentRequest, begun: str) -> Play:
    if fate.kind in ("", "late"):
        return _clean(call, sent.model, sent.stream, begun)
    answer = _answer(call, begun)
    return FAULTS[fate.kind](Fault(fate.kind, after=min(fate.after, answer.pieces)), answer, sent)


def _answer(call: Call, begun: str) -> Answer:
    return call.answer_from(begun) if begun else call.answer


@lru_cache(maxsize=4096)
def _clean(call: Call, model: str, stream: bool, begun: str) -> Play:
    return clean_play(_answer(call, begun), SentRequest("POST", "", {}, {"model": model, "stream": stream}))


def _is_token(step: bytes) -> bool:
    return (b'"content": "' in step and b'"content": ""' not in step) or b'"tool_calls": [' in step


class _Reply:
    """The body, sent token by token. A network stream: it waits no longer than the client's read limit."""

    def __init__(self, server: Server, request: Any, play: Play, call: Call, model: int, fate: Fate) -> None:
        self.holds = False
        self._server = server
        self._request = request
        self._play = play
        self._call = call
        self._model = model
        self._fate = fate
        self._package: ModuleType = sys.modules[type(request).__module__.partition(".")[0]]
        self._own = f'"chatcmpl-{call.index}-{server.attempts[call.index]}-'.encode()
        self._closed = False

    async def wait(self, seconds: float) -> None:
        limit = self._request.extensions.get("timeout", {}).get("read")
        if limit is not None and seconds > limit:
            await asyncio.sleep(limit)
            raise self._package.ReadTimeout("timed out", request=self._request)
        await asyncio.sleep(seconds)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for block in self._blocks():
                yield block
        except (self._package.ReadError, self._package.ReadTimeout):
            self._end()  # a broken connection is nobody's to close
            raise
        self._end()

    async def _blocks(self) -> AsyncIterator[bytes]:
        call, stream = self._call, self._play.headers["content-type"] == "text/event-stream"
        if not stream and self._play.status == 200:
            self._server.tokens[call.index] += _said(call, self._fate)
        said = 0
        for step in self._play.steps:
            if isinstance(step, Reset):
                await self.wait(self._fate.pace)
                raise self._package.ReadError("Connection reset by peer", request=self._request)
            assert isinstance(step, bytes)
            if stream and _is_token(step):
                if said:
                    await self.wait(self._fate.pace)
                said += 1
                self._server.tokens[call.index] += 1
            yield step.replace(b'"chatcmpl-', self._own)

    def _end(self) -> None:
        if not self._closed:
            self._closed = True
            self._server.open[self._call.index] -= 1
            if self.holds:
                self._server.end(self._model)

    async def aclose(self) -> None:
        self._end()


@lru_cache(maxsize=2)
def _reply_class(package: ModuleType) -> Any:
    return type("Reply", (_Reply, package.AsyncByteStream), {})
