"""The table of hashes: what it must be about, and what of an index is not believed."""

from __future__ import annotations

from pathlib import Path

import hashes
import pytest

ONE, OTHER, THIRD = (f"--hash=sha256:{digit * 64}" for digit in "012")


def test_the_table_is_about_what_is_pinned() -> None:
    """Every version in the files of constraints has its hashes, and no other version has any."""
    table = hashes.parsed(hashes.HASHES.read_text())
    assert list(hashes.problems(table, hashes.pinned())) == []
    assert hashes.written(table) == hashes.HASHES.read_text()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "a==1 has no hashes"),
        ({"a==1": frozenset({ONE}), "a==2": frozenset({ONE})}, "a==2 has hashes, and is pinned nowhere"),
        ({"a==1": frozenset()}, "a==1 has something else than SHA-256"),
        ({"a==1": frozenset({"--hash=md5:00"})}, "a==1 has something else than SHA-256"),
    ],
    ids=["none", "too many", "empty", "another kind"],
)
def test_a_table_about_something_else_is_refused(table: dict[str, frozenset[str]], said: str) -> None:
    """A pin without hashes, hashes without a pin, and hashes of another kind."""
    (problem,) = hashes.problems(table, {"a==1"})
    assert problem.startswith(said)


def test_pins_are_those_of_every_file(tmp_path: Path) -> None:
    """However the names are written; the table itself is none of them."""
    (tmp_path / "constraints.txt").write_text("# told\nA_b==1\nc==2\n")
    (tmp_path / "constraints-more.txt").write_text("a.b==2\n")
    (tmp_path / "constraints-hashes.txt").write_text("z==1 --hash=sha256:00\n")
    assert hashes.pinned(tmp_path) == {"a-b==1", "a-b==2", "c==2"}


@pytest.mark.parametrize(
    ("answer", "arguments", "status", "kept"),
    [
        ({ONE, OTHER, THIRD}, [], 0, {ONE, OTHER, THIRD}),
        ({ONE}, [], 1, {ONE, OTHER}),
        ({ONE, THIRD}, [], 1, {ONE, OTHER}),
        ({ONE, THIRD}, ["--replace"], 0, {ONE, THIRD}),
    ],
    ids=["another file", "a file less", "an exchanged file", "looked at"],
)
def test_other_files_of_a_known_version_are_told_of(
    answer: set[str],
    arguments: list[str],
    status: int,
    kept: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A version may get a file for one more platform; that a file is gone or another is for somebody to look at."""
    table = tmp_path / "constraints-hashes.txt"
    table.write_text(hashes.written({"a==1": frozenset({ONE, OTHER})}))
    monkeypatch.setattr(hashes, "HASHES", table)
    monkeypatch.setattr(hashes, "pinned", lambda: {"a==1"})
    monkeypatch.setattr(hashes, "asked", lambda pins: {"a==1": frozenset(answer)})
    assert hashes.main(arguments) == status
    assert hashes.parsed(table.read_text()) == {"a==1": frozenset(kept)}
    assert ("the index has other files of a==1" in capsys.readouterr().out) == bool(status)
