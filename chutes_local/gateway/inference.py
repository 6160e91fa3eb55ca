"""What chat, text completions and embeddings share: admission, routing, failover, faults, billing."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from chutes_local.faults.kinds import KINDS, Fault, Phase, Target
from chutes_local.gateway.request import parse_json
from chutes_local.gateway.routing import FAILOVER, rename, resolve, split_thinking
from chutes_local.gateway.send import ClientLeft, Nothing, ServerStopped, attached, pause, reset
from chutes_local.gateway.traced import asks_for_it, traced
from chutes_local.wire import errors
from chutes_local.wire.errors import Refused, plain
from chutes_local.world import access
from chutes_local.world.accounts import Account
from chutes_local.world.fleet import Chute
from chutes_local.world.journal import Attempt, Entry, Tokens
from chutes_local.world.world import World

Json = dict[str, object]


@dataclass(slots=True)
class Call:
    """One inference request in progress: its account, its body, and its journal entry."""

    world: World
    request: Request
    body: Json
    account: Account
    entry: Entry
    gateway: bool
    thinking: bool = False
    quota: Mapping[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> Mapping[str, str]:
        """The request headers."""
        return self.request.headers

    def reply_headers(self) -> dict[str, str]:
        """Return the headers of a successful answer, with the backend behind it."""
        return {
            "X-Chutes-InvocationID": str(uuid.uuid4()),
            **self.quota,
            "X-Local-Backend": self.world.backend.name,
        }

    def bill(self, chute: Chute, prompt: int, completion: int) -> None:
        """Record what an answer cost."""
        self.entry.billed = Tokens(prompt, completion)
        self.account.bill(prompt, completion, chute.price)
        chute.requests += 1
        chute.input_tokens += prompt
        chute.output_tokens += completion


Handler = Callable[[Call, Chute, Fault | None], Awaitable[Response]]


async def infer(request: Request, world: World, handler: Handler, template: str, chute: Chute | None) -> Response:
    """Answer one inference request: by ``chute`` on its own host, otherwise by what ``model`` resolves to."""
    try:
        call = await _admit(request, world, gateway=chute is None)
        members = [chute] if chute else _members(call, template)
        refusal = call.account.refusal(world.clock())
        if refusal:
            raise Refused(refusal)
        call.quota = call.account.headers()  # they say what was left before it
        answer = partial(_first_good, call, members, handler)
        if not asks_for_it(request):
            return await answer()
        return await traced(world, call.entry, call.reply_headers(), answer, streamed=call.body.get("stream") is True)
    except Refused as refused:
        entry: Entry = request.scope["state"]["entry"]
        entry.fault = entry.fault or refused.fault
        return plain(refused.answer, {"connection": "close"} if refused.answer.status == 413 else None)
    except ClientLeft:
        request.scope["state"]["entry"].ended = "client left"
        return Nothing()
    except ServerStopped:
        request.scope["state"]["entry"].ended = "server stopped"
        reset(request.scope)
        return Nothing()


async def read_body(request: Request, limit: int) -> bytes:
    """Read a body of at most ``limit`` bytes."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise Refused(errors.detail(413, errors.TOO_LARGE))
    raw = await request.body()
    if len(raw) > limit:
        raise Refused(errors.detail(413, errors.TOO_LARGE))
    return raw


async def _admit(request: Request, world: World, *, gateway: bool) -> Call:
    raw = await read_body(request, world.max_body)
    account = access.caller(request.headers, world)
    entry: Entry = request.scope["state"]["entry"]
    body = parse_json(raw)
    world.journal.note(entry, body)
    return Call(world, request, body, account, entry, gateway)


def _members(call: Call, template: str) -> list[Chute]:
    """Apply the gateway's rewriting to ``model``, and list the chutes it resolves to."""
    model = call.body.get("model")
    if model is None:
        raise Refused(errors.detail(404, errors.NO_CHUTE))
    name, suffixed = split_thinking(model if isinstance(model, str) else "")
    call.thinking = suffixed or call.headers.get("x-enable-thinking", "").lower() == "true"
    world = call.world
    members = resolve(rename(name, world.fleet), world.fleet, world.aliases, template)
    if not members:
        raise Refused(errors.not_found(model))
    return members


async def _first_good(call: Call, members: list[Chute], handler: Handler) -> Response:
    """Try each chute in turn; only 429 and 503 move on, and if all fail the first error is returned."""
    first: Refused | None = None
    for chute in members:
        attempt = Attempt(chute.name)
        call.entry.attempts.append(attempt)
        call.entry.model = chute.name
        try:
            response = await _try(call, chute, attempt, handler)
        except Refused as refused:
            attempt.status = refused.answer.status
            if refused.answer.status not in FAILOVER:
                raise
            first = first or refused
            continue
        attempt.status = response.status_code
        return response
    assert first is not None  # members is never empty
    call.entry.fault = first.fault
    raise first


async def _try(call: Call, chute: Chute, attempt: Attempt, handler: Handler) -> Response:
    fault = call.world.faults.draw(chute.name)
    if fault:
        attempt.fault = call.entry.fault = fault.kind
        early = await strike(fault, chute, call.request, call.world)
        if early:
            return early
    else:
        call.entry.fault = None
    _check_available(call, chute)
    return await handler(call, chute, fault)


def _check_available(call: Call, chute: Chute) -> None:
    if call.headers.get("x-tee-only", "").lower() == "true" and not chute.tee:
        raise Refused(errors.detail(426, errors.NOT_TEE))
    if chute.disabled:
        raise Refused(errors.detail(503, errors.DISABLED))
    if chute.tee and not call.account.runs_tee:
        raise Refused(errors.detail(402, errors.TEE_NEEDS_BALANCE))
    if chute.machines <= 0:
        raise Refused(errors.cold(chute.chute_id))
    if chute.busy:
        raise Refused(errors.detail(429, errors.CAPACITY))


async def strike(fault: Fault, chute: Chute | None, request: Request, world: World) -> Response | None:
    """Apply a fault that comes before or instead of an answer; ``None`` means the answer follows."""
    kind = KINDS[fault.kind]
    if kind.answer:
        target = chute.target if chute else Target()
        raise Refused(kind.answer(fault, target), fault.kind)
    if kind.phase is not Phase.BEFORE:
        return None
    if fault.kind == "refused":
        reset(request.scope)
        world.refuse(fault.duration)
        request.scope["state"]["entry"].ended = "cut"
        return Nothing()
    if chute:
        async with attached(request.receive):
            await pause(fault.duration, world.stopping)
    else:
        # The body must not be read here: the handler that answers next needs it.
        await pause(fault.duration, world.stopping)
    return plain(errors.nginx(504)) if fault.kind == "hang" else None
