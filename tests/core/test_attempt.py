"""What an attempt says of itself."""

import pickle
from typing import Any

import pytest

from chutes_core import Attempt, Attempts, ConfigurationError, FallbackReply, Kind, Reply, Usage
from chutes_core.fallback.report import ATTEMPTS, report
from chutes_core.secrets.masking import Known
from chutes_core.secrets.secret import Secret


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


MADE = Attempts(
    [
        Attempt("a/one", "failed", Kind.RESET, elapsed=2.0, usage=Usage(10, 5, 15), delivered=120),
        Attempt("a/three", "skipped", detail="no tools. Leave it out."),
        Attempt("a/two", "answered", elapsed=1.0, resumed_at=120, began=2.0, served="a/two-fp8"),
    ]
)


class Answer:
    """An answer of any framework: something with its metadata in one of its attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


ROWS = [report(each) for each in MADE]


@pytest.mark.parametrize(
    "answer",
    [
        MADE,
        ROWS,
        {ATTEMPTS: ROWS},
        Answer(response_metadata={ATTEMPTS: ROWS}),
        Answer(raw={ATTEMPTS: ROWS}),
        Answer(raw=None, message=Answer(additional_kwargs={ATTEMPTS: ROWS})),
        FallbackReply(None, None, (), attempts=MADE),
    ],
    ids=["attempts", "rows", "mapping", "message", "response", "inner message", "reply"],
)
def test_attempts_are_read_from_any_answer(answer: object) -> None:
    """Plain data comes back as what it was."""
    assert Attempts.of(answer) == MADE


def test_an_answer_without_attempts() -> None:
    """The error says which answers have some."""
    for answer in (Reply(None, None, ()), "text", 7, [1]):
        with pytest.raises(ConfigurationError, match=r"lists no attempts.*ChutesFallback"):
            Attempts.of(answer)
    assert Attempts.of(ConfigurationError("wrong")) == ()


def test_what_another_version_wrote_is_read() -> None:
    """Unknown fields and kinds are passed over."""
    row = {**ROWS[0], "kind": "haunted", "mood": "bad", "usage": {**ROWS[0]["usage"], "dreams": 1}}  # type: ignore[dict-item]
    assert Attempts.of([row])[0].usage == Usage(10, 5, 15)
    assert Attempts.of([row])[0].kind is None


def test_a_timeline() -> None:
    """When each attempt was, and what came of it."""
    assert MADE.as_text().splitlines() == [
        "model      when                      seconds  what happened",
        "a/one      ━━━━━━━━━━━━━━━━              2.0  reset, after 120 characters",
        "a/three                                       not asked: no tools",
        "a/two-fp8                  ━━━━━━━━      1.0  went on after 120 characters; whole",
    ]
    assert "2 attempts, 3.0 s" in MADE._repr_html_()
    assert Attempts().as_text()


def test_attempts_stay_attempts_when_a_secret_is_masked_in_them() -> None:
    """A service may name the key as the model that answered; the timeline is still there, without it."""
    known, error = Known(), ConfigurationError("wrong")
    known.learn({}, Secret("cpk_0123456789"))
    error.attempts = [Attempt("a/one", "failed", Kind.COLD, served="cpk_0123456789")]
    attempts = known.mask(error).attempts
    assert isinstance(attempts, Attempts)
    assert "cpk_" not in attempts.as_text()
