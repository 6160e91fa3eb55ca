"""Remote images fetched here: the right ones, whole, and never from inside a network."""

from __future__ import annotations

import asyncio
import base64
import copy
import functools
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from chutes_core.errors import RequestRefusedError
from chutes_core.wire.images import ImagePolicy, ainline_images, inline_images
from tests.ports import free_port

PNG = b"\x89PNG\r\n\x1a\n pixels"
INLINED = "data:image/png;base64," + base64.b64encode(PNG).decode()
PRIVATE = ImagePolicy(allow_private=True)
HOUSE = "127.0.0.1"


class Handler(BaseHTTPRequestHandler):
    """Answers by path, and remembers who was asked for what."""

    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.headers["Host"], self.path))
        path, _, query = self.path.partition("?")
        if path == "/hop":
            left = int(query)
            return self.answer(302, {"Location": f"hop?{left - 1}" if left else "/image"})
        if path == "/away":
            return self.answer(301, {"Location": query})
        if path == "/lost":
            return self.answer(307, {})
        if path == "/missing":
            return self.answer(404, {"Content-Type": "image/png"}, b"x" * 100)
        if path == "/page":
            return self.answer(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>")
        if path == "/untyped":
            return self.answer(200, {}, PNG)
        if path == "/film":
            return self.answer(200, {"Content-Type": "Video/MP4; codecs=x"}, b"film")
        if path == "/cut":
            return self.answer(200, {"Content-Type": "image/png", "Content-Length": "1000"}, PNG)
        return self.answer(200, {"Content-Type": "image/png"}, PNG)

    def answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__((HOUSE, 0), Handler)
        self.seen: list[tuple[str, str]] = []
        self.port = self.server_address[1]

    def url(self, path: str, host: str = HOUSE) -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Addresses of host names, as a resolver would give them; each name is resolved once and no more."""
    known: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *args: Any, **more: Any) -> list[Any]:
        if host not in known:
            return real(host, port, *args, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known.pop(host)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return known


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[httpx.Request], httpx.Response]], None]:
    """Put a function in the place of the network."""

    def put(answer: Callable[[httpx.Request], httpx.Response]) -> None:
        monkeypatch.setattr(httpx, "Client", functools.partial(httpx.Client, transport=httpx.MockTransport(answer)))

    return put


def message(*urls: object) -> list[dict[str, Any]]:
    return [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Look"}, *({"type": "image_url", "image_url": url} for url in urls)],
        }
    ]


def urls_of(messages: Any) -> list[str]:
    return [part["image_url"]["url"] for part in messages[0]["content"] if part["type"] == "image_url"]


# ------------------------------------------------------------------------------------------------ what is fetched


def test_remote_images_become_data_uris(server: Server) -> None:
    """Either form of the address is replaced, all else stays, and the caller's messages are not changed."""
    messages = [
        {"role": "system", "content": "Be brief."},
        *message(server.url("/image"), {"url": server.url("/image"), "detail": "low"}, {"url": INLINED}),
        {"role": "assistant", "content": None},
    ]
    before = copy.deepcopy(messages)
    inlined = inline_images(messages, PRIVATE)
    assert messages == before
    assert inlined[0] == messages[0]
    assert inlined[2] == messages[2]
    assert inlined[1]["content"] == [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": INLINED}},
        {"type": "image_url", "image_url": {"url": INLINED, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": INLINED}},
    ]
    assert server.seen == [(f"{HOUSE}:{server.port}", "/image")], "the same address is fetched once"


def test_videos_too(server: Server) -> None:
    """A video part is inlined with its own type."""
    messages = [{"role": "user", "content": ({"type": "video", "video": server.url("/film")},)}]
    data = "data:video/mp4;base64," + base64.b64encode(b"film").decode()
    assert inline_images(messages, PRIVATE)[0]["content"] == [{"type": "video", "video": {"url": data}}]


async def test_the_event_loop_goes_on_meanwhile(server: Server) -> None:
    """The async form gives the same, and other tasks run until it is there."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    may_answer = threading.Event()
    answer = Handler.do_GET

    def wait_and_answer(self: Handler) -> None:
        loop.call_soon_threadsafe(asked.set)
        assert may_answer.wait(60)
        answer(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Handler, "do_GET", wait_and_answer)
        fetching = asyncio.create_task(ainline_images(message(server.url("/image")), PRIVATE))
        await asked.wait()
        may_answer.set()
        assert urls_of(await fetching) == [INLINED]


@pytest.mark.parametrize("messages", [message(INLINED), [{"role": "user", "content": "Hi"}], ["no message"], []])
def test_without_remote_images_nothing_is_done(messages: Any, internet: Any) -> None:
    """No client is even made, and what is wrong with the messages is left to be said by who checks them."""
    internet(lambda request: pytest.fail("something was fetched"))
    assert inline_images(messages, ImagePolicy()) == messages


def test_no_message_is_mixed_up_with_images(server: Server) -> None:
    """Something that is no message passes through beside one with an image."""
    messages: list[Any] = ["no message", *message(server.url("/image"))]
    inlined: list[Any] = inline_images(messages, PRIVATE)
    assert inlined[0] == "no message"


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/missing", "answered 404"),
        ("/page", "sent text/html, not an image or a video"),
        ("/untyped", "sent data of no stated type, not an image"),
        ("/cut", r"cannot be fetched \(RemoteProtocolError\)"),
        ("/hop?3", "behind too many redirects"),
        ("/lost", "behind too many redirects"),
        ("/away?file:///secret", "must be at a plain http"),
        ("/away?http://me:pw@host.test/a.png", "must be at a plain http"),
        ("/away?http://host.test:port/", "cannot be fetched"),
    ],
)
def test_what_is_no_image_is_refused(server: Server, path: str, words: str) -> None:
    """The error names the host and what came, and not the address, which may have a signature in it."""
    with pytest.raises(RequestRefusedError, match=words) as caught:
        inline_images(message(server.url(path)), PRIVATE)
    assert path not in str(caught.value)


@pytest.mark.parametrize("size", [len(PNG) - 1, len(PNG)])
def test_too_large(server: Server, size: int) -> None:
    """One byte too many is refused, and the limit itself is allowed."""
    policy = ImagePolicy(allow_private=True, max_bytes=size)
    if size >= len(PNG):
        assert urls_of(inline_images(message(server.url("/image")), policy)) == [INLINED]
        return
    with pytest.raises(RequestRefusedError, match=f"larger than {size:,} bytes"):
        inline_images(message(server.url("/image")), policy)


def test_the_reason_is_found_before_the_size(server: Server) -> None:
    """What is no image is not read at all, so it is not called too large."""
    with pytest.raises(RequestRefusedError, match="answered 404"):
        inline_images(message(server.url("/missing")), ImagePolicy(allow_private=True, max_bytes=10))


def test_too_many(server: Server) -> None:
    """More addresses than allowed are refused before one is fetched; the same one counts once."""
    policy = ImagePolicy(allow_private=True, max_count=2)
    with pytest.raises(RequestRefusedError, match="have 3 remote images; at most 2"):
        inline_images(message(*(server.url(f"/image?{number}") for number in range(3))), policy)
    assert server.seen == []
    assert urls_of(inline_images(message(*[server.url("/image")] * 3), policy)) == [INLINED] * 3


def test_a_trickle_is_cut_off(internet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a little from time to time, and so never exceeds the time for a step, is given up."""
    now = [0.0]

    class Trickle(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while now[0] < 1000:
                now[0] += 9
                yield b"."

    internet(lambda request: httpx.Response(200, headers={"content-type": "image/png"}, stream=Trickle()))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with pytest.raises(RequestRefusedError, match="did not arrive within 30 seconds"):
        inline_images(message("http://1.1.1.1/a.png"), ImagePolicy())
    assert now[0] == 36


def test_as_many_redirects_as_allowed(server: Server) -> None:
    """Redirects, relative ones too, are followed up to the limit."""
    assert urls_of(inline_images(message(server.url("/hop?2")), PRIVATE)) == [INLINED]
    with pytest.raises(RequestRefusedError, match="redirects"):
        inline_images(message(server.url("/hop?0")), ImagePolicy(allow_private=True, max_redirects=0))


def test_a_server_that_does_not_answer() -> None:
    """A refused connection is reported with the host and the reason."""
    with pytest.raises(RequestRefusedError, match=rf"at {HOUSE} cannot be fetched \(ConnectError\)"):
        inline_images(message(f"http://{HOUSE}:{free_port(HOUSE)}/a.png"), PRIVATE)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://" + "a" * 70 + ".test/a.png", r"cannot be fetched \(UnicodeError\)"),
        ("http://1.1.1.1/a\x00.png", r"cannot be fetched \(InvalidURL\)"),
        ("http://[::1/a.png", "address is not valid"),
        ("http://host.test:99999/a.png", "address is not valid"),
        ("http://me@1.1.1.1/a.png", "must be at a plain http"),
        ("http://:pw@1.1.1.1/a.png", "must be at a plain http"),
        ("http:///a.png", "must be at a plain http"),
        ("ftp://1.1.1.1/a.png", "must be at a plain http"),
    ],
)
def test_an_address_that_is_none(url: str, words: str) -> None:
    """An address that no request can be made of is refused as the request that it is in."""
    with pytest.raises(RequestRefusedError, match=words):
        inline_images(message(url), ImagePolicy())


# ------------------------------------------------------------------------------------------------ networks


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
    ],
)
def test_addresses_inside_networks_are_not_connected_to(
    names: dict[str, list[str]], internet: Any, address: str
) -> None:
    """No name that stands for this machine, its network or its cloud is fetched from, however it is written."""
    internet(lambda request: pytest.fail("a connection was made"))
    names["pictures.test"] = [address]
    with pytest.raises(RequestRefusedError, match=r"pictures\.test is not at a public address"):
        inline_images(message("https://pictures.test/a.png"), ImagePolicy())


def test_one_private_address_among_public_ones_is_enough(names: dict[str, list[str]], internet: Any) -> None:
    """A name is refused as a whole, whichever of its addresses would be taken."""
    internet(lambda request: pytest.fail("a connection was made"))
    for addresses in (["93.184.215.14", "10.0.0.1"], []):
        names["pictures.test"] = addresses
        with pytest.raises(RequestRefusedError, match="not at a public address"):
            inline_images(message("https://pictures.test/a.png"), ImagePolicy())


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "[::1]", "localhost"])
def test_the_loopback_by_any_name(server: Server, host: str) -> None:
    """By default nothing is fetched from this machine."""
    with pytest.raises(RequestRefusedError, match="not at a public address"):
        inline_images(message(server.url("/image", host)), ImagePolicy())
    assert server.seen == []


def test_a_redirect_into_a_network_is_not_followed(names: dict[str, list[str]], internet: Any) -> None:
    """Each hop is checked like the first address."""
    connected: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        connected.append(request.url.host)
        return httpx.Response(302, headers={"location": "http://169.254.169.254/latest/meta-data"})

    internet(answer)
    names["pictures.test"] = ["93.184.215.14"]
    with pytest.raises(RequestRefusedError, match="not at a public address"):
        inline_images(message("https://pictures.test/a.png"), ImagePolicy())
    assert connected == ["93.184.215.14"]


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"]
)
def test_public_addresses_are_connected_to(names: dict[str, list[str]], internet: Any, address: str) -> None:
    """The checked address itself is connected to; the host's name stands in its header and in the TLS handshake."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, headers={"content-type": "image/png"}, content=PNG)

    internet(answer)
    names["pictures.test"] = [address]
    assert urls_of(inline_images(message("https://pictures.test:8443/a.png?b=c"), ImagePolicy())) == [INLINED]
    (request,) = asked
    assert ipaddress.ip_address(request.url.host) == ipaddress.ip_address(address)
    assert (request.url.scheme, request.url.port, request.url.raw_path) == ("https", 8443, b"/a.png?b=c")
    assert request.headers["host"] == "pictures.test:8443"
    assert request.extensions["sni_hostname"] == "pictures.test"


def test_a_name_is_resolved_once(server: Server, names: dict[str, list[str]]) -> None:
    """The address that was checked is the one connected to, so a resolver cannot change its mind in between."""
    names["pictures.test"] = [HOUSE]
    assert urls_of(inline_images(message(server.url("/image", "pictures.test")), PRIVATE)) == [INLINED]
    assert server.seen == [(f"pictures.test:{server.port}", "/image")]


def test_a_name_in_another_script(server: Server, names: dict[str, list[str]]) -> None:
    """A host's name beyond ASCII is sent in its encoded form."""
    names["bücher.test"] = [HOUSE]
    assert urls_of(inline_images(message(server.url("/image", "bücher.test")), PRIVATE)) == [INLINED]
    assert server.seen == [(f"xn--bcher-kva.test:{server.port}", "/image")]


def test_no_proxy_comes_in_between(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment would resolve the name itself, past the check; it is not used."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert urls_of(inline_images(message(server.url("/image")), PRIVATE)) == [INLINED]
