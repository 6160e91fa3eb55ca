"""The model to ask where none is named: of ``CHUTES_MODEL``, else the one that ``chutes-connect models set`` stored.

Both may be a list with commas: the first is the model, the others are its fallbacks. What asks one model takes the
first, a fallback takes all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chutes_core.errors import ConfigurationError

__all__ = [
    "VARIABLE",
    "DefaultModel",
    "default_model",
    "default_models",
    "find",
    "forget",
    "kept_in",
    "read_names",
    "store",
]

VARIABLE = "CHUTES_MODEL"
_NONE = (
    "No model was named, and there is no default one: pass {way}, set CHUTES_MODEL, or store one with "
    "`chutes-connect models set MODEL`."
)


@dataclass(frozen=True, slots=True)
class DefaultModel:
    """The default model, its fallbacks, and where they come from: the variable, or the path of a file."""

    names: tuple[str, ...]
    source: str


def read_names(text: str) -> tuple[str, ...]:
    """Read a list of names with commas between them, each once.

    >>> read_names("acme/one, acme/two,acme/one,")
    ('acme/one', 'acme/two')
    """
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def kept_in() -> Path:
    """Return the path of the stored default, beside the stored login."""
    from chutes_core.login.store import default_folder  # seldom needed, and more modules than the rest

    return default_folder() / "model.json"


def find() -> DefaultModel | None:
    """Look for the default model; None if there is none.

    Raises:
        ConfigurationError: The stored one cannot be read.
    """
    if names := read_names(os.environ.get(VARIABLE, "")):
        return DefaultModel(names, VARIABLE)
    path = kept_in()
    try:
        names = read_names(json.loads(path.read_bytes())["models"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        why = error.strerror or str(error)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        why = "it is damaged"
    else:
        return DefaultModel(names, str(path)) if names else None
    raise ConfigurationError(
        f"The default model in {path} cannot be read ({why}): set CHUTES_MODEL, or store it anew with `chutes-connect "
        "models set MODEL`."
    )


def default_model() -> str:
    """Return the model to ask where none is named.

    Raises:
        ConfigurationError: There is none; the message says the ways to name one.

    >>> default_model()
    Traceback (most recent call last):
    chutes_core.errors.ConfigurationError: No model was named, and there is no default one: pass model="...", set ...
    """
    return _found('model="..."')[0]


def default_models() -> list[str]:
    """Return the models of a fallback whose members are not named."""
    return list(_found('members=["a/one", "b/two"]'))


def _found(way: str) -> tuple[str, ...]:
    found = find()
    if found is None:
        raise ConfigurationError(_NONE.format(way=way))
    return found.names


def store(names: Sequence[str]) -> Path:
    """Store the default model and its fallbacks for all programs of this user, in a file that only they can read.

    Raises:
        OSError: That is impossible.
    """
    from chutes_core.folders import replace_file

    path = kept_in()
    replace_file(path, json.dumps({"version": 1, "models": ",".join(names)}))
    return path


def forget() -> bool:
    """Delete the stored default; False if there was none.

    Raises:
        OSError: That is impossible.
    """
    try:
        kept_in().unlink()
    except FileNotFoundError:
        return False
    return True
