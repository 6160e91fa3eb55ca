"""The encrypted path: ``/e2e/instances``, ``/e2e/invoke``, and machine evidence.

A request is decrypted here as a machine would, answered like any other, and the answer is sealed for the key
inside the request. The journal records what the machine sees; on the socket everything is sealed.
"""

from __future__ import annotations

import base64
import os
import random
import re
from collections.abc import Mapping
from typing import cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chutes_local.e2ee.proof import evidence, measurements
from chutes_local.e2ee.spoil import WHOLE, seal_body, seal_steps
from chutes_local.faults.kinds import Fault
from chutes_local.gateway.inference import Call, Handler, read_body, strike
from chutes_local.gateway.send import EVENT_STREAM, ClientLeft, Nothing, ServerStopped, Steps, each, reset
from chutes_local.management.pages import guarded, missing
from chutes_local.wire import errors
from chutes_local.wire.errors import Refused
from chutes_local.wire.seal import ReplySeal, SealError, possible
from chutes_local.world import access
from chutes_local.world.fleet import Chute
from chutes_local.world.journal import Attempt, Entry
from chutes_local.world.world import World

MOST_INSTANCES = 5
GOOD_FOR = 60
HEADERS = ("X-Chute-Id", "X-Instance-Id", "X-E2E-Nonce")
OCTETS = "application/octet-stream"
Cords = Mapping[str, Mapping[str, Handler]]


def instance_ids(chute: Chute) -> list[str]:
    """Return the ids of a model's machines, as used in the rest of the server."""
    return [f"{chute.chute_id[:-2]}{place:02d}" for place in range(chute.machines)]


def routes(world: World, cords: Cords) -> list[Route]:
    """Routes of the encrypted path; they must precede the catalogue's, whose paths match any name."""

    async def instances(request: Request) -> Response:
        account = access.caller(_with_key(request), world)
        if not world.sealed.count():
            raise Refused(errors.detail(429, errors.RATE_LIMIT))
        chute = world.fleet.find(request.path_params["chute_id"])
        if chute is None or chute.chute_id != request.path_params["chute_id"]:
            raise Refused(errors.detail(404, "Chute not found"))
        if chute.machines <= 0:
            raise Refused(errors.detail(404, "No active instances found for this chute"))
        if not chute.tee or not possible():
            raise Refused(errors.detail(404, "No E2E-capable instances available"))
        names = instance_ids(chute)
        rows = [
            {
                "instance_id": name,
                "e2e_pubkey": world.sealed.key(name).public,
                "nonces": world.sealed.admit(account.user_id, chute.chute_id, name),
            }
            for name in random.sample(names, min(len(names), MOST_INSTANCES))
        ]
        until = int(world.clock()) + GOOD_FOR
        return JSONResponse({"instances": rows, "nonce_expires_in": GOOD_FOR, "nonce_expires_at": until})

    async def proof(request: Request) -> Response:
        number = _number(request)
        chute = world.fleet.find(request.path_params["name"])
        if chute is None:
            raise Refused(errors.detail(404, "Chute not found, or does not belong to you"))
        if not chute.tee:
            raise Refused(errors.detail(400, "Chute is not TEE-enabled"))
        names = instance_ids(chute)
        failed = names if "missing" in world.sealed.lies else []
        rows = [_evidence(world, name, number) for name in names if name not in failed]
        return JSONResponse({"evidence": rows, "failed_instance_ids": failed})

    async def one_proof(request: Request) -> Response:
        access.caller(_with_key(request), world)
        number, name = _number(request), request.path_params["instance_id"]
        if not any(name in instance_ids(chute) for chute in world.fleet if chute.tee):
            raise Refused(errors.detail(404, "Instance not found"))
        return JSONResponse(_evidence(world, name, number))

    async def published(request: Request) -> Response:
        return JSONResponse(measurements())

    async def invoke(request: Request) -> Response:
        entry: Entry = request.scope["state"]["entry"]
        try:
            return await _invoke(request, world, cords, entry)
        except Refused as refused:
            entry.fault = entry.fault or refused.fault
            raise
        except ClientLeft:
            entry.ended = "client left"
        except ServerStopped:
            entry.ended = "server stopped"
            reset(request.scope)
        return Nothing()

    return [
        Route("/e2e/instances/{chute_id}", guarded(instances), methods=["GET"]),
        Route("/e2e/invoke", guarded(invoke), methods=["POST"]),
        Route("/chutes/{name:path}/evidence", guarded(proof), methods=["GET"]),
        Route("/instances/{instance_id}/evidence", guarded(one_proof), methods=["GET"]),
        Route("/servers/tee/measurements", guarded(published), methods=["GET"]),
    ]


def _with_key(request: Request) -> Mapping[str, str]:
    """Require a key, refusing as the management host does."""
    if not access.bearer(request.headers):
        raise Refused(errors.detail(401, errors.AUTHENTICATION_REQUIRED))
    return request.headers


def _number(request: Request) -> str:
    number = request.query_params.get("nonce", "")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", number):
        raise Refused(errors.detail(400, "Nonce must be exactly 64 hex characters"))
    return number


def _evidence(world: World, name: str, number: str) -> dict[str, object]:
    return evidence(name, number, world.sealed.key(name).public, frozenset(world.sealed.lies))


async def _invoke(request: Request, world: World, cords: Cords, entry: Entry) -> Response:
    """Answer one sealed request; its nonce is consumed first, whatever comes after."""
    account = access.caller(_with_key(request), world)
    lacking = [name for name in HEADERS if name not in request.headers]
    if lacking:
        raise Refused(missing("header", *lacking))
    chute_id, instance, token = (request.headers[name] for name in HEADERS)
    if not world.sealed.consume(token, account.user_id, chute_id, instance):
        raise Refused(errors.detail(403, "Invalid, expired, or already-used nonce"))
    chute = world.fleet.find(chute_id)
    if chute is None or instance not in world.sealed.keys:
        raise Refused(errors.detail(404, "Instance not found"))
    if instance not in instance_ids(chute):
        raise Refused(errors.detail(410, "Instance is no longer active"))
    if chute.disabled:
        raise Refused(errors.detail(503, errors.DISABLED))
    refusal = account.refusal(world.clock())
    if refusal:
        raise Refused(refusal)
    if chute.tee and not account.runs_tee:
        raise Refused(errors.detail(402, errors.TEE_NEEDS_BALANCE))
    quota = account.headers()
    entry.model = chute.name
    attempt = Attempt(chute.name)
    entry.attempts.append(attempt)
    blob = await read_body(request, world.max_body)
    fault = world.faults.draw(chute.name)
    if fault:
        attempt.fault = entry.fault = fault.kind
        early = await _struck(fault, chute, request, world)
        if early is not None:
            return early
    if chute.busy:
        raise Refused(errors.detail(429, "Instance is at maximum capacity, try again later"))
    try:
        body, seal = world.sealed.key(instance).open(blob)
    except SealError as problem:
        raise Refused(errors.detail(400, str(problem))) from None
    world.journal.note(entry, body)
    call = Call(world, request, body, account, entry, gateway=False, quota=quota)
    return await _answer(call, chute, cords, seal, fault)


async def _struck(fault: Fault, chute: Chute, request: Request, world: World) -> Response | None:
    try:
        return await strike(fault, chute, request, world)
    except Refused as refused:
        raise _as_relayed(refused) from None


def _as_relayed(refused: Refused) -> Refused:
    """Rewrite a machine's refusal the way the service relays it, without being able to read it."""
    answer = refused.answer
    if answer.status == 400:
        # The reason is encrypted between machine and service, so the client gets noise.
        answer = errors.detail(400, base64.b64encode(os.urandom(300)).decode())
    elif answer.status == 429 and refused.fault == "capacity":
        answer = errors.detail(429, "Instance is at maximum capacity, try again later")
    elif answer.status == 500:
        own = errors.ENGINE_FAILED.encode() in answer.body
        answer = errors.detail(500, f"Instance returned status 500{f' ({errors.ENGINE_FAILED})' if own else ''}")
    return Refused(answer, refused.fault)


async def _answer(call: Call, chute: Chute, cords: Cords, seal: ReplySeal, fault: Fault | None) -> Response:
    """Answer as usual, and seal the result."""
    path = call.headers.get("x-e2e-path", "/")
    handler = cords[chute.template].get(path)
    if handler is None:
        raise Refused(errors.detail(404, "Instance returned status 404"))
    if call.body.get("stream") is True:
        call.body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    inner = None if fault is not None and call.body.get("stream") is not True and fault.kind in WHOLE else fault
    try:
        response = await handler(call, chute, inner)
    except Refused as refused:
        raise _as_relayed(refused) from None
    call.entry.attempts[-1].status = response.status_code
    headers = {name: value for name, value in call.reply_headers().items() if name != "X-Chutes-InvocationID"}
    if call.body.get("stream") is True:
        steps = seal_steps(cast("Steps", response).steps, seal, fault)
        headers["content-type"] = EVENT_STREAM["content-type"]
        return Steps(steps, call.entry, call.world.stopping, headers)
    sealed = list(seal_body(bytes(response.body), seal, fault))
    kind = fault.kind if fault else ""
    if kind in WHOLE:
        length = sum(len(step) for step in sealed if isinstance(step, bytes))
        sized = length * 2 if kind in ("reset", "half_close") else length
        headers |= {"content-type": OCTETS, "content-length": str(sized)}
        return Steps(each(sealed), call.entry, call.world.stopping, headers)
    return Response(b"".join(step for step in sealed if isinstance(step, bytes)), headers=headers, media_type=OCTETS)
