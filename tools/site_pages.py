"""Lead the links of the documentation that leave docs/ to where they point, on the site.

Named in mkdocs.yml as a hook. On a code host `../examples/rag.py` is a file beside docs/; a site has no such place. So
the examples, the changelog and the page for contributors become pages of the site, and a link to anything else of the
repository becomes its words. Notebooks become pages too, with what they show. Beside the pages go llms.txt, which lists
them for language models, and llms-full.txt, which has them whole.
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import notebooks  # noqa: E402

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
    for file in sorted((root / "docs/notebooks").glob("*.ipynb")):
        pages[f"notebooks/{file.stem}.md"] = notebook_page(json.loads(file.read_text("utf-8")), file.name)
    return pages


def notebook_page(notebook: notebooks.Notebook, name: str) -> str:
    r"""Return a notebook as a page: its texts, its code, and what each cell shows.

    >>> cell = {"cell_type": "code", "source": "1 + 1", "outputs": [{"data": {"text/plain": "2"}}]}
    >>> print(notebook_page({"cells": [cell]}, "sums.ipynb"))
    ```python
    1 + 1
    ```
    <BLANKLINE>
    ```text
    2
    ```
    <BLANKLINE>
    This page is [a notebook](sums.ipynb): download it, and run it.
    <BLANKLINE>
    """
    parts = []
    for cell in notebooks.cells(notebook):
        text = notebooks.source(cell)
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
        shown = notebooks.shown(cell)
        parts += [out if kind == "text/html" else f"```text\n{out.rstrip()}\n```" for kind, out in shown]
    return "\n\n".join([*parts, f"This page is [a notebook]({name}): download it, and run it.\n"])


def homes(root: Path = ROOT) -> dict[str, str]:
    """Return where files of the repository are found on the site."""
    named = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}
    examples = {f"examples/{example.name}": f"examples/{example.stem}.md" for example in root.glob("examples/*.py")}
    books = {f"docs/notebooks/{file.name}": f"notebooks/{file.stem}.md" for file in root.glob("docs/notebooks/*.ipynb")}
    return named | examples | books


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
        if target not in homes:
            return match[0] if target.startswith("docs/") else match["words"]
        there = posixpath.relpath(posixpath.join("docs", homes[target]), folder)
        return f"[{match['words']}]({there}{match['anchor'] or ''})"

    return LINK.sub(led, markdown)


def first_sentence(markdown: str) -> str:
    r"""Return what a page begins with: the first sentence of its first paragraph, without links.

    >>> first_sentence("# Title\n\n> Quoted.\n\nA [page](x.md) about `it`. More.\n")
    'A page about `it`.'
    """
    paragraphs = (" ".join(each.split()) for each in re.split(r"\n\s*\n", markdown))
    text = next((each for each in paragraphs if re.match(r"[A-Za-z`*\[]", each)), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.split(r"(?<=[.!?])\s", plain, maxsplit=1)[0]


def for_models(pages: Mapping[str, tuple[str, str]], name: str, about: str) -> tuple[str, str]:
    r"""Return llms.txt and llms-full.txt of pages: by address, the title and the Markdown of each.

    >>> brief, whole = for_models({"https://a.test/": ("Home", "# Home\n\nIt works. Well.")}, "a", "About a.")
    >>> print(brief)
    # a
    <BLANKLINE>
    > About a.
    <BLANKLINE>
    - [Home](https://a.test/): It works.
    <BLANKLINE>
    """
    lines = [f"- [{title}]({url}): {first_sentence(text)}" for url, (title, text) in pages.items()]
    head = f"# {name}\n\n> {about}\n\n"
    whole = "\n\n".join(f"<!-- {url} -->\n\n{text.strip()}" for url, (_, text) in pages.items())
    return head + "\n".join(lines) + "\n", f"{head}{whole}\n"


_TOLD: dict[str, tuple[str, str]] = {}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Say in the footer which version the site is of."""
    _TOLD.clear()
    config.copyright = f"chutes-connect {version('chutes-connect')}, under the Apache License 2.0"
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of files beside docs/."""
    for place, text in extra_pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of a page; a link of the generated pages leads from where their file stands."""
    led = relinked(markdown, page.file.src_uri, homes())
    if page.file.src_uri.partition("/")[0] not in ("decisions", "reference"):
        _TOLD[page.canonical_url or page.url] = (str(page.title), led)
    return led


def on_post_build(config: MkDocsConfig) -> None:
    """Write the pages for language models."""
    brief, whole = for_models(_TOLD, config.site_name, config.site_description or "")
    Path(config.site_dir, "llms.txt").write_text(brief, "utf-8")
    Path(config.site_dir, "llms-full.txt").write_text(whole, "utf-8")
