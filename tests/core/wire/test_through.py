"""Requests through a client of an HTTP package: with what it adds, and never redirected."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chutes_core import ChutesClient, TimeLimits
from chutes_core.testing import Answer, VirtualClock
from chutes_core.wire.direct import Request
from chutes_core.wire.pools import http_package
from chutes_core.wire.through import AsyncThrough, Through

PACKAGE: Any = http_package()
ASKED = Request("POST", "http://x/v1", {"page": "1"}, {"X-Ours": "1"}, b"{}", {"read": 3.0})


def seen(request: Any) -> Any:
    """Answer with what has come."""
    told = {
        "ours": request.headers.get("x-ours"),
        "theirs": request.headers.get("x-theirs"),
        "page": request.url.params["page"],
        "read": request.extensions["timeout"]["read"],
    }
    return PACKAGE.Response(302, headers={"location": "http://y/"}, json=told)


@pytest.mark.parametrize("own", [True, False])
def test_a_client_adds_what_it_adds_to_every_request(own: bool) -> None:
    """Unless the request is built without it, as for a pool that is a client only for its choice of a proxy."""
    build = None if own else PACKAGE.Request
    expected = {"ours": "1", "theirs": "2" if own else None, "page": "1", "read": 3.0}

    async def waiting() -> Any:
        client = PACKAGE.AsyncClient(transport=PACKAGE.MockTransport(seen), headers={"X-Theirs": "2"})
        through = AsyncThrough(client, build)
        reply: Any = await through.send(ASKED)
        await reply.aread()
        await through.aclose()
        assert client.is_closed
        return reply

    client = PACKAGE.Client(transport=PACKAGE.MockTransport(seen), headers={"X-Theirs": "2"})
    through = Through(client, build)
    blocking: Any = through.send(ASKED)
    blocking.read()
    through.close()
    assert client.is_closed
    for reply in (blocking, asyncio.run(waiting())):
        assert (reply.status_code, reply.json()) == (302, expected)


def test_a_place_in_a_pool_of_ones_own_is_waited_for_as_long_as_for_an_answer() -> None:
    """Requests without an answer may hold all of its places that long, and must not fail those to other models."""
    seen: list[dict[str, float]] = []
    package: Any = http_package()

    def answer(request: Any) -> Any:
        seen.append(dict(request.extensions["timeout"]))
        return package.Response(200, json=Answer("Hi").body("acme/one"))

    http = package.Client(transport=package.MockTransport(answer))
    with ChutesClient("cpk_test", http_client=http, clock=VirtualClock()) as client:
        client.chat([{"role": "user", "content": "Hi"}], model="acme/one", timeout=TimeLimits(connect=1, total=20))
        client.chat([{"role": "user", "content": "Hi"}], model="acme/one", timeout=TimeLimits(connect=30, total=20))
    assert [(each["connect"], each["pool"]) for each in seen] == [(1, 20), (20, 20)]
