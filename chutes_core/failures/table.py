"""The failure table itself: which status and phrase are which kind, and what follows from each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chutes_core import errors as e
from chutes_core.errors import APIError, Kind, Retry, Scope

__all__ = ["FACTS", "REMEDIES_FOR_ALL", "RULES", "Facts"]

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
    ((402,), "subscription usage cap", Kind.PLAN_CAP),
    ((402,), "tee models", Kind.TEE_PAYMENT),
    ((402,), "this model requires", Kind.NOT_INCLUDED),
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
    ((400,), "e2e requests require", Kind.UNSUPPORTED),
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
        passes: The same for who has all the time and no other model to ask, such as a job over a corpus; 0 where
            waiting does not help, or ``wait`` is right for them too.
        optional: Whether it may be about an optional field: a request without it may be answered.
    """

    error: type[APIError]
    scope: Scope
    retry: Retry
    why: str
    remedy: str
    wait: float = 0.0
    passes: float = 0.0
    optional: bool = False

    @property
    def patient(self) -> float:
        """Seconds before the first retry by who has all the time and no other model; 0 where it does not help."""
        return self.passes or self.wait


_TARGET, _ACCOUNT, _REQUEST = Scope.TARGET, Scope.ACCOUNT, Scope.REQUEST
_HERE, _ELSEWHERE, _NEVER = Retry.HERE, Retry.ELSEWHERE, Retry.NEVER
_ANOTHER = "Ask another model, or let one take over with a fallback."
_WHOLE = "What arrived is in .partial and is not a whole answer: ask again, or let another model take over."

FACTS: Mapping[Kind, Facts] = {
    Kind.CAPACITY: Facts(
        e.CapacityError, _TARGET, _HERE, "every machine that serves this model is busy",
        "Wait a few seconds, or let another model take over with a fallback.", wait=4.0,
    ),
    Kind.ACCOUNT_LIMIT: Facts(
        e.AccountLimitError, _TARGET, _ELSEWHERE, "your account has reached today's limit for models that are free",
        "Add balance or subscribe, wait until tomorrow, or ask a model that has a price, which needs a balance.",
    ),
    Kind.EDGE_LIMIT: Facts(
        e.RateLimitError, _ACCOUNT, _ELSEWHERE, "the edge rejected the request, as it does when it sees no key",
        "Check that the key is sent as 'Authorization: Bearer …' and is valid; if it is, slow down.", passes=1.0,
    ),
    Kind.ENDPOINT_LIMIT: Facts(
        e.RateLimitError, _TARGET, _HERE, "this endpoint allows a few requests a minute, shared by all users",
        "Try again in a minute.", wait=20.0,
    ),
    Kind.RATE_LIMIT: Facts(
        e.RateLimitError, _TARGET, _HERE, "too many requests at once", "Slow down, or ask another model.", wait=2.0,
    ),
    Kind.NOT_INCLUDED: Facts(
        e.PaymentRequiredError, _TARGET, _ELSEWHERE, "your plan does not include this model",
        "Choose a model that is included, or add balance.",
    ),
    Kind.COLD: Facts(
        e.ColdModelError, _TARGET, _ELSEWHERE, "no machine is running this model now",
        "Ask another model, or wake this one with client.warm_up(model) and try again when it is hot.", passes=1.0,
    ),
    Kind.DISABLED: Facts(e.UnavailableError, _TARGET, _ELSEWHERE, "this model is switched off", _ANOTHER),
    Kind.EXHAUSTED: Facts(
        e.UnavailableError, _TARGET, _HERE, "every machine the gateway tried for this request failed",
        "Try again, or ask another model; if it keeps failing, leave out optional fields of the request.", wait=1.0,
        optional=True,
    ),
    Kind.UPSTREAM: Facts(
        e.UnavailableError, _TARGET, _HERE, "the service failed while it handled the request",
        "Try again, or ask another model.", wait=1.0,
    ),
    Kind.BAD_GATEWAY: Facts(
        e.UnavailableError, _TARGET, _HERE, "the edge could not reach the gateway", "Try again in a moment.", wait=1.0,
    ),
    Kind.GATEWAY_TIMEOUT: Facts(
        e.UnavailableError, _TARGET, _ELSEWHERE, "the edge stopped waiting, as it does after about 600 seconds",
        "Stream long answers, lower max_tokens, or ask a faster model.", passes=1.0,
    ),
    Kind.PAYMENT: Facts(
        e.PaymentRequiredError, _ACCOUNT, _ELSEWHERE, "your account has neither included requests left nor a balance",
        "Add balance or subscribe; waiting helps only where a daily quota resets (.quota_reset_at).",
    ),
    Kind.PLAN_CAP: Facts(
        e.PaymentRequiredError, _ACCOUNT, _ELSEWHERE,
        "a spending cap of your plan is used up, and your account has no balance",
        "Add balance, or wait for the reset: `chutes-connect account` or client.account.subscription() says when.",
    ),
    Kind.TEE_PAYMENT: Facts(
        e.PaymentRequiredError, _TARGET, _ELSEWHERE,
        "models with confidential compute (-TEE) need a subscription or a balance, and your account has neither",
        "Add balance or subscribe, or ask a model without -TEE (a fallback goes to one only with confidential=False); "
        "waiting does not help.",
    ),
    Kind.OWNER_PAYMENT: Facts(
        e.PaymentRequiredError, _TARGET, _ELSEWHERE, "the owner of this model has no balance left", _ANOTHER,
    ),
    Kind.AUTHENTICATION: Facts(
        e.AuthenticationError, _ACCOUNT, _ELSEWHERE, "the key was rejected, or lacks the scope for this",
        "Check the key (CHUTES_OAUTH_TOKEN takes precedence over CHUTES_API_KEY); renew an expired token.",
    ),
    Kind.PERMISSION: Facts(
        e.PermissionDeniedError, _ACCOUNT, _ELSEWHERE, "the token lacks the scope for this",
        "Use one with the scope that this needs: 'chutes:invoke' for calls of models, 'account:read' for the account.",
    ),
    Kind.MODEL_NOT_FOUND: Facts(
        e.ModelNotFoundError, _TARGET, _ELSEWHERE,
        "no such model, or the key may not use it, or every model of the list is cold",
        "List the current models with `chutes-connect models` or client.models().",
    ),
    Kind.ROUTE_NOT_FOUND: Facts(
        e.ModelNotFoundError, _REQUEST, _NEVER, "there is nothing at this address",
        "Check the base URL: chat is at …/v1 of the gateway, embeddings are on another host.",
    ),
    Kind.NOT_CONFIDENTIAL: Facts(
        e.ModelNotFoundError, _TARGET, _ELSEWHERE, "confidential compute was required, and this model has none",
        "Choose a model with confidential compute.",
    ),
    Kind.CONTEXT_LENGTH: Facts(
        e.ContextLengthError, _REQUEST, _ELSEWHERE, "prompt and answer together do not fit the context window",
        "Shorten the prompt, lower max_tokens, or choose a model with a larger window.",
    ),
    Kind.UNSUPPORTED: Facts(
        e.InvalidRequestError, _REQUEST, _ELSEWHERE, "this model or the gateway does not support a part of the request",
        "Leave that part out, or choose a model that supports it.", optional=True,
    ),
    Kind.BAD_REQUEST: Facts(
        e.InvalidRequestError, _REQUEST, _NEVER, "the request is not valid", "Change the request.", optional=True,
    ),
    Kind.TOO_LARGE: Facts(
        e.InvalidRequestError, _REQUEST, _NEVER, "the request is too large",
        "Send fewer or smaller images, or less text.",
    ),
    Kind.SEALED_NONCE: Facts(
        e.PermissionDeniedError, _TARGET, _HERE, "the nonce of the encrypted request was used before or has expired",
        "Try again: a new one is fetched.", passes=1.0,
    ),
    Kind.SEALED_INSTANCE: Facts(
        e.UnavailableError, _TARGET, _HERE, "the machine that the request was encrypted for is gone",
        "Try again: another machine is chosen.", passes=1.0,
    ),
    Kind.SEALED_BUSY: Facts(
        e.CapacityError, _TARGET, _HERE, "the machine that the request was encrypted for is busy",
        "Try again: another machine is chosen.", wait=0.5,
    ),
    Kind.SEALED_REPLY: Facts(
        e.MalformedReplyError, _TARGET, _HERE, "the encrypted answer was changed on its way and cannot be decrypted",
        _WHOLE, wait=0.5,
    ),
    Kind.ATTESTATION: Facts(
        e.AttestationError, _TARGET, _ELSEWHERE,
        "no machine of this model could prove that it is genuine, so nothing was sent",
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
        "Raise the limit, or ask another model.", passes=1.0,
    ),
    Kind.STALL: Facts(
        e.TimeLimitError, _TARGET, _ELSEWHERE, "the answer began, then nothing more came within the time limit", _WHOLE,
        passes=1.0,
    ),
    Kind.TOTAL_TIMEOUT: Facts(
        e.TimeLimitError, _TARGET, _ELSEWHERE, "the answer was not complete within the time limit",
        "Raise the limit, lower max_tokens, or ask a faster model.", passes=1.0,
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
        e.EmptyReplyError, _TARGET, _HERE, "the answer has neither text nor a tool call",
        "Ask again, or let another model take over.", wait=0.5,
    ),
    Kind.THINKING_LIMIT: Facts(
        e.ThinkingLimitError, _TARGET, _ELSEWHERE, "the answer reached max_tokens while the model was still thinking",
        "Raise max_tokens, have the model think less (reasoning=), or ask another model; the thoughts so far are in "
        ".partial_reply.reasoning.",
    ),
    Kind.LENGTH_LIMIT: Facts(
        e.LengthLimitError, _REQUEST, _NEVER, "the answer reached max_tokens before its end",
        "Raise max_tokens or leave it out; or keep what there is, which is in .partial, with on_length='keep'.",
    ),
    Kind.NOT_RESUMED: Facts(
        e.IncompleteAnswerError, _TARGET, _ELSEWHERE, "what came does not go on with the answer that had broken off",
        "What arrived is in .partial and is not a whole answer: let another model take over, or hold answers back "
        "until they are whole.",
    ),
    Kind.REFUSED: Facts(
        e.RefusalError, _TARGET, _ELSEWHERE, "the model refused to answer, or a content filter ended its answer",
        "Change the request, or ask another model.",
    ),
    Kind.UNEXPECTED: Facts(
        APIError, _TARGET, _ELSEWHERE, "this library does not recognize the service's answer", _ANOTHER,
    ),
}  # fmt: skip

# What to do where every member of a fallback failed so: another one of the kind that `remedy` names is no help there.
_BUSY = "Every member is busy: wait, add a model of another family, or raise `deadline` and `max_attempts`."
_SLOW = "Every member is too slow: raise the time limits of the policy, lower max_tokens, or add a faster model."
_BROKEN = "No member finished an answer; the longest part is in .partial. Try again, or add a model of another family."
_OUT = "No member can answer now: add a model of another family, or try again later."

REMEDIES_FOR_ALL: Mapping[Kind, str] = {
    **dict.fromkeys((Kind.CAPACITY, Kind.SEALED_BUSY, Kind.RATE_LIMIT, Kind.ENDPOINT_LIMIT), _BUSY),
    **dict.fromkeys((Kind.FIRST_TOKEN_TIMEOUT, Kind.TOTAL_TIMEOUT, Kind.GATEWAY_TIMEOUT), _SLOW),
    **dict.fromkeys((Kind.STALL, Kind.RESET, Kind.TRUNCATED, Kind.RESTARTED, Kind.STREAM_ERROR), _BROKEN),
    **dict.fromkeys((Kind.MALFORMED, Kind.SEALED_REPLY, Kind.EMPTY), _BROKEN),
    **dict.fromkeys((Kind.DISABLED, Kind.EXHAUSTED, Kind.UPSTREAM, Kind.OWNER_PAYMENT, Kind.UNEXPECTED), _OUT),
    Kind.NOT_RESUMED: "Ask again, or hold answers back until they are whole.",
    Kind.THINKING_LIMIT: "Raise max_tokens, or have the models think less (reasoning=).",
    Kind.REFUSED: "Change the request, or add a model of another family.",
    Kind.COLD: "Every member is cold: add a model that is hot, or wake one with client.warm_up(model).",
    Kind.ACCOUNT_LIMIT: "Add balance or subscribe, wait until tomorrow, or add a model that has a price, which needs a "
    "balance.",
    Kind.TEE_PAYMENT: "Add balance or subscribe, or add a model without -TEE and say confidential=False in the policy; "
    "waiting does not help.",
    Kind.NOT_INCLUDED: "Add a model that your plan includes, or add balance.",
    Kind.MODEL_NOT_FOUND: "Check the names: `chutes-connect models` or client.models() lists the current models.",
    Kind.NOT_CONFIDENTIAL: "Add a model with confidential compute.",
    Kind.ATTESTATION: "Add another model, or see docs/privacy.md for what is checked and how to change it.",
    Kind.CONTEXT_LENGTH: "Shorten the prompt, lower max_tokens, or add a model with a larger window.",
    Kind.UNSUPPORTED: "Leave that part out, or add a model that supports it.",
}
"""By kind, the remedy where every member of a fallback failed; for other kinds that of :data:`FACTS` is right too."""
