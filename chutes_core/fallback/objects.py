"""Structured answers of a fallback: when a reader of objects has been shown something, and whether an answer fits.

Who asks for JSON reads objects, not text: what commits is the first value in one, and an answer that is none is a
failure like any other.
"""

from __future__ import annotations

from collections.abc import Mapping

from chutes_core.errors import APIError, Kind
from chutes_core.failures.reading import failure
from chutes_core.json_text import Pace, parse
from chutes_core.reply.structured import Form, broken, pieces
from chutes_core.response import Delta, Reply

__all__ = ["Objects", "asked_form", "check_reply"]


class Objects:
    """Looks for the first value in an answer that grows; all looks together take linear time.

    >>> objects = Objects(Form({}))
    >>> [objects.shows(Delta(text)) for text in ('{"name": ', '"', 'A')]
    [False, False, True]
    """

    def __init__(self, form: Form) -> None:
        self._form = form
        self.begin()

    def begin(self) -> None:
        """Start with another answer."""
        self._texts: dict[int | None, list[str]] = {}
        self._length = 0
        self._pace = Pace()

    def shows(self, delta: Delta) -> bool:
        """Take the next delta, and return whether a value has been found."""
        grown = [(None, delta.content)] if delta.content else []
        for place, text in [*grown, *((call.index, call.arguments) for call in delta.tool_calls)]:
            self._texts.setdefault(place, []).append(text)
            self._length += len(text)
        if not self._pace.due(self._length):
            return False
        texts = map("".join, self._texts.values())
        return any(_has_value(piece.value) for text in texts for piece in pieces(text, self._form))


def _has_value(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_value, value.values()))
    if isinstance(value, list):
        return any(map(_has_value, value))
    return value is not None and value != ""


def asked_form(params: Mapping[str, object]) -> Form | None:
    """Return the form that a request asks for with its ``response_format``; None if it asks for none.

    >>> asked_form({"response_format": {"type": "json_object"}}).schema
    {'type': 'object'}
    """
    asked = params.get("response_format")
    if not isinstance(asked, Mapping):
        return None
    if asked.get("type") == "json_object":
        return Form({"type": "object"})
    wrapped = asked.get("json_schema")
    schema = wrapped.get("schema") if isinstance(wrapped, Mapping) else None
    return Form(schema) if isinstance(schema, Mapping) else None


def check_reply(form: Form, reply: Reply, model: str, *, quiet: bool = False) -> None:
    """Raise if an answer is not JSON of the form that was asked for, as it stands; if ``quiet``, without a word of it.

    Whoever asked with ``response_format`` reads the text as it is: JSON in a fence, or after a sentence, is no answer
    then. One that was cut at its length limit would be with every member, and a tool call is not yet an answer.
    """
    if reply.truncated or reply.tool_calls or reply.invalid_tool_calls:
        return
    wrong = _wrong(form, reply.content)
    if wrong is not None:
        raise _misfit("" if quiet else wrong, model)


def _wrong(form: Form, text: str) -> str | None:
    try:
        value = parse(text)
    except ValueError as problem:
        return f"it is not JSON: {problem}"
    return form.flaw(value) or broken(form.schema, value)


def _misfit(wrong: str, model: str) -> APIError:
    said = "the answer does not have the form that was asked for"
    return failure(Kind.MALFORMED, f"{said}: {wrong}" if wrong else said, model=model)
