"""How a command ends: with which status, and in which words when it failed."""

from __future__ import annotations

import re
from datetime import datetime
from enum import IntEnum

from chutes_core.errors import (
    APIError,
    AuthenticationError,
    ChutesError,
    ConfigurationError,
    ConnectionFailedError,
    IncompleteAnswerError,
    Kind,
    MissingKeyError,
    ModelNotFoundError,
    PermissionDeniedError,
    RateLimitError,
    Scope,
    TimeLimitError,
    UnavailableError,
    UnknownModelError,
    redact,
)

__all__ = ["Exit", "Stop", "described", "exit_of", "reported"]


class Exit(IntEnum):
    """The statuses of the command.

    >>> Exit.KEY.value, Exit.KEY.meaning
    (3, 'the key is missing, rejected, or may not do this')
    """

    OK = 0
    FAILURE = 1
    USAGE = 2
    KEY = 3
    UNREACHABLE = 4
    UNAVAILABLE = 5
    ACCOUNT = 6
    INCOMPLETE = 7
    NO_MODEL = 8
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """What the status says."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.OK: "success",
    Exit.FAILURE: "a failure not listed below, or nothing was found",
    Exit.USAGE: "wrong usage, or a request that can only fail",
    Exit.KEY: "the key is missing, rejected, or may not do this",
    Exit.UNREACHABLE: "the service cannot be reached, or not in time",
    Exit.UNAVAILABLE: "the model cannot answer now: busy, cold or failed",
    Exit.ACCOUNT: "the account's quota, balance or a limit is used up",
    Exit.INCOMPLETE: "the answer is incomplete",
    Exit.NO_MODEL: "there is no such model, or it is of another kind",
    Exit.INTERRUPTED: "Ctrl-C",
}


class Stop(Exception):
    """A command ends here, with a sentence about it."""

    def __init__(self, message: str, status: Exit = Exit.FAILURE) -> None:
        super().__init__(message)
        self.status = status


def exit_of(error: Exception) -> Exit:
    """Choose the status for a failure.

    >>> exit_of(MissingKeyError("no key")), exit_of(ConfigurationError("no")), exit_of(OSError())
    (<Exit.KEY: 3>, <Exit.USAGE: 2>, <Exit.FAILURE: 1>)
    """
    last = getattr(error, "last", error)  # of a fallback: how its last attempt failed
    from chutes_core.login.errors import LoginError

    if isinstance(last, Stop):
        return last.status
    if isinstance(last, LoginError):
        return Exit.KEY
    if isinstance(last, APIError) and last.kind is Kind.EDGE_LIMIT:
        return Exit.KEY  # what the edge says to a request whose key it does not see
    return next((status for kinds, status in _STATUSES if isinstance(last, kinds)), _by_scope(last))


_STATUSES: tuple[tuple[tuple[type[Exception], ...], Exit], ...] = (
    ((MissingKeyError, AuthenticationError, PermissionDeniedError), Exit.KEY),
    ((UnknownModelError, ModelNotFoundError), Exit.NO_MODEL),
    ((ConfigurationError,), Exit.USAGE),
    ((ConnectionFailedError, TimeLimitError), Exit.UNREACHABLE),
    ((IncompleteAnswerError,), Exit.INCOMPLETE),
)


def _by_scope(error: Exception) -> Exit:
    if not isinstance(error, APIError):
        return Exit.FAILURE
    if error.scope is Scope.ACCOUNT or error.kind in (Kind.NOT_INCLUDED, Kind.TEE_PAYMENT, Kind.ACCOUNT_LIMIT):
        return Exit.ACCOUNT
    if isinstance(error, RateLimitError | UnavailableError) or error.scope is Scope.TARGET:
        return Exit.UNAVAILABLE
    return Exit.USAGE


def described(error: Exception) -> str:
    """Say in one line what happened, why probably and what to do, in this command's words and without a key.

    >>> described(MissingKeyError("Pass api_key=..."))
    'There is no key: set CHUTES_API_KEY, run `chutes-connect login`, or pipe one in with --api-key-stdin.'
    """
    if type(error) is MissingKeyError:
        return _NO_KEY
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ChutesError):
        where = f"{error.filename}: " if error.filename else ""
        return redact(f"{where}{error.strerror}.")
    text = str(getattr(error, "message", error))
    last = getattr(error, "last", error)
    if isinstance(last, ChutesError):
        for pattern, words in _IN_WORDS:
            text = re.sub(pattern, words, text)
        text = text.replace("chutes-connect warmup MODEL", f"chutes-connect warmup {getattr(last, 'model', None)}")
    reset = getattr(last, "quota_reset_at", None)
    if isinstance(reset, datetime):
        text += f" The quota resets at {reset:%Y-%m-%d %H:%M %Z}."
    return redact(" ".join(text.split())) or type(error).__name__


_NO_KEY = "There is no key: set CHUTES_API_KEY, run `chutes-connect login`, or pipe one in with --api-key-stdin."

# What the library says to a program, said to a person at the command line.
_IN_WORDS = (
    (r"pass (?:model=\S+|members=\[[^]]*\])(?=, set CHUTES_MODEL)", "name one"),
    (r"client\.warm_up\(model\)", "`chutes-connect warmup MODEL`"),
    (r"client\.models\(\) fetches today's list, and (`chutes-connect models` shows) it", r"\1 today's list"),
    (r" or client\.models\(\)", ""),
    (r"with a fallback\b", "with --fallback"),
    (r"lower max_tokens", "lower --max-tokens"),
    (r"Raise max_tokens", "Raise --max-tokens"),
    (r" \(reasoning=\)", " (--reasoning)"),
    (r"; the thoughts so far are in \.partial_reply\.reasoning", ""),
    (r"; or keep what there is, which is in \.partial, with on_length='keep'", ""),
    (r"Raise the limit", "Raise --timeout"),
    (r"What arrived is in \.partial and is not a whole answer", "What arrived is not a whole answer"),
    (r" \(\.quota_reset_at\)", ""),
    (r"\(a fallback goes to one only with confidential=False\)", "(--fallback does not turn to one)"),
    (r"or add a model without -TEE and say confidential=False in the policy", "or ask a model without -TEE by itself"),
    (r" or client\.account\.subscription\(\)", ""),
    (r"; the longest part is in \.partial", ""),
    (r", add a model of another family, or raise `deadline` and `max_attempts`", " or add a model of another family"),
    (r"raise the time limits of the policy, ", ""),
    (r"embed\(\), ChutesEmbeddings.* or (`chutes-connect embed`)", r"\1"),
)


def reported(error: Exception) -> dict[str, object]:
    """Describe a failure for a program.

    >>> reported(Stop("No model fits."))
    {'error': {'kind': 'failure', 'message': 'No model fits.', 'exit': 1}}
    """
    last = getattr(error, "last", error)
    status = exit_of(error)
    told: dict[str, object] = {
        "kind": last.kind.value if isinstance(last, APIError) else status.name.lower(),
        "message": described(error),
        "exit": int(status),
    }
    if isinstance(last, APIError):
        told |= {"model": last.model, "status_code": last.status_code, "retry_after": last.retry_after}
        told["partial"] = getattr(error, "partial", "")
    return {"error": told}
