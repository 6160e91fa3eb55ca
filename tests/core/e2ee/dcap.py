"""Stands in for the package that checks the processor maker's signature."""

from __future__ import annotations

from types import ModuleType
from typing import Any

CHAINS = {
    "SGX-PCK-CRL-Issuer-Chain": "PCK%20chain",
    "TCB-Info-Issuer-Chain": "TCB%0Achain",
    "SGX-Enclave-Identity-Issuer-Chain": "QE%20chain",
}


class FakeDcap(ModuleType):
    """Says that every signature holds, with this status for the firmware; an empty status says that none does."""

    def __init__(self, status: str) -> None:
        super().__init__("dcap_qvl")
        self.status = status
        self.advisory_ids = ["SA-1"] if status == "OutOfDate" else []
        self.read: list[str] = []
        self.QuoteCollateralV3 = self

    def from_json(self, text: str) -> str:
        self.read.append(text)
        return text

    def verify(self, raw: bytes, collateral: str, now: int) -> Any:
        if not self.status:
            raise ValueError("forged")
        return self

    def parse_quote(self, raw: bytes) -> Any:
        return self

    def fmspc(self) -> str:
        return "B0C06F000000"

    def ca(self) -> str:
        return "platform"
