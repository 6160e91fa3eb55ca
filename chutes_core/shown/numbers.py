"""Numbers as people read them. What is not known is a question mark."""

from __future__ import annotations

from decimal import Decimal

__all__ = ["dollars", "plural", "price", "priced", "ratio", "seconds", "size"]


def dollars(amount: float | None) -> str:
    """Write an amount of US dollars: cents where it is large, three digits that count where it is small.

    >>> dollars(1234.5), dollars(0.25), dollars(0.0000123), dollars(0), dollars(None)
    ('$1,234.50', '$0.25', '$0.0000123', '$0', '?')
    """
    if amount is None:
        return "?"
    sign, amount = "-" if amount < 0 else "", abs(amount)
    if amount >= 0.995 or amount == 0:
        return f"{sign}${amount:,.2f}" if amount else "$0"
    text = _digits(amount, 3)
    return f"{sign}${text if len(text) > 3 else f'{amount:.2f}'}"


def priced(amount: float | None) -> str:
    """Write what something cost, in a sentence.

    >>> priced(0.25), priced(None)
    ('$0.25', 'price unknown')
    """
    return "price unknown" if amount is None else dollars(amount)


def price(amount: float | None) -> str:
    """Write a price per million tokens, without a sign, for a column.

    >>> price(0.14), price(3.0), price(0.0103999), price(None)
    ('0.14', '3.00', '0.0104', '?')
    """
    if amount is None:
        return "?"
    text = _digits(amount, 3)
    return text if len(text.partition(".")[2]) > 2 else f"{amount:,.2f}"


def _digits(number: float, digits: int) -> str:
    """Write a number with so many digits that count, and never as a power of ten."""
    text = f"{number:.{digits}g}"
    if "e" in text:
        text = f"{Decimal(text):f}"
    return text


def size(number: int | None) -> str:
    """Write a number of tokens in a few characters.

    >>> size(1048576), size(262144), size(900), size(None)
    ('1.05M', '262k', '900', '?')
    """
    if number is None:
        return "?"
    if number >= 999_500:
        return f"{number / 1_000_000:.3g}M"
    return f"{number / 1_000:.0f}k" if number >= 1_000 else str(number)


def seconds(number: float | None) -> str:
    """Write a length of time.

    >>> seconds(0.004), seconds(0.312), seconds(12.3), seconds(75), seconds(3 * 3600 + 120), seconds(None)
    ('4 ms', '0.31 s', '12 s', '1 min 15 s', '3 h 2 min', '?')
    """
    if number is None:
        return "?"
    if number < 0.0995:
        return f"{number * 1000:.0f} ms"
    if number < 9.995:
        return f"{number:.2f} s"
    whole = round(number)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def ratio(number: float | None) -> str:
    """Write how many times one amount is another.

    >>> ratio(0.0514), ratio(1.0), ratio(12.34), ratio(None)
    ('0.05x', '1.00x', '12x', '?')
    """
    return "?" if number is None else f"{number:.0f}x" if number >= 9.995 else f"{number:.2f}x"


def plural(number: int, noun: str) -> str:
    """Write a number with its noun.

    >>> plural(1, "model"), plural(1200, "model")
    ('1 model', '1,200 models')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
