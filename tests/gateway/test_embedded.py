"""The embedded Chutes held to what the service's own code answered: what differs is on a list, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

import httpx
import pytest

from chutes_local import LocalChutes, serve
from chutes_local.wire.seal import possible

from .differences import DIFFERENCES, Difference
from .embedded import asked, differences
from .recordings import BY_NAME, CASES, Case

SENT = [case for case in CASES if possible() or "e2e" not in case.send["path"]]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalChutes]:
    """A server that looks at the form of keys, as the service does."""
    with serve(backend="echo", strict_keys=True) as chutes:
        yield chutes


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        yield client


def matching(each: Difference) -> list[Case]:
    """The cases that a difference is about; of one that is about all, one."""
    cases = [case for case in SENT if any(fnmatchcase(case.name, name) for name in each.cases)]
    return [BY_NAME["core_chat"]] if "*" in each.cases else cases


@pytest.mark.parametrize("case", SENT, ids=lambda case: case.name)
def test_a_recorded_request(server: LocalChutes, http: httpx.Client, case: Case) -> None:
    """The same status, detail, headers, keys, types and order of events, but for what is on the list."""
    found = differences(case, asked(server, case, http))
    assert [each for each in found if not any(one.covers(case.name, each) for one in DIFFERENCES)] == []


@pytest.mark.skipif(not possible(), reason="needs cryptography 48")
@pytest.mark.parametrize("each", DIFFERENCES, ids=lambda each: each.cases[0])
def test_what_is_on_the_list_differs(server: LocalChutes, http: httpx.Client, each: Difference) -> None:
    """In each of its cases: else it is to go."""
    assert matching(each)
    for case in matching(each):
        assert any(each.covers(case.name, found) for found in differences(case, asked(server, case, http))), case.name
