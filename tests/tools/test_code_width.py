"""The Python code on pages fits every reader's window."""

from __future__ import annotations

import code_width
import pytest


def test_pages_are_formatted_and_fit() -> None:
    """README and the guides."""
    for page in [code_width.ROOT / "README.md", *code_width.ROOT.glob("docs/**/*.md")]:
        text = page.read_text("utf-8")
        assert list(code_width.too_long(text)) == [], page.name
    readme = (code_width.ROOT / "README.md").read_text("utf-8")
    assert code_width.renewed(readme) == readme


@pytest.mark.parametrize(
    ("page", "renewed"),
    [
        ("Text\n", "Text\n"),
        ("```python\na=1\n```\n\n```console\n$ a=1\n```\n", "```python\na = 1\n```\n\n```console\n$ a=1\n```\n"),
        ("```python\na = '1'\n```\n", '```python\na = "1"\n```\n'),
    ],
)
def test_only_python_is_formatted(page: str, renewed: str) -> None:
    """Commands and texts stay as they are."""
    assert code_width.renewed(page) == renewed
