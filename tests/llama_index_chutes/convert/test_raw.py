"""``raw`` can be read as an object and as a dict."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from llama_index_chutes._convert.raw import Raw, RawChunk

BODY: dict[str, Any] = {
    "id": "1",
    "choices": [{"index": 0, "message": {"content": "Hi", "tool_calls": [{"function": {"name": "add"}}]}}],
    "usage": {"total_tokens": 7},
    "tags": ["a", {"b": 1}],
}


def raw() -> Raw:
    return Raw(copy.deepcopy(BODY))


def test_both_ways_lead_to_the_same() -> None:
    """However they are mixed, and again and again."""
    made = raw()
    assert made.choices[0].message.content == made["choices"][0]["message"]["content"] == "Hi"
    assert made["choices"][0].message.tool_calls[0].function.name == "add"
    assert made.get("usage").total_tokens == made.usage["total_tokens"] == 7
    assert made.choices is made["choices"]
    assert (made.tags[0], made.tags[1].b, made.get("none", 3)) == ("a", 1, 3)


def test_what_was_not_sent() -> None:
    """It is None where OpenAI's objects have it, and an error that names what there is elsewhere."""
    assert raw().system_fingerprint is raw().choices[0].finish_reason is None
    with pytest.raises(AttributeError, match="no 'cost'; it has id, choices, usage, tags"):
        raw().cost  # noqa: B018


def test_it_is_plain_data_everywhere_else() -> None:
    """It equals, copies, pickles and dumps as a dict, read or not."""
    for made in (raw(), RawChunk(raw())):
        made.choices[0].message  # noqa: B018
        assert made == BODY
        assert copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == BODY
        assert json.loads(json.dumps(made)) == made.model_dump() == json.loads(made.model_dump_json(indent=1)) == BODY
        assert type(made.model_dump()["choices"][0]) is dict
        assert type(pickle.loads(pickle.dumps(made))) is type(made)
