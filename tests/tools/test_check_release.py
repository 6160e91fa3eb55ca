"""Version, changelog and aliases: what belongs together, and what does not."""

from __future__ import annotations

import check_release
import pytest


def test_tree_is_one_release() -> None:
    """The version, the changelog and the aliases in the tree agree."""
    assert list(check_release.problems()) == []


@pytest.mark.parametrize(
    ("titles", "version"),
    [
        (["Unreleased"], "0.1.0"),
        (["Unreleased", "0.1.0 - 2026-08-22"], "0.1.0"),
        (["Unreleased", "[0.1.0] - 2026-08-22"], "0.2.0"),
        (["0.10.0 - 2026-09-01", "0.9.0 - 2026-08-22"], "0.10.0"),
    ],
)
def test_changelogs_that_fit(titles: list[str], version: str) -> None:
    """The newest release is the version, or older while something is unreleased."""
    assert list(check_release.changelog_problems(text(titles), version)) == []


@pytest.mark.parametrize(
    ("titles", "version", "problem"),
    [
        ([], "0.1.0", "no release and nothing unreleased"),
        (["0.1.0 - 2026-08-22"], "0.2.0", "ends with 0.1.0, and the version is 0.2.0"),
        (["Unreleased", "0.2.0 - 2026-08-22"], "0.1.0", "ends with 0.2.0, and the version is 0.1.0"),
        (["Unreleased", "0.1.0 - 2026-08-22", "0.2.0 - 2026-09-01"], "0.2.0", "the newest release belongs at the top"),
        (["Unreleased", "0.1.0"], "0.1.0", "'0.1.0' is neither 'Unreleased' nor"),
    ],
)
def test_changelogs_that_do_not(titles: list[str], version: str, problem: str) -> None:
    """What does not fit is said."""
    assert problem in "\n".join(check_release.changelog_problems(text(titles), version))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", "0.1.1"),
        ("dependencies", ["chutes-connect[langchain]"]),
        ("dependencies", ["chutes-connect[llama-index]>=0.1.0,<0.2"]),
        ("dependencies", ["chutes-connect[langchain]>=0.1.0,<0.2", "langchain>=1"]),
        ("readme", None),
    ],
)
def test_alias_that_strays_is_found(field: str, value: object) -> None:
    """An alias with another version, another range, another extra or no page is refused."""
    good: dict[str, object] = {
        "name": "langchain-chutes",
        "version": "0.1.0",
        "dependencies": ["chutes-connect[langchain]>=0.1.0,<0.2"],
        "readme": "README.md",
    }
    assert list(check_release.alias_problems("langchain-chutes", good, "0.1.0")) == []
    (problem,) = check_release.alias_problems("langchain-chutes", {**good, field: value}, "0.1.0")
    assert problem.startswith(f"packaging/langchain-chutes: {field} must be ")


def text(titles: list[str]) -> str:
    """A changelog with these sections."""
    return "# Changelog\n\n" + "".join(f"## {title}\n\n- something\n\n" for title in titles)
