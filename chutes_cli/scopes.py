"""What each name of a Python file stands for: the places that bind it, by Python's rules of scope. Pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["Scopes"]

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(eq=False, slots=True)
class _Scope:
    outer: _Scope | None
    node: ast.AST
    bound: dict[str, list[ast.AST]] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)  # what is declared global or nonlocal


class Scopes:
    r"""The scopes of a file.

    Args:
        tree: The file.

    >>> tree = ast.parse("import a\ndef f(b): return a, b")
    >>> names = {node.id: node for node in ast.walk(tree) if isinstance(node, ast.Name)}
    >>> [type(binder).__name__ for name in "ab" for binder in Scopes(tree).binders(names[name])]
    ['alias', 'arg']
    """

    def __init__(self, tree: ast.Module) -> None:
        self._root = _Scope(None, tree)
        self._of: dict[ast.AST, _Scope] = {}
        self._all: dict[str, list[ast.AST]] = {}
        todo: list[tuple[ast.AST, _Scope]] = [(each, self._root) for each in tree.body]
        found: list[tuple[str, ast.AST, _Scope]] = []
        while todo:  # not by recursion: an expression may be nested deeper than Python's stack is
            node, scope = todo.pop()
            self._of[node] = scope
            if isinstance(node, ast.Global | ast.Nonlocal):
                scope.elsewhere.update(node.names)
            found += [(name, node, scope) for name in _bound_by(node)]
            opens = isinstance(node, _Function | ast.ClassDef | _Comprehension)
            inner, outside = _Scope(scope, node) if opens else scope, set(_outside(node))
            todo += [(each, inner.outer or inner if each in outside else inner) for each in ast.iter_child_nodes(node)]
        for name, node, scope in found:
            self._home(name, node, scope).bound.setdefault(name, []).append(node)
            self._all.setdefault(name, []).append(node)

    def _home(self, name: str, node: ast.AST, scope: _Scope) -> _Scope:
        while scope.outer is not None and (
            name in scope.elsewhere
            or (isinstance(scope.node, _Comprehension) and name not in _targets(scope.node))  # of :=
        ):
            scope = scope.outer
        return scope

    def all_binders(self, name: str) -> Sequence[ast.AST]:
        """Return the places that bind a name anywhere in the file."""
        return self._all.get(name, ())

    def binders(self, node: ast.Name) -> Sequence[ast.AST]:
        """Return the places that bind what a name stands for; none if that is not in the file."""
        at: _Scope | None = self._of[node]
        begin = at
        while at is not None:
            skipped = at is not begin and isinstance(at.node, ast.ClassDef)
            if node.id in at.bound and node.id not in at.elsewhere and not skipped:
                return at.bound[node.id]
            at = at.outer
        return ()

    def is_of_a_class(self, node: ast.AST) -> bool:
        """Return whether something stands in the body of a class, so that its name is an attribute too."""
        return isinstance(self._of[node].node, ast.ClassDef)


def _bound_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        if not isinstance(node.ctx, ast.Load):
            yield node.id
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).partition(".")[0]
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.MatchMapping):
        yield from filter(None, [node.rest])
    elif isinstance(node, _NAMED):
        yield from filter(None, [node.name])


def _outside(node: ast.AST) -> Iterator[ast.AST | None]:
    """What of a function or a class is evaluated in the scope around it."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from (*node.decorator_list, node.returns)
    elif isinstance(node, ast.ClassDef):
        yield from (*node.decorator_list, *node.bases, *node.keywords)
    elif isinstance(node, ast.arguments):
        yield from (*node.defaults, *node.kw_defaults)
    elif isinstance(node, ast.arg):
        yield node.annotation


def _targets(node: _Comprehension) -> set[str]:
    parts = [part for each in node.generators for part in ast.walk(each.target)]
    return {part.id for part in parts if isinstance(part, ast.Name)}
