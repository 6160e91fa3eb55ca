"""Which addresses are those of public hosts.

``ipaddress`` knows many of the special networks, and more with every release of Python; the ones here are refused in
all of them. https://www.iana.org/assignments/iana-ipv6-special-registry lists them, and has a twin for IPv4.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["is_public"]

_NOT_PUBLIC = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
            "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
        ),
    )
)  # fmt: skip
_GLOBAL = IPv6Network("2000::/3")
# Protocols (with Teredo, which holds an IPv4 address), AS112, documentation, 6to4 (which holds one too).
_NOT_GLOBAL = tuple(
    map(IPv6Network, ("2001::/23", "2001:4:112::/48", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"))
)
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Return whether an address is that of a public host, also where it holds an IPv4 address.

    >>> is_public("93.184.215.14"), is_public("::ffff:93.184.215.14"), is_public("::ffff:10.0.0.1")
    (True, True, False)
    """
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return _is_public_4(found) if isinstance(found, IPv4Address) else _is_public_6(found)


def _is_public_4(address: IPv4Address) -> bool:
    return address.is_global and not any(address in network for network in _NOT_PUBLIC)


def _is_public_6(address: IPv6Address) -> bool:
    if address.scope_id is not None:
        return False  # an interface of this machine
    if address.ipv4_mapped is not None:
        return _is_public_4(address.ipv4_mapped)
    if address in _NAT64:
        return _is_public_4(IPv4Address(int(address) & 0xFFFFFFFF))
    return address.is_global and address in _GLOBAL and not any(address in network for network in _NOT_GLOBAL)
