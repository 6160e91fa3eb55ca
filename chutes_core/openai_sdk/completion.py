"""A fallback's answer as the service would send it: a ``chat.completion``, or its chunks. Pure.

What the core knows of an answer is in it, with what the service said beyond that, and ``chutes_attempts`` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from chutes_core.fallback.relay import Restart
from chutes_core.fallback.report import beside
from chutes_core.fallback.stream import FallbackReply
from chutes_core.reply.body import call_bodies, choice_body, reply_body, usage_body
from chutes_core.response import Delta

__all__ = ["Chunks", "completion"]

_DONE = b"data: [DONE]\n\n"


def completion(reply: FallbackReply) -> bytes:
    """Return a whole answer as the body of a reply.

    >>> from chutes_core.attempt import Attempt
    >>> from chutes_core.response import Choice
    >>> choice = Choice(0, "Hi", "", (), (), "stop")
    >>> reply = FallbackReply("1", "acme/one", (choice,), attempts=(Attempt("acme/one", "answered"),))
    >>> told = json.loads(completion(reply))
    >>> told["model"], told["choices"][0]["message"]["content"], told["chutes_attempts"][0]["outcome"]
    ('acme/one', 'Hi', 'answered')
    """
    return _json({**reply_body(reply), **_head(reply, "chat.completion"), **_beside(reply)})


class Chunks:
    """Writes the chunks of a streamed answer.

    The role comes first. Tool calls, the end, and what is known of the whole come when the stream has ended, since only
    then it is certain that they stay. All chunks have the id of the first, whichever member goes on.

    Args:
        include_usage: Whether a separate chunk with the usage was requested; without it the last one has it.
    """

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._head: dict[str, object] = {}
        self._thought = False
        self._again = False

    def take(self, delta: Delta, reply: FallbackReply) -> Iterator[bytes]:
        """Take a delta, and what has arrived of its member's reply."""
        if isinstance(delta, Restart):  # of reasoning alone: what was shown stays, and another member's comes after it
            self._again = self._thought
            return
        yield from self._begun(reply)
        if delta.reasoning:
            yield self._delta({"reasoning_content": "\n\n" + delta.reasoning if self._again else delta.reasoning})
            self._thought, self._again = True, False
        if delta.content:
            yield self._delta({"content": delta.content})

    def end(self, reply: FallbackReply) -> Iterator[bytes]:
        """Write the end of a whole answer."""
        yield from self._begun(reply)
        choice = reply.choices[0]
        for index, call in enumerate(call_bodies(choice)):
            yield self._delta({"tool_calls": [{"index": index, **call}]})
        said = {"refusal": choice.refusal} if choice.refusal else {}
        last = choice_body(choice, {"delta": said})
        usage = usage_body(reply.usage)
        body = {**reply.extra, **self._head, "choices": [last], "usage": None if self._include_usage else usage}
        yield _event({**body, **_beside(reply)})
        if self._include_usage:
            yield _event({**self._head, "choices": [], "usage": usage})
        yield _DONE

    def _begun(self, reply: FallbackReply) -> Iterator[bytes]:
        before, self._head = self._head, _head(reply, "chat.completion.chunk")
        if before:
            self._head["id"] = before["id"]
        else:
            yield self._delta({"role": "assistant", "content": ""})

    def _delta(self, delta: Mapping[str, object]) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}
        return _event({**self._head, "choices": [choice]})


def _head(reply: FallbackReply, kind: str) -> dict[str, object]:
    return {
        "id": reply.id or "",
        "object": kind,
        "created": reply.created or 0,
        "model": reply.model or reply.member,
    }


def _beside(reply: FallbackReply) -> dict[str, object]:
    return {name: value for name, value in beside(reply).items() if name != "model_name"}  # which the answer has


def _json(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _event(chunk: Mapping[str, object]) -> bytes:
    return b"data: " + _json(chunk) + b"\n\n"
