"""What a name stands for, by Python's rules of scope."""

from __future__ import annotations

import ast

import pytest

from chutes_cli.scopes import Scopes


def binders(source: str) -> list[list[str]]:
    """The kinds of places that bind each ``X`` that is read, in the order of the text."""
    tree = ast.parse(source)
    scopes = Scopes(tree)
    read = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == "X" and isinstance(node.ctx, ast.Load)
    ]
    read.sort(key=lambda node: (node.lineno, node.col_offset))
    return [sorted(type(each).__name__ for each in scopes.binders(node)) for node in read]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import X\nX", [["alias"]]),
        ("import X.y\nX", [["alias"]]),
        ("import X as y\nX", [[]]),
        ("from a import b as X\ndef f(): return X", [["alias"]]),
        ("import X\ndef f(X): return X\nX", [["arg"], ["alias"]]),
        ("import X\ndef f(a: X = X, *, b=X) -> X: X = 1", [["alias"]] * 4),
        ("import X\nlambda X: X", [["arg"]]),
        ("import X\nlambda a=X: X", [["alias"]] * 2),
        ("import X\nclass A(X):\n  X = X\n  def f(self): return X", [["alias"], ["Name"], ["alias"]]),
        ("import X\n@X\nclass X: pass\nX", [["ClassDef", "alias"]] * 2),
        ("import X\n[X for X in a]\n{X: 1 for a in b}", [["Name"], ["alias"]]),
        ("def f():\n  [X := a for a in b]\n  return X", [["Name"]]),
        ("import X\ndef f():\n  global X\n  X = 1\nX", [["Name", "alias"]]),
        ("def f():\n  X = 1\n  def g():\n    nonlocal X\n    X = 2\n  return X", [["Name", "Name"]]),
        ("import X\ntry: a\nexcept E as X: X", [["ExceptHandler", "alias"]]),
        ("match a:\n  case [*X]: X\n  case {**X}: X\n  case X: X", [["MatchAs", "MatchMapping", "MatchStar"]] * 3),
        ("with a as X: X\nfor X in a: X\ndel X", [["Name", "Name", "Name"]] * 2),
    ],
)
def test_binders(source: str, found: list[list[str]]) -> None:
    """Of a module, functions, classes, comprehensions and patterns."""
    assert binders(source) == found


def test_everywhere() -> None:
    """All that bind a name in a file, and which are attributes of a class."""
    tree = ast.parse("import X\nclass A:\n  X = 1\ndef f(X): pass")
    scopes = Scopes(tree)
    places = scopes.all_binders("X")
    assert sorted(type(each).__name__ for each in places) == ["Name", "alias", "arg"]
    assert [type(each).__name__ for each in places if scopes.is_of_a_class(each)] == ["Name"]
    assert scopes.all_binders("Y") == ()


def test_no_depth_is_too_much() -> None:
    """A long sum is nested deeper than functions may call one another."""
    assert binders("X = 1\na = " + " + ".join(["X"] * 900)) == [["Name"]] * 900
