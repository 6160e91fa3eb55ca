"""Mask the secrets of a call in its failure, by their value: a server may write back what it was sent.

A pattern (:func:`chutes_core.errors.redact`) knows keys by how they begin; :class:`Known` knows what was sent.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import TypeVar, cast

from chutes_core.secrets.echoes import SHORTEST, Echoes, replaced, replaced_each
from chutes_core.secrets.headers import MASK, is_secret
from chutes_core.secrets.secret import Secret

__all__ = ["Known", "secrets_in"]

E = TypeVar("E", bound=Exception)
T = TypeVar("T")
_IDENTITY = ("id", "model", "meta")
_DEEPEST = 64
_TOO_DEEP = "\0"
_HUGE = 10**40  # a number with more digits is not a secret, and takes long to write out
_PIECE = re.compile(r"[^\s\"',;=&{}()<>\[\]]+=*")


class Known:
    """The secrets that a call has sent.

    >>> known = Known()
    >>> known.learn({"X-Tenant-Token": "s3cr3t-t0ken", "X-Title": "me"}, Secret("cpk_0123456789"))
    >>> known.value({"seen": ["cpk_0123456789", "me", {"S3CR3T-T0KEN": 401}]})
    {'seen': ['****', 'me', {'****': 401}]}
    """

    def __init__(self) -> None:
        self._sent: list[tuple[Mapping[str, str], Secret | None]] = []
        self._found: Echoes | None = None

    def learn(self, headers: Mapping[str, str], secret: Secret | None = None) -> None:
        """Note what is sent; it is read only if the call fails."""
        self._sent.append((headers, secret))
        self._found = None

    def mask(self, error: E) -> E:
        """Mask the secrets in a failure, and leave out its frames and the exceptions that led to it."""
        for name, value in vars(error).items():
            vars(error)[name] = self.value(value)
        error.args = tuple(self.message(each) if isinstance(each, str) else each for each in error.args)
        error.__traceback__ = error.__context__ = None
        return error

    def text(self, text: str) -> str:
        """Mask the secrets in a text."""
        return replaced(text, self._echoes.spans(text), MASK) if len(text) >= SHORTEST else text

    def message(self, text: str) -> str:
        """Mask the secrets in a text whose parts may have been cut off in the middle of one."""
        text = self.text(text)
        return replaced(text, self._echoes.begun(text), MASK)

    def value(self, value: object) -> object:
        """Mask the secrets in a value of any kind, such as a body or a partial answer."""
        leaves = list(_leaves(value, _DEEPEST))
        masked = replaced_each(leaves, self._echoes.spans, MASK)
        return value if masked == leaves and _TOO_DEEP not in leaves else _rebuilt(value, iter(masked), _DEEPEST)

    def identity(self, reply: T) -> T:
        """Mask the secrets in what a reply says of itself, which is told to observers: its id, model and headers."""
        names = [name for name in _IDENTITY if hasattr(reply, name)]
        parts = tuple(getattr(reply, name) for name in names)
        made = self.value(parts)
        if made is parts:
            return reply
        return replace(reply, **dict(zip(names, cast("tuple[object, ...]", made), strict=True)))  # type: ignore[type-var]

    def name(self, error: E) -> E:
        """Mask the same in a failure. Whoever raises it masks the rest (:meth:`mask`)."""
        for field, masked in (("request_id", self.value), ("partial_reply", self.identity)):
            setattr(error, field, masked(getattr(error, field)))
        return error

    @property
    def _echoes(self) -> Echoes:
        if self._found is None:
            self._found = Echoes(text for headers, key in self._sent for text in secrets_in(headers, key))
        return self._found


def _leaves(value: object, depth: int) -> Iterator[str]:
    """Yield every text of a value, and every number as text."""
    if isinstance(value, str) and not isinstance(value, Enum):
        yield value
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value) if abs(value) < _HUGE else ""
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from _leaves(getattr(value, each.name), depth)
    elif isinstance(value, Mapping | list | tuple) and depth == 0:
        yield _TOO_DEEP
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _leaves(name, depth - 1)
            yield from _leaves(part, depth - 1)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part, depth - 1)


def _rebuilt(value: object, leaves: Iterator[str], depth: int) -> object:
    """Return a value with other texts in the place of its own; a part that stays the same is the same object."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return value if value == (text := next(leaves)) else text
    if isinstance(value, int) and not isinstance(value, bool):
        return MASK if next(leaves) == MASK else value
    if is_dataclass(value) and not isinstance(value, type):
        parts = {each.name: getattr(value, each.name) for each in fields(value)}
        made = {name: _rebuilt(part, leaves, depth) for name, part in parts.items()}
        changed = {name: part for name, part in made.items() if part is not parts[name]}
        return replace(value, **changed) if changed else value
    if isinstance(value, Mapping | list | tuple) and depth == 0:
        next(leaves)
        return "…"
    if isinstance(value, Mapping):
        items = [(_rebuilt(name, leaves, depth - 1), _rebuilt(part, leaves, depth - 1)) for name, part in value.items()]
        same = all(new[0] is old[0] and new[1] is old[1] for new, old in zip(items, value.items(), strict=True))
        return value if same else dict(items)
    if isinstance(value, list | tuple):
        row = [_rebuilt(part, leaves, depth - 1) for part in value]
        if all(new is old for new, old in zip(row, value, strict=True)):
            return value  # also what is a tuple of a kind of its own
        return row if isinstance(value, list) else tuple(row)
    return value


def secrets_in(headers: Mapping[str, str], key: Secret | None) -> Iterator[str]:
    """Yield every text that is secret: the key, the values of headers, and what is inside those."""
    if key is not None:
        yield key.get_secret_value()
    for name, value in headers.items():
        if not is_secret(name, value):
            continue
        scheme, _, credentials = value.partition(" ")
        pieces = [value, *([credentials] if scheme.isalpha() else [])]
        pieces += [piece for piece in _PIECE.findall(value) if any(map(str.isdigit, piece))]
        for piece in pieces:
            yield piece
            yield from _basic(piece)


def _basic(text: str) -> Iterator[str]:
    """Yield the name and password, and the password alone, of the credentials of basic authentication."""
    try:
        plain = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return
    if ":" in plain and plain.isprintable():
        yield plain
        yield plain.partition(":")[2]
