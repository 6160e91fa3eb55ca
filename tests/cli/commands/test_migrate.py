"""``chutes-connect migrate`` shows a diff, or writes it, and ends with 1 where something is left to do."""

from __future__ import annotations

import json
import os
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
    ("content", "line", "said"),
    [
        (b"x = 1\ndef (:\n", 2, "invalid syntax"),
        (b"x = '\x00'", 1, "null bytes"),
        (b"\xff\xfe", 1, "invalid or missing encoding declaration"),
        (b"# coding: nope\n", 1, "unknown encoding"),
        (b"x = " + b"(" * 500 + b")" * 500, 1, "too many nested parentheses"),
    ],
    ids=["syntax", "null", "bytes", "encoding", "depth"],
)
def test_what_cannot_be_read(
    app: Path, capsys: pytest.CaptureFixture[str], content: bytes, line: int, said: str
) -> None:
    """It is said with its line; the others are changed, and it is not."""
    Path("bad.py").write_bytes(content)
    assert main(["migrate", "--write", "bad.py", "app.py"]) == 1
    shown = capsys.readouterr().err
    assert f"bad.py:{line}: This is no Python that can be read: " in shown
    assert said in shown
    assert (Path("bad.py").read_bytes(), app.read_text("utf-8")) == (content, NEW)


def test_a_notebook(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its JSON would be read as Python in which there is nothing to change."""
    Path("a.ipynb").write_text('{"cells": []}', "utf-8")
    assert main(["migrate", "a.ipynb"]) == 1
    assert "a notebook is to be saved as a script first, or changed by hand" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "Name the files"),
        (["app.py", "other.py"], 1, "other.py: No such file or directory"),
        (["app.py", "."], 2, "name its files, as in `chutes-connect migrate ./*.py`"),
    ],
    ids=["none", "missing", "folder"],
)
def test_what_is_no_file(
    app: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, said: str
) -> None:
    """It ends the command before anything is changed."""
    assert main(["migrate", "--write", *words]) == status
    assert said in capsys.readouterr().err
    assert app.read_text("utf-8") == OLD


def test_a_file_is_changed_at_once(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its permissions stay, a link stays one, and a failure leaves nothing half written and nothing beside it."""
    app.chmod(0o640)
    Path("link.py").symlink_to(app)

    def fails(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("os.replace", fails)
        assert main(["migrate", "--write", "link.py"]) == 1
    assert (app.read_text("utf-8"), sorted(os.listdir())) == (OLD, ["app.py", "link.py"])
    assert main(["migrate", "--write", "link.py"]) == 0
    assert (app.read_text("utf-8"), app.stat().st_mode & 0o777, Path("link.py").is_symlink()) == (NEW, 0o640, True)


def test_the_diff_has_the_lines_that_python_has(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A form feed within a line ends none."""
    app.write_bytes(b"x = 'a\x0cb'\r\n" + OLD.encode())
    assert main(["migrate", "app.py"]) == 0
    assert "@@ -1,3 +1,3 @@" in capsys.readouterr().out


def test_the_page_shows_what_is_printed(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The example in docs/migrating.md, line breaks aside."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "migrating.md").read_text("utf-8")
    block = page.partition("$ cat app.py\n")[2].partition("```")[0]
    program, _, shown = block.partition("$ chutes-connect migrate app.py\n")
    app.write_text(program, "utf-8")
    assert main(["migrate", "app.py"]) == 1
    printed = capsys.readouterr()
    assert (printed.out + printed.err).split() == shown.split()
