"""Redirects: only within the host that was asked, and only where the request stays the same.

A redirect elsewhere would take the prompt and your headers to a host that you did not choose, and one that turns a POST
into a GET would have a page taken for the answer. Neither is followed; the failure says where it leads.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

__all__ = ["MOST_REDIRECTS", "destination", "next_place"]

MOST_REDIRECTS = 3

_KEEPING = (307, 308)
_CHANGING = (301, 302, 303)
_PORTS = {"http": 80, "https": 443}


def next_place(method: str, url: str, status: int, headers: Mapping[str, str]) -> str | None:
    """Return where a redirect leads, if it is one to follow.

    >>> next_place("POST", "https://host/v1/", 307, {"location": "/v1"})
    'https://host/v1'
    >>> next_place("POST", "https://host/v1/", 302, {"location": "/v1"})
    """
    same = status in _KEEPING or (status in _CHANGING and method in ("GET", "HEAD"))
    location = headers.get("location", "")
    if not same or not location:
        return None
    try:
        place = urljoin(url, location)
        return place if _origin(place) == _origin(url) else None
    except ValueError:
        return None


def destination(status: int, headers: Mapping[str, str]) -> str | None:
    """Return where a redirect leads, without path and query, which may hold secrets; None if it is no redirect.

    >>> destination(302, {"location": "https://Other.example/login?token=1"}), destination(307, {"location": "/v2"})
    ('https://other.example', 'another path of the same host')
    """
    location = headers.get("location")
    if status not in _KEEPING + _CHANGING or location is None:
        return None
    try:
        scheme, host, port, _ = _origin(location)
    except ValueError:
        return "an address that is not valid"
    if not host:
        return "another path of the same host"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme or 'https'}://{shown}{'' if port in (None, _PORTS.get(scheme)) else f':{port}'}"


def _origin(url: str) -> tuple[str, str, int | None, bool]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme), parts.username is not None
