"""The strings and numbers of JSON, where they stand in a text: also of a stream, and of one that was cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Value", "parts_of", "values_of"]

_TOKEN = re.compile(
    r'"(?P<said>(?:[^"\\]|\\.)*+)(?P<end>"(?P<name>\s*:)?|\\?\Z)|(?P<mark>[{}\[\],])|(?P<number>-?\d[\d.eE+-]*)',
    re.DOTALL,
)
_EVENT = re.compile(r"^data:(.*)", re.MULTILINE)
_MOST = 200  # as deep as JSON is taken apart; what is deeper counts as standing there


class Value(NamedTuple):
    """A string without its quotes, or a number.

    Attributes:
        start: Where it begins.
        end: Where it ends.
        names: The names that lead to it, without places in lists.
        is_number: Whether it is a number.
        listed: Whether it stands in a list.
        is_name: Whether it is a name itself.
    """

    start: int
    end: int
    names: tuple[str, ...]
    is_number: bool = False
    listed: bool = False
    is_name: bool = False


def values_of(text: str) -> Iterator[Value]:
    r"""Yield what stands in a body, which is JSON or a stream of events.

    >>> [(text[v.start : v.end], v.names) for text in ['data: {"a": [{"b": "c"}, 1]}\n\n'] for v in values_of(text)]
    [('a', ()), ('b', ('a',)), ('c', ('a', 'b')), ('1', ('a',))]
    """
    for start, end in parts_of(text):
        yield from _values(text[start:end], start)


def parts_of(text: str) -> Iterator[tuple[int, int]]:
    r"""Yield where a body has JSON: all of it, or the data of each event.

    >>> list(parts_of('{"a": 1}')), list(parts_of("data: {}\n\nid: 1\ndata: []"))
    ([(0, 8)], [(5, 8), (21, 24)])
    """
    if text.lstrip()[:1] in ("{", "["):
        yield 0, len(text)
        return
    for event in _EVENT.finditer(text):
        yield event.span(1)


def _values(text: str, offset: int) -> Iterator[Value]:
    above: list[tuple[str, str | None]] = []
    name: str | None = None
    for token in _TOKEN.finditer(text):
        mark, listed = token["mark"], bool(above) and above[-1][0] == "["
        if mark in ("{", "["):
            if len(above) < _MOST:
                above.append((mark, name))
            name = None
        elif mark in ("}", "]"):
            name = above.pop()[1] if above else None
        elif mark is not None:
            name = None
        else:
            names = tuple(each for _, each in above if each is not None)
            start, end = token.span("number" if token["number"] else "said")
            if token["name"] and not listed:
                name = token["said"]
                yield Value(offset + start, offset + end, names, is_name=True)
            else:
                inner = names if name is None else (*names, name)
                yield Value(offset + start, offset + end, inner, bool(token["number"]), listed)
