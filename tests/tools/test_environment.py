"""An environment is rebuilt when what decides its contents has changed, and only then."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import environment
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = """\
[build-system]
requires = ["hatchling"]
[project]
name = "x"
dependencies = ["{dependency}"]
[dependency-groups]
dev = ["{tool}"]
other = ["x[more]", "y[z]"]
[tool.ruff]
line-length = {length}
"""


def test_later_constraints_override_earlier_ones(tmp_path: Path) -> None:
    """A distribution pinned twice, however its name is spelt, keeps the last pin."""
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("# tested\nopenai==3.0\nllama_index-core==1.0\nhttpx==0.28.1\n")
    second.write_text("openai==2.0\nllama-index-core==2.0\n")
    assert environment.merged([first, second]) == "openai==2.0\nllama-index-core==2.0\nhttpx==0.28.1\n"


def test_built_once_and_again_when_dependencies_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tool settings do not touch the environment; a dependency, a group or a constraint does."""
    built: list[str] = []

    def build(venv: Path, constraints: str, groups: object, verified: bool, like: object) -> None:
        venv.mkdir(exist_ok=True)
        built.append(constraints)

    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "build", build)
    pins, project = tmp_path / "constraints.txt", tmp_path / "pyproject.toml"
    pins.write_text("a==1\n")

    def ensure(dependency: str, length: int, tool: str = "t") -> int:
        project.write_text(PROJECT.format(dependency=dependency, length=length, tool=tool))
        environment.ensure(tmp_path / ".venv", [pins], ["dev"])
        return len(built)

    assert ensure("a", 100) == 1
    assert ensure("a", 110) == 1
    assert ensure("b", 110) == 2
    pins.write_text("a==2\n")
    assert ensure("b", 110) == 3
    assert ensure("b", 110, tool="u") == 4
    assert built == ["a==1\n", "a==1\n", "a==2\n", "a==2\n"]


def test_the_groups_that_are_named_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that they hold, and nothing of the others."""
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text(PROJECT.format(dependency="a", length=1, tool="t"))
    assert environment.requirements([]) == []
    assert environment.requirements(["dev", "other"]) == ["t", "x[more]", "y[z]"]
    assert environment.wanted([]) == ["-e", ".[all]"]
    # pip does not take a requirement on this very project, which it is installing, for met.
    assert environment.wanted(["dev", "other"]) == ["-e", ".[all,more]", "t", "y[z]"]


@pytest.mark.parametrize(
    ("requirement", "pin"),
    [
        ("a>=1", "a==1"),
        ("a-b[x,y]>=1.2.3,<2", "a-b==1.2.3"),
        ("a>=1.0; platform_machine == 'x86_64'", "a==1.0"),
        ("a==1", None),
        ("a<2,>=1", None),
        ("a", None),
    ],
)
def test_the_lowest_version_of_each_range_is_a_constraint(
    requirement: str, pin: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the project's own and those of the extra `all`, once each; what has none is named."""
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text(
        f"""[project]
name = "x"
dependencies = ["own>=3,<4"]
[project.optional-dependencies]
one = ["shared>=2", "{requirement}"]
two = ["shared>=2"]
left_out = ["z>=9"]
all = ["x[one,two]"]
"""
    )
    if pin is None:
        with pytest.raises(SystemExit, match=re.escape(requirement)):
            environment.lowest()
    else:
        assert environment.lowest().splitlines() == ["own==3", "shared==2", pin]


def test_the_lowest_versions_are_those_that_are_tested() -> None:
    """A range that was moved in pyproject.toml is resolved again: `make constraints`."""
    tested = dict(pins(environment.ROOT.joinpath("constraints-lowest.txt").read_text()))
    assert {name: tested[name] for name, _ in pins(environment.lowest())} == dict(pins(environment.lowest()))


def pins(text: str) -> Iterator[tuple[str, Version]]:
    """Return names, as an index compares them, with their versions."""
    for line in text.splitlines():
        if match := environment.PIN.match(line):
            yield canonicalize_name(match[1]), Version(line.partition("==")[2])


def test_failed_build_leaves_no_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was interrupted half-way is not taken for complete the next time."""

    def build(venv: Path, constraints: str, groups: object, verified: bool, like: object) -> None:
        venv.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "build", build)
    (tmp_path / "pyproject.toml").write_text(PROJECT.format(dependency="a", length=1, tool="t"))
    with pytest.raises(KeyboardInterrupt):
        environment.ensure(tmp_path / ".venv", [], [])
    assert not (tmp_path / ".venv/stamp").exists()


def test_an_environment_begins_with_the_packages_of_another(tmp_path: Path) -> None:
    """It has them, with their pip, on the same bytes of the disk; and what it loses the other one keeps."""
    one, other = tmp_path / "one", tmp_path / "other"
    environment.begin(one, None)
    (packages,) = one.glob("lib/python*/site-packages")
    (packages / "said.py").write_text("it = 'so'\n")
    environment.begin(other, one)
    show = "import pip, said, sys; print(said.it, sys.prefix, pip.__file__)"
    done = subprocess.run([other / "bin/python", "-c", show], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"so {other} {other}")
    there = other / packages.relative_to(one) / "said.py"
    assert there.samefile(packages / "said.py")
    there.unlink()
    assert (packages / "said.py").read_text() == "it = 'so'\n"


MAKEFILE = (environment.ROOT / "Makefile").read_text()
MADE = re.findall(r"tools/environment\.py (?!--unverified|--freeze|--lowest)(.*)", MAKEFILE)


@pytest.mark.parametrize("words", MADE)
def test_what_a_target_installs_is_pinned(words: str) -> None:
    """Whatever its groups name has a pin in its files, or no file of it would have a known hash."""
    groups = re.findall(r"--group (\S+)", words)
    files = [environment.ROOT / name for name in re.findall(r"constraints\S*\.txt", words)]
    pins = {environment.canonical(line.partition("==")[0]) for line in environment.merged(files).splitlines()}
    names = {Requirement(each).name for each in environment.requirements(groups) if not environment.own_extras(each)}
    assert {environment.canonical(name) for name in names} <= pins


@pytest.mark.parametrize(
    ("digest", "verified", "refused"),
    [("00", True, False), ("11", True, True), ("", True, True), ("11", False, False)],
    ids=["known", "another", "none", "unverified"],
)
def test_a_file_with_another_hash_ends_the_build(
    digest: str, verified: bool, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pip says that it took is compared with the table; the project itself, a folder, has no hash."""
    archive = {"archive_info": {"hash": f"sha256={digest}"} if digest else {}}
    taken = [
        {"metadata": {"name": "A_b", "version": "1"}, "download_info": archive},
        {"metadata": {"name": "x", "version": "1"}, "download_info": {"dir_info": {"editable": True}}},
    ]
    table = tmp_path / "constraints-hashes.txt"
    table.write_text("# A table\na-b==1 --hash=sha256:00\n")
    monkeypatch.setattr(environment, "HASHES", table)
    monkeypatch.setattr(
        environment, "pip", lambda venv, *_: (venv / "report.json").write_text(json.dumps({"install": taken}))
    )
    if refused:
        with pytest.raises(SystemExit, match="other hashes, or none, of a-b==1"):
            environment.install(tmp_path, tmp_path / "pins.txt", verified, "a-b")
    else:
        environment.install(tmp_path, tmp_path / "pins.txt", verified, "a-b")


SAID = """\
Looking in links: somewhere
Collecting anyio (from httpx)
  Downloading anyio-4.16.0-py3-none-any.whl (134 kB)
Collecting numpy==2.3
  Using cached numpy-2.3-cp311.whl (16.6 MB)
Processing ./files/idna-3.20-py3-none-any.whl (from httpx)
Requirement already satisfied: pip
"""


def test_what_pip_says_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """How many packages, and how much was fetched; away from a terminal in one line at the end."""
    progress = environment.Progress()
    for line in SAID.splitlines(keepends=True):
        progress.take(line)
    progress.end()
    assert capsys.readouterr().out.startswith("  3 packages, 17 MB, ")


def test_what_pip_says_is_shown_when_it_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The reason stands above the message, and nothing of what went well is lost on the reader."""
    fake = tmp_path / "bin" / "python"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho Collecting anyio\necho ERROR: no such version >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(environment.subprocess.CalledProcessError):
        environment.pip(tmp_path, "install", "anyio")
    out, err = capfd.readouterr()
    assert "1 package, " in out
    assert "no such version" in err
    assert "Collecting anyio" in err
