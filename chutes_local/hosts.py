"""The outermost application: find the Chutes host a request is for, journal it, and apply path faults.

On the real service every host has its own name. Here one address serves them all, so the host is read from the
``Host`` header if it has a label (``embed.localhost``), otherwise from the first part of the path:

========================  =====================================================
``/v1/…``                 the LLM gateway, llm.chutes.ai
``/embed/v1/…``           the embedding gateway, embed.chutes.ai
``/chute/{slug}/v1/…``    one model's own host, {slug}.chutes.ai
``/api/…``                management and sign-in, api.chutes.ai
``/local/…``              this server's own controls
========================  =====================================================

>>> site_of("127.0.0.1:8080", "/embed/v1/embeddings", "POST")
Site(kind='embed', prefix='/embed', slug='')
>>> site_of("chutes-qwen-qwen3-32b-tee.localhost", "/v1/chat/completions", "POST")
Site(kind='chute', prefix='', slug='chutes-qwen-qwen3-32b-tee')
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chutes_local.gateway.inference import strike
from chutes_local.gateway.send import ServerStopped, reset
from chutes_local.wire.errors import Refused, plain
from chutes_local.world.journal import Entry
from chutes_local.world.world import World

Kind = Literal["llm", "embed", "chute", "api", "local"]


@dataclass(frozen=True, slots=True)
class Site:
    """One of the hosts, and the path prefix that named it."""

    kind: Kind
    prefix: str = ""
    slug: str = ""


def site_of(host: str, path: str, method: str) -> Site:
    """Determine which host a request is for."""
    first, _, rest = path.removeprefix("/").partition("/")
    if first == "local":
        return Site("local")
    label = _label(host)
    if label:
        return _by_label(label, path, method)
    if first == "embed":
        return Site("embed", "/embed")
    if first == "chute":
        slug = rest.partition("/")[0]
        return Site("chute", f"/chute/{slug}", slug)
    if first == "api":
        return Site("api", "/api")
    return Site("llm" if first == "v1" else "api")


def _by_label(label: str, path: str, method: str) -> Site:
    if label == "llm":
        # The gateway takes every POST, but of the GETs only the model list.
        return Site("llm" if method == "POST" or path == "/v1/models" else "api")
    if label == "embed":
        return Site("embed" if method == "POST" else "api")
    return Site("api") if label == "api" else Site("chute", "", label)


def _label(host: str) -> str:
    """Return the first label of a host name that has several; an IP address has none.

    >>> _label("embed.chutes.local:80"), _label("localhost:80"), _label("[::1]:80"), _label("127.0.0.1")
    ('embed', '', '', '')
    """
    name = host.rsplit(":", 1)[0] if host.count(":") == 1 else host.split("]")[0].strip("[")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        label, dot, _ = name.partition(".")
        return label.lower() if dot else ""
    return ""


class Gate:
    """The outermost application."""

    def __init__(self, world: World, sites: Mapping[Kind, ASGIApp]) -> None:
        """Dispatch each request to the application of its host."""
        self.world = world
        self.sites = sites

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        site = site_of(headers.get("host", ""), scope["path"], scope["method"])
        # The path keeps its prefix and root_path names it, as ASGI specifies.
        scope = {**scope, "root_path": site.prefix}
        scope["state"]["site"] = site
        app = self.sites[site.kind]
        if site.kind == "local":
            await app(scope, receive, send)
            return
        entry = self.world.journal.open(scope["method"], scope["path"], host=site.slug or site.kind, headers=headers)
        scope["state"]["entry"] = entry
        await self._noted(app, entry, scope, receive, send)

    async def _noted(self, app: ASGIApp, entry: Entry, scope: Scope, receive: Receive, send: Send) -> None:
        status: int | None = None

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if not await self._struck(entry, scope, receive, noting):
                await app(scope, receive, noting)
        finally:
            self.world.journal.close(entry, status=status)

    async def _struck(self, entry: Entry, scope: Scope, receive: Receive, send: Send) -> bool:
        """Apply a fault of this path; return whether it answered the request."""
        path = scope["path"].removeprefix(scope["root_path"])
        fault = self.world.faults.draw(path)
        if fault is None:
            return False
        entry.fault = fault.kind
        try:
            response = await strike(fault, None, Request(scope, receive), self.world)
        except Refused as refused:
            response = plain(refused.answer)
        except ServerStopped:
            entry.ended = "server stopped"
            reset(scope)
            return True
        if response is not None:
            await response(scope, receive, send)
        return response is not None
