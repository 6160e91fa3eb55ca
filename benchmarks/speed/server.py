"""A server of canned bytes, in a process of its own. It ends when its standard input closes.

It prints its port; given the file of a certificate with its key, also a second one, for TLS.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import time
from collections.abc import Sequence

from benchmarks.speed import canned, sealed

GAP = 0.0002  # between two reads of a stream that is not paced
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model": ?"([^"]+)"')
_STREAM = re.compile(rb'"stream": ?true')
_TOOLS = re.compile(rb'"tools": ?\[')


class Counters:
    """What the server knows of the clients' connections, and what it costs itself."""

    connections = requests = 0

    @classmethod
    def page(cls) -> bytes:
        told = {"connections": cls.connections, "requests": cls.requests, "cpu": time.process_time()}
        return json.dumps(told).encode()


class Served(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._heard = b""
        self._task: asyncio.Task[None] | asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._heard += data
        end = self._heard.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = self._heard[:end]
        size = _LENGTH.search(head)
        length = int(size[1]) if size else 0
        if len(self._heard) >= end + length:
            body, self._heard = self._heard[end : end + length], self._heard[end + length :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        method, target, _ = head.decode("latin-1").split(" ", 2)
        if method == "GET":
            self._transport.write(canned.reply(sealed.page(target) or Counters.page()))
            return
        Counters.connections += not hasattr(self, "counted")
        self.counted = True
        Counters.requests += 1
        if target == "/e2e/invoke":
            self._send(sealed.answer(body))
            return
        found = _MODEL.search(body)
        model = found[1].decode() if found else "bench/8"
        if target.endswith("/embeddings"):
            asked = json.loads(body)
            count = len(asked["input"]) if isinstance(asked["input"], list) else 1
            plain = asked.get("encoding_format") != "base64"
            self._transport.write(canned.embeddings(count, int(model.removeprefix("bench/")), plain))
        elif not _STREAM.search(body):
            self._transport.write(canned.whole(model, bool(_TOOLS.search(body))))
        elif model.startswith("bench/paced-"):
            self._pace(model)
        else:
            self._send(canned.stream(model, bool(_TOOLS.search(body))))

    def _send(self, reads: Sequence[bytes]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._flow(reads))

    async def _flow(self, reads: Sequence[bytes]) -> None:
        """Send read after read, so far apart that they do not melt into one."""
        for read in reads:
            self._transport.write(read)
            until = time.perf_counter() + GAP
            while time.perf_counter() < until:  # noqa: ASYNC110  # a timer of the loop is no finer than 1 ms
                await asyncio.sleep(0)

    def _pace(self, model: str) -> None:
        """Send chunk after chunk as a model does, each with the time at which it was sent."""
        _, chunks, pause = model.split("-")
        opening, before, after, closing = canned.paced_parts(model)
        loop, write = asyncio.get_running_loop(), self._transport.write
        began, step, last = loop.time(), int(pause) / 1000, int(chunks)

        def send(number: int) -> None:
            write(canned.http_chunk(before + b"%d " % time.monotonic_ns() + after))
            if number == last:
                write(closing)
            else:
                self._task = loop.call_at(began + (number + 1) * step, send, number + 1)

        write(opening)
        self._task = loop.call_at(began + step, send, 1)


async def main(certificate: str = "") -> None:
    contexts: list[ssl.SSLContext | None] = [None]
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        contexts.append(context)
    listen = asyncio.get_running_loop().create_server
    servers = [await listen(Served, "127.0.0.1", 0, backlog=2048, ssl=context) for context in contexts]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until the parent has gone
    for server in servers:
        server.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
