"""The end-to-end encrypted path: requests that only the answering machine can decrypt.

Enable it with ``ChutesClient(..., e2ee=True)``; see docs/privacy.md for what it protects and what it does not. Needs
the extra ``chutes-connect[e2ee]``.
"""

from __future__ import annotations

__all__ = ["E2EE", "Proof", "SealedPath"]

from chutes_core.e2ee.flow import SealedPath
from chutes_core.e2ee.machines import Proof
from chutes_core.e2ee.settings import E2EE
