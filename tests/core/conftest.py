"""What the tests of the core share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chutes_core.spending.meter import watch


@pytest.fixture(autouse=True)
def _nobody_watches() -> Iterator[None]:
    """No call that a test leaves open is told of another one's requests."""
    watch(None)
    yield
    watch(None)
