"""The fallback engine: when a model fails, the next one takes over.

:class:`Call` makes the decisions, :class:`Health` records outcomes, :class:`FallbackPolicy` sets the limits. The
framework integrations supply the members and run it with :mod:`chutes_core.fallback.drivers`.
"""

from __future__ import annotations

from chutes_core.attempt import Attempt
from chutes_core.fallback.call import Call, GiveUp, Try, Wait
from chutes_core.fallback.health import Health, Vitals
from chutes_core.fallback.live import LiveStats
from chutes_core.fallback.members import Member, Needs
from chutes_core.fallback.policy import FallbackPolicy
from chutes_core.fallback.trace import FallbackError, Receipt

__all__ = [
    "Attempt",
    "Call",
    "FallbackError",
    "FallbackPolicy",
    "GiveUp",
    "Health",
    "LiveStats",
    "Member",
    "Needs",
    "Receipt",
    "Try",
    "Vitals",
    "Wait",
]
