"""The timeout of every operation on a socket comes from one deadline, however often something arrives."""

from __future__ import annotations

import importlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chutes_core.calls.stopping import Stop, Stopped, stopping
from chutes_core.wire import deadline as module
from chutes_core.wire.deadline import Deadline, hold, left, trace
from chutes_core.wire.pools import http_package

PACKAGES = sorted({"httpx", http_package().__name__})


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until it is moved."""
    seconds = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: seconds[0])
    return seconds


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


class Stream:
    """What the HTTP client tells of a connection."""

    def __init__(self, found: object) -> None:
        self._found = found

    def get_extra_info(self, info: str) -> object:
        return self._found if info == "socket" else None


def test_a_timeout_ends_with_the_deadline(now: list[float]) -> None:
    """The shorter of both counts; a deadline that has passed lets nothing begin."""
    assert left(None) is None
    with Deadline(10):
        assert (left(3), left(60), left(None)) == (3, 10, 10)
        now[0] += 9
        assert left(3) == 1
        now[0] += 1
        with pytest.raises(TimeoutError):
            left(3)
    assert left(3) == 3


def test_deadlines_are_of_their_block(now: list[float]) -> None:
    """What a call does meanwhile for another one has its own, and a thread does not know of another's."""
    seen: list[float | None] = []
    with Deadline(10):
        with Deadline(None):
            assert left(60) == 60
        with Deadline(2):
            assert left(60) == 2
        assert left(60) == 10
        other = threading.Thread(target=lambda: seen.append(left(60)))
        other.start()
        other.join()
    assert seen == [60]


def test_every_operation_of_a_socket_has_what_is_left(
    now: list[float], pair: tuple[socket.socket, socket.socket]
) -> None:
    """Whatever timeout is set, and however often; without a deadline the socket is as any other."""
    ours, theirs = pair
    assert hold(Stream(ours))
    ours.settimeout(60)
    assert ours.gettimeout() == 60
    theirs.sendall(b"some bytes")
    with Deadline(10):
        for expected in (10, 7, 4, 1):
            ours.settimeout(60)
            assert ours.gettimeout() == expected
            assert ours.recv(1)
            assert ours.gettimeout() == expected
            now[0] += 3
        for late in (lambda: ours.settimeout(None), lambda: ours.recv(1)):
            with pytest.raises(TimeoutError):
                late()
    ours.settimeout(None)
    assert ours.recv(100) == b" bytes"


def test_a_time_that_has_passed_is_a_timeout(now: list[float], pair: tuple[socket.socket, socket.socket]) -> None:
    """Also on a socket that has none, such as that of a slow thread whose first read begins too late."""
    ours, theirs = pair
    held = hold(Stream(ours))
    assert held is not None
    theirs.sendall(b"abc")
    for timeout in (None, 60):
        ours.settimeout(timeout)
        for by in (now[0], now[0] - 1):
            with pytest.raises(TimeoutError):
                held.receive(10, by)


def test_a_read_that_sets_no_timeout_itself_has_one(
    now: list[float], pair: tuple[socket.socket, socket.socket]
) -> None:
    """TLS within TLS sets one and then reads as often as it needs."""
    ours, theirs = pair
    hold(Stream(ours))
    theirs.sendall(b"abc")
    with Deadline(10):
        ours.settimeout(None)
        for expected in (10, 6, 2):
            ours.recv(1)
            assert ours.gettimeout() == expected
            now[0] += 4
        with pytest.raises(TimeoutError):
            ours.recv(1)


@pytest.mark.parametrize("kind", [socket.socket, ssl.SSLSocket])
def test_a_socket_stays_what_it_was(kind: type[socket.socket]) -> None:
    """It has the same name and the same base, and becomes another one once."""
    keeping = module._keeping(kind)  # type: ignore[arg-type]
    assert issubclass(keeping, kind)
    assert keeping.__name__ == kind.__name__
    assert module._keeping(keeping) is keeping  # type: ignore[arg-type]


@pytest.mark.parametrize("found", [None, object()])
def test_what_is_no_socket_is_left_alone(found: object) -> None:
    """A transport of another kind keeps its own timeouts."""
    assert not hold(Stream(found))
    assert not hold(None)


def test_a_socket_that_cannot_change_is_left_alone() -> None:
    """Such as one with another layout in memory."""

    class Sealed(socket.socket):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "__class__":
                raise TypeError("another layout")
            super().__setattr__(name, value)

    with Sealed() as found:
        assert not hold(Stream(found))


@pytest.mark.parametrize(
    ("addresses", "timeout", "tried"),
    [
        (1, 8.0, ("many.test", 8.0)),
        (4, 8.0, ("many.test", 2.0)),
        (4, 4.0, ("many.test", 1.0)),
        (4, 3.0, ("192.0.2.1", 3.0)),
        (1, 0.5, ("many.test", 0.5)),
    ],
)
def test_the_addresses_of_a_host_share_the_time(
    now: list[float], monkeypatch: pytest.MonkeyPatch, addresses: int, timeout: float, tried: tuple[str, float]
) -> None:
    """They are tried one after the other with the same timeout; with too little for each, only one of them is."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{number}", 1)) for number in range(1, 9)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: found[:addresses])
    info: dict[str, object] = {"host": "many.test", "port": 1, "timeout": timeout}
    trace("connection.connect_tcp.started", info)
    assert (info["host"], info["timeout"]) == tried
    with Deadline(timeout):
        info = {"host": "many.test", "port": 1, "timeout": None}
        trace("socks.connect_tcp.started", info)
        assert (info["host"], info["timeout"]) == tried
        now[0] += timeout
        with pytest.raises(TimeoutError):
            trace("connection.connect_tcp.started", info)


def test_a_host_that_nobody_knows_is_connected_to_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is that of the connection; and without any limit nothing is looked up."""

    def unknown(*args: object, **more: object) -> object:
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    info: dict[str, object] = {"host": "none.test", "port": 1, "timeout": 5}
    trace("connection.connect_tcp.started", info)
    assert info["timeout"] == 5
    info["timeout"] = None
    trace("connection.connect_tcp.started", info)
    assert info["timeout"] is None


@pytest.mark.parametrize("name", PACKAGES)
def test_the_http_packages_tell_of_every_connection(name: str) -> None:
    """New ones while they are made, with a timeout that we may change, and used ones with the reply."""
    package: Any = importlib.import_module(name)
    told: list[tuple[str, Any]] = []
    connected: list[object] = []

    def follow(event: str, info: dict[str, Any]) -> None:
        told.append((event, info.get("return_value")))
        if event == "connection.connect_tcp.started":
            info |= {"timeout": 7.0, "host": "127.0.0.1"}
        if event == "connection.connect_tcp.complete":
            connected.append(info["return_value"].get_extra_info("socket").gettimeout())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = threading.Thread(target=_serve, args=(listener, 2))
        served.start()
        with package.Client() as http:
            url = f"http://none.invalid:{listener.getsockname()[1]}/"
            replies = [http.get(url, extensions={"trace": follow}) for _ in range(2)]
            streams = [reply.extensions["network_stream"] for reply in replies]
            assert streams[0] is streams[1]
            assert hold(streams[0])
        served.join()
    assert connected == [7.0], "the timeout of a connection is no longer taken from what the trace may change"
    assert [value for event, value in told if event == "connection.connect_tcp.complete"] == streams[:1]


def _serve(listener: socket.socket, replies: int) -> None:
    connection, _ = listener.accept()
    with connection:
        for _ in range(replies):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        connection.recv(1)


def test_a_socket_that_is_waited_for_can_be_closed_by_another_thread(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The thread that waits is woken and told, and the other side sees the end."""
    ours, theirs = pair
    assert hold(Stream(ours))
    waits, told = threading.Event(), threading.Event()

    class Noted(Stop):
        def begin(self, end: Callable[[], object]) -> None:
            super().begin(end)
            waits.set()

    def wait() -> None:
        stopping.set(stop)
        with pytest.raises(Stopped):
            ours.recv(1)
        told.set()

    stop = Noted()
    thread = threading.Thread(target=wait)
    thread.start()
    assert waits.wait(60)
    stop.stop()
    thread.join(60)
    assert told.is_set()
    theirs.settimeout(60)
    assert theirs.recv(1) == b""
    with pytest.raises(OSError, match=r"Bad file|not connected|pipe"):
        ours.sendall(b"b")


def test_nothing_is_sent_for_whom_nobody_waits() -> None:
    """A connection that takes its time to be made has no request any more once it is there."""
    stop = Stop()
    token = stopping.set(stop)
    try:
        trace("connection.connect_tcp.complete", {"return_value": Stream(None)})
        stop.stop()
        with pytest.raises(Stopped):
            trace("connection.connect_tcp.complete", {"return_value": Stream(None)})
        with pytest.raises(Stopped):
            trace("connection.connect_tcp.started", {"host": "127.0.0.1", "port": 1, "timeout": 1.0})
    finally:
        stopping.reset(token)


def test_nothing_is_sent_on_a_used_connection_either(pair: tuple[socket.socket, socket.socket]) -> None:
    """A request that waited for its turn on a connection is not made once nobody needs its answer."""
    ours, theirs = pair
    assert hold(Stream(ours))
    stop = Stop()
    token = stopping.set(stop)
    try:
        assert ours.send(b"a") == 1
        stop.stop()
        with pytest.raises(Stopped):
            ours.send(b"b")
    finally:
        stopping.reset(token)
    assert theirs.recv(2) == b"a"


def test_a_request_that_nobody_takes_is_ended(pair: tuple[socket.socket, socket.socket]) -> None:
    """Who waits until a peer takes more of a long request is woken too."""
    ours, _ = pair
    assert hold(Stream(ours))
    waits, told = threading.Event(), threading.Event()

    class Noted(Stop):
        def begin(self, end: Callable[[], object]) -> None:
            super().begin(end)
            waits.set()

    stop = Noted()

    def write() -> None:
        stopping.set(stop)
        try:
            while True:
                ours.send(b"x" * 65536)
        except Stopped:
            told.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert waits.wait(60)
    stop.stop()
    thread.join(60)
    assert told.is_set()


def test_a_connection_that_is_shared_is_left_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    """On one of HTTP/2 come the answers of others, who would lose them: it is neither shut nor refused."""
    ours, theirs = pair
    assert hold(Stream(ours))
    stop = Stop()
    token = stopping.set(stop)
    try:
        trace("http2.send_request_headers.started", {})
        stop.stop()
        theirs.sendall(b"theirs")
        assert ours.recv(9) == b"theirs"
        with pytest.raises(Stopped):
            trace("http2.send_request_headers.started", {})
    finally:
        stopping.reset(token)
