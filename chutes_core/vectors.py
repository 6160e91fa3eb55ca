"""The vectors of an embeddings reply, read strictly: each text has one, of finite numbers, and all have one width."""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence

__all__ = ["check_width", "count_inputs", "decode_vectors", "fit_dimensions", "rows_in_order"]

_LARGEST = 3.4028234663852886e38  # vectors are 32-bit floats: in the service, and in every store
_NAMED = 10


def rows_in_order(body: object, count: int | None) -> list[tuple[str, Mapping[str, object]]]:
    """Return the rows of a reply in the order of their texts, each with its place in the reply.

    Raises:
        ValueError: There are not ``count`` rows (None: any number), or an index is missing, doubled or not a number.

    >>> rows_in_order({"data": [{"index": 1}, {"index": 0.0}]}, 2)
    [('data[1]', {'index': 0.0}), ('data[0]', {'index': 1})]
    """
    if not isinstance(body, Mapping):
        raise ValueError(f"the reply is {_what(body)}, not an object")
    data = body.get("data")
    if not isinstance(data, list):
        raise ValueError(f"data is {_what(data) if 'data' in body else 'missing'}, not a list")
    count = len(data) if count is None else count
    if len(data) != count:
        raise ValueError(f"{count} vectors were asked for and {len(data)} came")
    found: dict[int, tuple[str, Mapping[str, object]]] = {}
    for place, row in enumerate(data):
        if not isinstance(row, Mapping):
            raise ValueError(f"data[{place}] is {_what(row)}, not an object")
        index = _index(row, f"data[{place}].index")
        if not 0 <= index < count:
            raise ValueError(f"data[{place}].index is {_what(index)}, and the texts are 0 to {count - 1}")
        if index in found:
            raise ValueError(f"data[{place}].index is {index}, and so is {found[index][0]}.index")
        found[index] = f"data[{place}]", row
    return [found[index] for index in range(count)]


def decode_vectors(body: object, count: int | None, *, coded: bool = True) -> list[list[float]]:
    """Return a reply's vectors in the order of their texts.

    Args:
        body: The reply.
        count: The number of texts; None if that is not known.
        coded: Whether base64 is read too, and not only lists of numbers.

    Raises:
        ValueError: A vector is missing, doubled, of another width, or has something that is not a finite number.

    >>> decode_vectors({"data": [{"index": 1, "embedding": [0.5]}, {"index": 0, "embedding": "AACAPw=="}]}, 2)
    [[1.0], [0.5]]
    """
    rows = rows_in_order(body, count)
    vectors = [_vector(row.get("embedding"), f"{place}.embedding", coded=coded) for place, row in rows]
    check_width(vectors)
    return vectors


def check_width(vectors: Sequence[Sequence[float]]) -> None:
    """Raise a ValueError that names the vectors whose width is not that of the others.

    >>> check_width([[0.1, 0.2], [0.3, 0.4], [0.5]])
    Traceback (most recent call last):
      ...
    ValueError: the vectors differ in width: 2 have 2 numbers, and that of text 2 has 1
    """
    widths = Counter(map(len, vectors))
    if len(widths) <= 1:
        return
    usual, many = widths.most_common(1)[0]
    odd = [(text, len(vector)) for text, vector in enumerate(vectors) if len(vector) != usual]
    named = ", ".join(f"that of text {text} has {width}" for text, width in odd[:_NAMED])
    more = f", and {len(odd) - _NAMED} more differ" if len(odd) > _NAMED else ""
    raise ValueError(f"the vectors differ in width: {many} have {usual} numbers, and {named}{more}")


def fit_dimensions(vectors: list[list[float]], dimensions: int | None) -> list[list[float]]:
    """Truncate vectors to fewer dimensions and normalize them.

    >>> fit_dimensions([[3.0, 4.0, 12.0]], 2)
    [[0.6, 0.8]]
    """
    if dimensions is None or not vectors or len(vectors[0]) == dimensions:
        return vectors
    if len(vectors[0]) < dimensions:
        raise ValueError(f"{dimensions} dimensions were asked for and the model has {len(vectors[0])}")
    cut = [vector[:dimensions] for vector in vectors]
    lengths = [math.hypot(*vector) or 1.0 for vector in cut]
    return [[number / length for number in vector] for vector, length in zip(cut, lengths, strict=True)]


def count_inputs(given: object) -> int | None:
    """Return how many vectors an ``input`` asks for: it is a text, a list of tokens, or a list of either.

    >>> count_inputs("a text"), count_inputs(["a", "b"]), count_inputs([101, 7, 102]), count_inputs([[101], [7]])
    (1, 2, 1, 2)
    """
    if isinstance(given, str):
        return 1
    if not isinstance(given, list):
        return None
    return 1 if given and all(isinstance(each, int) for each in given) else len(given)


def _index(row: Mapping[str, object], name: str) -> int:
    if "index" not in row:
        raise ValueError(f"{name} is missing")
    index = row["index"]
    if isinstance(index, float) and index.is_integer():
        return int(index)
    if isinstance(index, bool) or not isinstance(index, int):
        raise ValueError(f"{name} is {_what(index)}, not a whole number")
    return index


def _vector(raw: object, name: str, *, coded: bool) -> list[float]:
    if isinstance(raw, str) and coded:
        vector = _from_base64(raw, name)
    elif isinstance(raw, list):
        if not {*map(type, raw)} <= {int, float}:
            odd = next(each for each in raw if type(each) not in (int, float))
            raise ValueError(f"{name} has {_what(odd)} among its numbers")
        try:
            vector = [float(number) for number in raw]
        except OverflowError:
            raise ValueError(f"{name} has a number that is too large") from None
    else:
        raise ValueError(f"{name} is {_what(raw)}, not a list of numbers{' or base64' if coded else ''}")
    if not vector:
        raise ValueError(f"{name} is empty")
    if not _fits(vector):
        raise ValueError(f"{name} has a number that is not finite, or too large")
    return vector


def _from_base64(raw: str, name: str) -> list[float]:
    numbers = array("f")
    try:
        content = base64.b64decode(raw, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} is not valid base64") from None
    if len(content) % numbers.itemsize:
        raise ValueError(
            f"{name} is {len(content)} bytes of base64, not a whole number of {numbers.itemsize}-byte floats"
        )
    numbers.frombytes(content)
    if sys.byteorder == "big":
        numbers.byteswap()  # the service writes little-endian
    return numbers.tolist()


def _fits(vector: list[float]) -> bool:
    # Three passes in C are many times faster than a check of each number. Only the sum finds a NaN.
    try:
        return math.isfinite(math.fsum(vector)) and max(vector) <= _LARGEST and min(vector) >= -_LARGEST
    except (OverflowError, ValueError):  # the sum of numbers that are too large, or of both infinities
        return False


def _what(value: object) -> str:
    """Say what kind of JSON value something is."""
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return f"{value:.6g}" if abs(value) < 1e300 else "a number that is huge or not finite"
    kinds = {str: "a text", list: "a list", dict: "an object"}
    return next((word for kind, word in kinds.items() if isinstance(value, kind)), type(value).__name__)
