"""Keep the text of sealed answers out of errors.

The text of a sealed answer is for the caller, not for anyone who reads a log: an error only says what kind of failure
it was, with numbers if there are any. What had arrived is still in ``error.partial``, but is hidden from its repr and
dropped when the error is pickled.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields

from chutes_core.calls.effects import StatusFailure
from chutes_core.door import loads
from chutes_core.errors import APIError, ContextLengthError, Kind
from chutes_core.failures.reading import failure, message_of
from chutes_core.response import Reply

__all__ = ["PartialReply", "not_shown", "readable", "without_words"]

_OPAQUE = re.compile(r"[A-Za-z0-9+/=_-]{60,}")
_UNREADABLE = "the machine refused the request, and its reason is sealed between machine and service"


@dataclass(frozen=True, slots=True, repr=False)
class PartialReply(Reply):
    """What had arrived of a sealed answer when it failed: a reply whose text is not in its repr or pickle.

    >>> PartialReply(None, "acme/one", ())
    <PartialReply of acme/one: not shown>
    """

    def __repr__(self) -> str:
        return f"<PartialReply of {self.model}: not shown>"

    def __copy__(self) -> PartialReply:
        return self

    def __deepcopy__(self, memo: object) -> PartialReply:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return Reply, (self.id, self.model, (), self.usage, self.meta, self.created)


def without_words(error: APIError, *, opened: bool) -> APIError:
    """Return the same error without any of the answer's text in its message and body.

    Args:
        error: The error.
        opened: Whether any of the sealed answer had been decrypted, so that the message may quote it.
    """
    found = error
    if opened and (error.body is not None or error.kind in (Kind.MALFORMED, Kind.REFUSED, Kind.STREAM_ERROR)):
        said = _numbers(error) if isinstance(error, ContextLengthError) else "in the sealed answer"
        found = failure(error.kind, said, model=error.model, status_code=error.status_code, request_id=error.request_id)
        found.attempts = error.attempts
    if error.partial_reply is not None:
        found.partial_reply = not_shown(error.partial_reply)
    return found


def not_shown(reply: Reply) -> PartialReply:
    """Return a reply as one whose text is not in its repr or pickle."""
    return PartialReply(**{each.name: getattr(reply, each.name) for each in fields(Reply)})


def _numbers(error: ContextLengthError) -> str:
    """Return the limit and the requested tokens, and no more, in wording that :class:`ContextLengthError` parses."""
    limit, requested, prompt = error.limit, error.requested, error.prompt_tokens
    parts = [f"maximum context length of {limit} tokens" if limit else "the context length is exceeded"]
    parts += [f"a total of {requested} tokens was asked for"] if requested else []
    parts += [f"{prompt} tokens from the input"] if prompt else []
    return "; ".join(parts)


def readable(answer: StatusFailure) -> StatusFailure:
    """Replace a sealed reason in an error reply by a readable one.

    A machine's reason for a 400 is sealed for the service, which passes it on as is.

    >>> readable(StatusFailure(400, {}, b'{"detail":"' + b"aGVs" * 40 + b'"}')).content
    b'{"detail": "the machine refused the request, and its reason is sealed ...
    """
    try:
        said = message_of(loads(answer.content))
    except ValueError:
        return answer
    if not _OPAQUE.fullmatch(said):
        return answer
    return StatusFailure(answer.status, answer.headers, json.dumps({"detail": _UNREADABLE}).encode())
