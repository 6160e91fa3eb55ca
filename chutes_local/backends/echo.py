"""The backend that is not a model: it repeats what it was told, and says so.

It is used where no engine is installed, and in tests that need the same bytes every time.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import AsyncGenerator, Callable

from chutes_local.backends.backend import EMBEDDING_DIMENSIONS, ChatRequest, EmbedResult, EngineDelta
from chutes_local.backends.bounds import minimal_instance

_WORD = re.compile(r"\s*\S+|\s+$")


class EchoBackend:
    """Answers with the last message, or with a minimal instance of the schema. A word counts as a token.

    Args:
        script: returns another answer to a request without a schema, for answers that are known in advance.

    If the last message is the beginning of that answer and is to be continued, the rest follows; if it begins
    otherwise, all of the answer does.
    """

    name = "echo (not a model)"
    is_model = False

    def __init__(self, script: Callable[[ChatRequest], str] | None = None) -> None:
        self._script = script or answer

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    async def chat(self, request: ChatRequest) -> AsyncGenerator[EngineDelta, None]:
        """Stream the answer word by word."""
        prompt_tokens = sum(len(words(message["content"])) for message in request.messages)
        said = answer(request) if request.json_schema is not None else self._script(request)
        text, finish_reason = _until_stop(rest(said, request), request), "stop"
        pieces = words(text)
        if request.max_tokens is not None and len(pieces) > request.max_tokens:
            pieces, finish_reason = pieces[: request.max_tokens], "length"
        for count, piece in enumerate(pieces, 1):
            yield EngineDelta(piece, prompt_tokens=prompt_tokens, completion_tokens=count)
        yield EngineDelta("", finish_reason, prompt_tokens, len(pieces))

    async def embed(self, texts: list[str]) -> EmbedResult:
        """Embed by trigrams: texts that share runs of letters are close."""
        return EmbedResult([trigram_vector(text) for text in texts], sum(len(words(text)) for text in texts))


def words(text: str) -> list[str]:
    """Split a text into words that join back to the same text.

    >>> words("a small  test")
    ['a', ' small', '  test']
    """
    return _WORD.findall(text)


def answer(request: ChatRequest) -> str:
    """Return the complete answer to a request."""
    if request.json_schema is not None:
        return json.dumps(minimal_instance(request.json_schema), ensure_ascii=False)
    said = [message["content"] for message in request.messages if message["role"] == "user"]
    return f"This is the echo backend, not a model. You said: {said[-1] if said else ''}".rstrip()


def rest(text: str, request: ChatRequest) -> str:
    """Return what is left to say of an answer: all of it, unless its beginning is to be continued.

    >>> rest("1, 2, 3", ChatRequest(({"role": "assistant", "content": "1, 2,"},), continued=True))
    ' 3'
    """
    if not request.continued or request.json_schema is not None:  # a grammar begins anew
        return text
    return text.removeprefix(request.messages[-1]["content"])


def _until_stop(text: str, request: ChatRequest) -> str:
    ends = [position for position in map(text.find, filter(None, request.stop)) if position >= 0]
    return text[: min(ends)] if ends else text


def trigram_vector(text: str) -> list[float]:
    """Hash a text's trigrams into a unit vector.

    >>> cat, cats, stocks = map(trigram_vector, ("a black cat", "two black cats", "stock market"))
    >>> dot = lambda a, b: sum(x * y for x, y in zip(a, b))
    >>> dot(cat, cats) > 0.5 > dot(cat, stocks)
    True
    """
    padded = f"  {' '.join(text.lower().split())} "
    vector = [0.0] * EMBEDDING_DIMENSIONS
    for start in range(len(padded) - 2):
        # crc32, not hash(): a text must have the same vector in every process.
        vector[zlib.crc32(padded[start : start + 3].encode()) % EMBEDDING_DIMENSIONS] += 1.0
    length = math.hypot(*vector)
    return [value / length for value in vector]
