"""The faults, as they appear on the wire."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from chutes_core.testing.answers import Answer, SentRequest
from chutes_core.testing.plays import Play, Refuse, Reset, Step, Wait

__all__ = ["FAULTS", "Fault", "clean_play"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by name, with its options.

    Attributes:
        kind: One of :data:`FAULTS`.
        after: For a fault inside an answer: how many deltas come before it.
        seconds: For a wait: how long.
        value: For ``retry_after``: the header's value; for ``restart``: ``"same"`` if the other machine says the same.
        answer: The answer that the fault strikes; None takes the script's.

    >>> Fault.parse("stall:5")
    Fault(kind='stall', after=2, seconds=5.0, value='5', answer=None)
    """

    kind: str
    after: int = 2
    seconds: float = 10_000.0
    value: str = "5"
    answer: Answer | None = None

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"There is no fault {self.kind!r}; the faults are: {', '.join(sorted(FAULTS))}.")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Parse ``kind`` or ``kind:value``, where the value is seconds or a header value."""
        kind, _, value = text.partition(":")
        if not value:
            return cls(kind)
        try:
            seconds = float(value)
        except ValueError:
            return cls(kind, value=value)
        return cls(kind, seconds=seconds, value=value)


_Maker = Callable[[Fault, Answer, SentRequest], Play]


def _event(payload: object) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


_DONE = b"data: [DONE]\n\n"


def clean_play(answer: Answer, request: SentRequest) -> Play:
    """Return the complete answer, streamed or not, as requested."""
    if not request.stream:
        return _json(200, answer.body(request.model))
    return Play([*map(_event, answer.chunks(request.model)), _DONE], headers=_SUCCESS)


_SUCCESS = {
    "content-type": "text/event-stream",
    "x-chutes-invocationid": "00000000-0000-4000-8000-000000000000",
    "x-chutes-quota-remaining": "199",
}


def _json(status: int, body: object, headers: Mapping[str, str] | None = None) -> Play:
    base = {**_SUCCESS, "content-type": "application/json"} if status == 200 else {"content-type": "application/json"}
    return Play([json.dumps(body).encode()], status, {**base, **(headers or {})})


def _detail(status: int, detail: object) -> _Maker:
    return lambda fault, answer, request: _json(status, {"detail": detail})


def _page(status: int) -> _Maker:
    html = f"<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>"
    return lambda fault, answer, request: Play([html.encode()], status, {"content-type": "text/html"})


def _engine_400(message: str) -> _Maker:
    inner = {"detail": {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}}
    return _detail(400, f"Invalid request: Invalid request: {json.dumps(inner)}")


def _retry_after(fault: Fault, answer: Answer, request: SentRequest) -> Play:
    value = {"date": "Fri, 31 Dec 2100 23:59:59 GMT", "garbage": "soon"}.get(fault.value, fault.value)
    return _json(429, {"detail": _CAPACITY}, {"retry-after": value})


def _spoiled(stream: Callable[[Fault, Answer, list[bytes]], Sequence[Step]], whole: _Maker | None = None) -> _Maker:
    """Return a fault inside an answer: ``stream`` gets a clean answer's events, ``whole`` makes an unstreamed reply."""

    def make(fault: Fault, answer: Answer, request: SentRequest) -> Play:
        if not request.stream:
            return (whole or _cut_body)(fault, answer, request)
        events = [_event(chunk) for chunk in answer.chunks(request.model)]
        return Play(stream(fault, answer, events), headers=_SUCCESS)

    return make


def _cut_body(fault: Fault, answer: Answer, request: SentRequest) -> Play:
    body = json.dumps(answer.body(request.model)).encode()
    return Play([body[: len(body) // 2], Reset()], headers={"content-type": "application/json"})


def _whole(change: Callable[[dict[str, object]], object]) -> _Maker:
    return lambda fault, answer, request: _json(200, change(answer.body(request.model)))


def _changed_choice(**fields: object) -> Callable[[dict[str, object]], object]:
    def change(body: dict[str, object]) -> object:
        choice = cast("list[dict[str, object]]", body["choices"])[0]
        return {**body, "choices": [{**choice, **fields}]}

    return change


def _restart(fault: Fault, answer: Answer, events: list[bytes]) -> list[bytes]:
    """Let another machine start over, under another id: in other words, or with ``value="same"`` in the same ones."""
    again = [event.replace(b'"chatcmpl-0"', b'"chatcmpl-1"') for event in events]
    if fault.value != "same" and 0 < fault.after < len(again):
        again[fault.after] = _in_other_words(again[fault.after])
    return [*events[: 1 + fault.after], *again, _DONE]


def _in_other_words(event: bytes) -> bytes:
    chunk = json.loads(event.removeprefix(b"data: "))
    for choice in chunk["choices"]:
        delta = choice["delta"]
        choice["delta"] = {name: f"~{told}" if isinstance(told, str) else told for name, told in delta.items()}
    return _event(chunk)


def _without_usage(events: list[bytes]) -> list[bytes]:
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    return [_event({**chunk, "usage": None}) for chunk in chunks if chunk["choices"]]


def _hang_after_headers(fault: Fault, answer: Answer, request: SentRequest) -> Play:
    return Play([Wait(fault.seconds), *clean_play(answer, request).steps])


def _drip(fault: Fault, answer: Answer, request: SentRequest) -> Play:
    clean = clean_play(answer, request)
    content = b"".join(step for step in clean.steps if isinstance(step, bytes))
    pause = Wait(fault.seconds if fault.seconds < 10_000 else 0.01)
    drops = [content[start : start + 16] for start in range(0, len(content), 16)]
    return Play([step for drop in drops for step in (pause, drop)], clean.status, clean.headers)


def _only_reasoning(fault: Fault, answer: Answer, request: SentRequest) -> Play:
    return clean_play(Answer("", reasoning=answer.reasoning or answer.text, pieces=answer.pieces), request)


_CAPACITY = "Infrastructure is at maximum capacity, try again later"
_EXHAUSTED = "exhausted all available targets to no avail"
_OVERFLOW = (
    "Requested token count exceeds the model's maximum context length of 40960 tokens. You requested a total of 45000 "
    "tokens: 5000 tokens from the input messages and 40000 tokens for the completion."
)
_IN_BAND = {"object": "error", "message": "the engine died", "type": "InternalServerError", "param": None, "code": 500}
_BARE = json.dumps({"error": f"Unhandled exception during response stream: {_EXHAUSTED}"}).encode()
_OWNER = "Chute unavailable because the creator of this chute {chute.user_id=} has zero balance."
_QUOTA = {
    "message": "Quota exceeded and account balance is $0.0, please pay with fiat or send tao",
    "quota_reset_timestamp": "2100-01-01T00:00:00+00:00",
}

FAULTS: Mapping[str, _Maker] = {
    "capacity": _detail(429, _CAPACITY),
    "retry_after": _retry_after,
    "account_limit": _detail(429, "Free models limit reached for today - maintain >= $10 balance"),
    "keyless": _page(429),
    "cold": _detail(503, "No instances available (yet) for chute_id='00000000-0000-0000-0000-000000000000'"),
    "disabled": _detail(503, "This chute is currently disabled."),
    "exhausted": _detail(500, _EXHAUSTED),
    "bad_gateway": _page(502),
    "gateway_timeout": _page(504),
    "quota": _detail(402, _QUOTA),
    "tee_balance": _detail(402, "TEE models require an active subscription or positive balance."),
    "owner_balance": _detail(402, _OWNER),
    "auth": _detail(401, "Invalid token or user not found"),
    "not_found": lambda fault, answer, request: _json(404, {"detail": f"model not found: {request.model}"}),
    "overflow": _engine_400(_OVERFLOW),
    "bad_request": _engine_400("temperature must be non-negative"),
    "refused": lambda fault, answer, request: Play(before=[Refuse()]),
    "hang": lambda fault, answer, request: Play(before=[Wait(fault.seconds)], status=504),
    "hang_after_headers": _hang_after_headers,
    "stall": _spoiled(
        lambda fault, answer, events: [
            *events[: 1 + fault.after], Wait(fault.seconds), *events[1 + fault.after :], _DONE
        ],
        _hang_after_headers,
    ),
    "reset": _spoiled(lambda fault, answer, events: [*events[: 1 + fault.after], Reset()]),
    "no_finish": _spoiled(
        lambda fault, answer, events: events[: 1 + fault.after], _whole(_changed_choice(finish_reason=None))
    ),
    "error_line": _spoiled(
        lambda fault, answer, events: [*events[: 1 + fault.after], _BARE], _whole(lambda body: json.loads(_BARE))
    ),
    "error_event": _spoiled(
        lambda fault, answer, events: [*events[: 1 + fault.after], _event({"error": _IN_BAND}), _DONE],
        _whole(lambda body: {"error": _IN_BAND}),
    ),
    "restart": _spoiled(_restart),
    "malformed": _spoiled(
        lambda fault, answer, events: [
            *events[: 1 + fault.after], b'data: {"id": "chatcm\n\n', *events[1 + fault.after :]
        ],
        _whole(lambda body: {**body, "choices": None}),
    ),
    "empty": lambda fault, answer, request: Play(headers=_SUCCESS),
    "role_only": _spoiled(
        lambda fault, answer, events: [events[0], *events[-2:], _DONE],
        _whole(_changed_choice(message={"role": "assistant", "content": ""})),
    ),
    "reasoning_only": _only_reasoning,
    "no_done": _spoiled(lambda fault, answer, events: events, _whole(lambda body: body)),
    "done_only": _spoiled(
        lambda fault, answer, events: [*events[: 1 + fault.after], _DONE], _whole(_changed_choice(finish_reason=None))
    ),
    "no_usage": _spoiled(
        lambda fault, answer, events: [*_without_usage(events), _DONE], _whole(lambda body: {**body, "usage": None})
    ),
    "cumulative_usage": lambda fault, answer, request: clean_play(answer, request),
    "slow_drip": _drip,
}  # fmt: skip
"""Every fault by name, as it appears on the wire."""
