"""A server of raw bytes on a real socket: each request is handed to a function that writes what it likes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def piece(data: bytes) -> bytes:
    """One piece of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    """One event of a stream, as a piece of the body."""
    payload = {"id": "c1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return piece(b"data: " + json.dumps(payload).encode() + b"\n\n")


DONE = piece(b"data: [DONE]\n\n")


def json_reply(body: object, status: str = "200 OK") -> bytes:
    """A whole reply."""
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def reply(text: str) -> bytes:
    """A whole chat reply."""
    message = {"role": "assistant", "content": text}
    return json_reply({"id": "c1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


@dataclass
class Request:
    """A request as it arrived."""

    line: str
    headers: dict[str, str]
    body: Any


@dataclass
class RawServer:
    """What the server has seen, and how to wait for things on it."""

    base_url: str = ""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    closed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    over: threading.Event = field(default_factory=threading.Event)

    def wait_for_close(self) -> bool:
        """Wait until a client has closed a connection."""
        return self.closed.acquire(timeout=60)


Handler = Callable[[socket.socket, Request, RawServer], None]


@contextmanager
def raw_server(handler: Handler) -> Iterator[RawServer]:
    """Serve on an ephemeral port until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = RawServer(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    threads: list[threading.Thread] = []
    open_sockets: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            try:
                while (request := _read(reader)) is not None:
                    server.requests.append(request)
                    handler(connection, request, server)
                server.closed.release()
            except OSError:
                server.closed.release()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            server.connections += 1
            open_sockets.append(connection)
            threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
            threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield server
    finally:
        server.over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(60)
        for connection in open_sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(60)


def _read(reader: Any) -> Request | None:
    line = reader.readline().decode().strip()
    if not line:
        return None
    headers = {}
    while header := reader.readline().decode().strip():
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    data = reader.read(int(headers.get("content-length", 0)))
    is_json = headers.get("content-type", "").startswith("application/json")
    return Request(line, headers, json.loads(data) if is_json and data else data or None)
