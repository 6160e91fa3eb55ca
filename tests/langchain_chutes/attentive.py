"""An echo that listens: where a schema asks for a number or a text, it takes those of the question."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from chutes_local.backends.backend import ChatRequest, EngineDelta
from chutes_local.backends.bounds import minimal_instance
from chutes_local.backends.echo import EchoBackend

__all__ = ["AttentiveEcho"]


class AttentiveEcho(EchoBackend):
    """Fills a schema with what was said, for tests that look at the arguments of a call."""

    async def chat(self, request: ChatRequest) -> AsyncGenerator[EngineDelta, None]:
        """Answer as the echo does, or with a listener's object."""
        if request.json_schema is None:
            async for delta in super().chat(request):
                yield delta
            return
        said = " ".join(message["content"] for message in request.messages if message["role"] == "user")
        filled = _filled(minimal_instance(request.json_schema), said)
        spoken = replace(request, json_schema=None, messages=())
        async for delta in super().chat(spoken):
            if delta.finish_reason is not None:
                yield EngineDelta(json.dumps(filled, ensure_ascii=False), completion_tokens=1, prompt_tokens=1)
                yield replace(delta, completion_tokens=1, prompt_tokens=len(said.split()))


def _filled(value: Any, said: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(each, said) for key, each in value.items()}
    if isinstance(value, int) and not isinstance(value, bool) and (number := re.search(r"\((\d+)\)", said)):
        return int(number[1])
    if value == "echo" and (quoted := re.search(r"'([^']+)'", said)):
        return quoted[1]
    return value
