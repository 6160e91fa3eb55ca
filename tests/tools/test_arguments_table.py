"""The tables of arguments in docs/migrating.md are the code's."""

from __future__ import annotations

import re

import arguments_table
import pytest


def test_page_says_what_the_code_reads() -> None:
    """The page in the tree has the tables of today, and nothing is refused without a word of what to do."""
    page = arguments_table.PAGE.read_text("utf-8")
    assert arguments_table.renewed(page) == page
    counted = re.findall(r"\| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert len(counted) == 9
    assert {row[3] for row in counted} == {"0"}


def test_an_argument_without_a_row_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is neither taken nor in the table is refused without what to do."""
    monkeypatch.setattr(arguments_table, "names", lambda row: ["model", "new_argument"])
    assert all(row.endswith("| 1 | 0 | 0 | 1 |") for row in [*arguments_table.counts()][2:8])
