"""Every fault of the list, at every position, in every way to call, and exactly what comes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chutes_core import APIError, Kind, Retry, Scope
from chutes_core.failures.reading import FACTS
from chutes_core.testing import FAULTS, Fault
from langchain_chutes import FallbackError
from langchain_chutes.fallback import collect
from tests.langchain_chutes.fallback_stage import ANSWER, NAMES, PAYING, Stage, stage

STYLES = ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"]

# What a fault is before anything of the answer was seen, and in the middle of it where that differs.
# None is no failure at all.
MEANS: dict[str, tuple[Kind | None, Kind | None]] = {
    "account_limit": (Kind.ACCOUNT_LIMIT, None),
    "auth": (Kind.AUTHENTICATION, None),
    "bad_gateway": (Kind.BAD_GATEWAY, None),
    "bad_request": (Kind.BAD_REQUEST, None),
    "capacity": (Kind.CAPACITY, None),
    "cold": (Kind.COLD, None),
    "cumulative_usage": (None, None),
    "disabled": (Kind.DISABLED, None),
    "done_only": (Kind.TRUNCATED, Kind.TRUNCATED),
    "empty": (Kind.EMPTY, None),
    "error_event": (Kind.UPSTREAM, Kind.STREAM_ERROR),
    "error_line": (Kind.EXHAUSTED, Kind.STREAM_ERROR),
    "exhausted": (Kind.EXHAUSTED, None),
    "gateway_timeout": (Kind.GATEWAY_TIMEOUT, None),
    "hang": (Kind.FIRST_TOKEN_TIMEOUT, None),
    "hang_after_headers": (Kind.FIRST_TOKEN_TIMEOUT, None),
    "keyless": (Kind.EDGE_LIMIT, None),
    "malformed": (Kind.MALFORMED, Kind.MALFORMED),
    "no_done": (None, None),
    "no_finish": (Kind.TRUNCATED, Kind.TRUNCATED),
    "no_usage": (None, None),
    "not_found": (Kind.MODEL_NOT_FOUND, None),
    "overflow": (Kind.CONTEXT_LENGTH, None),
    "owner_balance": (Kind.OWNER_PAYMENT, None),
    "quota": (Kind.PAYMENT, None),
    "reasoning_only": (Kind.EMPTY, None),
    "refused": (Kind.CONNECT, None),
    "reset": (Kind.RESET, Kind.RESET),
    "restart": (None, Kind.RESTARTED),
    "retry_after": (Kind.CAPACITY, None),
    "role_only": (Kind.EMPTY, None),
    "slow_drip": (None, None),
    "tee_balance": (Kind.TEE_PAYMENT, None),
    "stall": (Kind.FIRST_TOKEN_TIMEOUT, Kind.STALL),
}
CASES = [
    # Reasoning is seen, and is no answer.
    *((Fault(name, after=0), early, False) for name, (early, _) in MEANS.items()),
    *((Fault(name, after=2), middle, True) for name, (_, middle) in MEANS.items() if middle is not None),
    *((Fault.parse(f"retry_after:{value}"), Kind.CAPACITY, False) for value in ("5", "300", "date", "garbage")),
    (Fault("restart", after=5, answer=PAYING), Kind.RESTARTED, True),
]


def test_the_list_is_whole() -> None:
    """A fault that is added to the list has its line here."""
    assert set(MEANS) == set(FAULTS)


def make(made: Stage, style: str) -> None:
    """Call in one of the six styles."""

    async def waiting() -> None:
        if style == "ainvoke":
            made.message = await made.model.ainvoke("Hi")
        elif style == "abatch":
            (made.message,) = await made.model.abatch(["Hi"])
        else:
            async for chunk in made.model.astream("Hi"):
                made.chunks.append(chunk)

    try:
        if style == "invoke":
            made.message = made.model.invoke("Hi")
        elif style == "batch":
            (made.message,) = made.model.batch(["Hi"])
        elif style == "stream":
            for chunk in made.model.stream("Hi"):
                made.chunks.append(chunk)
        else:
            asyncio.run(waiting())
    except (APIError, FallbackError) as error:
        made.error = error
    if made.chunks and made.error is None:
        made.message = collect(made.chunks)


def rows(made: Stage) -> list[dict[str, Any]]:
    """The attempts, wherever they are told."""
    if made.error is None:
        return made.attempts
    return [
        {name: getattr(each, name) for name in ("model", "outcome", "kind", "status_code", "elapsed")}
        for each in made.error.attempts  # type: ignore[attr-defined]
    ]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize(
    ("fault", "kind", "seen"), CASES, ids=[f"{fault.kind}-{fault.value}-{seen}" for fault, _, seen in CASES]
)
def test_what_comes_of_it(fault: Fault, kind: Kind | None, seen: bool, position: int, style: str) -> None:
    """A whole answer of the next member, the failure itself, or one error: and every attempt is told with its time."""
    made = stage([*["cold"] * position, fault])
    make(made, style)
    told = rows(made)
    # I7, I4, I5: nothing open, in time, every request is an attempt that is listed once and in order.
    assert made.transport.open_replies == 0
    assert made.clock.now() <= 60
    assert [each["model"] for each in told] == made.models == [*NAMES, *NAMES][: len(told)]
    assert sum(each["elapsed"] for each in told) <= made.clock.now() + 1e-9
    if position < 2:  # with no wait between rounds the attempts are all the time there was
        assert sum(each["elapsed"] for each in told) == pytest.approx(made.clock.now())
    assert [each["kind"] for each in told[:position]] == ["cold"] * position
    assert [each["status_code"] for each in told[:position]] == [503] * position
    own = told[position]
    assert own["kind"] == kind
    if kind is None:
        assert made.error is None
        assert own["outcome"] == "answered"
        assert made.message.text == ANSWER.text
        assert len(told) == position + 1
        return
    assert own["outcome"] == "failed"
    facts = FACTS[kind]
    if seen and style in ("stream", "astream"):
        assert isinstance(made.error, APIError)
        assert (made.error.kind, len(told)) == (kind, position + 1)
        assert made.error.partial == "".join(chunk.text for chunk in made.chunks)
    elif facts.scope is Scope.ACCOUNT or facts.retry is Retry.NEVER or kind is Kind.CONTEXT_LENGTH:
        # I12: what no other member of this account puts right costs one attempt.
        assert isinstance(made.error, FallbackError)
        assert (made.error.kind, len(told), made.chunks) == (kind, position + 1, [])
    else:
        assert made.error is None
        assert made.message.text == ANSWER.text
        assert [each["outcome"] for each in told[position:]] == ["failed", "answered"]
        assert made.message.response_metadata["model_name"] == told[-1]["model"]
        assert told[-1]["usage"]["total_tokens"] == made.message.usage_metadata["total_tokens"]
