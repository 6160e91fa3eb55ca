"""The table in docs/models.md is the bundled catalogue's own."""

from __future__ import annotations

import models_table

from chutes_core import Catalog


def test_page_says_what_the_catalogue_does() -> None:
    """The page in the tree has the table and the date of today."""
    page = models_table.PAGE.read_text("utf-8")
    assert models_table.renewed(page) == page
    assert Catalog.bundled().snapshot_date in page


def test_every_model_has_a_row() -> None:
    """No model is left out."""
    names = [row.split("`")[1] for row in list(models_table.rows(Catalog.bundled()))[2:]]
    assert sorted(names) == sorted(info.id for info in Catalog.bundled())


def test_an_old_page_is_renewed() -> None:
    """Its date and its table, and nothing else."""
    page = "Of the snapshot of 2020-01-01 here.\n\n<!-- models -->\n\n| old |\n\nMore.\n"
    renewed = models_table.renewed(page)
    assert "2020" not in renewed
    assert "| old |" not in renewed
    assert renewed.endswith("\n\nMore.\n")
