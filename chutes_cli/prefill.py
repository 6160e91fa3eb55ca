"""Whether a model continues an answer whose beginning is sent along: a few short questions, and what the answers show.

A beginning that is ignored leaves no trace in the answer, so what follows it must be known: the next number, and the
next letter. What the model made of the beginning otherwise is told as far as it can be seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chutes_core.catalog.model_info import ModelInfo
from chutes_core.catalog.traits import Prefill
from chutes_core.errors import APIError, Kind, Scope
from chutes_core.failures.reading import FACTS
from chutes_core.shown.table import Cell, Column, Table, width_of

if TYPE_CHECKING:
    from chutes_core.client import ChutesClient
    from chutes_core.request.chat import ChatParams

__all__ = ["PROBES", "Finding", "Heard", "Probe", "findings_json", "findings_table", "measure", "objection"]


@dataclass(frozen=True, slots=True)
class Probe:
    """A question, the beginning of its answer, and what comes next in it."""

    question: str
    begun: str
    follows: str


PROBES = (
    Probe("Count from 41 to 60, separated by commas.", "41, 42, 43, 44, 45,", "46"),
    Probe("Write the letters from k to z, separated by commas.", "k, l, m, n, o,", "p"),
)
_TOKENS = 8  # too few to write the beginning anew
_QUOTED = 24
_WAYS: tuple[tuple[Prefill, bool], ...] = (("as_is", False), ("thinking_off", True))

# How an answer may fail because of its beginning. These are answers that have no text:
_SILENT = frozenset({Kind.EMPTY, Kind.THINKING_LIMIT})
# And these are also how a model fails that is not well, so it is asked once more without a beginning.
_BROKEN = frozenset(
    {
        Kind.EXHAUSTED, Kind.UPSTREAM, Kind.STREAM_ERROR, Kind.TRUNCATED, Kind.RESET, Kind.RESTARTED, Kind.MALFORMED,
        Kind.BAD_REQUEST, Kind.UNSUPPORTED,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Heard:
    """What a model said: its text, whether it thought before that, and how the answer failed."""

    content: str = ""
    thought: bool = False
    failure: APIError | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a model makes of the beginning of an answer; ``prefill`` is None where it could not be measured."""

    info: ModelInfo
    prefill: Prefill | None
    why: str = ""
    failure: APIError | None = None


def objection(probe: Probe, heard: Heard) -> str:
    """Say why an answer is not the continuation of its beginning; nothing if it is.

    >>> objection(PROBES[0], Heard(" 46, 47,")), objection(PROBES[0], Heard("41, 42, 43, 44, 45, 46"))
    ('', 'the beginning came back before its continuation')
    >>> objection(PROBES[1], Heard("please"))
    "it answered anew: 'please'"
    """
    said = heard.content.strip()
    if heard.thought:
        return "the continuation came as reasoning"
    if said.startswith(probe.begun):
        return "the beginning came back before its continuation"
    if re.match(rf"{probe.follows}\b", said):
        return ""
    if said:
        return f"it answered anew: {said if len(said) <= _QUOTED else f'{said[:_QUOTED]}…'!r}"
    if heard.failure is not None and heard.failure.kind not in _SILENT:
        return f"it fails when it is to continue ({heard.failure.kind.value})"
    return "nothing came"


def measure(service: ChutesClient, info: ModelInfo) -> Finding:
    """Ask a model to continue, as it is and then with thinking switched off.

    Raises:
        APIError: The account, or the connection, is at fault: no other model would do better.
    """
    whys: list[str] = []
    try:
        for way, off in _WAYS:
            why = next(filter(None, (_asked(service, info.id, probe, off) for probe in PROBES)), "")
            if not why:
                return Finding(info, way)
            whys.append(why)
    except APIError as error:
        if error.scope is Scope.ACCOUNT or error.kind is Kind.CONNECT:
            raise
        return Finding(info, None, f"it could not be asked: {FACTS[error.kind].why}", error)
    as_is, off_too = whys
    return Finding(info, "no", as_is if as_is == off_too else f"{as_is}; with thinking off {off_too}")


def _asked(service: ChutesClient, model: str, probe: Probe, off: bool) -> str:
    """Ask once, and return the objection to the answer."""
    heard = _heard(service, model, probe, begun=True, off=off)
    found = objection(probe, heard)
    if not found or heard.failure is None or heard.content.strip() or heard.thought:
        return found
    if heard.failure.kind not in _SILENT | _BROKEN:
        raise heard.failure
    if heard.failure.kind in _BROKEN:
        control = _heard(service, model, probe, begun=False, off=off).failure
        if control is not None and control.kind not in _SILENT:
            raise control
    return found


def _heard(service: ChutesClient, model: str, probe: Probe, *, begun: bool, off: bool) -> Heard:
    messages: list[dict[str, object]] = [{"role": "user", "content": probe.question}]
    params: ChatParams = {"temperature": 0, "max_tokens": _TOKENS}
    if begun:
        messages.append({"role": "assistant", "content": probe.begun})
        params |= {"continue_final_message": True, "add_generation_prompt": False}
    if off:
        params["chat_template_kwargs"] = {"enable_thinking": False, "thinking": False}
    content, thought = "", False
    try:
        with service.stream(messages, model=model, **params) as deltas:
            for delta in deltas:
                thought = thought or bool(delta.reasoning.strip() and not content.strip())
                content += delta.content
    except APIError as error:
        return Heard(content, thought, error)
    return Heard(content, thought)


_WORDS: dict[Prefill | None, Cell] = {
    "as_is": Cell("honoured as is", "green"),
    "thinking_off": Cell("honoured with thinking off", "green"),
    "no": Cell("not honoured", "red"),
    None: Cell("not measured", "yellow"),
}


def findings_table(found: Sequence[Finding], width: int | None) -> tuple[Table, list[str]]:
    """Make the table; where there is no room for the reasons, they are lines of their own.

    >>> table, reasons = findings_table([Finding(ModelInfo(id="acme/one"), "no", "nothing came")], 40)
    >>> [column.title for column in table.columns], reasons
    (['model', 'engine', 'beginning'], ['acme/one: nothing came'])
    """
    columns = [Column("model"), Column("engine", drop=1), Column("beginning"), Column("why")]
    rows: list[list[Cell | str]] = [
        [each.info.id, each.info.engine or "?", _WORDS[each.prefill], each.why] for each in found
    ]
    table = Table.of(columns, rows)
    if width is None or width_of(table) <= width:
        return table, []
    reasons = [f"{each.info.id}: {each.why}" for each in found if each.why]
    return Table.of(columns[:-1], [row[:-1] for row in rows]), reasons


def findings_json(found: Sequence[Finding]) -> list[dict[str, object]]:
    """Give the findings as plain data."""
    return [
        {
            "model": each.info.id,
            "engine": each.info.engine,
            "version": each.info.version,
            "prefill": each.prefill,
            "why": each.why or None,
        }
        for each in found
    ]
