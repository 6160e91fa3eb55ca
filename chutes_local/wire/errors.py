"""Chutes' error responses: the literal bodies, and the exception that carries one.

On every Chutes host an error body is ``{"detail": …}`` with a string, an object or a list, never OpenAI's
``{"error": {…}}``; the edge in front of them answers with nginx's small HTML page.

>>> answer = detail(429, CAPACITY)
>>> answer.status, answer.body.decode()
(429, '{"detail":"Infrastructure is at maximum capacity, try again later"}')
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.responses import Response

CAPACITY = "Infrastructure is at maximum capacity, try again later"
FREE_LIMIT = (
    "Free models limit reached for today - maintain >= $10 balance or upgrade subscription to pro to unlock more."
)
RATE_LIMIT = "Rate limit exceeded. Try again later."
EXHAUSTED = "exhausted all available targets to no avail"
NO_INFRASTRUCTURE = "No infrastructure available to serve request"
DISABLED = "This chute is currently disabled."
NOT_TEE = "This chute does not have TEE enabled. Please remove the X-TEE-Only header, or use a TEE-enabled chute."
SUBSCRIPTION_CAP = "Subscription usage cap exceeded. Please add balance to continue."
TEE_NEEDS_BALANCE = "TEE models require an active subscription or positive balance."
# The braces are the service's own: an f-string that lost its f.
OWNER_BALANCE = "Chute unavailable because the creator of this chute {chute.user_id=} has zero balance."
AUTHENTICATION_REQUIRED = "Authentication required."
BAD_KEY = "Invalid token or user not found"
UNKNOWN_KEY = "Can't find a user with that api key in our db :("
MALFORMED_KEY = "Missing or invalid authorization header(s)"
INVALID_TOKEN = "Invalid token."
NO_PERMISSION = "Token does not have permission for this resource"
NO_CHUTE = "No matching chute found!"
NO_CORD = "No matching cord found!"
NOT_FOUND = "Not Found"
NO_FILES = "File content not currently supported"
NO_SCHEMA_PATTERN = "Regex-based structured output (JSON schema 'pattern' fields) is temporarily disabled."
NO_REGEX = "Regex-based structured output is temporarily disabled."
BAD_ARGUMENTS = "Invalid tool_calls.function.arguments value, expected JSON"
UNHANDLED = "Internal Server Error"
TOO_LARGE = "Request body is too large."
ENGINE_FAILED = "the engine of the embedded Chutes failed, which is no simulated fault"
STREAM_ERROR = f"Unhandled exception during response stream: {EXHAUSTED}"

LONGEST_REASON = 500
JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete reply: status, bytes and headers."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    """Raised to answer a request with an error: ``answer``; ``fault`` is the rehearsed kind, if any.

    >>> str(Refused(detail(404, "model not found: x")))
    '404 {"detail":"model not found: x"}'
    """

    def __init__(self, answer: Answer, fault: str | None = None) -> None:
        """Carry ``answer``."""
        super().__init__(f"{answer.status} {answer.body.decode(errors='replace')}")
        self.answer = answer
        self.fault = fault


def compact(value: object) -> bytes:
    """Write JSON as the service does: no spaces, non-ASCII letters unescaped."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def json_answer(status: int, value: object) -> Answer:
    """Build an answer with ``value`` as JSON."""
    return Answer(status, compact(value))


def detail(status: int, text: object, headers: Mapping[str, str] | None = None) -> Answer:
    """Build FastAPI's error body around ``text``."""
    return Answer(status, compact({"detail": text}), headers=tuple((headers or {}).items()))


def engine_400(message: str) -> Answer:
    """Build the gateway's answer to an engine error: the error as JSON inside the text, prefixed twice.

    >>> json.loads(engine_400("too long").body)["detail"][:46]
    'Invalid request: Invalid request: {"detail":{"'
    """
    inner = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
    nested = json.dumps({"detail": inner}, ensure_ascii=False, separators=(",", ":"))
    return detail(400, f"Invalid request: Invalid request: {nested}")


def overflow(engine: str, window: int, prompt: int, completion: int) -> Answer:
    """Build the context overflow error, in the words of the engine that runs the model."""
    total = prompt + completion
    if engine == "vllm":
        return engine_400(
            f"This model's maximum context length is {window} tokens. However, you requested {total} tokens "
            f"({prompt} in the messages, {completion} in the completion). Please reduce the length of the "
            "messages or completion."
        )
    return engine_400(
        f"Requested token count exceeds the model's maximum context length of {window} tokens. "
        f"You requested a total of {total} tokens: {prompt} tokens from the input messages and {completion} "
        "tokens for the completion. Please reduce the number of tokens in the input messages or the "
        "completion to fit within the limit."
    )


def unhandled() -> Answer:
    """Build the answer to what the service's own code does not expect: no JSON."""
    return Answer(500, UNHANDLED.encode(), "text/plain; charset=utf-8")


def nginx(status: int) -> Answer:
    """Build the HTML error page of the edge in front of the service.

    >>> b"<h1>429 Too Many Requests</h1>" in nginx(429).body
    True
    """
    title = {502: "502 Bad Gateway", 504: "504 Gateway Time-out"}.get(status, f"{status} {HTTPStatus(status).phrase}")
    page = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
        "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return Answer(status, page.encode(), "text/html")


def quota_exceeded(reset: str | None) -> Answer:
    """Build the error for a used-up quota and balance; ``reset`` only if the account has a quota."""
    body = {"message": "Quota exceeded and account balance is $0.0, please pay with fiat or send tao to 5LocalAddress"}
    if reset:
        body["quota_reset_timestamp"] = reset
    return detail(402, body)


def engine_failed(why: str) -> str:
    """Return what to say where the engine itself failed, so that nobody takes it for a rehearsed fault.

    >>> engine_failed("It ended.").removeprefix(EXHAUSTED)
    ' (the engine of the embedded Chutes failed, which is no simulated fault: It ended.)'
    """
    return f"{EXHAUSTED} ({ENGINE_FAILED}: {' '.join(why.split())[:LONGEST_REASON]})"


def not_found(model: object) -> Answer:
    """Build the error for an unknown model name."""
    return detail(404, f"model not found: {model}")


def cold(chute_id: str) -> Answer:
    """Build the error for a chute that no machine runs at the moment."""
    return detail(503, f"No instances available (yet) for chute_id='{chute_id}'")


def plain(answer: Answer, headers: Mapping[str, str] | None = None) -> Response:
    """Make a response from a complete answer."""
    merged = {**dict(answer.headers), **(headers or {})}
    return Response(answer.body, answer.status, merged, media_type=answer.content_type)
