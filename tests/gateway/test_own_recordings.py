"""What users record is replayed as the cases are: by every reader of ours, in three framings."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from chutes_core import APIError, Catalog, ChutesClient
from chutes_core.exchanges.replaying import made_of, read_exchanges
from chutes_local import LocalChutes
from chutes_local.pytest_plugin import chutes_faults, chutes_local
from tests.core.raw_server import DONE, END, RawServer, Request, event, piece, raw_server

from . import surfaces
from .framings import FRAMINGS, plain
from .recordings import OWN, Case, cases_in
from .test_recorded import expected, readers

__all__ = ["chutes_faults", "chutes_local"]

MODEL = "Qwen/Qwen3-32B-TEE"
HELLO: Any = [{"role": "user", "content": "Grüße"}]
TOOL: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}

pytestmark = pytest.mark.filterwarnings("ignore:CHUTES_RECORD")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHUTES_RECORD", str(tmp_path / "own.jsonl"))
    return tmp_path / "own.jsonl"


def replay(case: Case, ours: dict[str, Any]) -> None:
    """Have every reader make of a case what was made of it when it was recorded."""
    for framing, serving in FRAMINGS.items():
        with serving(lambda method, path, body: plain(case)) as wire:
            for name, reader in readers(case).items():
                wanted = expected(Case({**case.facts, "ours": ours}), reader)
                found = reader(case, wire)
                assert (case.name, framing, name, found) == (case.name, framing, name, wanted)


def found_live(client: ChutesClient) -> Iterator[dict[str, Any]]:
    """Make calls of every kind, and say what came of them."""

    def asked(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return call()
        except APIError as error:
            return surfaces.failed(error)

    def streamed(**params: Any) -> dict[str, Any]:
        with client.stream(HELLO, model=MODEL, **params) as stream:
            for _ in stream:
                pass
            return surfaces._of_reply(stream.reply)

    yield asked(lambda: surfaces._of_reply(client.chat(HELLO, model=MODEL)))
    yield asked(streamed)
    yield asked(lambda: streamed(tools=[TOOL], tool_choice="required"))
    yield asked(lambda: surfaces.embedded(client.embed(["a", "b"], model=surfaces.EMBEDDER)))
    yield asked(lambda: surfaces._of_reply(client.chat(HELLO, model="acme/none")))


def test_what_is_recorded_is_found_again(chutes_local: LocalChutes, chutes_faults: Any, file: Path) -> None:
    """Answers, calls, vectors and a refusal come out of a recording as they came from the service."""
    urls = {
        "base_url": chutes_local.base_url,
        "embedding_base_url": chutes_local.embedding_base_url,
        "management_url": chutes_local.management_url,
    }
    with ChutesClient(chutes_local.api_key, max_retries=0, catalog=Catalog.bundled(), **urls) as client:
        live = list(found_live(client))
    cases = cases_in(file)
    assert [made_of(each) for each in read_exchanges(file)] == live
    for case, ours in zip(cases, live, strict=True):
        replay(case, ours)


STREAMED = ("no_finish", "error_line", "malformed", "reset", "restart", "capacity", "empty")


@pytest.mark.parametrize(
    ("streams", "fault"), [*((True, each) for each in STREAMED), (False, "reset"), (False, "quota")]
)
def test_failures(chutes_local: LocalChutes, chutes_faults: Any, file: Path, streams: bool, fault: str) -> None:
    """An answer that fails is recorded as it failed, and fails again."""
    chutes_faults.add(MODEL, fault)
    case = Case({"name": fault, "send": {"body": {"model": MODEL}}, "reader": "stream" if streams else "chat"})
    wire: Any = type("Wire", (), {"base_url": chutes_local.base_url, "management_url": chutes_local.base_url})
    wire.sync = None
    live = surfaces.core(case, wire)
    (exchange,) = read_exchanges(file)
    assert made_of(exchange) == live
    (recorded,) = cases_in(file)
    assert "quota" not in live or live.pop("quota")
    for framing, serving in FRAMINGS.items():
        with serving(lambda method, path, body: plain(recorded)) as wire:
            found = surfaces.core(recorded, wire)
            found.pop("quota", None)
            assert (framing, found) == (framing, live)


@contextmanager
def packed() -> Iterator[RawServer]:
    """A server whose stream is compressed, and cut in the middle of letters."""

    def handler(connection: socket.socket, request: Request, server: RawServer) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n"
        events = [event({"content": "Grüße "}), event({"content": "世界"}, "stop"), DONE]
        body = gzip.compress(b"".join(each.split(b"\r\n", 1)[1][:-2] for each in events))
        with suppress(OSError):
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(body), 7):
                connection.sendall(piece(body[at : at + 7]))
            connection.sendall(END)

    with raw_server(handler) as server:
        yield server


def test_a_compressed_stream_is_recorded_unpacked(file: Path) -> None:
    """What was compressed on its way is readable in the file, cut where it came."""
    with packed() as server, ChutesClient("cpk_test", base_url=server.base_url) as client:
        text = "".join(delta.content for delta in client.stream(HELLO, model=MODEL))
    assert text == "Grüße 世界"
    (exchange,) = read_exchanges(file)
    assert "content-encoding" not in exchange.headers
    assert made_of(exchange)["text"] == text
    replay(cases_in(file)[0], made_of(exchange))


@pytest.mark.parametrize("name", sorted(each.name for each in OWN.glob("*.jsonl")) or ["none"])
def test_recordings_of_users(name: str) -> None:
    """Each line of a file in recorded/ comes to what is written beside it."""
    if name == "none":
        assert (OWN / "README.md").exists()
        return
    for case in cases_in(OWN / name):
        replay(case, case.ours)


def test_a_line_names_no_secret(chutes_local: LocalChutes, file: Path) -> None:
    """A key and the names of an account are in no line."""
    key = "cpk_fakefakefake.fakeaccountfake.fakesecretfake"
    urls = {"base_url": chutes_local.base_url, "management_url": chutes_local.management_url}
    with ChutesClient(key, default_headers={"X-Tenant-Token": "fake-t0ken-fake"}, **urls) as client:
        me = client.account.me()
        said = f"I am {key} fake-t0ken-fake fakeaccountfake me@example.org"
        client.chat([{"role": "user", "content": said}], model=MODEL)
    text = file.read_text()
    for secret in (key, "fakesecretfake", "fakeaccountfake", "fake-t0ken-fake", "me@example.org", str(me.user_id)):
        assert secret not in text
    assert json.loads(text.splitlines()[0])["from"]["host"] == "127.0.0.1"
