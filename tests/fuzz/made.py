"""Bytes to throw at a parser: of no kind, of its kind and then edited, and of its kind but for one part."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from .targets import Target

# What parsers stumble over, wherever it stands.
ODD = (
    b"", b"\0", b"\n", b"\r\n\r\n", b"data:", b"{", b"}", b"[", b'"', b"\\", b"\\ud83d", b"\xff", b"\xef\xbb\xbf",
    b"%00", b"-1", b"1e999", b"1" * 400, b"9" * 5000, b"NaN", b"null", b"true", b"[DONE]", b"<think>", b"</think>",
    b"```", b"=", b"&", b"?", b"#", b":", b"://[", b"\xe2\x80\xae", "é".encode(), "\uff11".encode(), b" ",
    b"Invalid request: ",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**53, 2**63, 10**400, -(10**400), 1e308, 5e-324, -0.0, "", "x", "\0", "\u202e",
    "é" * 40, "Invalid request: ", "1", "NaN", [], {}, [[]], {"": None}, [None], ["x"], {"error": {"code": 500}},
    [[[[[]]]]],
)  # fmt: skip


def _edited(draw: st.DrawFn, data: bytes) -> bytes:
    """Make a few edits, as a broken or hostile machine would."""
    for _ in range(draw(st.integers(0, 4))):
        start, end = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
        part = draw(
            st.sampled_from([b"", data[start:end] * 2, data[start:end][::-1]])
            | st.sampled_from(ODD)
            | st.binary(max_size=4)
        )
        data = data[:start] + part + data[end if draw(st.booleans()) else start :]
    return data


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _places(inner, (*path, key))


def _exchanged(draw: st.DrawFn, data: bytes) -> bytes:
    """Exchange some of the values in JSON."""
    value = copy.deepcopy([json.loads(data)])
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from([place for place in _places(value) if place]))
        inside = value
        for key in above:
            inside = inside[key]
        inside[last] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return json.dumps(value[0]).encode()


@st.composite
def inputs(draw: st.DrawFn, target: Target) -> bytes:
    """Bytes for a target."""
    kinds = ["any", "edited", "edited", *(["exchanged"] * 3 if target.as_json else [])]
    kind = draw(st.sampled_from(kinds))
    if kind == "any":
        return draw(st.binary(max_size=200))
    seed = draw(st.sampled_from(target.seeds))
    try:
        return _exchanged(draw, seed) if kind == "exchanged" else _edited(draw, seed)
    except ValueError:  # a seed that is no JSON
        return _edited(draw, seed)


@st.composite
def growing(draw: st.DrawFn, target: Target) -> tuple[bytes, bytes, bytes]:
    """A beginning, what may come any number of times after it, and an end."""
    seed = draw(st.sampled_from([*target.seeds, b""]))
    start, end = sorted(draw(st.tuples(st.integers(0, len(seed)), st.integers(0, len(seed)))))
    part = draw(st.sampled_from([seed[start:end][:60], *ODD[:16], *ODD[20:]]))
    return seed[:start], part or b"x", seed[end:]
