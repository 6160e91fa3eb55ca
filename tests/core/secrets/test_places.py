"""Which addresses are the service's, which are of this machine, and what else a key may go to."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chutes_core.errors import ConfigurationError
from chutes_core.secrets.places import check_place, reason
from chutes_core.secrets.secret import Secret
from chutes_core.wire.pools import http_package

KEY = Secret("cpk_0123", places=["https://gateway.example"])


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://llm.chutes.ai/v1", "service"),
        ("https://chutes.ai", "service"),
        ("https://a.b.chutes.ai:8443/x", "service"),
        ("HTTPS://API.CHUTES.AI/", "service"),
        ("http://127.0.0.1:8765/v1", "this machine"),
        ("https://localhost/v1", "this machine"),
        ("http://[::1]/v1", "this machine"),
        ("https://GATEWAY.example:443/v1", "named with the key"),
        ("http://llm.chutes.ai/v1", None),
        ("https://chutes.ai.example", None),
        ("https://xchutes.ai", None),
        ("https://gateway.example:8443/v1", None),
        ("http://gateway.example/v1", None),
        ("https://sub.gateway.example/v1", None),
        ("http://127.0.0.2", None),
        ("http://127.1", None),
        ("http://[::ffff:7f00:1]", None),
    ],
)
def test_why_a_key_may_go_to_an_address(url: str, why: str | None) -> None:
    """What is refused is refused with a reason."""
    assert reason(url, KEY) == why
    if why is None:
        with pytest.raises(ConfigurationError, match="Nothing was sent"):
            check_place(url, KEY)
    else:
        check_place(url, KEY)


PARTS = [
    "chutes.ai", "chutes", "ai", "llm", "x", ".", "-", "/", "\\", "@", ":", ":80", "%2e", "?", "#", "[", "]",
    "127.0.0.1", "localhost", "::1", "[::1]", "0", "7",
]  # fmt: skip


@settings(max_examples=500)
@given(scheme=st.sampled_from(["http", "https"]), parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=5))
@example(scheme="https", parts=["x", "chutes.ai"])
@example(scheme="http", parts=["llm", ".", "chutes.ai"])
@example(scheme="http", parts=["127.0.0.1", "@", "x"])
def test_nothing_else_is_the_service(scheme: str, parts: list[str]) -> None:
    """However odd the address, what the HTTP package connects to is of chutes.ai, encrypted, or on this machine."""
    url = f"{scheme}://{''.join(parts)}"
    try:
        why, found = reason(url, Secret("cpk_0123")), http_package().URL(url)
    except (ValueError, http_package().InvalidURL):
        return
    if why == "service":
        assert (found.scheme, f".{found.host}"[-10:]) == ("https", ".chutes.ai")
    assert why != "this machine" or found.host in ("127.0.0.1", "localhost", "::1")
    assert why in ("service", "this machine", None)
