"""What keeps LangChain from making a valid call of one that is not.

LangChain adds up the chunks of a call and completes its JSON, so a call truncated at the length limit would become a
valid one with arguments the model did not mean. The core decides instead: an invalid call ends with a chunk that
keeps LangChain from completing it, which makes it an ``invalid_tool_call``.
"""

from __future__ import annotations

import json

from langchain_core.utils.json import parse_partial_json

from chutes_core.reply.call_pieces import SHORT

__all__ = ["spoiled", "spoiler"]


def spoiled(text: str, shown: int = 0) -> str:
    """Return the rest of a call's arguments, after the part already shown, with a :func:`spoiler`.

    It comes last; in a long text first, since LangChain reads no further.

    >>> spoiled('{"amount": 1000', 9), spoiled("[" * 1000)[:3]
    (': 1000]', '][[')
    """
    if len(text) <= SHORT:
        return text[shown:] + spoiler(text)
    return spoiler(text[:shown]) + text[shown:]


def spoiler(text: str) -> str:
    """Return a suffix that keeps LangChain from parsing arguments as an object, or as JSON at all.

    Its event protocol accepts any JSON as a call's arguments.

    >>> spoiler('{"amount": 1000, "to": "al'), spoiler("[1]"), spoiler("[1")
    ('"]', ']', '')
    """
    # Close an open string first, whatever escape it ends in; then add an unmatched bracket.
    return next((end for end in ("", "]", "}", '"]', '"}', '""]', '""}') if _spoiled(text + end)), '"]}')


def _spoiled(text: str) -> bool:
    try:
        json.loads(text or "{}", strict=False)
    except (ValueError, RecursionError):
        pass
    else:
        return False
    try:
        return not isinstance(parse_partial_json(text), dict)
    except (ValueError, RecursionError):
        return True
