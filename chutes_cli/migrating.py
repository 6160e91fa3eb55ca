"""A Python file of other packages' models, rewritten for the ones here: what ``chutes-connect migrate`` shows.

The file is read as a syntax tree and never run. What changes is edited in its own text, so comments and layout stay;
what cannot be decided from the text is left as it is, and said.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

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

    def span(self, node: ast.expr | ast.stmt | ast.keyword | ast.alias) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def replace(self, start: int, end: int, text: str) -> None:
        self.made.append((start, end, text.encode()))

    def remove_item(self, start: int, end: int) -> None:
        """Remove one of several items between commas; a comment beside it stays."""
        if after := re.compile(rb"\s*,[ \t]*").match(self.source, end):
            end = after.end()
            line = self.source.rfind(b"\n", 0, start) + 1
            if ending := re.compile(rb"\r?\n").match(self.source, end):
                if not self.source[line:start].strip():
                    start, end = line, ending.end()  # the whole line was its
                else:
                    start = line + len(self.source[line:start].rstrip())
        elif before := re.compile(rb",\s*\Z").search(self.source, 0, start):
            start = before.start()
        self.replace(start, end, "")

    def applied(self) -> str:
        text, at = b"", 0
        for start, end, new in sorted(self.made):
            if start < at:
                continue  # within what is gone
            text, at = text + self.source[at:start] + new, end
        return (text + self.source[at:]).decode()


def migrated(source: str) -> Migrated:
    """Return a file as it is for the classes here.

    >>> migrated("from langchain_openai import ChatOpenAI").text
    'from langchain_chutes import ChatChutes'
    """
    work = _Migration(ast.parse(source), _Edits(source.encode()))
    work.run()
    new = Migrated(work.edits.applied(), sorted(work.notes, key=lambda note: note.line))
    try:
        ast.parse(new.text)
    except SyntaxError as error:  # nothing half done is written
        return Migrated(
            source, [Note(error.lineno or 1, "This file is too unusual to be rewritten: change it by hand.")]
        )
    return new


class _Migration:
    def __init__(self, tree: ast.Module, edits: _Edits) -> None:
        self.tree, self.edits = tree, edits
        self.notes: list[Note] = []
        self.names: dict[str, Peer] = {}  # of the file, for the classes
        self.kept: set[str] = set()  # which of them stay what they are called
        self.modules: dict[str, str] = {}  # of the file, for their modules
        self.imports: dict[str, ast.stmt] = {}  # which import one of them
        self.catalog = Catalog.bundled()

    def note(self, node: ast.AST, text: str) -> None:
        self.notes.append(Note(getattr(node, "lineno", 1), text))

    def run(self) -> None:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                self._import_from(node)
            elif isinstance(node, ast.Import):
                self._import(node)
        if not self.names and not self.modules:
            return
        called = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                if (peer := self._peer(node.func)) is not None:
                    called[id(node.func)] = peer
                    self._call(node, peer)
                else:
                    self._others_call(node)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name | ast.Attribute) and (peer := self._peer(node)) is not None:
                self._rename(node, peer)

    # ------------------------------------------------------------------------------------------ imports

    def _import_from(self, node: ast.ImportFrom) -> None:
        module = _module_of(node.module or "")
        if module is None:
            return
        found = {alias: peer for alias in node.names if (peer := _peer_of(module, alias.name)) is not None}
        for alias in node.names:
            if alias.name == "*":
                self.note(node, f"What `from {node.module} import *` brings is not known: name the classes.")
            if alias.name in ("OpenAIEmbeddings", "OpenAILikeEmbedding"):
                self.note(node, f"{alias.name} is not rewritten: see docs/migrating.md for ours.")
        for alias, peer in found.items():
            self.names[alias.asname or alias.name] = peer
            if alias.asname:
                self.kept.add(alias.asname)
        if not found:
            return
        if len(found) == len(node.names):
            start, end = self.edits.span(node)
            place = re.compile(rb"from\s+([\w.]+)").match(self.edits.source, start, end)
            assert place is not None
            homes = {peer.home for peer in found.values()}
            self.edits.replace(*place.span(1), homes.pop())
            for alias, peer in found.items():
                begin, _ = self.edits.span(alias)
                self.edits.replace(begin, begin + len(alias.name), peer.ours)
            return
        for alias, peer in found.items():
            called = f" as {alias.asname}" if alias.asname else ""
            self._insert(node, f"from {peer.home} import {peer.ours}{called}")
            self.edits.remove_item(*self.edits.span(alias))

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            module = _module_of(alias.name)
            if module is None:
                continue
            name = alias.asname or alias.name
            self.modules[name] = module
            self.imports.setdefault(module, node)

    # ------------------------------------------------------------------------------------------ names

    def _peer(self, node: ast.expr) -> Peer | None:
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            module = self.modules.get(ast.unparse(node.value))
            return None if module is None else _peer_of(module, node.attr)
        return None

    def _rename(self, node: ast.Name | ast.Attribute, peer: Peer) -> None:
        if isinstance(node, ast.Name):
            if node.id not in self.kept and isinstance(node.ctx, ast.Load):
                self.edits.replace(*self.edits.span(node), peer.ours)
        else:
            self.edits.replace(*self.edits.span(node), f"{peer.home}.{peer.ours}")
            if (beside := self.imports.pop(peer.module, None)) is not None:
                self._insert(beside, f"import {peer.home}")

    def _insert(self, before: ast.stmt, statement: str) -> None:
        start, _ = self.edits.span(before)
        line = self.edits.source.rfind(b"\n", 0, start) + 1
        indent = self.edits.source[line:start].decode()
        self.edits.replace(start, start, f"{statement}; " if indent.strip() else f"{statement}\n{indent}")

    # ------------------------------------------------------------------------------------------ calls

    def _call(self, node: ast.Call, peer: Peer) -> None:
        for number, value in enumerate(node.args):
            if isinstance(value, ast.Starred) or number:
                self.note(value, f"{peer.ours} takes its arguments by name: name this one.")
            else:
                self.edits.replace(self.edits.span(value)[0], self.edits.span(value)[0], "model=")
                self._model(value, peer)
        given = {each.arg for each in node.keywords}
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
            self.edits.replace(start, start + len(name.encode()), to)
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

    def _others_call(self, node: ast.Call) -> None:
        """Say what a call of something else does with a class, or asks of a model."""
        for value in (*node.args, *(each.value for each in node.keywords)):
            if (peer := self._peer(value)) is not None:
                self.note(value, f"{peer.name} is handed on: what it is called with is not looked at.")
        if not isinstance(node.func, ast.Attribute) or node.func.attr not in _METHODS:
            return
        for keyword in node.keywords:
            word = CALLS.get(keyword.arg or "")
            if word is None or word.to or word.is_free(_literal(keyword.value)):
                continue
            self.note(keyword.value, f"A call has no {keyword.arg!r}, if it is one of a model of these. {word.say}")


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
    except ValueError:
        return _UNKNOWN


def _is_own(address: str) -> bool:
    """Return whether an address is the service's own.

    >>> _is_own("https://llm.chutes.ai/v1/"), _is_own("https://openrouter.ai/api/v1")
    (True, False)
    """
    return urlsplit(address).hostname == urlsplit(BASE_URL).hostname
