"""The table of accounts in docs/cost.md is what the commands say."""

from __future__ import annotations

import money_table
import pytest

from chutes_local.world.accounts import KINDS


def test_page_says_what_the_commands_say() -> None:
    """The page in the tree has the table of today, with every kind of account."""
    page = money_table.PAGE.read_text("utf-8")
    assert money_table.renewed(page) == page
    assert all(f"| {what}<br>" in page for what in KINDS.values())


def test_a_page_without_a_place_for_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A marker that is gone is not passed over."""
    monkeypatch.setattr(money_table, "rows", lambda server: iter(()))
    with pytest.raises(ValueError, match="and has 0"):
        money_table.renewed("# A page\n")
