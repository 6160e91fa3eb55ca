"""The catalogue: ``/v1/models`` of the gateway, and the same chutes in the management API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from chutes_local.management.pages import guarded, page_of, stamp
from chutes_local.wire import errors
from chutes_local.wire.errors import Refused
from chutes_local.world import access
from chutes_local.world.fleet import Chute, Fleet
from chutes_local.world.world import World

Json = dict[str, object]
TAO_USD = 227.6
COLD_STEPS = 2


def row(chute: Chute, fleet: Fleet, created: int) -> Json:
    """Build one row of ``/v1/models`` with the service's field names.

    >>> fleet = Fleet.load()
    >>> sorted(row(fleet.find("chutes-local/outside-sample"), fleet, 0))[:3]
    ['chute_id', 'confidential_compute', 'created']
    """
    facts = chute.facts
    base: Json = {
        "id": chute.name,
        "root": facts["root"],
        "object": "model",
        "parent": None,
        "created": created,
        "owned_by": chute.engine,
        "chute_id": chute.chute_id,
        "confidential_compute": chute.tee,
    }
    if facts.get("external"):
        return base
    low, high = chute.price
    base |= {
        "max_model_len": chute.window,
        "pricing": {"prompt": low, "completion": high, "input_cache_read": low * 0.1},
        "price": {"input": _both(low), "output": _both(high), "input_cache_read": _both(low * 0.1)},
    }
    if chute.engine == "vllm":
        base["permission"] = [{"id": f"modelperm-{chute.chute_id[:8]}", "object": "model_permission"}]
    if facts.get("sparse"):
        return base
    return base | {
        "context_length": facts["context_length"],
        "max_output_length": facts["max_output_length"],
        "input_modalities": facts["inputs"],
        "output_modalities": ["text"],
        "quantization": facts["quantization"],
        "supported_features": fleet.features,
        "supported_sampling_parameters": fleet.sampling,
    }


_OF_NO_USE: Json = dict.fromkeys(
    ("jobs", "logo_id", "revision", "boost", "max_instances", "scaling_threshold", "shutdown_after_seconds",
     "lock_modules", "bounty", "logo")
)  # fmt: skip
"""What a chute has in the service's lists, and none of these sets."""


def item(chute: Chute, moment: str, *, alone: bool = False) -> Json:
    """Build one chute as the management API returns it: ``alone`` with its cords, in a list with a name for them."""
    low, high = chute.price
    tokens = {"input": _both(low), "output": _both(high), "input_cache_read": _both(low * 0.1)}
    return {
        "chute_id": chute.chute_id,
        "name": chute.name,
        "slug": chute.slug,
        "tagline": "Served by the embedded Chutes: a small local model under a big one's name",
        "readme": "",
        "tool_description": "",
        "public": True,
        "version": "local",
        "standard_template": chute.template,
        "cords": _cords(chute.template, alone=True) if alone else None,
        "cord_ref_id": None if alone else f"local-{chute.template}",
        "created_at": moment,
        "updated_at": moment,
        "user": {
            "username": "chutes",
            "user_id": "00000000-0000-5000-8000-000000000000",
            "logo_id": None,
            "created_at": moment,
            "logo": None,
        },
        "invocation_count": chute.requests,
        "current_estimated_price": {"per_million_tokens": tokens},
        "instances": [_instance(chute, n) for n in range(chute.machines)],
        "openrouter": chute.fact("openrouter"),
        "chutes_version": "0.6.9",
        "concurrency": 32,
        "preemptible": True,
        "allow_external_egress": False,
        "tee": chute.tee,
        "hot": chute.machines > 0,
        **_OF_NO_USE,
    }


_PATHS: dict[str, dict[str, str | None]] = {
    "vllm": {"/v1/chat/completions": None, "/v1/completions": None},
    "embedding": {"/v1/embeddings": None},
    "diffusion": {"/generate": "image/png"},
    "other": {"/speak": "audio/wav"},
}
"""What each template publishes, and what that answers where it says so."""


def _cords(template: str, *, alone: bool) -> list[Json]:
    """List what may be asked of a chute, as the service does."""
    schemas = ("input_schema", "output_schema", "minimal_input_schema") if alone else ()
    return [
        {
            "path": path,
            "method": "POST",
            "stream": stream,
            "function": path.rpartition("/")[2],
            "passthrough": media_type is None,
            "public_api_path": path,
            "public_api_method": "POST",
            "output_content_type": media_type,
            **{name: {} for name in schemas},
        }
        for path, media_type in _PATHS[template].items()
        for stream in ([True, False] if template == "vllm" else [False])
    ]


def routes(world: World) -> list[Route]:
    """Return the catalogue routes of the management API."""
    started = stamp(world.clock())

    async def listing(request: Request) -> Response:
        query = request.query_params
        if "page" in query and "offset" in query:
            raise Refused(errors.detail(400, "Specify either page or offset, not both."))
        chosen = [item(chute, started) for chute in world.fleet if _matches(chute, query)]
        page = page_of(chosen, query, most=5000)
        refs = {f"local-{template}": _cords(template, alone=False) for template in _PATHS}
        return JSONResponse({**page, "cord_refs": refs})

    async def one(request: Request) -> Response:
        return JSONResponse(item(_named(request, world), started, alone=True))

    async def code(request: Request) -> Response:
        chute = _named(request, world)
        return Response(f"# {chute.name}\nengine = {chute.engine!r}\n", media_type="text/plain")

    async def utilization(request: Request) -> Response:
        return JSONResponse([_utilization(chute, started) for chute in world.fleet])

    async def miner_means(request: Request) -> Response:
        chute = _named(request, world)
        rows = [
            {
                "miner_hotkey": "local",
                "instance_id": f"local-{n}",
                "avg_tps": chute.tps or 0,
                "avg_output_tokens": 0,
            }
            for n in range(chute.machines)
        ]
        return JSONResponse(rows)

    async def stats(request: Request) -> Response:
        wanted = request.query_params.get("chute_id")
        today = datetime.fromtimestamp(world.clock(), UTC).date().isoformat()
        chosen = [c for c in world.fleet if c.template == "vllm" and wanted in (None, c.chute_id)]
        return JSONResponse([_stats(chute, today) for chute in chosen])

    async def pricing(request: Request) -> Response:
        unit = {**_both(0.0), "description": "nothing is billed by the second here"}
        return JSONResponse({"tao_usd": TAO_USD, "compute_unit_estimate": unit, "gpu_price_estimates": {}})

    async def warmup(request: Request) -> Response:
        account = access.owner(request.headers, world)
        if account.balance <= 0:
            raise Refused(errors.detail(402, f"Account balance is ${account.balance}"))
        chute = _named(request, world)
        if chute.disabled:
            raise Refused(errors.detail(503, errors.DISABLED))
        return StreamingResponse(_warming(chute), media_type="text/event-stream")

    table = {
        "/chutes/": listing,
        "/chutes/utilization": utilization,
        "/chutes/miner_means/{name:path}": miner_means,
        "/chutes/code/{name:path}": code,
        "/chutes/warmup/{name:path}": warmup,
        "/chutes/{name:path}": one,
        "/invocations/stats/llm": stats,
        "/pricing": pricing,
    }
    return [Route(path, guarded(endpoint), methods=["GET"]) for path, endpoint in table.items()]


def listed(world: World, *, openrouter_only: bool) -> Json:
    """Build ``/v1/models``: chat models only, most used first; ``created`` is now, as on the real service."""
    created = int(world.clock())
    chosen = [c for c in world.fleet if c.template == "vllm" and (c.fact("openrouter") or not openrouter_only)]
    return {"object": "list", "data": [row(chute, world.fleet, created) for chute in chosen]}


def _named(request: Request, world: World) -> Chute:
    name = request.path_params["name"].removesuffix(".json")
    chute = world.fleet.find(name) or world.fleet.at(name)
    if chute is None:
        raise Refused(errors.detail(404, "Chute not found, or does not belong to you"))
    return chute


def _matches(chute: Chute, query: Mapping[str, str]) -> bool:
    template, name, slug = query.get("template"), query.get("name"), query.get("slug")
    return (
        template in (None, chute.template)
        and (not name or name.lower() in chute.name.lower())
        and slug in (None, chute.slug)
    )


async def _warming(chute: Chute) -> AsyncIterator[str]:
    """Stream the service's warmup reports; a cold chute gets a machine after a few of them."""
    for _ in range(COLD_STEPS if chute.machines <= 0 else 0):
        yield 'data: {"status": "cold", "log": "waiting for instances ..."}\n\n'
        await asyncio.sleep(0.01)
    chute.machines = max(chute.machines, 1)
    yield f'data: {{"status": "hot", "log": "chute is hot, {chute.machines} instances available"}}\n\n'


def _both(usd: float) -> Json:
    return {"usd": usd, "tao": usd / TAO_USD}


def _instance(chute: Chute, place: int) -> Json:
    return {
        "instance_id": f"{chute.chute_id[:-2]}{place:02d}",
        "region": "local",
        "active": True,
        "verified": True,
        "last_verified_at": None,
    }


def _utilization(chute: Chute, moment: str) -> Json:
    load = 1.0 if chute.busy else 0.0
    spans = ("5m", "15m", "1h")
    values: Json = {
        "chute_id": chute.chute_id,
        "name": chute.name,
        "timestamp": moment,
        "utilization_current": load,
    }
    values |= {f"utilization_{span}": load for span in spans}
    values |= {f"rate_limit_ratio_{span}": load for span in spans}
    values |= {f"total_requests_{span}": chute.requests for span in spans}
    return values | {
        "instance_count": chute.machines,
        "total_instance_count": chute.machines,
        "active_instance_count": chute.machines,
        "scalable": True,
        "total_invocations": chute.requests,
    }


def _stats(chute: Chute, day: str) -> Json:
    return {
        "chute_id": chute.chute_id,
        "name": chute.name,
        "date": day,
        "total_requests": chute.requests,
        "total_input_tokens": chute.input_tokens,
        "total_output_tokens": chute.output_tokens,
        "average_tps": chute.tps or 0,
        "average_ttft": chute.ttft or 0,
    }
