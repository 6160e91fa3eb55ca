"""Fetch remote images and inline them in the request, for hosts that block the gateway's own fetcher.

A message may come from anywhere, so a URL in it must not reach into this machine's own network (SSRF): only public
addresses are connected to, the name is resolved once and that address is used, and every redirect is checked like
the first URL.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from chutes_core.conversation import Message, media_url, remote_images
from chutes_core.errors import RequestRefusedError

__all__ = ["ImagePolicy", "ainline_images", "inline_images"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """Limits on what may be fetched.

    Attributes:
        max_count: The most images and videos in one request.
        max_bytes: The largest size of each.
        max_redirects: The most redirects for each.
        timeout: Seconds for each, and for every network operation on the way.
        allow_private: Also connect to private addresses; for tests and trusted messages only.
    """

    max_count: int = 8
    max_bytes: int = 20_000_000
    max_redirects: int = 3
    timeout: float = 30.0
    allow_private: bool = False


@dataclass(frozen=True, slots=True)
class _Target:
    """A request to a checked IP address; the host name stays in the Host header and in TLS."""

    url: str
    headers: Mapping[str, str]
    extensions: Mapping[str, object]


def _target(url: str, addresses: Iterable[str], policy: ImagePolicy) -> _Target:
    parts = urlsplit(url)
    found = [ipaddress.ip_address(address.partition("%")[0]) for address in addresses]
    if not found or (not policy.allow_private and not all(_public(address) for address in found)):
        raise RequestRefusedError(f"The image at {parts.hostname} is not at a public address, so it is not fetched.")
    port = f":{parts.port}" if parts.port else ""
    host = (parts.hostname or "").encode("idna").decode()
    return _Target(
        parts._replace(netloc=_literal(str(found[0])) + port).geturl(),
        {"Host": _literal(host) + port},
        {"sni_hostname": host},
    )


def _literal(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether an address is public, including an IPv4 address embedded in an IPv6 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.is_site_local or (inner is not None and not _public(inner)):
            return False
    return address.is_global and not address.is_multicast


def _host_of(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise RequestRefusedError("An image's address is not valid.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise RequestRefusedError("An image must be at a plain http(s) address.")
    return parts.hostname, port or (443 if parts.scheme == "https" else 80)


def _kind(url: str, status: int, content_type: str) -> str:
    host = urlsplit(url).hostname
    if status != 200:
        raise RequestRefusedError(f"The image at {host} cannot be fetched: {host} answered {status}.")
    kind = content_type.partition(";")[0].strip().lower()
    if not kind.startswith(("image/", "video/")):
        raise RequestRefusedError(f"{host} sent {kind or 'data of no stated type'}, not an image or a video.")
    return kind


def _too_large(url: str, policy: ImagePolicy) -> RequestRefusedError:
    return RequestRefusedError(f"The image at {urlsplit(url).hostname} is larger than {policy.max_bytes:,} bytes.")


def _too_slow(url: str, policy: ImagePolicy) -> RequestRefusedError:
    return RequestRefusedError(
        f"The image at {urlsplit(url).hostname} did not arrive within {policy.timeout:g} seconds."
    )


def _unreachable(url: str, error: Exception) -> RequestRefusedError:
    return RequestRefusedError(f"The image at {urlsplit(url).hostname} cannot be fetched ({type(error).__name__}).")


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


def inline_images(messages: Sequence[Message], policy: ImagePolicy) -> list[Message]:
    """Return the messages with their remote images as data URIs."""
    import httpx

    def fetch(http: httpx.Client, url: str) -> str:
        place, until = url, time.monotonic() + policy.timeout
        for _ in range(policy.max_redirects + 1):
            host, port = _host_of(place)
            addresses = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
            target = _target(place, addresses, policy)
            with http.stream("GET", target.url, headers=target.headers, extensions=dict(target.extensions)) as reply:
                if reply.status_code in _REDIRECTS:
                    place = urljoin(place, reply.headers.get("location", ""))
                    continue
                kind = _kind(url, reply.status_code, reply.headers.get("content-type", ""))
                content = bytearray()
                for block in reply.iter_bytes():
                    content += block
                    if len(content) > policy.max_bytes:
                        raise _too_large(url, policy)
                    if time.monotonic() > until:  # a slow trickle never hits the per-operation timeout
                        raise _too_slow(url, policy)
                return f"data:{kind};base64,{base64.b64encode(content).decode()}"
        raise RequestRefusedError(f"The image at {urlsplit(url).hostname} is behind too many redirects.")

    urls = _wanted(messages, policy)
    if not urls:
        return list(messages)
    inlined: dict[str, str] = {}
    with httpx.Client(timeout=policy.timeout, trust_env=False) as http:
        for url in urls:
            try:
                inlined[url] = fetch(http, url)
            except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
                raise _unreachable(url, error) from None
    return _replace(messages, inlined)


async def ainline_images(messages: Sequence[Message], policy: ImagePolicy) -> list[Message]:
    """Do the same without blocking the event loop."""
    return await asyncio.to_thread(inline_images, messages, policy)
