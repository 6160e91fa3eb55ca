"""The link check follows files and headings, and leaves the web alone."""

from __future__ import annotations

from pathlib import Path

import check_links
import pytest

PAGE = """\
# Start here
[there](other.md) [heading](other.md#two-words) [self](#start-here) [web](https://example.com/x#y)
[gone](missing.md) [no heading](other.md#missing) [nor here](#elsewhere)

```markdown
[in a fence](missing-too.md)
```
"""


def test_only_dead_relative_links_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file and a missing heading are dead; the web and fenced examples are not looked at."""
    monkeypatch.setattr(check_links, "ROOT", tmp_path)
    (tmp_path / "other.md").write_text("## Two words\n")
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert list(check_links.broken(page)) == [
        "page.md: missing.md does not exist",
        "page.md: other.md#missing has no such heading",
        "page.md: #elsewhere has no such heading",
    ]
