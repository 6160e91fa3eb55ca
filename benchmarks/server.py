"""A server of canned bytes, in a process of its own: one whole reply, and a stream of 500 chunks in realistic reads."""

from __future__ import annotations

import asyncio
import sys

from chutes_core.testing import Answer, SentRequest
from chutes_core.testing.faults import clean_play

CHUNKS = 500
ANSWER = Answer("word " * CHUNKS, pieces=CHUNKS)
READ = 1400  # about what one packet carries


def canned(stream: bool) -> bytes:
    """The whole HTTP reply."""
    play = clean_play(ANSWER, SentRequest("POST", "", {}, {"model": "acme/one", "stream": stream}))
    body = b"".join(step for step in play.steps if isinstance(step, bytes))
    kind = "text/event-stream" if stream else "application/json"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def main() -> None:
    whole, stream = canned(False), canned(True)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:")
                )
                body = await reader.readexactly(length)
                reply = stream if b'"stream":true' in body.replace(b" ", b"") else whole
                for start in range(0, len(reply), READ):
                    writer.write(reply[start : start + READ])
                    await asyncio.sleep(0)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until the parent has gone


if __name__ == "__main__":
    asyncio.run(main())
