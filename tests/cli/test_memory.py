"""What ``chat`` remembers, where, and how that is turned off."""

from __future__ import annotations

import argparse
import stat
from pathlib import Path

import pytest

from chutes_cli.exits import Stop
from chutes_cli.memory import Conversation, Memory

TURNS: list[dict[str, object]] = [{"role": "user", "content": "Größe?"}, {"role": "assistant", "content": "1,80 m"}]


def test_lines_are_appended_and_the_newest_are_found(tmp_path: Path) -> None:
    """Two conversations may add lines at once; a line that is repeated, or empty, is kept once, or not."""
    one, other = Memory(tmp_path / "s").history, Memory(tmp_path / "s").history
    assert one.lines() == []
    for line in ("Hello", "Hello", " ", "Größe?"):
        one.add(line)
    other.add("And?")
    assert Memory(tmp_path / "s").history.lines() == ["Hello", "Größe?", "And?"]
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "s", tmp_path / "s" / "chat_history")]
    assert modes == [0o700, 0o600]


def test_a_long_history_is_cut(tmp_path: Path) -> None:
    """The newest thousand are there, and the file does not grow without end."""
    (tmp_path / "chat_history").write_text("".join(f"{number}\n" for number in range(2500)))
    assert Memory(tmp_path).history.lines() == [str(number) for number in range(1500, 2500)]
    assert (tmp_path / "chat_history").read_text().count("\n") == 1000


def test_the_last_conversation_is_found_as_it_was(tmp_path: Path) -> None:
    """Models, system message and turns, in a file of its owner alone."""
    kept = Conversation(["acme/one", "acme/two"], "Be brief.", TURNS)
    Memory(tmp_path / "s").save(kept)
    assert Memory(tmp_path / "s").last() == kept
    assert stat.S_IMODE((tmp_path / "s" / "conversation.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "{}", "[" * 100_000),
        '{"models": [], "system": null, "turns": []}',
        '{"models": ["a"], "system": null, "turns": [{}]}',
    ],
    ids=range(6),
)
def test_a_damaged_conversation_is_said(tmp_path: Path, text: str) -> None:
    """In a sentence with the way out, as is that there is none."""
    with pytest.raises(Stop, match="There is no conversation to continue"):
        Memory(tmp_path).last()
    (tmp_path / "conversation.json").write_text(text)
    with pytest.raises(Stop, match="begin a new one"):
        Memory(tmp_path).last()


@pytest.mark.parametrize(
    ("option", "env"), [(True, {}), (False, {"CHUTES_HISTORY": "off"}), (False, {"CHUTES_HISTORY": "0"})], ids=range(3)
)
def test_it_can_be_turned_off(
    option: bool, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an option or a variable: then nothing is written, and nothing is there to continue."""
    monkeypatch.setattr("platformdirs.user_state_dir", lambda *args: str(tmp_path / "s"))
    options = argparse.Namespace(no_history=option)
    memory = Memory.of(options, env)
    memory.history.add("Hello")
    memory.save(Conversation(["acme/one"]))
    assert (memory.history.lines(), (tmp_path / "s").exists()) == ([], False)
    with pytest.raises(Stop, match="Without a history"):
        memory.last()


def test_a_folder_that_cannot_be_written_costs_no_answer(tmp_path: Path) -> None:
    """Where nothing can be kept, nothing is, without a word."""
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file")
    memory.history.add("Hello")
    memory.save(Conversation(["acme/one"]))
    assert memory.history.lines() == []
