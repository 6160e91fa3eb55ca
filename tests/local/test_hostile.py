"""Requests that nobody would send who meant well: each has an answer of its own, and the log no traceback."""

from __future__ import annotations

import json
import logging
import socket

import httpx
import pytest

from chutes_local import LocalChutes, serve
from chutes_local.backends.backend import EmbedResult
from chutes_local.backends.echo import EchoBackend
from tests.local.conftest import CHAT, EMBEDDER, MODEL, Ask

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"X-Long: " + b"x" * 2**20 + b"\r\n\r\n",
        HEAD + b"X: y\r\n" * 20_000 + b"\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        HEAD + b"Host: other\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%ff%fe%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"\r\n\r\n\r\n",
    ],
    ids=["header", "headers", "chunk", "chunk-size", "length", "negative", "lengths", "hosts", "version", "bytes",
         "escapes", "tls", "nothing"],
)  # fmt: skip
def test_what_is_not_http(server: LocalChutes, sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Is a 4xx, or an end; and the next request is answered."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.makefile("rb").readline()
        except OSError:
            answer = b""
    assert not answer or answer.split()[1].startswith(b"4")
    assert httpx.get(f"{server.base_url}/models").status_code == 200
    assert not [record for record in caplog.records if record.exc_info]


def nested(depth: int) -> bytes:
    inner = b"[" * depth + b"]" * depth
    return b'{"model": "%s", "messages": %s}' % (MODEL.encode(), inner)


@pytest.mark.parametrize(
    "raw",
    [nested(10**5), nested(990), nested(200), b'{"model": "\\ud800"}', b'{"model": "x", "temperature": NaN}', b"\xff{}",
     b'{"model": "%s", "seed": 1e999}' % MODEL.encode()],
    ids=["deep", "not-quite", "too", "surrogate", "nan", "utf-8", "infinite"],
)  # fmt: skip
@pytest.mark.parametrize("path", [CHAT, "/embed/v1/embeddings", "/local/faults"])
def test_json_that_is_none(http: httpx.Client, path: str, raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Is a 400 of the gateway, a 422 of the controls."""
    response = http.post(path, content=raw, headers={"Content-Type": "application/json"})
    assert response.status_code == (422 if path.startswith("/local") else 400)
    assert response.json()["detail"]
    assert not [record for record in caplog.records if record.exc_info]


ODD: list[object] = [
    None, True, 0, -1, 1.5, 10**30, "", "http://[", [], [None], [[]], {}, {"a": None}, [{"type": "text"}], [1, "a"],
    [{"type": "image_url", "image_url": {"url": "http://a:b"}}], "[" * 10_000,
]  # fmt: skip
FIELDS = [
    "model",
    "messages",
    "tools",
    "tool_choice",
    "response_format",
    "stop",
    "n",
    "max_tokens",
    "logprobs",
    "stream",
    "chat_template_kwargs",
    "stream_options",
    "structured_outputs",
    "continue_final_message",
    "temperature",
]


@pytest.mark.parametrize("field", FIELDS)
def test_any_value_in_any_field(ask: Ask, field: str, caplog: pytest.LogCaptureFixture) -> None:
    """Has an answer in JSON, or is refused as the service refuses what it does not expect; nothing is a traceback."""
    for value in ODD:
        assert ask(**{field: value}).status_code in (200, 400, 404, 422, 500)
    assert [record.message for record in caplog.records] == []


@pytest.mark.parametrize("field", ["role", "content", "tool_calls", "name"])
def test_any_value_in_a_message(ask: Ask, field: str, caplog: pytest.LogCaptureFixture) -> None:
    """The same."""
    for role in ("user", "assistant", "tool"):
        for value in ODD:
            ask(messages=[{"role": "user", "content": "hi"}, {"role": role, "content": "x", field: value}])
    assert [record.message for record in caplog.records] == []


def test_any_value_to_embed(http: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """The same."""
    for field in ("input", "dimensions", "encoding_format", "model"):
        for value in ODD:
            http.post("/embed/v1/embeddings", json={"model": EMBEDDER, "input": "x", field: value})
    assert [record.message for record in caplog.records] == []


def test_a_mistake_of_ours_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A backend of one's own that raises whatever it likes is a 500, a note, and a line of the log."""

    class Broken(EchoBackend):
        async def embed(self, texts: list[str]) -> EmbedResult:
            raise ZeroDivisionError("oops")

    with serve(backend=Broken()) as server, caplog.at_level(logging.INFO):
        body = {"model": EMBEDDER, "input": "x"}
        response = httpx.post(f"{server.embedding_base_url}/embeddings", json=body, headers={"Authorization": "x"})
        assert (response.status_code, response.text) == (500, "Internal Server Error")
        assert server.journal.wait(1)[0].note == "ZeroDivisionError('oops')"
    (record,) = [record for record in caplog.records if record.name == "chutes_local"]
    assert (record.message, record.exc_info) == ("POST '/embed/v1/embeddings': ZeroDivisionError('oops')", None)


def test_the_journal_can_be_read_after_all_that(http: httpx.Client, ask: Ask) -> None:
    """Whatever was in a request."""
    ask(seed=10**300, metadata={"a": 1e308, "b": "\u0000\u202e"})
    assert json.loads(http.get("/local/journal").content)["entries"]
