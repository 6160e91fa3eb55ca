"""Embeddings and answers for whole corpora, on many machines: classes for Ray Data's ``map_batches``.

Each worker creates its client on its first rows, so only plain data is sent to it. A failed request is retried on its
own for as long as that may help; a row that still fails stays in place, with the reason in a column. With
:class:`Parts` every finished batch is its own file, and the next run does only the rest.

>>> embed = Embed(model="Qwen/Qwen3-Embedding-8B-TEE", dimensions=256)
>>> embed
Embed('Qwen/Qwen3-Embedding-8B-TEE', text='text', into='vector')

Use ``dataset.map_batches(Embed, fn_constructor_kwargs={"model": ...}, batch_format="pyarrow", concurrency=4)``;
``pip install 'chutes-connect[ray]'`` installs what it needs.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, cast

from chutes_core.clock import Clock, SystemClock
from chutes_core.embeddings import check_texts
from chutes_core.errors import APIError, ConfigurationError, Kind, RequestRefusedError, Retry, Scope
from chutes_core.usage import Ledger, Totals

if TYPE_CHECKING:
    from chutes_core.client import ChutesClient

__all__ = ["Ask", "Embed", "Parts"]

# Temporary failures of the model; a corpus job has no other model to ask.
_PASSING = frozenset(
    {Kind.COLD, Kind.GATEWAY_TIMEOUT, Kind.EDGE_LIMIT, Kind.FIRST_TOKEN_TIMEOUT, Kind.TOTAL_TIMEOUT, Kind.STALL}
)
_LONGEST_WAIT = 30.0
ERROR = "error"


class Table(Protocol):
    """The part of ``pyarrow.Table`` used here."""

    num_rows: int

    def column(self, name: str) -> _Column: ...
    def append_column(self, name: str, column: object) -> Self: ...
    def drop_columns(self, names: list[str]) -> Self: ...
    def filter(self, mask: object) -> Self: ...
    def select(self, names: list[str]) -> Self: ...

    @property
    def column_names(self) -> list[str]: ...


class _Column(Protocol):
    def to_pylist(self) -> list[object]: ...


class Dataset(Protocol):
    """The part of ``ray.data.Dataset`` used here."""

    def map_batches(self, function: Callable[[Table], Table], *, batch_format: str, batch_size: None) -> Self: ...


class Parts:
    """The finished rows of a job, in a folder shared by all workers: one Parquet file per batch.

    Files are written atomically, and a batch done twice gets the same file name. So a killed job resumes where it
    stopped, and no row is stored twice.

    Args:
        folder: The folder; created when the first part is written.
        key: The column that identifies rows.

    >>> Parts("vectors", key="id")
    Parts('vectors', key='id')
    """

    def __init__(self, folder: str | os.PathLike[str], *, key: str = "id") -> None:
        self.folder = Path(folder)
        self.key = key

    def write(self, table: Table, *, batch: Table | None = None) -> None:
        """Write the rows of a batch; if some of them failed, ``batch`` is the complete batch."""
        if not table.num_rows:
            return
        # Named after all rows of the batch: when done again, it replaces its file however many rows fail then.
        keys = (table if batch is None else batch).column(self.key).to_pylist()
        name = hashlib.sha256(repr(keys).encode()).hexdigest()[:24]
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = self.folder / f".{name}-{os.getpid()}-{random.getrandbits(32):08x}"
        import_module("pyarrow.parquet").write_table(table, str(unfinished))
        unfinished.replace(self.folder / f"part-{name}.parquet")

    def files(self) -> list[Path]:
        """Return the finished files."""
        return sorted(self.folder.glob("part-*.parquet"))

    def read(self, columns: Sequence[str] | None = None) -> Table | None:
        """Return all finished rows sorted by key; None while there are none."""
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        wanted = None if columns is None else list(dict.fromkeys([self.key, *columns]))
        tables = [parquet.read_table(str(file), columns=wanted, partitioning=None) for file in self.files()]
        if not tables:
            return None
        return cast("Table", pyarrow.concat_tables(tables).sort_by(self.key))

    def remaining(self, dataset: Dataset) -> Dataset:
        """Return the rows of a dataset that are not finished yet."""
        done = self.read([])
        if done is None:
            return dataset
        keys, name = done.column(self.key), self.key
        shared = import_module("ray").put(keys)  # once per machine, not once per task

        def rest(table: Table) -> Table:
            compute = import_module("pyarrow.compute")
            finished = import_module("ray").get(shared).combine_chunks()
            return table.filter(compute.invert(compute.is_in(table.column(name), value_set=finished)))

        return dataset.map_batches(rest, batch_format="pyarrow", batch_size=None)

    def __repr__(self) -> str:
        return f"Parts({str(self.folder)!r}, key={self.key!r})"


class _Worker(ABC):
    """Base of the workers: concurrent requests, retries, and where the results go.

    Args:
        model: The model.
        text: The column with the texts.
        into: The column for the results.
        parts: Write finished rows there and return one summary row per batch: ``rows``, ``failed``, ``error`` (the
            first one), ``tokens``, ``cost``, ``unpriced``, ``seconds``, ``worker``. Without it, the rows themselves
            are returned, with the results and an ``error`` column.
        request_size: Texts per request.
        concurrency: Concurrent requests per worker.
        patience: Seconds without a single success after which a worker gives up on temporary failures.
        clock: For tests: a virtual clock.
        options: Client options: ``api_key`` as a function, ``base_url``, ``ledger``, …; without a key, workers read
            it from their own environment.
    """

    def __init__(
        self,
        model: str,
        *,
        text: str,
        into: str,
        parts: Parts | None,
        request_size: int,
        concurrency: int,
        patience: float,
        clock: Clock | None,
        options: Mapping[str, object],
    ) -> None:
        key = options.get("api_key")
        if key is not None and not callable(key):
            raise ConfigurationError(
                "Give no key here: it would be part of the job's description. Set CHUTES_API_KEY on the workers, or "
                "pass api_key a function that finds it there."
            )
        for name, number in (("request_size", request_size), ("concurrency", concurrency)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ConfigurationError(f"{name} must be a positive whole number, not {number!r}.")
        self.model = model
        self.text = text
        self.into = into
        self.parts = parts
        self._request_size = request_size
        self._concurrency = concurrency
        self._patience = patience
        self._clock = clock or SystemClock()
        self._options = {"ledger": Ledger(), **options}
        self._client: ChutesClient | None = None
        self._alive = self._clock.now()
        self._gave_up = False

    @property
    def client(self) -> ChutesClient:
        """The client of this worker, created on first use."""
        if self._client is None:
            from chutes_core.client import ChutesClient

            self._client = ChutesClient(**self._options)  # type: ignore[arg-type]
        return self._client

    def __call__(self, table: Table) -> Table:
        """Process one batch."""
        pyarrow = import_module("pyarrow")
        started, before = self._clock.now(), self.client.ledger.totals()
        results, errors = self._all(table.column(self.text).to_pylist())
        kept = table.drop_columns([name for name in (self.into, ERROR) if name in table.column_names])
        done = kept.append_column(self.into, pyarrow.array(results, self._type(pyarrow)))
        if self.parts is None:
            return done.append_column(ERROR, pyarrow.array(errors, pyarrow.string()))
        self.parts.write(done.filter(pyarrow.array([error is None for error in errors])), batch=table)
        used = _since(before, self.client.ledger.totals())
        failed = [error for error in errors if error is not None]
        return cast("Table", pyarrow.Table.from_pylist([{
            "rows": table.num_rows, "failed": len(failed), "error": failed[0] if failed else "",
            "tokens": used.usage.total_tokens, "cost": used.cost, "unpriced": used.unpriced_calls,
            "seconds": self._clock.now() - started, "worker": f"{socket.gethostname()}:{os.getpid()}",
        }]))  # fmt: skip

    def _all(self, texts: list[object]) -> tuple[list[object], list[str | None]]:
        slices = [texts[start : start + self._request_size] for start in range(0, len(texts), self._request_size)]
        if not self._gave_up:
            self._alive = self._clock.now()  # idle time between two batches does not count
        over = threading.Event()

        def unless_over(texts: list[object]) -> tuple[list[object], list[str | None]]:
            # Checked in the thread itself, so that no further request begins after a failure.
            if over.is_set():
                return [], []
            try:
                return self._slice(texts)
            except BaseException:
                over.set()
                raise

        with ThreadPoolExecutor(max_workers=min(self._concurrency, max(len(slices), 1))) as threads:
            pending = [threads.submit(unless_over, each) for each in slices]
            try:
                pieces = [future.result() for future in pending]
            except BaseException:  # including Ctrl-C, which is raised here and not in the threads
                over.set()
                raise
        return [one for piece in pieces for one in piece[0]], [one for piece in pieces for one in piece[1]]

    def _slice(self, texts: list[object]) -> tuple[list[object], list[str | None]]:
        """Make one request; if its content is refused, make its halves, down to the row at fault."""
        tried = 0
        while True:
            try:
                results = self._ask(cast("list[str]", texts))
            except RequestRefusedError as error:
                return self._halves(texts, str(error))
            except APIError as error:
                if error.scope is Scope.REQUEST:
                    return self._halves(texts, str(error))
                if not (error.retry is Retry.HERE or error.kind in _PASSING):
                    if error.scope is Scope.ACCOUNT:
                        raise  # every row would fail the same way
                    return [None] * len(texts), [str(error)] * len(texts)
                pause = min(2.0**tried, _LONGEST_WAIT) * random.uniform(0.5, 1.0)
                # After giving up, a worker tries each request once, and waits again only after a success.
                if self._gave_up or self._clock.now() + pause - self._alive > self._patience:
                    self._gave_up = True
                    return [None] * len(texts), [str(error)] * len(texts)
                tried += 1
                self._clock.sleep(pause)
            else:
                self._alive, self._gave_up = self._clock.now(), False
                return results, [None] * len(texts)

    def _halves(self, texts: list[object], reason: str) -> tuple[list[object], list[str | None]]:
        if len(texts) == 1:
            return [None], [reason]
        middle = len(texts) // 2
        first, second = self._slice(texts[:middle]), self._slice(texts[middle:])
        return first[0] + second[0], first[1] + second[1]

    @abstractmethod
    def _ask(self, texts: list[str]) -> list[object]:
        """Return the results of some texts."""

    @staticmethod
    @abstractmethod
    def _type(pyarrow: object) -> object:
        """Return the type of the result column."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, text={self.text!r}, into={self.into!r})"


class Embed(_Worker):
    """Adds an embedding of each text.

    ``dimensions`` is the length of a vector. The other arguments are those of the client, and

    - ``text``, ``into``: the columns;
    - ``parts``: where finished rows go, see :class:`Parts`;
    - ``request_size``, ``concurrency``: texts per request, and concurrent requests per worker;
    - ``patience``: seconds without any success until a worker gives up on temporary failures.

    A row whose text cannot be embedded is kept: its vector is null, and ``error`` says why.
    """

    def __init__(
        self,
        model: str,
        *,
        dimensions: int | None = None,
        text: str = "text",
        into: str = "vector",
        parts: Parts | None = None,
        request_size: int = 64,
        concurrency: int = 3,
        patience: float = 600.0,
        clock: Clock | None = None,
        **options: object,
    ) -> None:
        super().__init__(
            model, text=text, into=into, parts=parts, request_size=request_size, concurrency=concurrency,
            patience=patience, clock=clock, options=options,
        )  # fmt: skip
        self._dimensions = dimensions

    def _ask(self, texts: list[str]) -> list[object]:
        size = len(texts)
        return [*self.client.embed(texts, model=self.model, dimensions=self._dimensions, batch_size=size).vectors]

    @staticmethod
    def _type(pyarrow: object) -> object:
        return pyarrow.list_(pyarrow.float32())  # type: ignore[attr-defined]


class Ask(_Worker):
    """Adds a model's answer to each text: one call per row.

    ``prompt`` is a template in which ``{text}`` is replaced, and ``params`` are the parameters of every call, such as
    ``{"max_tokens": 200}``. The other arguments are those of :class:`Embed`.

    >>> Ask("Qwen/Qwen3-32B-TEE", prompt="Sum up in a sentence: {text}")
    Ask('Qwen/Qwen3-32B-TEE', text='text', into='answer')
    """

    def __init__(
        self,
        model: str,
        *,
        prompt: str = "{text}",
        params: Mapping[str, object] | None = None,
        text: str = "text",
        into: str = "answer",
        parts: Parts | None = None,
        concurrency: int = 8,
        patience: float = 600.0,
        clock: Clock | None = None,
        **options: object,
    ) -> None:
        if "{text}" not in prompt:
            raise ConfigurationError("prompt must contain {text} where the text goes: '... {text}'.")
        super().__init__(
            model, text=text, into=into, parts=parts, request_size=1, concurrency=concurrency,
            patience=patience, clock=clock, options=options,
        )  # fmt: skip
        self._prompt = prompt
        self._params = dict(params or {})

    def _ask(self, texts: list[str]) -> list[object]:
        check_texts(texts)
        message = {"role": "user", "content": self._prompt.replace("{text}", texts[0])}
        return [self.client.chat([message], model=self.model, **self._params).content]  # type: ignore[arg-type]

    @staticmethod
    def _type(pyarrow: object) -> object:
        return pyarrow.string()  # type: ignore[attr-defined]


def _since(before: Totals, now: Totals) -> Totals:
    """Return the difference between two totals of a ledger."""
    return Totals(
        now.calls - before.calls,
        type(now.usage)(
            now.usage.prompt_tokens - before.usage.prompt_tokens,
            now.usage.completion_tokens - before.usage.completion_tokens,
            now.usage.total_tokens - before.usage.total_tokens,
        ),
        now.cost - before.cost,
        now.unpriced_calls - before.unpriced_calls,
    )
