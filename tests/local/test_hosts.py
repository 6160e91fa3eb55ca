"""Hosts by name and by path, and faults of paths."""

from __future__ import annotations

import socket

import httpx
import pytest

from chutes_local import LocalChutes, serve
from chutes_local.hosts import Site, site_of
from tests.local.conftest import MODEL, Ask


@pytest.mark.parametrize(
    ("label", "path", "method", "site"),
    [
        ("", "/v1/models", "GET", Site("llm")),
        ("", "/embed/v1/embeddings", "POST", Site("embed", "/embed")),
        ("", "/chute/a-b/v1/models", "GET", Site("chute", "/chute/a-b", "a-b")),
        ("", "/api/users/me", "GET", Site("api", "/api")),
        ("", "/users/me", "GET", Site("api")),
        ("", "/local/faults", "GET", Site("local")),
        ("llm", "/v1/chat/completions", "POST", Site("llm")),
        ("llm", "/v1/models", "GET", Site("llm")),
        ("llm", "/v1/chat/completions", "GET", Site("api")),
        ("embed", "/v1/embeddings", "POST", Site("embed")),
        ("embed", "/v1/models", "GET", Site("api")),
        ("api", "/users/me", "GET", Site("api")),
        ("some-slug", "/v1/embeddings", "POST", Site("chute", "", "some-slug")),
        ("llm", "/local/faults", "GET", Site("local")),
    ],
)
def test_which_host_is_meant(label: str, path: str, method: str, site: Site) -> None:
    """A name with a label decides by it, any other by the first part of the path."""
    assert site_of(label, path, method) == site


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/chat/completions", None),
        ("GET", "/api/nothing", None),
        ("POST", "/api/v1/embeddings", {"model": MODEL}),
        ("GET", "/local/nothing", None),
    ],
)
def test_what_is_not_there(http: httpx.Client, method: str, path: str, body: object) -> None:
    """Unknown paths are 404 with a detail."""
    response = http.request(method, path, json=body)
    assert response.status_code in (404, 405)
    assert "detail" in response.json()


def test_no_cord_and_no_chute(ask: Ask, http: httpx.Client, server: LocalChutes) -> None:
    """An unknown path of a known model has no cord, an unknown label no chute."""
    assert ask(path="/v1/responses").json() == {"detail": "No matching cord found!"}
    own = server.chute_url(MODEL).removeprefix(server.url)
    assert http.post(f"{own}/nothing", json={}).json() == {"detail": "No matching cord found!"}
    unknown = http.post("/chute/no-such-slug/v1/chat/completions", json={})
    assert (unknown.status_code, unknown.json()) == (404, {"detail": "No matching chute found!"})


def test_hosts_by_name(http: httpx.Client) -> None:
    """The Host header leads to the gateway, to one model, and to management."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    for host in ("llm.chutes.localhost", "chutes-qwen-qwen3-32b-tee.chutes.localhost"):
        assert http.post("/v1/chat/completions", json=body, headers={"Host": host}).status_code == 200
    assert http.get("/users/me", headers={"Host": "api.chutes.localhost"}).status_code == 200


def test_faults_of_paths(http: httpx.Client, server: LocalChutes) -> None:
    """The list of models and the token endpoint can fail too, by path, with or without the prefix of a host."""
    server.faults.parse("/v1/models=garbage x1", "/idp/token=bad_gateway x1", "/users/*=slow_start(seconds=0)")
    assert http.get("/v1/models").text.startswith("<!doctype html>")
    assert http.get("/v1/models").json()["object"] == "list"
    assert http.post("/api/idp/token").status_code == 502
    assert http.post("/api/idp/token").status_code == 400
    assert http.get("/api/users/me").status_code == 200
    assert [entry.fault for entry in server.journal.wait(5)] == ["garbage", None, "bad_gateway", None, "slow_start"]


def test_everything_but_the_controls_is_noted(http: httpx.Client, server: LocalChutes) -> None:
    """Management requests are in the journal too, the server's own controls are not."""
    http.get("/v1/models")
    http.get("/api/users/me")
    http.get("/local/journal")
    http.get("/api/nothing")
    assert [(e.host, e.path, e.status) for e in server.journal.wait(3)] == [
        ("llm", "/v1/models", 200),
        ("api", "/api/users/me", 200),
        ("api", "/api/nothing", 404),
    ]


def over_socket(server: LocalChutes, host: str, target: str = "/v1/models") -> int:
    """Send one request with these very words; return its status."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60) as connection:
        head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:80", "127.1.2.3", "localhost", "LocalHost:1", "localhost.", "localhost:", "[::1]:8765",
     "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]", "llm.localhost", "llm.localhost.test:80"],
)  # fmt: skip
def test_names_of_this_machine_are_served(server: LocalChutes, host: str) -> None:
    """In every way of writing them."""
    assert over_socket(server, host) == 200


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "llm.chutes.local",
     "8.8.8.8", "0.0.0.0", "[::]", "[2001:db8::1]", "::1", "[::1", "localhost:x", "localhost:99999", "a@localhost",
     "evil.example#.localhost", "localhost..", "127.0.0.1/x"],
)  # fmt: skip
def test_other_names_are_not(server: LocalChutes, host: str) -> None:
    """Neither the gateway nor the controls answer under them, and nothing is noted."""
    assert over_socket(server, host) in (400, 421)
    assert over_socket(server, host, "/local") in (400, 421)
    assert len(server.journal) == 0


def test_the_target_can_name_the_host(server: LocalChutes) -> None:
    """It has the last word, as HTTP says, but both must be served."""
    assert over_socket(server, "127.0.0.1", "http://localhost/v1/models") == 200
    assert over_socket(server, "127.0.0.1", "HTTP://llm.localhost:1/v1/models?or=true") == 200
    assert over_socket(server, "127.0.0.1", "http://evil.example/v1/models") == 421
    assert over_socket(server, "evil.example", "http://127.0.0.1/v1/models") == 421
    assert over_socket(server, "127.0.0.1", "http://a@127.0.0.1/v1/models") == 421
    assert over_socket(server, "127.0.0.1", "http://localhost/local/journal") == 401
    assert over_socket(server, "127.0.0.1", "*") == 401  # no path of anything


def test_further_names_can_be_given() -> None:
    """They are served, with the hosts of the service under them."""
    with serve(backend="echo", hosts=["devbox", "Box.example."]) as server:
        for host in ("devbox", "DEVBOX:80", "box.example", "llm.box.example"):
            assert over_socket(server, host) == 200
        assert over_socket(server, "otherbox") == 421
    with serve(backend="echo", host="localhost") as server:
        assert over_socket(server, "localhost") == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://localhost:5173"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
)
def test_web_pages_of_elsewhere_ask_no_model(ask: Ask, headers: dict[str, str], status: int) -> None:
    """A page of this machine may, through the proxy of its own server."""
    assert ask(headers=headers).status_code == status


def test_a_link_may_lead_to_the_sign_in(http: httpx.Client) -> None:
    """A page elsewhere sends a person there; its answer cannot be read."""
    assert http.get("/api/ping", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
