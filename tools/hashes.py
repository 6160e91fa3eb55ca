"""Keep constraints-hashes.txt: the SHA-256 of every file, for any platform, of every version that is pinned.

python tools/hashes.py            ask the index, and rewrite it
python tools/hashes.py --check    see, without a network, that it is about the versions that are pinned

A version that was there before keeps its hashes: if the index names others for it, that is told and nothing is written,
unless `--replace` says that somebody looked at them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from environment import HASHES, PIN, ROOT, canonical

HEADER = "# The SHA-256 of every file of every version in constraints*.txt. Rewritten by `make hashes`.\n"
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
Table = Mapping[str, frozenset[str]]


def pinned(root: Path = ROOT) -> set[str]:
    """Return every pin of every file of constraints, with names as an index compares them."""
    files = [file for file in root.glob("constraints*.txt") if file.name != HASHES.name]
    lines = (line.strip() for file in files for line in file.read_text().splitlines())
    return {f"{canonical(m[1])}=={line.partition('==')[2]}" for line in lines if (m := PIN.match(line))}


def parsed(text: str) -> dict[str, frozenset[str]]:
    r"""Return the hashes of each pin in a requirements file, whose lines may go on after a backslash.

    >>> parsed("# x\na==1 \\\n    --hash=sha256:" + "0" * 64)["a==1"] == {"--hash=sha256:" + "0" * 64}
    True
    """
    lines = (line.split() for line in text.replace("\\\n", " ").splitlines())
    return {words[0]: frozenset(words[1:]) for words in lines if words and words[0] != "#"}


def written(table: Table) -> str:
    """Return the file: a line for each pin."""
    return HEADER + "".join(f"{pin} {' '.join(sorted(hashes))}\n" for pin, hashes in sorted(table.items()))


def problems(table: Table, pins: set[str]) -> Iterator[str]:
    """Yield what keeps the table from being about the pins, each with at least one hash."""
    yield from (f"{pin} has no hashes: make hashes" for pin in sorted(pins - table.keys()))
    yield from (f"{pin} has hashes, and is pinned nowhere: make hashes" for pin in sorted(table.keys() - pins))
    for pin, hashes in table.items():
        if not hashes or not all(HASH.fullmatch(each) for each in hashes):
            yield f"{pin} has something else than SHA-256"


def changed(old: Table, new: Table) -> Iterator[str]:
    """Yield the pins of which the index no longer has the files that it had, or has others for them.

    >>> list(changed({"a==1": frozenset("xy")}, {"a==1": frozenset("xyz")}))
    []
    >>> list(changed({"a==1": frozenset("x")}, {"a==1": frozenset("z")}))
    ['a==1']
    """
    return (pin for pin in sorted(old.keys() & new.keys()) if not old[pin] <= new[pin])


def asked(pins: set[str]) -> dict[str, frozenset[str]]:
    """Return what the index says of each pin; of one name at a time, since uv takes no two versions of it."""
    found: dict[str, frozenset[str]] = {}
    left = sorted(pins)
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder, "pins.txt"), Path(folder, "hashes.txt")
        while left:
            turn = {pin.partition("==")[0]: pin for pin in left}
            given.write_text("".join(f"{pin}\n" for pin in turn.values()))
            options = ("--generate-hashes", "--no-deps", "--no-header", "--no-annotate", "--quiet")
            command = (sys.executable, "-m", "uv", "pip", "compile", *options, "--output-file", answer, given)
            subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
            found |= parsed(answer.read_text())
            answer.unlink()
            left = [pin for pin in left if pin not in turn.values()]
    return found


def main(arguments: Sequence[str]) -> int:
    old = parsed(HASHES.read_text()) if HASHES.exists() else {}
    pins = pinned()
    if "--check" not in arguments:
        new = asked(pins)
        if (others := list(changed(old, new))) and "--replace" not in arguments:
            print("\n".join(f"hashes: the index has other files of {pin} than before" for pin in others))
            return 1
        HASHES.write_text(written(new))
        old = new
    found = list(problems(old, pins))
    print("\n".join(f"hashes: {each}" for each in found) if found else f"hashes: {len(pins)} versions, all with hashes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
