"""Fetch remote images and inline them in the request, for hosts that block the gateway's own fetcher.

A message may come from anywhere, so a URL in it must not reach into this machine's own network (SSRF): only public
addresses are connected to, the name is resolved once and that address is used, and every redirect is checked like
the first URL. Fetching is a flow like a call, so that its limits are the same, blocking and on the event loop.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast
from urllib.parse import urljoin, urlsplit

from chutes_core.calls.bodies import PLAIN, Most
from chutes_core.calls.clock import Clock, SystemClock
from chutes_core.calls.effects import (
    Arrived,
    Flow,
    Open,
    Read,
    Resolve,
    StatusFailure,
    WireFailure,
    WireRequest,
    arun,
    run,
)
from chutes_core.errors import RequestRefusedError
from chutes_core.request.image_policy import ImagePolicy
from chutes_core.request.messages import Message, media_url, remote_images
from chutes_core.wire.pools import ssl_context
from chutes_core.wire.public_address import is_public

if TYPE_CHECKING:
    import httpx

__all__ = ["ImagePolicy", "ainline_images", "inline_images"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def inline_images(
    messages: Sequence[Message], policy: ImagePolicy, within: float | None = None, clock: Clock | None = None
) -> list[Message]:
    """Return the messages with their remote images as data URIs.

    Args:
        messages: The messages.
        policy: The limits on what is fetched.
        within: Seconds for all images together.
        clock: The clock.

    Raises:
        RequestRefusedError: An image cannot be fetched, or may not be.
        WireFailure: They did not arrive ``within`` that time.
    """
    import httpx

    from chutes_core.wire.hands import SyncWire
    from chutes_core.wire.sending import sender
    from chutes_core.wire.through import Through

    if not (urls := _wanted(messages, policy)):
        return list(messages)
    clock = clock or SystemClock()
    fetcher = _Fetcher(policy, within, clock)
    with httpx.Client(verify=ssl_context(), trust_env=False) as http:
        hand = SyncWire(sender(Through(http, _request), PLAIN), clock=clock, encodings=PLAIN)
        return _replace(messages, run(fetcher.run(urls), hand))


async def ainline_images(
    messages: Sequence[Message], policy: ImagePolicy, within: float | None = None, clock: Clock | None = None
) -> list[Message]:
    """Do the same without blocking the event loop."""
    import httpx

    from chutes_core.wire.hands import AsyncWire
    from chutes_core.wire.sending import asender
    from chutes_core.wire.through import AsyncThrough

    if not (urls := _wanted(messages, policy)):
        return list(messages)
    clock = clock or SystemClock()
    fetcher = _Fetcher(policy, within, clock)
    async with httpx.AsyncClient(verify=ssl_context(), trust_env=False) as http:

        async def pool() -> AsyncThrough:
            return AsyncThrough(http, _request)

        hand = AsyncWire(asender(pool, PLAIN), clock=clock, encodings=PLAIN)
        return _replace(messages, await arun(fetcher.run(urls), hand))


def _request(
    method: str, url: str, *, headers: Mapping[str, str], extensions: Mapping[str, object], **rest: object
) -> httpx.Request:
    """Build a request to an IP address; TLS is with the host that its header names."""
    import httpx

    name = urlsplit(f"//{headers['Host']}").hostname
    return httpx.Request(method, url, headers=headers, extensions={**extensions, "sni_hostname": name})


class _Fetcher:
    """Fetches the images of one request, each within the policy's time, and all within that of the call."""

    def __init__(self, policy: ImagePolicy, within: float | None, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._all_until = None if within is None else clock.now() + within
        self._until = 0.0

    def run(self, urls: Sequence[str]) -> Flow[dict[str, str]]:
        """Return the images as data URIs."""
        inlined = {}
        for url in urls:
            own = self._clock.now() + self._policy.timeout
            self._until = own if self._all_until is None else min(own, self._all_until)
            failed: WireFailure | None = None
            try:
                inlined[url] = yield from self._image(url)
            except WireFailure as problem:
                failed = problem
            if failed is not None:
                raise self._explained(url, failed)
        return inlined

    def _explained(self, url: str, failed: WireFailure) -> Exception:
        host = urlsplit(url).hostname
        if failed.reason in ("timeout", "connect_timeout"):
            if self._until == self._all_until:
                return failed
            said = f"did not arrive within {self._policy.timeout:g} seconds"
        elif failed.reason == "too_large":
            said = f"is larger than {self._policy.max_bytes:,} bytes"
        elif failed.reason == "invalid":
            said = f"cannot be read: {failed.said}"
        else:
            said = f"cannot be fetched ({failed.said.partition(':')[0]})"
        return RequestRefusedError(f"The image at {host} {said}.")

    def _left(self) -> float:
        if (left := self._until - self._clock.now()) <= 0:
            raise WireFailure("timeout", "the time limit passed")
        return left

    def _image(self, url: str) -> Flow[str]:
        """Fetch one image, wherever it is redirected to."""
        place, most = url, Most(self._policy.max_bytes, self._policy.max_bytes)
        for _ in range(self._policy.max_redirects + 1):
            host, port = _host_of(place)
            addresses = cast("Sequence[str]", (yield Resolve(host, port, self._left())))
            target, left = _target(place, addresses, self._policy), self._left()
            try:
                kind = _kind(url, cast("Arrived", (yield Open(target, left, left, most))))
            except StatusFailure as answer:
                status, headers = answer.status, answer.headers
            else:
                return (yield from self._content(kind))
            if status not in _REDIRECTS:
                raise _refused(url, status)
            place = _joined(place, headers.get("location", ""))
        raise RequestRefusedError(f"The image at {urlsplit(url).hostname} is behind too many redirects.")

    def _content(self, kind: str) -> Flow[str]:
        content = bytearray()
        while (block := (yield Read(self._left()))) is not None:
            content += cast("bytes", block)
        return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _target(url: str, addresses: Iterable[str], policy: ImagePolicy) -> WireRequest:
    """Return a request to a checked IP address; the host name stays in its header and in TLS."""
    parts = urlsplit(url)
    found = list(addresses)
    if not found or not (policy.allow_private or all(map(is_public, found))):
        raise RequestRefusedError(f"The image at {parts.hostname} is not at a public address, so it is not fetched.")
    port = f":{parts.port}" if parts.port else ""
    host = (parts.hostname or "").encode("idna").decode()
    place = parts._replace(netloc=_literal(found[0].partition("%")[0]) + port).geturl()
    return WireRequest(place, None, {"Host": _literal(host) + port, "Accept": "image/*, video/*"}, "GET")


def _literal(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _joined(place: str, location: str) -> str:
    try:
        return urljoin(place, location)
    except ValueError:
        raise RequestRefusedError("An image's address is not valid.") from None


def _host_of(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise RequestRefusedError("An image's address is not valid.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise RequestRefusedError("An image must be at a plain http(s) address.")
    if "%" in parts.hostname:  # an interface of this machine
        raise RequestRefusedError(f"The image at {parts.hostname} is not at a public address, so it is not fetched.")
    return parts.hostname, port or (443 if parts.scheme == "https" else 80)


def _kind(url: str, headers: Arrived) -> str:
    host = urlsplit(url).hostname
    if headers.status != 200:
        raise _refused(url, headers.status)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith(("image/", "video/")):
        raise RequestRefusedError(f"{host} sent {kind or 'data of no stated type'}, not an image or a video.")
    return kind


def _refused(url: str, status: int) -> RequestRefusedError:
    host = urlsplit(url).hostname
    return RequestRefusedError(f"The image at {host} cannot be fetched: {host} answered {status}.")


def _wanted(messages: Sequence[Message], policy: ImagePolicy) -> list[str]:
    urls = list(dict.fromkeys(remote_images(messages)))
    if len(urls) > policy.max_count:
        raise RequestRefusedError(
            f"The messages have {len(urls)} remote images; at most {policy.max_count} are fetched."
        )
    return urls


def _replace(messages: Sequence[Message], inlined: Mapping[str, str]) -> list[Message]:
    return [_replace_parts(message, inlined) for message in messages]


def _replace_parts(message: Message, inlined: Mapping[str, str]) -> Message:
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list | tuple):
        return message
    parts = []
    for part in content:
        url = media_url(part) if isinstance(part, Mapping) else None
        if url is not None and url in inlined:
            holder = part[part["type"]]
            part = {**part, part["type"]: {**(holder if isinstance(holder, Mapping) else {}), "url": inlined[url]}}
        parts.append(part)
    return {**message, "content": parts}
