"""A service in this process that keeps account of every number it gave out, and hands that bring calls to it."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from chutes_core.calls.effects import Authorize, Effect, Open, Read, Sleep, StatusFailure, WireFailure, WireRequest
from chutes_core.calls.flows import CallPolicy, StreamCall, WholeCall
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.e2ee import E2EE, SealedPath
from chutes_core.e2ee.instances import POLL
from chutes_core.e2ee.machines import Machines
from chutes_core.request.chat import build_chat_request
from chutes_core.secrets.secret import Secret
from chutes_core.settings import TimeLimits
from chutes_core.testing import VirtualClock
from chutes_local.e2ee.proof import evidence, measurements
from chutes_local.wire.seal import MachineKey

from .machine import sealed_lines

URL = "https://api.example"
INFO = ModelInfo(id="acme/sea-TEE", chute_id="chute-1", confidential=True)
PROMPT = [{"role": "user", "content": "Where do walruses sleep?"}]
KEY = Secret("cpk_test")
EMBEDDED = "embedded server (no hardware) 0"
ANSWER = {
    "id": "c1",
    "model": INFO.id,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "On the floes."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
}
Step = str | Exception | Callable[["Service", Any, dict[str, Any]], list[bytes]]


def detail(status: int, text: str) -> StatusFailure:
    return StatusFailure(status, {}, json.dumps({"detail": text}).encode())


@dataclass
class Service:
    """What stands at the other end of the wire.

    Attributes:
        machines: How many there are.
        script: What happens to the next sealed requests, in their order; then all go well.
        pages: What the side questions are answered with, by the end of their path, in place of the truth.
        lies: How the evidence does not hold.
    """

    clock: VirtualClock = field(default_factory=VirtualClock)
    machines: int = 2
    script: list[Step] = field(default_factory=list)
    pages: dict[str, Any] = field(default_factory=dict)
    lies: set[str] = field(default_factory=set)
    good_for: float = 60.0
    keys: dict[str, MachineKey] = field(default_factory=dict)
    good: dict[str, str] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    asked: list[tuple[float, str]] = field(default_factory=list)
    sealed: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, effect: Open) -> Iterator[bytes]:
        """Take one request."""
        request = effect.request
        path = request.url.removeprefix(URL)
        with self.lock:
            self.asked.append((self.clock.now(), path))
            if path == "/e2e/invoke":
                return iter(self._invoke(request.content, dict(request.headers)))
            page = next((page for end, page in self.pages.items() if path.endswith(end)), None)
            if isinstance(page, Exception):
                raise page
            if page is None:
                page = self._page(path, dict(request.params))
            return iter([page if isinstance(page, bytes) else json.dumps(page).encode()])

    def questions(self, part: str) -> int:
        return sum(part in path for _, path in self.asked)

    def _page(self, path: str, params: dict[str, str]) -> Any:
        names = [f"machine-{place}" for place in range(self.machines)]
        for name in names:
            if name not in self.keys:
                self.keys[name] = MachineKey()
        if path == f"/e2e/instances/{INFO.chute_id}":
            rows = []
            for name in names:
                nonces = [secrets.token_urlsafe(8) for _ in range(10)]
                self.good |= dict.fromkeys(nonces, name)
                rows.append({"instance_id": name, "e2e_pubkey": self.keys[name].public, "nonces": nonces})
            return {"instances": rows, "nonce_expires_in": self.good_for}
        if path == f"/chutes/{INFO.chute_id}/evidence":
            lies = frozenset(self.lies)
            return {"evidence": [evidence(name, params["nonce"], self.keys[name].public, lies) for name in names]}
        assert path == "/servers/tee/measurements", path
        return measurements()

    def _invoke(self, blob: Any, headers: dict[str, str]) -> list[bytes]:
        nonce, name = headers["X-E2E-Nonce"], headers["X-Instance-Id"]
        self.used.append(nonce)
        self.sent.append(blob)
        if self.good.pop(nonce, None) != name:
            raise detail(403, "Invalid, expired, or already-used nonce")
        step = self.script.pop(0) if self.script else "ok"
        self.sealed.append((name, headers))
        if isinstance(step, Exception):
            raise step
        body, reply = self.keys[name].open(blob)
        self.bodies.append(body)
        if not isinstance(step, str):
            return step(self, reply, body)
        if body["stream"]:
            return sealed_lines(reply)
        return [reply.whole(json.dumps(ANSWER).encode())]


class Hand:
    """Brings the effects of one call to a service."""

    headers: Mapping[str, str] = {"x-chutes-invocationid": "inv-1"}

    def __init__(self, service: Service) -> None:
        self.service = service
        self.blocks: Iterator[bytes | Exception] = iter(())
        self.effects: list[Effect] = []

    def perform(self, effect: Effect) -> object:
        self.effects.append(effect)
        match effect:
            case Authorize():
                return KEY
            case Sleep(seconds):
                # Looking again soon is no passing of time here; waiting for the next minute is.
                self.service.clock.advance(0.0 if seconds <= POLL else seconds)
                time.sleep(0)
                return None
            case Open():
                self.blocks = self.service.answer(effect)
                return self.headers
            case Read():
                block = next(self.blocks, None)
                if isinstance(block, Exception):
                    raise block
                return block
        raise AssertionError(effect)

    def close(self) -> None:
        """Nothing is held."""


class AsyncHand(Hand):
    """The same on the event loop, which gives others a turn at every step."""

    async def perform(self, effect: Effect) -> object:
        await asyncio.sleep(0)
        return super().perform(effect)

    async def close(self) -> None:  # type: ignore[override]
        """Nothing is held."""


def sealed_path(service: Service, **settings: Any) -> SealedPath:
    return SealedPath(E2EE(**{"allow": [EMBEDDED], **settings}), management_url=URL, clock=service.clock)


def known(path: SealedPath) -> Machines:
    """The machines that the calls of a test know."""
    return path.machines(KEY)


def planned(
    service: Service, path: SealedPath, *, stream: bool = False, limits: TimeLimits | None = None, retries: int = 2,
    params: Any = None,
) -> tuple[Any, Any]:  # fmt: skip
    """One call, sealed: the flow, and the call in it."""
    policy = CallPolicy(limits or TimeLimits(), retries, service.clock, chance=lambda: 1.0)
    chat = build_chat_request(PROMPT, INFO.id, params or {}, stream=stream, infos=[INFO])
    request = WireRequest("https://llm.example/v1/chat/completions", chat.body)
    if stream:
        call = StreamCall(request, policy, chat)
        call.in_one_piece = partial(path.comes_whole, call, INFO)
        return path.wrap(call.run(), INFO, lambda: call.guard.reply if call.guard.delivered else None), call
    whole = WholeCall(request, policy, chat)
    return path.wrap(whole.run(), INFO), whole


__all__ = [
    "ANSWER",
    "INFO",
    "PROMPT",
    "URL",
    "AsyncHand",
    "Hand",
    "Service",
    "WireFailure",
    "detail",
    "known",
    "planned",
    "sealed_path",
]
