"""Decode server-sent events from bytes, however the network splits them.

:class:`EventDecoder` buffers what is incomplete and works on bytes, so a character or a line break split between two
reads is not a special case.

A line that is no field of an event is returned as a :class:`Stray`, where a standard reader would pass over it. The
gateway reports a late failure as bare JSON on a line of its own; any other such line is a ``data:`` that was damaged on
its way, and to pass over it would take a word out of an answer.
"""

from __future__ import annotations

__all__ = ["MAX_EVENT", "EventDecoder", "EventTooLongError", "Stray"]

MAX_EVENT = 1024 * 1024
"""The most bytes of one event: hundreds of times what any has, and few enough to hold what they may unfold to."""
_BOM = b"\xef\xbb\xbf"
_LINE_ENDS = (b"\n", b"\r")
_UNUSED_FIELDS = frozenset({b"", b"event", b"id", b"retry"})  # "" is a comment


class Stray(bytes):
    """A line outside the event format."""


class EventTooLongError(ValueError):
    """An event does not end."""


class EventDecoder:
    r"""Turns reads of any size into the payloads of complete events.

    >>> decoder = EventDecoder()
    >>> decoder.feed(b'data: {"a"'), decoder.feed(b": 1}\r"), decoder.feed(b"\n\r\n")
    ([], [], [b'{"a": 1}'])
    """

    def __init__(self) -> None:
        self._tail: list[bytes] = []
        self._data: list[bytes] = []
        self._held = 0  # the bytes of the event so far
        self._skip_newline = False
        self._started = False

    def feed(self, block: bytes) -> list[bytes]:
        """Take the next bytes and return the payloads they complete.

        Raises:
            EventTooLongError: An event has more than :data:`MAX_EVENT` bytes.
        """
        if (
            not (self._tail or self._data or self._skip_newline)
            and self._started
            and block.startswith(b"data: ")
            and block.endswith(b"\n\n")
            and block.find(b"\n") == len(block) - 2
            and b"\r" not in block
        ):
            return [block[6:-2]]  # one event in one read, as tokens come
        if self._skip_newline and block:
            # The previous read ended in CR: an LF at the start is the second half of that CRLF.
            self._skip_newline = False
            block = block[1:] if block.startswith(b"\n") else block
        if self._held > MAX_EVENT:
            raise EventTooLongError(f"an event has more than {MAX_EVENT:,} bytes")
        self._held += len(block)
        if b"\n" not in block and b"\r" not in block:
            if block:
                self._tail.append(block)
            return []
        if self._tail or not self._started:
            self._tail.append(block)
            lines = self._take_tail().splitlines()
        else:
            lines = block.splitlines()
        if not block.endswith(_LINE_ENDS):
            self._tail.append(lines.pop())
        self._skip_newline = block.endswith(b"\r")
        payloads: list[bytes] = []
        for line in lines:
            if line.startswith(b"data: "):
                self._data.append(line[6:])
            elif not line and len(self._data) == 1:
                payloads.append(self._data.pop())
            else:
                self._line(line, payloads)
        if not self._data:
            self._held = len(self._tail[0]) if self._tail else 0
        return payloads

    def close(self) -> list[bytes]:
        """Return what the end of the stream completes: a last event without its blank line, or a bare tail."""
        payloads: list[bytes] = []
        if rest := self._take_tail():
            self._line(rest, payloads)
        self._line(b"", payloads)
        return payloads

    def _take_tail(self) -> bytes:
        tail = b"".join(self._tail)
        self._tail.clear()
        if not self._started and tail:
            self._started = True
            tail = tail.removeprefix(_BOM)
        return tail

    def _line(self, line: bytes, payloads: list[bytes]) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b" ", 5) else line[5:])
        elif not line:
            if self._data:
                payloads.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
        elif line == b"data":
            self._data.append(b"")
        elif b"{" in line or line.partition(b":")[0] not in _UNUSED_FIELDS:
            # No comment and no other field has JSON in it: this is data whose field name was damaged.
            payloads.append(Stray(line.strip()))
