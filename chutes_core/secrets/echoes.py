"""The forms in which a server may write a secret back: in capitals, escaped, encoded, split over lines, cut off.

Finding them takes time linear in the length of the text, however it is made.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

__all__ = ["SHORTEST", "Echoes", "replaced", "replaced_each"]

SHORTEST = 6
"""Anything shorter, or a word of less than eight letters, would be found in the middle of an ordinary sentence."""

_ALONE = 12  # anything shorter counts only where it stands alone
_BEGUN = 4
_CUT = ("", "…", ")")  # what follows a text that was cut off
_CODED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-")
_ESCAPE = re.compile(
    r"%(?:25)*([0-9a-f]{2})|\\+(?:u([0-9a-f]{4})|x([0-9a-f]{2})|([nrtbfv])\s*|(.))"
    r"|&(?:#x0*([0-9a-f]{2,4})|#0*([0-9]{2,4})|(amp|lt|gt|quot|apos));|[\r\n]\s*",
    re.IGNORECASE | re.DOTALL,
)
_MOST = 100_000  # escapes: a text that has more is masked as a whole, which keeps the time in bounds
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_SMALL = {capital: capital + 32 for capital in range(ord("A"), ord("Z") + 1)}

Span = tuple[int, int]


class _Form(NamedTuple):
    """A form of a secret, in small letters.

    Attributes:
        raw: As it is.
        folded: The same, without what could be an escape.
        coded: Whether it is base64, where the rest of the code belongs to it too.
    """

    raw: str
    folded: str
    coded: bool


class Echoes:
    """Finds secrets in texts.

    >>> found = Echoes(["s3cr3t-t0ken"])
    >>> [replaced(text, found.spans(text), "*") for text in ("a S3cr3t%2Dt0ken", "Basic bWU6czNjcjN0LXQwa2Vu!")]
    ['a *', 'Basic *!']
    >>> replaced("it said: s3cr3t-t0…", found.begun("it said: s3cr3t-t0…"), "*")
    'it said: *…'
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._forms = [form for secret in dict.fromkeys(secrets) for form in _forms_of(secret)]

    def spans(self, text: str) -> Iterator[Span]:
        """Yield where a text has a secret, in no order."""
        if not self._forms:
            return
        lowered, folded = _small(text), _Folded(text)
        if folded.overflows:
            yield 0, len(text)
            return
        for form in self._forms:
            yield from _widened(text, form, _found(form.raw, lowered))
            for wanted in {form.raw, form.folded}:
                yield from _widened(text, form, (folded.place(*each) for each in _found(wanted, folded.text)))

    def begun(self, text: str) -> Iterator[Span]:
        """Yield where a text has the beginning of a secret whose rest was cut off."""
        lowered = _small(text)
        for form, _, _ in self._forms:
            start = lowered.find(form[:_BEGUN])
            while start >= 0:
                end = start + _BEGUN
                while end < min(len(lowered), start + len(form)) and lowered[end] == form[end - start]:
                    end += 1
                if lowered[end : end + 1] in _CUT:
                    yield start, end
                start = lowered.find(form[:_BEGUN], end)


def replaced(text: str, spans: Iterable[Span], mask: str) -> str:
    """Return a text with a mask in the place of each span."""
    parts, done = list[str](), 0
    for start, end in sorted(spans):
        if end <= done:
            continue
        if start > done or not parts:
            parts += [text[done:start], mask]
        done = end
    return "".join((*parts, text[done:])) if parts else text


def replaced_each(texts: Sequence[str], found: Callable[[str], Iterable[Span]], mask: str) -> list[str]:
    """Return many texts with a mask in the place of each span that is found in them, searched at once.

    >>> replaced_each(["a", "see s3cr3t-t0ken"], Echoes(["s3cr3t-t0ken"]).spans, "*")
    ['a', 'see *']
    """
    spans = sorted(found("\0".join(texts)), reverse=True)  # which no secret has
    made, start = list[str](), 0
    for text in texts:
        end, own = start + len(text), list[Span]()
        while spans and spans[-1][0] < end:
            own.append((max(spans[-1][0] - start, 0), min(spans[-1][1], end) - start))
            if spans[-1][1] > end:
                break  # all of a text that is masked as a whole
            spans.pop()
        made.append(replaced(text, own, mask))
        start = end + 1
    return made


def _forms_of(secret: str) -> Iterator[_Form]:
    if len(secret) < SHORTEST or (len(secret) < 8 and secret.isalpha()):
        return
    data = secret.encode()
    yield _Form(_small(secret), _Folded(secret).text, coded=False)
    yield _Form(data.hex(), data.hex(), coded=False)
    for before in range(3):  # how the code of a text looks depends on how many bytes precede it
        code = base64.b64encode(bytes(before) + data).rstrip(b"=").decode()
        inner = code[(0, 2, 3)[before] : None if (before + len(data)) % 3 == 0 else -1]
        for each in {inner, inner.translate({ord("+"): "-", ord("/"): "_"})}:
            yield _Form(_small(each), _small(each), coded=True)


def _found(form: str, text: str) -> Iterator[Span]:
    start = text.find(form)
    while start >= 0:
        yield start, start + len(form)
        start = text.find(form, start + len(form))


def _widened(text: str, form: _Form, found: Iterable[Span]) -> Iterator[Span]:
    """Add the rest of a code to each span; drop one that is part of a longer word."""
    done = 0
    for start, end in found:
        if form.coded and end > done:
            start, done = _whole_code(text, start, end)
            yield start, done
        elif not form.coded and (len(form.raw) >= _ALONE or _alone(text, start, end)):
            yield start, end


def _alone(text: str, start: int, end: int) -> bool:
    return not ((start > 0 and text[start - 1].isalnum()) or text[end : end + 1].isalnum())


def _whole_code(text: str, start: int, end: int) -> Span:
    while start > 0 and text[start - 1] in _CODED:
        start -= 1
    while end < len(text) and text[end] in _CODED:
        end += 1
    return start, end


class _Folded:
    """A text without escapes, line breaks and capitals, and where each part of it was."""

    def __init__(self, text: str) -> None:
        self._at: list[int] = []
        self._spans: list[Span] = []
        parts: list[str] = []
        length = done = 0
        for match in (*_ESCAPE.finditer(text), None):
            start, end = match.span() if match is not None else (len(text), len(text))
            plain = _unescaped(match) if match is not None else ""
            for part, span in ((text[done:start], (done, start)), (plain, (start, end))):
                if part:
                    self._at.append(length)
                    self._spans.append(span)
                    parts.append(part)
                    length += len(part)
            done = end
            if len(parts) > _MOST:
                break
        self._at.append(length)
        self.overflows = len(parts) > _MOST
        self.text = _small("".join(parts))

    def place(self, start: int, end: int) -> Span:
        """Return where a part of this text was in the original one."""
        return self._place(start)[0], self._place(end - 1)[1]

    def _place(self, index: int) -> Span:
        number = bisect_right(self._at, index) - 1
        start, end = self._spans[number]
        if end - start != self._at[number + 1] - self._at[number]:
            return start, end  # an escape
        offset = start + index - self._at[number]
        return offset, offset + 1


def _unescaped(match: re.Match[str]) -> str:
    percent, unicode, byte, blank, plain, hexadecimal, decimal, name = match.groups()
    if code := percent or unicode or byte or hexadecimal:
        char = chr(int(code, 16))
    elif decimal:
        char = chr(int(decimal))
    else:
        char = plain or (_NAMED[name.lower()] if name else "")
    return "" if blank or char in "\r\n" else char


def _small(text: str) -> str:
    """Return a text of the same length in small letters."""
    return text.lower() if text.isascii() else text.translate(_SMALL)
