"""The machine at the end of the encrypted path: its key, its proof, and the same answers as ever, sealed.

One machine stands for all models, and its one-time numbers do not run out, so the figures are those of a request
whose machine is known: the list of machines and its proof are in the first call.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from functools import cache
from urllib.parse import parse_qs, urlsplit

from benchmarks.speed import canned
from benchmarks.speed.clients.sealed import CHUTE
from chutes_local.e2ee.proof import evidence, measurements
from chutes_local.wire.seal import MachineKey, event

MACHINE = "bench-machine"
_NUMBERS = 20_000
_number = itertools.count()


@cache
def key() -> MachineKey:
    """The machine's key pair; made on demand, since the package for it is not everywhere."""
    return MachineKey()


def page(target: str) -> bytes | None:
    """What the service says of the machine; None for any other page."""
    address = urlsplit(target)
    if address.path == f"/e2e/instances/{CHUTE}":
        nonces = [f"{next(_number):08x}" for _ in range(_NUMBERS)]
        row = {"instance_id": MACHINE, "e2e_pubkey": key().public, "nonces": nonces}
        return json.dumps({"instances": [row], "nonce_expires_in": 3600}).encode()
    if address.path == f"/chutes/{CHUTE}/evidence":
        number = parse_qs(address.query)["nonce"][0]
        return json.dumps({"evidence": [evidence(MACHINE, number, key().public)]}).encode()
    if address.path == "/servers/tee/measurements":
        return json.dumps(measurements()).encode()
    return None


def answer(blob: bytes) -> Sequence[bytes]:
    """Open a request and give the sealed reply, in the reads that it comes in."""
    body, seal = key().open(blob)
    model, tools = str(body["model"]), bool(body.get("tools"))
    if not body.get("stream"):
        return [canned.reply(seal.whole(canned.plain(model, tools)), "application/octet-stream")]
    events = [seal.begin()]
    for chunk in canned.chunks(model, tools):
        # As machines do: beside each sealed part its usage in the clear, for the service to bill.
        events.append(event({"usage": chunk.get("usage")}) + seal.frame(canned.event(chunk)))
    return canned.reads(b"".join(events))
