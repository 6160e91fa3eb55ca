"""What a file of exchanges does not hold: secrets, who asks, and, if that is wished, what was asked and answered.

All of it is replaced by as many bytes, so that a body keeps the places where it was cut into blocks. Bodies are taken
as Latin-1, in which a byte is a character.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from chutes_core.errors import SECRETS
from chutes_core.exchanges.strings import Value, parts_of, values_of
from chutes_core.secrets.echoes import Echoes

__all__ = ["ANSWERED", "ASKED", "Wanted", "account_names", "filled", "redacted"]

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+\.[\w.-]+", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_RANDOM = re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z]*[0-9])[A-Za-z0-9]{8,}")
_DIGIT, _WORD = re.compile(r"[0-9]"), re.compile(r"[A-Za-z0-9]")

_WHO = frozenset(
    ("user", "username", "user_name", "user_id", "email", "hotkey", "coldkey", "payment_address", "safety_identifier",
     "fingerprint", "logo_id")
)  # fmt: skip
"""Names of fields that say who somebody is."""
_IDS = frozenset(
    ("id", "request_id", "tool_call_id", "invocation_id", "instance_id", "chutes_verification", "prompt_sha256")
)  # fmt: skip
_TIMES = frozenset(
    ("anchor_date", "bucket", "created_at", "effective_date", "reset_at", "updated_at", "chute_id", "quota_date")
)  # fmt: skip
"""What is readable on the pages of an account, of all texts."""
_CREATED = "1767312000"
ASKED = frozenset(
    ("id", "object", "model", "role", "type", "finish_reason", "native_finish_reason", "service_tier",
     "system_fingerprint", "tool_choice", "encoding_format", "reasoning_effort", "tool_call_id", "weight_version",
     "owned_by", "chutes_verification", "request_id")
)  # fmt: skip
"""Names of fields whose texts are the service's own, or say how to answer."""
ANSWERED = ASKED | {"detail", "message", "msg", "code", "error", "param", "status"}
"""The same of a reply, with those that say why there is no answer."""
_OURS = frozenset(("tools", "functions", "response_format", "metadata", "properties", "input"))
"""Below these all is the program's, its names too."""
_LOOSE = re.compile(r"[^\W\d][^\W]*|[\x80-\xff]+")
_CONSTANTS = frozenset(("true", "false", "null", "NaN", "Infinity", "DONE"))
_TAG = re.compile(r"</?think>")
_UNIT = re.compile(r"\\u[0-9a-fA-F]{4}|\\.|.", re.DOTALL)

Change = tuple[int, int, str]


class Wanted(NamedTuple):
    """What may stay.

    Attributes:
        secrets: What was sent that is secret, and the names of the account that are known.
        content: Whether what was asked and answered may.
        account: Whether the body is a page about an account.
        plain: The names of fields that are not what was asked or answered.
    """

    secrets: Echoes
    content: bool = True
    account: bool = False
    plain: frozenset[str] = ANSWERED


def redacted(body: bytes, wanted: Wanted) -> bytes:
    """Return a body of the same length without what it is not to hold.

    >>> redacted(b'{"id": "chatcmpl-77ab01cd", "error": "no cpk_0123.45 of me@example.org"}', Wanted(Echoes([])))
    b'{"id": "chatcmpl-00000001", "error": "no *********** of **************"}'
    """
    text = body.decode("latin-1")
    values = [value for value in values_of(text) if value.end > value.start]
    hidden = [*_who(text, values, wanted), *_secret(text, wanted.secrets), *_scattered(text, values, wanted.secrets)]
    text = _changed(text, _masked(text, hidden))
    text = _changed(text, _ids(text, values))
    if not wanted.content:
        text = _changed(text, [*_filler(text, values, wanted.plain), *_loose(text, values)])
    return text.encode("latin-1")


def filled(body: bytes) -> bytes:
    """Return as many bytes that say nothing, of a body of which nothing is known."""
    return b"x" * len(body)


def account_names(body: bytes) -> Iterator[str]:
    """Yield what a page about an account calls its owner."""
    text = body.decode("latin-1")
    for value in values_of(text):
        if not value.is_name and not value.is_number and value.names[-1:] and value.names[-1] in _WHO:
            yield text[value.start : value.end]


def _changed(text: str, changes: Iterable[Change]) -> str:
    parts, at = [], 0
    for start, end, put in sorted(changes):
        start = max(start, at)
        if start < end:
            parts += [text[at:start], put[-(end - start) :]]
            at = end
    return "".join([*parts, text[at:]])


def _masked(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[Change]:
    for start, end in spans:
        yield start, end, "".join(char if char in "\r\n" else "*" for char in text[start:end])


def _secret(text: str, secrets: Echoes) -> Iterator[tuple[int, int]]:
    yield from secrets.spans(text)
    for pattern in (SECRETS, _EMAIL):
        yield from (found.span() for found in pattern.finditer(text))


def _scattered(text: str, values: list[Value], secrets: Echoes) -> Iterator[tuple[int, int]]:
    """Find what is secret in the pieces of a text that a stream brings one after the other."""
    same: dict[tuple[str, ...], list[Value]] = {}
    for value in values:
        if not value.is_name and not value.is_number:
            same.setdefault(value.names, []).append(value)
    for pieces in same.values():
        if len(pieces) < 2:
            continue
        for start, end in _secret("".join(text[piece.start : piece.end] for piece in pieces), secrets):
            at = 0
            for piece in pieces:
                length = piece.end - piece.start
                first, last = max(start - at, 0), min(end - at, length)
                if first < last:
                    yield piece.start + first, piece.start + last
                at += length


def _who(text: str, values: list[Value], wanted: Wanted) -> Iterator[tuple[int, int]]:
    for value in values:
        if value.is_name or value.is_number or not value.names:
            continue
        name = value.names[-1]
        if name in _WHO or (wanted.account and name not in _TIMES and text[value.start : value.end] != "*"):
            yield value.start, value.end


def _ids(text: str, values: list[Value]) -> Iterator[Change]:
    """Give ids numbers in their order, and times one moment."""
    known: dict[str, str] = {}

    def numbered(found: re.Match[str]) -> str:
        if found[0] not in known:
            rest = list(str(len(known) + 1).rjust(len(_WORD.findall(found[0])), "0"))
            known[found[0]] = _WORD.sub(lambda _: rest.pop(0), found[0])
        return known[found[0]]

    for value in values:
        if value.is_name or not value.names:
            continue
        said = text[value.start : value.end]
        if value.is_number and value.names[-1] in _WHO:
            yield value.start, value.end, _DIGIT.sub("1", said)
        elif value.names[-1] == "created" and value.is_number and len(said) == len(_CREATED):
            yield value.start, value.end, _CREATED
        elif value.names[-1] in _IDS and not value.is_number and "/" not in said:
            yield value.start, value.end, (_UUID if _UUID.search(said) else _RANDOM).sub(numbered, said)


# --- what was asked and answered ----------------------------------------------------------------------


def _loose(text: str, values: list[Value]) -> Iterator[Change]:
    """Replace the words that stand between the values of what is no JSON."""
    left = deque(values)
    for at, end in parts_of(text):
        while left and left[0].start < end:
            value = left.popleft()
            yield from _words(text, at, value.start)
            at = value.end
        yield from _words(text, at, end)


def _words(text: str, start: int, end: int) -> Iterator[Change]:
    for word in _LOOSE.finditer(text, start, end):
        if word[0] not in _CONSTANTS:
            yield *word.span(), filled(word[0].encode("latin-1")).decode()


def _filler(text: str, values: list[Value], plain: frozenset[str]) -> Iterator[Change]:
    arguments = _Arguments()
    for value in values:
        said = text[value.start : value.end]
        if value.is_number:
            if value.listed or "logprobs" in value.names:
                yield value.start, value.end, _DIGIT.sub("1", said)
        elif value.is_name:
            if _OURS.intersection(value.names) or (value.names and not plain):
                yield value.start, value.end, _plain_filler(said)
        elif value.names[-1:] == ("arguments",):
            yield value.start, value.end, arguments.filled(said)
        elif not _is_plain(value, plain):
            yield value.start, value.end, _plain_filler(said)


def _is_plain(value: Value, plain: frozenset[str]) -> bool:
    return bool(value.names) and value.names[-1] in plain and not _OURS.intersection(value.names[:-1])


def _plain_filler(said: str) -> str:
    """Replace letters and digits; blanks, marks and the tags around thoughts stay."""
    parts, at = list[str](), 0
    for tag in _TAG.finditer(said):
        parts += [_UNIT.sub(_one, said[at : tag.start()]), tag[0]]
        at = tag.end()
    return "".join([*parts, _UNIT.sub(_one, said[at:])])


def _one(unit: re.Match[str]) -> str:
    found = unit[0]
    if found.startswith("\\"):
        return "x" * len(found) if found.startswith("\\u") else found
    if found.isdigit():
        return "1"
    return "x" if found.isalpha() or found > "\x7f" else found


class _Arguments:
    """Replaces what the strings of streamed arguments say, so that they stay the JSON that they were."""

    def __init__(self) -> None:
        self._inside = False
        self._escaped = False
        self._code = ""

    def filled(self, said: str) -> str:
        """Return the filler for the next piece."""
        return _UNIT.sub(self._unit, said)

    def _unit(self, unit: re.Match[str]) -> str:
        found = unit[0]
        if self._code:  # the four digits of a character's code, which are those of an x
            digit, self._code = self._code[0], self._code[1:]
            return digit
        if self._escaped:
            self._escaped, self._code = False, "0078" if found == "u" else ""
            return found
        if found == "\\\\":
            self._escaped = True
        elif found == '\\"':
            self._inside = not self._inside
        elif self._inside or found.isdigit():
            return _one(unit)
        return found
