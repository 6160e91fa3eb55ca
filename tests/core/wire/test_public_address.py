"""Which addresses an image may be fetched from."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.wire.public_address import is_public

PUBLIC = ["1.1.1.1", "93.184.215.14", "223.255.255.254", "2606:2800:21f:cb07::1", "2a00::1", "64:ff9b::5db8:d70e"]
NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "100.127.255.254", "127.0.0.1", "127.255.0.9", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.9", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.0.1",
    "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.1.2.3", "240.0.0.1",
    "255.255.255.255",
    "::", "::1", "::8.8.8.8", "::ffff:10.0.0.1", "::ffff:0.0.0.1", "::ffff:0:8.8.8.8", "::ffff:192.0.0.9",
    "64:ff9b::10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "64:ff9b::1:0:0", "100::1", "2001::1", "2001:0:808:808::1",
    "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:808:808::1", "2002:7f00:1::", "3fff::1", "5f00::1",
    "fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "2a00::1%eth0", "fec0::1", "ff02::1", "ffff::1", "4000::1",
    "", "localhost", "127.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "1.1.1.1 ", "[::1]",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_hosts(address: str) -> None:
    """Ordinary addresses, and those that lead to one through a translator."""
    assert is_public(address)
    if ":" not in address:
        assert is_public(f"::ffff:{address}")


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_all_others(address: str) -> None:
    """Special networks of either kind, also within one another, and what is no address in its usual form."""
    assert not is_public(address)


@given(st.ip_addresses())
def test_it_is_never_less_strict_than_python(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """What this Python knows to be special is refused too."""
    if is_public(str(address)):
        inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        assert (inner or address).is_global
        assert not address.is_multicast
