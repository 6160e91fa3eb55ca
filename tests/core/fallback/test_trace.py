"""The error that lists what happened: in full as data, summed up as a message, with a remedy for a fallback."""

from __future__ import annotations

import pytest

from chutes_core import Kind
from chutes_core.failures.reading import failure
from chutes_core.failures.table import FACTS, REMEDIES_FOR_ALL
from chutes_core.fallback import Attempt, FallbackError

ONE, TWO = "Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE"


def failed(*kinds: tuple[str, Kind]) -> FallbackError:
    """The error of a call in which these members failed so, one after the other."""
    attempts = [Attempt(name, "failed", kind, elapsed=0.1 * place) for place, (name, kind) in enumerate(kinds)]
    return FallbackError.of([failure(kind, model=name) for name, kind in kinds], attempts)


def test_rounds_are_summed_up_and_attempts_are_not() -> None:
    """What happened alike several times is told once, in the order of the first; the attempts are all there."""
    skipped = Attempt("acme/small", "skipped", detail="window of 100 tokens is too small for 500")
    rounds = [Attempt(name, "failed", Kind.CAPACITY, 429, 0.1 * place) for place, name in enumerate([ONE, TWO] * 4)]
    cold = Attempt(ONE, "failed", Kind.COLD, 503, 0.25)
    attempts = [skipped, *rounds, cold]
    busy = failure(Kind.CAPACITY, status_code=429)
    error = FallbackError.of([busy] * 8, attempts, because="the deadline has passed")
    assert error.message == (
        "No model gave a whole answer (9 attempts, the deadline has passed). "
        "acme/small: skipped, window of 100 tokens is too small for 500; "
        f"{ONE}: capacity 429 (4 times); {TWO}: capacity 429 (4 times); {ONE}: cold 503 after 0.2 s. "
        "Every member is busy: wait, add a model of another family, or raise `deadline` and `max_attempts`."
    )
    assert error.attempts == tuple(attempts)
    assert len(error.exceptions) == 8


@pytest.mark.parametrize("kind", Kind)
def test_the_remedy_is_one_for_a_fallback(kind: Kind) -> None:
    """Where every member failed, nobody is told to let another model take over."""
    said = failed((ONE, kind), (TWO, kind)).message
    assert said.endswith(REMEDIES_FOR_ALL.get(kind, FACTS[kind].remedy))
    assert not any(words in said for words in ("with a fallback", "another model take over", "Ask another model"))


@pytest.mark.parametrize(
    ("kinds", "remedy"),
    [
        ([Kind.CAPACITY, Kind.SEALED_BUSY], REMEDIES_FOR_ALL[Kind.CAPACITY]),
        ([Kind.CAPACITY, Kind.RESET], "Try again later, or add a model of another family."),
        ([Kind.CAPACITY, Kind.AUTHENTICATION], FACTS[Kind.AUTHENTICATION].remedy),
        ([Kind.COLD, Kind.PAYMENT], FACTS[Kind.PAYMENT].remedy),
        ([Kind.COLD, Kind.BAD_REQUEST], "Change the request."),
        ([Kind.COLD, Kind.CONTEXT_LENGTH], REMEDIES_FOR_ALL[Kind.CONTEXT_LENGTH]),
    ],
)
def test_the_last_failure_decides_where_it_concerns_more_than_a_model(kinds: list[Kind], remedy: str) -> None:
    """Account and request are at fault whatever else happened; models that fail in several ways share a remedy."""
    assert failed(*((ONE, kind) for kind in kinds)).message.endswith(f". {remedy}")
