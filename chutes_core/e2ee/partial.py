"""What goes into an error of an encrypted call, and what does not.

The words of a sealed answer are given to whoever asked for them, and to nobody who merely reads a log: an
error says what kind of thing went wrong, in numbers where there are some. What had arrived is still in
``error.partial``; it does not show itself, and stays behind when the error is pickled.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields

from chutes_core.effects import StatusFailure
from chutes_core.errors import APIError, ContextLengthError, Kind
from chutes_core.failures import failure, message_of
from chutes_core.response import Reply

__all__ = ["PartialReply", "readable", "without_words"]

_OPAQUE = re.compile(r"[A-Za-z0-9+/=_-]{60,}")
_UNREADABLE = "the machine refused the request, and its reason is sealed between it and the service"


@dataclass(frozen=True, slots=True, repr=False)
class PartialReply(Reply):
    """What had arrived of a sealed answer when it broke: as any reply, but it does not show itself nor travel.

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
    """Return the same failure without anything of the answer's text in its message and body.

    Args:
        error: The failure.
        opened: Whether a part of the sealed answer had been opened, so that its words may be those of the answer.
    """
    found = error
    if opened and (error.body is not None or error.kind in (Kind.MALFORMED, Kind.STREAM_ERROR)):
        said = _numbers(error) if isinstance(error, ContextLengthError) else "in the sealed answer"
        found = failure(error.kind, said, model=error.model, status_code=error.status_code, request_id=error.request_id)
    reply = error.partial_reply
    if reply is not None:
        found.partial_reply = PartialReply(**{each.name: getattr(reply, each.name) for each in fields(Reply)})
    return found


def _numbers(error: ContextLengthError) -> str:
    """Say how long and how much too long, and no more, in words that :class:`ContextLengthError` reads."""
    limit, requested, prompt = error.limit, error.requested, error.prompt_tokens
    parts = [f"maximum context length of {limit} tokens" if limit else "the context length is exceeded"]
    parts += [f"a total of {requested} tokens was asked for"] if requested else []
    parts += [f"{prompt} tokens from the input"] if prompt else []
    return "; ".join(parts)


def readable(answer: StatusFailure) -> StatusFailure:
    """Return a refusal in words.

    A machine's own reason for a 400 travels sealed for the service, which passes it on as it is.

    >>> readable(StatusFailure(400, {}, b'{"detail":"' + b"aGVs" * 40 + b'"}')).content
    b'{"detail": "the machine refused the request, and its reason is sealed ...
    """
    try:
        said = message_of(json.loads(answer.content))
    except (ValueError, RecursionError):
        return answer
    if not _OPAQUE.fullmatch(said):
        return answer
    return StatusFailure(answer.status, answer.headers, json.dumps({"detail": _UNREADABLE}).encode())
