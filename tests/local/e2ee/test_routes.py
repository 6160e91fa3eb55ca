"""The encrypted path of the embedded server: who is let in, what is opened, what goes wrong."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidTag

from chutes_local import LocalChutes, serve
from chutes_local.e2ee.proof import LIES
from chutes_local.faults.kinds import KINDS, Phase

MODEL = "Qwen/Qwen3-32B-TEE"
EMBEDDER = "Qwen/Qwen3-Embedding-8B-TEE"
OUTSIDE = "chutes-local/outside-sample"
NUMBER = "ab" * 32
theirs = pytest.importorskip("chutes_e2ee.crypto", reason="the published client opens the answers here")


@pytest.fixture(scope="module")
def server() -> Iterator[LocalChutes]:
    with serve(backend="echo") as chutes:
        yield chutes


@pytest.fixture(autouse=True)
def _as_new(server: LocalChutes) -> None:
    server.reset()


@pytest.fixture
def http(server: LocalChutes) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {server.api_key}"}
    with httpx.Client(base_url=server.management_url, headers=headers, timeout=60) as client:
        yield client


def chute_of(server: LocalChutes, model: str = MODEL) -> str:
    chute = server.fleet.find(model)
    assert chute is not None
    return chute.chute_id


def listed(server: LocalChutes, http: httpx.Client, model: str = MODEL) -> list[dict[str, Any]]:
    reply = http.get(f"/e2e/instances/{chute_of(server, model)}")
    assert reply.status_code == 200, reply.text
    rows: list[dict[str, Any]] = reply.json()["instances"]
    return rows


Invoke = Callable[..., tuple[httpx.Response, bytes]]


@pytest.fixture
def invoke(server: LocalChutes, http: httpx.Client) -> Invoke:
    """Send a sealed request; gives the reply, and the key that opens it."""

    def send(
        body: dict[str, Any] | None = None,
        *,
        row: dict[str, Any] | None = None,
        model: str = MODEL,
        path: str = "/v1/chat/completions",
        stream: bool = False,
        blob: bytes | None = None,
        **headers: str,
    ) -> tuple[httpx.Response, bytes]:
        row = row or listed(server, http, model)[0]
        whole = {"model": model, "messages": [{"role": "user", "content": "A walrus?"}], "stream": stream}
        made = theirs.build_e2ee_request(row["e2e_pubkey"], whole if body is None else body)
        sent = {
            "X-Chute-Id": chute_of(server, model),
            "X-Instance-Id": row["instance_id"],
            "X-E2E-Nonce": row["nonces"].pop(),
            "X-E2E-Stream": str(stream).lower(),
            "X-E2E-Path": path,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return http.post("/e2e/invoke", content=blob or made.blob, headers=sent), made.response_sk

    return send


def opened(reply: httpx.Response, key: bytes) -> list[str]:
    """Open a stream with the published client's functions."""
    events = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]
    agreed = theirs.decrypt_stream_init(key, events[0]["e2e_init"])
    plain = "".join(theirs.decrypt_stream_chunk(event["e2e"], agreed) for event in events if "e2e" in event)
    return [f"{event}\n\n" for event in plain.split("\n\n") if event]


def test_machines_are_given_out_with_keys_and_numbers(server: LocalChutes, http: httpx.Client) -> None:
    """At most five of a model's machines, ten numbers each, good for a minute."""
    server.change(MODEL, machines=8)
    reply = http.get(f"/e2e/instances/{chute_of(server)}").json()
    assert [len(row["nonces"]) for row in reply["instances"]] == [10] * 5
    assert all(len(base64.b64decode(row["e2e_pubkey"])) == 1184 for row in reply["instances"])
    assert reply["nonce_expires_in"] == 60
    assert len({nonce for row in reply["instances"] for nonce in row["nonces"]}) == 50


def test_a_machine_keeps_its_key(server: LocalChutes, http: httpx.Client) -> None:
    """From one question to the next."""
    first, second = ({row["instance_id"]: row["e2e_pubkey"] for row in listed(server, http)} for _ in "ab")
    assert first == second


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        ({"machines": 0}, 404, "No active instances found for this chute"),
        ({}, 200, ""),
    ],
)
def test_who_has_no_machine_is_told_so(
    server: LocalChutes, http: httpx.Client, state: dict[str, Any], status: int, words: str
) -> None:
    """In the service's words."""
    server.change(MODEL, **state)
    reply = http.get(f"/e2e/instances/{chute_of(server)}")
    assert (reply.status_code, reply.json().get("detail", "")) == (status, words)


@pytest.mark.parametrize("model", [MODEL, "00000000-0000-0000-0000-000000000000"])
def test_machines_are_asked_for_by_the_id_of_a_chute(http: httpx.Client, model: str) -> None:
    """A name is not enough, and an id must be one."""
    assert http.get(f"/e2e/instances/{model}").status_code == 404


def test_a_model_without_confidential_compute_has_no_such_machine(server: LocalChutes, http: httpx.Client) -> None:
    """Nor evidence."""
    chute = chute_of(server, OUTSIDE)
    assert "E2E-capable" in http.get(f"/e2e/instances/{chute}").text
    assert http.get(f"/chutes/{chute}/evidence", params={"nonce": NUMBER}).status_code == 400


def test_ten_questions_a_minute_and_no_more(server: LocalChutes, http: httpx.Client) -> None:
    """For everybody together; the next minute begins anew."""
    statuses = [http.get(f"/e2e/instances/{chute_of(server)}").status_code for _ in range(11)]
    assert statuses == [200] * 10 + [429]
    server.clock.advance(60)
    assert http.get(f"/e2e/instances/{chute_of(server)}").status_code == 200


def test_without_a_key_nobody_is_let_in(server: LocalChutes) -> None:
    """Neither to the machines nor through them."""
    with httpx.Client(base_url=server.management_url) as http:
        assert http.get(f"/e2e/instances/{chute_of(server)}").status_code == 401
        assert http.post("/e2e/invoke", content=b"x").status_code == 401


def test_a_request_is_opened_and_its_answer_sealed(server: LocalChutes, invoke: Invoke) -> None:
    """The journal has what the machine read; the socket has none of it."""
    reply, key = invoke()
    assert reply.headers["content-type"] == "application/octet-stream"
    assert b"walrus" not in reply.content
    answer = theirs.decrypt_response(reply.content, key)
    assert answer["choices"][0]["message"]["content"].endswith("A walrus?")
    entry = server.journal.wait(2)[-1]
    assert entry.body == {"model": MODEL, "messages": [{"role": "user", "content": "A walrus?"}], "stream": False}
    assert (entry.model, entry.status, entry.billed.total > 0) == (MODEL, 200, True)
    assert reply.headers["x-chutes-quota-used"] == "0"


def test_a_stream_is_sealed_line_by_line(invoke: Invoke) -> None:
    """Each line and each blank line in a frame, the end marker inside, and no usage in the clear."""
    reply, key = invoke(stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert "walrus" not in reply.text
    events = opened(reply, key)
    assert events[-1] == "data: [DONE]\n\n"
    words = [json.loads(event[6:])["choices"] for event in events[:-1]]
    assert "".join(each[0]["delta"].get("content") or "" for each in words if each).endswith("A walrus?")
    lines = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]
    assert [next(iter(line)) for line in lines] == ["e2e_init"] + ["e2e"] * 2 * len(events)
    assert reply.text.count("\n\n\n") == len(events) - 1  # where a machine had stated its usage


def test_a_sealed_answer_is_continued_and_no_flag_is_settled_on_the_way(invoke: Invoke) -> None:
    """The gateway cannot read the request, so the machine gets the flags as they were sent."""
    begun = {"role": "assistant", "content": "This is the echo backend,"}
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "A walrus?"}, begun],
        "continue_final_message": True,
    }
    reply, key = invoke({**body, "add_generation_prompt": False})
    whole = theirs.decrypt_response(reply.content, key)
    assert whole["choices"][0]["message"]["content"] == " not a model. You said: A walrus?"
    refused, _ = invoke({**body, "add_generation_prompt": True})
    assert refused.status_code == 400


def test_embeddings_and_texts_take_the_path_too(invoke: Invoke) -> None:
    """Every cord of a model's own host."""
    reply, key = invoke({"model": EMBEDDER, "input": ["a"]}, model=EMBEDDER, path="/v1/embeddings")
    assert theirs.decrypt_response(reply.content, key)["data"][0]["embedding"]
    reply, key = invoke({"model": MODEL, "prompt": "Once"}, path="/v1/completions")
    assert theirs.decrypt_response(reply.content, key)["choices"][0]["text"]
    assert invoke(path="/v1/nothing")[0].status_code == 404


def test_a_number_is_good_once(server: LocalChutes, http: httpx.Client, invoke: Invoke) -> None:
    """Also when the request that used it failed."""
    row = listed(server, http)[0]
    token = row["nonces"][-1]
    assert invoke(row=row, blob=b"too short")[0].status_code == 400
    again, _ = invoke(row={**row, "nonces": [token]})
    assert (again.status_code, again.json()["detail"]) == (403, "Invalid, expired, or already-used nonce")


def test_a_number_is_good_for_its_machine_user_and_time(
    server: LocalChutes, http: httpx.Client, invoke: Invoke
) -> None:
    """For another machine, another key, or a minute and a half later it is not."""
    rows = listed(server, http)
    assert invoke(row={**rows[0], "instance_id": rows[1]["instance_id"]})[0].status_code == 403
    assert invoke(row=rows[0], Authorization="Bearer cpk_scoped")[0].status_code == 403
    server.clock.advance(76)
    assert invoke(row=rows[0])[0].status_code == 403


def test_a_machine_that_has_left_is_gone(server: LocalChutes, http: httpx.Client, invoke: Invoke) -> None:
    """410; and a model that is switched off or busy says so, after the number is used up."""
    rows = sorted(listed(server, http), key=lambda row: str(row["instance_id"]))
    server.change(MODEL, machines=1)
    assert invoke(row=rows[1])[0].status_code == 410
    server.change(MODEL, busy=True)
    assert "Instance is at maximum capacity" in invoke(row=rows[0])[0].text
    server.change(MODEL, disabled=True)
    assert invoke(row=rows[0])[0].status_code == 503
    assert len(rows[0]["nonces"]) == 8


def test_the_account_is_asked_as_ever(server: LocalChutes, http: httpx.Client, invoke: Invoke) -> None:
    """Who has no balance gets a 402."""
    headers = {"Authorization": "Bearer cpk_poor"}
    row = http.get(f"/e2e/instances/{chute_of(server)}", headers=headers).json()["instances"][0]
    assert invoke(row=row, Authorization="Bearer cpk_poor")[0].status_code == 402


def test_a_header_that_is_missing_is_named(http: httpx.Client) -> None:
    """As the service's framework does."""
    reply = http.post("/e2e/invoke", content=b"x", headers={"X-Chute-Id": "c"})
    assert (reply.status_code, reply.json()["detail"][0]["loc"]) == (422, ["header", "X-Instance-Id"])


@pytest.mark.parametrize("blob", [b"x", b"\0" * 1500])
def test_what_cannot_be_opened_is_refused(invoke: Invoke, blob: bytes) -> None:
    """Too short, or locked for somebody else."""
    reply, _ = invoke(blob=blob)
    assert (reply.status_code, reply.json()["detail"]) == (400, "E2E decryption failed")


STATUSES = [name for name, kind in KINDS.items() if kind.phase is Phase.STATUS]


@pytest.mark.parametrize("kind", STATUSES)
def test_every_refusal_happens_on_this_path_too(server: LocalChutes, invoke: Invoke, kind: str) -> None:
    """With its status; a machine's own reason for a 400 cannot be read."""
    server.faults.add(MODEL, kind)
    reply, _ = invoke()
    assert str(reply.status_code) == KINDS[kind].summary[:3]
    if reply.status_code == 400:
        assert " " not in reply.json()["detail"]
        assert len(reply.json()["detail"]) == 400
    assert server.journal.wait(2)[-1].fault == kind


INSIDE = [
    "no_finish",
    "error_line",
    "error_event",
    "restart",
    "malformed",
    "empty",
    "done_only",
    "no_done",
    "role_only",
]


@pytest.mark.parametrize("kind", INSIDE)
def test_a_fault_of_an_answer_happens_inside_the_seal(server: LocalChutes, invoke: Invoke, kind: str) -> None:
    """Every frame opens; what is in them is what the plain path would have sent."""
    server.faults.add(MODEL, f"{kind}(after=1)")
    reply, key = invoke(stream=True)
    events = opened(reply, key)
    ids = {json.loads(event[6:]).get("id") for event in events if event.startswith("data: {") and "}\n" in event}
    done = "data: [DONE]\n\n" in events
    expected = {
        "no_finish": not done,
        "error_line": events[-1:] != [] and events[-1].startswith('{"error"'),
        "error_event": any('"the engine stopped' in event or "error" in event for event in events),
        "restart": len(ids) == 2,
        "malformed": any(event.endswith('[{"in\n\n') for event in events),
        "empty": events == [],
        "done_only": len(events) == 3,
        "no_done": not done and len(events) > 3,
        "role_only": done,
    }
    assert expected[kind], events


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["reset", "half_close"])
def test_a_broken_connection_breaks_the_sealed_body(
    server: LocalChutes, invoke: Invoke, kind: str, stream: bool
) -> None:
    """In its middle, whole or streamed."""
    server.faults.add(MODEL, kind)
    with pytest.raises(httpx.RemoteProtocolError if kind == "half_close" else httpx.HTTPError):
        invoke(stream=stream)


@pytest.mark.parametrize("kind", ["stall(seconds=0.01)", "slow_drip(seconds=0)", "hang_after_headers(seconds=0.01)"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_slow_answer_is_whole(server: LocalChutes, invoke: Invoke, kind: str, stream: bool) -> None:
    """It opens in the end."""
    server.faults.add(MODEL, kind)
    reply, key = invoke(stream=stream)
    assert opened(reply, key)[-1] == "data: [DONE]\n\n" if stream else theirs.decrypt_response(reply.content, key)


# What the published client's functions raise on bytes that are not as they should be.
UNREADABLE = (InvalidTag, ValueError, RuntimeError, EOFError)
SEALED = {
    "sealed_replay": lambda text, events: len(text.split("\n\n")) > len(set(text.split("\n\n"))),
    "sealed_clear": lambda text, events: '"choices"' in text,
    "sealed_cut": lambda text, events: not text.endswith("}\n\n"),
    "sealed_error": lambda text, events: "e2e_error" in text,
}


@pytest.mark.parametrize("kind", [*SEALED, "sealed_flip", "sealed_swap", "sealed_no_init"])
def test_the_sealed_form_can_be_wrong_too(server: LocalChutes, invoke: Invoke, kind: str) -> None:
    """Each kind shows in the bytes or in what they open to."""
    plain, key = invoke(stream=True)
    good = len(opened(plain, key))
    server.faults.add(MODEL, f"{kind}(after=1)")
    reply, key = invoke(stream=True)
    if kind == "sealed_no_init":
        assert "e2e_init" not in reply.text
    elif kind == "sealed_flip":
        with pytest.raises(UNREADABLE):
            opened(reply, key)
    elif kind == "sealed_swap":
        events = opened(reply, key)
        counts = [json.loads(event[6:])["usage"]["completion_tokens"] for event in events if "usage" in event]
        assert len(events) == good
        assert counts != sorted(counts)
    elif kind == "sealed_cut":
        assert not reply.text.endswith("}\n\n")
    else:
        assert SEALED[kind](reply.text, opened(reply, key))


@pytest.mark.parametrize("kind", ["sealed_flip", "sealed_cut", "sealed_clear", "sealed_error", "malformed", "empty"])
def test_a_whole_sealed_reply_can_be_wrong_too(server: LocalChutes, invoke: Invoke, kind: str) -> None:
    """It does not open to an answer."""
    server.faults.add(MODEL, kind)
    reply, key = invoke()
    assert reply.status_code == 200
    with pytest.raises(UNREADABLE):
        theirs.decrypt_response(reply.content, key)


def test_evidence_binds_the_key_to_the_number(server: LocalChutes, http: httpx.Client) -> None:
    """As real evidence does; the whole list and one machine's alone."""
    keys = {row["instance_id"]: row["e2e_pubkey"] for row in listed(server, http)}
    rows = http.get(f"/chutes/{chute_of(server)}/evidence", params={"nonce": NUMBER}).json()["evidence"]
    assert {row["instance_id"] for row in rows} == set(keys)
    one = http.get(f"/instances/{rows[0]['instance_id']}/evidence", params={"nonce": NUMBER}).json()
    for row in [*rows, one]:
        body = base64.b64decode(row["quote"])[48:632]
        assert body[520:552] == hashlib.sha256((NUMBER + keys[row["instance_id"]]).encode()).digest()
    measured = http.get("/servers/tee/measurements").json()[0]
    assert measured["mrtd"].lower() == body[136:184].hex()
    assert "no hardware" in measured["name"]


@pytest.mark.parametrize("number", ["", "ab", "zz" * 32])
def test_a_number_for_evidence_has_a_form(server: LocalChutes, http: httpx.Client, number: str) -> None:
    """Sixty-four hexadecimal digits."""
    reply = http.get(f"/chutes/{chute_of(server)}/evidence", params={"nonce": number})
    assert (reply.status_code, reply.json()["detail"]) == (400, "Nonce must be exactly 64 hex characters")


def test_evidence_of_nobody_is_not_found(http: httpx.Client) -> None:
    """Neither of a model nor of a machine."""
    assert http.get("/chutes/nobody/evidence", params={"nonce": NUMBER}).status_code == 404
    assert http.get("/instances/nobody/evidence", params={"nonce": NUMBER}).status_code == 404


@pytest.mark.parametrize("lie", LIES)
def test_evidence_can_be_made_not_to_hold(server: LocalChutes, http: httpx.Client, lie: str) -> None:
    """Each lie changes it, and a reset takes it back."""
    listed(server, http)
    page = f"/chutes/{chute_of(server)}/evidence"
    true = http.get(page, params={"nonce": NUMBER}).json()
    server.world.sealed.lies.add(lie)
    assert http.get(page, params={"nonce": NUMBER}).json() != true
    server.reset()
    assert not server.world.sealed.lies
