"""What really is on the wire: packets of a sealed call, captured, beside those of a plain one."""

from __future__ import annotations

import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from chutes_core import ChutesClient
from chutes_local import LocalChutes, serve

from .test_client import MODEL, OwnClock

PROMPT: Any = [{"role": "user", "content": "Where do grey walruses sleep at night?"}]
WORDS = (b"grey", b"walruses", b"sleep", b"night", b"echo backend")
WITHIN = 60.0

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


class Capture:
    """The bytes that tshark sees to and from a port, by connection and direction."""

    def __init__(self, port: int) -> None:
        fields = ["-T", "fields", "-e", "tcp.srcport", "-e", "tcp.dstport", "-e", "tcp.payload"]
        self._process = subprocess.Popen(
            ["tshark", "-l", "-Q", "-i", "lo", "-f", f"tcp port {port}", *fields],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.flows: dict[tuple[str, str], bytes] = {}

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def sees(self, word: bytes, within: float = WITHIN) -> bool:
        """Take in packets until a word has passed; False when none came for a while."""
        while not any(word in flow for flow in self.flows.values()):
            try:
                line = self._lines.get(timeout=within)
            except queue.Empty:
                return False
            if line is None:
                pytest.skip("tshark may not capture here")
            source, target, payload = [*line.rstrip("\n").split("\t"), "", ""][:3]
            known = self.flows.get((source, target), b"")
            self.flows[source, target] = known + bytes.fromhex(payload.replace(":", ""))
        return True

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(WITHIN)
        self._reader.join(WITHIN)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def server() -> Iterator[LocalChutes]:
    with serve(backend="echo") as chutes:
        yield chutes


@pytest.fixture
def capture(server: LocalChutes) -> Iterator[Capture]:
    """A capture that has begun: it has seen a packet of ours."""
    capturing = Capture(int(server.url.rpartition(":")[2]))
    try:
        for _ in range(60):
            httpx.get(f"{server.url}/ping?begun")
            if capturing.sees(b"/ping?begun", within=0.5):
                break
        else:
            pytest.skip("tshark sees nothing here")
        yield capturing
    finally:
        capturing.close()


def talk(server: LocalChutes, *, e2ee: bool) -> list[str]:
    """One call in one piece and one streamed; gives the answers."""
    with ChutesClient(
        server.api_key, base_url=server.base_url, management_url=server.management_url, e2ee=e2ee, clock=OwnClock()
    ) as client:
        whole = client.chat(PROMPT, model=MODEL).content
        with client.stream(PROMPT, model=MODEL) as steps:
            return [whole, "".join(delta.content for delta in steps)]


def test_no_word_of_prompt_or_answer_is_in_a_packet(server: LocalChutes, capture: Capture) -> None:
    """Of a sealed call none is there; of a plain one all are, seen by the same eyes."""
    sealed = talk(server, e2ee=True)
    httpx.get(f"{server.url}/ping?between")
    assert capture.sees(b"/ping?between")
    seen = b"".join(capture.flows.values())
    assert seen.count(b"POST /api/e2e/invoke") == 2
    assert b'"e2e_init"' in seen
    assert [word for word in WORDS if word in seen] == []
    assert talk(server, e2ee=False) == sealed
    httpx.get(f"{server.url}/ping?ended")
    assert capture.sees(b"/ping?ended")
    seen = b"".join(capture.flows.values())
    assert [word for word in WORDS if word not in seen] == []
