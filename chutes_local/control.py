"""The server's own controls under ``/local``: faults, journal, models, account and clock over HTTP.

They are not part of Chutes and do not appear in the journal. All but the overview ask for the server's own token, so
that no other program or web page on this machine can switch faults on or read what was asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chutes_local.backends.backend import health_of
from chutes_local.faults.kinds import KINDS, Fault
from chutes_local.faults.plan import FaultPlan
from chutes_local.management.pages import Endpoint, guarded, json_object
from chutes_local.wire import errors
from chutes_local.wire.errors import Refused
from chutes_local.world.world import World

Json = dict[str, object]
_FAULT_FIELDS = ("after", "seconds", "value")
_FIELDS = ("seed", "rules", "target", "kind", "script", "probability", "times", *_FAULT_FIELDS)
MOST_SECONDS = 10**9
"""How far the clock can be moved: some thirty years."""


def routes(world: World) -> list[Route]:
    """Return all control routes."""
    table: dict[tuple[str, str], Callable[[Request, World], Awaitable[Response]]] = {
        ("GET", "/local"): _overview,
        ("POST", "/local/reset"): _reset,
        ("GET", "/local/faults"): _faults,
        ("POST", "/local/faults"): _add_faults,
        ("DELETE", "/local/faults"): _clear_faults,
        ("GET", "/local/journal"): _journal,
        ("DELETE", "/local/journal"): _clear_journal,
        ("PATCH", "/local/models/{name:path}"): _change_model,
        ("PATCH", "/local/account"): _change_account,
        ("POST", "/local/clock"): _advance,
    }
    return [Route(path, _bound(endpoint, world), methods=[method]) for (method, path), endpoint in table.items()]


def _bound(endpoint: Callable[[Request, World], Awaitable[Response]], world: World) -> Endpoint:
    async def call(request: Request) -> Response:
        try:
            return await endpoint(request, world)
        except (TypeError, ValueError) as error:
            # An HTTP caller gets the message that a Python caller gets from the exception.
            raise Refused(errors.detail(400, str(error))) from error

    return guarded(call)


async def _overview(request: Request, world: World) -> Response:
    return JSONResponse(
        {
            "what": "the embedded Chutes: a small model on this machine, not the service",
            "backend": world.backend.name,
            "is_model": world.backend.is_model,
            "models": [chute.name for chute in world.fleet],
            "engine": {**asdict(health_of(world.backend)), **({} if world.ready else {"state": "starting"})},
            "journal": {
                "entries": len(world.journal),
                "bytes": world.journal.bytes,
                "most_bytes": world.journal.most_bytes,
            },
            "faults": world.faults.describe(),
            "fault_kinds": {name: kind.summary for name, kind in KINDS.items()},
        }
    )


async def _reset(request: Request, world: World) -> Response:
    world.reset()
    return Response(status_code=204)


async def _faults(request: Request, world: World) -> Response:
    return JSONResponse({"seed": world.faults.seed, "faults": world.faults.describe()})


async def _add_faults(request: Request, world: World) -> Response:
    set_from_json(world.faults, await json_object(request))
    return JSONResponse({"seed": world.faults.seed, "faults": world.faults.describe()}, 201)


async def _clear_faults(request: Request, world: World) -> Response:
    world.faults.clear()
    return Response(status_code=204)


async def _journal(request: Request, world: World) -> Response:
    model = request.query_params.get("model")
    entries = [entry.as_json() for entry in world.journal if model in (None, entry.model)]
    billed = world.journal.billed(model)
    totals = {"prompt_tokens": billed.prompt, "completion_tokens": billed.completion}
    return JSONResponse({"entries": entries, "billed": totals})


async def _clear_journal(request: Request, world: World) -> Response:
    world.journal.clear()
    return Response(status_code=204)


async def _change_model(request: Request, world: World) -> Response:
    chute = world.fleet.change(request.path_params["name"], **await json_object(request))
    return JSONResponse({"model": chute.name, "machines": chute.machines, "busy": chute.busy})


async def _change_account(request: Request, world: World) -> Response:
    account = world.accounts.default
    for name, value in (await json_object(request)).items():
        if name not in ("balance", "quota", "used") or isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name}: balance, quota and used can be set, each to a number.")
        setattr(account, name, value)
    return JSONResponse({"balance": account.balance, "quota": account.quota, "used": account.used})


async def _advance(request: Request, world: World) -> Response:
    seconds = (await json_object(request)).get("advance")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or abs(seconds) > MOST_SECONDS:
        raise ValueError(f'Send {{"advance": SECONDS}}, of at most {MOST_SECONDS} seconds.')
    world.clock.advance(seconds)
    return JSONResponse({"now": world.clock()})


def set_from_json(plan: FaultPlan, body: Json) -> None:
    """Set the rules in the body of ``POST /local/faults``, a list of texts or one rule in fields, as ``plan.set`` does.

    >>> plan = FaultPlan("m=cold", "n=cold")
    >>> set_from_json(plan, {"rules": ["*=capacity x2"]})
    >>> set_from_json(plan, {"target": "m", "kind": "stall", "seconds": 1, "probability": 0.5})
    >>> plan.describe()
    ['m=stall(seconds=1):0.5', '*=capacity (2 left)', 'n=cold']
    """
    if unknown := [name for name in body if name not in _FIELDS]:
        raise ValueError(f"There is no field {unknown[0]!r}; the fields are {', '.join(_FIELDS)}.")
    seed = body.get("seed", plan.seed)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"seed must be a whole number, not {seed!r}.")
    rules, target, kind, script = (body.get(name) for name in ("rules", "target", "kind", "script"))
    new = FaultPlan(seed=seed, models=plan.models)
    if isinstance(rules, list):
        new.parse(*map(str, rules))
    elif isinstance(target, str) and isinstance(script, list):
        new.script(target, [None if step is None else str(step) for step in script])
    elif isinstance(target, str) and isinstance(kind, str):
        options = {name: body[name] for name in _FAULT_FIELDS if name in body}
        chance, times = body.get("probability", 1.0), body.get("times")
        new.add(target, Fault(kind, **options), probability=chance, times=times)  # type: ignore[arg-type]
    else:
        raise ValueError('Send {"rules": ["TARGET=KIND"]}, or a "target" with a "kind" or a "script".')
    plan.take(new)
