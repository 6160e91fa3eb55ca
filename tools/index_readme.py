"""Give the distribution a README whose links lead somewhere from an index page too.

Named in pyproject.toml as a hook of the build. On a code host `docs/errors.md` is a file beside the README; an index
page has no such place. So every relative link becomes an absolute one to the tag of the version that is built.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# A fenced block is matched first, so that what it holds stays as it is.
LINK = re.compile(
    r"^```.*?^```|(?P<image>!?)\[(?P<words>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)(?P<title>\s+\"[^\"]*\")?\)",
    re.MULTILINE | re.DOTALL,
)


def absolute(markdown: str, repository: str, version: str) -> str:
    """Return Markdown whose links to files of the repository lead to a code host: to a page, or to a picture itself.

    >>> absolute("[a](docs/a.md#b), ![c](docs/c.svg), [d](#d), [e](https://e.example)", "https://host/x", "1.2.3")
    '[a](https://host/x/blob/v1.2.3/docs/a.md#b), ![c](https://host/x/raw/v1.2.3/docs/c.svg), [d](#d), [e](https://e.example)'
    """

    def led(match: re.Match[str]) -> str:
        target = match["target"]
        if target is None or target.startswith("#") or re.match(r"[a-z]+:", target):
            return match[0]
        words = absolute(match["words"], repository, version)
        place = f"{repository}/{'raw' if match['image'] else 'blob'}/v{version}/{target}"
        return f"{match['image']}[{words}]({place}{match['title'] or ''})"

    return LINK.sub(led, markdown)


class IndexReadme(MetadataHookInterface):
    """What hatchling asks for the project's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the README."""
        text = Path(self.root, "README.md").read_text("utf-8")
        page = absolute(text, metadata["urls"]["Repository"], metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": page}
