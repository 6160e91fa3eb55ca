"""What is installed is what was promised: names, versions, type markers, and nothing heavy on import."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTION = "chutes-connect"
PACKAGES = ["chutes_core", "chutes_local", "langchain_chutes", "llama_index_chutes"]
# In distributions of their own: a user of `llama_index` finds the integration where it is looked for.
DOORS = ["llama_index.embeddings.chutes", "llama_index.llms.chutes"]
# Left in a module's namespace by the way it is written, not by what it offers.
SCAFFOLDING = {"annotations", "TYPE_CHECKING"}
HEAVY = {"filelock", "openai", "httpx", "httpx2", "pydantic", "numpy", "langchain_core", "llama_index", "chutes_local"}


def public_names(module: ModuleType) -> set[str]:
    """Return the names a reader would take for the module's offer: no underscore, not a submodule."""
    names = {name for name in {*dir(module), *vars(module)} if not name.startswith("_")}
    return {name for name in names - SCAFFOLDING if not isinstance(getattr(module, name), ModuleType)}


@pytest.mark.parametrize("package", PACKAGES + DOORS)
def test_all_is_exactly_what_is_importable(package: str) -> None:
    """`__all__` names every public name of a package and nothing else."""
    module = importlib.import_module(package)
    declared = list(module.__all__)
    assert len(declared) == len(set(declared))
    assert set(declared) - {"__version__"} == public_names(module)


@pytest.mark.parametrize("package", PACKAGES)
def test_version_is_the_distributions(package: str) -> None:
    """Each package's `__version__` is the version of the distribution that brought it."""
    assert importlib.import_module(package).__version__ == version(DISTRIBUTION)


@pytest.mark.parametrize("package", PACKAGES)
def test_version_is_exported(package: str) -> None:
    """`__version__` is part of each package's declared interface."""
    assert "__version__" in importlib.import_module(package).__all__


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the wheel and return the names of the files in it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("package", PACKAGES)
def test_type_marker_is_shipped(package: str, wheel_names: set[str]) -> None:
    """Each package carries `py.typed`, so that type checkers read its annotations."""
    assert f"{package.replace('.', '/')}/py.typed" in wheel_names


def test_the_wheel_does_not_look_like_llama_index(wheel_names: set[str]) -> None:
    """Who has only LangChain finds no `llama_index`: the doors below it are in the aliases."""
    assert not [name for name in wheel_names if name.startswith("llama_index/")]


def test_wheel_holds_only_the_packages(wheel_names: set[str]) -> None:
    """Tests, tools and examples stay out of site-packages."""
    roots = {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name}
    assert roots <= {*PACKAGES, "chutes_cli"}


def test_importing_the_core_is_light() -> None:
    """`import chutes_core` in a fresh interpreter loads no SDK, no HTTP client and no framework."""
    code = "import json, sys, chutes_core; print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert not HEAVY & set(json.loads(process.stdout))


WITHOUT_SDK = """
import sys
sys.modules["openai"] = None
import httpx
from chutes_core import CapacityError, ChutesClient
from chutes_core.testing import FaultyTransport
from langchain_chutes import ChatChutes
from llama_index.llms.chutes import Chutes
http = httpx.Client(transport=FaultyTransport(["capacity"]))
client = ChutesClient("cpk_0123", http_client=http, max_retries=0)
said = [{"role": "user", "content": "Hello!"}]
try:
    client.chat(said, model="acme/one")
except CapacityError:
    text = client.chat(said, model="acme/one").content
assert ChatChutes(model="acme/one", api_key="cpk_0123", http_client=http).invoke("Hello!").text == text
assert Chutes(model="acme/one", api_key="cpk_0123", http_client=http).complete("Hello!").text == text
"""


def test_nothing_needs_the_openai_sdk() -> None:
    """The client and both frameworks call, and fail, where the SDK cannot be imported."""
    process = subprocess.run([sys.executable, "-c", WITHOUT_SDK], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    ("package", "framework", "extra"),
    [
        ("langchain_chutes", "langchain_core", "langchain"),
        ("llama_index_chutes", "llama_index.core", "llama-index"),
    ],
)
def test_missing_extra_names_its_remedy(package: str, framework: str, extra: str) -> None:
    """Without its framework a package refuses with the pip command that installs it."""
    code = f"import sys; sys.modules[{framework!r}] = None; import {package}"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith("ImportError: ")
    assert f"pip install 'chutes-connect[{extra}]'" in process.stderr
