"""Build what would be uploaded, look inside, build it again, and use it where nothing of the tree is in reach.

Two clean environments at a time: one for the wheel alone and then for the alias of LangChain, one for the aliases of
LlamaIndex, one after the other.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.parser import Parser
from pathlib import Path

import check_release
import check_secrets
from check_links import FENCE, LINK

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("chutes_core", "chutes_cli", "chutes_local", "langchain_chutes", "llama_index_chutes")
# What an alias holds of its own: a door under LlamaIndex's folders, which have no `__init__.py` here.
DOORS = {
    "langchain-chutes": None,
    "llama-index-embeddings-chutes": "llama_index/embeddings/chutes",
    "llama-index-llms-chutes": "llama_index/llms/chutes",
}
IN_SDIST = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "Makefile",
    "constraints.txt",
    "constraints-hashes.txt",
    "mkdocs.yml",
    "packaging/langchain-chutes/pyproject.toml",
    "tests/test_packaging.py",
)
# Run in the clean environment: where the packages come from, that a call needs no SDK, what is said without an extra.
ALONE = """
import importlib, importlib.util, sys, chutes_core, httpx
from chutes_core.testing import FaultyTransport
assert chutes_core.__version__ == sys.argv[1], chutes_core.__version__
assert chutes_core.__file__.startswith(sys.prefix), chutes_core.__file__
for name in chutes_core.__all__:
    getattr(chutes_core, name)
for name in ("openai", "httpx2", "llama_index"):
    assert importlib.util.find_spec(name) is None, f"a base install brought {name}"
said = [{"role": "user", "content": "Hello!"}]
with chutes_core.ChutesClient("cpk_0123", http_client=httpx.Client(transport=FaultyTransport())) as client:
    assert client.chat(said, model="acme/one").content == "".join(
        delta.content or "" for delta in client.stream(said, model="acme/one")
    )
try:
    chutes_core.openai_client("cpk_0123")
except chutes_core.ConfigurationError as error:
    assert "pip install 'chutes-connect[openai]'" in str(error), error
else:
    raise AssertionError("an openai client was made without its SDK")
for package, extra in (("langchain_chutes", "langchain"), ("llama_index_chutes", "llama-index")):
    try:
        importlib.import_module(package)
    except ImportError as error:
        assert f"pip install 'chutes-connect[{extra}]'" in str(error), error
    else:
        raise AssertionError(f"{package} was imported without its framework")
"""
# Run behind an alias: what it is for works, and nothing of the other framework came along.
LANGCHAIN = """
import importlib.util
assert importlib.util.find_spec("llama_index") is None
from langchain_chutes import ChatChutes, ChutesEmbeddings, ChutesFallback
assert ChatChutes(model="Qwen/Qwen3-32B-TEE", api_key="cpk_0123").profile["max_input_tokens"] == 40960
ChutesFallback(["Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE"], api_key="cpk_0123")
ChutesEmbeddings(api_key="cpk_0123")
"""
LLMS = """
from llama_index.llms.chutes import Chutes
assert Chutes(model="Qwen/Qwen3-32B-TEE", api_key="cpk_0123").metadata.context_window == 40960
"""
EMBEDDINGS = """
from llama_index.embeddings.chutes import ChutesEmbedding
assert ChutesEmbedding(api_key="cpk_0123").model_name == "Qwen/Qwen3-Embedding-8B-TEE"
"""
USES = {
    "langchain-chutes": LANGCHAIN,
    "llama-index-llms-chutes": LLMS,
    "llama-index-embeddings-chutes": EMBEDDINGS,
}
STRANGERS = """
import sys
from importlib.metadata import distributions
names = {distribution.metadata["Name"].lower().replace("_", "-") for distribution in distributions()}
strangers = sorted(name for name in names - {sys.argv[1]} if name.startswith(tuple(sys.argv[2:])))
assert not strangers, strangers
"""
# The beginnings of the names of what belongs to the other framework.
OTHERS = {"langchain": ("llama-", "llamaindex"), "llama-index": ("langchain", "langgraph", "langsmith")}


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


def metadata_problems(names: set[str], metadata: str) -> Iterator[str]:
    """Yield what an index page, or whoever must know the licence, would miss in a wheel."""
    headers = Parser().parsestr(metadata)
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        yield "the wheel lacks the licence"
    for field in ("License-File", "Project-URL", "Classifier", "Keywords"):
        if field not in headers:
            yield f"the wheel's metadata lack {field}"
    page = str(headers.get_payload())
    if not page.strip():
        yield "the wheel carries no README"
    yield from (f"the wheel's README has a link into the tree: {target}" for target in relative_links(page))


def relative_links(page: str) -> list[str]:
    """Return the links of a page that lead nowhere from an index page.

    >>> relative_links("[a](docs/a.md) [b](https://host/b) [c](#c) ![d](docs/d.svg)")
    ['docs/a.md', 'docs/d.svg']
    """
    targets = [match["target"] for match in LINK.finditer(FENCE.sub("", page))]
    return [target for target in targets if not re.match(r"#|[a-z]+:", target)]


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
    for package in PACKAGES:
        if f"{package}/py.typed" not in names:
            yield f"{package} has no py.typed in the wheel"
    headers = Parser().parsestr(metadata)
    if (headers["Name"], headers["Version"]) != ("chutes-connect", version):
        yield f"the wheel calls itself {headers['Name']} {headers['Version']}"
    yield from metadata_problems(names, metadata)
    required = {r for r in headers.get_all("Requires-Dist", []) if "extra ==" not in r}
    yield from (f"a base install would pull {r}" for r in required if r.startswith(("langchain", "llama", "openai")))


def sdist_problems(names: set[str]) -> Iterator[str]:
    """Yield what is missing from the sdist, or has no place in it."""
    yield from (f"the sdist lacks {name}" for name in IN_SDIST if name not in names)
    yield from (
        f"the sdist holds {name}"
        for name in sorted(names)
        if name.startswith((".venv", "dist/", "build/", ".git/")) or "__pycache__" in name
    )


def inside(wheel: Path) -> tuple[set[str], str]:
    """Return the names of a wheel's files, and its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        return names, archive.read(next(n for n in names if n.endswith(".dist-info/METADATA"))).decode()


def check_contents(wheel: Path, sdist: Path, version: str) -> None:
    """Stop with a list of everything that is wrong with the two archives."""
    names, metadata = inside(wheel)
    with tarfile.open(sdist) as tar:
        unpacked = {member.name.partition("/")[2] for member in tar.getmembers() if member.isfile()}
    problems = [*wheel_problems(names, metadata, version), *sdist_problems(unpacked)]
    problems += check_secrets.scan([wheel, sdist])
    if problems:
        sys.exit("\n".join(f"dist: {problem}" for problem in problems))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_reproducible(wheel: Path, sdist: Path, folder: Path) -> None:
    """Unpack the sdist elsewhere and build there: both archives must come out the same, to the byte."""
    with tarfile.open(sdist) as tar:
        tar.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    (source / "PKG-INFO").unlink()  # the sdist's own: hatchling would pack it a second time
    for archive in built(source, folder / "dist"):
        first = wheel if archive.suffix == ".whl" else sdist
        if archive.name != first.name or digest(archive) != digest(first):
            sys.exit(f"dist: {archive.name} comes out differently when it is built from the sdist")


def alias_problems(names: set[str], metadata: str, name: str) -> Iterator[str]:
    """Yield what an alias' wheel lacks, or has that has no place in it."""
    door = DOORS[name]
    wanted = {f"{door}/__init__.py", f"{door}/py.typed"} if door else set()
    found = {each for each in names if ".dist-info/" not in each}
    if found != wanted:
        yield f"the wheel holds {sorted(found)}, and should hold {sorted(wanted)}"
    if "chutes-connect[" not in str(Parser().parsestr(metadata).get_payload()):
        yield "the wheel's README does not say what it installs"
    yield from metadata_problems(names, metadata)


def alias_wheels(folder: Path) -> dict[str, Path]:
    """Build the alias wheels, from the tree and from their sdists; stop unless both are the same, and right."""
    wheels = {}
    for name in check_release.ALIASES:
        sdist, wheel = sorted(built(ROOT / "packaging" / name, folder / name / "dist"), key=lambda path: path.suffix)
        (folder / name / "again").mkdir()
        check_reproducible(wheel, sdist, folder / name / "again")
        names, metadata = inside(wheel)
        problems = [*alias_problems(names, metadata, name), *check_secrets.scan([wheel, sdist])]
        if problems:
            sys.exit("\n".join(f"dist: {wheel.name}: {problem}" for problem in problems))
        wheels[name] = wheel
    return wheels


class Clean:
    """A clean environment, away from the tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv/bin/python"
        run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder.parent)

    def pip(self, *arguments: str | Path) -> None:
        """Run our pip on the environment, which has none: making one takes longer than most of what follows."""
        options = ("-qq", "--no-input", "--disable-pip-version-check", "--python", self.python)
        run(sys.executable, "-m", "pip", *options, *arguments)

    def install(self, *wheels: Path) -> None:
        """Install wheels and what they ask for, in the versions that were tested, and see that nothing contradicts."""
        self.pip("install", "--no-compile", "-c", ROOT / "constraints.txt", *wheels)
        self.pip("check")

    def tell(self, code: str, *arguments: str) -> None:
        """Run a few lines in it."""
        run(self.python, "-I", "-W", "error::ImportWarning", "-c", code, *arguments, cwd=self.folder)


def check_alone(clean: Clean, wheel: Path, version: str) -> None:
    """Install the wheel with its base dependencies alone, and use it."""
    clean.install(wheel)
    clean.tell(ALONE, version)
    run(clean.python.with_name("chutes-connect"), "--help", cwd=clean.folder)


def check_alias(clean: Clean, name: str, alias: Path, wheel: Path) -> None:
    """Install an alias, use what it is for, and take it away again."""
    clean.install(alias, wheel)
    clean.tell(USES[name])
    clean.tell(STRANGERS, name, *OTHERS[check_release.ALIASES[name]])
    clean.pip("uninstall", "-y", name)


def check_use(wheel: Path, aliases: dict[str, Path], folder: Path, version: str) -> None:
    """Install everything in clean environments, those of each framework beside those of the other."""

    def use(extra: str) -> None:
        clean = Clean(folder / extra)
        if extra == "langchain":
            check_alone(clean, wheel, version)
        for name, alias in aliases.items():
            if check_release.ALIASES[name] == extra:
                check_alias(clean, name, alias, wheel)

    for extra in OTHERS:
        (folder / extra).mkdir()
    with ThreadPoolExecutor(len(OTHERS)) as pool:
        for done in [pool.submit(use, extra) for extra in OTHERS]:
            done.result()


def main() -> None:
    if problems := list(check_release.problems()):
        sys.exit("\n".join(f"dist: {problem}" for problem in problems))
    version = str(check_release.project(ROOT)["version"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, sdist = sorted(built(ROOT, folder / "dist"), key=lambda path: path.suffix != ".whl")
        check_contents(wheel, sdist, version)
        (folder / "again").mkdir()
        check_reproducible(wheel, sdist, folder / "again")
        aliases = alias_wheels(folder / "aliases")
        check_use(wheel, aliases, folder, version)
        print(f"dist: {wheel.name} and {sdist.name} hold what they should, twice the same to the byte")
        print(f"dist: the wheel works on its own, and behind each of {', '.join(aliases)}")


if __name__ == "__main__":
    main()
