r"""The short way of a chunk: one that differs from the chunk before it in a word is not parsed anew.

An answer is thousands of chunks, and nearly all say the same but for a piece of text, the count of tokens so far and a
checksum. So after a chunk was read the long way, :func:`likeness` notes what was around its text; a chunk with the same
bytes around another text means the same, and costs a few comparisons (:meth:`Likeness.text_of`). What is not the same
to the byte takes the long way, as does everything when in doubt.

Only what decides nothing may differ: the numbers in ``usage``, of which the last ones count, and a word in a field of
the chunk that nobody knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import NamedTuple

__all__ = ["Likeness", "counts_of", "likeness"]

_PLAIN = rb'[^"\\\x00-\x1f]*'
_TEXT = re.compile(rb'"(%s(?:\\["\\/bfnrt]%s)*)"' % (_PLAIN, _PLAIN))
_NUMBER = re.compile(rb"(?:0|[1-9][0-9]{0,14})(?=[,}\s])")
_COLON = re.compile(rb"\s*:\s*")
_WORD = re.compile(rb'"[0-9A-Za-z_.:-]*"')


class Likeness(NamedTuple):
    """What chunks have in common.

    Attributes:
        field: The field of the delta that has the text.
        before: The bytes before the text.
        after: The bytes after it, each piece with the form of what may differ before it.
    """

    field: str
    before: bytes
    after: tuple[tuple[re.Pattern[bytes] | None, bytes], ...]

    def text_of(self, payload: bytes) -> str | None:
        r"""Return the text of a chunk that is like these; None if it has to be parsed.

        >>> chunk = b'{"id":"1","choices":[{"index":0,"delta":{"content":"%s"}}],"usage":{"total_tokens":%d}}'
        >>> like = likeness(chunk % (b"Hi", 9), "content", ("total_tokens",), ())
        >>> like.text_of(chunk % (rb" you\n", 10)), like.text_of(chunk % (b'","role":"', 11))
        (' you\n', None)
        """
        before, at = self.before, len(self.before)
        if not payload.startswith(before) or (text := _TEXT.match(payload, at)) is None:
            return None
        at = text.end()
        for form, same in self.after:
            if form is not None:
                if (found := form.match(payload, at)) is None:
                    return None
                at = found.end()
            if not payload.startswith(same, at):
                return None
            at += len(same)
        if at != len(payload):
            return None
        try:
            written = text[1].decode()
        except UnicodeDecodeError:
            return None
        return str(json.loads(f'"{written}"')) if "\\" in written else written


def likeness(payload: bytes, field: str, counts: Iterable[str], words: Iterable[str]) -> Likeness | None:
    """Return what other chunks may have in common with one; None if that is not clear.

    Args:
        payload: The chunk, which has one piece of text.
        field: The field of its delta that has the text.
        counts: The fields in its usage that are whole numbers.
        words: Its own fields that nobody knows, if they are text.
    """
    begin = _value_of(field, payload)
    if begin is None or (text := _TEXT.match(payload, begin)) is None:
        return None
    end = text.end()
    if b"\\" in payload[:begin] or b"\\" in payload[end:]:
        return None  # a name may be written in another way
    differing = []
    for form, names in ((_NUMBER, counts), (_WORD, words)):
        for name in names:
            at = _value_of(name, payload)
            if at is not None and at > end and (found := form.match(payload, at)) is not None:
                differing.append((at, found.end(), form))
    after: list[tuple[re.Pattern[bytes] | None, bytes]] = []
    before: re.Pattern[bytes] | None = None
    for start, stop, form in sorted(differing, key=itemgetter(0)):
        after.append((before, payload[end:start]))
        before, end = form, stop
    after.append((before, payload[end:]))
    return Likeness(field, payload[:begin], tuple(after))


def _value_of(name: str, payload: bytes) -> int | None:
    """Return where the value of a field begins; None if its name is there more than once."""
    key = json.dumps(name).encode()
    at = payload.find(key)
    if at < 0 or payload.find(key, at + 1) >= 0:
        return None
    colon = _COLON.match(payload, at + len(key))
    return colon.end() if colon else None


def counts_of(usage: object) -> Iterator[str]:
    """Yield the fields of a usage, and of what is in it, that are whole numbers.

    >>> list(counts_of({"total_tokens": 9, "details": {"cached": 1, "audio": None}}))
    ['total_tokens', 'cached']
    """
    if isinstance(usage, Mapping):
        for name, value in usage.items():
            if type(value) is int:
                yield str(name)
            else:
                yield from counts_of(value)
