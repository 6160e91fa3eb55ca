"""Write the tables of arguments in docs/migrating.md out of the table that the code reads.

python tools/arguments_table.py            rewrite the tables
python tools/arguments_table.py --check    fail where the page says something else than the code
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from page_table import replaced, run  # noqa: E402

from chutes_core.peers import CALLS, FIELDS, PEERS, Face, Word  # noqa: E402
from chutes_core.request.chat import ChatParams  # noqa: E402
from langchain_chutes import ChatChutes  # noqa: E402
from llama_index_chutes import Chutes  # noqa: E402

PAGE = ROOT / "docs" / "migrating.md"
RECORD = ROOT / "tests" / "core" / "peer_arguments.json"
_NONE = Word()


def outcome(word: Word) -> str:
    """Return which of the three an argument is.

    >>> outcome(Word("model")), outcome(Word(say="Leave it out.")), outcome(Word())
    ('renamed', 'refused', 'accepted')
    """
    return "renamed" if word.to else "refused" if word.say else "accepted"


def cell(word: Word) -> str:
    """Return what the page says of an argument."""
    if word.to:
        return f"`{word.to}`"
    free = ", ".join(f"`{value!r}`" for value in word.free)
    return (f"{free}: nothing to do. Else: " if free else "") + word.say.replace("|", r"\|")


def recorded() -> Mapping[str, Mapping[str, object]]:
    """Return the arguments on record."""
    rows: Mapping[str, Mapping[str, object]] = json.loads(RECORD.read_text("utf-8"))
    return rows


def names(row: str) -> Sequence[str]:
    """Return the names of one row of the record."""
    found = recorded()[row]["names"]
    assert isinstance(found, list)
    return found


def taken(face: Face) -> set[str]:
    """Return the names that the class of a framework takes as they are."""
    cls = ChatChutes if face == "langchain" else Chutes
    return {*cls.model_fields, *ChatParams.__annotations__}


def counts() -> Iterator[str]:
    """Yield the table of how many there are of each."""
    yield "| From | Version | Accepted | Renamed | Refused, with what to do | Refused without |"
    yield "| --- | --- | --- | --- | --- | --- |"
    tables = [(f"`{peer.name}`", f"{peer.face}.{peer.name}", FIELDS[peer.face], taken(peer.face)) for peer in PEERS]
    calls = {*ChatParams.__annotations__, "model", "messages", "timeout"}
    tables += [(f"a call of `{name}`", f"calls.{name}", CALLS, calls) for name in ("openai", "openrouter", "litellm")]
    for told, row, table, known in tables:
        found = [outcome(table.get(name, _NONE)) for name in names(row) if name in known or name in table]
        each = [found.count("accepted"), found.count("renamed"), found.count("refused"), len(names(row)) - len(found)]
        what = recorded()[row]
        yield f"| {told} | {what['package']} {what['version']} | {' | '.join(map(str, each))} |"


def constructors(face: Face) -> Iterator[str]:
    """Yield the table of what constructors take elsewhere and not under that name here."""
    yield "| Argument | Of | Here |"
    yield "| --- | --- | --- |"
    peers = [peer for peer in PEERS if peer.face == face]
    for name, word in sorted(FIELDS[face].items()):
        owners = [peer.name for peer in peers if name in names(f"{peer.face}.{peer.name}")]
        if owners:
            yield f"| `{name}` | {', '.join(owners)} | {cell(word)} |"


def calls() -> Iterator[str]:
    """Yield the table of what calls take elsewhere."""
    yield "| Parameter of a call | Here |"
    yield "| --- | --- |"
    given = {name for each in ("openai", "openrouter", "litellm") for name in names(f"calls.{each}")}
    for name, word in sorted(CALLS.items()):
        if name in given and name not in ("model", "messages", "stream") and name not in ChatParams.__annotations__:
            yield f"| `{name}` | {cell(word)} |"


def renewed(page: str) -> str:
    """Return the page with the tables as the code has them."""
    page = replaced(page, "arguments: counts", counts())
    page = replaced(page, "arguments: langchain", constructors("langchain"))
    page = replaced(page, "arguments: llama_index", constructors("llama_index"))
    return replaced(page, "arguments: calls", calls())


def main() -> int:
    return run(
        PAGE,
        renewed,
        about=__doc__,
        old="does not have the tables of arguments as the code has them: run python tools/arguments_table.py",
        current="the tables of arguments are the code's",
    )


if __name__ == "__main__":
    sys.exit(main())
