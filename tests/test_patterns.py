"""No regular expression can be made to look at the same text again and again.

Two unbounded repeats in a row that may match the same character, or one inside of the other, try every way to share a
text between them where the rest does not match: a few thousand characters that a model wrote then take minutes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

parser = re._parser  # type: ignore[attr-defined]
REPEATS = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})
PACKAGES = ("chutes_core", "chutes_cli", "langchain_chutes", "llama_index_chutes", "chutes_local")
# What whoever runs the program writes himself: options of the command line, a list of faults.
OWN_WORDS = ("chutes_cli/demands.py", "chutes_local/faults/plan.py")
ANY = frozenset(map(chr, range(128))) | {"é"}


def patterns() -> Iterator[tuple[str, str]]:
    """Every pattern in the code, with its place."""
    root = Path(__file__).parents[1]
    for file in sorted(each for package in PACKAGES for each in (root / package).rglob("*.py")):
        place = str(file.relative_to(root))
        for node in ast.walk(ast.parse(file.read_text())) if place not in OWN_WORDS else ():
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
            if is_call and isinstance(node.func.value, ast.Name) and node.func.value.id == "re":
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield f"{place}:{node.lineno}", first.value


class FoundError(Exception):
    """A pattern that goes back."""


def fault(pattern: str) -> str | None:
    """What is wrong with a pattern; None if nothing is."""
    try:
        _walk(parser.parse(pattern), frozenset(), inside=False)
    except FoundError as found:
        return str(found)
    return None


def _walk(items: Any, before: frozenset[str], *, inside: bool) -> frozenset[str]:
    """Go through a sequence; ``before`` is what the repeats before may match, with nothing certain behind them."""
    for code, argument in items:
        name = str(code)
        if name in REPEATS:
            least, most, repeated = argument
            unbounded = most == parser.MAXREPEAT
            if unbounded and inside:
                raise FoundError("a repeat inside of a repeat")
            after = _walk(repeated, before, inside=inside or unbounded)
            if unbounded:
                chars = _chars(repeated)
                if before & chars:
                    raise FoundError("two repeats in a row")
                after |= chars
            before = after | before if least == 0 else after
        elif name == "BRANCH":
            before = frozenset().union(*(_walk(each, before, inside=inside) for each in argument[1]))
        elif name in ("SUBPATTERN", "ATOMIC_GROUP"):
            before = _walk(argument[-1] if name == "SUBPATTERN" else argument, before, inside=inside)
        elif name.startswith("ASSERT"):
            _walk(argument[1], before, inside=inside)
        elif name != "AT":
            before = frozenset()
    return before


def _chars(items: Any) -> frozenset[str]:
    """The characters that a sequence may match, in any place of it."""
    return frozenset().union(*(_of(str(code), argument) for code, argument in items))


def _of(name: str, argument: Any) -> frozenset[str]:
    if name == "LITERAL":
        return frozenset({chr(argument)})
    if name == "NOT_LITERAL":
        return ANY - {chr(argument)}
    if name == "IN":
        found = _chars([each for each in argument if str(each[0]) != "NEGATE"])
        return ANY - found if str(argument[0][0]) == "NEGATE" else found
    if name == "RANGE":
        return frozenset(map(chr, range(argument[0], min(argument[1], 127) + 1)))
    if name == "CATEGORY":
        sign = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}[str(argument).rpartition("_")[2]]
        found = frozenset(each for each in ANY if re.match(sign, each))
        return ANY - found if "NOT" in str(argument) else found
    if name in REPEATS:
        return _chars(argument[2])
    if name == "BRANCH":
        return frozenset().union(*map(_chars, argument[1]))
    if name == "SUBPATTERN":
        return _chars(argument[-1])
    return frozenset() if name == "AT" else ANY


@pytest.mark.parametrize(
    "pattern",
    [
        r"```(?:json|JSON)?\s*(.*?)\s*```",
        r"```[a-zA-Z]*\s*\n(.*?)\n?\s*```",
        r"(a+)+b",
        r"(a|b*)*c",
        r"\s*x?\s*$",
        r"\w+\d*z",
        r".*.*=",
        r"(?:[^\"\\]|\\.+)*x",
    ],
)
def test_a_pattern_that_goes_back_is_found(pattern: str) -> None:
    """Those that were here, and the ones in the books."""
    assert fault(pattern) is not None


@pytest.mark.parametrize("pattern", [r"[a-z]+=[^;]*;", r"\s*\S+", r"(?:a|b){3}\d+", r'["\\]', r"a*?b[0-9]+\s*c"])
def test_a_pattern_that_does_not_is_let_through(pattern: str) -> None:
    """Repeats with something certain between them, or of other characters."""
    assert fault(pattern) is None


def test_there_is_none_here() -> None:
    """In all four packages, but for what the user writes himself."""
    found = list(patterns())
    assert len(found) > 15
    assert {place: (pattern, why) for place, pattern in found if (why := fault(pattern))} == {}
