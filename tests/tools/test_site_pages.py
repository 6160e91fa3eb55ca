"""The site: where links out of docs/ lead, and how docstrings become Markdown."""

from __future__ import annotations

import pytest

pytest.importorskip("mkdocs", reason="no mkdocs: the extra `dev` brings it")
pytest.importorskip("griffe", reason="no griffe: the extra `dev` brings it")

from reference_docstrings import markdown
from site_pages import ROOT, extra_pages, homes, relinked


def test_every_example_is_a_page() -> None:
    """Each example stands on a page of its own, whole."""
    pages = extra_pages()
    for example in ROOT.glob("examples/*.py"):
        assert example.read_text("utf-8") in pages[f"examples/{example.stem}.md"]


def test_every_home_exists() -> None:
    """A file that a link may lead to has a page, made or in docs/."""
    assert {home for home in homes().values() if not (ROOT / "docs" / home).exists()} <= set(extra_pages())


@pytest.mark.parametrize(
    ("link", "place", "led"),
    [
        ("[r](../README.md)", "rag.md", "[r](index.md)"),
        ("[r](../README.md#use-it)", "rag.md", "[r](index.md#use-it)"),
        ("[r](../../CHANGELOG.md)", "decisions/1.md", "[r](../changelog.md)"),
        ("[r](../../Makefile)", "decisions/1.md", "r"),
        ("[r](../rag.md#top)", "decisions/1.md", "[r](../rag.md#top)"),
        ("[r](rag.md)", "index.md", "[r](rag.md)"),
    ],
)
def test_links_out_of_the_documentation(link: str, place: str, led: str) -> None:
    """A link leads to the page of what it points to; to what has none it becomes its words."""
    assert relinked(link, place, homes()) == led


def test_an_indented_example_keeps_its_place() -> None:
    """An example inside a section of a docstring is fenced where it stands, and ends at the empty line."""
    assert markdown("Args:\n    x: One.\n\n    >>> f(1)\n    2\n\nEnd of :func:`f`.") == (
        "Args:\n    x: One.\n\n    ```pycon\n    >>> f(1)\n    2\n    ```\n\nEnd of `f`."
    )
