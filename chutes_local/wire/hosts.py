"""The names under which the server may be asked, so that no web page can reach it under a name of its own.

A page whose own name suddenly leads to 127.0.0.1 is let read the answers of this server by the browser. Such a name is
in the ``Host`` header, and is refused: the server answers to addresses of this machine, to ``localhost`` and to names
under ``.localhost`` and ``.test``, which nobody can register, and to names that it is given.

>>> hosts = served("127.0.0.1", ["devbox"])
>>> [hosts.label(host, "127.0.0.1") for host in ("LOCALHOST.:80", "embed.localhost", "[::1]:80", "llm.devbox")]
['', 'embed', '', 'llm']
>>> hosts.label("evil.example:8765", "127.0.0.1") is None
True
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

NOBODYS = ("localhost", "test")
"""Top-level names that nobody can register (RFC 6761)."""
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^][:@/?#\s]+)(?::(?P<port>[0-9]{0,5}))?")


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names that are served; a name under one of them may lead to one of the hosts of the service."""

    names: frozenset[str] = frozenset({"localhost"})
    bound: Address | None = None

    def label(self, host: str, own: str) -> str | None:
        """Return the label that names a host of the service, "" without one; ``None`` for a host that is not served.

        Args:
            host: the ``Host`` header.
            own: the address that the connection came to.
        """
        found = _HOST.fullmatch(host)
        if found is None or int(found["port"] or 0) > 65535:
            return None
        name = found["name"].lower().removesuffix(".")
        address = address_of(name)
        if address is not None:
            return "" if address.is_loopback or address in (self.bound, address_of(own)) else None
        if name in self.names:
            return ""
        above = any(name.endswith(f".{served}") for served in (*self.names, *NOBODYS))
        return name.partition(".")[0] if above else None


def served(host: str, names: Iterable[str] = ()) -> Hosts:
    """Return the names served by a server that listens on ``host`` and has further ``names``."""
    bound = address_of(host)
    known = {"localhost", *names}
    if bound is None:
        known.add(host)
    elif not bound.is_loopback:
        known.add(socket.gethostname())
    return Hosts(frozenset(name.lower().removesuffix(".") for name in known), bound)


def address_of(name: str) -> Address | None:
    """Read an IP address, in brackets or not; one of IPv4 inside IPv6 is that of IPv4.

    >>> address_of("[::ffff:127.0.0.1]"), address_of("localhost")
    (IPv4Address('127.0.0.1'), None)
    """
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None) or address
