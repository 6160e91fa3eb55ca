"""The failure table itself: which status and phrase are which kind, and what follows from each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chutes_core import errors as e
from chutes_core.errors import APIError, Kind, Retry, Scope

__all__ = ["FACTS", "RULES", "Facts"]

RULES: tuple[tuple[tuple[int, ...], str, Kind], ...] = (
    # statuses ("()" is any), a phrase of the body in lower case ("" is any), the kind
    ((429,), "free models limit reached", Kind.ACCOUNT_LIMIT),
    ((429,), "invalid free model", Kind.NOT_INCLUDED),
    ((429,), "instance is at maximum capacity", Kind.SEALED_BUSY),
    ((429,), "at maximum capacity", Kind.CAPACITY),
    ((429,), "rate limit exceeded", Kind.ENDPOINT_LIMIT),
    ((429,), "under maintenance", Kind.DISABLED),
    ((429,), "<html", Kind.EDGE_LIMIT),
    ((429,), "", Kind.RATE_LIMIT),
    ((402,), "creator of this chute", Kind.OWNER_PAYMENT),
    ((402,), "higher subscription tier", Kind.NOT_INCLUDED),
    ((402,), "", Kind.PAYMENT),
    ((401,), "", Kind.AUTHENTICATION),
    ((403,), "already-used nonce", Kind.SEALED_NONCE),
    ((403,), "", Kind.PERMISSION),
    ((404,), "no matching cord", Kind.ROUTE_NOT_FOUND),
    ((404,), "no active instances found", Kind.COLD),
    ((404,), "e2e-capable instances", Kind.COLD),
    ((404,), "instance not found", Kind.SEALED_INSTANCE),
    ((404,), "model not found", Kind.MODEL_NOT_FOUND),
    ((404,), "no matching chute", Kind.MODEL_NOT_FOUND),
    ((404,), "chute not found", Kind.MODEL_NOT_FOUND),
    ((404,), "does not exist", Kind.MODEL_NOT_FOUND),
    ((404,), "", Kind.ROUTE_NOT_FOUND),
    ((405,), "", Kind.ROUTE_NOT_FOUND),
    ((410,), "", Kind.SEALED_INSTANCE),
    ((426,), "", Kind.NOT_CONFIDENTIAL),
    ((413,), "", Kind.TOO_LARGE),
    ((400,), "content-length must be", Kind.TOO_LARGE),
    ((400,), "body is too large", Kind.TOO_LARGE),
    ((400, 422), "context length", Kind.CONTEXT_LENGTH),
    ((400, 422), "maximum model length", Kind.CONTEXT_LENGTH),
    ((400, 422), "context window", Kind.CONTEXT_LENGTH),
    ((400,), "not currently supported", Kind.UNSUPPORTED),
    ((400,), "temporarily disabled", Kind.UNSUPPORTED),
    ((400,), "not a multimodal model", Kind.UNSUPPORTED),
    ((400, 422), "does not support", Kind.UNSUPPORTED),
    ((400, 422), "", Kind.BAD_REQUEST),
    ((503,), "no instances available", Kind.COLD),
    ((503,), "currently disabled", Kind.DISABLED),
    ((500,), "exhausted all available targets", Kind.EXHAUSTED),
    ((500,), "no infrastructure available", Kind.EXHAUSTED),
    ((500,), "unhandled exception trying to load backend", Kind.EXHAUSTED),
    ((500,), "no result returned from upstream", Kind.EXHAUSTED),
    ((502,), "requires key exchange", Kind.SEALED_INSTANCE),
    ((502, 520, 521, 523), "", Kind.BAD_GATEWAY),
    ((408, 504, 522, 524), "", Kind.GATEWAY_TIMEOUT),
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What follows from a kind of failure.

    Attributes:
        error: The exception that is raised for it.
        scope: Whom it concerns.
        retry: Where another try helps.
        why: What has probably happened, as a clause.
        remedy: What to do, as a sentence.
        wait: Seconds before the first retry here; later ones wait longer.
    """

    error: type[APIError]
    scope: Scope
    retry: Retry
    why: str
    remedy: str
    wait: float = 0.0


_TARGET, _ACCOUNT, _REQUEST = Scope.TARGET, Scope.ACCOUNT, Scope.REQUEST
_HERE, _ELSEWHERE, _NEVER = Retry.HERE, Retry.ELSEWHERE, Retry.NEVER
_ANOTHER = "Ask another model, or let one take over with a fallback."
_WHOLE = "What arrived is in .partial and is not a whole answer: ask again, or let another model take over."

FACTS: Mapping[Kind, Facts] = {
    Kind.CAPACITY: Facts(
        e.CapacityError, _TARGET, _HERE, "every machine that serves this model is busy",
        "Wait some seconds, or let another model take over with a fallback.", wait=4.0,
    ),
    Kind.ACCOUNT_LIMIT: Facts(
        e.AccountLimitError, _ACCOUNT, _ELSEWHERE, "a limit of your account is reached",
        "Add balance or wait for the next day; other models of this account are limited too.",
    ),
    Kind.EDGE_LIMIT: Facts(
        e.RateLimitError, _ACCOUNT, _ELSEWHERE, "the edge turned the request away, as it does when it sees no key",
        "Check that the key is sent as 'Authorization: Bearer …' and is valid; if it is, slow down.",
    ),
    Kind.ENDPOINT_LIMIT: Facts(
        e.RateLimitError, _TARGET, _HERE, "this endpoint takes a few requests a minute from everyone together",
        "Try again in the next minute.", wait=20.0,
    ),
    Kind.RATE_LIMIT: Facts(
        e.RateLimitError, _TARGET, _HERE, "too many requests at once", "Slow down, or ask another model.", wait=2.0,
    ),
    Kind.NOT_INCLUDED: Facts(
        e.PaymentRequiredError, _TARGET, _ELSEWHERE, "your plan does not include this model",
        "Choose a model that it includes, or add balance.",
    ),
    Kind.COLD: Facts(
        e.ColdModelError, _TARGET, _ELSEWHERE, "no machine runs this model just now",
        "Ask another model, or wake this one with client.warm_up(model) and try again when it is hot.",
    ),
    Kind.DISABLED: Facts(e.UnavailableError, _TARGET, _ELSEWHERE, "this model is switched off", _ANOTHER),
    Kind.EXHAUSTED: Facts(
        e.UnavailableError, _TARGET, _HERE, "every machine the gateway tried for this request failed",
        "Try again, or ask another model; if it keeps failing, leave out optional fields of the request.", wait=1.0,
    ),
    Kind.UPSTREAM: Facts(
        e.UnavailableError, _TARGET, _HERE, "the service failed while it handled the request",
        "Try again, or ask another model.", wait=1.0,
    ),
    Kind.BAD_GATEWAY: Facts(
        e.UnavailableError, _TARGET, _HERE, "the edge could not reach the gateway", "Try again in a moment.", wait=1.0,
    ),
    Kind.GATEWAY_TIMEOUT: Facts(
        e.UnavailableError, _TARGET, _ELSEWHERE, "the edge gave up waiting; it does after about 600 seconds",
        "Stream long answers, lower max_tokens, or ask a faster model.",
    ),
    Kind.PAYMENT: Facts(
        e.PaymentRequiredError, _ACCOUNT, _ELSEWHERE, "quota and balance of your account are used up",
        "Add balance, or wait for the reset (.quota_reset_at where the service said it).",
    ),
    Kind.OWNER_PAYMENT: Facts(
        e.PaymentRequiredError, _TARGET, _ELSEWHERE, "the owner of this model has no balance left", _ANOTHER,
    ),
    Kind.AUTHENTICATION: Facts(
        e.AuthenticationError, _ACCOUNT, _ELSEWHERE, "the key is not accepted, or lacks the scope for this",
        "Check the key (CHUTES_OAUTH_TOKEN wins over CHUTES_API_KEY); an expired token has to be renewed.",
    ),
    Kind.PERMISSION: Facts(
        e.PermissionDeniedError, _ACCOUNT, _ELSEWHERE, "the token lacks the scope for this",
        "Inference needs the scope 'chutes:invoke'.",
    ),
    Kind.MODEL_NOT_FOUND: Facts(
        e.ModelNotFoundError, _TARGET, _ELSEWHERE,
        "the name is unknown or has gone, the key may not use it, or every member of the list is cold",
        "See the names of today with `chutes-connect models` or client.models().",
    ),
    Kind.ROUTE_NOT_FOUND: Facts(
        e.ModelNotFoundError, _REQUEST, _NEVER, "this address has no such path",
        "Check the base URL: chat is at …/v1 of the gateway, embeddings are on another host.",
    ),
    Kind.NOT_CONFIDENTIAL: Facts(
        e.ModelNotFoundError, _TARGET, _ELSEWHERE, "confidential compute was asked for and this model has none",
        "Choose a model with confidential compute.",
    ),
    Kind.CONTEXT_LENGTH: Facts(
        e.ContextLengthError, _REQUEST, _ELSEWHERE, "prompt and answer together do not fit the window",
        "Shorten the prompt, lower max_tokens, or choose a model with a larger window.",
    ),
    Kind.UNSUPPORTED: Facts(
        e.InvalidRequestError, _REQUEST, _ELSEWHERE, "this model or the gateway does not take a part of the request",
        "Leave that part out, or choose a model that takes it.",
    ),
    Kind.BAD_REQUEST: Facts(
        e.InvalidRequestError, _REQUEST, _NEVER, "the request is not valid as it stands", "Change the request.",
    ),
    Kind.TOO_LARGE: Facts(
        e.InvalidRequestError, _REQUEST, _NEVER, "the body is too large", "Send fewer or smaller images, or less text.",
    ),
    Kind.SEALED_NONCE: Facts(
        e.PermissionDeniedError, _TARGET, _HERE, "the one-time number of the sealed request was used or too old",
        "Try again: a fresh one is fetched.",
    ),
    Kind.SEALED_INSTANCE: Facts(
        e.UnavailableError, _TARGET, _HERE, "the machine that the request was sealed for has gone",
        "Try again: another machine is chosen.",
    ),
    Kind.SEALED_BUSY: Facts(
        e.CapacityError, _TARGET, _HERE, "the machine that the request was sealed for is busy",
        "Try again: another machine is chosen.", wait=0.5,
    ),
    Kind.SEALED_REPLY: Facts(
        e.MalformedReplyError, _TARGET, _HERE, "the sealed answer was changed or cut on its way, and does not open",
        _WHOLE, wait=0.5,
    ),
    Kind.ATTESTATION: Facts(
        e.AttestationError, _TARGET, _ELSEWHERE,
        "no machine of this model proved what it is, so nothing of the request was sent",
        "Ask another model, or see docs/privacy.md for what is checked and how to change it.",
    ),
    Kind.CONNECT: Facts(
        e.ConnectionFailedError, _TARGET, _HERE, "no connection, or it broke before an answer began",
        "Check the network and the base URL, then try again.", wait=0.5,
    ),
    Kind.CONNECT_TIMEOUT: Facts(
        e.TimeLimitError, _TARGET, _HERE, "no connection within the time limit",
        "Check the network and the base URL, then try again.", wait=0.5,
    ),
    Kind.FIRST_TOKEN_TIMEOUT: Facts(
        e.TimeLimitError, _TARGET, _ELSEWHERE, "no answer began within the time limit",
        "Raise the limit, or ask another model.",
    ),
    Kind.STALL: Facts(
        e.TimeLimitError, _TARGET, _ELSEWHERE, "the answer began and then nothing came within the time limit", _WHOLE,
    ),
    Kind.TOTAL_TIMEOUT: Facts(
        e.TimeLimitError, _TARGET, _ELSEWHERE, "the whole answer did not come within the time limit",
        "Raise the limit, lower max_tokens, or ask a faster model.",
    ),
    Kind.RESET: Facts(
        e.StreamInterruptedError, _TARGET, _HERE, "the connection broke in the middle of the answer", _WHOLE, wait=0.5,
    ),
    Kind.TRUNCATED: Facts(
        e.StreamInterruptedError, _TARGET, _HERE, "the stream ended before the model had finished", _WHOLE, wait=0.5,
    ),
    Kind.RESTARTED: Facts(
        e.StreamRestartedError, _TARGET, _HERE, "a machine died and another began the answer again in the same stream",
        _WHOLE, wait=0.5,
    ),
    Kind.STREAM_ERROR: Facts(
        e.StreamFailedError, _TARGET, _HERE, "the service reported an error inside the stream", _WHOLE, wait=1.0,
    ),
    Kind.MALFORMED: Facts(
        e.MalformedReplyError, _TARGET, _HERE, "a machine sent something that is not a valid reply", _WHOLE, wait=0.5,
    ),
    Kind.EMPTY: Facts(
        e.EmptyReplyError, _TARGET, _HERE, "the answer has no text, reasoning or tool call",
        "Ask again, or let another model take over.", wait=0.5,
    ),
    Kind.UNEXPECTED: Facts(
        APIError, _TARGET, _ELSEWHERE, "the service answered in a way this library does not know", _ANOTHER,
    ),
}  # fmt: skip
