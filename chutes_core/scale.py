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

import json
import os
import random
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING, cast

from chutes_core.calls.clock import Clock, SystemClock
from chutes_core.calls.embeddings import check_texts, malformed
from chutes_core.calls.flows import patient_pause
from chutes_core.catalog.traits import traits_for
from chutes_core.corpus.parts import Parts
from chutes_core.corpus.progress import Progress
from chutes_core.corpus.tables import CONTENT, distinct, indexed, without
from chutes_core.errors import APIError, ConfigurationError, RequestRefusedError, Scope
from chutes_core.secrets.frames import unseen
from chutes_core.secrets.headers import Headers
from chutes_core.usage import Ledger

if TYPE_CHECKING:
    from chutes_core.client import ChutesClient
    from chutes_core.corpus.tables import Table

__all__ = ["Ask", "Embed", "Parts", "Progress"]

ERROR = "error"


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
            it from their own environment. ``default_headers`` may be a function too, and must be one if a header is
            secret.
    """

    kind: str  # its name in recipes: Ray puts a class of its own around ours

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
        headers = options.get("default_headers")
        if not callable(headers) and (secret := Headers(cast("Mapping[str, str] | None", headers)).secret):
            raise ConfigurationError(
                f"Give no value for {', '.join(secret)} here: it would be part of the job's description. Pass "
                "default_headers a function that returns all headers and finds this one on the workers."
            )
        for name, number in (("request_size", request_size), ("concurrency", concurrency)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ConfigurationError(f"{name} must be a positive whole number, not {number!r}.")
        if parts is not None and ({text, parts.key} & {into, ERROR, CONTENT} or into in (ERROR, CONTENT)):
            raise ConfigurationError(
                f"The columns {text!r} and {parts.key!r} must stay as they are, and {ERROR!r} and {CONTENT!r} are "
                "taken: use other names."
            )
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

            options, headers = dict(self._options), self._options.get("default_headers")
            if callable(headers):
                options["default_headers"] = headers()
            self._client = ChutesClient(**options)  # type: ignore[arg-type]
        return self._client

    def __call__(self, table: Table) -> Table:
        """Process one batch."""
        pyarrow = import_module("pyarrow")
        if self.parts is not None:
            index = indexed(table, self.parts.key, self.text)
            distinct(index, self.parts.key)
            self._continue(self.parts.check(self.recipe, index))
        started, before = self._clock.now(), self.client.ledger.totals()
        results, errors = self._all(table.column(self.text).to_pylist())
        done = without(table, self.into, ERROR).append_column(self.into, pyarrow.array(results, self._type(pyarrow)))
        if self.parts is None:
            return done.append_column(ERROR, pyarrow.array(errors, pyarrow.string()))
        self.parts.write(done.filter(pyarrow.array([error is None for error in errors])), self.recipe)
        used = self.client.ledger.totals() - before
        failed = [error for error in errors if error is not None]
        return cast("Table", pyarrow.Table.from_pylist([{
            "rows": table.num_rows, "failed": len(failed), "error": failed[0] if failed else "",
            "tokens": used.usage.total_tokens, "cost": used.cost, "unpriced": used.unpriced_calls,
            "seconds": self._clock.now() - started, "worker": f"{socket.gethostname()}:{os.getpid()}",
        }]))  # fmt: skip

    @property
    def recipe(self) -> Mapping[str, object]:
        """What a result depends on beside its text, as plain data: it is written with finished rows."""
        own = {"worker": self.kind, "model": self.model, "text": self.text, "into": self.into}
        return {**own, **self._settings()}

    def _continue(self, recipe: Mapping[str, object] | None) -> None:  # noqa: B027
        """Take over from the finished rows what results must have in common; None if there are none."""

    @abstractmethod
    def _settings(self) -> Mapping[str, object]:
        """Return what of the recipe only this kind of worker has."""

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
                pause = patient_pause(error, tried, random.random())
                if pause is None:
                    if error.scope is Scope.ACCOUNT:
                        raise  # every row would fail the same way
                    return [None] * len(texts), [str(error)] * len(texts)
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
    r"""Adds an embedding of each text.

    ``dimensions`` is the length of a vector. With ``task``, the texts are queries, and are sent with the instruction
    that the model has for queries of that task; ``query_instruction`` is another template for them, with ``{query}``
    and, if there is a task, ``{task}``. The other arguments are those of the client, and

    - ``text``, ``into``: the columns;
    - ``parts``: where finished rows go, see :class:`Parts`;
    - ``request_size``, ``concurrency``: texts per request, and concurrent requests per worker;
    - ``patience``: seconds without any success until a worker gives up on temporary failures.

    A row whose text cannot be embedded is kept: its vector is null, and ``error`` says why. All vectors of a worker
    have one width, that of the rows in ``parts`` if there are any.

    >>> Embed("Qwen/Qwen3-Embedding-8B-TEE", dimensions=256, task="Find the clause").recipe["instruction"]
    'Instruct: Find the clause\nQuery: {query}'
    """

    kind = "Embed"

    @unseen
    def __init__(
        self,
        model: str,
        *,
        dimensions: int | None = None,
        task: str | None = None,
        query_instruction: str | None = None,
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
        self._instruction = _instruction(model, task, query_instruction)
        self._width = {} if dimensions is None else {"width": dimensions}

    def _settings(self) -> Mapping[str, object]:
        return {"dimensions": self._dimensions, "instruction": self._instruction, "width": self._width.get("width")}

    def _continue(self, recipe: Mapping[str, object] | None) -> None:
        if recipe is not None:
            self._width["width"] = cast("int", recipe["width"])

    def _ask(self, texts: list[str]) -> list[object]:
        sent = check_texts(texts)
        if self._instruction is not None:
            sent = [self._instruction.replace("{query}", text) for text in sent]
        found = self.client.embed(sent, model=self.model, dimensions=self._dimensions, batch_size=len(sent)).vectors
        width = self._width.setdefault("width", len(found[0]))
        if len(found[0]) != width:
            raise malformed(
                f"{len(found[0])} numbers, and those before have {width}",
                self.model,
                "the vectors have another width than those before",
                "If that stays so, the model has changed: embed the corpus anew, into another folder.",
            )
        return [*found]

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

    kind = "Ask"

    @unseen
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

    def _settings(self) -> Mapping[str, object]:
        params: object = json.loads(json.dumps(self._params, sort_keys=True, default=repr))
        return {"prompt": self._prompt, "params": params}

    def _ask(self, texts: list[str]) -> list[object]:
        check_texts(texts)
        message = {"role": "user", "content": self._prompt.replace("{text}", texts[0])}
        return [self.client.chat([message], model=self.model, **self._params).content]  # type: ignore[arg-type]

    @staticmethod
    def _type(pyarrow: object) -> object:
        return pyarrow.string()  # type: ignore[attr-defined]


def _instruction(model: str, task: str | None, template: str | None) -> str | None:
    """Return the template for queries, with the task; None if texts are sent as they are."""
    if task is None and template is None:
        return None
    template = template or traits_for(model).query_instruction
    if template is None:
        raise ConfigurationError(
            f"{model} has no known instruction for queries: give query_instruction='... {{query}}'."
        )
    if "{query}" not in template or ("{task}" in template and task is None):
        raise ConfigurationError(f"An instruction needs {{query}}, and a task if it has {{task}}; it is {template!r}.")
    return template.replace("{task}", task or "")
