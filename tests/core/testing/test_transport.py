"""The doubles: they do what their page says, for any HTTP client."""

from __future__ import annotations

from contextlib import suppress

import httpx
import pytest

from chutes_core.testing import FAULTS, Answer, Fault, FaultScript, FaultyTransport

BODY = {"model": "acme/one", "messages": [], "stream": True}


def test_an_unknown_fault_names_those_there_are() -> None:
    """A misspelt fault is an error with the list."""
    with pytest.raises(ValueError, match="capacity"):
        FaultScript(["capasity"])
    with pytest.raises(ValueError, match="no fault"):
        Fault.parse("capasity:date")


def test_models_may_have_scripts_of_their_own() -> None:
    """by_model goes before the common entries; the default comes after both."""
    script = FaultScript(["cold"], default=Answer("d"), by_model={"a": ["capacity"]})
    assert [getattr(script.next("a"), "kind", "answer") for _ in range(2)] == ["capacity", "answer"]
    assert [getattr(script.next("b"), "kind", "answer") for _ in range(2)] == ["cold", "answer"]


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_plays_for_a_stock_client(name: str) -> None:
    """A plain httpx client meets each fault as bytes, a status or an error of its own package."""
    transport = FaultyTransport([Fault(name)])
    for stream in (True, False):
        with httpx.Client(transport=transport, timeout=5) as http, suppress(httpx.TransportError):
            reply = http.post("http://x.invalid/v1/chat/completions", json={**BODY, "stream": stream})
            assert reply.status_code >= 200
    assert len(transport.requests) == 2
    assert transport.open_replies == 0
    assert transport.requests[0].stream


async def test_an_async_client_meets_the_same() -> None:
    """The same transport serves async clients, and the key is not kept."""
    transport = FaultyTransport(["slow_drip", "hang"])
    async with httpx.AsyncClient(transport=transport, timeout=5) as http:
        reply = await http.post("http://x.invalid/", json=BODY, headers={"Authorization": "Bearer cpk_test"})
        assert reply.text.endswith("data: [DONE]\n\n")
        with pytest.raises(httpx.ReadTimeout):
            await http.post("http://x.invalid/", json=BODY)
    assert "authorization" not in transport.requests[0].headers
    assert transport.clock.now() > 5
    assert transport.requests[0].model == "acme/one"


def test_a_request_without_a_body_is_one_too() -> None:
    """A GET is recorded like any other request."""
    transport = FaultyTransport([Answer("Hi")])
    with transport, httpx.Client(transport=transport) as http:
        assert http.get("http://x.invalid/models").status_code == 200
    assert (transport.requests[0].method, transport.requests[0].body) == ("GET", {})
