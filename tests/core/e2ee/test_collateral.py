"""The processor maker's lists, put together as they were signed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from chutes_core.calls.effects import Flow
from chutes_core.e2ee.attest import ProofError, Quote
from chutes_core.e2ee.collateral import Fetched, collateral, platform_of
from chutes_local.e2ee.proof import quote

from .dcap import CHAINS, FakeDcap

HEADERS = {name.lower(): value for name, value in CHAINS.items()}
LEVELS = b'{"tcbInfo":{"b": 1,  "a":"\xc3\xa9"},"signature":"aa"}'
ENCLAVE = b'{"enclaveIdentity":{"id":"TD_QE"},"signature":"bb"}'


def fetched(
    headers: Mapping[str, str] = HEADERS, levels: bytes = LEVELS, enclave: bytes = ENCLAVE
) -> tuple[Any, list[str]]:
    asked: list[str] = []

    def get(url: str) -> Flow[Fetched]:
        asked.append(url)
        body = levels if "/tcb?" in url else enclave if "/qe/" in url else b"\x01\x02"
        return Fetched(headers, body)
        yield

    flow = collateral(get, "B0C06F000000", "platform", "https://pcs.example")
    with pytest.raises(StopIteration) as end:
        next(flow)
    return json.loads(end.value.value), asked


def test_the_signed_parts_are_taken_letter_by_letter() -> None:
    """A signature covers spaces and the order of fields too."""
    found, asked = fetched()
    assert found["tcb_info"] == '{"b": 1,  "a":"é"}'
    assert (found["tcb_info_signature"], found["qe_identity_signature"]) == ("aa", "bb")
    assert (found["pck_crl"], found["root_ca_crl"]) == ("0102", "0102")
    assert found["tcb_info_issuer_chain"] == "TCB\nchain"
    assert asked == [
        "https://pcs.example/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        "https://pcs.example/tdx/certification/v4/tcb?fmspc=B0C06F000000",
        "https://pcs.example/tdx/certification/v4/qe/identity?update=standard",
        "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
    ]


@pytest.mark.parametrize(
    "broken",
    [{"headers": {}}, {"levels": b"<html>"}, {"levels": b'{"tcbInfo":{}}'}, {"levels": b"\xff"}, {"enclave": LEVELS}],
)
def test_an_answer_of_another_form_is_no_proof(broken: dict[str, Any]) -> None:
    """Without a chain, a signed part or a signature."""
    with pytest.raises(ProofError, match="the vendor's response"):
        fetched(**broken)


def test_a_quote_that_the_package_cannot_read_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words are in the reason."""
    import base64

    class Unable(FakeDcap):
        def parse_quote(self, raw: bytes) -> Any:
            raise ValueError("no chain inside")

    monkeypatch.setitem(sys.modules, "dcap_qvl", Unable(""))
    with pytest.raises(ProofError, match="no chain inside"):
        platform_of(Quote.parse(base64.b64decode(quote("00" * 32, "key"))))
