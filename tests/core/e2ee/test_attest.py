"""What a quote says, and what is checked of it."""

from __future__ import annotations

import base64
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.e2ee import attest
from chutes_core.e2ee.attest import (
    ProofError,
    Quote,
    check_binding,
    check_certificate,
    check_measurements,
    check_signature,
    quotes_of,
)
from chutes_local.e2ee.proof import evidence, measurements, quote

from .dcap import FakeDcap

NUMBER, KEY = "ab" * 32, "the key in base64"
RAW = base64.b64decode(quote(NUMBER, KEY))


def test_a_quote_is_read_at_the_places_of_its_version() -> None:
    """Each field holds its place as its own bytes."""
    raw = bytearray(RAW[:632])
    for place in range(584):
        raw[48 + place] = place % 251
    found = Quote.parse(bytes(raw))
    body = bytes(raw[48:])
    assert found.mrtd == body[136:184].hex()
    assert found.registers == {f"RTMR{n}": body[328 + 48 * n : 376 + 48 * n].hex() for n in range(4)}
    assert found.report_data == body[520:584]
    assert found.debug is bool(body[120] & 1)
    assert b"chutes_local" in found.vendor


def test_the_true_quote_passes() -> None:
    """Its key, its number, its measurements."""
    found = Quote.parse(RAW)
    check_binding(found, NUMBER, KEY)
    assert check_measurements(found, measurements()) == "embedded server (no hardware) 0"


@pytest.mark.parametrize(("number", "key"), [("cd" * 32, KEY), (NUMBER, "another key"), ("", NUMBER + KEY[1:])])
def test_another_number_or_key_is_refused(number: str, key: str) -> None:
    """The quote was not made for this."""
    with pytest.raises(ProofError, match="not the one in its quote"):
        check_binding(Quote.parse(RAW), number, key)


@given(st.integers(48, 631), st.integers(1, 255))
def test_a_changed_byte_of_what_counts_is_refused(place: int, flip: int) -> None:
    """In the measurements, the bound field and the debug bit; elsewhere the maker's signature covers it."""
    raw = bytearray(RAW)
    raw[place] ^= flip
    at = place - 48
    counts = 136 <= at < 184 or 328 <= at < 552 or (at == 120 and flip & 1)
    found = Quote.parse(bytes(raw))

    def check() -> None:
        check_binding(found, NUMBER, KEY)
        check_measurements(found, measurements())

    if counts:
        with pytest.raises(ProofError):
            check()
    else:
        check()


def test_a_machine_that_can_be_looked_into_is_refused() -> None:
    """Its memory is open to whoever runs it."""
    with pytest.raises(ProofError, match="debugger"):
        check_binding(Quote.parse(base64.b64decode(quote(NUMBER, KEY, frozenset({"debug"})))), NUMBER, KEY)


@pytest.mark.parametrize(
    "raw", [b"", RAW[:631], b"\x03" + RAW[1:], RAW[:4] + b"\x00" + RAW[5:]], ids=["empty", "short", "version", "kind"]
)
def test_what_is_no_such_quote_is_refused(raw: bytes) -> None:
    """Too short, of another version, of another technology."""
    with pytest.raises(ProofError, match="its quote is"):
        Quote.parse(raw)


@pytest.mark.parametrize(
    "published",
    [
        None,
        {},
        [],
        [None],
        [{**measurements()[0], "mrtd": ""}],
        [{**measurements()[0], "mrtd": "00" * 48}],
        [{**measurements()[0], "runtime_rtmrs": None}],
        [{**measurements()[0], "runtime_rtmrs": {}}],
        [{**measurements()[0], "runtime_rtmrs": {"RTMR0": "00" * 48}}],
    ],
)
def test_a_list_without_this_machine_is_refused(published: object) -> None:
    """Also one whose entry leaves out a register, which would accept anything there."""
    with pytest.raises(ProofError, match="measurements"):
        check_measurements(Quote.parse(RAW), published)


def test_evidence_is_read_by_machine() -> None:
    """A quote that cannot be read is that machine's alone."""
    good = evidence("good", NUMBER, KEY)
    rows = [
        good,
        {**good, "instance_id": "odd", "quote": "no base64!"},
        {**good, "instance_id": "short", "quote": "AAAA"},
    ]
    found = quotes_of({"evidence": [*rows, None, {"instance_id": 1}, {"instance_id": "none"}]})
    assert set(found) == {"good", "odd", "short"}
    assert isinstance(found["good"], Quote)
    assert isinstance(found["odd"], ProofError)
    assert isinstance(found["short"], ProofError)


@pytest.mark.parametrize("value", [None, [], {}, {"evidence": {}}])
def test_what_is_no_evidence_is_refused(value: object) -> None:
    """Instead of being taken for evidence of nobody."""
    with pytest.raises(ValueError, match="evidence"):
        quotes_of(value)


def test_the_embedded_servers_quotes_are_marked() -> None:
    """In the bytes themselves, and a check of the signature refuses them before it needs anything else."""
    assert b"made by the embedded server" in RAW
    with pytest.raises(ProofError, match="not come from a real processor"):
        check_signature(Quote.parse(RAW), "{}", 0)


@pytest.mark.parametrize(
    ("levels", "enclave", "said"),
    [
        (17, 17, ""),
        (16, 17, r"evaluation 16, which is before 17 \(tcb_info"),
        (17, 16, r"evaluation 16, which is before 17 \(qe_identity"),
        (None, 17, r"cannot be read from the collateral \(tcb_info"),
        (17, "17", r"cannot be read from the collateral \(qe_identity"),
    ],
)
def test_both_lists_of_the_maker_are_of_the_evaluation_that_was_asked(
    levels: object, enclave: object, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the firmware and of the enclave that signs; a list without its number is of none."""
    monkeypatch.setitem(sys.modules, "dcap_qvl", FakeDcap("UpToDate"))
    parts = {"tcb_info": levels, "qe_identity": enclave}
    lists = json.dumps({name: json.dumps({"tcbEvaluationDataNumber": number}) for name, number in parts.items()})
    found = Quote.parse(RAW[:12] + attest._INTEL + RAW[28:])
    if said:
        with pytest.raises(ProofError, match=said):
            check_signature(found, lists, 0, evaluation=17)
    else:
        check_signature(found, lists, 0, evaluation=17)


def test_without_a_least_evaluation_none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """For lists of another form."""
    monkeypatch.setitem(sys.modules, "dcap_qvl", FakeDcap("UpToDate"))
    check_signature(Quote.parse(RAW[:12] + attest._INTEL + RAW[28:]), "{}", 0, evaluation=0)


def test_a_quote_does_not_show_its_bytes() -> None:
    """Its repr stays short enough to read."""
    assert len(repr(Quote.parse(RAW))) < 900


def test_the_certificate_is_the_one_in_the_quote() -> None:
    """Its key's hash is in the second half of the machine's own field; an older quote has none there."""
    row = evidence("good", NUMBER, KEY)
    found = quotes_of({"evidence": [row]})["good"]
    assert isinstance(found, Quote)
    check_certificate(found)
    check_certificate(Quote.parse(RAW))
    for wrong in ("", "no base64!", base64.b64encode(b"no certificate").decode()):
        with pytest.raises(ProofError, match="cannot be read"):
            check_certificate(Quote.parse(found.raw, wrong))
    another = quotes_of({"evidence": [evidence("bad", NUMBER, KEY, frozenset({"other_certificate"}))]})["bad"]
    assert isinstance(another, Quote)
    with pytest.raises(ProofError, match="not the one in its quote"):
        check_certificate(another)


def test_a_debugger_can_be_allowed() -> None:
    """For machines of one's own."""
    check_binding(Quote.parse(base64.b64decode(quote(NUMBER, KEY, frozenset({"debug"})))), NUMBER, KEY, debug=True)
