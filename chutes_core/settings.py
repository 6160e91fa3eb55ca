"""The service's URLs and the time limits, resolved once from arguments and environment."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar
from urllib.parse import urlsplit

from chutes_core.errors import ConfigurationError
from chutes_core.warned import warn

__all__ = ["Settings", "TimeLimits", "check_address", "is_loopback", "origin_of", "others_limits", "usable_limits"]

T = TypeVar("T")
BASE_URL = "https://llm.chutes.ai/v1"
EMBEDDING_BASE_URL = "https://embed.chutes.ai/v1"
MANAGEMENT_URL = "https://api.chutes.ai"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Timeouts in seconds; None waits forever.

    Attributes:
        connect: For a connection.
        first_token: For the first visible part of a streamed answer. The gateway sends no headers before it, and a
            model with a long prompt may be silent for minutes.
        gap: Between two parts of a streamed answer, once it has begun.
        total: For the whole call, retries and waits included; for embeddings, per batch. A reply that is not streamed
            arrives all at once; without a total the timeout is that of the service's edge, 600 s.
        reply: For such a reply, where that is to be less.

    >>> TimeLimits(first_token=8, total=60)
    TimeLimits(connect=10.0, first_token=8, gap=120.0, total=60, reply=None)
    """

    connect: float | None = 10.0
    first_token: float | None = 300.0
    gap: float | None = 120.0
    total: float | None = None
    reply: float | None = None

    def __post_init__(self) -> None:
        for name in ("connect", "first_token", "gap", "total", "reply"):
            value = getattr(self, name)
            if value is None:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not value > 0 or math.isinf(value):
                raise ConfigurationError(
                    f"The time limit {name!r} must be a positive number of seconds, or None to wait forever, "
                    f"not {value!r}."
                )

    @classmethod
    def of(cls, value: object) -> TimeLimits:
        """Read a caller's value: a number is the limit for the whole call.

        A tuple ``(connect, read)`` and a ``Timeout`` of httpx say how long a connection may take, and how long nothing
        may arrive: before the first part of an answer, between two, or of a reply that is not streamed. Their other two
        have nothing to limit: no call waits for a connection of the pool, and a request is small.

        >>> TimeLimits.of(30).total
        30
        >>> TimeLimits.of((3, 20))
        TimeLimits(connect=3, first_token=20, gap=20, total=None, reply=20)
        """
        if isinstance(value, TimeLimits):
            return value
        if value is None:
            return cls()
        if isinstance(value, tuple | list):
            if len(value) not in (2, 4):
                raise ConfigurationError("A tuple of time limits is (connect, read), or httpx's four: use TimeLimits.")
            connect, read = value[:2]
        elif all(hasattr(value, name) for name in ("connect", "read", "write", "pool")):
            connect, read = value.connect, value.read  # type: ignore[attr-defined]
        else:
            return cls(total=value)  # type: ignore[arg-type]
        return cls(connect=connect, first_token=read, gap=read, reply=read)

    @property
    def whole(self) -> float | None:
        """How long a reply that is not streamed may take."""
        return min(filter(None, (self.total, self.reply)), default=600.0)


def usable_limits(value: object) -> object:
    """Return a caller's time limits as they were given, if they are usable; those of other packages as ours.

    >>> usable_limits(30), usable_limits((3, 20)).gap
    (30, 20)
    """
    limits = TimeLimits.of(value)
    return value if value is None or isinstance(value, int | float) else limits


def others_limits(value: object) -> object:
    """Return the time limits of other packages as ours, and anything else as it was given, for its type to be checked.

    >>> others_limits((3, 20)).gap, others_limits("soon")
    (20, 'soon')
    """
    return usable_limits(value) if hasattr(value, "connect") or isinstance(value, tuple | list) else value


@dataclass(frozen=True, slots=True)
class Settings:
    """The URLs of the service.

    Attributes:
        base_url: The inference gateway.
        embedding_base_url: The embedding host for every model; None uses each model's own host from the catalogue.
        management_url: The host of catalogue, account and OAuth.
        named: The origins of those that were given as arguments: a key that was given with them may go there.
    """

    base_url: str = BASE_URL
    embedding_base_url: str | None = None
    management_url: str = MANAGEMENT_URL
    named: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    @property
    def foreign(self) -> bool:
        """Whether the gateway is not the service's, so that its prices and chutes are its own.

        >>> Settings().foreign, Settings("http://127.0.0.1:8000/v1").foreign
        (False, True)
        """
        return self.base_url != BASE_URL

    @classmethod
    def resolve(
        cls,
        *,
        base_url: str | None = None,
        embedding_base_url: str | None = None,
        management_url: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Settings:
        """Take each URL from its argument, else from the environment, else the service's own.

        ``CHUTES_API_URL`` is not read: to some programs it means the management host, to others the gateway.

        >>> Settings.resolve(env={"CHUTES_BASE_URL": "http://127.0.0.1:8000/v1/"}).base_url
        'http://127.0.0.1:8000/v1'
        """
        env = os.environ if env is None else env
        given = {
            "base_url": base_url, "embedding_base_url": embedding_base_url, "management_url": management_url
        }  # fmt: skip
        chosen = {name: value or env.get(f"CHUTES_{name.upper()}") for name, value in given.items()}
        urls = {name: _url(name, value) for name, value in chosen.items() if value}
        named = (origin_of(urls[name]) for name, value in given.items() if value)
        # Unencrypted is not meant by an address alone.
        together = frozenset(each for each in named if each.startswith("https:"))
        return replace(cls(named=together), **urls)  # type: ignore[arg-type]


def origin_of(url: str) -> str:
    """Return the scheme, host and port of a valid address, written in one way.

    >>> origin_of("HTTPS://Gateway.example:443/v1"), origin_of("http://[::1]:8765/v1")
    ('https://gateway.example', 'http://[::1]:8765')
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def is_loopback(url: str) -> bool:
    """Return whether an address is on this machine, as such an address is usually written.

    >>> is_loopback("http://localhost:8765/v1"), is_loopback("http://127.0.0.1.example")
    (True, False)
    """
    return urlsplit(url).hostname in _LOOPBACK


def check_address(name: str, value: T) -> T:
    """Return an address as it was given, or None; refuse one that could not be used, or that has a secret in it.

    One that ends too early or too late to be asked is mended, with a warning.

    >>> check_address("base_url", "https://me:secret@h.test")
    Traceback (most recent call last):
    chutes_core.errors.ConfigurationError: base_url must not contain a user or password; pass the key as api_key.
    """
    if not value:
        return value
    found = _url(name, value)
    return value if found == str(value).strip().rstrip("/") else found  # type: ignore[return-value]


def _url(name: str, value: object) -> str:
    """Validate a URL and strip its trailing slash."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a string such as {BASE_URL!r}, not {type(value).__name__}.")
    try:
        parts = urlsplit(value.strip())
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigurationError(
            f"{name} must be an http(s) address such as {BASE_URL!r}. What was given is not repeated here, because a "
            "mistaken value may be a key."
        )
    if "@" in parts.netloc:
        raise ConfigurationError(f"{name} must not contain a user or password; pass the key as api_key.")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{name} must end at its path: {parts.scheme}://{parts.netloc}{parts.path}")
    given = value.strip().rstrip("/")
    return _mended(name, given, parts.path.rstrip("/")) if name in _VERSIONED else given


_VERSIONED = ("base_url", "api_base", "embedding_base_url")
_ENDS = ("/chat/completions", "/completions", "/embeddings", "/models")


def _mended(name: str, given: str, path: str) -> str:
    """Return an address without what a call adds to it, and with the version that its path begins with."""
    end = next((each for each in _ENDS if path.endswith(each)), "")
    mended = given.removesuffix(end)
    if path == end:
        mended += "/v1"
    if mended != given:
        warn(f"{name} is taken for {mended}, not {given}.")
    return mended
