"""The table of families in docs/catalog.md is what the recordings and the catalogue have."""

from __future__ import annotations

import engine_table

from tests.gateway.recordings import ENGINES


def test_page_says_what_is_recorded() -> None:
    """The page in the tree has the table of today."""
    page = engine_table.PAGE.read_text("utf-8")
    assert engine_table.renewed(page) == page


def test_each_stream_says_where_it_is_from() -> None:
    """A family without a recording is named as one, and each recording has its source and its date."""
    assert "| nemotron | 1 | only described | **none** |" in list(engine_table.rows())
    assert all(each.facts["source"] and each.facts["date"] for each in ENGINES)
    assert len({each.name for each in ENGINES}) == len(ENGINES)
