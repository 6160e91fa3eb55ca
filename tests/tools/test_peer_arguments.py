"""The record of other packages' arguments: what is read, and when it is out of date."""

from __future__ import annotations

import peer_arguments


def test_a_row_of_the_same_version_is_compared() -> None:
    """Another version may take other arguments; the table is held against those too, elsewhere."""
    one = {"package": "p", "version": "1", "names": ["a"]}
    other = {**one, "names": ["a", "b"]}
    assert peer_arguments.differing({"x": one}, {"x": one}) == []
    assert peer_arguments.differing({"x": one}, {"x": other}) == ["x"]
    assert peer_arguments.differing({"x": one}, {"x": {**other, "version": "2"}}) == []
    assert peer_arguments.differing({}, {"x": one}) == ["x"]


def test_what_is_not_installed_has_no_version() -> None:
    """And is left as it is on record."""
    assert peer_arguments.installed("no-such-distribution") is None
