"""A whole reply as the events of a stream, for who asked for a stream. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from chutes_core.door import loads

__all__ = ["as_events"]


def as_events(body: bytes) -> bytes:
    """Return a reply as a stream of one piece; what is none is passed on, for the guard to judge.

    >>> as_events(b'{"choices": [{"index": 0, "message": {"content": "Hi"}}]}').splitlines()[0]
    b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}'
    """
    try:
        reply = loads(body)
    except ValueError:
        return b"data: " + b" ".join(body.split()) + b"\n\n"
    if isinstance(reply, dict):
        if reply.get("detail") and "choices" not in reply:
            reply = {"error": reply["detail"]}
        elif isinstance(choices := reply.get("choices"), list):
            reply = {**reply, "choices": [_piece(each) for each in choices]}
    return b"data: " + json.dumps(reply).encode() + b"\n\ndata: [DONE]\n\n"


def _piece(choice: object) -> object:
    if not isinstance(choice, Mapping) or not isinstance(message := choice.get("message"), Mapping):
        return choice
    rest = {name: value for name, value in choice.items() if name != "message"}
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        placed = [{"index": place, **each} if isinstance(each, Mapping) else each for place, each in enumerate(calls)]
        message = {**message, "tool_calls": placed}
    return {**rest, "delta": message}
