"""One HTTP exchange apart from the calls to models: for signing in, and for what the command line looks at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

from chutes_core.calls.clock import SystemClock
from chutes_core.calls.effects import Arrived, Flow, Open, Read, StatusFailure, WireFailure, WireRequest, opened, run
from chutes_core.errors import APIError, Kind
from chutes_core.failures.reading import failure
from chutes_core.secrets.masking import Known
from chutes_core.secrets.secret import Secret
from chutes_core.wire import pools
from chutes_core.wire.hands import SyncWire
from chutes_core.wire.sending import sender

__all__ = ["Fetched", "fetch"]

_KINDS = {
    "timeout": Kind.CONNECT_TIMEOUT,
    "connect_timeout": Kind.CONNECT_TIMEOUT,
    "invalid": Kind.MALFORMED,
    "too_large": Kind.MALFORMED,
}


class Fetched(NamedTuple):
    """A reply: its status, its headers by names in lower case, and its body."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class _User:
    """Keeps the shared pool open while it is referred to."""


def fetch(request: WireRequest, seconds: float, sent: Iterable[Secret] = ()) -> Fetched | APIError:
    """Send one request and read the reply, whatever its status, all within so many seconds.

    An error is returned, not raised: no traceback passes the frames that hold tokens. In a reply that is no success,
    what was sent is masked: the key, and the secrets of the body.

    Args:
        request: The request.
        seconds: The timeout.
        sent: The secrets in its body.
    """
    user, clock = _User(), SystemClock()

    def left() -> float:
        return max(until - clock.now(), 0.0)

    def exchange() -> Flow[Fetched]:
        try:
            headers = cast("Arrived", (yield from opened(Open(request, seconds, left()), clock.now)))
        except StatusFailure as answer:
            known = Known()
            for secret in (request.secret, *sent):
                known.learn(request.telling, secret)
            named = zip(answer.headers, cast("list[str]", known.value([*answer.headers.values()])), strict=True)
            content = known.text(answer.content.decode("utf-8", "replace")).encode()
            return Fetched(answer.status, dict(named), content)
        body = bytearray()
        while (block := (yield Read(left()))) is not None:
            body += cast("bytes", block)
        return Fetched(headers.status, headers, bytes(body))

    pool = pools.sync_pools()
    until = clock.now() + seconds
    try:
        return run(exchange(), SyncWire(sender(pool.get(user)), clock=clock))
    except WireFailure as problem:
        return failure(_KINDS.get(problem.reason, Kind.CONNECT), problem.said)
    finally:
        pool.release(user)
