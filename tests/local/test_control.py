"""The server's own controls by HTTP."""

from __future__ import annotations

import httpx
import pytest

from chutes_local import LocalChutes
from chutes_local.faults.kinds import KINDS
from tests.local.conftest import MODEL, OTHER, Ask


def test_the_overview_says_what_it_is(http: httpx.Client) -> None:
    """The overview names the backend, the models and every kind of fault."""
    found = http.get("/local").json()
    assert "not the service" in found["what"]
    assert found["is_model"] is False
    assert MODEL in found["models"]
    assert set(found["fault_kinds"]) == set(KINDS)


def test_faults_are_set_listed_and_cleared(ask: Ask, http: httpx.Client) -> None:
    """Rules as text, in fields, or as a script; then none."""
    made = http.post("/local/faults", json={"rules": [f"{MODEL}=capacity x1"], "seed": 3})
    assert (made.status_code, made.json()) == (201, {"seed": 3, "faults": [f"{MODEL}=capacity (1 left)"]})
    http.post("/local/faults", json={"target": MODEL, "kind": "cold", "times": 1})
    http.post("/local/faults", json={"target": MODEL, "script": ["exhausted", None, "quota"]})
    assert [ask().status_code for _ in range(6)] == [429, 503, 500, 200, 402, 200]
    http.post("/local/faults", json={"target": "*", "kind": "auth"})
    assert http.delete("/local/faults").status_code == 204
    assert ask().status_code == 200
    assert http.get("/local/faults").json()["faults"] == []


@pytest.mark.parametrize(
    "body",
    [{}, {"rules": ["nonsense"]}, {"target": "m"}, {"target": "m", "kind": "no such"}, {"target": "m", "kind": "cold",
     "probability": 7}, {"target": "m", "kind": "stall", "seconds": "long"}],
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
        ("POST", "/local/clock", {}),
    ],
)
def test_wrong_changes_are_refused(http: httpx.Client, method: str, path: str, body: dict[str, object]) -> None:
    """What cannot be changed is a 400 that says what can."""
    assert http.request(method, path, json=body).status_code == 400
