"""Embeddings: requests, decoding, and dropping options that a server refuses.

The servers behind an embedding model are configured differently: some refuse ``dimensions``, some base64, with a 400,
a 422 or a bare 500. :class:`EmbedCall` drops one option after another and makes up for it here: a truncated and
normalized vector is what the model would have returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from chutes_core import door
from chutes_core.calls.effects import Flow, WireRequest
from chutes_core.calls.flows import CallPolicy, JsonCall
from chutes_core.calls.record import Record
from chutes_core.errors import APIError, Kind, RequestRefusedError
from chutes_core.failures.reading import FACTS, failure, reported_error
from chutes_core.reply.vectors import check_width, decode_vectors, fit_dimensions
from chutes_core.secrets.secret import Secret
from chutes_core.spending.recording import Account
from chutes_core.usage import Usage

__all__ = ["EmbedCall", "Embeddings", "batches", "check_texts", "malformed", "one_width", "read_embeddings"]

BATCH_SIZE = 32
CONCURRENCY = 3
_STEP_DOWN = frozenset(kind for kind, facts in FACTS.items() if facts.optional)


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


def read_embeddings(
    reply: object, texts: int | None, *, model: str | None, account: Account | None = None, coded: bool = True
) -> Embeddings:
    """Read a reply, and record what it used, also where it is no valid one.

    ``texts`` is their number, if known, and ``coded`` whether vectors may be base64.

    Raises:
        APIError: It reports an error, or not every text has a vector of its own.

    >>> read_embeddings({"data": [{"index": 0, "embedding": [0.6, 0.8]}]}, 1, model="acme/embed")
    Embeddings(1 vectors of 2 dimensions, model=None)
    """
    fields: Mapping[str, object] = reply if isinstance(reply, Mapping) else {}
    if fields.get("error") or (fields.get("detail") and "data" not in fields):
        raise reported_error(fields, model=model)
    problem, vectors, usage, name = "", list[list[float]](), None, None
    try:
        usage = Usage.parse(fields.get("usage"))
        name = door.text(fields.get("model"), "model") or None
        vectors = decode_vectors(reply, texts, coded=coded)
    except ValueError as error:
        problem = str(error)
    if account is not None and not (problem and usage is None):
        account(name or model, usage)
    if problem:
        raise malformed(problem, model)
    return Embeddings(vectors, name, usage)


def malformed(
    said: str, model: str | None, why: str = "", remedy: str = "Nothing of it is used: ask again."
) -> APIError:
    """Return the failure for a reply that is not the vectors asked for."""
    return failure(Kind.MALFORMED, said, model=model, why=why, remedy=remedy)


def one_width(vectors: list[list[float]], model: str) -> list[list[float]]:
    """Return vectors that were made by several calls, or were kept by a cache, if all have one width.

    >>> one_width([[0.6, 0.8], [1.0]], "acme/embed")
    Traceback (most recent call last):
      ...
    chutes_core.errors.MalformedReplyError: acme/embed: a machine sent something that is not a valid reply ...
    """
    try:
        check_width(vectors)
    except ValueError as error:
        problem = str(error)
    else:
        return vectors
    raise malformed(problem, model)


class _Batch(JsonCall):
    """One request; a reply that is not the vectors asked for is retried like any other failure of a machine."""

    wanted = "embedding"

    def __init__(
        self,
        request: WireRequest,
        policy: CallPolicy,
        read: Callable[[object], Embeddings],
        *,
        model: str,
        give_up: frozenset[Kind],
        ledger: Account | None,
        record: Record,
    ) -> None:
        super().__init__(request, policy, model=model, give_up=give_up, ledger=ledger)
        self._read = read
        self.record = record

    def run(self) -> Flow[object]:
        """Return the vectors."""
        return self._attempts(self._value)

    def _told(self, result: object) -> tuple[str | None, Usage | None, str | None]:
        vectors = cast("Embeddings", result)
        return vectors.model, vectors.usage, None

    def _value(self, secret: Secret | None) -> Flow[object]:
        return self._read((yield from super()._value(secret)))


class EmbedCall:
    """Embeds one batch of texts; a limit for the whole call applies to each batch.

    Args:
        request: Where to send it; the body is made here.
        policy: Timeout and retry settings.
        texts: The texts of this batch.
        model: The model.
        dimensions: Vector size; None uses the model's own.
        first: The number of the batch's first text among those of the call.
        agreed: What the batches of one call must have in common; shared between them.
        known: What earlier calls learned about this model's servers; shared between calls.
        ledger: Records what each request used.

    Attributes:
        record: What is told of it.
    """

    def __init__(
        self,
        request: WireRequest,
        policy: CallPolicy,
        texts: list[str],
        *,
        model: str,
        dimensions: int | None = None,
        first: int = 0,
        agreed: MutableMapping[str, int | str] | None = None,
        known: MutableMapping[str, int] | None = None,
        ledger: Account | None = None,
    ) -> None:
        self._request = request
        self._policy = policy
        self._texts = texts
        self._model = model
        self._dimensions = dimensions
        self._first = first
        self._agreed = {} if agreed is None else agreed
        self._known = {} if known is None else known
        self._ledger = ledger
        self.record = Record("embeddings", model, request.url, policy.face, streamed=False)

    def run(self) -> Flow[Embeddings]:
        """Return the vectors."""
        self.record.begins({"model": self._model, "input": self._texts})
        with self.record:
            return (yield from self._stepping())

    def _stepping(self) -> Flow[Embeddings]:
        """Ask with the best options; where a server does not know them, with less."""
        # The limit applies to the batch, however many options are dropped.
        self._policy = replace(self._policy, started=self._policy.clock.now())
        options = _options(self._dimensions)
        start = max(len(options) - 1 - self._known.get(self._model, len(options)), 0)
        for level in range(start, len(options)):
            left = len(options) - 1 - level
            try:
                result = yield from self._try(options[level], give_up=_STEP_DOWN if left else frozenset())
            except APIError as error:
                if not left or error.kind not in _STEP_DOWN:
                    raise
                continue
            if level > start:  # how many options are left is the same with and without dimensions
                self._known[self._model] = min(left, self._known.get(self._model, left))
            return result
        raise AssertionError("the last options are tried or their failure is raised")

    def _try(self, options: Mapping[str, object], give_up: frozenset[Kind]) -> Flow[Embeddings]:
        body = {"model": self._model, "input": self._texts, **options}
        call = _Batch(
            replace(self._request, body=body), self._policy, self._read,
            model=self._model, give_up=give_up, ledger=self._ledger, record=self.record,
        )  # fmt: skip
        return cast("Embeddings", (yield from call.run()))

    def _read(self, reply: object) -> Embeddings:
        result = read_embeddings(reply, len(self._texts), model=self._model, account=self._ledger)
        width = len(result.vectors[0])
        if self._dimensions is not None and width < self._dimensions:
            raise malformed(
                f"{self._dimensions} dimensions were asked for and {width} came",
                self._model,
                "the vectors are shorter than asked for",
                "If that is all the model has, ask for no more.",
            )
        self._agree("model", result.model)
        # A server gives the width that was asked for or the model's own, and that is one number.
        self._agree("width", None if width == self._dimensions else width)
        return replace(result, vectors=fit_dimensions(result.vectors, self._dimensions))

    def _agree(self, what: str, value: int | str | None) -> None:
        """Raise if the vectors of this batch cannot be compared with those of another batch of the call."""
        agreed = value if value is None else self._agreed.setdefault(what, value)
        if agreed != value:
            last = self._first + len(self._texts) - 1
            batch = f"texts {self._first} to {last}" if last > self._first else f"text {last}"
            said = f"the {what} is {value} for {batch} and {agreed} for others of the same call"
            raise malformed(said, self._model)


def _options(dimensions: int | None) -> list[dict[str, object]]:
    """Return the options to try, best first."""
    steps: list[dict[str, object]] = [{"encoding_format": "base64"}, {}]
    return steps if dimensions is None else [{"encoding_format": "base64", "dimensions": dimensions}, *steps]
