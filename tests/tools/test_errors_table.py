"""The table of failures in docs/errors.md is the code's own."""

from __future__ import annotations

import errors_table
import pytest

from chutes_core import Kind
from chutes_core.failures import reading as failures

PAGE = "# A page\n\n<!-- failures -->\n\n| old |\n\n| another table |\n"


def test_page_says_what_the_code_does() -> None:
    """The page in the tree has the table of today."""
    page = errors_table.PAGE.read_text("utf-8")
    assert errors_table.renewed(page) == page


def test_every_kind_has_a_row() -> None:
    """No kind of failure is left out, and none is there twice."""
    kinds = [row.split("`")[1] for row in list(errors_table.rows())[2:]]
    assert sorted(kinds) == sorted(Kind)


def test_rows_say_what_follows() -> None:
    """A row has the statuses, the exception, whom it concerns, where another try helps, the cause and the remedy."""
    (row,) = [row for row in errors_table.rows() if row.startswith("| `context_length`<br>")]
    names, follows, told = row.strip("| ").split(" | ")
    assert names == "`context_length`<br>`ContextLengthError`<br>400, 422"
    assert follows == "the request<br>elsewhere"
    assert told.startswith("Prompt and answer together do not fit the context window. Shorten the prompt")


def test_statuses_that_no_rule_names_are_what_the_code_takes_them_for() -> None:
    """The two kinds that stand for any other status are those that the core chooses."""
    assert failures.kind_of(599, "") is Kind.UPSTREAM
    assert failures.kind_of(418, "") is Kind.UNEXPECTED


def test_only_the_announced_table_is_rewritten() -> None:
    """What stands around the table stays, and writing twice changes nothing."""
    page = errors_table.renewed(PAGE)
    assert "| old |" not in page
    assert page.endswith("\n\n| another table |\n")
    assert errors_table.renewed(page) == page


def test_page_without_a_place_for_it_is_refused() -> None:
    """A page whose marker was lost is an error, not a page that is up to date."""
    with pytest.raises(ValueError, match="<!-- failures -->"):
        errors_table.renewed("# A page\n")
