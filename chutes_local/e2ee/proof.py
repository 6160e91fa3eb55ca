"""Evidence of the embedded machines: quotes in the format of real ones, made here and unsigned.

They bind a machine's key to a fresh nonce as real ones do, and their measurements are on this server's own list,
so a client's checks can be rehearsed, each failing on request (:data:`LIES`). They prove nothing: the vendor
field and the text in place of the signature say so, and signature verification must reject them.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from functools import lru_cache

LIES = ("debug", "stale", "other_key", "other_certificate", "unlisted", "broken", "missing")
"""Ways to make evidence fail; see ``chutes.world.sealed.lies``."""
MAKER = b"chutes_local    "
NOTE = b"made by the embedded server, on no such hardware, and signed by nobody"
MRTD, *REGISTERS = (
    hashlib.sha384(f"chutes_local {name}".encode()).digest() for name in ("MRTD", "RTMR0", "RTMR1", "RTMR2", "RTMR3")
)


def quote(number: str, public_key: str, lies: frozenset[str] = frozenset(), named: bytes = bytes(32)) -> str:
    """Return a base64 quote for a nonce and a key; ``named`` is the hash of the certificate's key, if there is one."""
    number = "0" * 64 if "stale" in lies else number
    public_key = "A" * 1580 if "other_key" in lies else public_key
    header = (4).to_bytes(2, "little") + (2).to_bytes(2, "little") + (0x81).to_bytes(4, "little") + bytes(4)
    header += MAKER + b"not a real processor"
    attributes = bytes([1 if "debug" in lies else 0]) + bytes(7)
    measured = hashlib.sha384(b"something else").digest() if "unlisted" in lies else MRTD
    report_data = hashlib.sha256((number + public_key).encode()).digest() + named
    # Versions, the firmware and its attributes; then what the service measures; then the owner's data.
    body = bytes(120) + attributes + bytes(8) + measured + bytes(144) + b"".join(REGISTERS) + report_data
    whole = header + body + len(NOTE).to_bytes(4, "little") + NOTE
    return base64.b64encode(whole[:600] if "broken" in lies else whole).decode()


def measurements() -> list[dict[str, object]]:
    """Return this server's measurements, in the format the service publishes."""
    registers = {f"RTMR{place}": value.hex().upper() for place, value in enumerate(REGISTERS)}
    return [
        {
            "version": "0",
            "name": "embedded server (no hardware)",
            "tee_type": "tdx",
            "mrtd": MRTD.hex().upper(),
            "boot_rtmrs": registers,
            "runtime_rtmrs": registers,
            "expected_gpus": [],
            "gpu_count": 0,
        }
    ]


def evidence(instance: str, number: str, public_key: str, lies: frozenset[str] = frozenset()) -> dict[str, object]:
    """Return the evidence of one machine."""
    certificate, named = _certificate()
    named = hashlib.sha256(b"another").digest() if "other_certificate" in lies else named
    return {
        "quote": quote(number, public_key, lies, named),
        "gpu_evidence": [],
        "instance_id": instance,
        "certificate": base64.b64encode(certificate).decode(),
    }


@lru_cache(maxsize=1)
def _certificate() -> tuple[bytes, bytes]:
    """Return a certificate such as machines make for themselves, and the hash of its key."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509 import CertificateBuilder, Name, NameAttribute, random_serial_number
    from cryptography.x509.oid import NameOID

    key = generate_private_key(SECP256R1())
    name = Name([NameAttribute(NameOID.COMMON_NAME, "embedded server")])
    made = CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(random_serial_number())
    made = made.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2099, 1, 1, tzinfo=UTC))
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return made.sign(key, SHA256()).public_bytes(Encoding.DER), hashlib.sha256(public).digest()
