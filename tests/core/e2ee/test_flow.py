"""A call through the encrypted path: what is asked, what is sent, and what comes of every failure."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from chutes_core import errors
from chutes_core.calls.bodies import CHAT
from chutes_core.calls.effects import Open, Sleep, adrive, arun, drive, run
from chutes_core.e2ee import E2EE, SealedPath, attest
from chutes_core.errors import APIError, Kind
from chutes_core.response import Reply
from chutes_core.settings import TimeLimits
from chutes_core.usage import Usage
from chutes_local.wire.seal import MachineKey

from .dcap import CHAINS, FakeDcap
from .machine import WORDS, plain_events, sealed_lines
from .service import (
    ANSWER,
    EMBEDDED,
    INFO,
    PROMPT,
    URL,
    AsyncHand,
    Hand,
    Service,
    Step,
    WireFailure,
    detail,
    known,
    planned,
    sealed_path,
)

SECRET_WORDS = ("walrus", "floes")


def ask(service: Service, *, stream: bool = False, path: SealedPath | None = None, **options: Any) -> Reply:
    flow, _ = planned(service, path or sealed_path(service), stream=stream, **options)
    reply: Reply = run(flow, Hand(service))
    return reply


def failed(service: Service, **options: Any) -> APIError:
    with pytest.raises(APIError) as caught:
        ask(service, **options)
    return caught.value


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_gives_what_the_plain_call_gives(stream: bool) -> None:
    """The answer, its usage, and what the headers said."""
    service = Service()
    reply = ask(service, stream=stream)
    assert reply.content == ("".join(WORDS) if stream else "On the floes.")
    assert reply.usage is not None
    assert reply.usage.completion_tokens == (5 if stream else 4)
    assert (reply.model, reply.meta.invocation_id) == (INFO.id, "inv-1")


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_sent_is_sealed_and_says_where_to(stream: bool) -> None:
    """The machine gets the request with the exact name; on the wire stand the headers and no word of it."""
    service = Service()
    ask(service, stream=stream)
    name, headers = service.sealed[0]
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["X-Chute-Id"] == INFO.chute_id
    assert headers["X-Instance-Id"] == name
    assert headers["X-E2E-Stream"] == ("true" if stream else "false")
    assert headers["X-E2E-Path"] == "/v1/chat/completions"
    assert (service.bodies[0]["model"], service.bodies[0]["messages"]) == (INFO.id, PROMPT)
    assert isinstance(service.sent[0], bytes)
    assert b"walrus" not in service.sent[0]


def test_the_second_call_asks_nobody_anything() -> None:
    """Machines and their proof are kept."""
    service = Service()
    path = sealed_path(service)
    for _ in range(20):
        ask(service, path=path)
    assert [place for _, place in service.asked].count("/e2e/invoke") == 20
    assert len(service.asked) == 20 + 3
    assert len(set(service.used)) == 20


def test_proofs_are_asked_for_again_after_some_minutes() -> None:
    """Machines are asked for every minute, their proof and the list of measurements less often."""
    service = Service()
    path = sealed_path(service)
    for _ in range(30):
        ask(service, path=path)
        service.clock.advance(60)
    assert service.questions("/e2e/instances") == 30
    assert service.questions("/evidence") == 3
    assert service.questions("/measurements") == 1


def test_however_long_numbers_hold_a_proof_does_not_hold_longer() -> None:
    """The service says how long its numbers do: nothing is sealed for who proved himself ten minutes ago."""
    service = Service(good_for=1e9)
    path = sealed_path(service)
    assert ask(service, path=path).meta.attested is not None
    service.clock.advance(596)
    ask(service, path=path)
    assert (service.questions("/evidence"), service.questions("/e2e/instances")) == (1, 2)
    service.clock.advance(5)
    assert ask(service, path=path).meta.attested is not None
    assert (service.questions("/evidence"), service.questions("/e2e/instances")) == (2, 3)
    service.lies.add("debug")
    service.clock.advance(601)
    assert isinstance(failed(service, path=path), errors.AttestationError)
    assert len(service.sent) == 3


Refusal = tuple[Step, Kind]
RETRIED: list[Refusal] = [
    (detail(403, "Invalid, expired, or already-used nonce"), Kind.SEALED_NONCE),
    (detail(404, "Instance not found"), Kind.SEALED_INSTANCE),
    (detail(410, "Instance is no longer active"), Kind.SEALED_INSTANCE),
    (detail(502, "Instance requires key exchange, try a different instance"), Kind.SEALED_INSTANCE),
    (detail(429, "Instance is at maximum capacity, try again later"), Kind.SEALED_BUSY),
    (detail(500, "Internal error during E2E invocation"), Kind.UPSTREAM),
    (WireFailure("connect", "no route"), Kind.CONNECT),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("refusal", "kind"), RETRIED, ids=[kind.value for _, kind in RETRIED])
def test_a_refusal_is_retried_at_another_machine_with_a_fresh_number(refusal: Step, kind: Kind, stream: bool) -> None:
    """By the failure table, as often as it allows; no number is sent twice."""
    service = Service(machines=3, script=[refusal, refusal])
    assert ask(service, stream=stream).content
    assert len(set(service.used)) == 3
    if kind is not Kind.SEALED_NONCE:
        assert len({name for name, _ in service.sealed}) == 3
    error = failed(Service(machines=3, script=[refusal] * 3), stream=stream)
    assert error.kind is kind


def test_a_number_that_was_refused_takes_the_others_with_it() -> None:
    """They are as old; fresh ones are asked for."""
    service = Service(script=[detail(403, "Invalid, expired, or already-used nonce")])
    ask(service)
    assert service.questions("/e2e/instances") == 2


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        (detail(404, "No active instances found for this chute"), Kind.COLD),
        (detail(404, "No E2E-capable instances available"), Kind.COLD),
        (detail(404, "Chute not found"), Kind.MODEL_NOT_FOUND),
        (detail(429, "Rate limit exceeded. Try again later."), Kind.ENDPOINT_LIMIT),
        (detail(401, "Invalid token or user not found"), Kind.AUTHENTICATION),
        (WireFailure("timeout", "late"), Kind.TOTAL_TIMEOUT),
        ({"instances": []}, Kind.COLD),
        ({"instances": "none"}, Kind.MALFORMED),
        (b"<html>", Kind.MALFORMED),
    ],
)
def test_without_machines_nothing_is_sent(page: Any, kind: Kind) -> None:
    """The failure is the one that the service's words mean, and no byte of the request goes out."""
    service = Service(pages={f"/{INFO.chute_id}": page})
    assert failed(service, retries=0).kind is kind
    assert service.sent == []


def test_a_key_that_is_none_is_no_machine() -> None:
    """With the proof off, a machine with a broken key is passed over at the sealing."""
    rows = [{"instance_id": "machine-0", "e2e_pubkey": "AAAA", "nonces": ["n"]}]
    service = Service(pages={f"/{INFO.chute_id}": {"instances": rows, "nonce_expires_in": 60}})
    with pytest.raises(APIError) as caught:
        ask(service, path=sealed_path(service, verify="off"), retries=1)
    assert caught.value.kind is Kind.SEALED_INSTANCE
    assert service.sent == []


LIES = ["debug", "stale", "other_key", "other_certificate", "unlisted", "broken", "missing"]


@pytest.mark.parametrize("lie", LIES)
def test_a_proof_that_does_not_hold_sends_nothing(lie: str) -> None:
    """Not a byte: the machines never come into the pool."""
    service = Service(lies={lie} - {"missing"})
    if lie == "missing":
        service.pages["/evidence"] = {"evidence": [], "failed_instance_ids": ["machine-0"]}
    error = failed(service)
    assert isinstance(error, errors.AttestationError)
    assert (error.kind, service.sent, service.used) == (Kind.ATTESTATION, [], [])


@pytest.mark.parametrize("lie", LIES)
def test_with_the_proof_off_nothing_is_asked(lie: str) -> None:
    """Who says so trusts the service."""
    service = Service(lies={lie})
    assert ask(service, path=sealed_path(service, verify="off")).content
    assert service.questions("/evidence") == service.questions("/measurements") == 0


@pytest.mark.parametrize(
    ("end", "page", "kind"),
    [
        ("/evidence", detail(400, "Chute is not TEE-enabled"), Kind.ATTESTATION),
        ("/evidence", detail(404, "Chute not found"), Kind.ATTESTATION),
        ("/evidence", detail(502, "Attestation service unavailable"), Kind.BAD_GATEWAY),
        ("/evidence", detail(429, "Rate limit exceeded."), Kind.ENDPOINT_LIMIT),
        ("/evidence", {"evidence": None}, Kind.ATTESTATION),
        ("/evidence", b"no json", Kind.MALFORMED),
        ("/measurements", detail(500, "Failed to read TEE measurements"), Kind.UPSTREAM),
        ("/measurements", {"not": "a list"}, Kind.ATTESTATION),
        ("/measurements", [], Kind.ATTESTATION),
    ],
)
def test_without_evidence_nothing_is_sent(end: str, page: Any, kind: Kind) -> None:
    """Whether it is refused, late, or no evidence at all."""
    service = Service(pages={end: page})
    assert failed(service, retries=0).kind is kind
    assert service.sent == []


def test_one_machine_without_a_proof_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """The others answer, and the log names it."""
    service = Service(machines=3)
    path = sealed_path(service)

    def page(place: str, params: dict[str, str]) -> Any:
        found = Service._page(service, place, params)
        if place.endswith("/evidence"):
            found["evidence"] = [row for row in found["evidence"] if row["instance_id"] != "machine-1"]
        return found

    service._page = page  # type: ignore[method-assign]
    for _ in range(10):
        ask(service, path=path)
    assert {name for name, _ in service.sealed} == {"machine-0", "machine-2"}
    assert set(known(path).proofs) == {"machine-0", "machine-2"}
    assert known(path).proofs["machine-0"].measured_as == "embedded server (no hardware) 0"
    lines = {(record.name, record.levelname, record.getMessage()) for record in caplog.records}
    said = "acme/sea-TEE: machine machine-1 is not used: the service has no evidence of it"
    assert lines == {("chutes_core.e2ee", "WARNING", said)}


ANOTHER = plain_events()[0].replace(b"c1", b"c2").replace(b"The", b"Some")


def flipped(service: Service, reply: Any, body: dict[str, Any]) -> list[bytes]:
    blob = bytearray(reply.whole(json.dumps(ANSWER).encode()))
    blob[len(blob) // 2] ^= 1
    return [bytes(blob)]


def cut(after: int) -> Callable[[Service, Any, dict[str, Any]], list[bytes]]:
    return lambda service, reply, body: sealed_lines(reply)[:after]


def test_a_changed_reply_is_asked_for_again_elsewhere() -> None:
    """Nothing of it was seen; another machine answers."""
    service = Service(script=[flipped])
    assert ask(service).content == "On the floes."
    assert len({name for name, _ in service.sealed}) == 2
    assert failed(Service(script=[flipped] * 3)).kind is Kind.SEALED_REPLY


def test_a_stream_that_breaks_after_a_word_is_not_begun_again() -> None:
    """The error has what had arrived."""

    def broken(service: Service, reply: Any, body: dict[str, Any]) -> list[bytes]:
        return [*sealed_lines(reply)[:5], b'data: {"e2e":"AAAA"}\n\n']

    service = Service(script=[broken])
    error = failed(service, stream=True)
    assert (error.kind, error.partial, len(service.sent)) == (Kind.SEALED_REPLY, "The walrus", 1)


@pytest.mark.parametrize(
    ("step", "kind", "partial"),
    [
        (cut(0), Kind.EMPTY, ""),
        (cut(1), Kind.EMPTY, ""),
        (cut(5), Kind.TRUNCATED, "The walrus"),
        (lambda s, r, b: [*sealed_lines(r)[:5], WireFailure("broken", "reset")], Kind.RESET, "The walrus"),
        (lambda s, r, b: [*sealed_lines(r)[:5], b"data: {"], Kind.SEALED_REPLY, "The walrus"),
        (lambda s, r, b: [*sealed_lines(r)[:5], b'data: {"e2e_error":"died"}\n'], Kind.STREAM_ERROR, "The walrus"),
        (lambda s, r, b: [r.begin(), b'data: {"e2e_error":"died"}\n'], Kind.UPSTREAM, ""),
        (lambda s, r, b: [*sealed_lines(r)[:5], r.frame(b'{"error": "exhausted"}')], Kind.STREAM_ERROR, "The walrus"),
        (lambda s, r, b: [*sealed_lines(r)[:5], r.frame(b"data: {brok")], Kind.MALFORMED, "The walrus"),
        (lambda s, r, b: [*sealed_lines(r)[:5], r.frame(ANOTHER)], Kind.RESTARTED, "The walrus"),
        (lambda s, r, b: [b"<html>"], Kind.SEALED_REPLY, ""),
    ],
)  # fmt: skip
def test_a_stream_that_ends_in_any_other_way_is_an_error(step: Step, kind: Kind, partial: str) -> None:
    """Typed, with what arrived, and without a word of it in the message."""
    error = failed(Service(script=[step]), stream=True, retries=0)
    assert (error.kind, error.partial) == (kind, partial)
    assert not any(word in str(error) for word in SECRET_WORDS)


NO: Any = {"message": {"refusal": "No walrus."}, "finish_reason": "stop"}
REFUSED = json.dumps({"id": "1", "model": INFO.id, "choices": [NO]}).encode()


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (lambda s, r, b: [], Kind.MALFORMED),
        (lambda s, r, b: [r.whole(b"not json, but walrus")], Kind.MALFORMED),
        (lambda s, r, b: [r.whole(b"[1]")], Kind.MALFORMED),
        (lambda s, r, b: [r.whole(REFUSED)], Kind.REFUSED),
        (lambda s, r, b: [r.whole(b'{"error": {"message": "the walrus died", "code": 500}}')], Kind.UPSTREAM),
        (lambda s, r, b: [json.dumps(ANSWER).encode()], Kind.SEALED_REPLY),
        (lambda s, r, b: [r.whole(b"{}")[:-1]], Kind.SEALED_REPLY),
        (lambda s, r, b: [WireFailure("broken", "reset")], Kind.RESET),
    ],
)
def test_a_whole_reply_that_is_none_is_an_error(step: Step, kind: Kind) -> None:
    """Also when the machine itself sealed it so."""
    error = failed(Service(script=[step]), retries=0)
    assert error.kind is kind
    assert "walrus" not in str(error) + repr(error.body)


def test_a_prompt_that_is_too_long_is_told_in_numbers() -> None:
    """The engine's words come out of the seal as numbers only."""
    said = (
        "Requested token count exceeds the model's maximum context length of 100 tokens. You requested a total of "
        "150 tokens: 140 tokens from the input messages and 10 tokens for the completion. Walrus."
    )
    inside = json.dumps({"error": {"message": said, "code": 400}}).encode()
    error = failed(Service(script=[lambda s, r, b: [r.whole(inside)]]))
    assert isinstance(error, errors.ContextLengthError)
    assert (error.limit, error.requested, error.prompt_tokens) == (100, 150, 140)
    assert "Walrus" not in str(error)


def test_a_refusal_whose_reason_is_sealed_says_so() -> None:
    """Instead of showing a page of noise."""
    error = failed(Service(script=[detail(400, "QUJD" * 100)]))
    assert error.kind is Kind.BAD_REQUEST
    assert "its reason is sealed between machine and service" in str(error)
    assert "QUJD" not in str(error)


@pytest.mark.parametrize("stream", [False, True])
def test_no_error_holds_a_word_of_prompt_or_answer(stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Not in its text, its arguments, its cause, its pickle, nor in what is logged on the way."""
    caplog.set_level(logging.DEBUG)
    steps: list[Step] = [
        lambda s, r, b: [*sealed_lines(r)[:5], r.frame(b'data: {"walrus')] if stream else [r.whole(b"{walrus")],
        lambda s, r, b: (
            [*sealed_lines(r)[:5], r.frame(b'data: {"error": "walrus"}')]
            if stream
            else [r.whole(b'{"error": {"message": "walrus"}}')]
        ),
        cut(5) if stream else flipped,
        lambda s, r, b: [b"x"],
        detail(500, "Internal error"),
    ]
    for step in steps:
        error = failed(Service(script=[step]), stream=stream, retries=0)
        shown = [str(error), repr(error), repr(error.args), repr(vars(error)), repr(error.partial_reply)]
        shown += ["".join(traceback.format_exception(error)), pickle.dumps(error).decode("latin-1")]
        assert error.__cause__ is None
        assert error.__context__ is None
        assert not any(word in text for word in SECRET_WORDS for text in shown)
        assert not any(word in caplog.text for word in SECRET_WORDS)


def test_a_path_travels_without_its_numbers() -> None:
    """To another process go the settings; there it begins with machines of its own."""
    service = Service()
    path = sealed_path(service)
    ask(service, path=path)
    packed = pickle.dumps(SealedPath(E2EE(verify="off"), management_url=URL, clock=service.clock))
    assert pickle.loads(packed).settings == E2EE(verify="off")
    assert "walrus" not in repr(path)
    there = pickle.loads(pickle.dumps(path))
    assert known(there).proofs == {}
    assert repr(there) == f"SealedPath(E2EE(verify='binding', collateral=None, allow={[EMBEDDED]!r}))"


def test_a_call_waits_within_its_limits_only() -> None:
    """When nobody may ask in this minute, and the call has less time than that, it is told at once."""
    service = Service()
    path = sealed_path(service)
    rate = known(path).pool._rate
    while not rate.begin():
        pass
    error = failed(service, path=path, limits=TimeLimits(total=30.0), retries=0)
    assert (error.kind, error.retry_after, service.asked) == (Kind.ENDPOINT_LIMIT, 60.0, [])
    assert ask(service, path=path, limits=TimeLimits(total=90.0)).content
    assert service.clock.now() == 60.0


def test_a_wait_for_the_next_minute_is_told() -> None:
    """How long it is; a look whether another call has asked is no wait to tell of."""
    service, waits = Service(), list[float]()
    path = sealed_path(service)
    rate = known(path).pool._rate
    while not rate.begin():
        service.clock.advance(1.0)
    call = planned(service, path)[1]
    assert drive_whole(path.wrap(call.run(), INFO, waits=waits.append), service).content
    assert waits == [50.0]


def drive_whole(flow: Any, service: Service) -> Reply:
    reply: Reply = run(flow, Hand(service))
    return reply


def test_a_cold_model_is_remembered_for_a_while() -> None:
    """Ten calls of a cold model are one question, and leave those of the minute to others."""
    service = Service(pages={f"/{INFO.chute_id}": detail(404, "No active instances found for this chute")})
    path = sealed_path(service)
    assert {failed(service, path=path).kind for _ in range(10)} == {Kind.COLD}
    assert service.questions("/e2e/instances") == 1
    service.pages.clear()
    path.registry.warmed(str(INFO.chute_id))
    assert ask(service, path=path).content


def test_a_model_whose_machines_prove_nothing_is_remembered_for_a_while() -> None:
    """A fallback that asks it again, with nobody else left, does not use up the questions of the minute."""
    service = Service(lies={"debug"})
    path = sealed_path(service)
    assert {failed(service, path=path).kind for _ in range(10)} == {Kind.ATTESTATION}
    assert service.questions("/e2e/instances") == service.questions("/evidence") == 1
    service.lies.clear()
    service.clock.advance(10)
    assert ask(service, path=path).content


def test_time_that_the_side_questions_took_is_not_there_for_the_call() -> None:
    """The limit for the headers runs from the beginning."""
    service = Service()
    slow = service.answer

    def answer(effect: Open) -> Any:
        service.clock.advance(7.0)
        return slow(effect)

    service.answer = answer  # type: ignore[method-assign]
    hand = Hand(service)
    flow, _ = planned(service, sealed_path(service), limits=TimeLimits(total=100.0))
    run(flow, hand)
    limits = [effect.headers_within for effect in hand.effects if isinstance(effect, Open)]
    assert limits == [100.0, 93.0, 86.0, 79.0]


def test_a_limit_that_passes_during_the_side_questions_is_a_time_limit() -> None:
    """Nothing is sent after it."""
    service = Service()
    slow = service.answer

    def answer(effect: Open) -> Any:
        service.clock.advance(60.0)
        return slow(effect)

    service.answer = answer  # type: ignore[method-assign]
    error = failed(service, limits=TimeLimits(total=100.0))
    assert isinstance(error, errors.TimeLimitError)
    assert service.sent == []


def test_who_leaves_while_asking_takes_nobody_with_him() -> None:
    """The next call asks for itself."""
    service = Service()
    path = sealed_path(service)
    flow, _ = planned(service, path)
    hand = Hand(service)
    step = next(flow)
    while not isinstance(step, Open):
        step = flow.send(hand.perform(step))
    flow.close()
    assert ask(service, path=path).content


@pytest.mark.parametrize("plain", [b" " * (17 * 1024 * 1024), b"[" + b"0," * 400_001 + b"0]"], ids=["bytes", "values"])
def test_a_sealed_bomb_is_no_answer(plain: bytes) -> None:
    """A machine may compress more into its reply than any answer has."""
    service = Service(script=[lambda service, reply, body: [reply.whole(plain)]])
    error = failed(service, retries=0)
    assert error.kind is Kind.SEALED_REPLY
    assert "more than" in str(error)


def test_what_is_sealed_may_be_longer() -> None:
    """The limits of the reply as it is sent leave room for its envelope."""
    service = Service()
    hand = Hand(service)
    run(planned(service, sealed_path(service))[0], hand)
    (sent,) = [effect for effect in hand.effects if isinstance(effect, Open) and effect.request.content]
    assert sent.most == CHAT.times(2)._replace(values=0)


class Billed:
    """A ledger that notes the tokens of answers."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def __call__(self, model: str | None, usage: Usage | None) -> None:
        assert usage is not None
        self.tokens.append(usage.completion_tokens)

    def hold(self, body: object) -> None:
        """Nothing limits it."""

    def left(self) -> None:
        """Nobody watches."""


def test_leaving_a_stream_closes_the_call() -> None:
    """What was used until then is billed, as on the plain path."""
    service = Service()
    flow, call = planned(service, sealed_path(service), stream=True)
    call._ledger = ledger = Billed()
    steps = drive(flow, Hand(service), [])
    assert next(steps).content == "The"  # type: ignore[attr-defined]
    steps.close()
    assert ledger.tokens == [1]


def test_what_a_broken_answer_used_is_billed() -> None:
    """As far as it came."""
    service = Service(script=[lambda s, r, b: [*sealed_lines(r)[:5], b'data: {"e2e":"AAAA"}\n\n']])
    flow, call = planned(service, sealed_path(service), stream=True)
    call._ledger = ledger = Billed()
    with pytest.raises(APIError):
        run(flow, Hand(service))
    assert ledger.tokens == [2]


def test_thirty_two_threads_use_no_number_twice() -> None:
    """And ask for machines no more than ten times in any minute of the clock."""
    service = Service(machines=5)
    path = sealed_path(service)
    answers: list[str] = []

    def work() -> None:
        for turn in range(20):
            answers.append(ask(service, path=path, stream=turn % 2 == 1).content)

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 640
    assert len(service.used) == len(set(service.used)) == 640
    assert_the_rate(service)
    assert service.questions("/e2e/instances") <= 640 / 50 + 2


async def test_a_hundred_tasks_use_no_number_twice() -> None:
    """One loop, and the first hundred calls ask for machines as few times as they need."""
    service = Service(machines=5)
    path = sealed_path(service)

    async def work(turn: int) -> str:
        flow, _ = planned(service, path, stream=turn % 2 == 1)
        reply: Reply = await arun(flow, AsyncHand(service))
        return reply.content

    answers = await asyncio.gather(*map(work, range(100)))
    assert len(answers) == 100
    assert len(service.used) == len(set(service.used)) == 100
    assert service.questions("/e2e/instances") == 2
    assert service.questions("/evidence") == 1
    assert_the_rate(service)


def assert_the_rate(service: Service) -> None:
    times = sorted(at for at, path in service.asked if path.startswith("/e2e/instances"))
    for start in times:
        assert sum(start <= at < start + 60 for at in times) <= 10


async def test_a_failed_question_fails_everybody_who_waits_for_it() -> None:
    """A hundred tasks and a model without machines: one question, a hundred errors."""
    service = Service(pages={f"/{INFO.chute_id}": detail(404, "No active instances found for this chute")})
    path = sealed_path(service)

    async def work() -> Kind:
        flow, _ = planned(service, path)
        with pytest.raises(APIError) as caught:
            await arun(flow, AsyncHand(service))
        return caught.value.kind

    assert set(await asyncio.gather(*(work() for _ in range(100)))) == {Kind.COLD}
    assert service.questions("/e2e/instances") == 1


async def test_a_stream_on_the_loop_gives_the_same_deltas() -> None:
    """One after the other."""
    service = Service()
    flow, _ = planned(service, sealed_path(service), stream=True)
    found = [delta.content async for delta in adrive(flow, AsyncHand(service), [])]  # type: ignore[attr-defined]
    assert found == [*WORDS, ""]


def test_waiting_for_machines_is_done_by_the_hand() -> None:
    """The flow itself never blocks: while another call asks, it says how long it wants to wait."""
    service = Service()
    path = sealed_path(service)
    first, second = planned(service, path)[0], planned(service, path)[0]
    hand = Hand(service)
    step = next(first)
    while not isinstance(step, Open):
        step = first.send(hand.perform(step))
    step = second.send(hand.perform(next(second)))
    assert isinstance(step, Sleep)
    first.close()
    second.close()


def planned_with(service: Service, path: SealedPath) -> Reply:
    """One call of a path with settings of its own."""
    return ask(service, path=path, retries=0)


def test_full_verification_refuses_what_no_processor_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded server's evidence binds and is listed, and is still no proof."""
    monkeypatch.setitem(sys.modules, "dcap_qvl", FakeDcap("UpToDate"))
    service = Service()
    path = sealed_path(service, verify="full", collateral=lambda raw: "{}")
    with pytest.raises(errors.AttestationError, match="not come from a real processor"):
        planned_with(service, path)
    assert service.sent == []


@pytest.mark.parametrize(
    ("status", "said"), [("UpToDate", ""), ("OutOfDate", "its firmware is OutOfDate"), ("", "is not valid: forged")]
)
def test_full_verification_asks_for_the_makers_signature(
    status: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the collateral that was given; a signature or a firmware that does not hold sends nothing."""
    monkeypatch.setitem(sys.modules, "dcap_qvl", FakeDcap(status))
    monkeypatch.setattr("chutes_local.e2ee.proof.MAKER", attest._INTEL)
    service, given = Service(), list[bytes]()
    path = sealed_path(service, verify="full", collateral=lambda raw: str(given.append(raw)), evaluation=0)
    if said:
        with pytest.raises(errors.AttestationError, match=said):
            planned_with(service, path)
        assert service.sent == []
    else:
        assert planned_with(service, path).content
        assert known(path).proofs["machine-0"].verify == "full"
    assert len(given) == 2


LISTS = json.dumps(dict.fromkeys(("tcb_info", "qe_identity"), '{"tcbEvaluationDataNumber": 17}'))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "its firmware is OutOfDate"),
        ({"tcb": ["UpToDate", "OutOfDate"]}, ""),
        ({"tcb": ["OutOfDate"], "evaluation": 18}, "evaluation 17, which is before 18"),
        ({"tcb": ["OutOfDate"], "evaluation": 16}, ""),
        ({"tcb": []}, "its firmware is OutOfDate"),
    ],
)
def test_what_the_maker_may_say_is_a_setting(
    settings: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the firmware, and by which evaluation."""
    monkeypatch.setitem(sys.modules, "dcap_qvl", FakeDcap("OutOfDate"))
    monkeypatch.setattr("chutes_local.e2ee.proof.MAKER", attest._INTEL)
    path = sealed_path(service := Service(), verify="full", collateral=lambda raw: LISTS, **settings)
    if said:
        with pytest.raises(errors.AttestationError, match=said):
            ask(service, path=path, retries=0)
        assert service.sent == []
    else:
        assert ask(service, path=path, retries=0).meta.attested.verify == "full"  # type: ignore[union-attr]


def test_another_key_of_a_machine_is_proved_anew() -> None:
    """Its earlier proof was for the key that it had then, and is not one for a key that the service has swapped."""
    service = Service(machines=1)
    path = sealed_path(service)
    ask(service, path=path)
    service.clock.advance(60)
    service.keys["machine-0"] = MachineKey()
    assert ask(service, path=path).content
    assert service.questions("/evidence") == 2
    service.clock.advance(60)
    service.keys["machine-0"] = MachineKey()
    service.lies.add("other_key")
    assert isinstance(failed(service, path=path), errors.AttestationError)
    assert len(service.sent) == 2


def test_collateral_that_cannot_be_had_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of yours that fails is a failure of the model like any other, so the next one may take over."""
    monkeypatch.setitem(sys.modules, "dcap_qvl", FakeDcap("UpToDate"))
    monkeypatch.setattr("chutes_local.e2ee.proof.MAKER", attest._INTEL)

    def unreachable(raw: bytes) -> str:
        raise OSError("no route")

    service = Service()
    with pytest.raises(errors.AttestationError, match="could not be fetched: OSError: no route"):
        planned_with(service, sealed_path(service, verify="full", collateral=unreachable))
    assert service.sent == []


def test_without_a_list_of_measurements_nothing_is_proved() -> None:
    """It is no matter of the model's name, as a 404 would be elsewhere."""
    service = Service(pages={"/measurements": detail(404, "Not Found")})
    with pytest.raises(errors.AttestationError, match="Not Found"):
        planned_with(service, sealed_path(service))
    assert service.sent == []


def test_a_machine_that_shows_something_else_now_has_lost_its_proof() -> None:
    """When the evidence is asked for again for another one's sake, before its own ten minutes are over."""
    service = Service(machines=1)
    path = sealed_path(service)
    ask(service, path=path)
    service.machines = 2
    service.lies.add("debug")
    service.clock.advance(60)
    sent = len(service.sent)
    with pytest.raises(errors.AttestationError, match="started with a debugger"):
        ask(service, path=path, retries=0)
    assert len(service.sent) == sent
    assert known(path).proofs == {}


def test_without_collateral_it_is_fetched_from_the_maker_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for all machines of a kind, and the maker learns nothing of who asks."""
    dcap = FakeDcap("UpToDate")
    monkeypatch.setitem(sys.modules, "dcap_qvl", dcap)
    monkeypatch.setattr("chutes_local.e2ee.proof.MAKER", attest._INTEL)
    service = Service()
    sent: list[Any] = []
    known = service.answer

    def answer(effect: Open) -> Any:
        if "intel.com" not in effect.request.url:
            return known(effect)
        sent.append(effect.request)
        part = "tcbInfo" if "tcb?" in effect.request.url else "enclaveIdentity"
        return iter([b'{"%s":{"tcbEvaluationDataNumber":17},"signature":"00"}' % part.encode()])

    service.answer = answer  # type: ignore[method-assign]
    path = sealed_path(service, verify="full")
    monkeypatch.setattr(Hand, "headers", CHAINS)
    assert planned_with(service, path).content
    assert len(sent) == 4
    assert all(request.secret is None and not request.headers for request in sent)
    assert json.loads(dcap.read[0])["tcb_info"] == '{"tcbEvaluationDataNumber":17}'


@pytest.mark.parametrize("status", [401, 404, 429, 503])
def test_a_refusal_of_the_maker_is_none_of_the_services(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing of the key, the model or the load: there is no proof."""
    monkeypatch.setitem(sys.modules, "dcap_qvl", FakeDcap("UpToDate"))
    monkeypatch.setattr("chutes_local.e2ee.proof.MAKER", attest._INTEL)
    service = Service(pages={"/tcb?fmspc=B0C06F000000": detail(status, "walrus")})
    monkeypatch.setattr(Hand, "headers", CHAINS)
    pages = {"encoding=der": b"", "update=standard": b"", "CA.der": b""}
    service.pages |= pages
    with pytest.raises(errors.AttestationError, match=f"the vendor answered with status {status}") as caught:
        ask(service, path=sealed_path(service, verify="full"))
    assert "walrus" not in str(caught.value) + str(caught.value.body)
    assert service.sent == []


def test_full_verification_without_its_package_is_refused_at_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the first call, and with the name of the package."""
    monkeypatch.setitem(sys.modules, "dcap_qvl", None)
    with pytest.raises(errors.ConfigurationError, match="pip install dcap-qvl"):
        sealed_path(Service(), verify="full")
