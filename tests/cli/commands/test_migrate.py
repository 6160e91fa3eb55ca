"""``chutes-connect migrate`` shows a diff, or writes it, and ends with 1 where something is left to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chutes_cli import main

OLD = "from langchain_openai import ChatOpenAI\nmodel = ChatOpenAI(model_name='Qwen/Qwen3-32B-TEE')\n"
NEW = "from langchain_chutes import ChatChutes\nmodel = ChatChutes(model='Qwen/Qwen3-32B-TEE')\n"


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program, in the folder where one is."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "app.py"
    path.write_text(OLD, "utf-8")
    return path


def test_a_diff(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is changed."""
    assert main(["migrate", "app.py"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["--- app.py", "+++ app.py"]
    assert [line for line in out[3:] if line[0] == "+"] == [f"+{line}" for line in NEW.splitlines()]
    assert app.read_text("utf-8") == OLD


def test_write(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And once more, when there is nothing left."""
    assert main(["migrate", "--write", "app.py"]) == 0
    assert app.read_text("utf-8") == NEW
    assert main(["migrate", "app.py", "--write"]) == 0
    assert "app.py: nothing to change" in capsys.readouterr().err


def test_encodings_and_line_ends(app: Path) -> None:
    """They stay."""
    app.write_bytes(f"# coding: latin-1\r\n# Größe\r\n{OLD}".encode("latin-1"))
    assert main(["migrate", "--write", "app.py"]) == 0
    assert app.read_bytes() == f"# coding: latin-1\r\n# Größe\r\n{NEW}".encode("latin-1")


def test_what_is_left(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said by file and line; what could be changed is, and the status says that it is not all."""
    app.write_text(f"{OLD}other = ChatOpenAI(organization='me')\n", "utf-8")
    assert main(["migrate", "app.py", "--write"]) == 1
    assert "app.py:3: ChatChutes has no 'organization'." in capsys.readouterr().err
    assert app.read_text("utf-8").startswith(NEW)


def test_json(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for a program."""
    assert main(["migrate", "app.py", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"] is False
    (found,) = told["files"]
    assert (found["file"], found["changed"], found["left"]) == ("app.py", True, [])
    assert found["diff"].startswith("--- app.py\n")


@pytest.mark.parametrize(
    ("words", "content", "said"),
    [
        ([], "", "Name the files"),
        (["app.py"], "def (:", "app.py is no Python that can be read: invalid syntax"),
        (["app.py"], "x = '\x00'", "app.py is no Python that can be read"),
        (["other.py"], "", "other.py: No such file or directory"),
        (["."], "", "Is a directory"),
    ],
    ids=["none", "syntax", "null", "missing", "folder"],
)
def test_what_cannot_be_read(
    app: Path, capsys: pytest.CaptureFixture[str], words: list[str], content: str, said: str
) -> None:
    """It ends the command, with a sentence and a status that is none of a finished one."""
    app.write_text(content, "utf-8")
    assert main(["migrate", *words]) in (1, 2)
    assert said in capsys.readouterr().err


def test_the_page_shows_what_is_printed(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The example in docs/migrating.md, line breaks aside."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "migrating.md").read_text("utf-8")
    block = page.partition("$ cat app.py\n")[2].partition("```")[0]
    program, _, shown = block.partition("$ chutes-connect migrate app.py\n")
    app.write_text(program, "utf-8")
    assert main(["migrate", "app.py"]) == 1
    printed = capsys.readouterr()
    assert (printed.out + printed.err).split() == shown.split()
