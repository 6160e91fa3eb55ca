"""The README as an index page shows it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import index_readme
import pytest

ROOT = Path(__file__).resolve().parents[2]
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]


def shown() -> str:
    """What the hook makes of it."""
    metadata = {"version": "1.2.3", "urls": URLS}
    index_readme.IndexReadme(str(ROOT), {}).update(metadata)
    assert metadata["readme"]["content-type"] == "text/markdown"
    text: str = metadata["readme"]["text"]
    return text


def test_every_link_leads_somewhere_from_an_index_page() -> None:
    """Rendered as an index does: each link is absolute, or to a heading of the page; to a file that is there."""
    markdown = pytest.importorskip("readme_renderer.markdown", reason="comes with the developers' environment")
    page = markdown.render(shown())
    assert page is not None
    targets = re.findall(r"(?:href|src)=\"([^\"]*)\"", page)
    assert [target for target in targets if not re.match(r"https://|#", target)] == []
    inside = [target for target in targets if target.startswith(URLS["Repository"])]
    assert len(inside) >= 20
    for target in inside:
        place = target.removeprefix(URLS["Repository"]).partition("#")[0]
        assert (ROOT / re.sub(r"^/(?:blob|raw)/v1\.2\.3/", "", place)).exists(), target


def test_code_stays_as_it_is() -> None:
    """A block of code is the same on both pages."""
    fenced = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
    assert fenced.findall(shown()) == fenced.findall((ROOT / "README.md").read_text())


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[`a`](b.md)", "[`a`](H/blob/v1/b.md)"),
        ('[a](b.md "c")', '[a](H/blob/v1/b.md "c")'),
        ("[![a](b.svg)](c.md)", "[![a](H/raw/v1/b.svg)](H/blob/v1/c.md)"),
        ("[a](mailto:b@c)", "[a](mailto:b@c)"),
        ("```\n[a](b.md)\n```", "```\n[a](b.md)\n```"),
    ],
)
def test_links_of_each_form(written: str, shown: str) -> None:
    """With code or a picture for words, with a title, to elsewhere, and in code."""
    assert index_readme.absolute(written, "H", "1") == shown
