"""Build what would be uploaded, look inside, and use the wheel where nothing else of the tree is in reach."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import check_secrets

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("chutes_core", "chutes_local", "langchain_chutes", "llama_index_chutes", "llama_index")
NAMESPACES = ("llama_index", "llama_index/llms", "llama_index/embeddings")
IN_SDIST = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "Makefile",
    "constraints.txt",
    "tests/test_packaging.py",
)
# Run in the clean environment: where the packages come from, and what they say without an extra.
PROBE = """
import importlib, sys, chutes_core
assert chutes_core.__version__ == sys.argv[1], chutes_core.__version__
assert chutes_core.__file__.startswith(sys.prefix), chutes_core.__file__
for name in chutes_core.__all__:
    getattr(chutes_core, name)
for package, extra in (("langchain_chutes", "langchain"), ("llama_index_chutes", "llama-index")):
    try:
        importlib.import_module(package)
    except ImportError as error:
        assert f"pip install 'chutes-connect[{extra}]'" in str(error), error
    else:
        raise AssertionError(f"{package} was imported without its framework")
"""


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command quietly; show what it said only if it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if process.returncode:
        sys.exit(f"dist: {' '.join(map(str, command))} failed\n{process.stdout}{process.stderr}")


def built(source: Path, folder: Path, *arguments: str) -> list[Path]:
    """Build a project with the backend that is installed here and return the archives."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, *arguments, source)
    return sorted(folder.iterdir())


def wheel_problems(names: set[str], metadata: str, version: str) -> Iterator[str]:
    """Yield what is missing from the wheel, or has no place in it."""
    code = {name for name in names if ".dist-info/" not in name}
    tree = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    yield from (f"the wheel lacks {name}" for name in sorted(tree - code))
    yield from (f"the wheel holds {name}, which is not in a package" for name in sorted(code - tree))
    yield from (f"the wheel holds {n}/__init__.py" for n in NAMESPACES if f"{n}/__init__.py" in names)
    for package in PACKAGES[:-1]:
        if f"{package}/py.typed" not in names:
            yield f"{package} has no py.typed in the wheel"
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        yield "the wheel lacks the licence"
    headers = Parser().parsestr(metadata)
    if (headers["Name"], headers["Version"]) != ("chutes-connect", version):
        yield f"the wheel calls itself {headers['Name']} {headers['Version']}"
    if headers.get_payload() == "":
        yield 'the wheel carries no README: pyproject.toml needs readme = "README.md"'
    required = {r for r in headers.get_all("Requires-Dist", []) if "extra ==" not in r}
    yield from (f"a base install would pull {r}" for r in required if r.startswith(("langchain", "llama")))


def sdist_problems(names: set[str]) -> Iterator[str]:
    """Yield what is missing from the sdist, or has no place in it."""
    yield from (f"the sdist lacks {name}" for name in IN_SDIST if name not in names)
    yield from (
        f"the sdist holds {name}"
        for name in sorted(names)
        if name.startswith((".venv", "dist/", "build/", ".git/")) or "__pycache__" in name
    )


def check_contents(wheel: Path, sdist: Path, version: str) -> None:
    """Stop with a list of everything that is wrong with the two archives."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(n for n in names if n.endswith(".dist-info/METADATA"))).decode()
    with tarfile.open(sdist) as tar:
        unpacked = {member.name.partition("/")[2] for member in tar.getmembers() if member.isfile()}
    problems = [*wheel_problems(names, metadata, version), *sdist_problems(unpacked)]
    problems += check_secrets.scan([wheel, sdist])
    if problems:
        sys.exit("\n".join(f"dist: {problem}" for problem in problems))


def check_aliases(folder: Path, version: str) -> None:
    """Build the alias wheels: nothing inside, and this very version required."""
    for source in sorted((ROOT / "packaging").iterdir()):
        (wheel,) = built(source, folder / source.name, "--wheel")
        with zipfile.ZipFile(wheel) as archive:
            strays = [name for name in archive.namelist() if ".dist-info/" not in name]
        project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
        (requirement,) = project["dependencies"]
        if strays or project["version"] != version or not requirement.endswith(f"=={version}"):
            sys.exit(f"dist: {source.name} must be empty and follow {version}: {strays} {requirement}")


def check_use(wheel: Path, folder: Path, version: str) -> None:
    """Install the wheel with its base dependencies alone, away from the tree, and use it."""
    python = folder / "venv/bin/python"
    run(sys.executable, "-m", "venv", folder / "venv")
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "-qq", "--no-input", "install", "-c", constraints, wheel)
    run(python, "-m", "pip", "check")
    run(python, "-I", "-c", PROBE, version, cwd=folder)
    run(folder / "venv/bin/chutes-connect", "--help", cwd=folder)


def main() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, sdist = sorted(built(ROOT, folder / "dist"), key=lambda path: path.suffix != ".whl")
        check_contents(wheel, sdist, version)
        check_aliases(folder, version)
        check_use(wheel, folder, version)
        print(f"dist: {wheel.name} and {sdist.name} hold what they should; the wheel works on its own")


if __name__ == "__main__":
    main()
