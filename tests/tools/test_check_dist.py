"""What may be in the archives. That they install and work is seen by running the check itself."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import check_dist
import check_release
import pytest

METADATA = "Name: chutes-connect\nVersion: 0.1.0\nRequires-Dist: {}\n\n# A page\n"
ALIAS = "License-File: LICENSE\nProject-URL: x\nClassifier: y\nKeywords: z\n\nIt installs chutes-connect[x].\n"
LICENCE = "x-1.dist-info/licenses/LICENSE"


def test_a_stray_and_a_missing_file_are_found() -> None:
    """A wheel with something beside the packages, or without one of their files, is refused."""
    problems = set(check_dist.wheel_problems({"tests/test_x.py"}, METADATA.format("httpx>=0.27"), "0.1.0"))
    assert "the wheel holds tests/test_x.py, which is not in a package" in problems
    assert "the wheel lacks chutes_core/__init__.py" in problems
    assert "the wheel lacks the licence" in problems


@pytest.mark.parametrize("requirement", ["langchain-core>=1.2", "llama-index-core>=0.14", "openai>=2.40"])
def test_what_an_extra_is_for_is_found_in_the_base_install(requirement: str) -> None:
    """The base install pulls no framework and no SDK; an extra may."""
    base = set(check_dist.wheel_problems(set(), METADATA.format(requirement), "0.1.0"))
    extra = set(check_dist.wheel_problems(set(), METADATA.format(f"{requirement}; extra == 'x'"), "0.1.0"))
    assert base - extra == {f"a base install would pull {requirement}"}


def test_environments_and_caches_in_an_sdist_are_found() -> None:
    """What is only on the machine of whoever builds stays there."""
    names = {*check_dist.IN_SDIST, ".venv-openai2/x.py", "build/site/index.html", "tools/__pycache__/x.pyc"}
    assert [line.rpartition(" ")[2] for line in check_dist.sdist_problems(names)] == [
        ".venv-openai2/x.py",
        "build/site/index.html",
        "tools/__pycache__/x.pyc",
    ]


def test_an_archive_that_comes_out_differently_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build from the sdist is held to the first build, byte by byte."""
    wheel, sdist, again = tmp_path / "x-1.whl", tmp_path / "x-1.tar.gz", tmp_path / "again"
    again.mkdir()
    wheel.write_bytes(b"one")
    with tarfile.open(sdist, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x-1/PKG-INFO"), io.BytesIO())
    other = tmp_path / "other" / "x-1.whl"
    other.parent.mkdir()
    other.write_bytes(b"one")
    monkeypatch.setattr(check_dist, "built", lambda source, folder: [other])
    check_dist.check_reproducible(wheel, sdist, again / "same")
    other.write_bytes(b"two")
    with pytest.raises(SystemExit, match="comes out differently"):
        check_dist.check_reproducible(wheel, sdist, again / "differs")


def test_every_alias_has_a_use() -> None:
    """No alias is built without being tried."""
    assert set(check_dist.USES) == set(check_release.ALIASES) == set(check_dist.DOORS)
    assert set(check_dist.OTHERS) == set(check_release.ALIASES.values())


@pytest.mark.parametrize(
    ("names", "metadata", "problem"),
    [
        ({LICENCE}, ALIAS, "the wheel holds [], and should hold ['llama_index/llms/chutes/__init__.py', "),
        ({LICENCE, "llama_index/__init__.py"}, ALIAS, "the wheel holds ['llama_index/__init__.py'], and should hold "),
        (set(), ALIAS, "the wheel lacks the licence"),
        ({LICENCE}, ALIAS.replace("Project-URL", "Home"), "the wheel's metadata lack Project-URL"),
        ({LICENCE}, ALIAS.replace("chutes-connect[x]", "it"), "the wheel's README does not say what it installs"),
        ({LICENCE}, ALIAS + "[a](docs/a.md)", "the wheel's README has a link into the tree: docs/a.md"),
    ],
    ids=["no door", "a folder of others", "no licence", "no address", "no word", "a relative link"],
)
def test_an_alias_that_is_not_right_is_found(names: set[str], metadata: str, problem: str) -> None:
    """It holds its door, the licence and what an index page shows, and nothing in LlamaIndex's own folders."""
    name = "llama-index-llms-chutes"
    door = {f"llama_index/llms/chutes/{file}" for file in ("__init__.py", "py.typed")}
    assert list(check_dist.alias_problems({LICENCE, *door}, ALIAS, name)) == []
    held = names if "should hold" in problem else names | door
    (found,) = check_dist.alias_problems(held, metadata, name)
    assert found.startswith(problem)
