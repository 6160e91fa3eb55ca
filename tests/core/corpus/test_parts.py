"""The finished rows of a job: what counts as done, what is refused, and what a folder says when something is amiss."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chutes_core import ConfigurationError
from chutes_core.corpus.progress import Progress
from chutes_core.scale import Ask, Embed, Parts
from chutes_core.testing import Answer, FaultyTransport, VirtualClock
from tests.core.clients import http_package

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'chutes-connect[ray]'")
import pyarrow.parquet as pq  # noqa: E402


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find their key where they are."""
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_test")


def vector_of(text: str, model: str = "acme/embed", width: int = 4) -> list[float]:
    """A vector that tells its text and its model."""
    return [float(len(text)), float(sum(map(ord, text)) % 1000), float(len(model)), *[0.5] * 5][:width]


class Service:
    """Vectors that tell their text, but for texts that are refused."""

    def __init__(self, *, width: int = 4, refuse: frozenset[str] = frozenset()) -> None:
        self.width = width
        self.refuse = refuse
        self.asked: list[str] = []

    def __call__(self, request: Any) -> Any:
        body = json.loads(request.content)
        package = http_package()
        if self.refuse.intersection(body["input"]):
            return package.Response(400, json={"detail": "maximum context length is 10 tokens"})
        self.asked += body["input"]
        width = body.get("dimensions", self.width)
        rows = [
            {"index": n, "embedding": vector_of(text, body["model"], width)} for n, text in enumerate(body["input"])
        ]
        return package.Response(200, json={"model": body["model"], "data": rows})

    def worker(self, parts: Parts, model: str = "acme/embed", **options: Any) -> Embed:
        """A worker that asks here."""
        package = http_package()
        http = package.Client(transport=package.MockTransport(self))
        settings = {"clock": VirtualClock(), "max_retries": 0, "concurrency": 1, "patience": 5.0}
        return Embed(model, parts=parts, http_client=http, **{**settings, **options})


def corpus(texts: dict[Any, Any], **columns: list[Any]) -> Any:
    """A table of texts by their ids."""
    return pa.table({"id": list(texts), "text": pa.array(list(texts.values()), pa.string()), **columns})


def run(parts: Parts, texts: Any, service: Service | None = None, *, batch: int = 3, **options: Any) -> Progress:
    """What the example does, without Ray: compare, do the rest in batches, compare again."""
    worker = (service or Service()).worker(parts, **options)
    table = corpus(texts) if isinstance(texts, dict) else texts
    before = parts.progress(table, worker)
    rest: Any = before.remaining
    for start in range(0, rest.num_rows, batch):
        worker(rest.slice(start, batch))
    return before


def finished(parts: Parts) -> dict[Any, str]:
    """The texts in the folder, whose vectors are checked to be theirs."""
    rows: Any = parts.read()
    if rows is None:
        return {}
    ids = rows.column("id").to_pylist()
    assert ids == sorted(set(ids))
    for row in rows.to_pylist():
        assert row["vector"] == pytest.approx(vector_of(row["text"], width=len(row["vector"])))
    return dict(zip(ids, rows.column("text").to_pylist(), strict=True))


def counts(progress: Progress) -> tuple[int, int, int, int]:
    return progress.new, progress.changed, progress.there, progress.gone


ONE = {number: f"text {number}" for number in range(10)}


# ------------------------------------------------------------------------------------- what is done


def test_a_second_corpus_is_embedded_beside_the_first(tmp_path: Path) -> None:
    """However many rows the folder has: what counts is which."""
    parts, service = Parts(tmp_path), Service()
    assert counts(run(parts, ONE, service)) == (10, 0, 0, 0)
    other = {number: f"text {number}" for number in range(100, 104)}
    assert counts(run(parts, other, service)) == (4, 0, 0, 10)
    assert finished(parts) == {**ONE, **other}
    assert len(service.asked) == 14


def test_a_changed_text_is_embedded_anew_under_its_key(tmp_path: Path) -> None:
    """The last version counts, also where it is an earlier one again."""
    parts, service = Parts(tmp_path), Service()
    for text in ("first", "second one", "first"):
        run(parts, {**ONE, 3: text}, service)
        assert finished(parts)[3] == text
    assert counts(parts.progress(corpus({**ONE, 3: "first"}), service.worker(parts))) == (0, 0, 10, 0)
    assert service.asked.count("first") == 2
    assert len(service.asked) == 12


def test_a_shrinking_and_a_rolling_corpus(tmp_path: Path) -> None:
    """What is no longer in the corpus stays in the folder and is told; what comes back is there."""
    parts, service = Parts(tmp_path), Service()
    run(parts, ONE, service)
    assert counts(run(parts, {1: ONE[1]}, service)) == (0, 0, 1, 9)
    for start in range(1, 4):
        window = {number: f"text {number}" for number in range(start, start + 10)}
        assert counts(run(parts, window, service)) == (1, 0, 9, start)
    assert counts(run(parts, ONE, service)) == (0, 0, 10, 3)
    assert len(service.asked) == 13
    assert counts(run(parts, corpus({}), service)) == (0, 0, 0, 13)


def test_what_failed_is_missing_and_is_tried_again(tmp_path: Path) -> None:
    """The run can say what is missing, by its key."""
    parts = Parts(tmp_path)
    before = run(parts, {**ONE, 11: None, 12: ""}, Service(refuse=frozenset({"text 3", "text 7"})))
    after = before.now()
    assert counts(after) == (3, 0, 9, 0)
    assert sorted(after.missing_keys()) == [3, 7, 11]  # type: ignore[type-var]
    assert len(after.missing_keys(2)) == 2
    assert finished(parts)[12] == "", "an empty text is a text"
    assert counts(run(parts, ONE)) == (2, 0, 8, 1)
    assert finished(parts) == {**ONE, 12: ""}


def test_a_changed_text_that_fails_is_missing_although_its_key_is_there(tmp_path: Path) -> None:
    """What the folder has is the old text's vector, with the old text."""
    parts = Parts(tmp_path)
    run(parts, ONE)
    after = run(parts, {**ONE, 3: "bad"}, Service(refuse=frozenset({"bad"}))).now()
    assert counts(after) == (0, 1, 9, 0)
    assert (after.missing, after.missing_keys()) == (1, [3])
    assert finished(parts) == ONE


def test_rows_that_repeat_another_count_once(tmp_path: Path) -> None:
    """The same key with the same text is one row."""
    parts = Parts(tmp_path)
    table = pa.table({"id": [1, 2, 1, 2, 1], "text": ["a", "b", "a", "b", "a"]})
    before = run(parts, table, batch=2)
    assert (counts(before), before.repeated) == ((2, 0, 0, 0), 3)
    assert finished(parts) == {1: "a", 2: "b"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"id": [1, 2, 1], "text": ["a", "b", "c"]}, "1 values of 'id' stand for several texts each, such as 1"),
        ({"id": ["x", "x"], "text": ["a", None]}, "stand for several texts each, such as 'x'"),
        ({"id": [1, None], "text": ["a", "b"]}, "1 rows have no 'id'"),
        ({"id": [1.0, float("nan")], "text": ["a", "b"]}, "1 rows have no 'id'"),
        ({"id": [[1], [2]], "text": ["a", "b"]}, "The values of 'id' are list<item: int64>"),
        ({"key": [1], "text": ["a"]}, "no column 'id'; it has key, text"),
        ({"id": [1], "body": ["a"]}, "no column 'text'; it has id, body"),
    ],
)
def test_a_corpus_that_cannot_be_kept_apart_is_refused(tmp_path: Path, table: dict[str, Any], said: str) -> None:
    """Before anything is sent."""
    service, parts = Service(), Parts(tmp_path)
    with pytest.raises(ConfigurationError, match=said):
        run(parts, pa.table(table), service)
    if "has" not in said.partition(";")[2]:
        with pytest.raises(ConfigurationError, match=said.partition(" rows")[0]):
            service.worker(parts)(pa.table(table))
    assert service.asked == []


def test_the_type_of_a_key_is_that_of_the_folder(tmp_path: Path) -> None:
    """Wider integers and other forms of texts are the same; a number is no text."""
    parts, service = Parts(tmp_path / "numbers"), Service()
    whole = pa.array([1, 2], pa.int64())
    for ids in (whole.cast(pa.int32()), whole, whole.cast(pa.uint8()), whole.dictionary_encode()):
        run(parts, pa.table({"id": ids, "text": ["a", "b"]}), service)
    assert len(service.asked) == 2
    with pytest.raises(ConfigurationError, match=r"are int64 in .* string in the corpus"):
        run(parts, pa.table({"id": ["1"], "text": ["a"]}), service)
    with pytest.raises(ConfigurationError, match="key_type is 'int64' there and 'string' here"):
        service.worker(parts)(pa.table({"id": ["1"], "text": ["a"]}))
    texts = Parts(tmp_path / "texts")
    words = pa.array(["x", "y"])
    for ids in (words, words.cast(pa.large_string()), words.dictionary_encode()):
        run(texts, pa.table({"id": ids, "text": ["a", "b"]}), service)
    assert len(service.asked) == 4
    assert finished(texts) == {"x": "a", "y": "b"}


def test_other_columns_may_come_and_go(tmp_path: Path) -> None:
    """They are kept as they were when the row was done; where a part has none of them, they are null."""
    parts = Parts(tmp_path)
    run(parts, corpus({1: "a"}, title=["A"]))
    run(parts, corpus({1: "a", 2: "b"}, pages=[7, 8]))
    rows: Any = parts.read(["title", "pages"])
    assert rows.to_pylist() == [{"id": 1, "title": "A", "pages": None}, {"id": 2, "title": None, "pages": 8}]
    run(parts, corpus({3: "c"}, title=[3]))
    with pytest.raises(ConfigurationError, match="a column of different types"):
        parts.read()
    assert parts.read(["vector"]).num_rows == 3  # type: ignore[union-attr]
    with pytest.raises(ConfigurationError, match=r"No part in .* has a column 'autor'"):
        parts.read(["autor"])


def test_the_hash_of_a_text_is_read_if_it_is_asked_for(tmp_path: Path) -> None:
    """Otherwise only what the corpus had, and the vectors."""
    parts = Parts(tmp_path)
    run(parts, ONE)
    assert parts.read().column_names == ["id", "text", "vector"]  # type: ignore[union-attr]
    assert parts.read(["content_sha256"]).column_names == ["id", "content_sha256"]  # type: ignore[union-attr]


# --------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "acme/other"}, "model is 'acme/embed' there and 'acme/other' here"),
        ({"dimensions": 3}, "dimensions is 2 there and 3 here"),
        ({"dimensions": None}, "dimensions is 2 there and None here"),
        ({"query_instruction": "q: {query}"}, "instruction is None there and 'q: {query}' here"),
        ({"model": "Qwen/Qwen3-Embedding-8B-TEE", "task": "Find"}, "Instruct: Find"),
        ({"into": "other"}, "into is 'vector' there and 'other' here"),
    ],
)
def test_rows_of_another_kind_are_refused_before_anything_is_sent(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    """By the comparison, and by a worker that was not compared; whether or not anything remains to be done."""
    parts, service = Parts(tmp_path), Service()
    run(parts, ONE, dimensions=2)
    for texts in (ONE, {20: "new"}):
        worker = service.worker(parts, **{"dimensions": 2, **options})
        with pytest.raises(ConfigurationError) as caught:
            parts.progress(corpus(texts), worker)
        assert said in str(caught.value)
        assert str(tmp_path) in str(caught.value)
        with pytest.raises(ConfigurationError) as caught:
            worker(corpus(texts))
        assert said in str(caught.value)
    assert service.asked == []
    assert finished(parts) == ONE


def test_another_key_column_and_another_text_column_are_refused(tmp_path: Path) -> None:
    """They would give rows that look alike and are not."""
    run(Parts(tmp_path), ONE)
    table = pa.table({"id": [20], "uid": [20], "text": ["a"], "body": ["b"]})
    for parts, options, said in (
        (Parts(tmp_path, key="uid"), {}, "key is 'id' there and 'uid' here"),
        (Parts(tmp_path), {"text": "body"}, "text is 'text' there and 'body' here"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            parts.progress(table, Service().worker(parts, **options))
    with pytest.raises(ConfigurationError, match="tells rows apart by 'id', not by 'uid'"):
        Parts(tmp_path, key="uid").read()


@pytest.mark.parametrize("options", [{"into": "text"}, {"into": "id"}, {"into": "error"}, {"text": "content_sha256"}])
def test_a_column_is_not_written_over(options: dict[str, str]) -> None:
    """The text and the key say what a row is."""
    with pytest.raises(ConfigurationError, match="must stay as they are"):
        Embed("acme/embed", parts=Parts("vectors"), **options)  # type: ignore[arg-type]
    assert Embed("acme/embed", parts=Parts("vectors", key="text")).text == "text", "a text may be its own key"


def test_answers_and_vectors_do_not_share_a_folder(tmp_path: Path) -> None:
    """Nor do the answers to two prompts."""
    parts = Parts(tmp_path)

    def ask(prompt: str, **params: Any) -> Ask:
        http = http_package().Client(transport=FaultyTransport([Answer("Yes.")]))
        return Ask("acme/one", prompt=prompt, params=params, parts=parts, concurrency=1, http_client=http)

    ask("Is it? {text}", max_tokens=3)(corpus({1: "a"}))
    assert parts.progress(corpus({1: "a"}), ask("Is it? {text}", max_tokens=3)).missing == 0
    for worker, said in (
        (ask("Was it? {text}", max_tokens=3), "prompt is"),
        (ask("Is it? {text}"), "params is"),
        (Service().worker(parts), "worker is 'Ask' there and 'Embed' here"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            parts.progress(corpus({1: "a"}), worker)


def test_a_query_is_sent_with_its_instruction_and_known_by_its_text(tmp_path: Path) -> None:
    """The instruction belongs to the folder, the text to the row."""
    parts, service = Parts(tmp_path), Service()
    options: dict[str, Any] = {"model": "Qwen/Qwen3-Embedding-8B-TEE", "task": "Find {query}s"}
    run(parts, {1: "cats"}, service, **options)
    assert service.asked == ["Instruct: Find catss\nQuery: cats"]
    assert counts(run(parts, {1: "cats"}, service, **options)) == (0, 0, 1, 0)
    with pytest.raises(ConfigurationError, match="no known instruction"):
        Embed("acme/embed", task="Find")
    with pytest.raises(ConfigurationError, match=r"needs \{query\}"):
        Embed("acme/embed", query_instruction="query: ")


def test_a_model_that_has_changed_its_width_fails_by_name(tmp_path: Path) -> None:
    """Only the reply tells: no row of the new width is written."""
    parts = Parts(tmp_path)
    run(parts, ONE)
    service = Service(width=6)
    (row,) = service.worker(parts)(corpus({20: "new"})).to_pylist()  # type: ignore[attr-defined]
    assert row["failed"] == 1
    assert "6 numbers, and those before have 4" in row["error"]
    assert finished(parts) == ONE
    with pytest.raises(ConfigurationError, match="dimensions is None there and 6 here"):
        run(parts, {20: "new"}, service, dimensions=6)


def test_a_worker_has_one_width(tmp_path: Path) -> None:
    """A request that came back with another one is made again, within the worker's patience."""
    service = Service()
    calls = iter(range(100))

    def turn(request: Any) -> Any:
        service.width = 4 if next(calls) % 3 else 6
        return Service.__call__(service, request)

    package = http_package()
    http = package.Client(transport=package.MockTransport(turn))
    worker = Embed("acme/embed", http_client=http, clock=VirtualClock(), request_size=1, concurrency=1, max_retries=0)
    rows: Any = worker(corpus(ONE))
    assert {len(vector) for vector in rows.column("vector").to_pylist()} == {6}
    assert rows.column("error").to_pylist() == [None] * 10


# ----------------------------------------------------------------------------- what a folder may hold


def test_a_damaged_part_is_named_and_what_was_in_it_is_done_again(tmp_path: Path) -> None:
    """Wherever it is damaged: what can be read is right, or the file is named."""
    parts = Parts(tmp_path)
    run(parts, ONE)
    victim = parts.files()[1]
    whole = victim.read_bytes()
    flipped = bytes([*whole[:60], whole[60] ^ 0xFF, *whole[61:]])
    for content in (b"", b"PAR1", whole[:-20], whole[: len(whole) // 2], flipped):
        victim.write_bytes(content)
        for act in (parts.read, lambda: parts.progress(corpus(ONE), Service().worker(parts))):
            with pytest.raises(ConfigurationError, match=f"{victim.name} is damaged .*Delete it and run the job again"):
                act()
    victim.unlink()
    assert counts(run(parts, ONE)) == (3, 0, 7, 0)
    assert finished(parts) == ONE


@pytest.mark.parametrize("name", ["part-0123456789abcdef01234567.parquet", "part-00000-snappy.parquet"])
def test_a_file_that_says_not_what_it_is_made_of_is_named(tmp_path: Path, name: str) -> None:
    """Parts of an earlier version, or of another program."""
    parts = Parts(tmp_path)
    for before in (False, True):
        if before:
            (tmp_path / name).unlink()
            run(parts, ONE)
        pq.write_table(pa.table({"id": [1], "text": ["a"], "vector": [[0.5]]}), str(tmp_path / name))
        service = Service()
        for act in (parts.read, lambda: run(parts, ONE, service)):  # noqa: B023
            with pytest.raises(ConfigurationError, match=f"{name} does not say what its rows were made with"):
                act()
        assert service.asked == []


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """Only what is named as a part is taken for one."""
    parts = Parts(tmp_path)
    run(parts, ONE)
    for name in ("README.md", "_SUCCESS", ".part-12-0", "vectors.parquet", "part-x.json"):
        (tmp_path / name).write_text("x")
    assert finished(parts) == ONE
    assert counts(run(parts, ONE)) == (0, 0, 10, 0)


def test_parts_of_two_kinds_are_told_apart(tmp_path: Path) -> None:
    """Somebody copied a file from another folder."""
    first, second = Parts(tmp_path / "first"), Parts(tmp_path / "second")
    run(first, ONE, batch=10)
    run(second, ONE, Service(width=6), batch=10)
    shutil.copy(second.files()[0], tmp_path / "first" / "part-00000002.parquet")
    with pytest.raises(ConfigurationError, match=r"width is 4 in part-00000001.parquet and 6 in part-00000002.parquet"):
        first.read()
    with pytest.raises(ConfigurationError, match="rows of two kinds"):
        run(first, ONE)


def test_there_is_nothing_yet(tmp_path: Path) -> None:
    """A folder that is not there, and one that is no folder."""
    parts = Parts(tmp_path / "none")
    assert parts.read() is None
    parts.write(corpus({}), {"text": "text"})
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("x")
    service = Service()
    with pytest.raises(ConfigurationError, match="is not a folder"):
        run(Parts(tmp_path / "file"), ONE, service)
    assert service.asked == []


# ------------------------------------------------------------------------------------------ writing


def test_a_number_is_taken_once(tmp_path: Path) -> None:
    """Workers on several machines write at the same time; every part has a number of its own."""
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        parts = Parts(tmp_path)
        worker = Service().worker(parts)
        barrier.wait()
        for batch in range(5):
            worker(corpus({100 * number + batch: f"text {number} {batch}"}))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [file.name for file in Parts(tmp_path).files()] == [f"part-{n:08d}.parquet" for n in range(1, 21)]
    assert len(finished(Parts(tmp_path))) == 20


def test_runs_that_overlap_give_each_row_once(tmp_path: Path) -> None:
    """Both do everything, and what was written last counts."""
    parts = [Parts(tmp_path), Parts(tmp_path)]
    workers = [Service().worker(each) for each in parts]
    texts = [ONE, {**ONE, 3: "newer"}]
    rest: list[Any] = [
        each.progress(corpus(text), worker).remaining for each, text, worker in zip(parts, texts, workers, strict=True)
    ]
    for start in range(0, 10, 4):
        for worker, table in zip(workers, rest, strict=True):
            worker(table.slice(start, 4))
    assert finished(parts[0]) == texts[1]
    assert sum(pq.ParquetFile(str(file)).metadata.num_rows for file in parts[0].files()) == 20


def test_of_two_models_that_begin_together_one_is_refused(tmp_path: Path) -> None:
    """Nothing was there when either began; the first part decides."""
    first, second = Service(), Service()
    one, other = first.worker(Parts(tmp_path)), second.worker(Parts(tmp_path), model="acme/other")
    original = Parts.check

    def check(self: Parts, *args: Any) -> Any:
        result = original(self, *args)
        patch.setattr(Parts, "check", original)
        one(corpus(ONE))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parts, "check", check)
        with pytest.raises(ConfigurationError, match="model is 'acme/embed' there and 'acme/other' here"):
            other(corpus({20: "a"}))
    assert finished(Parts(tmp_path)) == ONE


def test_a_folder_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some shared file systems have none; names are unique there by chance."""

    def link(*args: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", link)
    parts = Parts(tmp_path)
    for text in ("first", "second one"):
        run(parts, {**ONE, 3: text})
        assert finished(parts)[3] == text
    assert [file.name[:13] for file in parts.files()] == [f"part-{number:08d}" for number in range(1, 6)]


@contextmanager
def crashing(at: int, *, kill: bool) -> Iterator[list[str]]:
    """Fail at one of the steps of a write; ``kill`` leaves no chance to clean up."""
    steps: list[str] = []

    def failing(name: str, act: Any) -> Any:
        def step(*args: Any, **options: Any) -> Any:
            if len(steps) > at and kill:
                return None  # a dead process does nothing more
            steps.append(name)
            if len(steps) == at + 1:
                raise Crash(name)
            return act(*args, **options)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((os, "fsync"), (os, "link"), (Path, "unlink"), (pq, "write_table"), (Path, "mkdir")):
            patch.setattr(owner, name, failing(name, getattr(owner, name)))
        yield steps


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("kill", [True, False])
def test_a_crash_at_any_step_of_a_write_leaves_a_whole_folder(tmp_path: Path, kill: bool) -> None:
    """A part is there or is not; the next run does the rest."""
    at, ended = 0, False
    while not ended:
        parts = Parts(tmp_path / f"{kill}-{at}")
        run(parts, {1: "a"})
        with crashing(at, kill=kill) as steps:
            try:
                run(parts, {1: "a", 2: "b"})
                ended = True
            except Crash:
                pass
        assert finished(parts) in ({1: "a"}, {1: "a", 2: "b"}), steps
        run(parts, {1: "a", 2: "b"})
        assert finished(parts) == {1: "a", 2: "b"}
        at += 1
    assert steps == ["mkdir", "write_table", "fsync", "link", "fsync", "unlink"]


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job ends with what the system says."""

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run(Parts(tmp_path), ONE)
    assert [*tmp_path.iterdir()] == []
