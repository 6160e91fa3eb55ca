"""Hold the Python code on pages to a width that every reader's window has.

``python tools/code_width.py`` formats it with ruff; ``--check`` changes nothing, and fails where it would, or where a
comment or a string is too long, which no formatter breaks.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 80
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def formatted(codes: Sequence[str]) -> list[str]:
    r"""Return pieces of code as ruff formats them.

    >>> formatted(["a = [1,2]\n", "b=1\n"])
    ['a = [1, 2]\n', 'b = 1\n']
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"block{number}.py") for number in range(len(codes))]
        for file, code in zip(files, codes, strict=True):
            file.write_text(code, "utf-8")
        command = [sys.executable, "-m", "ruff", "format", "--quiet", "--isolated", f"--line-length={WIDTH}", folder]
        subprocess.run(command, check=True)
        return [file.read_text("utf-8") for file in files]


def renewed(page: str) -> str:
    r"""Return a page with its Python code formatted.

    >>> renewed("Text.\n\n```python\na = [1,2]\n```\n")
    'Text.\n\n```python\na = [1, 2]\n```\n'
    """
    blocks = iter(formatted([match["code"] for match in BLOCK.finditer(page)]))
    return BLOCK.sub(lambda match: f"```python\n{next(blocks)}```", page)


def too_long(page: str) -> Iterator[str]:
    r"""Yield the lines of a page's Python code that are too long.

    >>> list(too_long("```python\n# " + "x" * 80 + "\n```\n")) == ["# " + "x" * 80]
    True
    """
    for match in BLOCK.finditer(page):
        yield from (line for line in match["code"].splitlines() if len(line) > WIDTH and "base64" not in line)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check, problems = parser.parse_args().check, []
    pages = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    for page in pages:
        text = page.read_text("utf-8")
        new = renewed(text)
        name = page.relative_to(ROOT)
        if new != text and check:
            problems.append(f"{name}: its Python code is not formatted: run python tools/code_width.py")
        elif new != text:
            page.write_text(new, "utf-8")
        problems += [f"{name}: more than {WIDTH} characters: {line.strip()}" for line in too_long(new)]
    print(
        "\n".join(problems) or f"code: {len(pages)} pages, whose Python code has at most {WIDTH} characters in a line"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
