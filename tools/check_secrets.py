"""Refuse keys, paths of somebody's machine, and package-index addresses in what is published.

python tools/check_secrets.py                scan the files git tracks or would track
python tools/check_secrets.py FILE ...       scan these; a wheel or sdist is opened and its members scanned

A test may show a key if the key is plainly no key: its body has at most four different characters, or one of
the words in `SAYS_SO` is in it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

KEYS = re.compile(
    r"(?<![A-Za-z0-9])"
    r"(?P<prefix>(?:cpk|cak|crt|csc)_|sk-(?:proj-|ant-|or-)?|gh[pousr]_|github_pat_|hf_|pypi-|AKIA|lsv2_(?:pt|sk)_)"
    r"(?P<body>[A-Za-z0-9][A-Za-z0-9._-]{15,})"
)
SAYS_SO = ("fake", "example", "dummy", "notakey", "not-a-key", "placeholder", "redacted", "localchutes")
# Written so that this file does not match itself.
FORBIDDEN = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KE[Y]-----"),
    "a path of one machine": re.compile(r"(?<![\w.~/$}-])/(?:(?:work|root|tmp|opt)/[\w.]|(?:home|Users)/(?!you\b)\w)"),
    "the address of a package index": re.compile(
        r"(?i)py[p]i\.(?:org|python\.org)|python[h]osted\.org|--(?:extra-)?index[-]url|--find[-]links"
    ),
}


def is_fake(body: str) -> bool:
    """Tell whether a key's body shows that it opens nothing.

    >>> is_fake("0" * 32 + "." + "1" * 32 + "." + "a" * 32), is_fake("my_fake_key_for_tests")
    (True, True)
    """
    return len(set(body.lower()) - set("._-")) <= 4 or any(word in body.lower() for word in SAYS_SO)


def looks_random(body: str) -> bool:
    """Tell a key from an identifier that happens to begin like one: keys have digits in them."""
    return sum(character.isdigit() for character in body) >= 3


def findings(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the nature of each thing that must not be published."""
    for number, line in enumerate(text.splitlines(), start=1):
        for match in KEYS.finditer(line):
            if looks_random(match["body"]) and not is_fake(match["body"]):
                yield number, f"what looks like a key ({match['prefix']}…)"
        for nature, pattern in FORBIDDEN.items():
            if pattern.search(line):
                yield number, nature


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of each file in a wheel or sdist."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            yield from ((name, wheel.read(name)) for name in wheel.namelist())
        return
    with tarfile.open(archive) as sdist:
        for member in sdist.getmembers():
            if member.isfile() and (handle := sdist.extractfile(member)):
                yield member.name, handle.read()


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of a file, or of everything in it when it is an archive."""
    if path.name.endswith((".whl", ".tar.gz")):
        yield from ((f"{path.name}!{name}", data) for name, data in members(path))
    elif path.is_file():
        yield os.path.relpath(path, ROOT), path.read_bytes()


def published() -> list[Path]:
    """Return the files git tracks or would track; outside a git checkout, all but hidden and built ones."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists():
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [ROOT / name for name in listing.split("\0") if name]
    skipped = {"__pycache__", "build", "dist", ".git"}
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and not any(part in skipped or part.startswith(".venv") or part.endswith("_cache") for part in path.parts)
    ]


def scan(paths: Iterable[Path]) -> list[str]:
    """Return one line per finding; binary files are searched for keys and paths like any other."""
    return [
        f"{name}:{number}: {nature}"
        for path in paths
        for name, data in contents(path)
        for number, nature in findings(data.decode("utf-8", errors="replace"))
    ]


def main(arguments: Sequence[str]) -> int:
    paths = [Path(argument).resolve() for argument in arguments] or published()
    found = scan(paths)
    print("\n".join(found) if found else f"secrets: {len(paths)} files, nothing that must not be published")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
