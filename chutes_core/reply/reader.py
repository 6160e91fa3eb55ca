"""Read the object of a pydantic class out of a reply: strictly once it is whole, leniently while it grows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, Self, TypeVar

from chutes_core.json_text import Pace
from chutes_core.reply.structured import Form, FormError, Found, Piece, agreed, field_names, in_calls, in_text, pieces
from chutes_core.response import Reply, ToolCall

__all__ = ["Reader", "told_of"]


class Validates(Protocol):
    """A pydantic class, which the core does without."""

    @classmethod
    def model_json_schema(cls) -> dict[str, object]:
        """Return its JSON schema."""

    @classmethod
    def model_validate(cls, obj: object) -> Self:
        """Return the object that a value is; raise a ``ValueError`` if it is none."""

    @classmethod
    def model_validate_json(cls, json_data: str) -> Self:
        """Return the object that a JSON text is; raise a ``ValueError`` if it is none."""


T = TypeVar("T", bound=Validates)
V = TypeVar("V", bound=Validates)


class Reader(Generic[T]):
    """Reads one answer, whole or still growing.

    Args:
        cls: The class of the object.
        flexible: Returns the class of an object that still grows, whose fields may be missing.
        several: Return every object in a list, rather than the one that all of them are.
    """

    def __init__(self, cls: type[T], flexible: Callable[[type[T]], type[Validates]], *, several: bool = False) -> None:
        self.cls = cls
        self.form = Form(cls.model_json_schema(), field_names(cls))
        self._several = several
        self._make_flexible = flexible
        self._flexible: type[Validates] | None = None
        self._pace = Pace()

    def read(self, reply: Reply) -> T | list[T]:
        """Return the object, or the list of objects.

        Raises:
            FormError: There is none, or there are several that differ.
        """
        if reply.invalid_tool_calls:
            raise FormError(told_of(reply.invalid_tool_calls), read=False)
        if reply.tool_calls:
            answers = in_calls([call.arguments for call in reply.tool_calls], self.form, self._fits)
        else:
            answers = in_text(reply.content, self.form, self._fits, cut=reply.truncated)
        return [each.result for each in answers] if self._several else agreed(answers)

    def fault(self, error: FormError, reply: Reply) -> str:
        """Describe what is wrong with an answer."""
        errors = getattr(error.problem, "errors", None)
        if callable(errors):
            faults = (f"{'.'.join(map(str, each['loc'])) or 'all'}: {each['msg']}" for each in errors())
            return f"it is not a {self.cls.__name__}: {'; '.join(faults)}"
        if error.said:
            return f"{error.why}: {json.dumps(error.said, ensure_ascii=False)[:500]}"
        if reply.tool_calls or reply.invalid_tool_calls:
            return error.why
        text = reply.content.strip()
        return f"{error.why}: {text[:200]!r}" if text else "it is empty"

    def partial(self, grown: Sequence[object]) -> T | Validates | list[T | Validates] | None:
        """Return what can be shown of the object, or None; a long answer is not read anew with every chunk.

        Args:
            grown: The text so far, or the arguments of each tool call, as text or as values.
        """
        if not self._pace.due(sum(len(each) for each in grown if isinstance(each, str))):
            return None
        shown = [piece for each in grown if (piece := self._piece(each)) is not None]
        return shown if self._several and shown else shown[-1] if shown else None

    def _piece(self, text: object) -> T | Validates | None:
        found = pieces(text, self.form) if isinstance(text, str) else [Piece(text, True)]
        for value, whole in found:
            piece = _validated(self.cls, value)
            if piece is not None:
                return piece
            if not whole:
                self._flexible = self._flexible or self._make_flexible(self.cls)
                return _validated(self._flexible, value)
        return None

    def _fits(self, found: Found) -> T:
        try:
            return self.cls.model_validate_json(found.text)
        except ValueError as problem:
            errors = getattr(problem, "errors", None)
            if not callable(errors) or errors()[0]["type"] != "json_invalid":
                raise
        # Strings may have line breaks, which pydantic's parser does not accept.
        return self.cls.model_validate_json(json.dumps(found.value))


def told_of(invalid: Sequence[ToolCall]) -> str:
    """Describe what is wrong with tool calls.

    >>> told_of([ToolCall("1", "pay", "{", "the arguments are not valid JSON")])
    "the call of 'pay': the arguments are not valid JSON"
    """
    return "; ".join(f"the call of {call.name!r}: {call.error}" for call in invalid)


def _validated(model: type[V], value: object) -> V | None:
    try:
        return model.model_validate(value)
    except ValueError:
        return None
