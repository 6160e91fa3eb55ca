"""What the service's own code answered, as facts: ``cases.json``, read into requests, replies and what comes of them.

A case is one exchange. ``recorded`` names the recordings that it is in, ``send`` is the request (a plain question is
left out of its body), ``ours`` is what our readers must make of the reply, and ``setup`` brings the embedded Chutes
into the state that the recorder's machines were in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from chutes_core.exchanges.replaying import Exchange, read_exchanges

__all__ = ["BY_NAME", "CASES", "ENGINES", "LEFT_OUT", "OWN", "RECORDINGS", "Case", "cases_in"]

RECORDINGS = 206
"""How many recordings there are."""

OWN = Path(__file__).parent / "recorded"
"""Recordings of users, each a file of lines: see docs/recording.md."""

_FILE = json.loads((Path(__file__).parent / "cases.json").read_text("utf-8"))
_CREATED = 1_767_312_000
_FIELDS = ("role", "content", "reasoning_content", "tool_calls")

Json = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One exchange."""

    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.facts["name"])

    @property
    def send(self) -> Mapping[str, Any]:
        """The request: its site, method, path, kind of key, headers and body."""
        return self.facts["send"]  # type: ignore[no-any-return]

    @property
    def setup(self) -> Mapping[str, Any]:
        return self.facts.get("setup", {})  # type: ignore[no-any-return]

    @property
    def status(self) -> int:
        return int(self.facts["status"])

    @property
    def headers(self) -> dict[str, str]:
        given = self.facts["headers"]
        return dict(_FILE["headers"][given] if isinstance(given, str) else given)

    @property
    def reader(self) -> str | None:
        """What of ours reads such a reply; None if nothing does."""
        return self.facts.get("reader")

    @property
    def ours(self) -> Json:
        """What it must make of it."""
        return dict(self.facts.get("ours", {}))

    @property
    def asked(self) -> str:
        """The model that was asked."""
        body = self.send.get("body")
        return str(body.get("model", "")) if isinstance(body, Mapping) else ""

    @cached_property
    def json(self) -> Any:
        """The body of a reply in one piece; None if it is no JSON."""
        if "reply" in self.facts:
            return _whole(self.facts["reply"], self.facts["model"], self.facts["prompt_tokens"])
        return self.facts.get("json")

    @property
    def streamed(self) -> bool:
        return "events" in self.facts or "events_of" in self.facts or (self.reader == "stream" and self.status < 300)

    @cached_property
    def events(self) -> list[Json | str]:
        """The events of a stream: JSON, or a text that is none."""
        rows = self.facts["events"] if "events" in self.facts else BY_NAME[self.facts["events_of"]].facts["events"]
        ident, events = "reply-1", list[Json | str]()
        if "head" in self.facts:
            head = {"id": ident, **self.facts["head"], "model": self.facts["model"]}
            return [row if isinstance(row, str) else {**head, **row} for row in rows]
        for row in rows:
            if isinstance(row, str) or "json" in row:
                events.append(row if isinstance(row, str) else row["json"])
                continue
            ident = row.get("id", ident)
            events.append(_chunk(row, ident, self.facts["model"], self.facts["prompt_tokens"]))
        return events

    @property
    def whole(self) -> bool:
        """Whether the reply was read to its end; a client of ours left where it had seen enough."""
        return bool(self.facts.get("end", "whole") == "whole")

    @property
    def pieces(self) -> list[bytes]:
        """The body in the pieces in which it came: of a stream, each line for itself and each blank line too."""
        if "blocks" in self.facts:
            return Exchange(self.facts).blocks
        if not self.streamed:
            if self.json is None:
                return [str(self.facts.get("text", "")).encode()]
            return [json.dumps(self.json, ensure_ascii=False, separators=(",", ":")).encode()]
        lines = [b for event in self.events for b in _lines(event)]
        if self.facts.get("pieces") == "events":
            return [line + blank for line, blank in zip(lines[::2], lines[1::2], strict=True)]
        return lines


def _lines(event: Json | str) -> Iterator[bytes]:
    """An event as it stands in a stream; one that begins with ! is no event, and nothing follows it."""
    if isinstance(event, str) and event.startswith("!"):
        yield event[1:].encode()
        return
    yield b"data: " + (event if isinstance(event, str) else json.dumps(event)).encode() + b"\n"
    yield b"\n"


def _usage(row: Json, prompt: int) -> Json:
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + row["tokens"],
        "completion_tokens": row["tokens"],
        "prompt_tokens_details": None,
        "reasoning_tokens": row.get("thought", 0),
    }


def _choice(row: Json, holder: str, said: Json) -> Json:
    end = {"finish_reason": row.get("finish"), "matched_stop": row.get("matched")}
    return {"index": 0, holder: said, "logprobs": None, **end}


def _chunk(row: Json, ident: str, model: str, prompt: int) -> Json:
    said = {name: row.get(name) for name in _FIELDS}
    return {
        "id": ident,
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": model,
        "choices": [] if row.get("usage_only") else [_choice(row, "delta", said)],
        "usage": _usage(row, prompt),
        "chutes_verification": "0" * 32,
    }


def _whole(row: Json, model: str, prompt: int) -> Json:
    said = {name: row.get(name) for name in _FIELDS} | {"role": "assistant"}
    return {
        "id": "reply-1",
        "object": "chat.completion",
        "created": _CREATED,
        "model": model,
        "choices": [_choice(row, "message", said)],
        "usage": _usage(row, prompt),
        "metadata": {"weight_version": "default"},
        "chutes_verification": "0" * 32,
        "prompt_sha256": "0" * 64,
    }


def cases_in(file: Path) -> list[Case]:
    """Read the exchanges that the recorder has written, as far as something of ours reads such a reply."""
    exchanges = enumerate(read_exchanges(file), 1)
    return [Case({"name": f"{file.stem}-{number}", **each.facts}) for number, each in exchanges if each.reader]


def _engine(facts: Json) -> Case:
    send = {"method": "POST", "path": "/v1/chat/completions", "body": {"model": facts["model"], "stream": True}}
    reply = {"status": 200, "headers": {"content-type": "text/event-stream; charset=utf-8"}, "pieces": "events"}
    return Case({**facts, **reply, "send": send, "reader": "stream"})


CASES = [Case(facts) for facts in _FILE["cases"]]
ENGINES = [_engine(facts) for facts in json.loads((Path(__file__).parent / "engines.json").read_text("utf-8"))["cases"]]
"""What the machines' own software streams, as others have shown it: ``engines.json`` says where."""
BY_NAME = {case.name: case for case in CASES}
LEFT_OUT: Mapping[str, str] = _FILE["left_out"]
"""The recordings of which no case was made, and why."""
