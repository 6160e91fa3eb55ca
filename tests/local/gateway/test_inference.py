"""Admission, the gateway's own failover, and faults that come instead of an answer."""

from __future__ import annotations

import httpx
import pytest

from chutes_local import LocalChutes
from chutes_local.faults.kinds import KINDS, Phase
from tests.local.conftest import EMBEDDER, MODEL, OTHER, Ask, events, request_over_socket

POOL = f"{MODEL},{OTHER}"
OUTSIDE = "chutes-local/outside-sample"


def test_without_a_key_the_edge_answers_429(server: LocalChutes) -> None:
    """No key, an empty one, or X-API-Key alone: 429 in HTML."""
    for headers in ({}, {"Authorization": "Bearer"}, {"X-API-Key": server.api_key}):
        response = httpx.post(f"{server.base_url}/chat/completions", json={"model": MODEL}, headers=headers)
        assert response.status_code == 429
        assert response.headers["content-type"].startswith("text/html")
        assert "<h1>429 Too Many Requests</h1>" in response.text
    assert server.journal.last.fault == "keyless"


@pytest.mark.parametrize(
    ("key", "status", "phrase"),
    [
        ("cpk_bad", 401, "Invalid token or user not found"),
        ("cpk_poor", 402, "Quota exceeded and account balance is $0.0"),
        ("cpk_capped", 402, "Subscription usage cap exceeded."),
        ("cpk_free", 429, "Free models limit reached for today"),
        ("cak_unknown", 401, "Authentication required."),
    ],
)
def test_keys_of_trouble(ask: Ask, key: str, status: int, phrase: str) -> None:
    """The documented keys fail as the service fails, and no good answer's headers come along."""
    response = ask(headers={"Authorization": f"Bearer {key}"})
    assert response.status_code == status
    assert phrase in str(response.json()["detail"])
    assert "x-chutes-invocationid" not in response.headers


@pytest.mark.parametrize("value", ["Bearer anything", "cpk_plain", "Basic cpk_plain"])
def test_other_keys_are_accepted(ask: Ask, value: str) -> None:
    """Any other key works, in any of the spellings that the service parses."""
    assert ask(headers={"Authorization": value}).status_code == 200


def test_the_quota_runs_out(ask: Ask, server: LocalChutes) -> None:
    """A used-up quota without balance ends in 402 with the time of the reset."""
    server.accounts.default.quota, server.accounts.default.balance = 1, 0.0
    server.change(MODEL, tee=False)
    assert ask().status_code == 200
    response = ask()
    assert response.status_code == 402
    assert response.json()["detail"]["quota_reset_timestamp"].endswith("T00:00:00+00:00")


def test_a_bare_name_is_renamed(ask: Ask) -> None:
    """The gateway adds -TEE to a bare name, and answers under the full one."""
    assert ask(model=MODEL.removesuffix("-TEE")).json()["model"] == MODEL


@pytest.mark.parametrize("model", ["nobody/knows", EMBEDDER, "default", "", "x,y"])
def test_what_leads_nowhere_is_a_404(ask: Ask, model: str) -> None:
    """Unknown names, the embedding model, and an alias nobody made are not found."""
    response = ask(model=model)
    assert response.status_code == 404
    assert response.json() == {"detail": f"model not found: {model}"}


@pytest.mark.parametrize("kind", ["capacity", "cold", "disabled", "rate_limit"])
def test_429_and_503_lead_to_the_next_member(ask: Ask, server: LocalChutes, kind: str) -> None:
    """The gateway's own failover tries the next member; the reply says who answered."""
    server.faults.add(MODEL, kind)
    assert ask(model=POOL).json()["model"] == OTHER
    tries = server.journal.wait(1)[0].attempts
    assert [(t.model, t.fault) for t in tries] == [(MODEL, kind), (OTHER, None)]
    assert [t.status for t in tries][1] == 200


@pytest.mark.parametrize("kind", ["exhausted", "quota", "auth", "not_found", "bad_request", "not_tee"])
def test_other_statuses_end_the_chain(ask: Ask, server: LocalChutes, kind: str) -> None:
    """Nothing but 429 and 503 leads on."""
    server.faults.add(MODEL, kind)
    assert ask(model=POOL).status_code not in (200, 429, 503)
    assert len(server.journal.wait(1)[0].attempts) == 1


def test_at_the_end_the_first_error_stands(ask: Ask, server: LocalChutes) -> None:
    """When all members fail, the first one's error is the answer."""
    server.faults.add(MODEL, "capacity").add(OTHER, "cold")
    response = ask(model=POOL)
    assert response.status_code == 429
    assert "maximum capacity" in response.json()["detail"]


def test_nothing_fails_over_after_the_first_chunk(ask: Ask, server: LocalChutes) -> None:
    """A stream that breaks later stays broken."""
    server.faults.add(MODEL, "error_line")
    response = ask(model=POOL, stream=True)
    assert events(response)[0]["model"] == MODEL
    assert len(server.journal.wait(1)[0].attempts) == 1


def test_states_of_a_model(ask: Ask, server: LocalChutes) -> None:
    """Cold is 503, busy 429, disabled 503; a pool that is cold altogether is a 404."""
    server.change(MODEL, machines=0)
    assert "No instances available (yet) for chute_id='ac059e33" in ask().json()["detail"]
    server.change(OTHER, machines=0)
    assert ask(model=POOL).status_code == 404
    server.change(MODEL, machines=1, busy=True)
    assert ask().status_code == 429
    server.change(MODEL, busy=False, disabled=True)
    assert (ask().status_code, ask().json()["detail"]) == (503, "This chute is currently disabled.")


def test_tee_only(ask: Ask) -> None:
    """X-TEE-Only refuses a chute without TEE, and it alone."""
    headers = {"X-TEE-Only": "true"}
    assert ask(headers=headers).status_code == 200
    response = ask(model=OUTSIDE, headers=headers)
    assert response.status_code == 426
    assert "does not have TEE enabled" in response.json()["detail"]
    assert ask(model=OUTSIDE).status_code == 200


def test_an_alias_is_a_pool(ask: Ask, http: httpx.Client, server: LocalChutes) -> None:
    """An alias made over the management API routes like a list."""
    ids = [chute.chute_id for name in (MODEL, OTHER) if (chute := server.fleet.find(name))]
    assert http.post("/api/model_aliases/", json={"alias": "default", "chute_ids": ids}).status_code == 201
    server.faults.add(MODEL, "capacity")
    assert ask(model="default").json()["model"] == OTHER


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.phase is Phase.STATUS])
def test_every_whole_answer_arrives_as_written(ask: Ask, server: LocalChutes, kind: str, stream: bool) -> None:
    """Each kind that is a whole answer comes back with its status and body, streamed or not."""
    server.faults.add(MODEL, kind)
    response = ask(stream=stream)
    expected = KINDS[kind].summary.split(":")[0].split(" ")[0]
    assert str(response.status_code) == expected
    html = response.headers["content-type"].startswith("text/html")
    assert html or kind == "empty_500" or "detail" in response.json()
    assert server.journal.wait(1)[0].fault == kind


@pytest.mark.parametrize(("value", "header"), [("", "5"), ("300", "300"), ("garbage", "soon")])
def test_retry_after_in_its_forms(ask: Ask, server: LocalChutes, value: str, header: str) -> None:
    """Retry-After carries seconds, a date or nonsense."""
    server.faults.parse(f"{MODEL}=retry_after(value={value})" if value else f"{MODEL}=retry_after")
    assert ask().headers["retry-after"] == header


def test_retry_after_as_a_date(ask: Ask, server: LocalChutes) -> None:
    """The date is one of HTTP's."""
    server.faults.parse(f"{MODEL}=retry_after(value=date)")
    assert ask().headers["retry-after"].endswith(" GMT")


def test_a_hang_ends_at_the_edge(ask: Ask, server: LocalChutes) -> None:
    """After the silence the edge answers 504 in HTML."""
    server.faults.parse("*=hang(seconds=0)")
    response = ask()
    assert response.status_code == 504
    assert "504 Gateway Time-out" in response.text


def test_a_slow_start_ends_well(ask: Ask, server: LocalChutes) -> None:
    """After the silence the true answer comes."""
    server.faults.parse("*=slow_start(seconds=0)")
    assert ask().status_code == 200


def test_who_hangs_up_is_noted(server: LocalChutes) -> None:
    """A client that leaves during the silence is noted, and costs nothing."""
    server.faults.parse("*=hang(seconds=60)")
    request_over_socket(server).close()
    entry = server.journal.wait(1)[0]
    assert (entry.ended, entry.status, entry.billed.total) == ("client left", None, 0)


def test_a_body_that_is_too_large(server: LocalChutes, http: httpx.Client) -> None:
    """413, and the connection is closed."""
    server.world.max_body = 10
    try:
        response = http.post("/v1/chat/completions", json={"model": MODEL, "messages": []})
    finally:
        server.world.max_body = 10**8
    assert response.status_code == 413
    assert response.json() == {"detail": "Request body is too large."}
    assert response.headers["connection"] == "close"


def test_own_hosts_lack_what_the_gateway_adds(server: LocalChutes, http: httpx.Client) -> None:
    """On a model's own host no name is needed, patterns pass, and the thinking suffix means nothing."""
    path = server.chute_url(MODEL).removeprefix(server.url) + "/chat/completions"
    body = {"messages": [{"role": "user", "content": "hi"}], "guided_json": {"pattern": "x"}}
    reply = http.post(path, json={**body, "model": "whatever:THINKING"})
    assert reply.status_code == 200
    assert reply.json()["model"] == MODEL
    assert "<think>" not in reply.json()["choices"][0]["message"]["content"]
