"""A valid reply of embeddings with any one of its values replaced by any JSON value, and what may come of it."""

from __future__ import annotations

import array
import base64
import copy
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

TEXTS = ["zero", "first", "second"]
VECTORS = [[0.5, 0.25, -1.0], [2.0, 0.125, 4.0], [8.0, -0.5, 16.0]]
ODD: list[Any] = [
    *(None, True, False, 0, 1, 2, 3, -1, 1.0, 1.5, -0.0, 10**30, 10**400, 1e39, 1e308, math.nan, math.inf, -math.inf),
    *("", "x", "0", "1", "\ud800", "AACAPw==", "AACAPwAAgD8AAIA/", "AACAfwAAgD8AAIA/", "AAA="),
    *([], [[]], [1.0], [1.0, 2.0, 3.0], [[1.0, 2.0, 3.0]], [1.0, None, 3.0], [1.0, True, 3.0], [1.0, "2", 3.0]),
    *({}, {"a": 1}, {"index": 0, "embedding": [1.0, 2.0, 3.0]}),
]
JSON: st.SearchStrategy[Any] = st.sampled_from(ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def packed(vector: list[float]) -> str:
    """A vector as the service codes it."""
    numbers = array.array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def valid(model: str, *, coded: bool, order: list[int]) -> dict[str, Any]:
    """A reply to TEXTS."""
    rows = [
        {"object": "embedding", "index": n, "embedding": packed(VECTORS[n]) if coded else list(VECTORS[n])}
        for n in order
    ]
    return {
        "id": "e-1",
        "object": "list",
        "model": model,
        "data": rows,
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }


def _places(value: object, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from _places(each, (*at, name))


@st.composite
def replies(draw: st.DrawFn, model: str) -> Any:
    """A valid reply, its order and its coding whatever they may be, with one value replaced."""
    reply: Any = valid(model, coded=draw(st.booleans()), order=draw(st.permutations([0, 1, 2])))
    place = draw(st.sampled_from([*_places(reply)]))
    if not place:
        return draw(JSON)
    spoiled = copy.deepcopy(reply)
    target = spoiled
    for name in place[:-1]:
        target = target[name]
    if draw(st.integers(0, 9)):
        target[place[-1]] = draw(JSON)
    else:
        del target[place[-1]]
    return spoiled


def text_of(reply: object) -> bytes:
    """The reply as it is sent."""
    return json.dumps(reply).encode()


def assert_right(vectors: list[list[float]], reply: Any) -> None:
    """Each text has what the reply has for its index, read as plainly as can be."""
    assert len(vectors) == len(TEXTS) == len(reply["data"])
    assert len({len(vector) for vector in vectors}) == 1
    rows = {row["index"]: row["embedding"] for row in reply["data"]}
    assert not any(isinstance(row["index"], bool) for row in reply["data"])
    assert set(rows) == {0, 1, 2}
    for index, vector in enumerate(vectors):
        raw = rows[index]
        sent = array.array("f", base64.b64decode(raw)).tolist() if isinstance(raw, str) else raw
        assert not any(isinstance(number, bool) for number in sent)
        assert [float(number) for number in vector] == [float(number) for number in sent]
        assert vector
        assert all(map(math.isfinite, array.array("f", vector)))
