"""The exceptions: their tree, what they carry, and what they never show."""

from __future__ import annotations

import copy
import pickle
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chutes_core
from chutes_core import errors
from chutes_core.errors import APIError, ChutesError, ConfigurationError, ContextLengthError, Kind, redact
from chutes_core.failures.reading import error_from_response, failure
from chutes_core.fallback.trace import FallbackError
from chutes_core.login.errors import CannotListenError, LoginEndedError, LoginError
from chutes_core.response import Choice, Reply

CLASSES = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]
PARTIAL = Reply("c1", "acme/one", (Choice(0, "Half an ans", "Let me think", (), (), None),))


def drawn_tree() -> dict[str, str]:
    """Read child and parent off the drawing in the module's docstring."""
    above: list[tuple[int, str]] = []
    parents: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([ │├└─]*)(\w+Error)\b", line):
            depth = len(found[1])
            above = [(level, name) for level, name in above if level < depth]
            if above:
                parents[found[2]] = above[-1][1]
            above.append((depth, found[2]))
    return parents


def test_the_tree_is_as_drawn() -> None:
    """The drawing in the docstring names every class, each under the class it derives from."""
    drawn = drawn_tree()
    kinds = [*CLASSES, FallbackError, LoginError, LoginEndedError, CannotListenError]
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in kinds if kind is not ChutesError}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: str(kind.__name__))
def test_every_class_can_be_had_from_the_package(kind: type[ChutesError]) -> None:
    """`from chutes_core import …` gives each exception."""
    assert getattr(chutes_core, kind.__name__) is kind


def test_common_builtin_types_catch_them_too() -> None:
    """A refused configuration is a ValueError, and a passed time limit a TimeoutError."""
    with pytest.raises(ValueError, match="no good"):
        raise errors.RequestRefusedError("no good")
    with pytest.raises(TimeoutError, match="no answer began"):
        raise failure(Kind.FIRST_TOKEN_TIMEOUT)


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize("kind", list(Kind))
def test_an_error_survives_a_copy_whole(kind: Kind, clone: object) -> None:
    """Copied or sent to another process, an error keeps its type, its message and all it carries."""
    error = failure(
        kind,
        "said so",
        model="acme/one",
        status_code=500,
        body={"detail": ["said so"]},
        request_id="r1",
        retry_after=2.5,
        partial_reply=PARTIAL,
    )
    error.add_note("seen in a test")
    other = clone(error)  # type: ignore[operator]
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert other.__dict__ == error.__dict__
    assert (other.partial, other.scope, other.retry) == ("Half an ans", error.scope, error.retry)


def test_an_unknown_model_survives_a_pickle() -> None:
    """The suggestions travel with the error."""
    error = errors.UnknownModelError("none such", model="acme/won", suggestions=("acme/one",))
    other = pickle.loads(pickle.dumps(error))
    assert (str(other), other.model, other.suggestions) == ("none such", "acme/won", ("acme/one",))


def test_without_a_partial_reply_the_partial_text_is_empty() -> None:
    """`.partial` is always a text."""
    assert failure(Kind.COLD).partial == ""


def test_an_error_of_ones_own_making_is_a_cautious_one() -> None:
    """An APIError raised with a message alone concerns one model, and another may be asked."""
    error = APIError("strange")
    assert (error.kind, error.scope, error.retry) == (Kind.UNEXPECTED, "target", "elsewhere")
    assert (error.status_code, error.body, error.request_id, error.model, error.retry_after) == (None,) * 5


@pytest.mark.parametrize(
    ("said", "limit", "requested", "prompt"),
    [
        (
            "Requested token count exceeds the model's maximum context length of 202752 tokens. You requested a total "
            "of 233093 tokens: 30341 tokens from the input messages and 202752 tokens for the completion.",
            202752,
            233093,
            30341,
        ),
        (
            "This model's maximum context length is 4,096 tokens. However, you requested 5000 tokens (4000 in the "
            "messages, 1000 in the completion).",
            4096,
            5000,
            4000,
        ),
        (
            "This model's maximum context length is 40960 tokens. However, you requested 1000 output tokens and your "
            "prompt contains at least 40961 input tokens, for a total of at least 41961 tokens.",
            40960,
            41961,
            40961,
        ),
        ("The input (50000 tokens) is longer than the model's context length (40960 tokens).", 40960, None, 50000),
        ("The decoder prompt is longer than the maximum model length of 8192.", 8192, None, None),
        ("This exceeds the maximum context length, alas.", None, None, None),
        ("Too long for the context window", None, None, None),
    ],
)
def test_the_numbers_of_an_overflow(said: str, limit: int | None, requested: int | None, prompt: int | None) -> None:
    """Window, total and prompt are read from each engine's wording; what is not said is None."""
    error = failure(Kind.CONTEXT_LENGTH, said, model="acme/llama-3-8192")
    assert isinstance(error, ContextLengthError)
    assert (error.limit, error.requested, error.prompt_tokens) == (limit, requested, prompt)


@pytest.mark.parametrize(
    ("body", "stamp", "moment"),
    [
        (
            b'{"detail": {"message": "Quota exceeded", "quota_reset_timestamp": "2026-08-23T00:00:00+00:00"}}',
            "2026-08-23T00:00:00+00:00",
            datetime(2026, 8, 23, tzinfo=UTC),
        ),
        (b'{"detail": {"message": "Quota exceeded", "quota_reset_timestamp": "soon"}}', "soon", None),
        (b'{"detail": {"message": "Quota exceeded", "quota_reset_timestamp": 5}}', None, None),
        (b'{"detail": "Subscription usage cap exceeded."}', None, None),
        (b"Payment Required", None, None),
    ],
)
def test_when_the_quota_starts_anew(body: bytes, stamp: str | None, moment: datetime | None) -> None:
    """A 402 tells the time of the reset where the service did, as text and as a datetime."""
    error = error_from_response(402, body)
    assert isinstance(error, errors.PaymentRequiredError)
    assert (error.quota_reset_timestamp, error.quota_reset_at) == (stamp, moment)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("key cpk_0a.1b.2C refused", "key cpk_**** refused"),
        ("cak_12-34.abc", "cak_****"),
        ("refresh_token=crt_12.ab&client_secret=csc_99", "refresh_token=crt_****&client_secret=csc_****"),
        ("Authorization: Bearer abc.def-123456", "Authorization: Bearer ****"),
        ("authorization: basic dXNlcjpwYXNzd29yZA==", "authorization: basic ****"),
        ("Authorization=Bearer%20abc.def-123456", "Authorization=Bearer ****"),
        ("token_cpk_0a.1b.2C", "token_cpk_****"),
        ("first\\ncak_12-34.abc", "first\\ncak_****"),
        ("the Bearer token is missing", "the Bearer token is missing"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_redact(text: str, shown: str) -> None:
    """What is shaped like a secret is masked and the words around it stay."""
    assert redact(text) == shown


@given(
    prefix=st.sampled_from(["cpk_", "cak_", "crt_", "csc_"]),
    secret=st.text("0123456789abcdefABCDEF.-_", min_size=6),
    before=st.sampled_from(["", "key=", '"', "'", "Bearer ", "\n", "(", "https://host/?k="]),
    after=st.sampled_from(["", '"', " is bad", "\n", ")", "&x=1", ", "]),
)
def test_no_key_survives_redaction(prefix: str, secret: str, before: str, after: str) -> None:
    """Wherever a key stands in a text, not a part of it is left, and masking again changes nothing."""
    shown = redact(f"{before}{prefix}{secret}{after}")
    assert secret not in shown
    assert redact(shown) == shown


def test_a_refusal_is_no_api_error() -> None:
    """What was refused here cannot be mistaken for an answer of the service."""
    assert not issubclass(ConfigurationError, APIError)
