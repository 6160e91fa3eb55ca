"""What an attempt says of itself."""

import pickle

import pytest

from chutes_core import Attempt, Kind


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (Attempt("a/one", "answered", elapsed=1.25), "a/one: answered after 1.2 s"),
        (Attempt("a/one", "failed", Kind.COLD, 503, 0.1), "a/one: cold 503 after 0.1 s"),
        (Attempt("a/one", "failed", Kind.STALL, elapsed=20), "a/one: stall after 20.0 s"),
        (Attempt("a/one", "cancelled", elapsed=2), "a/one: cancelled after 2.0 s"),
        (Attempt("a/one", "skipped", detail="no key. Set CHUTES_API_KEY."), "a/one: skipped, no key"),
    ],
    ids=lambda value: value.outcome if isinstance(value, Attempt) else "",
)
def test_an_attempt_is_one_line(attempt: Attempt, said: str) -> None:
    assert str(attempt) == said
    assert pickle.loads(pickle.dumps(attempt)) == attempt
