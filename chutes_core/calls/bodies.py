"""How large the body of a reply may be, and its decompression, which stops at that size.

A few kilobytes of gzip may hold gigabytes, so what is unpacked comes out in small pieces that are counted as they do,
and an encoding that nobody asked for is refused before a byte of it is decoded. A few megabytes of JSON may hold
millions of values, each of which takes a hundred times its length in memory, so these are counted too.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from typing import NamedTuple

__all__ = [
    "ENCODINGS",
    "JSON",
    "PLAIN",
    "BodyError",
    "Gauge",
    "Most",
    "TooLargeError",
    "Unpacker",
    "aunpacked",
    "most_of",
    "unpacked",
    "unpacker_for",
]

MIB = 1024 * 1024
PLAIN: tuple[str, ...] = ()
"""No compression at all, for what is compressed already."""
ENCODINGS = ("gzip", "deflate")
"""What we ask for, where compression may help."""

_PIECE = 64 * 1024
_GZIP, _ZLIB, _RAW = 31, 15, -15


class Most(NamedTuple):
    """What a body may have at most; 0 is no limit.

    Attributes:
        sent: Bytes, if they come as they are.
        unpacked: Bytes after decompression.
        values: Values of JSON, counted by the signs that begin or separate them.
        lines: Ends of lines of a stream that was compressed: a byte of it may be a thousand of them.
    """

    sent: int
    unpacked: int
    values: int = 0
    lines: int = 0

    def times(self, factor: int) -> Most:
        """Return limits that are so many times as high."""
        return Most(*(each * factor for each in self)) if factor > 1 else self


# Far above any answer (131,072 tokens are half a megabyte of text, and 40 MB of events), far below what fills memory.
JSON = Most(32 * MIB, 8 * MIB, values=400_000)
CHAT = Most(16 * MIB, 4 * MIB, values=400_000)
STREAM = Most(256 * MIB, 4 * MIB, lines=1_000_000)
_LOGPROBS = 8
_TEXT = Most(MIB // 4, MIB // 4, values=20_000)


def most_of(body: Mapping[str, object] | None) -> Most:
    """Return how large the reply to a request may be.

    >>> most_of({"messages": []}).sent, most_of({"input": ["a", "b"]}).sent, most_of(None).sent
    (16777216, 1572864, 33554432)
    """
    if body is None:
        return JSON
    if "messages" in body:
        n = body.get("n")
        times = n if isinstance(n, int) and 1 < n <= 128 else 1
        if body.get("stream") is True:
            return STREAM.times(times)
        return CHAT.times(max(times, _LOGPROBS) if body.get("logprobs") else times)
    texts = body.get("input")
    if texts is None:
        return JSON
    per_text = _TEXT.times(len(texts) if isinstance(texts, list) else 1)
    return Most(MIB + per_text.sent, MIB + per_text.unpacked, JSON.values + per_text.values)


class BodyError(Exception):
    """A body is not acceptable: its encoding, its size or its form. The message says which, and the limit."""


class TooLargeError(BodyError):
    """A body is larger than it may be."""


class Gauge:
    """Measures a body as it arrives.

    >>> Gauge(Most(10, 10, values=3)).take(b"[1,2,3,4]")
    Traceback (most recent call last):
    chutes_core.calls.bodies.TooLargeError: the body has more than 3 values
    """

    __slots__ = ("_counts_lines", "_lines", "_most", "_room", "_size", "_values")

    def __init__(self, most: Most, *, packed: bool = False) -> None:
        self._most = most
        self._size = self._room = most.unpacked if packed else most.sent
        self._values, self._lines = most.values, most.lines
        self._counts_lines = packed and most.lines > 0

    def take(self, block: bytes) -> None:
        """Count the next bytes.

        Raises:
            TooLargeError: That is more than allowed.
        """
        self._room -= len(block)
        if self._room < 0:
            raise TooLargeError(f"the body is larger than {self._size:,} bytes")
        if self._most.values:
            self._values -= block.count(b",") + block.count(b"[") + block.count(b"{")
            if self._values < 0:
                raise TooLargeError(f"the body has more than {self._most.values:,} values")
        if self._counts_lines:
            self._lines -= block.count(b"\n") + block.count(b"\r")
            if self._lines < 0:
                raise TooLargeError(f"the stream has more than {self._most.lines:,} lines")


def unpacker_for(headers: Mapping[str, str], asked: Collection[str]) -> Unpacker | None:
    """Return the unpacker of a body; None if it is sent as it is.

    >>> unpacker_for({"content-encoding": "br"}, ENCODINGS)
    Traceback (most recent call last):
    chutes_core.calls.bodies.BodyError: the body's encoding is 'br', which was not asked for
    """
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in asked:
        raise BodyError(f"the body's encoding is {encoding[:40]!r}, which was not asked for")
    return Unpacker(encoding)


class Unpacker:
    """Decompresses a body piece by piece; however much there is in it, no piece is large.

    >>> unpacker = Unpacker("deflate")
    >>> pieces = [len(piece) for piece in unpacker.feed(zlib.compress(bytes(1_000_000)))]
    >>> sum(pieces), max(pieces)
    (1000000, 65536)
    >>> unpacker.close()
    """

    def __init__(self, encoding: str) -> None:
        self._wbits = _GZIP if encoding == "gzip" else _ZLIB
        self._stream = zlib.decompressobj(self._wbits)
        self._head = b""
        self._begun = False

    def feed(self, block: bytes) -> Iterator[bytes]:
        """Take the next bytes as sent and yield what they hold.

        Raises:
            BodyError: They are damaged.
        """
        if not self._begun:
            block = self._begin(block)
        while self._begun:
            try:
                piece = self._stream.decompress(block, _PIECE)
            except zlib.error:
                raise BodyError("the compressed body is damaged") from None
            if piece:
                yield piece
            block = self._stream.unconsumed_tail
            if self._stream.eof:
                if not (block := self._stream.unused_data):
                    return
                self._renew()
            elif not block and len(piece) < _PIECE:
                return  # a full piece may not have been all

    def _begin(self, block: bytes) -> bytes:
        """Keep the first two bytes together, which say what it is: some servers leave out the header of "deflate"."""
        self._head += block
        if len(self._head) < 2:
            return b""
        self._begun = True
        first, second = self._head[:2]
        if self._wbits == _ZLIB and (first & 15 != 8 or (first * 256 + second) % 31):
            self._stream = zlib.decompressobj(_RAW)
        return self._head

    def _renew(self) -> None:
        """Begin the next of several members, of which gzip may consist."""
        if self._wbits != _GZIP:
            raise BodyError("the compressed body goes on after its end")
        self._stream = zlib.decompressobj(_GZIP)

    def close(self) -> None:
        """Check that the body was whole.

        Raises:
            BodyError: It ended early.
        """
        if self._head and not self._stream.eof:
            raise BodyError("the compressed body ended early")


def unpacked(blocks: Iterator[bytes], unpacker: Unpacker) -> Iterator[bytes]:
    """Unpack the blocks of a body."""
    for block in blocks:
        yield from unpacker.feed(block)
    unpacker.close()


async def aunpacked(blocks: AsyncIterator[bytes], unpacker: Unpacker) -> AsyncIterator[bytes]:
    """Unpack the blocks of a body as they arrive."""
    async for block in blocks:
        for piece in unpacker.feed(block):
            yield piece
    unpacker.close()
