"""The notebooks in docs/: what is kept of a run, and what is compared with the next one."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import notebooks
import pytest

FILES = sorted(notebooks.FOLDER.glob("*.ipynb"))
OLD = {
    "cells": [
        {"cell_type": "markdown", "id": "a", "source": "# Title"},
        {
            "cell_type": "code",
            "id": "b",
            "source": "print(health)\nhealth",
            "execution_count": 7,
            "metadata": {"execution": {"iopub.execute_input": "2026-01-01T00:00:00Z"}},
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": "well after 12 ms\n"},
                {"output_type": "execute_result", "data": {"text/plain": "<H>", "text/html": "<b>well</b>"}},
            ],
        },
    ]
}


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def book(request: pytest.FixtureRequest) -> dict[str, object]:
    """A notebook of the docs."""
    return json.loads(Path(request.param).read_text("utf-8"))


def test_what_is_kept_says_nothing_of_when_and_where() -> None:
    """Of a run only the texts and what is shown are kept, so that the next one changes no other line."""
    new = notebooks.kept(OLD)
    assert "2026" not in notebooks.written(new)
    assert [cell.get("execution_count") for cell in notebooks.cells(new)] == [None, None]
    assert list(notebooks.shown(notebooks.cells(new)[1])) == [
        ("text/plain", "well after 12 ms\n"),
        ("text/html", "<b>well</b>"),
    ]
    assert notebooks.kept(new) == new


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [("12 ms", "1.2 s", True), ("well", "ill", False), ("print(health)", "print(wealth)", False)],
    ids=["figure", "output", "code"],
)
def test_only_figures_may_differ(old: str, new: str, same: bool) -> None:
    """Another time is the same run; another word, shown or written, is not."""
    other = json.loads(json.dumps(OLD).replace(old, new))
    assert (notebooks.without_figures(OLD) == notebooks.without_figures(other)) is same


def test_a_notebook_is_kept_as_the_tool_writes_it(book: dict[str, object]) -> None:
    """Nobody edited what a cell shows, or ran the notebook elsewhere and kept that."""
    assert notebooks.kept(book) == book


def test_code_fits_and_compiles(book: dict[str, object]) -> None:
    """Code is Python of at most 80 columns."""
    code = [notebooks.source(cell) for cell in notebooks.cells(book) if cell["cell_type"] == "code"]
    for each in code:
        ast.parse(each)
    assert [line for each in code for line in each.splitlines() if len(line) > 80] == []


def test_things_show_themselves(book: dict[str, object]) -> None:
    """Attempts, members, costs and models are there as tables, and none says that something went wrong."""
    shown = [each for cell in notebooks.cells(book) for each in notebooks.shown(cell)]
    tables = "".join(text for kind, text in shown if kind == "text/html")
    assert [
        word for word in ("models</caption>", "what happened", "first token", "answer tokens") if word not in tables
    ] == []
    assert not any("Traceback" in text or "Error" in text for _, text in shown)
