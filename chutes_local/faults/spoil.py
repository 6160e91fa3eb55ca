"""Faults inside an answer: turn frames into the bytes, pauses and cuts sent over the socket.

>>> import asyncio
>>> async def frames():
...     for word in ("a", "b", "c"):
...         yield Frame("content", text=word)
...     yield Frame("finish", finish="stop")
>>> async def sent(fault):
...     return [step async for step in spoil(frames(), Encoder("m", "sglang"), fault)]
>>> asyncio.run(sent(Fault("reset", after=1)))[1:]
[Cut(how='reset')]
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal

from chutes_local.faults.kinds import Fault
from chutes_local.wire.encode import DONE, Encoder, Frame, Json
from chutes_local.wire.errors import STREAM_ERROR, compact

ENGINE_ERROR = {
    "object": "error",
    "message": "Internal server error: the engine stopped mid-answer",
    "type": "InternalServerError",
    "param": None,
    "code": 500,
}


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """End the connection without ending the answer."""

    how: Literal["reset", "half_close"]


Step = bytes | Pause | Cut
Saw = Callable[[Frame], None]

# What is sent when the fault strikes, for the kinds after which nothing more comes.
_LAST_WORDS: dict[str, tuple[Step, ...]] = {
    "no_finish": (),
    "reset": (Cut("reset"),),
    "half_close": (Cut("half_close"),),
    "error_line": (compact({"error": STREAM_ERROR}),),
    "error_event": (b"data: " + compact({"error": ENGINE_ERROR}) + b"\n\n", DONE),
    "done_only": (DONE,),
    "empty": (),
}
DRIP_BYTES = 16


async def spoil(
    frames: AsyncGenerator[Frame, None],
    encoder: Encoder,
    fault: Fault | None,
    saw: Saw = lambda frame: None,
) -> AsyncGenerator[Step, None]:
    """Write a stream, with ``fault`` in it; ``saw`` is called with every frame sent.

    Closing it closes ``frames``, which ends the generation.
    """
    kind = fault.kind if fault else ""
    encoder.with_usage = kind != "no_usage"
    encoder.continuous = kind != "final_usage"
    steps = _written(frames, encoder, fault, saw)
    if fault and kind == "slow_drip":
        steps = _dripped(steps, fault.duration)
    async with aclosing(steps):
        async for step in steps:
            yield step


async def _written(
    frames: AsyncGenerator[Frame, None], encoder: Encoder, fault: Fault | None, saw: Saw
) -> AsyncGenerator[Step, None]:
    """Write frames until the fault strikes, and continue afterwards if its kind allows."""
    sent: list[Frame] = []
    visible = 0
    waiting = fault if fault and (fault.kind in _LAST_WORDS or fault.kind in _INTERRUPTIONS) else None
    change = _Changer(fault)
    async with aclosing(frames):
        async for frame in frames:
            changed = change(frame)
            if changed is None:
                continue
            if waiting and (visible >= _moment(waiting) or changed.kind in ("finish", "usage")):
                if waiting.kind in _LAST_WORDS:
                    for last in _LAST_WORDS[waiting.kind]:
                        yield last
                    return
                for step in _INTERRUPTIONS[waiting.kind](waiting, encoder, sent):
                    if isinstance(step, Frame):
                        saw(step)
                        step = encoder.event(step)
                    yield step
                waiting = None
            saw(changed)
            yield encoder.event(changed)
            sent.append(changed)
            visible += changed.visible
    if not (fault and fault.kind == "no_done"):
        yield DONE


def _moment(fault: Fault) -> int:
    return 0 if fault.kind in ("empty", "hang_after_headers") else fault.after


def _pause(fault: Fault, encoder: Encoder, sent: list[Frame]) -> Iterator[Step | Frame]:
    yield Pause(fault.duration)


def _malformed(fault: Fault, encoder: Encoder, sent: list[Frame]) -> Iterator[Step | Frame]:
    yield f'data: {{"id":"{encoder.ident}","object":"chat.completion.chunk","choices":[{{"in\n\n'.encode()


def _restart(fault: Fault, encoder: Encoder, sent: list[Frame]) -> Iterator[Step | Frame]:
    """Start over as another machine, from the first frame, in the same body: in other words, or in the same."""
    encoder.renew()
    last = max((place for place, frame in enumerate(sent) if frame.text), default=-1)
    for place, frame in enumerate(sent):
        other = place == last and fault.value != "same"
        yield replace(frame, text=f"~{frame.text}") if other else frame


_INTERRUPTIONS: dict[str, Callable[[Fault, Encoder, list[Frame]], Iterator[Step | Frame]]] = {
    "stall": _pause,
    "hang_after_headers": _pause,
    "malformed": _malformed,
    "restart": _restart,
}


class _Changer:
    """Drops or alters frames, for the kinds that affect the whole answer rather than one moment."""

    def __init__(self, fault: Fault | None) -> None:
        self.kind = fault.kind if fault else ""
        self.fragments_left = fault.after if fault else 0

    def __call__(self, frame: Frame) -> Frame | None:
        kind = self.kind
        if kind == "role_only" and frame.kind not in ("role", "finish", "usage"):
            return None
        if kind == "reasoning_only" and frame.kind == "content":
            return replace(frame, kind="reasoning")
        if kind == "stop_with_tools" and frame.finish == "tool_calls":
            return replace(frame, finish="stop")
        if kind == "broken_arguments" and frame.kind == "tool":
            self.fragments_left -= 1
            return frame if self.fragments_left >= 0 else None
        return frame


async def _dripped(steps: AsyncGenerator[Step, None], seconds: float) -> AsyncGenerator[Step, None]:
    async with aclosing(steps):
        async for step in steps:
            for drop in _drops(step, seconds) if isinstance(step, bytes) else (step,):
                yield drop


def _drops(body: bytes, seconds: float) -> Iterator[Step]:
    for start in range(0, len(body), DRIP_BYTES):
        yield body[start : start + DRIP_BYTES]
        yield Pause(seconds)


def spoil_frames(frames: list[Frame], fault: Fault | None) -> list[Frame]:
    """Change the frames of an unstreamed reply, for the kinds that apply to one."""
    change = _Changer(fault)
    kept = [changed for changed in map(change, frames) if changed is not None]
    if fault and fault.kind == "no_finish":
        return [replace(frame, finish=None) if frame.kind == "finish" else frame for frame in kept]
    return kept


def spoil_body(reply: Json, fault: Fault | None) -> Iterator[Step]:
    """Write an unstreamed reply, with ``fault`` in it.

    >>> list(spoil_body({"a": 1}, Fault("malformed")))
    [b'{"a"']
    """
    kind = fault.kind if fault else ""
    if kind == "no_usage":
        reply = {key: value for key, value in reply.items() if key != "usage"}
    if kind in ("shuffled", "short") and isinstance(reply.get("data"), list):
        reply = {**reply, "data": _misplaced(reply["data"], kind)}
    body = compact(reply)
    half = len(body) // 2
    if fault and kind in ("reset", "half_close"):
        yield body[:half]
        yield Cut("reset" if kind == "reset" else "half_close")
    elif fault and kind in ("stall", "hang_after_headers"):
        yield b"" if kind == "hang_after_headers" else body[:half]
        yield Pause(fault.duration)
        yield body if kind == "hang_after_headers" else body[half:]
    elif fault and kind == "slow_drip":
        yield from _drops(body, fault.duration)
    elif kind == "malformed":
        yield body[: half + 1] if half else body
    elif kind != "empty":
        yield body


def _misplaced(rows: list[Json], kind: str) -> list[Json]:
    if kind == "short":
        return rows[:-1]
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    return shuffled if shuffled != rows else shuffled[::-1]
