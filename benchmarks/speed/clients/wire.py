"""Readers that take bytes off the wire and look at none of them: what a stream costs before anybody parses it."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from functools import cache
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from benchmarks.speed.clients import Client, Turns

_READ = 65_536
_END = b"\r\n0\r\n\r\n"


def _body(model: str, turns: Turns) -> bytes:
    messages = [{"role": role, "content": text} for role, text in turns]
    return json.dumps({"model": model, "messages": messages, "stream": True}).encode()


def _said(data: bytes) -> str:
    """The texts of the events in some bytes, found by their place; the benchmark asks for them, not the reader."""
    return "".join([part.partition(b'"')[0].decode() for part in data.split(b'"content":"')[1:]])


def _client(model: str, stream: Any, astream: Any) -> Client:
    def whole(body: Any) -> str:
        return "".join(map(_said, stream(body)))

    return Client(lambda turns: _body(model, turns), whole, stream, _said, astream=astream)


def bare(url: str, model: str) -> Client:
    """A socket, or the streams of asyncio, and a request that is written out: the floor of every client."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    place = (address.hostname, address.port)
    context = ssl.create_default_context() if address.scheme == "https" else None
    head = (
        f"POST {address.path}/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    )

    def request(body: bytes) -> bytes:
        return f"{head}{len(body)}\r\n\r\n".encode() + body

    def stream(body: bytes) -> Iterator[bytes]:
        with socket.create_connection(place, timeout=60) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire = context.wrap_socket(plain, server_hostname=place[0]) if context else plain
            wire.sendall(request(body))
            while data := wire.recv(_READ):
                yield data
                if data.endswith(_END):
                    break
            wire.close()

    async def astream(body: bytes) -> AsyncIterator[bytes]:
        reader, writer = await asyncio.open_connection(*place, ssl=context)
        writer.write(request(body))
        while data := await reader.read(_READ):
            yield data
            if data.endswith(_END):
                break
        writer.close()

    return _client(model, stream, astream)


def with_httpx2(url: str, model: str) -> Client:
    """The bytes of an httpx2 client, blocking or on the event loop."""
    httpx = import_module("httpx2")
    address, headers = f"{url}/chat/completions", {"Content-Type": "application/json"}
    wide = {"timeout": 60, "limits": httpx.Limits(max_connections=None)}
    http, async_http = cache(lambda: httpx.Client(**wide)), cache(lambda: httpx.AsyncClient(**wide))

    def stream(body: bytes) -> Iterator[bytes]:
        with http().stream("POST", address, content=body, headers=headers) as reply:
            yield from reply.iter_raw()

    async def astream(body: bytes) -> AsyncIterator[bytes]:
        async with async_http().stream("POST", address, content=body, headers=headers) as reply:
            async for data in reply.aiter_raw():
                yield data

    return _client(model, stream, astream)


def with_aiohttp(url: str, model: str) -> Client:
    """The bytes of an aiohttp session."""
    import aiohttp

    address, headers = f"{url}/chat/completions", {"Content-Type": "application/json"}

    @cache
    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def astream(body: bytes) -> AsyncIterator[bytes]:
        async with session().post(address, data=body, headers=headers) as reply:
            async for data in reply.content.iter_any():
                yield data

    return _client(model, None, astream)
