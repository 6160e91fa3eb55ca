"""A quote of a real processor, with the maker's lists of its day, through the package that checks the signature."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chutes_core.e2ee.attest import ProofError, Quote, check_signature
from chutes_core.e2ee.collateral import platform_of

pytest.importorskip("dcap_qvl", reason="dcap-qvl is not installed: it is in the extra e2ee")

VECTOR = json.loads(Path(__file__).with_name("tdx_quote.json").read_text("utf-8"))
RAW, COLLATERAL = base64.b64decode(VECTOR["quote"]), json.dumps(VECTOR["collateral"])
THEN = int(datetime(2025, 6, 20, tzinfo=UTC).timestamp())


def test_a_real_quote_passes() -> None:
    """Its signature holds, its firmware was up to date, and it is read as the package reads it."""
    quote = Quote.parse(RAW)
    check_signature(quote, COLLATERAL, THEN, evaluation=17)
    assert platform_of(quote) == ("B0C06F000000", "platform")
    assert not quote.debug
    assert quote.mrtd.startswith("91eb2b44d141d4ece09f0c75c2c53d24")


@pytest.mark.parametrize("place", [60, 168, 184 + 200, 568, 600, 700])
def test_a_changed_byte_is_refused(place: int) -> None:
    """In the measurements, the debug bit, the machine's own field, the signature."""
    changed = bytearray(RAW)
    changed[place] ^= 1
    with pytest.raises(ProofError, match="signature of its quote is not valid"):
        check_signature(Quote.parse(bytes(changed)), COLLATERAL, THEN)


def test_old_lists_are_refused() -> None:
    """They name the day until which they hold."""
    with pytest.raises(ProofError, match="not valid"):
        check_signature(Quote.parse(RAW), COLLATERAL, THEN + 365 * 86400)


def test_firmware_is_held_to_what_was_asked() -> None:
    """By what the maker says of it, and by which evaluation."""
    with pytest.raises(ProofError, match="its firmware is UpToDate"):
        check_signature(Quote.parse(RAW), COLLATERAL, THEN, tcb=("OutOfDate",))
    with pytest.raises(ProofError, match="evaluation 17, which is before 18"):
        check_signature(Quote.parse(RAW), COLLATERAL, THEN, evaluation=18)
