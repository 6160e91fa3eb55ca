"""Attestation: what a machine proves about itself, and how far that is checked.

A machine in confidential compute answers a fresh nonce with a quote: what its processor measured at startup, and a
report data field in which the machine put ``sha256(nonce + its public key)``. From this follow, in order:

* the key belongs to that quote and the quote is fresh (*binding*);
* the machine was started without a debugger, which could read its memory;
* what was started is on a list that is not the service's own (:mod:`chutes_core.e2ee.measurements`);
* the certificate in the evidence is the one that the quote names;
* the processor vendor's signature covers all of it (*DCAP*).

``verify="binding"`` checks all but the last, which finds mistakes and wrong keys, but not a quote that was made up.
Only ``verify="full"`` adds the vendor's signature, with the package ``dcap-qvl``. Neither checks the GPUs' own
evidence, nor which model and program the measured system loads after startup.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import cast

from chutes_core.e2ee.measurements import REGISTERS, Row, row_name
from chutes_core.errors import ConfigurationError

__all__ = [
    "ProofError",
    "Quote",
    "check_binding",
    "check_certificate",
    "check_measurements",
    "check_signature",
    "quotes_of",
    "require_dcap",
]

_TDX = 0x81
_INTEL = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_NO_DCAP = (
    "verify='full' needs the package 'dcap-qvl', which checks the processor vendor's signature: pip install dcap-qvl. "
    "Without it, verify='binding' checks everything but that signature."
)


class ProofError(Exception):
    """A machine failed attestation; the message says why."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A TDX quote, version 4, parsed but not verified.

    Attributes:
        raw: Its bytes.
        vendor: The vendor id of the quoting enclave that signed it.
        debug: Whether the machine allows a debugger.
        mrtd: The measurement of the initial image, in hexadecimal.
        registers: The runtime measurements (RTMRs), by name.
        report_data: The field filled by the machine itself.
        certificate: The machine's certificate, from beside the quote, in base64.
    """

    raw: bytes = field(repr=False)
    vendor: bytes
    debug: bool
    mrtd: str
    registers: Mapping[str, str]
    report_data: bytes
    certificate: str = field(default="", repr=False)

    @classmethod
    def parse(cls, raw: bytes, certificate: str = "") -> Quote:
        """Parse a quote.

        Raises:
            ProofError: It is not a quote, or of another kind.
        """
        if len(raw) < 632:
            raise ProofError("its quote is too short")
        version, tee = int.from_bytes(raw[0:2], "little"), int.from_bytes(raw[4:8], "little")
        if version != 4 or tee != _TDX:
            raise ProofError(f"its quote is not a TDX quote of version 4 (version {version}, kind {tee:#x})")
        body = raw[48:632]
        registers = {name: body[328 + 48 * place : 376 + 48 * place].hex() for place, name in enumerate(REGISTERS)}
        return cls(raw, raw[12:28], bool(body[120] & 1), body[136:184].hex(), registers, body[520:584], certificate)


def quotes_of(evidence: object) -> dict[str, Quote | ProofError]:
    """Read the quotes of all machines in an evidence response, by instance.

    Raises:
        ValueError: It is not an evidence response.
    """
    rows = evidence.get("evidence") if isinstance(evidence, Mapping) else None
    if not isinstance(rows, list):
        raise ValueError("the evidence is not valid")
    found: dict[str, Quote | ProofError] = {}
    for row in rows:
        fields = row if isinstance(row, Mapping) else {}
        name, quote, certificate = fields.get("instance_id"), fields.get("quote"), fields.get("certificate")
        if not isinstance(name, str) or not isinstance(quote, str):
            continue
        try:
            raw = base64.b64decode(quote, validate=True)
            found[name] = Quote.parse(raw, certificate if isinstance(certificate, str) else "")
        except (binascii.Error, ValueError):
            found[name] = ProofError("its quote is not base64")
        except ProofError as problem:
            found[name] = problem
    return found


def check_binding(quote: Quote, number: str, public_key: str, *, debug: bool = False) -> None:
    """Check that a quote is for this nonce and key, and that the machine allows no debugger.

    Raises:
        ProofError: It is not.
    """
    wanted = hashlib.sha256((number + public_key).encode()).digest()
    if not hmac.compare_digest(quote.report_data[:32], wanted):
        raise ProofError("its key is not the one in its quote, or the quote is not fresh")
    if quote.debug and not debug:
        raise ProofError("it was started with a debugger")


def check_certificate(quote: Quote) -> None:
    """Check that the machine's certificate is the one whose key the quote names, if it names one.

    Raises:
        ProofError: It is another one, or none.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509 import load_der_x509_certificate

    wanted = quote.report_data[32:]
    if not any(wanted):
        return
    try:
        found = load_der_x509_certificate(base64.b64decode(quote.certificate, validate=True)).public_key()
        key = found.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception:  # the package raises its own exceptions for what is inside
        raise ProofError("its certificate cannot be read") from None
    if not hmac.compare_digest(hashlib.sha256(key).digest(), wanted):
        raise ProofError("its certificate is not the one in its quote")


def check_measurements(quote: Quote, rows: object) -> str:
    """Return the name of the row of a list that has all of the quote's measurements.

    Raises:
        ProofError: There is none.
    """
    for row in rows if isinstance(rows, Sequence) else ():
        if isinstance(row, Mapping) and _is_entry(quote, row):
            return row_name(row)
    raise ProofError("its measurements are not in the list")


def _is_entry(quote: Quote, row: Row) -> bool:
    listed = row.get("runtime_rtmrs")
    if not isinstance(listed, Mapping) or str(row.get("mrtd", "")).lower() != quote.mrtd:
        return False
    # Every register must be listed: a missing one would accept any value.
    return all(str(listed.get(name, "")).lower() == value for name, value in quote.registers.items())


def require_dcap() -> ModuleType:
    """Import the package that checks the vendor's signature.

    Raises:
        ConfigurationError: It is not installed; the message says how.
    """
    try:
        return import_module("dcap_qvl")
    except ImportError:
        raise ConfigurationError(_NO_DCAP) from None


def check_signature(
    quote: Quote, collateral: str, now: int, *, tcb: Sequence[str] = ("UpToDate",), evaluation: int = 0
) -> None:
    """Check the vendor's signature on a quote, and what the vendor says of the machine's firmware.

    Args:
        quote: The quote.
        collateral: The vendor's certificates and revocation lists, as JSON.
        now: Seconds since 1970.
        tcb: What the vendor may say of the firmware.
        evaluation: The least number of the evaluation by which the vendor says it.

    Raises:
        ProofError: The signature is invalid, or the firmware is outdated.
    """
    if quote.vendor != _INTEL:
        raise ProofError("its quote does not come from a real processor (such as one of the embedded server)")
    dcap = require_dcap()
    try:
        report = dcap.verify(quote.raw, dcap.QuoteCollateralV3.from_json(collateral), now)
    except Exception as problem:  # whatever the package raises, the quote did not pass
        said = " ".join(str(problem).split())  # in one line, for the log
        raise ProofError(f"the signature of its quote is not valid: {said}") from None
    if report.status not in tcb:
        known: Iterable[str] = cast("Iterable[str]", report.advisory_ids)
        raise ProofError(f"its firmware is {report.status}: {', '.join(known) or 'no advisory named'}")
    for part in ("tcb_info", "qe_identity") if evaluation else ():
        number = _evaluation(collateral, part)
        if number < evaluation:
            raise ProofError(
                f"its firmware was judged by the vendor's evaluation {number}, which is before {evaluation} ({part})"
            )


def _evaluation(collateral: str, part: str) -> int:
    """Read the number of the vendor's evaluation from a part that the vendor has signed."""
    try:
        number = json.loads(json.loads(collateral)[part])["tcbEvaluationDataNumber"]
    except (ValueError, LookupError, TypeError):
        number = None
    if not isinstance(number, int):
        raise ProofError(f"the vendor's evaluation cannot be read from the collateral ({part})")
    return number
