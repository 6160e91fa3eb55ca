"""Where a key may go: to the service, to this machine, and to an address that was named together with it.

See docs/decisions/0018. A key knows the last of these (:attr:`~chutes_core.secrets.secret.Secret.places`), and this is
asked where the key leaves it, when a request is sent.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from chutes_core.errors import ConfigurationError
from chutes_core.secrets.secret import ENVIRONMENT, Secret
from chutes_core.settings import is_loopback, origin_of

__all__ = ["Reason", "check_place", "is_service", "is_stranger", "reason"]

Reason = Literal["service", "this machine", "named with the key"]

_ENCRYPTED = re.compile(r"https://([a-z0-9.-]+)(?::\d+)?")


def is_service(origin: str) -> bool:
    """Return whether an origin is one of the service's, encrypted.

    >>> is_service("https://llm.chutes.ai"), is_service("http://llm.chutes.ai"), is_service("https://chutes.ai.test")
    (True, False, False)
    """
    found = _ENCRYPTED.fullmatch(origin)
    return found is not None and f".{found[1]}".endswith(".chutes.ai")


@lru_cache(maxsize=256)
def _stranger(url: str) -> str:
    """Return the origin of an address that not every key may go to; "" if every key may."""
    origin = origin_of(url)
    return "" if is_service(origin) or is_loopback(origin) else origin


def is_stranger(url: str) -> bool:
    """Return whether an address is neither the service's nor on this machine, so that not every key may go there.

    >>> is_stranger("https://gateway.example/v1"), is_stranger("https://llm.chutes.ai/v1")
    (True, False)
    """
    return bool(_stranger(url))


def reason(url: str, secret: Secret) -> Reason | None:
    """Return why a key may go to an address; None if it may not.

    >>> reason("https://llm.chutes.ai/v1", Secret("cpk_0123")), reason("http://127.0.0.1:8000/v1", Secret("cpk_0123"))
    ('service', 'this machine')
    >>> reason("https://gateway.example/v1", Secret("cpk_0123", places={"https://gateway.example"}))
    'named with the key'
    >>> reason("https://gateway.example/v1", Secret("cpk_0123")) is None
    True
    """
    if not (stranger := _stranger(url)):
        return "this machine" if is_loopback(origin_of(url)) else "service"
    return "named with the key" if stranger in secret.places else None


def check_place(url: str, secret: Secret) -> None:
    """Refuse to send a key to an address that it may not go to.

    >>> check_place("http://gateway.example/v1", Secret("cpk_0123"))
    Traceback (most recent call last):
    chutes_core.errors.ConfigurationError: Nothing was sent: to http://gateway.example the key would go unencrypted. ...
    """
    stranger = _stranger(url)
    if not stranger or stranger in secret.places:
        return
    if stranger.startswith("http:"):
        raise ConfigurationError(
            f"Nothing was sent: to {stranger} the key would go unencrypted. Use an https address. On a network that is "
            f"yours alone, write the address behind the key: cpk_…@{stranger}."
        )
    told = f"{secret.source}=cpk_…@{stranger}" if secret.source in ENVIRONMENT else f"cpk_…@{stranger}"
    raise ConfigurationError(
        f"Nothing was sent: the key ({secret.source}) goes to Chutes and to this machine, and {stranger} was not named "
        "together with it. If that address is meant, give both in one place: api_key= with base_url= (on the command "
        f"line --api-key-stdin with --base-url), or the address behind the key, {told}. If it is not, look for it in "
        "CHUTES_BASE_URL and the like, which a .env file may set."
    )
