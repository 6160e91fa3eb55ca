"""``raw`` as a dict whose entries are attributes too, as peers' objects have them."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["Raw", "RawChunk"]

_ALWAYS = frozenset(
    ("audio", "annotations", "completion_tokens_details", "content", "created", "delta", "finish_reason",
     "function_call", "id", "logprobs", "message", "model", "name", "prompt_tokens_details", "reasoning_content",
     "refusal", "role", "service_tier", "system_fingerprint", "tool_calls", "usage")
)  # fmt: skip
"""What OpenAI's objects always have, with None for what was not sent."""


class Raw(dict[str, Any]):
    """Plain data in the service's format, which can be read as an object too.

    >>> raw = Raw(choices=[{"message": {"content": "Hi"}}])
    >>> raw.choices[0].message.content, raw["choices"][0]["message"].content, raw.choices[0].message.tool_calls
    ('Hi', 'Hi', None)
    """

    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if type(value) is dict:
            value = self[name] = Raw(value)
        elif type(value) is list and any(type(each) is dict for each in value):
            value[:] = [Raw(each) if type(each) is dict else each for each in value]
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """Return an entry, or something else if there is none."""
        return self[name] if name in self else default  # noqa: SIM401  # which would be this method

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in _ALWAYS:
            return None
        raise AttributeError(f"The answer has no {name!r}; it has {', '.join(self)}.")

    def model_dump(self, **options: object) -> dict[str, Any]:
        """Return it as plain dicts and lists, as pydantic's objects do."""
        plain: dict[str, Any] = json.loads(self.model_dump_json())
        return plain

    to_dict = model_dump

    def model_dump_json(self, *, indent: int | None = None, **options: object) -> str:
        """Return it as JSON."""
        return json.dumps(self, indent=indent, ensure_ascii=False, default=str)


class RawChunk(Raw):
    """The same for a piece of an answer that is not at its end."""

    __slots__ = ()
