"""A secret as a value that does not show."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, runtime_checkable

__all__ = ["ENVIRONMENT", "Secret", "SupportsSecret"]

# Where a key is, unless it is given: the first that is set counts.
ENVIRONMENT = ("CHUTES_OAUTH_TOKEN", "CHUTES_API_KEY")


@runtime_checkable
class SupportsSecret(Protocol):
    """Anything that holds a secret like pydantic's SecretStr."""

    def get_secret_value(self) -> str:
        """Return the plain text."""


class Secret:
    """A string hidden from repr, str, format, pickles and tracebacks.

    Attributes:
        source: Where it was given, for messages.
        places: The addresses that were named together with it, as origins (:mod:`chutes_core.secrets.places`).

    >>> secret = Secret("cpk_0123")
    >>> secret, f"{secret}"
    (Secret('cpk_****'), '****')
    >>> secret.get_secret_value()
    'cpk_0123'
    """

    __slots__ = ("__value", "places", "source")

    def __init__(self, value: str, source: str = "api_key", places: Collection[str] = ()) -> None:
        self.__value = value
        self.source = source
        self.places = frozenset(places)

    def get_secret_value(self) -> str:
        """Return the plain text, for the header about to be sent."""
        return self.__value

    def __repr__(self) -> str:
        prefix = self.__value[:4] if self.__value[:4] in ("cpk_", "cak_") else ""
        return f"Secret('{prefix}****')"

    def __str__(self) -> str:
        return "****"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.__value == self.__value

    def __hash__(self) -> int:
        return hash(self.__value)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("A secret cannot be pickled; the other process reads its own key from the environment.")
