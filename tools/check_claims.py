"""See that every claim of docs/security.md names a test that exists.

A claim is a row of a table whose last column is "Held by"; a test is named as `tests/core/test_auth.py::test_a_thing`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/security.md"
TEST = re.compile(r"`(?P<file>tests/[\w/]+\.py)::(?P<name>test_\w+)`")


def claims(page: str) -> Iterator[tuple[str, str]]:
    r"""Yield each claim, and what is said to hold it.

    >>> list(claims("| Claim | Held by |\n| --- | --- |\n| It is so | `x` |\n\n| What |\n| --- |\n| a |\n"))
    [('It is so', '`x`')]
    """
    held = False
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if held and cells and set(cells[0]) != {"-"}:
            yield cells[0], cells[-1]
        held = bool(cells) and (held or cells[-1] == "Held by")


@cache
def tests_in(file: Path) -> frozenset[str]:
    """Return the names of the tests that a file defines."""
    if not file.is_file():
        return frozenset()
    defined = ast.walk(ast.parse(file.read_text("utf-8")))
    return frozenset(each.name for each in defined if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))


def problems(page: str, root: Path = ROOT) -> Iterator[str]:
    """Yield every claim that no test holds, and every test that does not exist."""
    for claim, held_by in claims(page):
        named = list(TEST.finditer(held_by))
        if not named:
            yield f"no test holds {claim!r}"
        absent = [each[0] for each in named if each["name"] not in tests_in(root / each["file"])]
        yield from (f"{each} does not exist, and holds {claim!r}" for each in absent)


def main() -> int:
    page = PAGE.read_text("utf-8")
    found = list(problems(page))
    print("\n".join(f"claims: {each}" for each in found) or f"claims: {len(list(claims(page)))}, each with a test")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
