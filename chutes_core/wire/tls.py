"""One end of an encrypted connection, without I/O.

An event loop's own TLS keeps a buffer of 256 KiB for each connection, forty times what everything else of a stream
needs; OpenSSL itself needs none.
"""

from __future__ import annotations

import ssl

__all__ = ["Tls"]

_PIECE = 64 * 1024


class Tls:
    """Turns what comes into what was said, and what is to be said into what goes.

    Args:
        context: The certificates that are trusted, or one's own.
        server_hostname: Whose certificate it has to be.
        server_side: Be the other end.
    """

    __slots__ = ("_incoming", "_outgoing", "ended", "object")

    def __init__(self, context: ssl.SSLContext, server_hostname: str | None, *, server_side: bool = False) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)
        self.ended = False
        """Whether the other end has said that nothing more will come."""

    def take(self, data: bytes) -> None:
        """Take bytes as they came."""
        self._incoming.write(data)

    def shake_hands(self) -> bool:
        """Go on with the handshake; return whether it is over. Its bytes are in :meth:`to_send`, also if it fails.

        Raises:
            ssl.SSLError: The other end is not to be trusted, or does not speak TLS.
        """
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def said(self) -> bytes:
        """Return what can be read of what has come.

        Raises:
            ssl.SSLError: It is damaged.
        """
        parts = []
        try:
            while part := self.object.read(_PIECE):
                parts.append(part)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def say(self, data: bytes) -> None:
        """Encrypt; the bytes are in :meth:`to_send`."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.object.write(rest) :]

    def to_send(self) -> bytes:
        """Return the bytes that are to be sent, once."""
        return self._outgoing.read()
