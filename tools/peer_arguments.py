"""Record which arguments the classes take that people come from, in tests/core/peer_arguments.json.

python tools/peer_arguments.py            read those that are installed, and rewrite their rows
python tools/peer_arguments.py --check    fail where one that is installed in the version on record takes others

No environment has all of them beside each other in the suite: ``tools/environment.py --unverified --group peers
.venv-peers`` makes one that does, of today's versions. What each argument is here is in ``chutes_core/peers.py``, and a
test holds the record against it.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from chutes_core.peers import PEERS, Peer  # noqa: E402

RECORD = ROOT / "tests" / "core" / "peer_arguments.json"
# What takes the parameters of a call in the end, and the distribution it is in.
CALLS = {
    "openai": ("openai", "openai.resources.chat.completions:Completions.create"),
    "openrouter": ("openrouter", "openrouter.chat:Chat.send"),
    "litellm": ("litellm", "litellm:completion"),
}


def found(place: str) -> Any:
    """Return what is there, as "module:Class.method"."""
    module, _, path = place.partition(":")
    value: Any = import_module(module)
    for name in path.split("."):
        value = getattr(value, name)
    return value


def parameters(call: Callable[..., object]) -> list[str]:
    """Return the names of a function's parameters.

    >>> parameters(lambda self, one, *, two=2, **more: None)
    ['one', 'two']
    """
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return sorted(
        each.name
        for each in inspect.signature(call).parameters.values()
        if each.name != "self" and each.kind not in kinds
    )


def fields(peer: Peer) -> list[str]:
    """Return what a class takes: its fields, their other names, and what its own constructor names."""
    cls = found(f"{peer.module}:{peer.name}")
    names = {*cls.model_fields, *(each.alias for each in cls.model_fields.values() if each.alias)}
    return sorted(names | {*parameters(cls.__init__)} - {"data", "args", "kwargs"})


def installed(package: str) -> str | None:
    """Return the version of a distribution that is here; None if it is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def read() -> dict[str, dict[str, Any]]:
    """Return the rows of what is installed here."""
    rows: dict[str, dict[str, Any]] = {}
    for peer in PEERS:
        if here := installed(peer.package):
            rows[f"{peer.face}.{peer.name}"] = {"package": peer.package, "version": here, "names": fields(peer)}
    for name, (package, place) in CALLS.items():
        if here := installed(package):
            rows[f"calls.{name}"] = {"package": package, "version": here, "names": parameters(found(place))}
    return rows


def differing(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return which rows are of the same version, and name other arguments."""
    return [
        name
        for name, row in here.items()
        if name not in recorded or (recorded[name]["version"] == row["version"] and recorded[name] != row)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the record is not of today")
    check = parser.parse_args().check
    recorded = json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {}
    here = read()
    if check and (wrong := differing(recorded, here)):
        print(f"{RECORD.name} has other arguments of {', '.join(wrong)}: run python tools/peer_arguments.py")
        return 1
    if not check:
        RECORD.write_text(json.dumps({**recorded, **here}, indent=1) + "\n", "utf-8")
    print(f"{RECORD.name}: {len(here)} of {len(recorded | here)} rows are of what is installed here")
    return 0


if __name__ == "__main__":
    sys.exit(main())
