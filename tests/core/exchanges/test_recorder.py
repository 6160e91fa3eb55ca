"""The recorder: refused at the door, whole lines whoever writes, and never in the way of a call."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from chutes_core import (
    AsyncChutesClient,
    ChutesClient,
    ChutesWarning,
    ConfigurationError,
    InvalidRequestError,
    openai_client,
)
from chutes_core.calls.effects import Open, WireRequest
from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.exchanges.recorder import Recorder
from chutes_core.exchanges.replaying import made_of, read_exchanges
from chutes_core.testing import Answer, FaultScript, FaultyTransport, VirtualClock

MODEL = "Qwen/Qwen3-32B-TEE"
HELLO: Any = [{"role": "user", "content": "Hello"}]

pytestmark = pytest.mark.filterwarnings("ignore:CHUTES_RECORD")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHUTES_RECORD", str(tmp_path / "own.jsonl"))
    return tmp_path / "own.jsonl"


def client(*plan: Any) -> ChutesClient:
    script = FaultScript([*plan], default=Answer("One two three."))
    http = httpx.Client(transport=FaultyTransport(script))
    return ChutesClient("cpk_fake", http_client=http, max_retries=0)


def test_it_says_so(file: Path) -> None:
    """Who makes a client is told, once, what will be in the file, which nobody else can read."""
    with pytest.warns(ChutesWarning, match="WITH PROMPTS AND ANSWERS"):
        client()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_others_could_read_is_closed(file: Path) -> None:
    """One that was there before too: what is added has prompts and answers in it."""
    file.touch(0o644)
    file.chmod(0o644)
    client().chat(HELLO, model=MODEL)
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(read_exchanges(file)) == 1


@pytest.mark.parametrize("place", ["no/such/folder", "", "loop"])
def test_a_file_that_cannot_be_written_is_refused_at_the_door(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client is not made if its exchanges could not be recorded."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setenv("CHUTES_RECORD", str(tmp_path / place))
    with pytest.raises(ConfigurationError, match="cannot be recorded"):
        ChutesClient("cpk_fake")


def test_a_full_disk_is_refused_at_the_door(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for a line is found out before anything is sent."""
    monkeypatch.setattr(os, "write", no_room(0))
    with pytest.raises(ConfigurationError, match="No space left"):
        ChutesClient("cpk_fake")
    with pytest.raises(ConfigurationError, match="it is no file"):
        Recorder("/dev/full")


def no_room(after: int) -> Any:
    """A disk that takes a few bytes, and then none."""
    write, left = os.write, [after]

    def full(file: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(file, data[: left[0]])
        left[0] -= taken
        return taken

    return full


def test_a_disk_that_becomes_full_ends_no_call(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer comes, the log says once what is missing, and no half line is left before the next one."""
    asking = client()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", no_room(100))
        assert [asking.chat(HELLO, model=MODEL).content for _ in range(2)] == ["One two three."] * 2
    assert asking.chat(HELLO, model=MODEL).content == "One two three."
    assert len(read_exchanges(file)) == 1
    assert len([each for each in caplog.records if "could not be recorded" in each.message]) == 1


def test_a_line_that_was_torn_off_takes_none_along(file: Path) -> None:
    """What a process had written of one when it was killed stands by itself."""
    asking = client()
    file.write_bytes(b'{"send": {"meth')
    for _ in range(2):
        asking.chat(HELLO, model=MODEL)
    torn, *whole, rest = file.read_bytes().split(b"\n")
    assert (torn, len(whole), rest) == (b'{"send": {"meth', 2, b"")


def test_a_failure_of_the_recorder_ends_no_call(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a mistake in the recorder itself does."""
    asking = client()
    monkeypatch.setattr("chutes_core.exchanges.recorder.redacted", None)
    assert asking.chat(HELLO, model=MODEL).content == "One two three."
    assert file.read_text() == ""


def test_a_stream_that_is_left(file: Path) -> None:
    """Of a stream that is left or dropped, what had come is recorded, and that it was left."""
    transport = FaultyTransport([Answer("One two three.", pieces=3)])
    asking = ChutesClient("cpk_fake", http_client=httpx.Client(transport=transport))
    stream = asking.stream(HELLO, model=MODEL)
    assert next(stream).content
    del stream
    gc.collect()
    (exchange,) = read_exchanges(file)
    assert (exchange.end, made_of(exchange)["error"]) == ("left", "reset")


@pytest.mark.parametrize("fault", ["reset", "refused", "capacity"])
def test_every_attempt_is_an_exchange(file: Path, fault: str) -> None:
    """What failed is recorded, and then what succeeded."""
    clock = VirtualClock()
    http = httpx.Client(transport=FaultyTransport([fault, Answer("At last.")], clock=clock))
    ChutesClient("cpk_fake", http_client=http, max_retries=1, clock=clock).chat(HELLO, model=MODEL)
    failed, answered = read_exchanges(file)
    assert made_of(failed)["error"]
    assert made_of(answered)["text"] == "At last."


def test_without_content(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CHUTES_RECORD_CONTENT=0 leaves the form of an answer and none of its words."""
    monkeypatch.setenv("CHUTES_RECORD_CONTENT", "0")
    asking = client(Answer("One two three."))
    asking.chat([{"role": "user", "content": "Tell nobody: Rosebud"}], model=MODEL)
    text = file.read_text()
    assert "Rosebud" not in text
    assert "two" not in text
    (exchange,) = read_exchanges(file)
    assert made_of(exchange)["text"] == "xxx xxx xxxxx."


def test_a_chute_s_own_words_without_content(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what a chute publishes nobody knows which fields are content: none of their texts stays."""
    monkeypatch.setenv("CHUTES_RECORD_CONTENT", "0")
    catalog = replace(
        Catalog.bundled(), models=(ModelInfo(id="acme/own", kind="other", host="https://acme-own.chutes.ai"),)
    )
    said = {"message": "Rosebud", "status": "Rosebud"}
    http = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, json=said)))
    ChutesClient("cpk_fake", catalog=catalog, http_client=http).call("acme/own", "/speak", {"message": "Rosebud"})
    (exchange,) = read_exchanges(file)
    assert exchange.body == {"message": "xxxxxxx"}
    assert "Rosebud" not in file.read_text()


def test_why_a_chute_refuses_is_recorded_without_content_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the service says of a failure stays."""
    monkeypatch.setenv("CHUTES_RECORD_CONTENT", "0")
    catalog = replace(
        Catalog.bundled(), models=(ModelInfo(id="acme/own", kind="other", host="https://acme-own.chutes.ai"),)
    )
    http = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(400, json={"detail": "too long"})))
    with pytest.raises(InvalidRequestError):
        ChutesClient("cpk_fake", catalog=catalog, http_client=http).call("acme/own", "/speak", {"text": "Rosebud"})
    assert "too long" in file.read_text()
    assert "Rosebud" not in file.read_text()


def test_a_secret_query_is_not_recorded(file: Path) -> None:
    """Neither the one that was sent nor the one that a redirect repeats."""
    answers = iter([httpx.Response(307, headers={"location": "/v2?tenant=s3cr3t-t0ken"}), httpx.Response(400, json={})])
    http = httpx.Client(transport=httpx.MockTransport(lambda request: next(answers)))
    asking = ChutesClient("cpk_fake", http_client=http, default_query={"tenant": "s3cr3t-t0ken"}, max_retries=0)
    with pytest.raises(InvalidRequestError):
        asking.chat(HELLO, model=MODEL)
    assert len(read_exchanges(file)) == 2
    assert "s3cr3t" not in file.read_text()


def test_the_stock_clients_record(file: Path) -> None:
    """Those of the openai SDK do too, to their last event."""
    http = httpx.Client(transport=FaultyTransport([Answer("One two.", pieces=2)]))
    with openai_client("cpk_fake", http_client=http) as stock:
        chunks = list(stock.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    (exchange,) = read_exchanges(file)
    assert chunks
    assert (exchange.end, made_of(exchange)["text"]) == ("whole", "One two.")


async def test_many_tasks(file: Path) -> None:
    """Calls at once, also those that are cancelled, each have a line of their own."""
    http = httpx.AsyncClient(transport=FaultyTransport([Answer("One two three.", pieces=3)]))
    async with AsyncChutesClient("cpk_fake", http_client=http) as asking:
        await asyncio.gather(*(asking.chat(HELLO, model=MODEL) for _ in range(10)))
        stream = asking.stream(HELLO, model=MODEL)
        await anext(stream)
        await stream.aclose()
    assert [each.end for each in read_exchanges(file)] == ["whole"] * 10 + ["left"]


WRITER = """
import sys, warnings
warnings.simplefilter("ignore")
from chutes_core.calls.effects import Open, WireRequest
from chutes_core.exchanges.recorder import Recorder, _Exchange
made = Recorder(sys.argv[1])
for number in range(60):
    exchange = _Exchange(Open(WireRequest("http://127.0.0.1/v1/models", method="GET"), None, None))
    exchange.status, exchange.blocks = 200, [sys.argv[2].encode() * 4000]
    made.keep(exchange)
"""


def test_writers_do_not_tear_lines(tmp_path: Path) -> None:
    """Threads and processes that write at once leave whole lines."""
    path = tmp_path / "all.jsonl"
    started = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "ab"]
    made = Recorder(str(path))

    def write() -> None:
        from chutes_core.exchanges.recorder import _Exchange

        for _ in range(20):
            exchange = _Exchange(Open(WireRequest("http://127.0.0.1/v1/models", method="GET"), None, None))
            exchange.status, exchange.blocks = 200, [b"c" * 4000]
            made.keep(exchange)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in started] == [0, 0]
    found = [each.blocks[0][:1] for each in read_exchanges(path)]
    assert [found.count(name) for name in (b"a", b"b", b"c")] == [60, 60, 80]
