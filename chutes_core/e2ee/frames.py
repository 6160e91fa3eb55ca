"""Decrypt the events of an encrypted stream, one by one, and see that none is missing, moved or foreign.

On the wire there is one ``{"e2e_init": …}``, then an ``{"e2e": …}`` for every line, and ``{"e2e_error": …}`` if the
machine fails; ``[DONE]`` is sealed. A machine also tells the usage of each piece in the clear, for billing; the service
keeps that to itself, so it need not come. The outer format is enforced strictly, because only the inside of a frame is
protected by its seal: a line that may have been altered is refused, not skipped.

Frames are not numbered. What is inside tells their order: each piece of an answer says which answer and which choice it
is of, and how many tokens there are with it. So a piece that shows something has to count one token more than the one
before. Where it counts several, it may hold several, or a frame was taken out: nobody here can tell. That is an error,
:class:`UncountedError`, after which the model's answers are asked for in one piece.

Some engines end an answer with a piece that counts nothing, and say the total after it. Such an end is held back until
the total has come, or the last pieces and the total could be left out together.

What is allowed besides, docs/privacy.md names: engines leave out the tokens that mark where reasoning passes into text,
the one that ends an answer, and all but the last of those that make up a character. How many is learned from what
comes (:class:`Habits`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from chutes_core.e2ee.seal import NONCE, FrameKey, ReplyKey, SealBrokenError, from_base64

__all__ = ["AnotherAnswerError", "FrameReader", "Habits", "MachineError", "UncountedError", "other_model"]

MAX_LINE = 2 * 1024 * 1024
_PREFIX = b"data: "
_SEALED = b'data: {"e2e":"'
_DONE = b"[DONE]"
_SENTINEL = object()


class MachineError(Exception):
    """The machine reported an error in the clear, outside the sealed answer."""

    def __init__(self, body: object) -> None:
        super().__init__("the machine reported an error")
        self.body = body


class AnotherAnswerError(SealBrokenError):
    """The machine began another answer in the same stream, or somebody put a piece of one there."""


class UncountedError(SealBrokenError):
    """The tokens that a piece counts are not those of the pieces that came."""


@dataclass(slots=True)
class Habits:
    """What was seen of a model's streams. No relay can make it up: each follows from sealed pieces that did come.

    Attributes:
        packs: Pieces came that did not add up: it is not streamed again, unless in order is enough.
        silent: Pieces came that did not count, or not on, or were of a tool call: it is not streamed again.
        marks: The most tokens between reasoning and text that are not shown: the end of the one, and a blank line.
        ends: The most tokens that end an answer: one, unless an answer ended without.
    """

    packs: bool = False
    silent: bool = False
    marks: int = 2
    ends: int = 1


class FrameReader:
    """Turns the bytes of an encrypted stream into those of the plain one.

    Args:
        key: The key of this reply.
        answers: Returns whether a name is that of the model that was asked.
        counted: Whether the tokens of every piece have to add up, rather than only to grow.
        habits: What was seen of the model's streams, which is kept up.

    Raises:
        SealBrokenError: From :meth:`feed` and :meth:`close`, for anything a machine would not send.
        MachineError: From :meth:`feed`, for an error that the machine reports in the clear.
    """

    def __init__(
        self,
        key: ReplyKey,
        answers: Callable[[object], bool] = lambda model: True,
        *,
        counted: bool = True,
        habits: Habits | None = None,
    ) -> None:
        self._key = key
        self._habits = habits or Habits()
        self._answers = answers
        self._counted = counted
        self._frames: FrameKey | None = None
        self._rest = bytearray()
        self._seen: set[bytes] = set()
        self._billed: object = _SENTINEL
        self._id = self._model = ""
        self._places: dict[int, tuple[int, str]] = {}  # of each choice: the tokens so far, and what was shown last
        self._uncounted: object = None  # how the answer ended, until its total has come
        self._held = b""  # from that end on
        self.reported: MachineError | None = None
        """The error that a machine has reported after what :meth:`feed` has returned, which raises it next."""
        self.done = False
        """Whether the sealed end marker has arrived: what follows is ignored."""

    def feed(self, block: bytes) -> bytes:
        """Take the next bytes; return the plain events they complete.

        What a machine said before it reported an error is returned first: the network may join them. What somebody
        has tampered with is not.
        """
        if self.reported is not None:
            raise self.reported
        if self.done:
            return b""
        self._rest += block
        lines: list[bytes] = []
        if b"\n" in block:  # else what is kept is not looked at again, however long it grows
            *lines, rest = bytes(self._rest).split(b"\n")
            self._rest = bytearray(rest)
        if len(self._rest) > MAX_LINE or any(len(line) > MAX_LINE for line in lines):
            raise SealBrokenError(f"a frame is longer than {MAX_LINE:,} bytes")
        plain: list[bytes] = []
        for line in lines:
            if self.done:
                break
            if line:
                try:
                    plain.append(self._line(line))
                except MachineError as error:
                    if not any(plain):
                        raise
                    self.reported = error
                    break
        return b"".join(plain)

    def close(self) -> None:
        """Handle the end of the stream."""
        if self._rest and not self.done:
            raise SealBrokenError("the stream ended inside a frame")

    def _line(self, line: bytes) -> bytes:
        """Read one line of the outer stream."""
        if line.startswith(_SEALED) and line.endswith(b'"}'):
            # Fast path for most lines: only base64 is between these, so no JSON parsing is needed.
            return self._sealed(line[len(_SEALED) : -2])
        if not line.startswith(b"data: {") or not line.endswith(b"}"):
            if line == b"data: [DONE]":
                return b""  # proves nothing in the clear: the real end marker is sealed
            raise SealBrokenError("a line of the stream is not a valid frame")
        try:
            event = json.loads(line[len(_PREFIX) :].decode())
        except (ValueError, RecursionError):
            raise SealBrokenError("a frame is not JSON") from None
        if len(event) != 1:
            raise SealBrokenError("a frame does not have exactly one field")
        ((name, value),) = event.items()
        if name == "e2e":
            return self._sealed(value)
        if name == "usage":
            if self._billed is not _SENTINEL:
                raise SealBrokenError("usage was stated twice for one part of the answer")
            self._billed = value
            return b""
        if name == "e2e_init" and self._frames is None:
            self._frames = self._key.frames(from_base64(value))
            return b""
        if name == "e2e_error":
            raise MachineError(value)
        raise SealBrokenError("a frame of an unknown kind, or a second e2e_init")

    def _sealed(self, value: object) -> bytes:
        if self._frames is None:
            raise SealBrokenError("a sealed part came before the key was agreed on")
        frame = from_base64(value)
        nonce = frame[:NONCE]
        if nonce in self._seen:
            raise SealBrokenError("a sealed part came a second time")
        self._seen.add(nonce)
        plain = self._frames.open(frame)
        self._check(plain)
        self.done = plain.removeprefix(_PREFIX).strip() == _DONE
        # Each frame holds complete lines, with or without the blank line that ends an event.
        plain = plain if plain.endswith(b"\n\n") else plain + b"\n\n"
        if self._uncounted is None:
            given, self._held = self._held + plain, b""
            return given
        if self.done:
            self._habits.packs = True
            raise UncountedError("the answer ended without saying how many tokens there are")
        self._held += plain
        return b""

    def _check(self, plain: bytes) -> None:
        """Check what a frame says of itself, and that its usage equals the one stated in the clear, if one was."""
        stated, self._billed = self._billed, _SENTINEL
        usage: object = _SENTINEL
        for line in plain.splitlines():
            chunk = _chunk_in(line)
            if chunk is not None:
                usage = chunk.get("usage", _SENTINEL)
                self._follows(chunk, usage)
        if stated is not _SENTINEL and usage != stated:
            raise SealBrokenError("the usage stated in the clear differs from the sealed one")

    def _follows(self, chunk: Mapping[str, object], usage: object) -> None:
        """Check that a piece is of this answer, and comes after those before it."""
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            return  # an engine's error, which the guard reads
        name, model = chunk.get("id"), chunk.get("model")
        if not isinstance(name, str) or not name:
            raise SealBrokenError("a sealed part does not say which answer it is of")
        if not self._id:
            if not self._answers(model):
                raise SealBrokenError(other_model(model))
            self._id, self._model = name, cast("str", model)
        if name != self._id:
            raise AnotherAnswerError("a sealed part is of another answer")
        if model != self._model:
            raise SealBrokenError(other_model(model))
        counted = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
        count = counted if isinstance(counted, int) and not isinstance(counted, bool) else None
        for choice in choices:
            index = choice.get("index") if isinstance(choice, Mapping) else None
            if not isinstance(index, int) or isinstance(index, bool):
                raise SealBrokenError("a sealed part does not say which choice it is of")
            self._places[index] = self._step(choice, count, *self._places.get(index, (0, "")))
        before = sum(tokens for tokens, _ in self._places.values())
        if not choices and count is not None and before:  # else no piece has counted
            end, self._uncounted = self._uncounted, None
            self._step({"finish_reason": end}, count, before, "all")

    def _step(self, choice: Mapping[str, object], count: int | None, before: int, was: str) -> tuple[int, str]:
        """Check the tokens that a choice has after a piece; return them, and what was shown last."""
        shown, text = _shown(choice.get("delta"))
        end = choice.get("finish_reason")
        if shown == "call":
            self._habits.silent = True
            raise UncountedError("a tool call came in parts")
        if count is None:
            if shown:
                self._habits.silent = True
                raise UncountedError("a sealed part does not say how many tokens there are so far")
            if self._counted and was and end is not None:
                self._uncounted = end
            return before, shown or was
        if count < before:
            raise SealBrokenError("sealed parts arrived out of order")
        if self._counted:
            self._count(before, count - before, shown, text, was, end)
        elif shown and shown == was and count == before and end is None:
            self._habits.silent = True
            raise UncountedError("sealed parts may have been exchanged: they count as many tokens")
        return count, shown or was

    def _count(self, before: int, more: int, shown: str, text: str, was: str, end: object) -> None:
        """Check how many tokens a piece counts more than the one before."""
        habits = self._habits
        turns = was == "reasoning" and shown == "text"
        if turns:
            fits = more <= 1 + habits.marks + _split(text)
            habits.marks = max(min(habits.marks, more - 1), 0)
        elif not was and shown:  # the opening may count the first token, before it is shown
            fits = 1 <= before + more <= 1 + _split(text)
        elif shown:
            fits = (1 if end is None else 0) <= more <= 1 + _split(text)
        elif end is None:
            fits = more <= 1
        elif not was:
            fits = True  # nothing was shown, which is no answer
        else:
            if end == "stop":
                habits.ends = min(habits.ends, more)
            fits = more <= (habits.ends if end != "length" else 0)
        if not fits:
            habits.packs = True
            raise UncountedError("sealed parts are missing or arrived out of order: their tokens do not add up")


def other_model(model: object) -> str:
    """Say that the answer is not of the model that was asked."""
    return f"the answer is of {repr(model)[:100]}, which was not asked" if model else "the answer names no model"


def _chunk_in(line: bytes) -> Mapping[str, object] | None:
    """Read the piece of an answer in a line; None if there is none."""
    if not line.startswith(b"data:"):
        return None
    try:
        chunk = json.loads(line[5:])
    except (ValueError, RecursionError):
        return None
    return chunk if isinstance(chunk, Mapping) else None


def _shown(delta: object) -> tuple[str, str]:
    """Return what a piece shows, and its text: a tool call, reasoning, text, or nothing."""
    if not isinstance(delta, Mapping):
        return "", ""
    if delta.get("tool_calls") or delta.get("function_call"):
        return "call", ""
    for name, kind in (("content", "text"), ("reasoning_content", "reasoning"), ("reasoning", "reasoning")):
        text = delta.get(name)
        if text:
            return kind, text if isinstance(text, str) else ""
    return ("text" if delta.get("refusal") else ""), ""


def _split(text: str) -> int:
    """Return of how many tokens more than one the first character of a text may be made.

    Only for characters of four bytes, such as emoji, of which a tokenizer usually has none as a whole.
    """
    first = text.lstrip()[:1]
    return 3 if first > "\uffff" else 0
