"""The forms in which a server may write a secret back: in capitals, escaped, encoded, split over lines, cut off.

Finding them takes time linear in the length of the text, however it is made.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

__all__ = ["SHORTEST", "Echoes", "replaced", "replaced_each"]

SHORTEST = 6
"""Anything shorter, or a word of less than eight letters, would be found in the middle of an ordinary sentence."""

_ALONE = 12  # anything shorter counts only where it stands alone
_BEGUN = 4
_PART = 12  # so much of a longer one is not there by chance, if it has a digit and many different signs
_DIFFERENT = 6
_CUT = ("", "…", ")")  # what follows a text that was cut off
_LAYERS = 3  # of escapes around one another, and of codes
_CODED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-")
_ESCAPE = re.compile(
    r"%(?:25)*(?:u([0-9a-f]{4})|([0-9a-f]{2}))"
    r"|\\+(?:(?-i:U)0000([0-9a-f]{4})|u([0-9a-f]{4})|u\{0*([0-9a-f]{2,4})\}|x([0-9a-f]{2})|([0-3][0-7]{2})"
    r"|([nrtbfv])\s*|(.))"
    r"|&(?:#x0*([0-9a-f]{2,4});?|#0*([0-9]{2,4});?|([a-z]{2,8});)|[\r\n]\s*",
    re.IGNORECASE | re.DOTALL,
)
_BETWEEN = b" \t\r\n\x0b\x0c\0\xa0"
_NOT_HEX = bytes(set(range(256)) - set(b"0123456789abcdef"))
_UNSEEN = re.compile(r"[\u200b-\u200d\u2060\ufeff]")
_CODE = re.compile(r"[A-Za-z0-9+/_-]{16,}")
_MOST = 100_000  # escapes: a text that has more is masked as a whole, which keeps the time in bounds

Span = tuple[int, int]


class _Form(NamedTuple):
    """A form of a secret, in small letters.

    Attributes:
        raw: As it is.
        folded: The same, without what could be an escape.
        coded: Whether it is base64, where the rest of the code belongs to it too.
        hexadecimal: Whether it is bytes as digits.
    """

    raw: str
    folded: str
    coded: bool = False
    hexadecimal: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is the secret itself, of which a server may write back a part."""
        return not self.coded and not self.hexadecimal


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

    def spans(self, text: str, layers: int = _LAYERS) -> Iterator[Span]:
        """Yield where a text has a secret, in no order; ``layers`` of codes are opened."""
        if not self._forms:
            return
        yield from self._raw(text)
        plain, places = text, list[_Folded]()
        for _ in range(_LAYERS):
            folded = _Folded(plain)
            if folded.overflows:
                yield 0, len(text)
                return
            if folded.plain == plain:
                break
            places.append(folded)
            plain = folded.plain
            for form in self._forms:
                for wanted in {form.raw, form.folded}:
                    found = _widened(plain, form, _found(wanted, folded.text))
                    yield from (_outermost(places, *each) for each in found)
                if form.whole:
                    yield from (_outermost(places, *each) for each in _parts(form.folded, folded.text))
        if layers:
            yield from self._in_codes(text, layers - 1)
            if places:
                yield from (_outermost(places, *each) for each in self._in_codes(plain, layers - 1))

    def _raw(self, text: str) -> Iterator[Span]:
        """Find what is written as it is, or with blanks or other signs between its parts."""
        lowered = _small(text)
        data = (lowered if lowered.isascii() else _UNSEEN.sub(" ", lowered)).encode("latin-1", "replace")
        whole, digits = _Squeezed(data, _BETWEEN), _Squeezed(data.replace(b"0x", b"  "), _NOT_HEX)
        for form in self._forms:
            yield from _widened(text, form, _found(form.raw, lowered))
            if len(form.raw) >= _ALONE:
                yield from whole.spans(form.raw)
            if form.whole:
                yield from _parts(form.raw, lowered)
            if form.hexadecimal:
                yield from digits.spans(form.raw)

    def _in_codes(self, text: str, layers: int) -> Iterator[Span]:
        """Find codes that have a secret in them, in any form."""
        parts, starts, places, length = list[str](), list[int](), list[Span](), 0
        for match in _CODE.finditer(text):
            code = match[0].replace("-", "+").replace("_", "/")
            code = code[:-1] if len(code) % 4 == 1 else code + "=" * (-len(code) % 4)
            parts.append(binascii.a2b_base64(code).decode("latin-1"))
            starts.append(length)
            places.append(match.span())
            length += len(parts[-1]) + 1
        for start, end in self.spans("\1".join(parts), layers) if parts else ():
            yield from places[bisect_right(starts, start) - 1 : bisect_right(starts, end - 1)]

    def begun(self, text: str) -> Iterator[Span]:
        """Yield where a text has the beginning of a secret whose rest was cut off."""
        lowered = _small(text)
        for form, *_ in self._forms:
            start = lowered.find(form[:_BEGUN])
            while start >= 0:
                end = start + _BEGUN
                while end < min(len(lowered), start + len(form)) and lowered[end] == form[end - start]:
                    end += 1
                if lowered[end : end + 1] in _CUT or lowered.startswith("...", end):
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
    yield _Form(_small(secret), _Folded(secret).text)
    yield _Form(data.hex(), data.hex(), hexadecimal=True)
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


def _parts(form: str, text: str) -> Iterator[Span]:
    """Find parts of a form that was cut off or apart."""
    for place in range(0, len(form) - _PART + 1, _PART // 2) if len(form) >= 2 * _PART else ():
        part = form[place : place + _PART]
        if len(set(part)) < _DIFFERENT or not any(map(str.isdigit, part)):
            continue
        for start, end in _found(part, text):
            before, after = place, place + _PART
            while before > 0 and start > 0 and text[start - 1] == form[before - 1]:
                start, before = start - 1, before - 1
            while after < len(form) and end < len(text) and text[end] == form[after]:
                end, after = end + 1, after + 1
            found = text[start:end]
            yield start + len(found) - len(found.lstrip()), end - len(found) + len(found.rstrip())


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


def _outermost(places: Sequence[_Folded], start: int, end: int) -> Span:
    """Return where a part of a text that was folded several times was in the first one."""
    for folded in reversed(places):
        start, end = folded.place(start, end)
    return start, end


class _Squeezed:
    """A text, a byte for each character, without what may stand between its parts."""

    def __init__(self, text: bytes, between: bytes) -> None:
        self._original, self._between = text, between
        self._text = text.translate(None, between)

    @cached_property
    def _at(self) -> list[int]:
        """Where each byte was; needed only where something is found."""
        left_out = frozenset(self._between)
        return [place for place, byte in enumerate(self._original) if byte not in left_out]

    def spans(self, form: str) -> Iterator[Span]:
        """Yield where the text had a form."""
        wanted = form.encode()
        start = self._text.find(wanted)
        while start >= 0:
            end = start + len(wanted)
            yield self._at[start], self._at[end - 1] + 1
            start = self._text.find(wanted, end)


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
        self.plain = "".join(parts)
        self.text = _small(self.plain)

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
    *coded, octal, blank, plain, hexadecimal, decimal, name = match.groups()
    if code := next(filter(None, (*coded, hexadecimal)), None):
        char = chr(int(code, 16))
    elif octal or decimal:
        char = chr(int(octal, 8) if octal else int(decimal))
    else:
        char = plain or (html.unescape(match[0]) if name else "")
    return "" if blank or char in "\r\n\0" else char


def _small(text: str) -> str:
    """Return a text of the same length in small letters: those of ASCII alone, of which no other one becomes two."""
    if text.isascii():
        return text.lower()
    try:
        return text.encode("latin-1").lower().decode("latin-1")  # what is in a code, a byte for each character
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")
