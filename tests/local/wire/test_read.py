"""What is no JSON that can be handled is refused as such."""

from __future__ import annotations

import pytest

from chutes_local.wire.read import DEEPEST, read_json


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff\xfe", b'"\xe9"', b"NaN", b"[Infinity]", b"[-Infinity]", b"1e999", b"-1e999", b"9" * 5000,
     b'"\\ud800"', b'{"\\udfff": 1}', b"[" * 10**5, b'{"a":' * 10**5, b"[" * 900 + b"]" * 900,
     b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1)],
    ids=range(16),
)  # fmt: skip
def test_it_is_refused(raw: bytes) -> None:
    """With one kind of error, whatever is wrong."""
    with pytest.raises(ValueError, match=r"\w"):
        read_json(raw)


@pytest.mark.parametrize(
    "raw", [b"[" * DEEPEST + b"]" * DEEPEST, b"[" + b"[]," * 500 + b"{}]", b'"\\ud83d\\ude00"', b"1e308"], ids=range(4)
)
def test_it_is_read(raw: bytes) -> None:
    """What is merely unusual."""
    read_json(raw)
