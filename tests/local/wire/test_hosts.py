"""Which names a server has, by what it listens on and what it was given."""

from __future__ import annotations

import socket

import pytest

from chutes_local.wire.hosts import served


@pytest.mark.parametrize(
    ("bound", "names", "host", "own", "label"),
    [
        ("127.0.0.1", [], "127.0.0.1:1", "127.0.0.1", ""),
        ("127.0.0.1", [], "192.0.2.7", "127.0.0.1", None),
        ("192.0.2.7", [], "192.0.2.7:80", "192.0.2.7", ""),
        ("0.0.0.0", [], "192.0.2.7", "192.0.2.7", ""),
        ("0.0.0.0", [], "192.0.2.8", "192.0.2.7", None),
        ("0.0.0.0", [], "0.0.0.0:80", "127.0.0.1", ""),
        ("0.0.0.0", [], socket.gethostname(), "127.0.0.1", ""),
        ("::", [], "[2001:DB8::0001]:80", "2001:db8::1", ""),
        ("::1", [], "[::1]", "::1", ""),
        ("box.example", [], "BOX.example.:80", "192.0.2.7", ""),
        ("127.0.0.1", ["box.example"], "embed.box.example", "127.0.0.1", "embed"),
        ("127.0.0.1", ["box.example"], "box.example.evil.example", "127.0.0.1", None),
        ("127.0.0.1", [], "some-slug.chutes.test", "127.0.0.1", "some-slug"),
        ("127.0.0.1", [], "testing", "127.0.0.1", None),
    ],
    ids=range(14),
)
def test_which_names_are_served(bound: str, names: list[str], host: str, own: str, label: str | None) -> None:
    """Its own address in any form, the names that nobody can have, and those that it was given."""
    assert served(bound, names).label(host, own) == label
