"""A list of models is a list, and a table."""

from __future__ import annotations

import pickle

from chutes_core import Catalog
from chutes_core.catalog.listing import Models, listed


def test_what_is_selected_is_a_list_and_shows_itself() -> None:
    """Slices too; and it can be kept like any list."""
    models = Catalog.bundled().select(order_by="price")
    assert isinstance(models, list)
    assert isinstance(models[:2], Models)
    assert len(models[:2]) == 2
    assert models[0].id in models[:1].as_text()
    assert pickle.loads(pickle.dumps(models)) == models


def test_letters_take_less_room() -> None:
    """For a narrow terminal."""
    models = Catalog.bundled().select(features="tools", limit=1)
    assert [row[6].text for row in listed(models, letters=True).rows] != [row[6].text for row in listed(models).rows]
