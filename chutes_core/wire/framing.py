r"""The bytes of one HTTP/1.1 connection, between the HTTP package and whoever reads a body.

An HTTP package parses a body event by event, which for a stream of tokens costs more than everything else together. So
the package gets what it decides about (the request, a reply's headers, its end), and a body in chunks is read here,
which takes no more than finding out where each chunk ends. No I/O.

The theory of operation: an :class:`Inbox` gives the package the bytes of a reply's headers and not one more, so what
follows them is still here when a reader asks for it (:meth:`Inbox.take_over`). The reader gets the contents of the
chunks. The last chunk, which is empty, and the trailers after it stay for the package: it sees a body without contents
that has ended well, and may use the connection again. A reader that stops earlier leaves it with a body that has not
ended, and the package closes the connection.

Nor does the package get a byte that follows a reply: it would keep it, and take it for the beginning of the next one.
Here it is a sign that the connection is not idle, and is not used again.

What would break it: giving the package a byte of a body that is then taken over; reading on after what is not a
chunk's size; an end of a reply that the package does not see in the same place.
"""

from __future__ import annotations

import re

__all__ = ["Inbox"]

_MOST_HEAD = 128 * 1024
"""More than the HTTP package takes: what is longer goes on to it, to be refused."""
_MOST_LINE = 16 * 1024
_BLANK = re.compile(rb"\n\r?\n")
_INTERIM = re.compile(rb"HTTP/1\.[0-9] 1")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[^\n]*|[ \t]*)\r\n")


class Inbox:
    r"""What has come on a connection and was not read yet.

    Args:
        problem: What is raised for a body that is not in chunks as it should be.

    >>> inbox = Inbox(ValueError)
    >>> inbox.expect()
    >>> inbox.put(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nHi\r\n0\r\n\r\n")
    59
    >>> inbox.take(4096).endswith(b"\r\n\r\n"), inbox.take_over()
    (True, True)
    >>> inbox.contents(), inbox.ended, inbox.take(4096)
    (b'Hi', True, b'0\r\n\r\n')
    """

    __slots__ = (
        "_before_head",
        "_data",
        "_left",
        "_may_take_over",
        "_problem",
        "_rest",
        "_searched",
        "_to_close",
        "ended",
    )

    def __init__(self, problem: type[Exception]) -> None:
        self._problem = problem
        self._data = b""
        self._before_head = False
        self._searched = 0
        self._may_take_over = False
        self._rest: int | None = None  # bytes of the body that are the package's, if its length is known
        self._left = 0  # bytes of the current chunk that have not come
        self._to_close = False  # the line break after a chunk has not come
        self.ended = False
        """Whether the contents have ended: what is left is for the package."""

    def __len__(self) -> int:
        return len(self._data)

    @property
    def expects(self) -> bool:
        """Whether the headers of a reply are what comes next."""
        return self._before_head

    def expect(self) -> None:
        """Note that a request is sent."""
        self._before_head, self._searched, self._may_take_over = True, 0, False
        self._rest, self._left, self._to_close, self.ended = None, 0, False, False

    def bound(self, length: int) -> None:
        """Note how long the body is that the package reads."""
        self._rest = length

    def put(self, data: bytes) -> int:
        """Add what has come; return how much waits to be read."""
        self._data = data = self._data + data if self._data else data
        return len(data)

    def take(self, most: int, *, all_came: bool = False) -> bytes:
        """Return bytes for the package, at most so many; none if it has to wait.

        Args:
            most: How many it takes.
            all_came: Nothing more will come.
        """
        end = len(self._data)
        if self._before_head or self.ended:
            end = self._end_of_lines()
        elif self._rest is not None:
            end = min(end, self._rest)
        if not end and all_came:
            end = len(self._data)
        self._may_take_over &= not end or self._before_head
        taken, self._data = self._data[: min(end, most)], self._data[min(end, most) :]
        if self._before_head and taken:
            # After an interim reply, such as 103, the headers of another one come.
            self._before_head = _INTERIM.match(taken) is not None
            self._may_take_over = not self._before_head and len(taken) == end
        elif self._rest is not None:
            self._rest -= len(taken)
        if taken:
            self._searched = 0
        return taken

    def _end_of_lines(self) -> int:
        """Return where the headers end, or the trailers; 0 if that has not come."""
        found = _BLANK.search(self._data, self._searched)
        if found is not None:
            return found.end()
        self._searched = max(len(self._data) - 2, 0)
        return len(self._data) if len(self._data) > _MOST_HEAD else 0

    def take_over(self) -> bool:
        """Have the contents of the chunks read here from now on; return whether that is still possible."""
        taken, self._may_take_over = self._may_take_over, False
        return taken

    def contents(self) -> bytes:
        """Return what has come of the contents; none if they have ended, or if one has to wait.

        Raises:
            Exception: That is not a chunk (``problem``).
        """
        if not (data := self._data):
            return b""
        at, end = 0, len(data)
        parts, problem = [], ""
        while at < end and not self.ended:
            if self._left:
                part = data[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                self._to_close = True
            elif self._to_close:
                if end - at < 2:
                    break
                if not data.startswith(b"\r\n", at):
                    problem = "a chunk of the body is longer than its size"
                    break
                at, self._to_close = at + 2, False
            elif (line := _SIZE.match(data, at)) is not None:
                self._left = int(line[1], 16)
                if self._left:
                    at = line.end()
                else:
                    self.ended, self._searched = True, line.end() - 1 - at
            elif end - at > _MOST_LINE or data.find(b"\n", at) >= 0:
                problem = "a chunk of the body has no size"
                break
            else:
                break
        self._data = data[at:]
        if problem and not parts:  # what came before it is read first
            raise self._problem(problem)
        return parts[0] if len(parts) == 1 else b"".join(parts)
