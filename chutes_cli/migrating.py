"""A Python file of other packages' models, rewritten for the ones here: what ``chutes-connect migrate`` shows.

The file is read as a syntax tree and never run. What changes is edited in its own text, so comments and layout stay;
what cannot be decided from the text is left as it is, and said.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from chutes_cli.scopes import Scopes
from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.names import ModelRef
from chutes_core.errors import ConfigurationError
from chutes_core.peers import CALLS, FIELDS, PEERS, Peer
from chutes_core.settings import BASE_URL

__all__ = ["Migrated", "Note", "migrated"]

_MODULES = {  # where older code imports them from
    **{peer.module: peer.module for peer in PEERS},
    "langchain_community.chat_models": "langchain_openai",
    "langchain.chat_models": "langchain_openai",
    "langchain_community.chat_models.litellm": "langchain_litellm",
}
_METHODS = frozenset(
    ("invoke", "ainvoke", "stream", "astream", "batch", "abatch", "bind", "chat", "achat", "complete", "acomplete",
     "stream_chat", "astream_chat", "stream_complete", "astream_complete")
)  # fmt: skip
"""What a model is called with."""
_OF_TYPES = frozenset(("isinstance", "issubclass", "type", "cast", "TypeVar", "repr", "print"))
"""What takes a class and calls it with nothing."""
_BY_NAME = frozenset(("getattr", "setattr", "hasattr", "delattr", "object"))
"""What takes the name of a class; the last is `patch.object`."""
_ADDRESSES = frozenset(("base_url", "api_base", "openai_api_base"))
_FOREIGN_KEY = re.compile(r"(OPENAI|OPENROUTER|ANTHROPIC|LITELLM|AZURE)_?\w*KEY")
_UNKNOWN = object()


@dataclass(frozen=True, slots=True)
class Note:
    """What is left to do by hand, and in which line."""

    line: int
    text: str


@dataclass(slots=True)
class Migrated:
    """The new text of a file, and what is left to do in it."""

    text: str
    notes: list[Note] = field(default_factory=list)


class _Unusual(Exception):
    """A place of the syntax tree has another text than it should."""


_Located = ast.expr | ast.stmt | ast.keyword | ast.alias
_GAP = rb"(?:[ \t\f]|\\\r?\n|\\\r)*"  # within a line, which a backslash continues
_SPACE = rb"(?:\s|\\\r?\n|\\\r)*"


@dataclass(slots=True)
class _Edits:
    """Changes of a text, by the places of its syntax tree, which count bytes."""

    source: bytes
    starts: list[int] = field(init=False)
    made: list[tuple[int, int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.starts = [0]
        for line in self.source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def span(self, node: _Located) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def begins(self, node: _Located, text: str) -> tuple[int, int]:
        """Return where a word is with which something begins. Python 3.11 is wrong about some within an f-string."""
        start, _ = self.span(node)
        end = start + len(text.encode())
        if self.source[start:end] != text.encode():
            raise _Unusual(getattr(node, "lineno", 1))
        return start, end

    def replace(self, start: int, end: int, text: str) -> None:
        self.made.append((start, end, text.encode()))

    def line_of(self, start: int, end: int) -> tuple[int, int] | None:
        """Return the whole line, its end included, if nothing else is in it."""
        begin = max(self.source.rfind(b"\n", 0, start), self.source.rfind(b"\r", 0, start)) + 1
        rest = re.compile(rb"[ \t\f]*\\?(?:\r\n|\n|\r)").match(self.source, end)
        return (begin, rest.end()) if rest and not self.source[begin:start].strip() else None

    def remove_item(self, start: int, end: int) -> None:
        """Remove one of several items between commas; a comment beside it stays."""
        if after := re.compile(_SPACE + rb"," + _GAP).match(self.source, end):
            end = after.end()
            comma = self.source.index(b",", after.start()) + 1
            if line := self.line_of(start, comma):
                start, end = line  # the whole line was its
            elif self.source[end : end + 1] in (b"\r", b"\n"):
                start = max(self.source.rfind(b"\n", 0, start) + 1, len(self.source[:start].rstrip(b" \t")))
        else:
            begin = start
            while (near := self._removed_before(begin)) is not None:  # the items before it are gone too
                begin = near
            if before := re.compile(rb"," + _SPACE + rb"\Z").search(self.source, 0, begin):
                start = before.start()
            elif line := self.line_of(start, end):
                start, end = line
        self.replace(start, end, "")

    def _removed_before(self, at: int) -> int | None:
        reach = len(self.source[:at].rstrip())
        ends = {end: start for start, end, new in self.made if not new and start < end}
        return next((start for end, start in ends.items() if reach <= end <= at), None)

    def applied(self) -> str:
        text, at = b"", 0
        for start, end, new in sorted(self.made):
            if start < at:  # within what is gone, or gone with it
                at = at if new else max(at, end)
                continue
            text, at = text + self.source[at:start] + new, end
        return (text + self.source[at:]).decode()


def migrated(source: str) -> Migrated:
    """Return a file as it is for the classes here.

    Raises:
        SyntaxError, ValueError: It is no Python.
        RecursionError, MemoryError: It is nested too deeply for Python.

    >>> migrated("from langchain_openai import ChatOpenAI").text
    'from langchain_chutes import ChatChutes'
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the file's author wrote, such as "\d"
        try:
            work = _Migration(ast.parse(source), _Edits(source.encode()))
            work.run()
            text = work.edits.applied()
            if text != source:
                ast.parse(text)
        except _Unusual as place:
            return _by_hand(source, int(str(place)))
        except SyntaxError as error:
            ast.parse(source)  # else it is the source's own
            return _by_hand(source, error.lineno or 1)
    return Migrated(text, sorted(dict.fromkeys(work.notes), key=lambda note: note.line))


def _by_hand(source: str, line: int) -> Migrated:
    """Leave a file as it is: nothing half done is written."""
    return Migrated(source, [Note(line, "This file is too unusual to be rewritten: change it by hand.")])


class _Migration:
    def __init__(self, tree: ast.Module, edits: _Edits) -> None:
        self.tree, self.edits = tree, edits
        self.nodes = [*ast.walk(tree)]
        self.scopes = Scopes(tree)
        self.notes: list[Note] = []
        self.names: dict[ast.AST, Peer] = {}  # what imports bind that are of a class
        self.ours: set[ast.AST] = set()  # what imports bind that are of ours, under their own names
        self.modules: dict[str, str] = {}  # what the file calls a module of theirs, and its name
        self.imports: list[tuple[ast.Import, str]] = []  # those, and the names
        self.types: set[ast.AST] = set()  # annotations, and what else calls no class
        self.told: set[str] = set()  # classes that a text names
        self.quoted: list[tuple[ast.Constant, str]] = []  # annotations in quotes, and what they name
        self.kept: dict[tuple[str, str], bool] = {}  # what was found of a name, and of ours
        self.catalog = Catalog.bundled()

    def note(self, node: ast.AST, text: str) -> None:
        self.notes.append(Note(getattr(node, "lineno", 1), text))

    def run(self) -> None:
        for node in self.nodes:
            if isinstance(node, ast.ImportFrom):
                self._find(node)
            elif isinstance(node, ast.Import):
                self._find_modules(node)
        self._texts()
        for node in self.nodes:
            if isinstance(node, ast.Call) and self._peer(node.func) is None:
                self._address(node)
        if not self.names and not self.modules:
            return
        self._find_types()
        for block in self._blocks():
            self._blocks_imports(block)
        for node in self.nodes:
            if isinstance(node, ast.Call):
                if (peer := self._peer(node.func)) is not None:
                    self._call(node, peer)
                else:
                    self._others_call(node)
            elif isinstance(node, ast.ClassDef):
                for base in node.bases:
                    if (peer := self._peer(base)) is not None:
                        self.note(
                            base, f"{node.name} is a subclass: what it overrides, and hands on, is not looked at."
                        )
        for node in self.nodes:
            if isinstance(node, ast.Name | ast.Attribute) and (peer := self._peer(node)) is not None:
                self._rename(node, peer)
        for text, name in dict.fromkeys(self.quoted):
            self._rename_quoted(text, name)

    # ------------------------------------------------------------------------------------------ imports

    def _find(self, node: ast.ImportFrom) -> None:
        module = None if node.level else _module_of(node.module or "")
        homes = {peer.home for peer in PEERS}
        for alias in node.names:
            if not node.level and node.module in homes and alias.asname is None:
                self.ours.add(alias)
            if module is None:
                if node.level and (ours := next((each for each in PEERS if each.name == alias.name), None)):
                    self.note(node, f"If that file is changed too, {alias.name} may be called {ours.ours} there.")
                continue
            if (peer := _peer_of(module, alias.name)) is not None:
                self.names[alias] = peer
            elif alias.name == "*":
                self.note(node, f"What `from {node.module} import *` brings is not known: name the classes.")
            elif alias.name in ("OpenAIEmbeddings", "OpenAILikeEmbedding"):
                self.note(node, f"{alias.name} is not rewritten: see docs/migrating.md for ours.")

    def _find_modules(self, node: ast.Import) -> None:
        for alias in node.names:
            if _module_of(alias.name) is not None:
                self.modules[alias.asname or alias.name] = alias.name
                self.imports.append((node, alias.asname or alias.name))

    def _blocks(self) -> list[Sequence[ast.stmt]]:
        parts = [getattr(node, name, None) for node in self.nodes for name in ("body", "orelse", "finalbody")]
        return [part for part in parts if isinstance(part, list)]

    def _blocks_imports(self, block: Sequence[ast.stmt]) -> None:
        """Change the imports of a block; what one of ours has imported there already is not imported again."""
        there: set[str] = set()
        for node in block:
            if isinstance(node, ast.ImportFrom):
                found = {alias: self.names[alias] for alias in node.names if alias in self.names}
                new = [f"from {peer.home} import {self._bound(alias, peer)}" for alias, peer in found.items()]
                if found and len(found) == len(node.names):
                    self._replace_import(node, found, there.issuperset(new))
                elif found:
                    self._insert(node, [line for line in dict.fromkeys(new) if line not in there])
                    for alias in found:
                        self.edits.remove_item(*self.edits.span(alias))
                elif not node.level:
                    new = [
                        f"from {node.module} import {each.name}" + (f" as {each.asname}" if each.asname else "")
                        for each in node.names
                    ]
                there.update(new)
            elif isinstance(node, ast.Import):
                there.update(f"import {alias.name}" for alias in node.names if alias.asname is None)
                homes = [self._homes(name) for each, name in self.imports if each is node]
                new = [f"import {home}" for home in dict.fromkeys(home for each in homes for home in each)]
                self._insert(node, [line for line in new if line not in there])
                there.update(new)

    def _bound(self, alias: ast.alias, peer: Peer) -> str:
        """What of ours an import names, and as what: as what it was, where more than one place goes by that."""
        name = alias.asname or (alias.name if self._is_kept(alias.name, peer) else peer.ours)
        return peer.ours if name == peer.ours else f"{peer.ours} as {name}"

    def _is_kept(self, name: str, peer: Peer) -> bool:
        if (name, peer.ours) not in self.kept:
            self.kept[name, peer.ours] = self._stands_for_more(name, peer)
        return self.kept[name, peer.ours]

    def _stands_for_more(self, name: str, peer: Peer) -> bool:
        binders = self.scopes.all_binders(name)
        return (
            name in self.told
            or any(each not in self.names or self.names[each].ours != peer.ours for each in binders)
            or any(self.scopes.is_of_a_class(each) for each in binders)
            or any(isinstance(node, ast.Global | ast.Nonlocal) and name in node.names for node in self.nodes)
            or any(each not in self.ours for each in self.scopes.all_binders(peer.ours))
        )

    def _replace_import(self, node: ast.ImportFrom, found: Mapping[ast.alias, Peer], is_there: bool) -> None:
        start, end = self.edits.span(node)
        if is_there and (line := self.edits.line_of(start, end)):
            self.edits.replace(*line, "")
            return
        place = re.compile(rb"from" + _SPACE + rb"([\w.]+)").match(self.edits.source, start, end)
        if place is None:
            raise _Unusual(node.lineno)
        self.edits.replace(*place.span(1), next(iter(found.values())).home)
        for alias, peer in found.items():
            new = peer.ours if alias.asname else self._bound(alias, peer)
            self.edits.replace(*self.edits.begins(alias, alias.name), new)

    def _insert(self, before: ast.stmt, statements: Sequence[str]) -> None:
        start, _ = self.edits.span(before)
        source = self.edits.source
        line = max(source.rfind(b"\n", 0, start), source.rfind(b"\r", 0, start)) + 1
        indent = source[line:start].decode()
        ending = re.compile(rb"\r\n|\n|\r").search(source)
        between = "; " if indent.strip() else f"{ending.group().decode() if ending else chr(10)}{indent}"
        self.edits.replace(start, start, "".join(f"{each}{between}" for each in statements))

    # ------------------------------------------------------------------------------------------ names

    def _peer(self, node: ast.expr) -> Peer | None:
        if isinstance(node, ast.Name):
            return next((self.names[each] for each in self.scopes.binders(node) if each in self.names), None)
        if isinstance(node, ast.Attribute) and (at := self._module(node.value)) is not None:
            return _peer_of(at[1], node.attr)
        return None

    def _module(self, node: ast.expr) -> tuple[str, str] | None:
        """Return what the file calls a module of theirs, and under which name the table has it."""
        parts = _dotted(node)
        for count in range(len(parts), 0, -1):
            called = ".".join(parts[:count])
            if called in self.modules:
                module = _module_of(".".join([self.modules[called], *parts[count:]]))
                return None if module is None else (called, module)
        return None

    def _homes(self, called: str) -> list[str]:
        """Return where ours are, of the classes that the file reaches through a module."""
        found = []
        for node in self.nodes:
            if isinstance(node, ast.Attribute) and (peer := self._peer(node)) is not None:
                at = self._module(node.value)
                found += [peer.home] if at is not None and at[0] == called else []
        return found

    def _rename(self, node: ast.Name | ast.Attribute, peer: Peer) -> None:
        if isinstance(node, ast.Attribute):
            start, end = self.edits.span(node)
            words = re.findall(rb"\w+", self.edits.source[start:end])
            if [word.decode() for word in words] != _dotted(node):
                raise _Unusual(node.lineno)
            self.edits.replace(start, end, f"{peer.home}.{peer.ours}")
        elif any(each in self.names and each.asname is None for each in self.scopes.binders(node)):  # type: ignore[attr-defined]
            place = self.edits.begins(node, node.id)
            if not self._is_kept(node.id, peer):
                self.edits.replace(*place, peer.ours)
        if node not in self.types and isinstance(node.ctx, ast.Load):
            self.note(node, f"{peer.name} is handed on: what it is called with is not looked at.")

    def _find_types(self) -> None:
        """Find where a class is named and not called: annotations, tests of types, and what is called itself."""
        for node in self.nodes:
            if isinstance(node, ast.AnnAssign | ast.arg):
                self._are_types([node.annotation])
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._are_types([node.returns])
            elif isinstance(node, ast.ClassDef):
                self.types.update(node.bases)
            elif isinstance(node, ast.Subscript):
                self._are_types([node.slice])
            elif isinstance(node, ast.BinOp):
                self.types.update((node.left, node.right))
            elif isinstance(node, ast.Compare):
                self.types.update((node.left, *node.comparators))
            elif isinstance(node, ast.MatchClass):
                self.types.add(node.cls)
            elif isinstance(node, ast.FormattedValue) or (
                isinstance(node, ast.Attribute) and node.attr.startswith("__")
            ):
                self.types.add(node.value)
            elif isinstance(node, ast.Call):
                self.types.add(node.func)
                if _dotted(node.func)[-1:] and _dotted(node.func)[-1] in _OF_TYPES:
                    self._are_types([*node.args, *(each.value for each in node.keywords)])

    def _are_types(self, nodes: Iterable[ast.AST | None]) -> None:
        todo = [*nodes]
        while todo:
            node = todo.pop()
            if node is not None and not isinstance(node, ast.Call):
                self.types.add(node)
                todo += ast.iter_child_nodes(node)

    def _texts(self) -> None:
        """Find the texts of a program that name a class: annotations, `__all__`, targets of a patch."""
        known = {peer.name for peer in PEERS}
        pieces = {each for node in self.nodes if isinstance(node, ast.JoinedStr) for each in node.values}
        by_name = {
            each
            for node in self.nodes
            if isinstance(node, ast.Call) and (_dotted(node.func) or [""])[-1] in _BY_NAME
            for each in node.args
        }
        annotations = {*_quoted(self.nodes)}
        for node in self.nodes:
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or node in pieces:
                continue
            if not any(name in node.value for name in known) or len(node.value) > 1000:
                continue
            try:
                parts = [*ast.walk(ast.parse(node.value.strip(), mode="eval"))]
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            for part in parts:
                name = part.id if isinstance(part, ast.Name) else part.attr if isinstance(part, ast.Attribute) else ""
                if name not in known:
                    continue
                if isinstance(part, ast.Name) and node in annotations and self._is_plain(node):
                    self.quoted.append((node, name))
                    continue
                if isinstance(part, ast.Attribute) or node in by_name:
                    self.note(node, f"The text {node.value!r} names {name}, and is left as it is.")
                self.told.add(name)

    def _is_plain(self, node: ast.Constant) -> bool:
        """Return whether a text stands in the file as it is, between quotes."""
        start, end = self.edits.span(node)
        return self.edits.source[start + 1 : end - 1] == str(node.value).encode()

    def _rename_quoted(self, node: ast.Constant, name: str) -> None:
        peers = [self.names[each] for each in self.scopes.all_binders(name) if each in self.names]
        if peers and not self._is_kept(name, peers[0]):
            start, end = self.edits.span(node)
            for found in re.compile(rb"\b%b\b" % name.encode()).finditer(self.edits.source, start, end):
                self.edits.replace(*found.span(), peers[0].ours)

    # ------------------------------------------------------------------------------------------ calls

    def _call(self, node: ast.Call, peer: Peer) -> None:
        given = {each.arg for each in node.keywords}
        for value in node.args:
            several = len(node.args) > 1 or given & {"model", "model_name"}
            if several or isinstance(value, ast.Starred | ast.GeneratorExp):
                self.note(value, f"{peer.ours} takes its arguments by name: name this one.")
            else:
                start, _ = self.edits.span(value)
                begin = self.edits.source.index(b"(", self.edits.span(node.func)[1]) + 1
                while before := re.compile(rb"\(\s*\Z").search(self.edits.source, begin, start):
                    start = before.start()  # what is in parentheses begins before them
                self.edits.replace(start, start, "model=")
                self._model(value, peer)
        if not node.args and not given & {"model", "model_name", None}:
            self.note(
                node, "No model is named: the default one is asked, of CHUTES_MODEL or `chutes-connect models set`."
            )
        for keyword in node.keywords:
            if keyword.arg is None:
                self.note(keyword.value, f"What is in **{ast.unparse(keyword.value)} is not known here.")
            else:
                self._argument(keyword, peer, given)

    def _argument(self, keyword: ast.keyword, peer: Peer, given: set[str | None]) -> None:
        name, value = str(keyword.arg), _literal(keyword.value)
        start, end = self.edits.span(keyword)
        word = FIELDS[peer.face].get(name)
        base = "base_url" if peer.face == "langchain" else "api_base"
        to = word.to if word is not None and word.to else name
        if to == base and isinstance(value, str) and _is_own(value):
            self.edits.remove_item(start, end)  # what is asked anyway
            return
        if word is not None and value is not _UNKNOWN and word.is_free(value):
            self.edits.remove_item(start, end)
            return
        if word is not None and not word.to:
            self.note(keyword.value, f"{peer.ours} has no {name!r}. {word.say}")
            return
        if to != name and to in given:
            self.note(keyword.value, f"{name!r} and {to!r} are the same here: keep one.")
            return
        if to != name:
            self.edits.replace(*self.edits.begins(keyword, name), to)
        if to == "model":
            self._model(keyword.value, peer)
        elif to == base:
            self.note(keyword.value, f"The address is kept. For Chutes' own leave {base} out.")
        elif to == "api_key" and _FOREIGN_KEY.search(ast.unparse(keyword.value)):
            self.note(keyword.value, "It has to be a key of Chutes: leave it out where CHUTES_API_KEY is set.")

    def _model(self, node: ast.expr, peer: Peer) -> None:
        """Take a provider's name off a model's, and say which model is not there."""
        value = _literal(node)
        if not isinstance(value, str):
            return
        name = value.removeprefix("chutes/")
        if "LiteLLM" in peer.name and name.count("/") == 2:
            name = name.removeprefix("openai/")
        if name != value:
            start, end = self.edits.span(node)
            text = self.edits.source[start:end].decode()
            if text.count(value) == 1:
                self.edits.replace(start, end, text.replace(value, name))
        try:
            known = [self.catalog.get(each) for each in ModelRef.parse(name).names]
        except ConfigurationError:
            known = [None]
        if "/" not in name or None in known:
            self.note(node, f"{name!r} is no model that is known here: see `chutes-connect models`.")

    def _address(self, node: ast.Call) -> None:
        """Say what else is led to Chutes, and is none of ours."""
        if "chutes" in "".join(_dotted(node.func)[-1:]).lower():
            return
        for keyword in node.keywords:
            value = _literal(keyword.value)
            if keyword.arg in _ADDRESSES and isinstance(value, str) and _is_own(value):
                self.note(
                    keyword.value, "This is the service's address, of what is not rewritten: see docs/migrating.md."
                )

    def _others_call(self, node: ast.Call) -> None:
        """Say what a call, if it is one of a model, cannot ask."""
        if not isinstance(node.func, ast.Attribute) or node.func.attr not in _METHODS:
            return
        for keyword in node.keywords:
            word = CALLS.get(keyword.arg or "")
            if word is None or word.to or word.is_free(_literal(keyword.value)):
                continue
            self.note(keyword.value, f"A call has no {keyword.arg!r}, if it is one of a model of these. {word.say}")


def _quoted(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Return the texts that are types: annotations, and parts of them, but for values such as those of Literal."""
    todo: list[ast.AST | None] = []
    for node in nodes:
        todo += [node.annotation] if isinstance(node, ast.AnnAssign | ast.arg) else []
        todo += [node.returns] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else []
    while todo:
        part = todo.pop()
        if isinstance(part, ast.Constant):
            yield part
        elif isinstance(part, ast.Tuple | ast.List):
            todo += part.elts
        elif isinstance(part, ast.BinOp):
            todo += [part.left, part.right]
        elif isinstance(part, ast.Subscript) and _dotted(part.value)[-1:] not in (["Literal"], ["Annotated"]):
            todo.append(part.slice)


def _module_of(name: str) -> str | None:
    """Return the module of a class under which it is known, for any of those that have it."""
    while name:
        if name in _MODULES:
            return _MODULES[name]
        name = name.rpartition(".")[0]
    return None


def _peer_of(module: str, name: str) -> Peer | None:
    found = next((peer for peer in PEERS if (peer.module, peer.name) == (module, name)), None)
    if found is None and module == "langchain_openai" and name == "ChatLiteLLM":  # from langchain_community
        return next(peer for peer in PEERS if peer.name == name)
    return found


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return _UNKNOWN


def _dotted(node: ast.expr) -> list[str]:
    """Return the parts of a dotted name; none of anything else.

    >>> _dotted(ast.parse("a.b.c", mode="eval").body), _dotted(ast.parse("a().b", mode="eval").body)
    (['a', 'b', 'c'], [])
    """
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return [node.id, *parts] if isinstance(node, ast.Name) else []


def _is_own(address: str) -> bool:
    """Return whether an address is the service's own.

    >>> _is_own("https://llm.chutes.ai/v1/"), _is_own("https://openrouter.ai/api/v1"), _is_own("http://llm.chutes.ai")
    (True, False, False)
    """
    found, own = urlsplit(address.strip()), urlsplit(BASE_URL)
    return (found.scheme, found.netloc) == (own.scheme, own.netloc) and found.path.rstrip("/") in ("", own.path)
