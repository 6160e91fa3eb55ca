"""The same reply in three framings: in its recorded pieces, a byte at a time, and all at once.

The pieces and the block go over a socket. Single bytes would be joined again on their way through one, so a transport
of the HTTP package hands them over, and the clients read them as they read a socket's.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from chutes_core.wire.pools import http_package
from tests.core.raw_server import END, RawServer, Request, piece, raw_server

from .recordings import Case

__all__ = ["FRAMINGS", "Answers", "Sent", "Wire", "plain"]


@dataclass(frozen=True)
class Sent:
    """A reply, ready to be sent."""

    status: int
    headers: dict[str, str]
    pieces: Sequence[bytes]
    streamed: bool = False
    whole: bool = True


Answers = Callable[[str, str, bytes], Sent]
"""What is sent to a request: its method, its path and its body."""


def plain(case: Case) -> Sent:
    """A case's reply as it was."""
    return Sent(case.status, case.headers, case.pieces, case.streamed, case.whole)


@dataclass
class Wire:
    """What leads a client to the replies: an address, and clients of the HTTP package where there is no server."""

    base_url: str
    sync: Any = None
    asynchronous: Any = None

    @property
    def management_url(self) -> str:
        return self.base_url.removesuffix("/v1")


def _head(sent: Sent) -> bytes:
    size = f"content-length: {sum(map(len, sent.pieces)) + (not sent.whole)}"  # one byte never comes
    lines = [f"HTTP/1.1 {sent.status} .", *(f"{name}: {value}" for name, value in sent.headers.items())]
    lines += ["transfer-encoding: chunked" if sent.streamed else size, "connection: close", "", ""]
    return "\r\n".join(lines).encode()


def _blocks(sent: Sent) -> Iterator[bytes]:
    yield _head(sent)
    for part in sent.pieces:
        yield piece(part) if sent.streamed else part
    if sent.streamed and sent.whole:
        yield END


def _served(answers: Answers, join: bool) -> Any:
    def handler(connection: socket.socket, request: Request, server: RawServer) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        method, path, _ = request.line.split(" ")
        blocks = list(_blocks(answers(method, path, _raw(request.body))))
        for block in [b"".join(blocks)] if join else blocks:
            connection.sendall(block)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    return handler


def _raw(body: Any) -> bytes:
    return body if isinstance(body, bytes) else b""


@contextmanager
def _on_a_socket(answers: Answers, *, join: bool) -> Iterator[Wire]:
    with raw_server(_served(answers, join)) as server:
        yield Wire(server.base_url)


class _Bytes:
    """A body that comes a byte at a time."""

    def __init__(self, content: bytes, failure: Exception | None) -> None:
        self.content, self.failure = content, failure

    def __iter__(self) -> Iterator[bytes]:
        for number in range(len(self.content)):
            yield self.content[number : number + 1]
        if self.failure:
            raise self.failure

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for single in self:
            yield single

    def close(self) -> None:
        """Nothing is held."""

    async def aclose(self) -> None:
        """Nothing is held."""


@contextmanager
def _byte_by_byte(answers: Answers) -> Iterator[Wire]:
    package: Any = http_package()
    kind = type("Body", (_Bytes, package.SyncByteStream, package.AsyncByteStream), {})

    def reply(request: Any) -> Any:
        sent = answers(request.method, request.url.raw_path.decode(), request.content)
        cut = None if sent.whole else package.RemoteProtocolError("the peer closed the connection", request=request)
        return package.Response(sent.status, headers=sent.headers, stream=kind(b"".join(sent.pieces), cut))

    transport = package.MockTransport(reply)
    yield Wire(
        "http://127.0.0.1:9/v1",
        sync=package.Client(transport=transport),
        asynchronous=package.AsyncClient(transport=transport),
    )


@contextmanager
def recorded(answers: Answers) -> Iterator[Wire]:
    with _on_a_socket(answers, join=False) as wire:
        yield wire


@contextmanager
def at_once(answers: Answers) -> Iterator[Wire]:
    with _on_a_socket(answers, join=True) as wire:
        yield wire


FRAMINGS = {"in its pieces": recorded, "byte by byte": _byte_by_byte, "at once": at_once}
