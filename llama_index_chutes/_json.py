"""Find the JSON in an answer, complete or partial."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from pydantic_core import from_json

__all__ = ["candidates", "values"]

_OPENS = re.compile(r"[{\[]")
_FENCED = re.compile(r"```(?:json|JSON)?\s*(.*?)\s*```", re.DOTALL)
_THOUGHT_ENDS = "</think>"
_decoder = json.JSONDecoder()


def candidates(text: str) -> Iterator[str]:
    r"""Yield the JSON values that may be the answer, most likely first.

    That is the whole text, or else JSON in a code fence, or JSON after reasoning or an introductory sentence. Parts of
    a value are never candidates, nor is anything in a truncated answer.

    >>> list(candidates('<think>{"a": 0}?</think>\nAs [1] says:\n```json\n{"a": {"b": 1}}\n```'))
    ['{"a": {"b": 1}}', '[1]', '{"a": {"b": 1}}']
    """
    text = text.strip()
    if _is_json(text):
        yield text
        return
    said = text.rpartition(_THOUGHT_ENDS)[2].strip()
    yield from filter(_is_json, (said, *_FENCED.findall(said)))
    yield from filter(_is_json, (value for value, _ in values(text)))


def values(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the objects and lists in a text, and whether each ends the text, so more may follow.

    >>> list(values('For {place}, see [1]: {"name": "Be'))
    [('[1]', False), ('{"name": "Be', True)]
    """
    thought, position = text.rfind(_THOUGHT_ENDS), 0
    while (opens := _OPENS.search(text, position)) is not None:
        start = opens.start()
        try:
            _, position = _decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            if _is_cut_json(text[start:]):
                yield text[start:], True
                return
            position = start + 1
            continue
        if position > thought:  # an end-of-reasoning tag may also occur inside a string
            yield text[start:position], position == len(text)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_cut_json(text: str) -> bool:
    """Return whether an invalid text is JSON that only lacks its end."""
    try:
        from_json(text, allow_partial=True)
    except ValueError:
        return False
    return True
