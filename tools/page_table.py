"""A table in a page of the docs that is made from the code: put into its place, or checked to be of today."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["replaced", "run"]


def replaced(page: str, name: str, rows: Iterable[str]) -> str:
    """Return the page with these rows as the table below the line ``<!-- name -->``."""
    place = re.compile(rf"(?P<head><!-- {name} -->\n\n)(?:\|[^\n]*\n)*")
    table = "".join(f"{row}\n" for row in rows)
    new, count = place.subn(lambda match: match["head"] + table, page)
    if count != 1:
        raise ValueError(f"The page needs one line <!-- {name} --> with an empty line below it, and has {count}.")
    return new


def run(page: Path, renewed: Callable[[str], str], *, about: str | None, old: str, current: str) -> int:
    """Rewrite a page, or with ``--check`` fail if it is not of today.

    Args:
        page: The page.
        renewed: Returns its text with the table of today.
        about: What the tool says of itself.
        old: What is said after the name of a page that is not of today.
        current: What is said after that of one that is.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the page is not of today")
    check = parser.parse_args().check
    text = page.read_text("utf-8")
    new = renewed(text)
    if check and new != text:
        print(f"{page.name} {old}")
        return 1
    if not check:
        page.write_text(new, "utf-8")
    print(f"{page.name}: {current}")
    return 0
