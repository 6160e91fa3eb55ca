"""Hosts by name and by path, and faults of paths."""

from __future__ import annotations

import httpx
import pytest

from chutes_local import LocalChutes
from chutes_local.hosts import Site, site_of
from tests.local.conftest import MODEL, Ask


@pytest.mark.parametrize(
    ("host", "path", "method", "site"),
    [
        ("127.0.0.1:1", "/v1/models", "GET", Site("llm")),
        ("localhost", "/embed/v1/embeddings", "POST", Site("embed", "/embed")),
        ("[::1]:1", "/chute/a-b/v1/models", "GET", Site("chute", "/chute/a-b", "a-b")),
        ("127.0.0.1", "/api/users/me", "GET", Site("api", "/api")),
        ("127.0.0.1", "/users/me", "GET", Site("api")),
        ("127.0.0.1", "/local/faults", "GET", Site("local")),
        ("llm.chutes.local", "/v1/chat/completions", "POST", Site("llm")),
        ("llm.chutes.local", "/v1/models", "GET", Site("llm")),
        ("llm.chutes.local", "/v1/chat/completions", "GET", Site("api")),
        ("EMBED.chutes.local:80", "/v1/embeddings", "POST", Site("embed")),
        ("embed.chutes.local", "/v1/models", "GET", Site("api")),
        ("api.chutes.local", "/users/me", "GET", Site("api")),
        ("some-slug.chutes.local", "/v1/embeddings", "POST", Site("chute", "", "some-slug")),
        ("llm.chutes.local", "/local/faults", "GET", Site("local")),
        ("", "/v1/models", "GET", Site("llm")),
    ],
)
def test_which_host_is_meant(host: str, path: str, method: str, site: Site) -> None:
    """A name with dots decides by its first label, an address by the first part of the path."""
    assert site_of(host, path, method) == site


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
    for host in ("llm.chutes.local", "chutes-qwen-qwen3-32b-tee.chutes.local"):
        assert http.post("/v1/chat/completions", json=body, headers={"Host": host}).status_code == 200
    assert http.get("/users/me", headers={"Host": "api.chutes.local"}).status_code == 200


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
