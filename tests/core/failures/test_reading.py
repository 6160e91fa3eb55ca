"""The failure table: every answer that is no success becomes the right exception."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core import errors as e
from chutes_core.errors import Kind, Retry, Scope
from chutes_core.failures.reading import (
    FACTS,
    RULES,
    error_from_response,
    failure,
    kind_of,
    message_of,
    parse_retry_after,
    reported_error,
)
from chutes_core.response import Choice, Reply

HERE, ELSEWHERE, NEVER = Retry.HERE, Retry.ELSEWHERE, Retry.NEVER
TARGET, ACCOUNT, REQUEST = Scope.TARGET, Scope.ACCOUNT, Scope.REQUEST
NGINX = "<html>\r\n<head><title>{0}</title></head>\r\n<body><center><h1>{0}</h1></center><hr>nginx</body></html>"
OVERFLOW = (
    "Requested token count exceeds the model's maximum context length of 202752 tokens. You requested a total of "
    "233093 tokens: 30341 tokens from the input messages and 202752 tokens for the completion. Please reduce …"
)


def nested(message: str, code: int = 400) -> str:
    """The gateway's double-wrapped body of an engine's refusal."""
    inner = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": code}
    return "Invalid request: Invalid request: " + json.dumps({"detail": inner})


# Status, the value of "detail" (or raw HTML), class, kind, scope, retry: one row for each row of the contract.
TABLE: list[tuple[int, object, type[e.APIError], Kind, Scope, Retry]] = [
    # 400: the request
    (400, "Invalid request JSON: Expecting value", e.InvalidRequestError, Kind.BAD_REQUEST, REQUEST, NEVER),
    (400, "invalid request JSON payload: eof", e.InvalidRequestError, Kind.BAD_REQUEST, REQUEST, NEVER),
    (400, nested("temperature must be positive"), e.InvalidRequestError, Kind.BAD_REQUEST, REQUEST, NEVER),
    (400, "Invalid request: Invalid request: no", e.InvalidRequestError, Kind.BAD_REQUEST, REQUEST, NEVER),
    (400, nested(OVERFLOW), e.ContextLengthError, Kind.CONTEXT_LENGTH, REQUEST, ELSEWHERE),
    (
        400,
        nested("This model's maximum context length is 40960 tokens."),
        e.ContextLengthError,
        Kind.CONTEXT_LENGTH,
        REQUEST,
        ELSEWHERE,
    ),
    (400, "File content not currently supported", e.InvalidRequestError, Kind.UNSUPPORTED, REQUEST, ELSEWHERE),
    (
        400,
        "Regex-based structured output (JSON schema 'pattern' fields) is temporarily disabled.",
        e.InvalidRequestError,
        Kind.UNSUPPORTED,
        REQUEST,
        ELSEWHERE,
    ),
    (
        400,
        "Regex-based structured output is temporarily disabled.",
        e.InvalidRequestError,
        Kind.UNSUPPORTED,
        REQUEST,
        ELSEWHERE,
    ),
    (
        400,
        "Invalid tool_calls.function.arguments value, expected JSON",
        e.InvalidRequestError,
        Kind.BAD_REQUEST,
        REQUEST,
        NEVER,
    ),
    (400, "Exceeded maximum image URLs per request: 8", e.InvalidRequestError, Kind.BAD_REQUEST, REQUEST, NEVER),
    (400, "Failed to fetch https://x.test/a.png: 403", e.InvalidRequestError, Kind.BAD_REQUEST, REQUEST, NEVER),
    (400, "Invalid image URL: content_type=text/html", e.InvalidRequestError, Kind.BAD_REQUEST, REQUEST, NEVER),
    (
        400,
        "Only HTTP(s) URLs are supported for images: ftp://x.test",
        e.InvalidRequestError,
        Kind.BAD_REQUEST,
        REQUEST,
        NEVER,
    ),
    (400, "bad request, naughty naughty", e.InvalidRequestError, Kind.BAD_REQUEST, REQUEST, NEVER),
    (400, "Content-Length must be an integer", e.InvalidRequestError, Kind.TOO_LARGE, REQUEST, NEVER),
    (400, "Request body is too large.", e.InvalidRequestError, Kind.TOO_LARGE, REQUEST, NEVER),
    (413, "Request body is too large.", e.InvalidRequestError, Kind.TOO_LARGE, REQUEST, NEVER),
    (
        400,
        "Non-streaming E2E requests require chutes >= 0.5.27 for vLLM chutes. Please use stream=True",
        e.InvalidRequestError,
        Kind.UNSUPPORTED,
        REQUEST,
        ELSEWHERE,
    ),
    (
        422,
        [{"loc": ["body", "alias"], "msg": "field required", "type": "missing"}],
        e.InvalidRequestError,
        Kind.BAD_REQUEST,
        REQUEST,
        NEVER,
    ),
    # 401, 403: the key
    *(
        (401, said, e.AuthenticationError, Kind.AUTHENTICATION, ACCOUNT, ELSEWHERE)
        for said in (
            "Authentication required.",
            "Can't find a user with that api key in our db :(",
            "Missing or invalid authorization header(s)",
            "Invalid token or user not found",
            "Invalid token.",
            "Token expired.",
            "Invalid BT Auth.",
            "Invalid nonce!",
        )
    ),
    (
        403,
        "Token does not have permission for this resource",
        e.PermissionDeniedError,
        Kind.PERMISSION,
        ACCOUNT,
        ELSEWHERE,
    ),
    (403, "Invalid, expired, or already-used nonce", e.PermissionDeniedError, Kind.SEALED_NONCE, TARGET, HERE),
    # 402: the money
    (
        402,
        {
            "message": "Quota exceeded and account balance is $0.0, please pay with fiat or send tao to 5…",
            "quota_reset_timestamp": "2026-08-23T00:00:00+00:00",
        },
        e.PaymentRequiredError,
        Kind.PAYMENT,
        ACCOUNT,
        ELSEWHERE,
    ),
    (402, "Account balance is $0.0", e.PaymentRequiredError, Kind.PAYMENT, ACCOUNT, ELSEWHERE),
    (
        402,
        "Subscription usage cap exceeded. Please add balance to continue.",
        e.PaymentRequiredError,
        Kind.PLAN_CAP,
        ACCOUNT,
        ELSEWHERE,
    ),
    (
        402,
        "TEE models require an active subscription or positive balance.",
        e.PaymentRequiredError,
        Kind.TEE_PAYMENT,
        TARGET,
        ELSEWHERE,
    ),
    (
        402,
        "This model requires a higher subscription tier or positive balance.",
        e.PaymentRequiredError,
        Kind.NOT_INCLUDED,
        Scope.TARGET,
        Retry.ELSEWHERE,
    ),
    (
        402,
        "Chute unavailable because the creator of this chute {chute.user_id=} has zero balance.",
        e.PaymentRequiredError,
        Kind.OWNER_PAYMENT,
        TARGET,
        ELSEWHERE,
    ),
    # 404, 410, 426: the model or the address
    (404, "model not found: acme/one", e.ModelNotFoundError, Kind.MODEL_NOT_FOUND, TARGET, ELSEWHERE),
    (404, "No matching chute found!", e.ModelNotFoundError, Kind.MODEL_NOT_FOUND, TARGET, ELSEWHERE),
    (404, "No matching cord found!", e.ModelNotFoundError, Kind.ROUTE_NOT_FOUND, REQUEST, NEVER),
    (404, "Not Found", e.ModelNotFoundError, Kind.ROUTE_NOT_FOUND, REQUEST, NEVER),
    (405, "Method Not Allowed", e.ModelNotFoundError, Kind.ROUTE_NOT_FOUND, REQUEST, NEVER),
    (404, "Instance not found", e.UnavailableError, Kind.SEALED_INSTANCE, TARGET, HERE),
    (404, "No active instances found for this chute", e.ColdModelError, Kind.COLD, TARGET, ELSEWHERE),
    (404, "No E2E-capable instances available", e.ColdModelError, Kind.COLD, TARGET, ELSEWHERE),
    (410, "Instance is no longer active", e.UnavailableError, Kind.SEALED_INSTANCE, TARGET, HERE),
    (
        426,
        "This chute does not have TEE enabled. Please remove the X-TEE-Only header, or use a TEE-enabled chute.",
        e.ModelNotFoundError,
        Kind.NOT_CONFIDENTIAL,
        TARGET,
        ELSEWHERE,
    ),
    # 429: too many
    (
        429,
        "Infrastructure is at maximum capacity, try again later",
        e.CapacityError,
        Kind.CAPACITY,
        TARGET,
        HERE,
    ),
    (429, "Instance is at maximum capacity, try again later", e.CapacityError, Kind.SEALED_BUSY, TARGET, HERE),
    (
        429,
        "Free models limit reached for today - maintain >= $10 balance or upgrade subscription to pro to unlock more.",
        e.AccountLimitError,
        Kind.ACCOUNT_LIMIT,
        TARGET,
        ELSEWHERE,
    ),
    (
        429,
        "Invalid free model, please select from the updated list of current chutes free models",
        e.PaymentRequiredError,
        Kind.NOT_INCLUDED,
        TARGET,
        ELSEWHERE,
    ),
    (429, "Rate limit exceeded. Try again later.", e.RateLimitError, Kind.ENDPOINT_LIMIT, TARGET, HERE),
    (429, "model is under maintenance", e.UnavailableError, Kind.DISABLED, TARGET, ELSEWHERE),
    (429, "Stop spamming this prompt, please...", e.RateLimitError, Kind.RATE_LIMIT, TARGET, HERE),
    (429, NGINX.format("429 Too Many Requests"), e.RateLimitError, Kind.EDGE_LIMIT, ACCOUNT, ELSEWHERE),
    (429, "", e.RateLimitError, Kind.EDGE_LIMIT, ACCOUNT, ELSEWHERE),
    # 5xx: the machines
    *(
        (500, said, e.UnavailableError, Kind.EXHAUSTED, TARGET, HERE)
        for said in (
            "exhausted all available targets to no avail",
            "No infrastructure available to serve request",
            "No infrastructure available to serve request, error code: NO_TARGETS",
            "Unhandled exception trying to load backend node to route request",
            "No result returned from upstream",
        )
    ),
    (500, "Unhandled error generating response: 'id'", e.UnavailableError, Kind.UPSTREAM, TARGET, HERE),
    (500, "Internal error during E2E invocation", e.UnavailableError, Kind.UPSTREAM, TARGET, HERE),
    (500, "", e.UnavailableError, Kind.UPSTREAM, TARGET, HERE),
    (503, "No instances available (yet) for chute_id='ac05'", e.ColdModelError, Kind.COLD, TARGET, ELSEWHERE),
    (503, "This chute is currently disabled.", e.UnavailableError, Kind.DISABLED, TARGET, ELSEWHERE),
    (
        503,
        {"object": "error", "message": "engine stopped", "type": "InternalServerError", "code": 503},
        e.UnavailableError,
        Kind.UPSTREAM,
        TARGET,
        HERE,
    ),
    (
        502,
        "Instance requires key exchange, try a different instance",
        e.UnavailableError,
        Kind.SEALED_INSTANCE,
        TARGET,
        HERE,
    ),
    (502, NGINX.format("502 Bad Gateway"), e.UnavailableError, Kind.BAD_GATEWAY, TARGET, HERE),
    (504, NGINX.format("504 Gateway Time-out"), e.UnavailableError, Kind.GATEWAY_TIMEOUT, TARGET, ELSEWHERE),
    (522, NGINX.format("522"), e.UnavailableError, Kind.GATEWAY_TIMEOUT, TARGET, ELSEWHERE),
    (524, NGINX.format("524"), e.UnavailableError, Kind.GATEWAY_TIMEOUT, TARGET, ELSEWHERE),
    # and what nobody has seen yet
    (418, "I am a teapot", e.APIError, Kind.UNEXPECTED, TARGET, ELSEWHERE),
]


def body_of(detail: object) -> bytes:
    """What is sent: HTML and nothing as they are, anything else as the service's JSON."""
    raw = isinstance(detail, str) and (not detail or detail.startswith("<"))
    return str(detail).encode() if raw else json.dumps({"detail": detail}).encode()


@pytest.mark.parametrize(
    ("status", "detail", "error", "kind", "scope", "retry"),
    TABLE,
    ids=[f"{row[0]}-{str(row[1])[:40].splitlines()[0] if row[1] else 'empty'}" for row in TABLE],
)
def test_every_row_of_the_contract(
    status: int, detail: object, error: type[e.APIError], kind: Kind, scope: Scope, retry: Retry
) -> None:
    """Status and body give the class, the cause, whom it concerns, and where another try helps."""
    found = error_from_response(status, body_of(detail), model="acme/one")
    assert type(found) is error
    assert (found.kind, found.scope, found.retry) == (kind, scope, retry)
    assert (found.status_code, found.model) == (status, "acme/one")


def test_every_rule_decides_something() -> None:
    """No row of the table stands in the shadow of one above it."""
    for position, (statuses, phrase, kind) in enumerate(RULES):
        reached = [
            status
            for status in statuses
            if not any(status in above and words in phrase for above, words, _ in RULES[:position])
        ]
        assert reached == list(statuses), (statuses, phrase)
        assert kind_of(statuses[0], phrase.upper()) is kind


def test_every_kind_has_its_facts() -> None:
    """Each cause says why it probably came about and what to do."""
    assert set(FACTS) == set(Kind)
    for facts in FACTS.values():
        assert facts.remedy.endswith(".")
        assert not facts.why.endswith(".")


def test_nothing_that_only_a_change_can_mend_is_tried_again() -> None:
    """What concerns the account or the request is never worth another try as it stands."""
    assert {facts.scope for facts in FACTS.values() if facts.retry is HERE} == {TARGET}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"detail": "plain"}, "plain"),
        ({"detail": {"message": "inside", "code": 400}}, "inside"),
        ({"error": {"message": "an engine's", "code": 500}}, "an engine's"),
        ({"error": "bare"}, "bare"),
        ({"error": "request_too_large", "detail": "exceeds 10 bytes"}, "exceeds 10 bytes"),
        ({"error": "invalid_grant", "error_description": "Refresh token was used"}, "Refresh token was used"),
        ({"error": "invalid_grant"}, "invalid_grant"),
        ({"detail": None, "message": "fallen back on"}, "fallen back on"),
        ({"detail": nested("deep inside")}, "deep inside"),
        ({"detail": "Invalid request: Invalid request: words only"}, "words only"),
        ({"detail": 'Invalid request: {"cut": '}, '{"cut":'),
        ({"detail": "{}"}, "{}"),
        ({"detail": "Invalid request JSON: eof"}, "Invalid request JSON: eof"),
        ({"detail": [{"loc": ["body", 0, "x"], "msg": "bad"}, {"msg": "no place"}]}, "body.0.x: bad; no place"),
        ({"detail": ["one", {"loc": "odd"}, None, "two"]}, "one; two"),
        ("  text  ", "text"),
        ({"unknown": "shape"}, ""),
        (b"bytes", ""),
        (7, ""),
        (None, ""),
    ],
)
def test_the_sentence_that_matters(body: object, sentence: str) -> None:
    """Whatever shape the service gives its reason, the reason is found."""
    assert message_of(body) == sentence


def test_the_message_says_what_why_and_what_to_do() -> None:
    """A person reads the model, the probable cause, the service's own words, and a remedy."""
    error = error_from_response(402, b'{"detail": "Subscription usage cap exceeded."}', model="acme/one")
    assert str(error) == (
        "acme/one: a spending cap of your plan is used up, and your account has no balance (402: Subscription usage "
        "cap exceeded.). Add balance, or wait for the reset: `chutes-connect account` or client.account.subscription() "
        "says when."
    )


@pytest.mark.parametrize(
    ("detail", "sentence"),
    [
        ({"message": "Quota exceeded", "quota_reset_timestamp": "2026-08-23T00:00:00+00:00"}, "wait until the quota"),
        ({"message": "Quota exceeded"}, "Add balance or subscribe; waiting does not help."),
        ("Account balance is $0.0", "waiting helps only where a daily quota resets"),
    ],
    ids=["with a quota", "without", "no word of it"],
)
def test_waiting_is_advised_where_a_quota_resets(detail: object, sentence: str) -> None:
    """The service names a time only to an account that has a daily quota."""
    assert sentence in str(error_from_response(402, json.dumps({"detail": detail}).encode()))


@pytest.mark.parametrize(("content", "shown"), [(NGINX.format(502).encode(), "(502: an HTML page)"), (b"", "(502)")])
def test_a_page_of_html_is_not_quoted(content: bytes, shown: str) -> None:
    """The message names an HTML page as one instead of showing its tags; the body keeps it."""
    error = error_from_response(502, content)
    assert shown in str(error)
    assert "<" not in str(error)
    assert error.body == content.decode()


def test_a_failure_without_any_words() -> None:
    """With neither status nor words the message has no empty brackets."""
    assert "(" not in str(failure(Kind.EMPTY))


def test_a_long_reason_is_cut_and_put_on_one_line() -> None:
    """A message stays readable whatever the service sends."""
    error = error_from_response(400, json.dumps({"detail": "a  b\n" * 5000}).encode())
    assert "a b a b" in str(error)
    assert len(str(error)) < 1200


def test_no_key_gets_into_an_error() -> None:
    """A key that the service sends back is masked in the message and everywhere in the body."""
    key = "cpk_fake0123456789.fedcba9876543210.ABCdef"
    detail = {"message": f"bad key {key}", "seen": [{"header": f"Bearer {key}"}], "count": 1}
    error = error_from_response(401, json.dumps({"detail": detail}).encode())
    assert key[4:] not in f"{error} {error!r} {error.body}"
    assert error.body == {
        "detail": {"message": "bad key cpk_****", "seen": [{"header": "Bearer ****"}], "count": 1},
    }
    assert key[4:] not in str(error_from_response(401, f"<html>{key}".encode()).body)


@pytest.mark.parametrize(
    ("headers", "request_id", "retry_after"),
    [
        ({"X-Chutes-InvocationID": "abc", "X-Request-Id": "def", "Retry-After": "5"}, "abc", 5.0),
        ({"x-request-id": "def"}, "def", None),
        ({}, None, None),
        (None, None, None),
    ],
)
def test_headers(headers: dict[str, str] | None, request_id: str | None, retry_after: float | None) -> None:
    """The invocation's id and the time to wait are taken from the headers, however they are written."""
    error = error_from_response(429, b'{"detail": "at maximum capacity"}', headers)
    assert (error.request_id, error.retry_after) == (request_id, retry_after)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.0),
        ("0", 0.0),
        ("300", 300.0),
        ("1.5", 1.5),
        ("Sat, 01 Aug 2026 00:00:30 GMT", 30.0),
        ("Fri, 31 Jul 2026 23:59:30 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-3", None),
        ("nan", None),
        ("inf", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999999999", None),
        (None, None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Seconds and dates are read, a date in the past is no wait, and anything else counts as absent."""
    assert parse_retry_after(value, now=1785542400.0) == seconds


def test_a_date_is_measured_from_now() -> None:
    """Without a given time a date is compared with the clock on the wall."""
    assert parse_retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0


@given(st.integers(300, 599), st.binary(max_size=60), st.text(max_size=30))
def test_no_answer_can_break_the_reading_of_it(status: int, content: bytes, wait: str) -> None:
    """Any bytes under any status become an error of ours."""
    error = error_from_response(status, content, {"retry-after": wait})
    assert error.status_code == status
    assert error.retry_after is None or error.retry_after >= 0


DEEP = [
    b'{"detail":' * 500 + b"1" + b"}" * 500,
    b"[" * 900 + b"]" * 900,
    b"[" * 100_000,
    json.dumps({"detail": "Invalid request: " + '{"detail":' * 900 + "1" + "}" * 900}).encode(),
    json.dumps({"detail": "Invalid request: " + '{"a":' * 100_000}).encode(),
]


@pytest.mark.parametrize("content", DEEP, ids=range(len(DEEP)))
def test_no_depth_can_break_the_reading_of_it(content: bytes) -> None:
    """What is nested deeper than anything real is an error of ours all the same."""
    assert error_from_response(500, content).status_code == 500
    with contextlib.suppress(RecursionError):  # what cannot even be parsed never comes here
        body = json.loads(content)
        assert isinstance(reported_error({"error": body}), e.APIError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["detail", "error", "message", "msg", "loc", "code", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, st.sampled_from([400, 404, 422, 429, 500, 503]))
def test_no_json_can_break_the_reading_of_it(body: object, status: int) -> None:
    """A body of any shape becomes an error of ours, as a status and inside a success."""
    assert isinstance(error_from_response(status, json.dumps(body).encode()), e.APIError)
    if isinstance(body, dict):
        assert isinstance(reported_error(body), e.APIError)


@pytest.mark.parametrize(
    ("body", "kind", "status", "kind_later"),
    [
        (
            {"error": "Unhandled exception during response stream: exhausted all available targets to no avail"},
            Kind.EXHAUSTED,
            None,
            Kind.STREAM_ERROR,
        ),
        ({"error": {"message": "boom", "code": 500}}, Kind.UPSTREAM, 500, Kind.STREAM_ERROR),
        ({"error": {"message": "busy: at maximum capacity", "code": 429}}, Kind.CAPACITY, 429, Kind.STREAM_ERROR),
        ({"error": {"message": OVERFLOW, "code": 400}}, Kind.CONTEXT_LENGTH, 400, Kind.CONTEXT_LENGTH),
        ({"detail": {"message": OVERFLOW, "code": 400}}, Kind.CONTEXT_LENGTH, 400, Kind.CONTEXT_LENGTH),
        ({"object": "error", "message": "bad", "code": 400}, Kind.BAD_REQUEST, 400, Kind.BAD_REQUEST),
        ({"error": {"message": "boom", "code": "weird"}}, Kind.UPSTREAM, None, Kind.STREAM_ERROR),
        ({"error": {"message": "boom", "code": 7}}, Kind.UPSTREAM, None, Kind.STREAM_ERROR),
    ],
)
def test_an_error_inside_a_success(body: dict[str, object], kind: Kind, status: int | None, kind_later: Kind) -> None:
    """Before the answer it means what the status would have meant; after its beginning, that the answer broke."""
    first = reported_error(body, model="acme/one", request_id="r1")
    assert (first.kind, first.status_code, first.model, first.request_id) == (kind, status, "acme/one", "r1")
    partial = Reply("c1", "acme/one", (Choice(0, "Half", "", (), (), None),))
    later = reported_error(body, partial_reply=partial, delivered=True)
    assert (later.kind, later.partial) == (kind_later, "Half")
