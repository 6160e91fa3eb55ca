r"""Read JSON out of text that a model wrote, in time linear in the text's length.

Models wrap their JSON in prose, reasoning and code fences, and break off anywhere. :func:`values` finds it by following
each value from its first brace on, character by character, and never goes back: where a value turns out to be none, the
search goes on from that place. What was inside of it is part of something else, so nothing is lost that could be meant.

>>> [value.text for value in values('Of {these} [1], here: ```json\n{"a": [2]}\n``` and {"a": "b')]
['[1]', '{"a": [2]}', '{"a": "b']
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chutes_core.door import MAX_DEPTH, check

__all__ = ["Pace", "Value", "begins_object", "parse", "unfenced", "values"]

_THOUGHT, _THOUGHT_ENDS = "<think>", "</think>"
_FENCE = "```"
# Where a value may begin. No search passes more than once over the same place.
_OPENS = re.compile(r"""\{(?=[ \t\n\r]*(?:["}]|\Z))|\[(?=[ \t\n\r]*(?:["{\[\]\-0-9tfn]|\Z))""")
_SOLID = re.compile(r"[^ \t\n\r]")
_IN_STRING = re.compile(r'["\\]')
_ENDS_WORD = re.compile(r"[^-+.0-9A-Za-z]")
_WORDS = ("true", "false", "null")
_CLOSES = {"{": "}", "[": "]"}
_LONGEST_ESCAPE = 6  # \uXXXX
_LONGEST_END = 32


def parse(text: str, *, strict: bool = False) -> object:
    """Parse a text that is JSON as a whole, and that every program reads alike.

    Args:
        text: The text.
        strict: Refuse line breaks inside strings too, which models forget to escape.

    Raises:
        ValueError: It is not JSON or nested too deeply, an object has a key twice, a number is too large, or a string
            has half of a surrogate pair.

    >>> parse('{"a": NaN}')
    Traceback (most recent call last):
    ValueError: NaN is not JSON
    """
    try:
        value: object = _decoders[strict].decode(text)
    except RecursionError:
        raise ValueError("the value is nested too deeply") from None
    check(value)
    return value


def unfenced(text: str) -> str:
    r"""Return what is inside the code fence that a text consists of, or else the text, without blanks around it.

    >>> unfenced('```json\n{"a": 1}\n```\n'), unfenced(" {} ")
    ('{"a": 1}', '{}')
    """
    text = text.strip()
    if not (text.startswith(_FENCE) and text.endswith(_FENCE) and len(text) >= 2 * len(_FENCE)):
        return text
    inner = text[len(_FENCE) : -len(_FENCE)].strip()
    return inner[4:].lstrip() if inner[:4].lower() == "json" else inner


def begins_object(text: str) -> bool:
    """Return whether a text may grow into one object, and has nothing long at its end that would complete only later.

    >>> begins_object('{"a": ["b'), begins_object('{"a" 1'), begins_object('{"' + "a" * 100)
    (True, False, False)
    """
    if text.lstrip()[:1] != "{":
        return False
    course = _follow(text, 0)
    if course.state == _WHOLE:
        return not text[course.end :].strip()
    return course.state == _CUT and len(text) - course.safe <= _LONGEST_END


class Pace:
    """Says when a text that grows is worth reading again, so that all readings together take linear time.

    >>> pace = Pace()
    >>> [length for length in range(0, 200, 9) if pace.due(length)]
    [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99, 108, 117, 126, 135, 144, 153, 162, 171, 180, 189, 198]
    >>> [length for length in range(5000, 5400) if pace.due(length)]
    [5000, 5156, 5317]
    """

    def __init__(self) -> None:
        self._last = self._next = 0

    def due(self, length: int) -> bool:
        """Return whether to read a text of this length; one that has become shorter is another one."""
        if self._last <= length < self._next:
            self._last = length
            return False
        self._last, self._next = length, length + length // 32
        return True


class Value(NamedTuple):
    """An object or a list found in a text.

    Attributes:
        text: As it is written.
        whole: Whether it is complete; otherwise the text ends inside of it, or it is nested too deeply.
        so_far: The text up to the last thing that is complete, and what would close it there.
    """

    text: str
    whole: bool = True
    so_far: str = ""

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return self.text.startswith("[")

    def read(self) -> object:
        """Parse it; of an incomplete one, what is complete, and the beginning of a string.

        Raises:
            ValueError: As :func:`parse`.

        >>> [value.read() for value in values('{"name": "Ada", "notes": ["of Lon')]
        [{'name': 'Ada', 'notes': ['of Lon']}]
        """
        return parse(self.text if self.whole else self.so_far)


def values(text: str) -> Iterator[Value]:
    """Yield the outermost objects and lists in a text, but those in the reasoning before the answer.

    >>> [value.text for value in values('<think>[1]?</think> {"a": "</think>"}')]
    ['{"a": "</think>"}']
    """
    thought = text.rfind(_THOUGHT_ENDS)
    if thought < 0 and text.lstrip().startswith(_THOUGHT):
        return
    position, spoken = 0, thought + len(_THOUGHT_ENDS)
    while (opens := _OPENS.search(text, position)) is not None:
        start = opens.start()
        course = _follow(text, start)
        position = course.end
        if course.state >= _TOO_DEEP and start < thought < position:
            position = spoken  # a thought may break off in what looked like a string
        elif course.state != _BROKEN and position > thought:  # the tag may also stand in a string
            whole = course.state == _WHOLE
            yield Value(text[start:position], whole, "" if whole else course.closed(text, start))


# What is due next in a value, and what became of it.
_VALUE, _FIRST, _KEY, _FIRST_KEY, _COLON, _MORE, _WHOLE, _CUT, _TOO_DEEP, _BROKEN = range(10)
_MAY_END = {"}": (_FIRST_KEY, _MORE), "]": (_FIRST, _MORE)}


class _Course(NamedTuple):
    """The way of one value through a text: where and how it ends, and up to where it is complete, still open."""

    end: int
    state: int
    safe: int = 0
    quote: str = ""
    still_open: Sequence[str] = ()

    def closed(self, text: str, start: int) -> str:
        """Return the complete part, closed."""
        return text[start : self.safe] + self.quote + "".join(_CLOSES[each] for each in reversed(self.still_open))


def _follow(text: str, position: int) -> _Course:
    """Follow the value that opens here to its end, or to where it cannot be one."""
    size, still_open, due, quote = len(text), list[str](), _VALUE, ""
    safe = position
    while position < size:
        char = text[position]
        if char in " \t\n\r":
            solid = _SOLID.search(text, position)
            position = size if solid is None else solid.start()
        elif char in "{[" and due <= _FIRST:
            if len(still_open) == MAX_DEPTH:
                return _Course(size, _TOO_DEEP)
            still_open.append(char)
            position = safe = position + 1
            due = _FIRST_KEY if char == "{" else _FIRST
        elif char == '"' and due <= _FIRST_KEY:
            end, escape = _string_end(text, position + 1)
            if due <= _FIRST:
                safe = end or (escape if size - escape < _LONGEST_ESCAPE else size)
                quote = "" if end else '"'
            position, due = end or size, _COLON if due >= _KEY else _MORE
        elif char == "," and due == _MORE:
            safe = position
            position += 1
            due = _KEY if still_open[-1] == "{" else _VALUE
        elif char == ":" and due == _COLON:
            position += 1
            due = _VALUE
        elif char in "}]" and due in _MAY_END[char] and _CLOSES[still_open[-1]] == char:
            still_open.pop()
            position = safe = position + 1
            due = _MORE
            if not still_open:
                return _Course(position, _WHOLE)
        elif due <= _FIRST and (end := _word_end(text, position)):
            position, due = end, _MORE
        else:
            return _Course(position, _BROKEN)
    return _Course(size, _CUT, safe, quote, still_open)


def _word_end(text: str, position: int) -> int:
    """Return the end of a number or a name; 0 if it is neither."""
    ends = _ENDS_WORD.search(text, position)
    if ends is None:
        return len(text) if _begins_word(text[position:]) else 0
    return ends.start() if _is_word(text[position : ends.start()]) else 0


def _string_end(text: str, position: int) -> tuple[int, int]:
    """Return the end of a string after its quote, 0 if it has none, and the last escape in it."""
    escape = -_LONGEST_ESCAPE
    while (found := _IN_STRING.search(text, position)) is not None:
        position = found.start() + 1
        if found[0] == '"':
            return position, escape
        escape, position = position - 1, position + 1
    return 0, escape


def _is_word(word: str) -> bool:
    if word.isdigit() and word[0] != "0" and len(word) < 1000:
        return True
    try:
        _decoders[False].decode(word)
    except ValueError:
        return False
    return True


def _begins_word(word: str) -> bool:
    """Return whether a word may go on as one."""
    return any(each.startswith(word) for each in _WORDS) or _is_word(word) or _is_word(word + "0")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"an object has the key {twice!r} twice")
    return made


def _finite(number: str) -> float:
    value = float(number)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {number:.40} is too large")
    return value


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_decoders = {
    strict: json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, strict=strict)
    for strict in (False, True)
}
