"""What our clients are made with for the encrypted path to the benchmark's machine."""

from __future__ import annotations

import time
from typing import Any

CHUTE = "bench-chute"


def settings(url: str, model: str) -> dict[str, Any]:
    """The settings of any class of ours; the proof of the machine is checked, as it is by default."""
    from chutes_core import E2EE, Catalog, ModelInfo

    info = ModelInfo(id=model, chute_id=CHUTE, confidential=True)
    return {
        "base_url": url,
        "management_url": url.removesuffix("/v1"),
        "catalog": Catalog((info,), "live", time.time(), ""),
        "e2ee": E2EE(chutes={model: CHUTE}),
    }
