"""A running embedded Chutes with the echo behind it, and ways to talk to it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from chutes_local import LocalChutes
from chutes_local.pytest_plugin import chutes_faults, chutes_local

__all__ = ["chutes_faults", "chutes_local"]

MODEL = "Qwen/Qwen3-32B-TEE"
OTHER = "google/gemma-4-31B-turbo-TEE"
EMBEDDER = "Qwen/Qwen3-Embedding-8B-TEE"
CHAT = "/v1/chat/completions"


@pytest.fixture
def server(chutes_local: LocalChutes, chutes_faults: object) -> LocalChutes:
    """The session's server, as new."""
    return chutes_local


@pytest.fixture
def http(server: LocalChutes) -> Iterator[httpx.Client]:
    """A client with a good key and the token of the controls, at the root of the server."""
    headers = {"Authorization": f"Bearer {server.api_key}", "X-Local-Token": server.token}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        yield client


Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(http: httpx.Client) -> Ask:
    """Send one chat request: ``ask("hi", stream=True, headers={…}, temperature=0)``."""

    def post(text: str = "hi", *, path: str = CHAT, headers: Any = None, **body: Any) -> httpx.Response:
        whole = {"model": MODEL, "messages": [{"role": "user", "content": text}], **body}
        return http.post(path, json=whole, headers=headers)

    return post


def events(response: httpx.Response) -> list[Any]:
    """Read the events of a stream; what is not JSON stays text."""
    found: list[Any] = []
    for line in response.text.splitlines():
        if line.startswith("data: "):
            text = line.removeprefix("data: ")
            try:
                found.append(json.loads(text))
            except ValueError:
                found.append(text)
    return found


def spoken(chunks: list[Any]) -> str:
    """Join the visible text of a stream."""
    choices = [chunk["choices"][0] for chunk in chunks if isinstance(chunk, dict) and chunk.get("choices")]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@dataclass
class Raw:
    """What came over a socket: every byte, and how the connection ended."""

    data: bytes
    end: str

    @property
    def status(self) -> int:
        return int(self.data.split(b" ", 2)[1])

    @property
    def body(self) -> bytes:
        """The payload, with the framing of chunks taken off."""
        head, _, rest = self.data.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" not in head.lower():
            return rest
        joined = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            joined, rest = joined + rest[:length], rest[length + 2 :]
        return joined


def request_over_socket(server: LocalChutes, text: str = "hi", path: str = CHAT, **body: Any) -> socket.socket:
    """Send one chat request over a bare socket, which is the caller's to read and close."""
    payload = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}], **body}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.api_key}\r\n"
        f"Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60)
    connection.sendall(head.encode() + payload)
    return connection


@pytest.fixture
def raw(server: LocalChutes) -> Callable[..., Raw]:
    """Send one chat request over a bare socket and read until the end, whatever the end is."""

    def talk(**body: Any) -> Raw:
        with request_over_socket(server, **body) as connection:
            return _read(connection)

    return talk


def _read(connection: socket.socket) -> Raw:
    data = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return Raw(data, "reset")
        if not piece:
            return Raw(data, "closed")
        data += piece
