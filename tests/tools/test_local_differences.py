"""The table of differences in docs/local.md is the list that the tests use."""

from __future__ import annotations

import local_differences
import pytest


def test_page_says_what_the_list_has() -> None:
    """The page in the tree has the table of today."""
    page = local_differences.PAGE.read_text("utf-8")
    assert local_differences.renewed(page) == page


def test_a_page_without_a_place_for_it_is_an_error() -> None:
    """A marker that is gone is not passed over."""
    with pytest.raises(ValueError, match="and has 0"):
        local_differences.renewed("# A page\n")
