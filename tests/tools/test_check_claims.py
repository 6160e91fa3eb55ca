"""A claim of the threat model is held by a test, or told of."""

from __future__ import annotations

from pathlib import Path

import check_claims
import pytest


def test_every_claim_is_held() -> None:
    """The page as it is."""
    page = check_claims.PAGE.read_text()
    assert len(list(check_claims.claims(page))) > 20
    assert list(check_claims.problems(page)) == []


@pytest.mark.parametrize(
    ("held_by", "problem"),
    [
        ("`tests/test_a.py::test_one`, `tests/test_a.py::test_two`", None),
        ("", "no test holds 'It is so'"),
        ("tests/test_a.py::test_one", "no test holds 'It is so'"),
        ("`tests/test_a.py::test_three`", "`tests/test_a.py::test_three` does not exist, and holds 'It is so'"),
        ("`tests/test_b.py::test_one`", "`tests/test_b.py::test_one` does not exist, and holds 'It is so'"),
    ],
)
def test_a_claim_without_a_test_is_found(held_by: str, problem: str | None, tmp_path: Path) -> None:
    """None is named, or one that is not there."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text("def test_one(): ...\nclass T:\n    async def test_two(self): ...\n")
    page = f"| Claim | Held by |\n| --- | --- |\n| It is so | {held_by} |\n"
    assert list(check_claims.problems(page, tmp_path)) == ([problem] if problem else [])
