"""Workers for Ray Data, without Ray: what fails, what is tried again, and what is written."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from chutes_core import APIError, Budget, BudgetExceededError, ConfigurationError
from chutes_core.scale import Ask, Embed, Parts
from chutes_core.secrets.secret import Secret
from chutes_core.testing import Answer, FaultScript, FaultyTransport, VirtualClock

from .clients import http_package

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'chutes-connect[ray]'")
TEXTS = [f"text {number}" for number in range(10)]
BUSY = (429, "Infrastructure is at maximum capacity, try again later")
COLD = (503, "No instances available (yet) for chute_id='x'")
LONG = (400, "This model's maximum context length is 10 tokens.")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find their key where they are."""
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_test")


def table(texts: list[Any] = TEXTS) -> Any:
    """Rows with a key and a text."""
    return pa.table({"id": list(range(len(texts))), "text": pa.array(texts, pa.string())})


class Service:
    """Vectors that tell their text's number; ``fail`` says which requests fail, and how."""

    def __init__(self, fail: Callable[[list[str], int], tuple[int, str] | None] = lambda texts, turn: None) -> None:
        self.asked: list[list[str]] = []
        self._fail = fail

    def __call__(self, request: Any) -> Any:
        package, body = http_package(), json.loads(request.content)
        self.asked.append(body["input"])
        failure = self._fail(body["input"], len(self.asked))
        if failure is not None:
            return package.Response(failure[0], json={"detail": failure[1]})
        rows = [{"index": n, "embedding": [float(text.split()[1]), 1.0]} for n, text in enumerate(body["input"])]
        return package.Response(200, json={"model": body["model"], "data": rows, "usage": {"prompt_tokens": len(rows)}})

    def worker(self, **options: Any) -> Embed:
        """A worker that asks here."""
        package = http_package()
        http = package.Client(transport=package.MockTransport(self))
        settings = {"request_size": 4, "concurrency": 1, "clock": VirtualClock(), "max_retries": 0}
        return Embed("acme/embed", http_client=http, **{**settings, **options})


def test_rows_keep_their_order_and_get_their_vectors() -> None:
    """In as many requests as it takes, whatever their number at a time."""
    service = Service()
    done = service.worker(concurrency=3)(table())
    assert done.column("vector").to_pylist() == [[float(number), 1.0] for number in range(10)]
    assert done.column("error").to_pylist() == [None] * 10
    assert done.column_names == ["id", "text", "vector", "error"]
    assert sorted(map(len, service.asked)) == [2, 4, 4]
    again = service.worker()(done)  # what a row has from before is made anew
    assert again.column_names == done.column_names


@pytest.mark.parametrize("failure", [BUSY, COLD, (502, ""), (504, "")])
def test_what_passes_is_waited_for(failure: tuple[int, str]) -> None:
    """Of a corpus there is no other model to ask."""
    service = Service(lambda texts, turn: failure if turn in (1, 2, 4) else None)
    clock = VirtualClock()
    done = service.worker(clock=clock)(table())
    assert done.column("error").to_pylist() == [None] * 10
    assert len(service.asked) == 6
    assert clock.sleeps


def test_patience_ends_and_the_rows_stay() -> None:
    """After so long without any success rows get their error; the next batch does not wait all over again."""
    service = Service(lambda texts, turn: COLD)
    clock = VirtualClock()
    worker = service.worker(patience=100, clock=clock)
    done = worker(table())
    assert done.column("vector").to_pylist() == [None] * 10
    assert all("acme/embed" in error for error in done.column("error").to_pylist())
    assert 50 < clock.now() <= 100
    asked = len(service.asked)
    worker(table())
    assert len(service.asked) == asked + 3


def test_one_text_at_fault_costs_no_other() -> None:
    """A request that is refused for what is in it is halved down to that text."""
    service = Service(lambda texts, turn: LONG if "text 6" in texts else None)
    done = service.worker(request_size=8)(table())
    errors = done.column("error").to_pylist()
    assert [number for number, error in enumerate(errors) if error] == [6]
    assert done.column("vector").to_pylist()[7] == [7.0, 1.0]


def test_a_text_that_is_none_costs_no_other() -> None:
    """A null in the column is refused before anything is sent."""
    done = Service().worker(request_size=8)(table(["text 0", None, "text 2"]))
    errors = done.column("error").to_pylist()
    assert (errors[0], errors[2]) == (None, None)
    assert "not a str" in errors[1]


@pytest.mark.parametrize("status", [401, 402])
def test_what_concerns_the_account_ends_the_job(status: int) -> None:
    """Every row would fail the same way."""
    service = Service(lambda texts, turn: (status, "no"))
    with pytest.raises(APIError):
        service.worker()(table())
    assert len(service.asked) == 1


def test_a_budget_ends_the_job() -> None:
    """What is spent does not come back by waiting, so nothing more is sent."""
    service = Service()
    with pytest.raises(BudgetExceededError):
        service.worker(request_size=1, ledger=Budget(tokens=5))(table())
    assert 0 < len(service.asked) < 10


def test_a_workers_ledger_adds_up() -> None:
    """A ledger, or a budget, that is given to a worker is its client's."""
    budget = Budget(tokens=10**6)
    Service().worker(ledger=budget)(table())
    assert budget.totals().usage.prompt_tokens == 10


def test_finished_rows_are_written_and_the_batch_reported(tmp_path: Path) -> None:
    """With parts the worker returns how it went, and what failed is not among the finished rows."""
    parts = Parts(tmp_path / "out")
    service = Service(lambda texts, turn: LONG if "text 6" in texts else None)
    (row,) = service.worker(parts=parts)(table()).to_pylist()  # type: ignore[attr-defined]
    assert (row["rows"], row["failed"], row["tokens"], row["unpriced"]) == (10, 1, 9, 4)
    assert "context" in row["error"]
    finished: Any = parts.read()
    assert finished.column("id").to_pylist() == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert finished.column_names == ["id", "text", "vector"]


def test_a_batch_that_is_done_twice_is_there_once(tmp_path: Path) -> None:
    """A worker that is killed after writing does no harm, nor do the remains of one killed while writing."""
    parts = Parts(tmp_path)
    for _ in range(2):
        Service().worker(parts=parts)(table())
    (tmp_path / ".part-half").write_bytes(b"PAR1 half a file")
    assert parts.read(["text"]).num_rows == 10  # type: ignore[union-attr]
    assert Parts(tmp_path / "none").read() is None


def test_a_batch_that_is_done_again_better_takes_its_own_place(tmp_path: Path) -> None:
    """A worker may die after it wrote a batch of which a row had failed; no row is there twice."""
    parts = Parts(tmp_path)
    Service(lambda texts, turn: LONG if "text 6" in texts else None).worker(parts=parts)(table())
    assert parts.read().num_rows == 9  # type: ignore[union-attr]
    Service().worker(parts=parts)(table())
    finished: Any = parts.read(["vector", "text"])
    assert finished.column("id").to_pylist() == list(range(10))
    assert finished.column_names == ["id", "vector", "text"]


def test_answers_row_by_row() -> None:
    """A prompt goes around each text; a row whose call fails for good keeps its place."""
    package = http_package()
    script = FaultScript(["capacity", Answer("One."), "bad_request", Answer("Three.")])
    transport = FaultyTransport(script)
    worker = Ask(
        "acme/one", prompt="Say it: {text}", params={"max_tokens": 9}, concurrency=1, clock=VirtualClock(),
        max_retries=0, http_client=package.Client(transport=transport),
    )  # fmt: skip
    done: Any = worker(table(["1", "2", "3"]))
    assert done.column("answer").to_pylist() == ["One.", None, "Three."]
    assert [request.body["max_tokens"] for request in transport.requests] == [9] * 4
    assert transport.requests[0].body["messages"] == [{"role": "user", "content": "Say it: 1"}]
    with pytest.raises(ConfigurationError, match="where the text goes"):
        Ask("acme/one", prompt="Say it")


def test_a_worker_travels_without_a_key_or_a_connection() -> None:
    """It opens its client where it works, and takes the key from there."""
    worker = pickle.loads(pickle.dumps(Embed("acme/embed", parts=Parts("out"), base_url="http://127.0.0.1:1/v1")))
    assert repr(worker) == "Embed('acme/embed', text='text', into='vector')"
    assert worker.parts is not None
    for key in ("cpk_test", SecretStr("cpk_test"), Secret("cpk_test")):
        with pytest.raises(ConfigurationError, match="Give no key here"):
            Embed("acme/embed", api_key=key)
    with pytest.raises(ConfigurationError, match="request_size"):
        Embed("acme/embed", request_size=0)
