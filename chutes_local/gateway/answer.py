"""Run a job on the backend and yield frames: role, reasoning, text or tool calls, finish, usage.

Nothing is yielded before the engine's first token, because the service withholds even the headers until then.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace

from chutes_local.backends.backend import Backend, BackendError, EngineDelta
from chutes_local.gateway.forced_call import SchemaError, choose_tool, parse_tool_choice, tool_messages, tool_schema
from chutes_local.gateway.reasoning import reasoning_frames
from chutes_local.gateway.request import Job
from chutes_local.gateway.tools import call_frames, name_of
from chutes_local.wire.encode import Frame, FrameKind, Usage


class CrashError(BackendError):
    """A rehearsed crash of the engine."""


@dataclass(slots=True)
class _Meter:
    """Token counter: what the engine reports plus what the gateway adds (reasoning, prefaces)."""

    prompt: int
    before: int = 0
    engine: int = 0
    reasoning: int = 0
    own: int = 0
    thinking: bool = False

    def read(self, delta: EngineDelta) -> None:
        if delta.prompt_tokens is not None:
            self.prompt = delta.prompt_tokens
        self.engine = delta.completion_tokens

    def close(self) -> None:
        self.before, self.engine = self.before + self.engine, 0

    @property
    def usage(self) -> Usage:
        made = self.before + self.engine + self.reasoning + self.own
        return Usage(self.prompt, made, made if self.thinking else self.reasoning)


async def frames_of(job: Job, backend: Backend) -> AsyncGenerator[Frame, None]:
    """Answer ``job``, one choice after another, ending with a usage frame.

    Raises ``SchemaError`` and ``ContextOverflowError`` before the first frame, ``BackendError`` at any time.
    """
    meter = _Meter(job.prompt_tokens)
    for index in range(job.n):
        choice = _called(job, backend, meter, index) if job.tools else _spoken(job, backend, meter, index)
        async with aclosing(choice):
            async for frame in choice:
                yield frame
        meter.close()
    yield Frame("usage", usage=meter.usage)


async def _spoken(job: Job, backend: Backend, meter: _Meter, index: int) -> AsyncGenerator[Frame, None]:
    """Yield one choice made of text."""
    opened, way = False, job.begun.way if job.begun else None
    meter.thinking = way == "in_think"
    async with aclosing(backend.chat(job.request)) as deltas:
        async for delta in deltas:
            if not opened:
                opened = True
                meter.prompt = delta.prompt_tokens if delta.prompt_tokens is not None else meter.prompt
                for frame in _opening(job, meter, index):
                    yield frame
                if way == "crash":
                    raise CrashError("the model cannot continue a message, and ended when it was asked to")
            meter.read(delta)
            if delta.content:
                kind: FrameKind = "reasoning" if way == "in_think" else "content"
                yield Frame(kind, index, delta.content, usage=meter.usage)
            if delta.finish_reason:
                yield Frame("finish", index, finish=delta.finish_reason, usage=meter.usage)


async def _called(job: Job, backend: Backend, meter: _Meter, index: int) -> AsyncGenerator[Frame, None]:
    """Yield one choice of tool calls: the model fills in the arguments, the gateway splits them into fragments."""
    calls: list[tuple[str, str]] = []
    for name in await _names(job, backend):
        request = replace(
            job.request,
            messages=tool_messages(job.question),
            json_schema=tool_schema(job.tools, name),
            temperature=0.0,
            continued=False,
        )
        text = ""
        async with aclosing(backend.chat(request)) as deltas:
            async for delta in deltas:
                meter.read(delta)
                text += delta.content
        meter.close()
        try:
            calls.append(parse_tool_choice(text))
        except SchemaError:
            # Cut at max_tokens: half a call is not a call, so send what there is as text.
            for frame in (*_opening(job, meter, index), Frame("content", index, text)):
                yield replace(frame, usage=meter.usage)
            yield Frame("finish", index, finish="length", usage=meter.usage)
            return
    for frame in (*_opening(job, meter, index), *call_frames(calls, job.shape.tool_deltas, index)):
        yield replace(frame, usage=meter.usage)
    yield Frame("finish", index, finish="tool_calls", usage=meter.usage)


async def _names(job: Job, backend: Backend) -> list[str]:
    """Choose the tools to call: the one closest in meaning to the question, then those that follow it in order."""
    first = await choose_tool(backend, job.tools, job.question)
    names = [name_of(tool) for tool in job.tools]
    turn = names.index(first)
    return [names[(turn + step) % len(names)] for step in range(job.shape.tool_calls)]


def _opening(job: Job, meter: _Meter, index: int) -> Iterable[Frame]:
    """Yield the frames that precede the answer: role, reasoning, the note about images, a beginning that comes back."""
    yield Frame("role", index, usage=meter.usage)
    for frame in reasoning_frames(job.reasoning, index):
        meter.reasoning += 1  # a part is a token, as a word is one of the echo
        yield replace(frame, usage=meter.usage)
    if job.preface:
        meter.own += 1
        yield Frame("content", index, job.preface, usage=meter.usage)
    if job.begun and job.begun.way == "echo":
        yield Frame("content", index, job.begun.text, usage=meter.usage)
