"""No request goes where nobody sent it: redirects stay within the host that was asked, and keep the request."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable
from typing import Any

import openai
import pytest

from chutes_core import APIError, ChutesClient, Kind
from chutes_core.failures.reading import error_from_response
from chutes_core.failures.redirects import destination
from chutes_core.wire.pools import http_package
from tests.core.clients import HELLO, KEY, MODEL
from tests.core.raw_server import DONE, END, HEAD, RawServer, Request, event, json_reply, raw_server, reply
from tests.core.surfaces import ALL, ask

STATUSES = [301, 302, 303, 307, 308]
MINE = {"X-Mine": "mine alone"}
Handler = Callable[[socket.socket, Request, RawServer], None]


def redirect(status: int, place: str) -> bytes:
    head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {place}\r\nContent-Length: 4\r\n\r\nThere"[:-1]
    return head.encode()


def saying(answer: bytes) -> Handler:
    return lambda connection, request, server: connection.sendall(answer)


def answered(connection: socket.socket, request: Request, server: RawServer) -> None:
    """Answer whatever is asked."""
    if request.line.startswith("GET"):
        connection.sendall(json_reply({"object": "list", "data": [{"id": MODEL, "object": "model"}]}))
    elif "embeddings" in request.line:
        connection.sendall(json_reply({"data": [{"index": 0, "embedding": [1.0]}]}))
    elif request.body.get("stream"):
        connection.sendall(HEAD + event({"content": "Hi"}, "stop") + DONE + END)
    else:
        connection.sendall(reply("Hi"))


@pytest.mark.parametrize("surface", ALL)
@pytest.mark.parametrize("status", STATUSES)
def test_no_client_goes_to_another_host(surface: str, status: int) -> None:
    """The stranger gets neither prompt nor headers, not even a connection; the failure says who it is."""
    with raw_server(answered) as stranger:
        place = f"{stranger.base_url}/chat/completions?token=secret"
        with (
            raw_server(saying(redirect(status, place))) as server,
            pytest.raises((APIError, openai.APIError)) as caught,
        ):
            ask(surface, server.base_url, default_headers=MINE)
        assert stranger.connections == 0
    shown = str(caught.value)
    assert f"redirects to {stranger.base_url.removesuffix('/v1')}," in shown
    assert "Check the base URL" in shown
    assert "secret" not in shown
    assert "completions" not in shown
    if isinstance(caught.value, APIError):
        assert (caught.value.kind, caught.value.status_code) == (Kind.ROUTE_NOT_FOUND, status)
    else:
        assert isinstance(caught.value, openai.APIStatusError)
        assert caught.value.status_code == status


@pytest.mark.parametrize("name", sorted({"httpx", http_package().__name__}))
@pytest.mark.parametrize("surface", ["whole", "awhole", "sdk_streamed", "sdk_awhole"])
def test_a_client_that_follows_redirects_does_not_for_us(surface: str, name: str) -> None:
    """Your own client's setting is about its own requests."""
    own = importlib.import_module(name)
    with raw_server(answered) as stranger:
        server_says = saying(redirect(307, f"{stranger.base_url}/chat/completions"))
        with raw_server(server_says) as server, pytest.raises((APIError, openai.APIError)):
            ask(surface, server.base_url, own=own, default_headers=MINE)
        assert stranger.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize("surface", ["whole", "streamed", "embedded", "awhole", "sdk_whole", "sdk_streamed"])
def test_a_post_does_not_become_a_get(surface: str, status: int) -> None:
    """What stands at the other path is a page and no answer."""
    with raw_server(saying(redirect(status, "/v1/page"))) as server:
        with pytest.raises((APIError, openai.APIError), match="another path of the same host"):
            ask(surface, server.base_url)
        assert [request.line.split()[0] for request in server.requests] == ["POST"]


def moving(times: int, status: int = 307) -> Handler:
    """A server whose paths moved within it, so many times."""

    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        if len(server.requests) <= times:
            place = f"/v1/moved{len(server.requests)}" if len(server.requests) % 2 else f"{server.base_url}/moved"
            connection.sendall(redirect(status, place))
        else:
            answered(connection, request, server)

    return handle


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("surface", ["whole", "streamed", "awhole", "astreamed", "sdk_whole", "sdk_astreamed"])
def test_a_path_that_moved_is_followed(surface: str, status: int) -> None:
    """Within the host the same request is sent again, with its headers, its key and its body."""
    with raw_server(moving(2, status)) as server:
        assert ask(surface, server.base_url, default_headers=MINE) == "Hi"
        first, *others = server.requests
    assert len(others) == 2
    for other in others:
        assert other.line.startswith("POST /v1/moved")
        assert other.body == first.body
        assert other.headers["x-mine"] == "mine alone"
        assert other.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("surface", ["listed", "sdk_listed"])
def test_a_page_that_moved_is_followed(surface: str, status: int) -> None:
    """A GET stays one with every status."""
    with raw_server(moving(1, status)) as server:
        assert MODEL in [model.id for model in ask(surface, server.base_url)]
        assert [request.line.split()[0] for request in server.requests] == ["GET", "GET"]


@pytest.mark.parametrize("surface", ["whole", "awhole", "sdk_whole"])
def test_redirects_come_to_an_end(surface: str) -> None:
    """A server that sends a request in a circle is left."""
    with raw_server(moving(100)) as server:
        with pytest.raises((APIError, openai.APIError), match="such a redirect is not followed"):
            ask(surface, server.base_url)
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    "place",
    [
        "https://127.0.0.1:{port}/v1/chat/completions",
        "http://127.0.0.1:1/v1/chat/completions",
        "http://localhost:{port}/v1/chat/completions",
        "//other.example/v1",
        "http://me:pw@127.0.0.1:{port}/v1",
        "ftp://127.0.0.1:{port}/",
        "http://[::1",
        "http://127.0.0.1:none/",
        "\\\\other.example\\",
        "http:\\\\other.example",
    ],
)
def test_what_is_another_host(place: str) -> None:
    """Another scheme, port, name or user is one, and so is what is no address at all."""
    with raw_server(lambda connection, request, server: connection.sendall(redirect(307, spelled(server)))) as server:

        def spelled(server: RawServer) -> str:
            return place.format(port=server.base_url.split(":")[2].removesuffix("/v1"))

        client = ChutesClient(KEY, base_url=server.base_url, max_retries=0)
        with client, pytest.raises(APIError):
            client.chat(HELLO, model=MODEL)
        assert len(server.requests) == 1 or "\\" in place, "a backslash is a character of a path"
        assert all(request.line.startswith("POST /") for request in server.requests)


@pytest.mark.parametrize(
    ("status", "headers", "place"),
    [
        (307, {"location": "https://user:pw@other.example:8443/a?b=c#d"}, "https://other.example:8443"),
        (301, {"location": "http://[2001:db8::1]:80/"}, "http://[2001:db8::1]"),
        (302, {"location": "//other.example/x"}, "https://other.example"),
        (302, {"location": "?next"}, "another path of the same host"),
        (303, {"location": "http://[bad"}, "an address that is not valid"),
        (304, {"location": "/x"}, None),
        (200, {"location": "/x"}, None),
        (307, {}, None),
    ],
)
def test_where_a_redirect_leads(status: int, headers: dict[str, str], place: str | None) -> None:
    """Scheme and host are said, and nothing that may be secret."""
    assert destination(status, headers) == place


def test_the_failure_is_of_the_request() -> None:
    """No other model behind the same address can help, and waiting does not either."""
    error: Any = error_from_response(307, b"<html>", {"Location": "https://other.example/"}, model=MODEL)
    assert str(error) == (
        "acme/one: the address redirects to https://other.example, and such a redirect is not followed (307). "
        "Check the base URL: it must be that of the API itself, with the right scheme and host."
    )
