"""The default model: shown, stored after a look at the list of models, and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, Stop
from chutes_cli.places import tilde
from chutes_core.default_model import VARIABLE, DefaultModel, find, forget, kept_in, read_names, store

if TYPE_CHECKING:
    from chutes_cli.out import Out
    from chutes_core.catalog.catalog import Catalog

__all__ = ["checked", "in_words", "keep", "show", "source", "unset"]


def in_words(names: Sequence[str]) -> str:
    """Name a model, and its fallbacks.

    >>> in_words(["acme/one", "acme/two"])
    'acme/one, then acme/two'
    """
    return ", then ".join(names)


def source(found: DefaultModel) -> str:
    """Say where the default comes from, behind its name."""
    return f"from {VARIABLE}" if found.source == VARIABLE else f"stored in {tilde(Path(found.source))}"


def checked(words: Sequence[str], catalog: Catalog, is_alias: Callable[[str], bool]) -> list[str]:
    """Return the names as the catalogue writes them; a name that it does not know must be an alias.

    Raises:
        UnknownModelError: A name is neither; the nearest are proposed.
    """
    from chutes_core.catalog.names import ModelRef

    names = []
    for name in read_names(",".join(words)):
        bare = ModelRef.parse(name).names[0]
        info = catalog.get(bare)
        if info is None and is_alias(bare):
            names.append(name)
            continue
        info = info or catalog.model(bare)
        if info.kind != "chat":
            raise Stop(f"{info.id} is not a chat model, which the default model is.", Exit.USAGE)
        names.append(info.id + name[len(bare) :])
    if not names:
        raise Stop("Name a model: `chutes-connect models set MODEL[,FALLBACK…]`.", Exit.USAGE)
    return list(dict.fromkeys(names))


def keep(names: Sequence[str], out: Out) -> None:
    """Store the default model, and say so."""
    path = store(names)
    if not out.as_json:
        out.line(f"The default model is {in_words(names)}.")
        out.line(f"It is stored in {tilde(path)}.")
    _report(out)


def unset(out: Out) -> None:
    """Delete the stored default, and say so."""
    existed = forget()
    if not out.as_json:
        out.line("The stored default model is deleted." if existed else "There was no stored default model.")
    _report(out)


def show(out: Out) -> int:
    """Say what the default model is."""
    found = find()
    if out.as_json:
        _report(out)
    elif found is not None:
        out.line(f"The default model is {in_words(found.names)}, {source(found)}.")
    else:
        out.line(f"There is no default model: set {VARIABLE}, or use `chutes-connect models set MODEL`.")
    return Exit.FAILURE if found is None else Exit.OK


def _report(out: Out) -> None:
    """Say which default holds from now on: to a program, and where it is another one to a person too."""
    found = find()
    if out.as_json:
        models, kept = list(found.names) if found is not None else [], kept_in()
        where = None if found is None else found.source
        out.data({"models": models, "source": where, "kept": str(kept) if kept.exists() else None})
    elif found is not None and found.source == VARIABLE:
        out.note(f"{VARIABLE} is set, and wins: {in_words(found.names)}.")
