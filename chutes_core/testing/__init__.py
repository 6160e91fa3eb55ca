"""Test doubles: a service that answers from a script, with every fault, on a virtual clock.

:class:`FaultyTransport` is a transport for ``httpx.Client``, ``httpx.AsyncClient`` and their counterparts in
``httpx2``. It plays one entry of a :class:`FaultScript` per request: an :class:`Answer`, or the name of a fault.
Nothing really waits: a stall advances the :class:`VirtualClock`.

>>> import httpx
>>> from chutes_core import ChutesClient
>>> clock = VirtualClock()
>>> transport = FaultyTransport(["capacity", Answer("Hello!")], clock=clock)
>>> client = ChutesClient("cpk_test", http_client=httpx.Client(transport=transport), clock=clock)
>>> client.chat([{"role": "user", "content": "Hi"}], model="acme/one").content
'Hello!'
>>> len(transport.requests), clock.now() > 0
(2, True)
"""

from __future__ import annotations

from chutes_core.testing.answers import Answer, SentRequest
from chutes_core.testing.clock import VirtualClock
from chutes_core.testing.faults import FAULTS, Fault
from chutes_core.testing.transport import FaultScript, FaultyTransport

__all__ = ["FAULTS", "Answer", "Fault", "FaultScript", "FaultyTransport", "SentRequest", "VirtualClock"]
