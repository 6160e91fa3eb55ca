"""A call of any chute, on its own host: JSON or bytes in, JSON or bytes out.

What a chute takes and gives is its author's matter, so nothing is read of either but JSON that says it is that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from chutes_core.calls.bodies import JSON, MIB, BodyError, Gauge, Most
from chutes_core.calls.effects import Flow, WireFailure, WireRequest
from chutes_core.calls.flows import CallPolicy, JsonCall
from chutes_core.catalog.kinds import is_path
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.door import loads
from chutes_core.errors import APIError, Kind, RequestRefusedError
from chutes_core.failures.reading import explained, failure, reported_error
from chutes_core.response import ReplyMeta
from chutes_core.secrets.secret import Secret
from chutes_core.spending.recording import Account
from chutes_core.usage import Usage

__all__ = ["MOST_BYTES", "ChuteCall", "ChuteReply", "chute_request"]

MOST_BYTES = 64 * MIB
_BROKEN = b'{"error":"Unhandled exception during response stream'
"""What the gateway appends to a reply that a chute did not end, of whatever type; the status was sent long before."""
_MOST_SAID = 4096
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; ?[\w.+-]+=[\w.+-]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ChuteReply:
    """What a chute answered.

    Attributes:
        content: The body as it came.
        media_type: What the chute says it is, such as "image/png"; "" if it does not say.
        value: The value, if it is JSON.
        meta: The service's own headers.
    """

    content: bytes = field(repr=False)
    media_type: str = ""
    value: object = field(default=None, repr=False)
    meta: ReplyMeta = field(default_factory=ReplyMeta, repr=False)


def chute_request(
    base: str, path: object, payload: object, media_type: object, headers: Mapping[str, str]
) -> WireRequest:
    """Make the request: a mapping is sent as JSON, bytes as they are; without a payload it is a GET.

    >>> chute_request("https://painter.chutes.ai", "/generate", {"prompt": "a cat"}, None, {}).method
    'POST'
    >>> chute_request("https://painter.chutes.ai", "/../x", None, None, {})
    Traceback (most recent call last):
    chutes_core.errors.RequestRefusedError: path must be a path that the chute publishes, such as '/generate'.
    """
    if not is_path(path):
        raise RequestRefusedError("path must be a path that the chute publishes, such as '/generate'.")
    url, kept = f"{base}{path}", {"Accept": "*/*", **headers}
    if isinstance(payload, bytes):
        kind = "application/octet-stream" if media_type is None else media_type
        if not isinstance(kind, str) or not _MEDIA_TYPE.fullmatch(kind):
            raise RequestRefusedError("media_type must say what the bytes are, such as 'audio/wav'.")
        return WireRequest(url, None, {**kept, "Content-Type": kind}, content=payload)
    if media_type is not None:
        raise RequestRefusedError("media_type is for a payload of bytes.")
    if payload is None:
        return WireRequest(url, None, kept, "GET")
    if not isinstance(payload, Mapping):
        raise RequestRefusedError(f"payload must be a mapping, bytes or None, not a {type(payload).__name__}.")
    return WireRequest(url, payload, kept)


class ChuteCall(JsonCall):
    """A request to a chute.

    Args:
        request: What is sent.
        policy: Timeout and retry settings.
        info: The chute.
        most: How many bytes the reply may have.
        ledger: Records the call.
    """

    def __init__(
        self, request: WireRequest, policy: CallPolicy, info: ModelInfo, *, most: int = MOST_BYTES, ledger: Account
    ) -> None:
        explained = replace(policy, explain=lambda error, _: _with_paths(error, info))
        super().__init__(request, explained, model=info.id, ledger=ledger)
        self._name = info.id
        self._payer = ledger
        self._most = Most(most, most)
        self._fits = True

    def run(self) -> Flow[ChuteReply]:
        """Return what the chute answered."""
        return self._retrying(self._answer)

    def _answer(self, secret: Secret | None) -> Flow[ChuteReply]:
        content, meta = yield from self._whole(secret)
        if (said := _said_at_the_end(content)) is not None:
            raise reported_error(said, model=self._model, request_id=meta.invocation_id, delivered=True)
        media_type = self._media_type.partition(";")[0].strip().lower()
        is_json = media_type == "application/json" or media_type.endswith("+json")
        reply = ChuteReply(content, media_type, self._json(content) if is_json else None, meta)
        self._payer(self._name, _usage(reply.value))
        return reply

    def _json(self, content: bytes) -> object:
        problem = ""
        try:
            Gauge(JSON).take(content)
            return loads(content)
        except BodyError as error:
            problem = str(error)
        except ValueError:
            problem = "the body is not JSON"
        raise failure(Kind.MALFORMED, problem, model=self._model)

    def _broken_off(self, problem: WireFailure) -> APIError:
        if problem.reason != "too_large":
            return super()._broken_off(problem)
        self._fits = False  # and would not the next time, which may have to be paid for too
        return failure(Kind.MALFORMED, problem.said, remedy="Allow more with max_bytes.", model=self._model)

    def _worth_retrying(self, error: APIError) -> bool:
        return self._fits

    def _reserved_for(self) -> Mapping[str, object]:
        # Neither tokens nor a price can be known beforehand.
        return {"model": self._name, "input": []}

    def _told(self, result: object) -> tuple[str | None, Usage | None, str | None]:
        assert isinstance(result, ChuteReply)
        return None, _usage(result.value), result.meta.invocation_id


def _said_at_the_end(content: bytes) -> Mapping[str, object] | None:
    """Return what the gateway says of a reply that broke off, if it does."""
    _, begun, rest = content[-_MOST_SAID:].rpartition(_BROKEN)
    try:
        said = loads(begun + rest) if begun else None
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _with_paths(error: APIError, info: ModelInfo) -> APIError:
    """Add to the failure of a path that is not there which ones are."""
    if error.status_code != 404 or error.kind is not Kind.ROUTE_NOT_FOUND or not info.paths:
        return error
    return explained(error, remedy=f"It publishes {', '.join(sorted(info.paths))}.")


def _usage(value: object) -> Usage | None:
    """Return the tokens that a reply reports in the way of a model, if it does."""
    try:
        return Usage.parse(value.get("usage")) if isinstance(value, Mapping) else None
    except ValueError:
        return None
