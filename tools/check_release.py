"""See that the version, the changelog and the alias packages speak of the same release. Builds nothing.

The version in pyproject.toml is that of the newest release in CHANGELOG.md, or comes after it while there is a section
"Unreleased" above it. An alias has the same version and asks for that one or a later compatible one; its licence and
its addresses are the distribution's.

python tools/check_release.py --tag v1.2.3    see too that this tag is that release, with nothing left unreleased
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HEADING = re.compile(r"^## (?P<title>.+?)\s*$", re.MULTILINE)
RELEASE = re.compile(r"^\[?(?P<version>\d+\.\d+\.\d+)\]? - \d{4}-\d\d-\d\d$")
ALIASES = {
    "langchain-chutes": "langchain",
    "llama-index-embeddings-chutes": "llama-index",
    "llama-index-llms-chutes": "llama-index",
}


def numbers(version: str) -> tuple[int, ...]:
    """Return a version's numbers, to compare it with others.

    >>> numbers("0.10.0") > numbers("0.9.1")
    True
    """
    return tuple(int(number) for number in version.split("."))


def compatible(version: str) -> str:
    """Return the range of versions that do not break what works with this one.

    >>> compatible("0.1.0"), compatible("2.3.1")
    ('>=0.1.0,<0.2', '>=2.3.1,<3')
    """
    major, minor, _ = numbers(version)
    return f">={version},<{major + 1}" if major else f">={version},<0.{minor + 1}"


def changelog_problems(text: str, version: str) -> Iterator[str]:
    r"""Yield what is wrong between the headings of the changelog and the version.

    >>> list(changelog_problems("## Unreleased\n## 0.1.0 - 2026-08-22\n", "0.1.0"))
    []
    >>> list(changelog_problems("## 0.1.0 - 2026-08-22\n", "0.2.0"))
    ['CHANGELOG.md ends with 0.1.0, and the version is 0.2.0']
    """
    titles = [match["title"] for match in HEADING.finditer(text)]
    unreleased = titles[:1] == ["Unreleased"]
    releases = [RELEASE.match(title) for title in titles[unreleased:]]
    for title, match in zip(titles[unreleased:], releases, strict=True):
        if match is None:
            yield f"CHANGELOG.md: {title!r} is neither 'Unreleased' nor '1.2.3 - 2026-08-22'"
    found = [match["version"] for match in releases if match]
    if sorted(found, key=numbers, reverse=True) != found:
        yield "CHANGELOG.md: the newest release belongs at the top"
    if not titles:
        yield "CHANGELOG.md has no release and nothing unreleased"
    elif found and (numbers(version) < numbers(found[0]) or (not unreleased and version != found[0])):
        yield f"CHANGELOG.md ends with {found[0]}, and the version is {version}"


def alias_problems(name: str, project: dict[str, Any], version: str) -> Iterator[str]:
    """Yield what is wrong with the metadata of one alias."""
    wanted = [f"chutes-connect[{ALIASES[name]}]{compatible(version)}"]
    for field, value in (("name", name), ("version", version), ("dependencies", wanted), ("readme", "README.md")):
        if project.get(field) != value:
            yield f"packaging/{name}: {field} must be {value!r}, and is {project.get(field)!r}"


def project(folder: Path) -> dict[str, Any]:
    """Return the table [project] of a pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def problems(root: Path = ROOT) -> Iterator[str]:
    """Yield everything that keeps the tree from being one release."""
    main = project(root)
    version = str(main["version"])
    yield from changelog_problems((root / "CHANGELOG.md").read_text("utf-8"), version)
    folders = {path.name for path in (root / "packaging").iterdir() if path.is_dir()}
    if folders != set(ALIASES):
        yield f"packaging/ has {sorted(folders)}, and the aliases are {sorted(ALIASES)}"
    for name in sorted(folders & set(ALIASES)):
        alias = project(root / "packaging" / name)
        yield from alias_problems(name, alias, version)
        for field in ("requires-python", "license", "license-files", "authors", "urls"):
            if alias.get(field) != main[field]:
                yield f"packaging/{name}: {field} is not that of the distribution"
        if (root / "packaging" / name / "LICENSE").read_bytes() != (root / "LICENSE").read_bytes():
            yield f"packaging/{name}: LICENSE is not that of the distribution"
        if not {*alias.get("classifiers", [])} <= {*main["classifiers"]}:
            yield f"packaging/{name}: the distribution has not all of its classifiers"


def tag_problems(tag: str, version: str, changelog: str) -> Iterator[str]:
    r"""Yield what keeps a tag from being the release that the tree is.

    >>> list(tag_problems("v0.1.0", "0.1.0", "## 0.1.0 - 2026-08-22\n"))
    []
    >>> list(tag_problems("v0.2.0", "0.1.0", "## Unreleased\n"))
    ['the tag is v0.2.0, and the version is 0.1.0', 'CHANGELOG.md begins with what is unreleased']
    """
    if tag != f"v{version}":
        yield f"the tag is {tag}, and the version is {version}"
    if (title := HEADING.search(changelog)) is None or title["title"] == "Unreleased":
        yield "CHANGELOG.md begins with what is unreleased"


def main(arguments: Sequence[str]) -> int:
    found = list(problems())
    if arguments[:1] == ["--tag"]:
        changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
        found += tag_problems(arguments[1], project(ROOT)["version"], changelog)
    print("\n".join(found) if found else f"release: {project(ROOT)['version']}, in the changelog and in every alias")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
