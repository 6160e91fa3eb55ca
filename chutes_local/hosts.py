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

A name that is not served is refused (:mod:`chutes_local.wire.hosts`), and so is what web pages of other origins send.

>>> site_of("", "/embed/v1/embeddings", "POST")
Site(kind='embed', prefix='/embed', slug='')
>>> site_of("chutes-qwen-qwen3-32b-tee", "/v1/chat/completions", "POST")
Site(kind='chute', prefix='', slug='chutes-qwen-qwen3-32b-tee')
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chutes_local.gateway.inference import strike
from chutes_local.gateway.send import ServerStopped, reset
from chutes_local.wire import errors
from chutes_local.wire.errors import Answer, Refused, plain
from chutes_local.wire.hosts import Hosts
from chutes_local.world import access
from chutes_local.world.journal import Entry
from chutes_local.world.world import World

NOT_SERVED = (
    "The embedded Chutes is not served under the name {!r}: use 127.0.0.1 or localhost, or give it that name with"
    " --allow-host or serve(hosts=[…])."
)
FOREIGN = "This was sent by a web page of another origin, which the embedded Chutes does not answer."
STARTING = "The embedded Chutes is starting: its engine is not ready yet."
_CLOSE = {"connection": "close"}
_log = logging.getLogger("chutes_local")

Kind = Literal["llm", "embed", "chute", "api", "local"]


@dataclass(frozen=True, slots=True)
class Site:
    """One of the hosts, and the path prefix that named it."""

    kind: Kind
    prefix: str = ""
    slug: str = ""


def site_of(label: str, path: str, method: str) -> Site:
    """Determine which host a request is for, by the label in its ``Host`` and by its path."""
    first, _, rest = path.removeprefix("/").partition("/")
    if first == "local":
        return Site("local")
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


def in_origin_form(scope: Scope) -> tuple[Scope, str | None]:
    """Return the scope with a path alone, and the host in the request's target if it names one."""
    raw: bytes = scope["raw_path"]
    scheme, separator, rest = raw.partition(b"://")
    if raw.startswith(b"/") or not separator or scheme.lower() not in (b"http", b"https"):
        return scope, None
    host, _, path = rest.partition(b"/")
    return {**scope, "raw_path": b"/" + path, "path": "/" + unquote(path.decode("latin-1"))}, host.decode("latin-1")


def is_foreign(headers: Mapping[str, str], method: str, site: Site, hosts: Hosts, own: str) -> bool:
    """Return whether a web page of another origin sent this; for the controls another port is another origin."""
    origin, fetch = headers.get("origin"), headers.get("sec-fetch-site", "none").lower()
    if site.kind == "local":
        mine = f"http://{headers.get('host', '')}".lower()
        return fetch not in ("none", "same-origin") or (origin is not None and origin.lower() != mine)
    if method in ("GET", "HEAD", "OPTIONS"):  # a link leads to the sign-in; no page can read an answer
        return False
    return fetch == "cross-site" or (origin is not None and hosts.label(origin.partition("://")[2], own) is None)


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
        scope, named = in_origin_form(scope)
        own: str = scope["server"][0]
        label = ""
        for host in (headers.get("host", ""), named):  # the target has the last word, but both must be served
            found = label if host is None else self.world.hosts.label(host, own)
            if found is None:
                await plain(errors.detail(421, NOT_SERVED.format(str(host)[:100])), _CLOSE)(scope, receive, send)
                return
            label = found
        site = site_of(label, scope["path"], scope["method"])
        refusal = self._refusal(site, scope, headers, own)
        if refusal is not None:
            await plain(refusal, _CLOSE)(scope, receive, send)
            return
        # The path keeps its prefix and root_path names it, as ASGI specifies.
        scope = {**scope, "root_path": site.prefix}
        scope["state"]["site"] = site
        app = self.sites[site.kind]
        if site.kind == "local":
            await self._whole(app, scope, receive, send)
            return
        entry = self.world.journal.open(scope["method"], scope["path"], host=site.slug or site.kind, headers=headers)
        scope["state"]["entry"] = entry
        await self._noted(app, entry, scope, receive, send)

    def _refusal(self, site: Site, scope: Scope, headers: Mapping[str, str], own: str) -> Answer | None:
        if is_foreign(headers, scope["method"], site, self.world.hosts, own):
            return errors.detail(403, FOREIGN)
        if site.kind == "local":
            return access.control(scope["method"], scope["path"], headers, self.world.token)
        return None if self.world.ready else errors.detail(503, STARTING)

    async def _whole(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> str | None:
        """Run an application; whatever a request does to it, one line tells of it, and the server goes on."""
        try:
            await app(scope, receive, send)
        except Exception as error:  # it has answered 500
            frames = error if _log.isEnabledFor(logging.DEBUG) else None
            _log.error("%s %r: %r", scope["method"], scope["path"], error, exc_info=frames)
            return repr(error)
        return None

    async def _noted(self, app: ASGIApp, entry: Entry, scope: Scope, receive: Receive, send: Send) -> None:
        status: int | None = None

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if not await self._struck(entry, scope, receive, noting):
                entry.note = await self._whole(app, scope, receive, noting) or entry.note
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
