"""Lead the links of the documentation that leave docs/ to where they point, on the site.

Named in mkdocs.yml as a hook. On a code host `../examples/rag.py` is a file beside docs/; a site has no such place. So
the examples, the changelog and the page for contributors become pages of the site, and a link to anything else of the
repository becomes its words.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[(?P<words>[^\]]*)\]\((?P<target>\.\./[^)\s#]*)(?P<anchor>#[^)\s]*)?\)")


def extra_pages(root: Path = ROOT) -> dict[str, str]:
    """Return the pages made of files beside docs/: the place of each, as seen from docs/, and its Markdown.

    >>> pages = extra_pages()
    >>> pages["examples/langchain_rag.md"].splitlines()[0], "changelog.md" in pages
    ('# langchain_rag.py', True)
    """
    pages = {f"{name.lower()}.md": (root / f"{name}.md").read_text("utf-8") for name in ("CHANGELOG", "CONTRIBUTING")}
    for example in sorted((root / "examples").glob("*.py")):
        code = example.read_text("utf-8")
        pages[f"examples/{example.stem}.md"] = f"# {example.name}\n\n````python\n{code}````\n"
    return pages


def homes(root: Path = ROOT) -> dict[str, str]:
    """Return where files of the repository are found on the site."""
    named = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}
    examples = {f"examples/{example.name}": f"examples/{example.stem}.md" for example in root.glob("examples/*.py")}
    return named | examples


def relinked(markdown: str, place: str, homes: Mapping[str, str]) -> str:
    """Return a page with its links out of docs/ led to pages of the site, or taken away.

    >>> relinked("[a](../examples/a.py), [b](../packaging), [c](../rag.md)", "x/y.md", {})
    '[a](../examples/a.py), [b](../packaging), [c](../rag.md)'
    >>> relinked("[a](../examples/a.py), [b](../packaging)", "y.md", {"examples/a.py": "examples/a.md"})
    '[a](examples/a.md), b'
    """
    folder = posixpath.dirname(posixpath.join("docs", place))

    def led(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match["target"]))
        if target.startswith("docs/"):
            return match[0]
        if target not in homes:
            return match["words"]
        there = posixpath.relpath(posixpath.join("docs", homes[target]), folder)
        return f"[{match['words']}]({there}{match['anchor'] or ''})"

    return LINK.sub(led, markdown)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of files beside docs/."""
    for place, text in extra_pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of a page; a link of the generated pages leads from where their file stands."""
    return relinked(markdown, page.file.src_uri, homes())
