"""Make, or reuse, a virtual environment with this project installed in it.

python tools/environment.py [--group GROUP ...] DIRECTORY [CONSTRAINTS ...]     later files override earlier ones
python tools/environment.py --unverified …                                      new pins, which have no hashes yet
python tools/environment.py --like OTHER …                                      begin with what another one has
python tools/environment.py --freeze DIRECTORY                                  print what is installed, as constraints
python tools/environment.py --lowest                                            print the lowest versions declared

It has the extra `all`, and the dependency groups that are named. It is reused as long as nothing that decides its
contents has changed: the dependencies in pyproject.toml, the constraints, the interpreter, and the folder it stands
in. Whatever is downloaded must have one of the hashes in constraints-hashes.txt. Standard library only, because this
runs before anything is installed; and since pip learned of dependency groups only lately, it is given their contents.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HASHES = ROOT / "constraints-hashes.txt"
HEADER = "# The versions the suite was tested with. Rewritten by `make constraints`."
PIN = re.compile(r"^([A-Za-z0-9._-]+)==\S+$")
FOUND = re.compile(r"(?:Collecting|Processing) (?P<name>[^\s=<>!~;(]+)")
SIZED = re.compile(r"\s*(?:Downloading|Using cached) \S+ \((?P<size>[0-9.]+) (?P<unit>[kMG]?B|bytes)\)")
UNITS = {"bytes": 1e-6, "B": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}
FLOOR = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?>=([A-Za-z0-9.!+]+)(?=[,;\s]|$)")


def canonical(name: str) -> str:
    """Return a distribution's name as an index compares it.

    >>> canonical("Llama_Index.core")
    'llama-index-core'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def merged(files: Sequence[Path]) -> str:
    """Return one constraints text; a distribution pinned twice keeps its last pin."""
    pins: dict[str, str] = {}
    for file in files:
        for line in file.read_text().splitlines():
            if match := PIN.match(line.strip()):
                pins[canonical(match[1])] = line.strip()
    return "".join(f"{pin}\n" for pin in pins.values())


def config() -> dict[str, Any]:
    """Return what pyproject.toml says."""
    import tomllib  # not at the top: an older interpreter shall reach the message in `main`

    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements(groups: Sequence[str]) -> list[str]:
    """Return what the dependency groups hold."""
    known = config().get("dependency-groups", {})
    return [requirement for group in groups for requirement in known[group]]


def own_extras(requirement: str) -> list[str]:
    """Return the extras that a requirement on this very project names; none for another project."""
    match = re.fullmatch(rf"{re.escape(config()['project']['name'])}\[(.+)\]", requirement)
    return match[1].split(",") if match else []


def lowest() -> str:
    """Return the lowest version of every range that the project and its extra `all` declare, as constraints."""
    project = config()["project"]
    extras = project["optional-dependencies"]
    named = (name for each in extras["all"] for name in own_extras(each))
    declared = [*project["dependencies"], *(each for name in named for each in extras[name])]
    pins = []
    for requirement in declared:
        match = FLOOR.match(requirement)
        if match is None:
            raise SystemExit(f"{requirement!r} in pyproject.toml does not begin with its lowest version: name>=version")
        pins.append(f"{match[1]}=={match[2]}\n")
    return "".join(dict.fromkeys(pins))


def wanted(groups: Sequence[str]) -> list[str]:
    """Return what to hand to pip: this project, with the extras that the groups ask of it, and the rest they hold."""
    asked = requirements(groups)
    extras = ["all", *(name for each in asked for name in own_extras(each))]
    return ["-e", f".[{','.join(extras)}]", *(each for each in asked if not own_extras(each))]


def key(constraints: str, groups: Sequence[str]) -> str:
    """Return a digest of everything that decides what is installed."""
    told = config()
    parts = [told["build-system"], told["project"], requirements(groups), constraints, sys.version, str(ROOT)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def locked(venv: Path) -> Iterator[None]:
    """Let one process at a time build an environment."""
    with venv.with_name(venv.name + ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class Progress:
    """What pip has fetched so far: one line that is written anew on a terminal, and once at the end elsewhere."""

    def __init__(self) -> None:
        self.packages, self.megabytes = 0, 0.0
        self._began = time.monotonic()

    def take(self, line: str) -> None:
        """Read a line of pip's."""
        if match := SIZED.match(line):
            self.megabytes += float(match["size"]) * UNITS[match["unit"]]
        elif match := FOUND.match(line):
            self.packages += 1
            if sys.stdout.isatty():
                name = match["name"].rpartition("/")[2]
                print(f"\r  {self}: {name[:40]:40}", end="", flush=True)

    def end(self) -> None:
        """Say what it came to."""
        if self.packages:
            end = f"  {self}, {time.monotonic() - self._began:.0f} s"
            print(f"\r{end:70}" if sys.stdout.isatty() else end, flush=True)

    def __str__(self) -> str:
        size = f", {self.megabytes:.0f} MB" if self.megabytes >= 1 else ""
        return f"{self.packages} package{'' if self.packages == 1 else 's'}{size}"


def pip(venv: Path, *arguments: str) -> None:
    """Run the environment's pip; show how far it is, and what it says only if it fails."""
    options = ("--no-input", "--disable-pip-version-check")
    command = [str(venv / "bin/python"), "-m", "pip", *options, *arguments]
    progress, said = Progress(), []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            progress.take(line)
            said.append(line)
    progress.end()
    if process.returncode:
        print("".join(said[-20:]), end="", file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, command)


def strangers(report: dict[str, Any], table: str) -> Iterator[str]:
    """Yield what pip says that it installed from a file that has none of the hashes of its version.

    >>> def told(value):
    ...     archive = {"archive_info": {"hash": f"sha256={value}"}}
    ...     return {"install": [{"metadata": {"name": "A_b", "version": "1"}, "download_info": archive}]}
    >>> list(strangers(told("00"), "a-b==1 --hash=sha256:00")), list(strangers(told("11"), "a-b==1 --hash=sha256:00"))
    ([], ['a-b==1'])
    """
    known = {line.partition(" ")[0]: line.split()[1:] for line in table.splitlines()}
    for each in report["install"]:
        if "dir_info" in each["download_info"]:  # this project itself
            continue
        pin = f"{canonical(each['metadata']['name'])}=={each['metadata']['version']}"
        digest = each["download_info"]["archive_info"].get("hash", "none=")
        if f"--hash={digest.replace('=', ':', 1)}" not in known.get(pin, ()):
            yield pin


def install(venv: Path, constraints: Path, verified: bool, *requirements: str) -> None:
    """Install, and stop if a file has no known hash: of a wheel nothing has run by then, of a source only its build."""
    report = venv / "report.json"
    options = ("--no-compile", "--no-build-isolation", "--report", str(report), "-c", str(constraints))
    pip(venv, "install", *options, *requirements)
    if verified and (unknown := sorted(strangers(json.loads(report.read_text()), HASHES.read_text()))):
        raise SystemExit(
            f"{HASHES.name} has other hashes, or none, of {', '.join(unknown)}: make hashes, and look at why"
        )


def begin(venv: Path, like: Path | None) -> None:
    """Make an empty environment, or one with the packages of another, whose files are linked: pip never changes one."""
    command = [sys.executable, "-m", "venv", "--clear", str(venv)]
    if like is None:
        subprocess.run(command, check=True)
        return
    subprocess.run([*command, "--without-pip"], check=True)
    (packages,) = like.glob("lib/python*/site-packages")
    place = venv / packages.relative_to(like)
    shutil.copytree(packages, place, copy_function=os.link, symlinks=True, dirs_exist_ok=True)


def build(venv: Path, constraints: str, groups: Sequence[str], verified: bool, like: Path | None = None) -> None:
    """Make the environment and install the project in it, editable."""
    begin(venv, like)
    pins = venv / "constraints.txt"
    pins.write_text(constraints)
    # The build backend first, pinned like the rest, so that nothing is fetched behind the constraints' back.
    install(venv, pins, verified, "hatchling")
    install(venv, pins, verified, *wanted(groups))


def ensure(
    venv: Path, files: Sequence[Path], groups: Sequence[str], verified: bool = True, like: Path | None = None
) -> None:
    """Build the environment unless the one that is there is the one that is wanted."""
    constraints = merged(files)
    digest = key(constraints, groups)
    stamp = venv / "stamp"
    with locked(venv):
        if stamp.is_file() and stamp.read_text() == digest:
            return
        print(f"Setting up {venv.name} (once; reused until the dependencies change) …", flush=True)
        build(venv, constraints, groups, verified, like)
        stamp.write_text(digest)


def freeze(venv: Path) -> str:
    """Return the installed versions as constraints, without the project itself and without addresses."""
    # setuptools too, which pip leaves out otherwise: some packages need it at run time.
    command = [str(venv / "bin/python"), "-m", "pip", "freeze", "--all", "--exclude", "pip", "--exclude-editable"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return "\n".join([HEADER, *(line for line in lines if PIN.match(line)), ""])


def main(arguments: Sequence[str]) -> int:
    if sys.version_info < (3, 11):  # noqa: UP036  # this file is the one that meets an older interpreter
        print(f"Python 3.11 or later is needed; {sys.executable} is {sys.version.split()[0]}.")
        return 1
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    # A foreign PYTHONPATH or an active environment must not leak into the one being built.
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        os.environ.pop(name, None)
    if arguments[0] == "--freeze":
        print(freeze(ROOT / arguments[1]), end="")
        return 0
    if arguments[0] == "--lowest":
        print(lowest(), end="")
        return 0
    verified = arguments[0] != "--unverified"
    arguments = arguments if verified else arguments[1:]
    groups, like = [], None
    while arguments[0] in ("--group", "--like"):
        if arguments[0] == "--group":
            groups.append(arguments[1])
        else:
            like = ROOT / arguments[1]
        arguments = arguments[2:]
    venv, *files = (ROOT / argument for argument in arguments)
    try:
        ensure(venv, files, groups, verified, like)
    except subprocess.CalledProcessError as error:
        print(f"Setting up {venv.name} failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
