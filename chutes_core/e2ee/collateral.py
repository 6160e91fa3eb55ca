"""The processor vendor's collateral (certificates and lists) for ``verify="full"``, fetched from Intel.

The URLs and headers are those of Intel's provisioning certification service, version 4. The answers are combined into
the JSON that ``dcap-qvl`` reads; nothing in them is trusted until it has verified them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from chutes_core.calls.effects import Flow
from chutes_core.e2ee.attest import ProofError, Quote, require_dcap

__all__ = ["INTEL", "Fetched", "collateral", "platform_of"]

INTEL = "https://api.trustedservices.intel.com"
_ROOT_LIST = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"


class Fetched(NamedTuple):
    """A response: its headers, with lower-case names, and its body."""

    headers: Mapping[str, str]
    body: bytes


def platform_of(quote: Quote) -> tuple[str, str]:
    """Return the processor family (FMSPC) and certificate authority of a quote, by which collateral is looked up."""
    try:
        parsed = require_dcap().parse_quote(quote.raw)
        return str(parsed.fmspc()), str(parsed.ca())
    except ValueError as problem:
        raise ProofError(f"its quote cannot be read: {problem}") from None


def collateral(get: Callable[[str], Flow[Fetched]], fmspc: str, ca: str, base: str = INTEL) -> Flow[str]:
    """Fetch the collateral that the signature of a quote is checked against.

    Raises:
        ProofError: A response has an unknown format.
    """
    revoked = yield from get(f"{base}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der")
    levels = yield from get(f"{base}/tdx/certification/v4/tcb?fmspc={fmspc}")
    enclave = yield from get(f"{base}/tdx/certification/v4/qe/identity?update=standard")
    root = yield from get(_ROOT_LIST)
    level, level_signature = _signed(levels, "tcbInfo")
    identity, identity_signature = _signed(enclave, "enclaveIdentity")
    return json.dumps(
        {
            "pck_crl_issuer_chain": _chain(revoked, "sgx-pck-crl-issuer-chain"),
            "root_ca_crl": root.body.hex(),
            "pck_crl": revoked.body.hex(),
            "tcb_info_issuer_chain": _chain(levels, "tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"),
            "tcb_info": level,
            "tcb_info_signature": level_signature,
            "qe_identity_issuer_chain": _chain(enclave, "sgx-enclave-identity-issuer-chain"),
            "qe_identity": identity,
            "qe_identity_signature": identity_signature,
        }
    )


def _chain(answer: Fetched, *names: str) -> str:
    for name in names:
        if name in answer.headers:
            return unquote(answer.headers[name])
    raise ProofError(f"the vendor's response lacks the header {names[0]}")


def _signed(answer: Fetched, part: str) -> tuple[str, str]:
    """Return the signed part of a response byte for byte, as it was signed, and its signature."""
    try:
        text = answer.body.decode()
        start = text.index(f'"{part}":') + len(part) + 3
        _, end = json.JSONDecoder().raw_decode(text, start)
        return text[start:end], str(json.loads(text)["signature"])
    except (ValueError, KeyError, TypeError):
        raise ProofError(f"the vendor's response has no signed {part}") from None
