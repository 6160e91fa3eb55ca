"""Real bytes on a real socket: how connections end, and what happens to the server meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from chutes_local import LocalChutes
from tests.local.conftest import MODEL, Ask, Raw, request_over_socket

Talk = Callable[..., Raw]


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        ("reset(after=1)", "reset"),
        ("half_close(after=1)", "closed"),
        ("refused(seconds=0)", "reset"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_broken_connections(raw: Talk, server: LocalChutes, fault: str, end: str, stream: bool) -> None:
    """A reset is a RST, a half-close a FIN, and neither body is whole."""
    server.faults.parse(f"*={fault}")
    got = raw(stream=stream)
    assert got.end == end
    assert b"\r\n0\r\n" not in got.data
    entry = server.journal.wait(1)[0]
    assert entry.ended == "cut"
    if fault.startswith("refused"):
        assert got.data == b""
    elif stream:
        assert entry.text == "This"


def test_a_half_close_leaves_the_other_half_open(server: LocalChutes) -> None:
    """The server sends FIN and keeps the connection until the client closes it too."""
    server.faults.parse("*=half_close(after=1)")
    with request_over_socket(server, stream=True) as connection:
        while connection.recv(65536):
            pass
        entry = server.journal.last
        assert (entry.ended, entry.over) == ("cut", False)
    assert server.journal.wait(1) == [entry]


def test_a_bare_error_line_has_no_prefix_and_no_newline(raw: Talk, server: LocalChutes) -> None:
    """The stream ends cleanly, with the bare line as its last bytes."""
    server.faults.parse("*=error_line(after=2)")
    got = raw(stream=True)
    assert got.end == "closed"
    assert got.body.endswith(
        b'\n\n{"error":"Unhandled exception during response stream: exhausted all available targets to no avail"}'
    )
    assert b"[DONE]" not in got.body


def test_an_empty_stream_is_200_and_nothing(raw: Talk, server: LocalChutes) -> None:
    """Headers of a stream, and no byte of a body."""
    server.faults.parse("*=empty")
    got = raw(stream=True)
    assert (got.status, got.body) == (200, b"")
    assert b"text/event-stream" in got.data


def test_headers_come_before_the_silence(server: LocalChutes) -> None:
    """hang_after_headers sends the status and then nothing; the client leaves, and the server notices."""
    server.faults.parse("*=hang_after_headers(seconds=60)")
    with request_over_socket(server, stream=True) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
    entry = server.journal.wait(1)[0]
    assert (entry.status, entry.ended, entry.text) == (200, "client left", "")


def test_a_client_that_leaves_ends_the_answer(server: LocalChutes) -> None:
    """Closing a stream stops it; what was said until then is billed."""
    server.faults.parse("*=stall(after=1, seconds=60)")
    with request_over_socket(server, stream=True) as connection:
        data = b""
        while b'"content":"This"' not in data:
            data += connection.recv(65536)
    entry = server.journal.wait(1)[0]
    assert entry.ended == "client left"
    assert entry.text == "This"
    assert entry.billed.completion == 1


def test_stalls_and_drips_lose_nothing(ask: Ask, server: LocalChutes) -> None:
    """Slow answers are whole answers, streamed or not."""
    for stream in (True, False):
        server.faults.clear()
        plain = ask(stream=stream)
        for fault in ("stall(seconds=0)", "slow_drip(seconds=0)", "hang_after_headers(seconds=0)"):
            server.faults.clear()
            server.faults.parse(f"*={fault}")
            spoiled = ask(stream=stream)
            assert len(spoiled.content) == len(plain.content), fault


def test_whole_bodies_can_be_broken(raw: Talk, server: LocalChutes) -> None:
    """Without a stream: broken JSON, an empty body, an answer without usage."""
    server.faults.script(MODEL, ["malformed", "empty", "no_usage"])
    broken, empty, without = raw(), raw(), raw()
    with pytest.raises(ValueError, match=r"\w"):
        json.loads(broken.body)
    assert (empty.status, empty.body) == (200, b"")
    assert "usage" not in json.loads(without.body)


@pytest.mark.parametrize("kind", ["error_line", "error_event"])
def test_failing_machines_are_a_500_without_a_stream(ask: Ask, server: LocalChutes, kind: str) -> None:
    """What breaks a stream in the middle is an error of its own when there is none."""
    server.faults.add(MODEL, kind)
    assert ask().status_code == 500


def test_connections_do_not_pile_up(server: LocalChutes, raw: Talk) -> None:
    """After resets, half-closes and empty streams no connection stays open."""
    for fault in ("reset", "half_close", "empty", "error_line", "no_finish"):
        server.faults.clear()
        server.faults.add("*", fault)
        raw(stream=True)
    server.journal.wait(5)
    with httpx.Client() as client:  # one that is kept alive, to see that they are counted at all
        client.get(f"{server.base_url}/models")
        assert server.connections == 1
