"""Seal the steps of a plain answer, with the faults that only a sealed answer can have.

Faults of a plain answer have struck already: the bytes are sealed as they are, so the fault is inside.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator

from chutes_local.faults.kinds import Fault
from chutes_local.faults.spoil import DRIP_BYTES, Cut, Pause, Step
from chutes_local.wire.errors import compact
from chutes_local.wire.seal import ReplySeal, event

MACHINE_ERROR = "the machine failed mid-answer"


async def seal_steps(steps: AsyncIterator[Step], seal: ReplySeal, fault: Fault | None) -> AsyncIterator[Step]:
    """Seal a stream, each line in a frame of its own.

    A machine states the usage of each piece in the clear before it; the service drops that, and leaves a blank line.
    """
    if fault is None or fault.kind != "sealed_no_init":
        yield seal.begin()
    else:
        seal.begin()
    disturbed = _Disturbed(fault)
    rest = b""
    async for step in steps:
        if not isinstance(step, bytes):
            yield step
            continue
        rest += step
        while b"\n\n" in rest:
            head, rest = rest.split(b"\n\n", 1)
            for sent in disturbed.frame(head + b"\n\n", seal):
                yield sent
            if disturbed.over:
                return
    if rest:
        yield seal.frame(rest)


class _Disturbed:
    """Frame writer that lets a ``sealed_`` fault strike at its moment."""

    def __init__(self, fault: Fault | None) -> None:
        self.kind = fault.kind if fault and fault.kind.startswith("sealed_") else ""
        self.left = fault.after if fault else 0
        self.held = b""
        self.over = False

    def frame(self, plain: bytes, seal: ReplySeal) -> Iterator[bytes]:
        stated = b"\n" if b'"usage":{' in plain else b""
        sealed, end = seal.frame(plain[:-1]), seal.frame(b"\n")
        self.left -= 1
        if not self.kind or self.left != -1:
            yield stated + sealed + end + self.held
            self.held = b""
        elif self.kind == "sealed_swap":
            self.held = stated + sealed + end
        else:
            yield from self._strike(stated, sealed, end, plain)

    def _strike(self, stated: bytes, sealed: bytes, end: bytes, plain: bytes) -> Iterator[bytes]:
        self.over = self.kind in ("sealed_cut", "sealed_error")
        yield {
            "sealed_flip": stated + flipped(sealed) + end,
            "sealed_replay": stated + sealed + stated + sealed + end,
            "sealed_clear": plain,
            "sealed_cut": stated + sealed[: len(sealed) // 2],
            "sealed_error": event({"e2e_error": MACHINE_ERROR}),
        }.get(self.kind, stated + sealed + end)


def flipped(sealed: bytes) -> bytes:
    """Flip one bit of an event's ciphertext."""
    content = json.loads(sealed.removeprefix(b"data: "))
    frame = bytearray(base64.b64decode(content["e2e"]))
    frame[len(frame) // 2] ^= 1
    return event({"e2e": base64.b64encode(frame).decode()})


WHOLE = frozenset({"reset", "half_close", "stall", "hang_after_headers", "slow_drip", "malformed", "empty"})
"""Faults of an unstreamed body: they strike the sealed body, except ``malformed``, which strikes inside it."""


def seal_body(body: bytes, seal: ReplySeal, fault: Fault | None) -> Iterator[Step]:
    """Seal a complete reply, with ``fault`` in it."""
    kind = fault.kind if fault else ""
    blob = seal.whole(body[: len(body) // 2] if kind == "malformed" else body)
    half = len(blob) // 2
    if kind == "sealed_flip":
        yield blob[:half] + bytes([blob[half] ^ 1]) + blob[half + 1 :]
    elif kind in ("reset", "half_close"):
        yield blob[:half]
        yield Cut("reset" if kind == "reset" else "half_close")
    elif kind == "sealed_cut":
        yield blob[:half]
    elif kind == "sealed_clear":
        yield body
    elif kind == "sealed_error":
        yield compact({"e2e_error": MACHINE_ERROR})
    elif fault and kind in ("stall", "hang_after_headers"):
        yield b"" if kind == "hang_after_headers" else blob[:half]
        yield Pause(fault.duration)
        yield blob if kind == "hang_after_headers" else blob[half:]
    elif fault and kind == "slow_drip":
        for start in range(0, len(blob), DRIP_BYTES):
            yield blob[start : start + DRIP_BYTES]
            yield Pause(fault.duration)
    elif kind != "empty":
        yield blob
