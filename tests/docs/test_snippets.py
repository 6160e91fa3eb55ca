"""Every Python block in the documentation compiles; one announced by `<!-- runs -->` is also executed."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import pytest
from llama_index.core.instrumentation import get_dispatcher

import langchain_chutes

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"(?P<runs>^<!-- runs -->[ \t]*\n\s*)?^```python[^\n]*\n(?P<code>.*?)^```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Snippet:
    """One fenced block and where it stands."""

    place: str
    code: str
    runs: bool

    def compiled(self) -> CodeType:
        """Compile the block; `await` at the top level is allowed, as in a notebook."""
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        return compile(self.code, self.place, "exec", flags, dont_inherit=True)  # nothing from the __future__ of ours

    def execute(self) -> None:
        """Run the block in a namespace of its own."""
        code = self.compiled()
        namespace: dict[str, object] = {"__name__": "__snippet__"}
        outcome = eval(code, namespace)  # noqa: S307  # our own documentation
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(outcome)


def snippets_in(text: str, name: str) -> Iterator[Snippet]:
    """Yield the Python blocks of one Markdown text."""
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        yield Snippet(f"{name}:{line}", match["code"], match["runs"] is not None)


def documented() -> list[Snippet]:
    """Return the blocks of the README and of every page in docs/."""
    pages = [*ROOT.glob("README.md"), *sorted(ROOT.glob("docs/**/*.md"))]
    return [snippet for page in pages for snippet in snippets_in(page.read_text(), str(page.relative_to(ROOT)))]


SNIPPETS = [pytest.param(snippet, id=snippet.place) for snippet in documented()]
RUNNABLE = [pytest.param(snippet, id=snippet.place) for snippet in documented() if snippet.runs]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippet_compiles(snippet: Snippet) -> None:
    """A reader who copies the block gets no SyntaxError."""
    snippet.compiled()


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning")  # the frameworks' own
@pytest.mark.parametrize("snippet", RUNNABLE)
def test_snippet_runs(snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that says it runs does, without a key, a network or files lying about."""
    monkeypatch.chdir(tmp_path)
    told, listening = get_dispatcher(), [*get_dispatcher().event_handlers]
    try:
        snippet.execute()
    finally:  # what a block may have registered is the reader's, and not that of other tests
        langchain_chutes.unregister()
        told.event_handlers = listening


SAMPLE = """\
Text.

```python
plain = 1
```

<!-- runs -->

```python
import asyncio
await asyncio.sleep(0)
raise LookupError("executed")
```

```console
$ not python
```
"""


def test_finder_tells_marked_blocks_from_plain_ones() -> None:
    """The finder takes Python blocks only and sees which of them are marked."""
    found = list(snippets_in(SAMPLE, "page.md"))
    assert [(snippet.place, snippet.runs) for snippet in found] == [
        ("page.md:4", False),
        ("page.md:10", True),
    ]


def test_marked_block_is_really_executed() -> None:
    """A marked block that fails fails the test, also when it awaits."""
    _, marked = snippets_in(SAMPLE, "page.md")
    with pytest.raises(LookupError, match="executed"):
        marked.execute()
