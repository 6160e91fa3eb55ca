"""Whether a program's exchanges are to be recorded, which the environment says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chutes_core.exchanges.recorder import Recorder

__all__ = ["CONTENT", "FILE", "recorder_asked_for"]

FILE = "CHUTES_RECORD"
CONTENT = "CHUTES_RECORD_CONTENT"
"""``0`` leaves out what is asked and answered."""


def recorder_asked_for() -> Recorder | None:
    """Return what records the exchanges of this process, if the environment names a file for them.

    Raises:
        ConfigurationError: Nothing can be written there.
    """
    if not (path := os.environ.get(FILE)):
        return None
    from chutes_core.exchanges.recorder import recorder

    return recorder(os.path.abspath(path), os.environ.get(CONTENT) != "0")
