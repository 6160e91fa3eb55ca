"""A service of embeddings in a process of its own, with faults by turns; it needs nothing but Python.

Its first line of output is its port. ``GET /stats`` says what it was asked. It ends when its input does.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import sys
from array import array

DIMENSIONS = 32
# Every so many requests.
TURNS = {"capacity": 41, "cold": 67, "cut": 53, "slow": 37}


def vector_of(text: str) -> list[float]:
    """A vector that tells its text."""
    digest = hashlib.sha256(text.encode()).digest()
    return [byte / 255 for byte in digest[:DIMENSIONS]]


def _reply(status: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        + content
    )


class Service:
    """Counts what it is asked, and takes turns with its faults."""

    def __init__(self) -> None:
        self.requests = 0
        self.served = 0
        self.faults = dict.fromkeys(TURNS, 0)

    def fault(self) -> str | None:
        """Which fault is due."""
        self.requests += 1
        due = next((name for name, turn in TURNS.items() if self.requests % turn == 0), None)
        if due is not None:
            self.faults[due] += 1
        return due

    async def answer(self, path: str, body: bytes) -> tuple[bytes, bool]:
        """The reply, and whether the connection breaks in the middle of it."""
        if path.endswith("/stats"):
            return _reply("200 OK", vars(self)), False
        fault = self.fault()
        if fault == "capacity":
            detail = "Infrastructure is at maximum capacity, try again later"
            return _reply("429 Too Many Requests", {"detail": detail}), False
        if fault == "cold":
            return _reply("503 Service Unavailable", {"detail": "No instances available (yet) for chute_id='x'"}), False
        if fault == "slow":
            await asyncio.sleep(0.3)
        asked = json.loads(body)
        rows = [
            {
                "index": number,
                "object": "embedding",
                "embedding": base64.b64encode(array("f", vector_of(text))).decode(),
            }
            for number, text in enumerate(asked["input"])
        ]
        tokens = sum(len(text) for text in asked["input"])
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        if fault != "cut":
            self.served += len(rows)
        return _reply("200 OK", {"model": asked["model"], "data": rows, "usage": usage}), fault == "cut"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
                reply, cut = await self.answer(lines[0].split(" ")[1], await reader.readexactly(length))
                writer.write(reply[: len(reply) // 2] if cut else reply)
                await writer.drain()
                if cut:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()


async def main() -> None:
    """Serve until the input ends."""
    server = await asyncio.start_server(Service().serve, "127.0.0.1", 0, limit=2**24)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # with connections open there is nothing to say


if __name__ == "__main__":
    asyncio.run(main())
