"""Headers whose values do not show: any of them may be secret, unless its name says that it is harmless."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from hashlib import blake2b, sha256
from typing import ClassVar, Self, TypeVar

from chutes_core.errors import ConfigurationError, redact
from chutes_core.secrets.secret import ENVIRONMENT, SupportsSecret

__all__ = ["MASK", "Headers", "HiddenText", "Query", "is_secret"]

T = TypeVar("T")
MASK = "****"
_HARMLESS = frozenset({
    "accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "connection",
    "content-encoding", "content-language", "content-length", "content-type", "date", "dnt", "expect", "host",
    "http-referer", "keep-alive", "origin", "pragma", "prefer", "priority", "referer", "request-id", "te",
    "traceparent", "tracestate", "user-agent", "x-app-name", "x-b3-parentspanid", "x-b3-sampled", "x-b3-spanid",
    "x-b3-traceid", "x-chute-id", "x-correlation-id", "x-e2e-path", "x-e2e-stream", "x-enable-thinking",
    "x-instance-id", "x-request-id", "x-requested-with", "x-tee-only", "x-title",
})  # fmt: skip
_HARMLESS_FAMILIES = ("x-local-", "x-stainless-")  # of the embedded Chutes, and of the openai SDK
_TELLING = re.compile("auth|cookie|cred|key|pass|secret|session|token")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SALT = os.urandom(32)


def is_secret(name: str, value: str) -> bool:
    """Return whether a header's value may be secret: all are, except those with a harmless name and no key inside.

    >>> is_secret("X-Title", "me"), is_secret("X-Tenant-Token", "me"), is_secret("Referer", "https://a.test/?key=1")
    (False, True, True)
    """
    lowered = name.lower()
    family = lowered.startswith(_HARMLESS_FAMILIES) and not _TELLING.search(lowered)
    if lowered not in _HARMLESS and not family:
        return True
    return redact(value) != value or ("://" in value and ("@" in value or "?" in value))


class HiddenText(str):
    """A text that is not in its repr, nor in a pickle: tools that show the variables of frames do not show it.

    >>> {"X-Tenant-Token": HiddenText("s3cr3t")}
    {'X-Tenant-Token': '****'}
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        raise TypeError("The value of a header may be secret and cannot be pickled; Headers can, without such values.")


class Headers(MutableMapping[str, str]):
    """The headers of every request. What may be secret is not shown, dumped or pickled, but can be read and sent.

    >>> headers = Headers({"X-Title": "me", "X-Tenant-Token": "s3cr3t"})
    >>> headers
    Headers({'X-Title': 'me', 'X-Tenant-Token': '****'})
    >>> headers["X-Tenant-Token"] == "s3cr3t"
    True

    A value does not travel to another process. Its name does, and a call is refused until the value is set there:

    >>> import pickle
    >>> there = pickle.loads(pickle.dumps(headers))
    >>> there.ready()
    Traceback (most recent call last):
    chutes_core.errors.ConfigurationError: No value here for X-Tenant-Token in default_headers, so nothing was sent. ...
    >>> there["X-Tenant-Token"] = "s3cr3t"
    >>> there.ready() == headers
    True
    """

    __slots__ = ("_values",)
    _what: ClassVar[str] = "header"
    _place: ClassVar[str] = "default_headers"

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self._values: dict[str, str] = {}
        try:
            listed = dict(given or {})
        except (TypeError, ValueError):
            raise ConfigurationError(
                f"{self._place} must be a mapping from names to texts, not a {type(given).__name__}."
            ) from None
        for name, value in listed.items():
            self[name] = value

    @classmethod
    def kept(cls, given: Mapping[str, str] | None) -> Self | None:
        """Return what was given as headers; the object itself if it is one."""
        return given if given is None or isinstance(given, cls) else cls(given)

    def __setitem__(self, name: str, value: str) -> None:
        _check(self._what, name, value)
        self._values[name] = HiddenText(value) if is_secret(name, value) and not value.startswith(MASK) else str(value)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dumped()!r})"

    def __copy__(self) -> Self:
        return type(self)(self._values)

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)(self._values)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.dumped(),)

    @property
    def secret(self) -> tuple[str, ...]:
        """The names of the headers whose values do not show."""
        return tuple(name for name, value in self._values.items() if isinstance(value, HiddenText))

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the headers whose values stayed in another process, or were left out of a dump."""
        return tuple(name for name, value in self._values.items() if value.startswith(MASK))

    def ready(self) -> dict[str, str]:
        """Return the headers to send, as they are now.

        Raises:
            ConfigurationError: The value of one is missing.
        """
        sent = dict(self._values)
        if missing := [name for name, value in sent.items() if value.startswith(MASK)]:
            raise ConfigurationError(
                f"No value here for {', '.join(missing)} in {self._place}, so nothing was sent. The value of a "
                f"{self._what} may be secret, and is left out when a client or a model is pickled or dumped. Set it "
                f"before the first call: model.{self._place}[{missing[0]!r}] = ... (of each member of a fallback, or "
                "of a client), or make the model or client in this process."
            )
        return sent

    def dumped(self) -> dict[str, str]:
        """Return the headers as plain data, with a mask for each secret value.

        >>> Headers({"X-Title": "me", "Cookie": "session=1"}).dumped()
        {'X-Title': 'me', 'Cookie': '****'}
        """
        return {name: MASK if isinstance(value, HiddenText) else value for name, value in self._values.items()}

    def told_apart(self, api_key: object) -> dict[str, str]:
        """Return :meth:`dumped` with a fingerprint behind each mask, so that a cache can tell two values apart.

        Nobody can test guesses against it without the key, for which None means that of the environment; if the key
        is not at hand, the fingerprint holds for this process only.

        >>> one, two = Headers({"Cookie": "session=1"}), Headers({"Cookie": "session=2"})
        >>> one.told_apart("cpk_0123") == two.told_apart("cpk_0123"), one.told_apart("cpk_0123")["Cookie"][:5]
        (False, '**** ')
        """
        found = api_key.get_secret_value() if isinstance(api_key, SupportsSecret) else api_key
        if found is None:
            found = next(filter(None, map(os.environ.get, ENVIRONMENT)), None)
        key = sha256(found.encode()).digest() if isinstance(found, str) else _SALT
        return {
            name: f"{MASK} {_fingerprint(key, name, value)}" if isinstance(value, HiddenText) else value
            for name, value in self._values.items()
        }


class Query(Headers):
    """What is added to the address of every request; as secret as headers are.

    >>> Query({"tenant": "s3cr3t"})
    Query({'tenant': '****'})
    """

    __slots__ = ()
    _what = "query parameter"
    _place = "default_query"


def _fingerprint(key: bytes, name: str, value: str) -> str:
    said = f"{name.lower()}\0{value}".encode()
    return blake2b(said, digest_size=8, key=key, person=b"chutes-header").hexdigest()


def _check(what: str, name: object, value: object) -> None:
    """Refuse an invalid one without showing its value, which may be secret."""
    if not isinstance(name, str) or not isinstance(value, str):
        raise ConfigurationError(f"The {what} {_shown(name)} must be text.")
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"The {what} {_shown(name)} has characters that are not allowed in the name of one.")
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise ConfigurationError(
            f"The {what} {_shown(name)} has characters that are not allowed in one, or blanks around its value."
        )
    if name.lower() == "authorization":
        raise ConfigurationError(f"Pass the key as api_key, not as a {what}, which would be sent beside it.")


def _shown(name: object) -> str:
    """Return what to say of a name: what follows the first character that no name has may be a value."""
    found = _NAME.match(name) if isinstance(name, str) else None
    return repr(redact(found[0])) if found is not None else "without a name"
