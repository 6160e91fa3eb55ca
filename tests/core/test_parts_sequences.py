"""Any sequence of edits, runs, crashes, other models and damage, beside a dict that says what the folder must hold."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'chutes-connect[ray]'")

from chutes_core import ConfigurationError
from chutes_core.scale import Parts
from tests.core.corpus.test_parts import Crash, Service, corpus, counts, crashing, finished, run

KEYS = st.integers(0, 7)
TEXTS = st.sampled_from(["", "a", "b", "longer", "bad"])
REFUSED = frozenset({"bad"})


class Folders(RuleBasedStateMachine):
    """The corpus and the finished rows as dicts; ``parts`` says which rows each file has."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.parts = Parts(self.home / "parts")
        self.corpus: dict[int, str] = {}
        self.written: dict[str, dict[int, str]] = {}
        self.recipe: dict[str, Any] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.home)

    @initialize(texts=st.dictionaries(KEYS, TEXTS))
    def begin(self, texts: dict[int, str]) -> None:
        self.corpus = texts

    @rule(key=KEYS, text=TEXTS)
    def edit(self, key: int, text: str) -> None:
        self.corpus[key] = text

    @rule(key=KEYS)
    def drop(self, key: int) -> None:
        self.corpus.pop(key, None)

    def done(self) -> dict[int, str]:
        """What the folder must hold: the rows of its files, the later over the earlier."""
        return {key: text for name in sorted(self.written) for key, text in self.written[name].items()}

    def expected(self) -> tuple[int, int, int, int]:
        done = self.done()
        new = sum(key not in done for key in self.corpus)
        there = sum(done.get(key) == text for key, text in self.corpus.items())
        return new, len(self.corpus) - new - there, there, sum(key not in self.corpus for key in done)

    def learn(self, batches: list[dict[int, str]]) -> None:
        """Take over which files have come: each has the rows of one batch, in their order, that were not refused."""
        wanted = [rows for batch in batches if (rows := {k: t for k, t in batch.items() if t not in REFUSED})]
        names = [file.name for file in self.parts.files() if file.name not in self.written]
        assert len(names) <= len(wanted)
        self.written |= dict(zip(names, wanted, strict=False))

    def batches(self, size: int) -> list[dict[int, str]]:
        done = self.done()
        rest = [(key, text) for key, text in self.corpus.items() if done.get(key) != text]
        return [dict(rest[start : start + size]) for start in range(0, len(rest), size)]

    @rule(size=st.integers(1, 4))
    def work(self, size: int) -> None:
        batches, expected = self.batches(size), self.expected()
        before = run(self.parts, self.corpus, Service(refuse=REFUSED), batch=size, **self.recipe)
        assert counts(before) == expected
        self.learn(batches)
        after = before.now()
        assert counts(after) == self.expected()
        missing = {key for key, text in self.corpus.items() if text in REFUSED and self.done().get(key) != text}
        assert set(after.missing_keys()) == missing

    @rule(size=st.integers(1, 4), at=st.integers(0, 20), kill=st.booleans())
    def crash(self, size: int, at: int, kill: bool) -> None:
        batches = self.batches(size)
        with crashing(at, kill=kill), suppress(Crash):
            run(self.parts, self.corpus, Service(refuse=REFUSED), batch=size, **self.recipe)
        self.learn(batches)

    @rule(size=st.integers(1, 3))
    def overlap(self, size: int) -> None:
        """Two runs that know nothing of each other take turns."""
        batches = self.batches(size)
        workers = [Service(refuse=REFUSED).worker(Parts(self.home / "parts"), **self.recipe) for _ in range(2)]
        for batch in batches:
            for worker in workers:
                worker(corpus(batch))
        self.learn([batch for batch in batches for _ in workers])

    @precondition(lambda self: self.written)
    @rule(recipe=st.sampled_from([{"model": "acme/other"}, {"dimensions": 3}, {"query_instruction": "q: {query}"}]))
    def another_kind(self, recipe: dict[str, Any]) -> None:
        service = Service()
        with pytest.raises(ConfigurationError, match="rows of another kind"):
            run(self.parts, self.corpus, service, **{**self.recipe, **recipe})
        assert service.asked == []

    @precondition(lambda self: not self.written)
    @rule(dimensions=st.sampled_from([None, 2]))
    def choose(self, dimensions: int | None) -> None:
        self.recipe = {"dimensions": dimensions}

    @precondition(lambda self: self.written)
    @rule(which=st.integers(0, 99), cut=st.integers(1, 300))
    def damage(self, which: int, cut: int) -> None:
        name = sorted(self.written)[which % len(self.written)]
        file = self.parts.folder / name
        file.write_bytes(file.read_bytes()[:-cut])
        for act in (self.parts.read, lambda: run(self.parts, self.corpus, **self.recipe)):
            with pytest.raises(ConfigurationError, match=f"{name} is damaged"):
                act()
        file.unlink()
        del self.written[name]

    @invariant()
    def the_folder_is_what_it_must_be(self) -> None:
        assert finished(self.parts) == self.done()


TestFolders = Folders.TestCase
TestFolders.settings = settings(max_examples=20, stateful_step_count=12, deadline=None)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find their key where they are."""
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_test")
