"""A relay without keys between a machine and a client: what it does to the parts of a stream, and what comes of it."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from chutes_core.calls.effects import run
from chutes_core.errors import APIError
from chutes_core.response import Reply
from chutes_local.wire.seal import ReplySeal, event

from .service import INFO, Hand, Service, planned, sealed_path

Parts = list[bytes]
SPOKEN = [("text", word) for word in ("amount:", " 1", "2", "5", "0")]
THOUGHT = [("reasoning", "1250"), ("reasoning", "?"), ("text", "Yes"), ("text", ", it"), ("text", " is")]
REPEATED = [("text", word) for word in ("1", "1", "0", "0")]
LATE = {"role": 1, "ends": 1, "total": 1}  # the opening counts the first token, the end none; then comes the total
SAME, ERROR, OTHER = "the same answer", "an error", "another answer"


def chunks_of(
    words: Sequence[tuple[str, str]], *, role: int = 0, ends: int = 0, total: int = 0
) -> list[dict[str, Any]]:
    """The chunks of an answer: its opening, a token each, its end, its usage; with ``total`` the end has none."""
    deltas: list[tuple[dict[str, str], int, str | None]] = [({"role": "assistant", "content": ""}, role, None)]
    names = {"text": "content", "reasoning": "reasoning_content"}
    deltas += [({names[kind]: word}, count, None) for count, (kind, word) in enumerate(words, 1)]
    deltas.append(({}, len(words) + ends, "stop"))
    head = {"id": "c1", "model": INFO.id}

    def usage(count: int) -> dict[str, int]:
        return {"prompt_tokens": 3, "completion_tokens": count, "total_tokens": 3 + count}

    made: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": end}], "usage": usage(count)}
        for delta, count, end in deltas
    ]
    if total:
        made[-1]["usage"] = None
    return [*made, {**head, "choices": [], "usage": usage(len(words) + ends)}]


def stated(frame: dict[str, Any]) -> bytes:
    """The usage of a part in the clear."""
    return event({"usage": frame["usage"]})


def parts_of(reply: ReplySeal, words: Sequence[tuple[str, str]], *, clear: bool, **how: int) -> Parts:
    """The parts of a sealed stream after its beginning; the usage in the clear, if it comes, goes with its part."""
    made = []
    for each in chunks_of(words, **how):
        made.append((stated(each) if clear else b"") + reply.frame(b"data: " + json.dumps(each).encode()))
    return [*made, reply.frame(b"data: [DONE]")]


FOREIGN = -1
Edit = Sequence[int | tuple[int, bytes]]
"""What is sent instead: parts by their place, one of another stream, or one with other usage in the clear before it."""


def edits(count: int) -> Iterator[tuple[str, Edit]]:
    """Everything of a kind that a relay can do to a stream of so many parts."""
    whole = list(range(count))
    for first, last in itertools.combinations(range(count + 1), 2):
        yield "a part, or several in a row, left out", [*whole[:first], *whole[last:]]
    for first, second in itertools.combinations(whole, 2):
        swapped = list(whole)
        swapped[first], swapped[second] = second, first
        yield "two parts exchanged", swapped
    for source, target in itertools.permutations(whole, 2):
        rest = [place for place in whole if place != source]
        yield "a part moved", [*rest[:target], source, *rest[target:]]
        yield "a part repeated", [*whole[:target], source, *whole[target:]]
    for place in whole:
        yield "a part of another stream put in, or in a part's place", [*whole[:place], FOREIGN, *whole[place:]]
        yield "a part of another stream put in, or in a part's place", [*whole[:place], FOREIGN, *whole[place + 1 :]]
        yield "the stream cut off", whole[:place]
        for usage in (b"", event({"usage": {"completion_tokens": place}}), event({"usage": None})):
            yield "the usage in the clear left out or changed", [*whole[:place], (place, usage), *whole[place + 1 :]]


def edited(parts: Parts, edit: Edit) -> Parts:
    """Return what the relay sends."""
    sent = []
    for each in edit:
        if isinstance(each, int):
            sent.append(foreign_part() if each == FOREIGN else parts[each])
        else:
            place, usage = each
            sent.append(usage + parts[place][parts[place].rindex(b'data: {"e2e"') :])
    return sent


class Relay:
    """Answers a client with an edited stream; the client has seen one whole answer of the model."""

    def __init__(self, words: Sequence[tuple[str, str]], *, clear: bool, knows: bool = True, **how: int) -> None:
        self.words, self.clear, self.how = words, clear, how
        self.service = Service()
        self.path = sealed_path(self.service)
        self.habits = self.path.habits(str(INFO.chute_id))
        self.original = "".join(word for _, word in words)
        self.count = len(words) + 4
        if knows:
            assert self.outcome(range(self.count)) == SAME

    def outcome(self, edit: Edit) -> str:
        """Make one call, and compare what comes with the original."""
        self.habits.packs = self.habits.silent = False

        def answer(service: Service, reply: ReplySeal, body: dict[str, Any]) -> list[bytes]:
            begin = reply.begin()
            return [begin, *edited(parts_of(reply, self.words, clear=self.clear, **self.how), edit)]

        self.service.script = [answer]
        flow, _ = planned(self.service, self.path, stream=True, retries=0)
        try:
            reply: Reply = run(flow, Hand(self.service))
        except APIError:
            return ERROR
        if not self.service.bodies[-1]["stream"]:
            return ERROR  # it was seen before anything was given out, and another answer was asked for in one piece
        return SAME if reply.reasoning + reply.content == self.original else OTHER


@lru_cache(maxsize=1)
def foreign_part() -> bytes:
    """A part of another stream, whose key is another."""
    from .machine import asked

    _, reply = asked()
    reply.begin()
    return parts_of(reply, SPOKEN, clear=False)[2]


@lru_cache(maxsize=1)
def tried() -> dict[str, Counter[str]]:
    """Return how often each kind of edit came to what."""
    found: dict[str, Counter[str]] = {}
    engines: list[tuple[Sequence[tuple[str, str]], bool, dict[str, Any]]]
    engines = [(SPOKEN, False, {}), (THOUGHT, True, {}), (REPEATED, False, LATE), (THOUGHT, False, LATE)]
    for words, clear, how in engines:
        relay = Relay(words, clear=clear, **how)
        for kind, edit in edits(relay.count):
            found.setdefault(kind, Counter())[relay.outcome(edit)] += 1
    return found
