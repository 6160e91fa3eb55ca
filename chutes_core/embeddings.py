"""Embeddings: requests, decoding, and dropping options that a server refuses.

The servers behind an embedding model are configured differently: some refuse ``dimensions``, some base64, with a 400,
a 422 or a bare 500. :class:`EmbedCall` drops one option after another and makes up for it here: a truncated and
normalized vector is what the model would have returned.
"""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from chutes_core.effects import Flow, WireRequest
from chutes_core.entries import Account
from chutes_core.errors import APIError, InvalidRequestError, Kind, RequestRefusedError
from chutes_core.failures import failure, reported_error
from chutes_core.flows import CallPolicy, JsonCall
from chutes_core.usage import Usage

__all__ = ["EmbedCall", "Embeddings", "batches", "check_texts", "decode_vectors"]

BATCH_SIZE = 32
CONCURRENCY = 3
_STEP_DOWN = frozenset({Kind.EXHAUSTED, Kind.UNSUPPORTED, Kind.BAD_REQUEST})


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors in the order of their texts.

    >>> Embeddings([[0.6, 0.8]], "acme/embed", None)
    Embeddings(1 vectors of 2 dimensions, model='acme/embed')
    """

    vectors: list[list[float]]
    model: str | None
    usage: Usage | None

    def __repr__(self) -> str:
        size = len(self.vectors[0]) if self.vectors else 0
        return f"Embeddings({len(self.vectors)} vectors of {size} dimensions, model={self.model!r})"

    @classmethod
    def join(cls, parts: Sequence[Embeddings], model: str) -> Embeddings:
        """Join batches; the usage is their sum, or None if any did not report it."""
        usages = [part.usage for part in parts]
        total = None
        if usages and None not in usages:
            total = sum((usage for usage in usages if usage is not None), Usage(0, 0, 0))
        vectors = [vector for part in parts for vector in part.vectors]
        return cls(vectors, next((part.model for part in parts if part.model), model), total)


def check_texts(texts: object) -> list[str]:
    """Refuse anything but a list of texts.

    >>> check_texts(["a", "b"])
    ['a', 'b']
    """
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Sequence):
        raise RequestRefusedError("Pass a list of texts, even for a single text.")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise RequestRefusedError(f"Text {position} is a {type(text).__name__}, not a str.")
    return list(texts)


def batches(texts: Sequence[str], size: int) -> Iterator[list[str]]:
    """Split texts into batches.

    >>> list(batches(["a", "b", "c"], 2))
    [['a', 'b'], ['c']]
    """
    for start in range(0, len(texts), size):
        yield list(texts[start : start + size])


def decode_vectors(body: object, count: int) -> list[list[float]]:
    """Read a reply's vectors, as floats or base64, in the order of their texts.

    Raises:
        ValueError: A vector is missing, duplicated, of another size or not finite.

    >>> decode_vectors({"data": [{"index": 1, "embedding": [0.5]}, {"index": 0, "embedding": "AACAPw=="}]}, 2)
    [[1.0], [0.5]]
    """
    data = body.get("data") if isinstance(body, Mapping) else None
    if not isinstance(data, list) or len(data) != count:
        raise ValueError(f"{count} vectors were asked for and {len(data) if isinstance(data, list) else 'none'} came")
    found: dict[int, list[float]] = {}
    for position, row in enumerate(data):
        if not isinstance(row, Mapping):
            raise ValueError(f"vector {position} is not an object")
        index = row.get("index")
        found[index if isinstance(index, int) else position] = _vector(row.get("embedding"), position)
    if found.keys() != set(range(count)):
        raise ValueError("the indexes of the vectors are not those of the texts")
    if len({len(vector) for vector in found.values()}) > 1:
        raise ValueError("the vectors differ in size")
    return [found[index] for index in range(count)]


def _vector(raw: object, position: int) -> list[float]:
    if isinstance(raw, str):
        numbers = array("f")
        try:
            numbers.frombytes(base64.b64decode(raw, validate=True))
        except (binascii.Error, ValueError):
            raise ValueError(f"vector {position} is not valid base64") from None
        if sys.byteorder == "big":
            numbers.byteswap()  # the service writes little-endian
        vector = numbers.tolist()
    elif isinstance(raw, list) and all(isinstance(number, int | float) for number in raw):
        try:
            vector = [float(number) for number in raw]
        except OverflowError:
            raise ValueError(f"vector {position} has a number that is too large") from None
    else:
        raise ValueError(f"vector {position} is neither a list of numbers nor base64")
    if not vector or not _all_finite(vector):
        raise ValueError(f"vector {position} is empty or has a number that is not finite")
    return vector


def _all_finite(vector: list[float]) -> bool:
    try:
        return math.isfinite(math.fsum(vector))  # many times faster than checking each number
    except OverflowError:
        return all(map(math.isfinite, vector))


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


class _Batch(JsonCall):
    wanted = "embedding"


class EmbedCall:
    """Embeds one batch of texts; a limit for the whole call applies to each batch.

    Args:
        request: Where to send it; the body is made here.
        policy: Timeout and retry settings.
        texts: The texts of this batch.
        model: The model.
        dimensions: Vector size; None uses the model's own.
        known: What earlier batches learned about this model's servers; shared between calls.
        ledger: Records what each request used.
    """

    def __init__(
        self,
        request: WireRequest,
        policy: CallPolicy,
        texts: list[str],
        *,
        model: str,
        dimensions: int | None = None,
        known: MutableMapping[str, int] | None = None,
        ledger: Account | None = None,
    ) -> None:
        self._request = request
        self._policy = policy
        self._texts = texts
        self._model = model
        self._dimensions = dimensions
        self._known = {} if known is None else known
        self._ledger = ledger

    def run(self) -> Flow[Embeddings]:
        """Return the vectors."""
        # The limit applies to the batch, however many options are dropped.
        self._policy = replace(self._policy, started=self._policy.clock.now())
        options = _options(self._dimensions)
        level = min(self._known.get(self._model, 0), len(options) - 1)
        while True:
            last = level == len(options) - 1
            try:
                result = yield from self._try(options[level], give_up=frozenset() if last else _STEP_DOWN)
            except APIError as error:
                refused = isinstance(error, InvalidRequestError) or error.kind in _STEP_DOWN
                if last or not refused or error.kind in (Kind.CONTEXT_LENGTH, Kind.TOO_LARGE):
                    raise
                level += 1
                continue
            self._known[self._model] = level
            return result

    def _try(self, options: Mapping[str, object], give_up: frozenset[Kind]) -> Flow[Embeddings]:
        body = {"model": self._model, "input": self._texts, **options}
        hold = self._ledger.hold(body) if self._ledger is not None else None
        try:
            return (yield from self._ask(body, give_up))
        finally:
            if hold is not None:
                hold.release()

    def _ask(self, body: Mapping[str, object], give_up: frozenset[Kind]) -> Flow[Embeddings]:
        call = _Batch(replace(self._request, body=body), self._policy, model=self._model, give_up=give_up)
        reply = yield from call.run()
        if isinstance(reply, Mapping) and "data" not in reply and (reply.get("error") or reply.get("detail")):
            raise reported_error(reply, model=self._model)
        try:
            vectors = fit_dimensions(decode_vectors(reply, len(self._texts)), self._dimensions)
        except ValueError as problem:
            raise failure(Kind.MALFORMED, str(problem), model=self._model) from None
        fields = cast("Mapping[str, object]", reply)
        model = fields.get("model")
        usage = fields.get("usage")
        result = Embeddings(
            vectors,
            model if isinstance(model, str) else None,
            Usage.parse(usage if isinstance(usage, Mapping) else None),
        )
        if self._ledger is not None:
            self._ledger(result.model or self._model, result.usage)
        return result


def _options(dimensions: int | None) -> list[dict[str, object]]:
    """Return the options to try, best first."""
    steps: list[dict[str, object]] = [{"encoding_format": "base64"}, {}]
    return steps if dimensions is None else [{"encoding_format": "base64", "dimensions": dimensions}, *steps]
