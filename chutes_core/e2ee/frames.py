"""Decrypt the events of an encrypted stream, one by one.

On the wire there is one ``{"e2e_init": …}``, then an ``{"e2e": …}`` for every line, and ``{"e2e_error": …}`` if the
machine fails; ``[DONE]`` is sealed. A machine also tells the usage of each piece in the clear, for billing; the service
keeps that to itself, so it need not come. The outer format is enforced strictly, because only the inside of a frame is
protected by its seal: a line that may have been altered is refused, not skipped.

A limit of the protocol: frames are not numbered. A repeated frame is detected here, and so is one whose sealed usage
counts fewer tokens than that of the one before; a frame removed from the middle may go unnoticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from chutes_core.e2ee.seal import NONCE, FrameKey, ReplyKey, SealBrokenError, from_base64

__all__ = ["FrameReader", "MachineError"]

MAX_LINE = 2 * 1024 * 1024
_PREFIX = b"data: "
_SEALED = b'data: {"e2e":"'
_DONE = b"[DONE]"
_USAGE = b'"usage":'
_SENTINEL = object()
_read_value = json.JSONDecoder().raw_decode


class MachineError(Exception):
    """The machine reported an error in the clear, outside the sealed answer."""

    def __init__(self, body: object) -> None:
        super().__init__("the machine reported an error")
        self.body = body


class FrameReader:
    """Turns the bytes of an encrypted stream into those of the plain one.

    Args:
        key: The key of this reply.

    Raises:
        SealBrokenError: From :meth:`feed` and :meth:`close`, for anything a machine would not send.
        MachineError: From :meth:`feed`, for an error that the machine reports in the clear.
    """

    def __init__(self, key: ReplyKey) -> None:
        self._key = key
        self._frames: FrameKey | None = None
        self._rest = bytearray()
        self._seen: set[bytes] = set()
        self._billed: object = _SENTINEL
        self._count, self._before = 0, b""
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
        self._check_usage(plain)
        self.done = plain.removeprefix(_PREFIX).strip() == _DONE
        # Each frame holds complete lines, with or without the blank line that ends an event.
        return plain if plain.endswith(b"\n\n") else plain + b"\n\n"

    def _check_usage(self, plain: bytes) -> None:
        """Check that the sealed usage only grows, and equals the one stated in the clear, if one was."""
        stated, self._billed = self._billed, _SENTINEL
        usage = _usage_in(plain)
        if stated is not _SENTINEL and usage != stated:
            raise SealBrokenError("the usage stated in the clear differs from the sealed one")
        count = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
        if not isinstance(count, int):
            return
        # Engines count per choice, and another machine starts from zero: the guard handles both.
        if count < self._count and _place(plain) == (_place(self._before) or _SENTINEL):
            raise SealBrokenError("sealed parts arrived out of order")
        self._count, self._before = count, plain


def _usage_in(plain: bytes) -> object:
    """Read only the usage of an event: the guard parses the rest."""
    start = plain.rfind(_USAGE)
    if start < 0:
        return _SENTINEL
    try:
        return _read_value(plain[start + len(_USAGE) :].decode().lstrip())[0]
    except (ValueError, RecursionError):
        return _SENTINEL


def _place(plain: bytes) -> object:
    """Return which choice of which answer an event belongs to."""
    try:
        chunk = json.loads(plain.removeprefix(_PREFIX))
        return chunk["id"], chunk["choices"][0]["index"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
