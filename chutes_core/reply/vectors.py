"""The vectors of an embeddings reply, read strictly: each text has one, of finite numbers, and all have one width."""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence

from chutes_core.door import MisfitError, count, listed, mapping, number, objects

__all__ = ["check_width", "count_inputs", "decode_vectors", "fit_dimensions", "rows_in_order"]

_LARGEST = 3.4028234663852886e38  # vectors are 32-bit floats: in the service, and in every store
_NAMED = 10


def rows_in_order(body: object, texts: int | None) -> list[tuple[str, Mapping[str, object]]]:
    """Return the rows of a reply in the order of their texts, each with its place in the reply.

    Raises:
        ValueError: There are not as many rows as texts (None: any number), or an index is missing, doubled or not a
            whole number.

    >>> rows_in_order({"data": [{"index": 1}, {"index": 0.0}]}, 2)
    [('data[1]', {'index': 0.0}), ('data[0]', {'index': 1})]
    """
    fields = mapping(body, "the reply")
    if fields is None or fields.get("data") is None:
        raise MisfitError("data is missing")
    data = objects(fields["data"], "data")
    texts = len(data) if texts is None else texts
    if len(data) != texts:
        raise ValueError(f"{texts} vectors were asked for and {len(data)} came")
    found: dict[int, tuple[str, Mapping[str, object]]] = {}
    for place, row in enumerate(data):
        index = count(row.get("index"), f"data[{place}].index")
        if index is None:
            raise MisfitError(f"data[{place}].index is missing")
        if index >= texts:
            raise ValueError(f"data[{place}].index is {index}, and the texts are 0 to {texts - 1}")
        if index in found:
            raise ValueError(f"data[{place}].index is {index}, and so is {found[index][0]}.index")
        found[index] = f"data[{place}]", row
    return [found[index] for index in range(texts)]


def decode_vectors(body: object, texts: int | None, *, coded: bool = True) -> list[list[float]]:
    """Return a reply's vectors in the order of their texts.

    Args:
        body: The reply.
        texts: Their number; None if it is not known.
        coded: Whether base64 is read too, and not only lists of numbers.

    Raises:
        ValueError: A vector is missing, doubled, of another width, or has something that is not a finite number.

    >>> decode_vectors({"data": [{"index": 1, "embedding": [0.5]}, {"index": 0, "embedding": "AACAPw=="}]}, 2)
    [[1.0], [0.5]]
    """
    rows = rows_in_order(body, texts)
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


def _vector(raw: object, name: str, *, coded: bool) -> list[float]:
    narrow = coded and isinstance(raw, str)
    vector = _from_base64(raw, name) if narrow else _from_list(listed(raw, name), name)  # type: ignore[arg-type]
    if not vector:
        raise MisfitError(f"{name} is empty or missing")
    # Numbers of four bytes are never too large, nor is their sum, which is not finite if one of them is not.
    if not (math.isfinite(sum(vector)) if narrow else _fits(vector)):
        raise MisfitError(f"{name} has a number that is not finite, or too large")
    return vector


def _from_list(raw: Sequence[object], name: str) -> list[float]:
    # A look at the types is many times faster than the door for each number, which names the one that does not fit.
    if {*map(type, raw)} <= {int, float}:
        try:
            return [*map(float, raw)]  # type: ignore[arg-type]
        except OverflowError:
            raise MisfitError(f"{name} has a number that is too large") from None
    found = [number(each, f"{name}[{place}]") for place, each in enumerate(raw)]
    if None in found:
        raise MisfitError(f"{name}[{found.index(None)}] is null, not a number")
    return [each for each in found if each is not None]


def _from_base64(raw: str, name: str) -> list[float]:
    numbers = array("f")
    try:
        content = base64.b64decode(raw, validate=True)
    except (binascii.Error, ValueError):
        raise MisfitError(f"{name} is not valid base64") from None
    if len(content) % numbers.itemsize:
        raise MisfitError(f"{name} is {len(content)} bytes in base64, which are no floats of {numbers.itemsize} bytes")
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
