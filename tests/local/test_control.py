"""The server's own controls by HTTP."""

from __future__ import annotations

import httpx
import pytest

from chutes_local import LocalChutes, serve
from chutes_local.backends.backend import Health
from chutes_local.backends.echo import EchoBackend
from chutes_local.faults.kinds import KINDS
from chutes_local.world.access import NEEDS_TOKEN
from chutes_local.world.journal import MOST_BYTES
from tests.local.conftest import MODEL, OTHER, Ask


def test_the_overview_says_what_it_is(http: httpx.Client) -> None:
    """The overview names the backend, the models and every kind of fault."""
    found = http.get("/local").json()
    assert "not the service" in found["what"]
    assert found["is_model"] is False
    assert MODEL in found["models"]
    assert set(found["fault_kinds"]) == set(KINDS)


def test_the_overview_says_how_the_engine_is(http: httpx.Client, server: LocalChutes) -> None:
    """What a backend tells of its engine is there, and how much the journal takes."""

    class Dead(EchoBackend):
        health = Health("down", 5, "It ended.")

    found = http.get("/local").json()
    assert found["engine"] == {"state": "running", "restarts": 0, "last_problem": ""}
    assert found["journal"] == {"entries": 0, "bytes": 0, "most_bytes": MOST_BYTES}
    with serve(backend=Dead()) as other:
        engine = httpx.get(f"{other.url}/local").json()["engine"]
    assert engine == {"state": "down", "restarts": 5, "last_problem": "It ended."}


CONTROLS = [
    ("POST", "/local/reset"),
    ("GET", "/local/faults"),
    ("POST", "/local/faults"),
    ("DELETE", "/local/faults"),
    ("GET", "/local/journal"),
    ("DELETE", "/local/journal"),
    ("PATCH", f"/local/models/{MODEL}"),
    ("PATCH", "/local/account"),
    ("POST", "/local/clock"),
    ("GET", "/local/nothing"),
    ("POST", "/local"),
]


@pytest.mark.parametrize("token", [None, "", "x", "\u00e9"])
@pytest.mark.parametrize(("method", "path"), CONTROLS)
def test_the_controls_need_the_token(server: LocalChutes, method: str, path: str, token: str | None) -> None:
    """Without the server's own token, or with another, nothing is told or changed; the overview is for all."""
    headers = {} if token is None else {"X-Local-Token": token.encode("latin-1")}
    with httpx.Client(base_url=server.url) as stranger:
        response = stranger.request(method, path, json={"machines": 0}, headers=headers)
        assert (response.status_code, response.json()) == (401, {"detail": NEEDS_TOKEN})
        assert stranger.get("/local").status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "multipart/form-data"}])
def test_the_controls_take_json_alone(http: httpx.Client, server: LocalChutes, headers: dict[str, str]) -> None:
    """What a form of a web page could send is refused, whatever is in it; without a body there is nothing to refuse."""
    response = http.post("/local/faults", content=b'{"rules": ["*=cold"]}', headers=headers)
    assert response.status_code == 415
    unmeasured = iter([b'{"rules": ["*=cold"]}'])
    response = http.post("/local/faults", content=unmeasured, headers=headers)
    assert response.status_code == 415
    assert server.faults.describe() == []
    assert http.post("/local/reset").status_code == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_no_web_page_of_another_origin_controls_it(http: httpx.Client, headers: dict[str, str]) -> None:
    """Not even one that has the token, and not to read."""
    for method in ("GET", "POST"):
        assert http.request(method, "/local/faults", json={"rules": []}, headers=headers).status_code == 403
    assert http.get("/local", headers=headers).status_code == 403


def test_its_own_pages_may(http: httpx.Client, server: LocalChutes) -> None:
    """The same origin, or a person who typed the address."""
    for headers in ({"Origin": server.url}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        assert http.get("/local/faults", headers=headers).status_code == 200


def test_the_token_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an argument, or by the environment; else each server has one of its own."""
    one, two = LocalChutes(backend="echo"), LocalChutes(backend="echo")
    assert len(one.token) > 20
    assert one.token != two.token
    monkeypatch.setenv("CHUTES_LOCAL_TOKEN", "given")
    assert LocalChutes(backend="echo").token == "given"
    assert LocalChutes(backend="echo", token="mine").token == "mine"


def test_setting_a_rule_again_replaces_it(ask: Ask, http: httpx.Client) -> None:
    """The last word on a model holds, before rules for all; other targets keep theirs."""
    for rule in ("*=auth", f"{MODEL}=capacity", f"{MODEL}=cold x1", f"{OTHER}=quota"):
        assert http.post("/local/faults", json={"rules": [rule]}).status_code == 201
    assert http.get("/local/faults").json()["faults"] == [f"{OTHER}=quota", f"{MODEL}=cold (1 left)", "*=auth"]
    assert [ask().status_code, ask().status_code, ask(model=OTHER).status_code] == [503, 401, 402]


def test_a_wrong_rule_changes_nothing(http: httpx.Client) -> None:
    """Neither the rules beside it, nor the seed."""
    http.post("/local/faults", json={"rules": ["*=cold"], "seed": 5})
    for body in ({"rules": ["*=auth", "*=nonsense"]}, {"rules": ["*=auth", "nobody/x=cold"], "seed": 9}):
        assert http.post("/local/faults", json=body).status_code == 400
    assert http.get("/local/faults").json() == {"seed": 5, "faults": ["*=cold"]}


def test_faults_are_set_listed_and_cleared(ask: Ask, http: httpx.Client) -> None:
    """Rules as text, in fields, or as a script; then none."""
    made = http.post("/local/faults", json={"rules": [f"{MODEL}=capacity x1"], "seed": 3})
    assert (made.status_code, made.json()) == (201, {"seed": 3, "faults": [f"{MODEL}=capacity (1 left)"]})
    assert [ask().status_code for _ in range(2)] == [429, 200]
    http.post("/local/faults", json={"target": MODEL, "kind": "cold", "times": 1})
    assert [ask().status_code for _ in range(2)] == [503, 200]
    http.post("/local/faults", json={"target": MODEL, "script": ["exhausted", None, "quota"]})
    assert [ask().status_code for _ in range(4)] == [500, 200, 402, 200]
    http.post("/local/faults", json={"target": "*", "kind": "auth"})
    assert http.delete("/local/faults").status_code == 204
    assert ask().status_code == 200
    assert http.get("/local/faults").json()["faults"] == []


@pytest.mark.parametrize(
    "body",
    [{}, {"rules": ["nonsense"]}, {"target": "m"}, {"target": "m", "kind": "no such"}, {"target": "m", "kind": "cold",
     "probability": 7}, {"target": MODEL, "kind": "stall", "seconds": "long"}, {"target": "nobody", "kind": "cold"},
     {"target": MODEL, "kind": "cold", "times": "2"}, {"target": MODEL, "kind": "cold", "times": 0},
     {"target": MODEL, "kind": "cold", "probabilty": 0.5}, {"rules": ["*=cold"], "seed": "7"},
     {"target": MODEL, "kind": "stall", "after": True}, {"target": MODEL, "kind": "retry_after", "value": "1\r\nX: y"}],
)  # fmt: skip
def test_faults_that_make_no_sense_are_refused(http: httpx.Client, body: dict[str, object]) -> None:
    """A wrong rule is a 400 that says what is wrong."""
    response = http.post("/local/faults", json=body)
    assert response.status_code == 400
    assert len(response.json()["detail"]) > 20


def test_the_journal_is_read_and_cleared(ask: Ask, http: httpx.Client, server: LocalChutes) -> None:
    """The journal comes as JSON, for all or one model, with the bill."""
    usage = [ask(model=name).json()["usage"] for name in (MODEL, OTHER)]
    server.journal.wait(2)
    found = http.get("/local/journal", params={"model": OTHER}).json()
    assert [entry["model"] for entry in found["entries"]] == [OTHER]
    assert found["billed"]["prompt_tokens"] == usage[1]["prompt_tokens"]
    assert http.delete("/local/journal").status_code == 204
    assert http.get("/local/journal").json()["entries"] == []


def test_models_account_and_clock(ask: Ask, http: httpx.Client, server: LocalChutes) -> None:
    """A model, the account and the time can be changed; reset undoes it."""
    assert http.patch(f"/local/models/{MODEL}", json={"machines": 0}).json()["machines"] == 0
    assert ask().status_code == 503
    assert http.patch("/local/account", json={"quota": 0, "balance": 0}).status_code == 200
    assert ask(model=OTHER).status_code == 402
    now = server.clock()
    assert http.post("/local/clock", json={"advance": 1000}).json()["now"] >= now + 1000
    assert http.post("/local/reset").status_code == 204
    assert ask().status_code == 200
    assert server.clock() < now + 1000


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/local/models/nobody", {"machines": 0}),
        ("PATCH", f"/local/models/{MODEL}", {"reasoning": "loud"}),
        ("PATCH", "/local/account", {"name": "x"}),
        ("PATCH", "/local/account", {"quota": True}),
        ("PATCH", f"/local/models/{MODEL}", {"machines": "many"}),
        ("PATCH", f"/local/models/{MODEL}", {"machines": -1}),
        ("PATCH", f"/local/models/{MODEL}", {"busy": "no"}),
        ("POST", "/local/clock", {}),
        ("POST", "/local/clock", {"advance": 1e15}),
    ],
)
def test_wrong_changes_are_refused(http: httpx.Client, method: str, path: str, body: dict[str, object]) -> None:
    """What cannot be changed is a 400 that says what can."""
    assert http.request(method, path, json=body).status_code == 400
