"""Which addresses are the service's, which are of this machine, and what else a key may go to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.errors import ConfigurationError
from chutes_core.secrets.places import check_place, reason
from chutes_core.secrets.secret import Secret

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


@given(st.from_regex(r"https?://[a-z0-9.\\\[\]:@%-]{1,30}(/v1)?", fullmatch=True))
def test_nothing_else_is_the_service(url: str) -> None:
    """However odd the address, a key goes to a host below chutes.ai or to this machine, or an error says no."""
    try:
        why = reason(url, Secret("cpk_0123"))
    except ValueError:
        return
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    assert (
        why is None
        or host.rpartition(":")[0].strip("[]") in ("127.0.0.1", "localhost", "::1")
        or (host.split(":")[0].endswith("chutes.ai") or host in ("127.0.0.1", "localhost", "[::1]"))
    )
