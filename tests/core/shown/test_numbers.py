"""Numbers as people read them."""

from __future__ import annotations

import pytest

from chutes_core.shown import numbers


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "$0"),
        (0.5, "$0.50"),
        (-0.5, "-$0.50"),
        (0.999, "$1.00"),
        (12345.678, "$12,345.68"),
        (1e-9, "$0.000000001"),
        (0.0001, "$0.0001"),
        (0.000095, "$0.000095"),
        (1.234e-7, "$0.000000123"),
        (None, "?"),
    ],
)
def test_dollars(amount: float | None, text: str) -> None:
    """Amounts never become powers of ten, and keep the digits that count."""
    assert numbers.dollars(amount) == text


@pytest.mark.parametrize(
    ("amount", "text"), [(0.14, "0.14"), (3.0, "3.00"), (0.00245, "0.00245"), (0.0, "0.00"), (150.0, "150.00")]
)
def test_prices(amount: float, text: str) -> None:
    """Prices have two decimals at least, so that columns are easy to compare."""
    assert numbers.price(amount) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(999, "999"), (1000, "1k"), (40960, "41k"), (999_499, "999k"), (999_500, "1M"), (2_000_000, "2M")],
)
def test_sizes(number: int, text: str) -> None:
    """A size has four characters or fewer where it matters."""
    assert numbers.size(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0.0, "0 ms"), (0.0994, "99 ms"), (0.0996, "0.10 s"), (9.99, "9.99 s"), (59.6, "1 min 0 s")]
)
def test_seconds(number: float, text: str) -> None:
    """Times change their unit where the next one reads better."""
    assert numbers.seconds(number) == text


def test_other_forms() -> None:
    """Ratios, plurals and prices that are not known."""
    assert [numbers.ratio(each) for each in (None, 0.044, 25.3)] == ["?", "0.04x", "25x"]
    assert numbers.plural(1, "text") == "1 text"
    assert numbers.priced(None) == "price unknown"
