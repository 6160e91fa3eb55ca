"""A guarded stream for another library's parser: the service's own events, passed on while they are valid.

:class:`PassThrough` takes the bytes of a streamed reply, has the guard check every event, and passes on the bytes of
the valid ones. It fixes what stock parsers get wrong, and changes nothing else:

- nothing is passed on before the answer begins, so a machine that died before its first token leaves no trace;
- a piece of a tool call has the index that it was read with, its id and name once, and its arguments as text;
- usage, which the service repeats on every chunk as a running total, is on one chunk only;
- a chunk without choices, which stock code trips over, is sent only if ``include_usage`` asked for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from chutes_core.door import loads
from chutes_core.errors import Kind
from chutes_core.reply.guard import StreamGuard
from chutes_core.response import ToolCallDelta

__all__ = ["PassThrough"]

_DONE = "[DONE]"


class PassThrough:
    r"""Passes events on, one by one, until the guard raises.

    Args:
        guard: The guard, which also holds the reply.
        include_usage: Whether a separate usage chunk was requested.

    >>> good = b'data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\n'
    >>> stream = PassThrough(StreamGuard())
    >>> list(stream.feed(good)) == [good], list(stream.close())
    (True, [])
    """

    def __init__(self, guard: StreamGuard, *, include_usage: bool = False) -> None:
        self.guard = guard
        self._include_usage = include_usage
        self._cr = b""  # the end of the last block, if that may be half of a CRLF
        self._event_so_far: list[bytes] = []
        self._blank = True  # whether the line so far is
        self._opening: list[tuple[bytes, object]] = []
        self._last: tuple[bytes, Mapping[str, object]] | None = None
        self._closed = False
        self._told: set[tuple[object, ...]] = set()

    def feed(self, block: bytes) -> Iterator[bytes]:
        """Take the next bytes; yield the valid events, and raise at the first invalid one."""
        block = self._cr + block
        self._cr = b"\r" if block.endswith(b"\r") else b""
        finished, done = self.guard.whole, self.guard.done
        for piece in block.removesuffix(b"\r").splitlines(keepends=True):
            self._event_so_far.append(piece)
            for _ in self.guard.feed(piece):
                pass
            line = piece.rstrip(b"\r\n")
            ended, self._blank = len(line) < len(piece), self._blank and not line
            if not ended:
                continue
            if self._blank:
                event = b"".join(self._event_so_far)
                self._event_so_far.clear()
                if not done:
                    yield from self._event(event, finished)
                finished, done = self.guard.whole, self.guard.done
            self._blank = True

    def close(self, broken: Kind | None = None, said: str = "") -> Iterator[bytes]:
        """Handle the end of the stream; yield what was held back, and raise if the answer is incomplete.

        Args:
            broken: How the transport failed, if the end was not clean.
            said: The transport's own message.
        """
        rest = b"".join(self._event_so_far) + self._cr
        finished, done = self.guard.whole, self.guard.done
        for _ in self.guard.feed(self._cr):
            pass
        self._judge(broken, said)
        if rest.strip() and not done:
            yield from self._event(rest.rstrip() + b"\n\n", finished)
        yield from self._begin()
        yield from self._flush()

    def _judge(self, broken: Kind | None = None, said: str = "") -> None:
        """Have the guard check, once, whether the answer is complete."""
        if not self._closed:
            self._closed = True
            for _ in self.guard.close(broken, said):
                pass

    def _event(self, event: bytes, finished: bool) -> Iterator[bytes]:
        """Pass on one event that the guard accepted; ``finished`` is whether the answer was complete before it."""
        chunk = _payload(event)
        if finished and not _belongs(chunk):
            return  # anything after the end of the answer, such as another machine's failure, does not matter
        if chunk == _DONE:
            self._judge()  # now, because most readers stop at this marker
            yield from self._begin()
            yield from self._flush()
            yield event
            return
        if self.guard.done:
            return  # a second machine started after the first had finished
        if b'"function"' in event and isinstance(chunk, Mapping):
            event, chunk = self._told_once(event, chunk)
        if self._opening or not (self.guard.delivered or self.guard.whole):
            self._opening.append((event, chunk))
            if self.guard.delivered or self.guard.whole:
                yield from self._begin()
        else:
            yield from self._chunk(event, chunk)

    def _told_once(self, event: bytes, chunk: Mapping[str, object]) -> tuple[bytes, Mapping[str, object]]:
        """Write each piece of a tool call as parsers add them up: id and name once, an index of its own, and text."""
        choices, changed = [], False
        for choice in cast("Sequence[Mapping[str, object]]", chunk.get("choices") or ()):
            delta = cast("Mapping[str, object]", choice.get("delta") or {})
            given = cast("Sequence[Mapping[str, object]]", delta.get("tool_calls") or ())
            read = self.guard.pieces_of(choice.get("index", 0))
            calls = [self._call(choice, call, piece) for call, piece in zip(given, read, strict=False)]
            changed = changed or calls != list(given)
            choices.append({**choice, "delta": {**delta, "tool_calls": calls}} if calls else choice)
        if not changed:
            return event, chunk
        chunk = {**chunk, "choices": choices}
        return _written(chunk), chunk

    def _call(self, choice: Mapping[str, object], call: Mapping[str, object], piece: ToolCallDelta) -> object:
        place = piece.index
        made = call if call.get("index") == place else {**call, "index": place}
        function = cast("Mapping[str, object]", call.get("function") or {})
        if isinstance(function.get("arguments"), Mapping):
            function = {**function, "arguments": piece.arguments}
            made = {**made, "function": function}
        if call.get("id") and not self._is_new("id", choice, place):
            made = {**made, "id": None}
        if function.get("name") and not self._is_new("name", choice, place):
            made = {**made, "function": {**function, "name": None}}
        return made

    def _is_new(self, what: str, choice: Mapping[str, object], place: int) -> bool:
        told = (self.guard.id, choice.get("index"), place, what)
        new = told not in self._told
        self._told.add(told)
        return new

    def _begin(self) -> Iterator[bytes]:
        """Pass on what came before the first token of the answer, if it is from the machine that answered."""
        opening, self._opening = self._opening, []
        answer = self.guard.id
        for event, chunk in opening:
            if not isinstance(chunk, Mapping) or chunk.get("id") in (None, "", answer):
                yield from self._chunk(event, chunk)

    def _chunk(self, event: bytes, chunk: object) -> Iterator[bytes]:
        """Pass on a chunk, so that usage comes only once, at the end."""
        if not isinstance(chunk, Mapping) or not chunk.get("usage"):
            yield from self._flush()
            yield event
            return
        choices = chunk.get("choices")
        if not choices and not self._include_usage:
            if self._last is not None:
                earlier = {**self._last[1], "usage": chunk["usage"]}
                self._last = _written(earlier), earlier
            return
        yield from self._flush(superseded=True)
        if choices and not _finishes(choices):
            yield _written({**chunk, "usage": None})
        else:
            self._last = event, chunk

    def _flush(self, *, superseded: bool = False) -> Iterator[bytes]:
        """Pass on the held chunk, which may have the final usage; if ``superseded`` by a later one, without usage."""
        if self._last is not None:
            (event, chunk), self._last = self._last, None
            if not superseded:
                yield event
            elif chunk.get("choices"):
                yield _written({**chunk, "usage": None})


def _payload(event: bytes) -> object:
    """Return the data of one event: JSON, the end marker, or None."""
    data = b"\n".join(line[5:].lstrip(b" ") for line in event.splitlines() if line.startswith(b"data:"))
    if data.strip() == _DONE.encode():
        return _DONE
    try:
        return loads(data)
    except ValueError:
        return None


def _belongs(chunk: object) -> bool:
    return chunk == _DONE or (isinstance(chunk, Mapping) and not chunk.get("error") and "choices" in chunk)


def _finishes(choices: object) -> bool:
    return isinstance(choices, list) and any(
        isinstance(each, Mapping) and each.get("finish_reason") for each in choices
    )


def _written(chunk: Mapping[str, object]) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
