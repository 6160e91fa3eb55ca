"""Every fault of the service, through the real openai SDK: a whole answer, or the right typed error."""

from __future__ import annotations

import importlib
import pickle
from dataclasses import dataclass

import pytest

from chutes_core import (
    AccountLimitError,
    APIError,
    AuthenticationError,
    CapacityError,
    ColdModelError,
    ConnectionFailedError,
    ContextLengthError,
    EmptyReplyError,
    InvalidRequestError,
    Kind,
    MalformedReplyError,
    ModelNotFoundError,
    PaymentRequiredError,
    RateLimitError,
    Retry,
    Scope,
    StreamFailedError,
    StreamInterruptedError,
    StreamRestartedError,
    TimeLimitError,
    TimeLimits,
    UnavailableError,
)
from chutes_core.testing import FAULTS, Answer, Fault

from .clients import MODES, call

LIMITS = TimeLimits(connect=5, first_token=20, gap=10, total=120)
ANSWER = Answer("The answer is forty-two, of course.", pieces=5)
WHOLE = "whole"


@dataclass(frozen=True)
class Expected:
    """What a fault comes to without a retry: in a stream, and in a reply in one piece."""

    stream: type[APIError] | str
    kind: Kind | None = None
    whole: type[APIError] | str | None = None
    whole_kind: Kind | None = None
    partial: bool = False


EXPECTED: dict[str, Expected] = {
    "capacity": Expected(CapacityError, Kind.CAPACITY),
    "retry_after": Expected(CapacityError, Kind.CAPACITY),
    "retry_after:300": Expected(CapacityError, Kind.CAPACITY),
    "retry_after:date": Expected(CapacityError, Kind.CAPACITY),
    "retry_after:garbage": Expected(CapacityError, Kind.CAPACITY),
    "account_limit": Expected(AccountLimitError, Kind.ACCOUNT_LIMIT),
    "keyless": Expected(RateLimitError, Kind.EDGE_LIMIT),
    "cold": Expected(ColdModelError, Kind.COLD),
    "disabled": Expected(UnavailableError, Kind.DISABLED),
    "exhausted": Expected(UnavailableError, Kind.EXHAUSTED),
    "bad_gateway": Expected(UnavailableError, Kind.BAD_GATEWAY),
    "gateway_timeout": Expected(UnavailableError, Kind.GATEWAY_TIMEOUT),
    "quota": Expected(PaymentRequiredError, Kind.PAYMENT),
    "tee_balance": Expected(PaymentRequiredError, Kind.TEE_PAYMENT),
    "owner_balance": Expected(PaymentRequiredError, Kind.OWNER_PAYMENT),
    "auth": Expected(AuthenticationError, Kind.AUTHENTICATION),
    "not_found": Expected(ModelNotFoundError, Kind.MODEL_NOT_FOUND),
    "overflow": Expected(ContextLengthError, Kind.CONTEXT_LENGTH),
    "bad_request": Expected(InvalidRequestError, Kind.BAD_REQUEST),
    "refused": Expected(ConnectionFailedError, Kind.CONNECT),
    "hang": Expected(TimeLimitError, Kind.FIRST_TOKEN_TIMEOUT, whole_kind=Kind.TOTAL_TIMEOUT),
    "hang_after_headers": Expected(TimeLimitError, Kind.FIRST_TOKEN_TIMEOUT, whole_kind=Kind.TOTAL_TIMEOUT),
    "stall": Expected(TimeLimitError, Kind.STALL, whole_kind=Kind.TOTAL_TIMEOUT, partial=True),
    "stall:5": Expected(WHOLE),
    "reset": Expected(StreamInterruptedError, Kind.RESET, partial=True),
    "no_finish": Expected(StreamInterruptedError, Kind.TRUNCATED, partial=True),
    "error_line": Expected(StreamFailedError, Kind.STREAM_ERROR, UnavailableError, Kind.EXHAUSTED, partial=True),
    "error_event": Expected(StreamFailedError, Kind.STREAM_ERROR, UnavailableError, Kind.UPSTREAM, partial=True),
    "restart": Expected(StreamRestartedError, Kind.RESTARTED, StreamInterruptedError, Kind.RESET, partial=True),
    "malformed": Expected(MalformedReplyError, Kind.MALFORMED, partial=True),
    "empty": Expected(EmptyReplyError, Kind.EMPTY, MalformedReplyError, Kind.MALFORMED),
    "role_only": Expected(EmptyReplyError, Kind.EMPTY),
    "reasoning_only": Expected(EmptyReplyError, Kind.EMPTY),
    "no_done": Expected(WHOLE),
    "done_only": Expected(StreamInterruptedError, Kind.TRUNCATED, partial=True),
    "no_usage": Expected(WHOLE),
    "cumulative_usage": Expected(WHOLE),
    "slow_drip": Expected(WHOLE),
}  # fmt: skip


def http_packages() -> list[str]:
    """Every HTTP package that the installed SDK takes clients of."""
    return [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name)]


def test_the_table_covers_every_fault() -> None:
    """No fault is without an expectation."""
    assert {entry.partition(":")[0] for entry in EXPECTED} == set(FAULTS)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", EXPECTED)
def test_every_fault_is_a_whole_answer_or_the_right_error(fault: str, mode: str) -> None:
    """Without retries each fault shows as itself, with exactly what had been delivered, and leaves nothing open."""
    expected = EXPECTED[fault]
    stream = mode.endswith("stream")
    error = expected.stream if stream else expected.whole or expected.stream
    kind = expected.kind if stream else expected.whole_kind or expected.kind
    entry = Fault(**{**_fields(Fault.parse(fault)), "answer": ANSWER})
    outcome = call(mode, [entry], timeout=LIMITS, max_retries=0)
    assert outcome.transport.open_replies == 0
    assert outcome.attempts == 1
    if error == WHOLE:
        assert outcome.error is None
        assert outcome.reply is not None
        assert outcome.reply.content == ANSWER.text
        assert outcome.reply.finish_reason == "stop"
        if outcome.reply.usage is not None:
            assert outcome.reply.usage.completion_tokens == len(ANSWER.deltas())
        assert (outcome.reply.usage is None) == (fault == "no_usage")
        return
    assert type(outcome.error) is error
    assert isinstance(outcome.error, APIError)
    assert outcome.error.kind is kind
    assert outcome.error.partial == outcome.streamed or not stream
    if expected.partial and stream:
        assert outcome.error.partial
        assert ANSWER.text.startswith(outcome.error.partial)
    copy = pickle.loads(pickle.dumps(outcome.error))
    assert (type(copy), str(copy), copy.kind, copy.partial) == (error, str(outcome.error), kind, outcome.error.partial)


def _fields(fault: Fault) -> dict[str, object]:
    return {name: getattr(fault, name) for name in ("kind", "after", "seconds", "value")}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("package", http_packages())
def test_clients_of_either_http_package_are_taken(package: str, mode: str) -> None:
    """A user's own client goes through, whichever package it is of."""
    if package == "httpx2" and not _sdk_takes_httpx2():
        pytest.skip("the installed openai SDK is built on httpx alone")
    module = importlib.import_module(package)
    outcome = call(mode, ["capacity", "error_line", ANSWER], package=module, max_retries=2)
    if mode.endswith("stream"):
        assert isinstance(outcome.error, StreamFailedError)
        assert outcome.attempts == 2
    else:
        assert outcome.reply is not None
        assert outcome.reply.content == ANSWER.text
        assert outcome.attempts == 3


def _sdk_takes_httpx2() -> bool:
    import openai

    return int(openai.__version__.partition(".")[0]) >= 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", [name for name in EXPECTED if EXPECTED[name].stream != WHOLE])
def test_retries_only_where_the_table_says_so(fault: str, mode: str) -> None:
    """With retries a fault before the answer is tried again exactly where that can help, else it costs one attempt."""
    outcome = call(mode, [Fault.parse(fault), ANSWER], timeout=LIMITS, max_retries=2)
    if outcome.error is None:
        assert outcome.attempts == 2
        assert outcome.reply is not None
        assert outcome.reply.content == ANSWER.text
        return
    assert isinstance(outcome.error, APIError)
    assert outcome.attempts == 1
    long_wait = (outcome.error.retry_after or 0) > 60
    assert outcome.error.retry is not Retry.HERE or outcome.deltas or long_wait


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("fault", "scope"),
    [
        ("capacity", Scope.TARGET),
        ("cold", Scope.TARGET),
        ("owner_balance", Scope.TARGET),
        ("tee_balance", Scope.TARGET),
        ("quota", Scope.ACCOUNT),
        ("auth", Scope.ACCOUNT),
        ("keyless", Scope.ACCOUNT),
        ("account_limit", Scope.TARGET),
        ("bad_request", Scope.REQUEST),
        ("overflow", Scope.REQUEST),
    ],
)
def test_a_failure_says_whom_it_concerns(fault: str, scope: Scope, mode: str) -> None:
    """The scope tells a model's failure from the account's and from the request's."""
    outcome = call(mode, [fault], max_retries=0)
    assert isinstance(outcome.error, APIError)
    assert outcome.error.scope is scope


@pytest.mark.parametrize("mode", MODES)
def test_errors_speak_to_a_person_and_never_show_the_key(mode: str) -> None:
    """A message has what happened, why probably and what to do; no part of it has the key."""
    outcome = call(mode, ["capacity"], max_retries=0)
    message = str(outcome.error)
    assert "acme/one: every machine that serves this model is busy" in message
    assert "429: Infrastructure is at maximum capacity" in message
    assert "fallback" in message
    assert "cpk_test" not in message + repr(outcome.error)


@pytest.mark.parametrize("mode", ["sync-stream", "async-stream"])
@pytest.mark.parametrize("kind", ["restart", "error_line", "no_finish", "reset", "stall", "malformed", "done_only"])
@pytest.mark.parametrize("after", range(1, 5))
def test_a_cut_tool_call_is_never_a_valid_one(kind: str, after: int, mode: str) -> None:
    """Wherever a tool call is cut or begun anew, no valid call comes out, not even in the partial reply."""
    paying = Answer("", tool_calls=[("pay", {"amount": 1000, "to": "alice"})], pieces=4)
    outcome = call(mode, [Fault(kind, after=after, answer=paying)], timeout=LIMITS, max_retries=0)
    if outcome.error is None:  # cut behind the last piece of a whole answer
        pytest.fail("an answer that was cut came out as whole")
    assert isinstance(outcome.error, APIError)
    partial = outcome.error.partial_reply
    assert partial is not None
    assert partial.tool_calls == ()
    assert len(partial.invalid_tool_calls) == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_whole_tool_call_is_valid_and_says_tool_calls(mode: str) -> None:
    """Arguments in pieces come together, and the finish reason is "tool_calls" also where the engine says "stop"."""
    answer = Answer("", tool_calls=[("pay", {"amount": 7}), ("log", {"text": "paid"})], finish_reason="stop")
    outcome = call(mode, [answer])
    assert outcome.reply is not None
    assert [(each.name, each.args) for each in outcome.reply.tool_calls] == [
        ("pay", {"amount": 7}),
        ("log", {"text": "paid"}),
    ]
    assert outcome.reply.finish_reason == "tool_calls"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["reasoning_content", "reasoning", "think"])
def test_reasoning_is_kept_apart_in_each_of_its_three_forms(form: str, mode: str) -> None:
    """Reasoning under either name or between tags comes out as reasoning and not as the answer."""
    outcome = call(mode, [Answer("Yes.", reasoning="Let me think.", reasoning_field=form, pieces=9)])
    assert outcome.reply is not None
    assert (outcome.reply.reasoning, outcome.reply.content) == ("Let me think.", "Yes.")


def test_quota_reset_is_on_the_error() -> None:
    """A 402 says when the quota starts anew."""
    outcome = call("sync-whole", ["quota"])
    assert isinstance(outcome.error, PaymentRequiredError)
    assert outcome.error.quota_reset_at is not None
    assert outcome.error.quota_reset_at.year == 2100
