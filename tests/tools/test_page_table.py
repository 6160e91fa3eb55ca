"""A table that is made from the code takes the place of the old one, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_table import replaced, run

PAGE = "# A page\n\n<!-- things -->\n\n| old |\n\n| another table |\n"
TODAY = PAGE.replace("| old |", "| new |")


def test_only_the_announced_table_is_replaced() -> None:
    """What stands around it stays, and writing twice changes nothing."""
    assert replaced(PAGE, "things", ["| new |"]) == TODAY
    assert replaced(TODAY, "things", ["| new |"]) == TODAY


def test_a_page_without_a_place_for_it_is_an_error() -> None:
    """A marker that is gone is not passed over."""
    with pytest.raises(ValueError, match="<!-- things --> with an empty line below it, and has 0"):
        replaced("# A page\n", "things", [])


def test_a_page_is_checked_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check changes nothing, and fails until the page was written."""
    place = tmp_path / "page.md"
    place.write_text(PAGE)

    def ran(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["tool", *words])
        status = run(
            place, lambda page: replaced(page, "things", ["| new |"]), about=None, old="is old", current="1 thing"
        )
        return status, capsys.readouterr().out

    assert ran("--check") == (1, "page.md is old\n")
    assert place.read_text() == PAGE
    assert ran() == (0, "page.md: 1 thing\n")
    assert place.read_text() == TODAY
    assert ran("--check") == (0, "page.md: 1 thing\n")
