"""What follows from each kind of failure, for whoever retries."""

from __future__ import annotations

import pytest

from chutes_core.errors import Kind, Retry, Scope
from chutes_core.failures.table import FACTS, REMEDIES_FOR_ALL


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_in_the_table(kind: Kind) -> None:
    """Whoever asks again for hours waits in between, and never for what stays as it is."""
    facts = FACTS[kind]
    if facts.retry is Retry.HERE:
        assert facts.patient > 0
    if facts.retry is Retry.NEVER or facts.scope is Scope.REQUEST:
        assert facts.patient == 0


def test_a_remedy_for_all_is_another_than_that_for_one() -> None:
    """A line that repeats the table's own remedy has no reason to be there."""
    assert not [kind for kind, remedy in REMEDIES_FOR_ALL.items() if FACTS[kind].remedy == remedy]
