"""``POST /v1/chat/completions`` and ``POST /v1/completions``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from starlette.responses import Response

from chutes_local.backends.backend import BackendError, ContextOverflowError
from chutes_local.faults.kinds import Fault
from chutes_local.faults.spoil import Step, spoil, spoil_body, spoil_frames
from chutes_local.gateway.answer import CrashError, frames_of
from chutes_local.gateway.forced_call import SchemaError
from chutes_local.gateway.inference import Call
from chutes_local.gateway.prefill import repaired
from chutes_local.gateway.reasoning import FIELDS
from chutes_local.gateway.request import Body, Job, chat_job, check_gateway, text_job, wants_stream
from chutes_local.gateway.send import EVENT_STREAM, Steps, attached, each
from chutes_local.wire import errors
from chutes_local.wire.encode import Encoder, Frame, TextEncoder, Usage, whole, whole_text
from chutes_local.wire.errors import Answer, Refused, compact, plain
from chutes_local.world.fleet import Chute

# Without a stream the service never shows these to a client: it tries other machines, then gives up.
_ENDS_IN_500 = frozenset({"error_line", "error_event"})
# Faults of an unstreamed body that need the connection or the clock; any other body is sent in one piece.
_BODY_FAULTS = frozenset({"reset", "half_close", "stall", "hang_after_headers", "slow_drip", "malformed", "empty"})


@dataclass(slots=True)
class _Tally:
    """Records in the journal what is sent."""

    call: Call
    chute: Chute
    usage: Usage | None = None

    def saw(self, frame: Frame) -> None:
        self.usage = frame.usage
        piece = frame.text or (frame.tool.arguments if frame.tool else "")
        if piece:
            self.call.world.journal.said(self.call.entry, piece)

    def close(self) -> None:
        if self.usage:
            self.call.bill(self.chute, self.usage.prompt, self.usage.completion)


async def chat(call: Call, chute: Chute, fault: Fault | None) -> Response:
    """Answer a chat request from one chute."""
    stream = wants_stream(call.body)
    body: Body = call.body
    if call.gateway:
        body = repaired(body)
        check_gateway(body)
    job = chat_job(body, chute, call.headers, thinking=call.thinking)
    return await _answer(call, chute, fault, job, _encoder(chute, job), stream)


async def text(call: Call, chute: Chute, fault: Fault | None) -> Response:
    """Answer a text completion from one chute."""
    stream = wants_stream(call.body)
    job = text_job(call.body, chute)
    return await _answer(call, chute, fault, job, TextEncoder(chute.name, chute.engine), stream)


def _encoder(chute: Chute, job: Job) -> Encoder:
    own = "reasoning" if chute.engine == "vllm" else "reasoning_content"
    return Encoder(chute.name, chute.engine, reasoning_key=job.reasoning if job.reasoning in FIELDS else own)


async def _answer(call: Call, chute: Chute, fault: Fault | None, job: Job, encoder: Encoder, stream: bool) -> Response:
    tally = _Tally(call, chute)
    try:
        if stream:
            return await _streamed(call, fault, job, encoder, tally)
        return await _whole(call, fault, job, encoder, tally)
    except SchemaError as error:
        raise Refused(errors.engine_400(str(error))) from error
    except ContextOverflowError as error:
        # The row promises a big window; the small model behind it reports its own, smaller one.
        raise Refused(errors.overflow(chute.engine, error.context_size, error.prompt_tokens, 0)) from error
    except BackendError as error:
        call.entry.note = str(error)
        raise Refused(errors.detail(500, what_failed(error))) from error


def what_failed(error: BackendError) -> str:
    """Say that all targets failed, and if that was not rehearsed, what really did."""
    return errors.EXHAUSTED if isinstance(error, CrashError) else errors.engine_failed(str(error))


async def _streamed(call: Call, fault: Fault | None, job: Job, encoder: Encoder, tally: _Tally) -> Response:
    steps = spoil(frames_of(job, call.world.backend), encoder, fault, tally.saw)
    # Until the first step an error can still become a status, so the headers wait for it.
    async with attached(call.request.receive):
        first = await anext(steps, b"")
    body = _body(first, steps, tally)
    return Steps(body, call.entry, call.world.stopping, {**EVENT_STREAM, **call.reply_headers()})


async def _body(first: Step, rest: AsyncGenerator[Step, None], tally: _Tally) -> AsyncGenerator[Step, None]:
    """Follow the steps to their end, and record the bill whatever happens.

    If the engine fails midway, end as the service does: with a bare error line.
    """
    try:
        yield first
        async with aclosing(rest):
            async for step in rest:
                yield step
    except BackendError as error:
        tally.call.entry.note = str(error)
        yield compact({"error": errors.STREAM_ERROR.replace(errors.EXHAUSTED, what_failed(error))})
    finally:
        tally.close()


async def _whole(call: Call, fault: Fault | None, job: Job, encoder: Encoder, tally: _Tally) -> Response:
    if fault and fault.kind in _ENDS_IN_500:
        raise Refused(errors.detail(500, errors.EXHAUSTED), fault.kind)
    frames = []
    try:
        async with attached(call.request.receive):
            async for frame in frames_of(job, call.world.backend):
                frames.append(frame)
    finally:
        for frame in spoil_frames(frames, fault):
            tally.saw(frame)
        tally.close()
    write = whole_text if isinstance(encoder, TextEncoder) else whole
    return body_response(call, write(spoil_frames(frames, fault), encoder), fault)


def body_response(call: Call, reply: dict[str, object], fault: Fault | None) -> Response:
    """Build the response for a complete JSON body, or what a fault leaves of it."""
    steps = list(spoil_body(reply, fault))
    headers = call.reply_headers()
    if fault and fault.kind in _BODY_FAULTS:
        sized = {"content-type": errors.JSON_TYPE, "content-length": str(len(compact(reply)))}
        if fault.kind in ("malformed", "empty"):
            sized["content-length"] = str(sum(len(step) for step in steps if isinstance(step, bytes)))
        return Steps(each(steps), call.entry, call.world.stopping, {**sized, **headers})
    body = b"".join(step for step in steps if isinstance(step, bytes))
    return plain(Answer(200, body), headers)
