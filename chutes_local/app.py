"""The server as one ASGI application.

>>> from chutes_local.backends.choose import choose_backend
>>> app = create_app(World(choose_backend("echo")))
>>> sorted(app.sites)
['api', 'chute', 'embed', 'llm', 'local']
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chutes_local import control
from chutes_local.e2ee import routes as e2ee
from chutes_local.faults.kinds import Fault
from chutes_local.gateway import chat, media
from chutes_local.gateway.embeddings import embed
from chutes_local.gateway.inference import Call, Handler, infer
from chutes_local.hosts import Gate
from chutes_local.management import account, models
from chutes_local.management import login as oauth_routes
from chutes_local.wire import errors
from chutes_local.wire.errors import Answer, plain
from chutes_local.world import access
from chutes_local.world.fleet import Chute
from chutes_local.world.world import World

Endpoint = Callable[[Request], Awaitable[Response]]
CORDS: dict[str, dict[str, Handler]] = {
    "vllm": {"/v1/chat/completions": chat.chat, "/v1/completions": chat.text},
    "embedding": {"/v1/embeddings": embed},
    "diffusion": {"/generate": media.draw},
    "other": {"/speak": media.speak},
}


def create_app(world: World) -> Gate:
    """Build the application around ``world``."""
    return Gate(
        world,
        {
            "llm": _application([_models(world), *_cords(world, "vllm")]),
            "embed": _application(_cords(world, "embedding")),
            "chute": _application(_own_host(world)),
            "api": _application(_management(world)),
            "local": Starlette(routes=control.routes(world), exception_handlers={HTTPException: _no_such_control}),
        },
    )


def _management(world: World) -> list[Route]:
    sealed = e2ee.routes(world, CORDS)
    return [
        *account.routes(world), *sealed, *models.routes(world), *oauth_routes.routes(world), _by_id(world), _ping()
    ]  # fmt: skip


def _application(routes: list[Route]) -> Starlette:
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_such_path})


async def _no_such_path(request: Request, error: Exception) -> Response:
    """Answer for any other path or method: whoever has a key is told that no chute is there."""
    if not access.bearer(request.headers):
        return plain(errors.detail(401, errors.AUTHENTICATION_REQUIRED))
    return plain(errors.detail(404, errors.NO_CHUTE))


async def _no_such_control(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return plain(errors.detail(status, errors.NOT_FOUND if status == 404 else "Method Not Allowed"))


def _models(world: World) -> Route:
    async def listing(request: Request) -> Response:
        only = request.query_params.get("or", "").lower() == "true"
        return JSONResponse(models.listed(world, openrouter_only=only))

    return Route("/v1/models", listing, methods=["GET"])


def _cords(world: World, template: str) -> list[Route]:
    """Routes of a gateway; a POST to any other path resolves its model first, then fails with no cord."""

    def endpoint(handler: Handler) -> Endpoint:
        async def answer(request: Request) -> Response:
            return await infer(request, world, handler, template, None)

        return answer

    known = [Route(path, endpoint(handler), methods=["POST"]) for path, handler in CORDS[template].items()]
    return [*known, Route("/{path:path}", endpoint(_no_cord), methods=["POST"])]


def _own_host(world: World) -> list[Route]:
    """Route for one model's own host: the same cords, without the gateway's additions."""

    async def answer(request: Request) -> Response:
        chute = world.fleet.at(request.scope["state"]["site"].slug)
        path = request.scope["path"].removeprefix(request.scope["root_path"])
        return await _asked(request, world, chute, path)

    return [Route("/{path:path}", answer, methods=["GET", "POST", "PUT", "DELETE", "PATCH"])]


def _by_id(world: World) -> Route:
    """Route for the address of a chute's cords on the management host."""

    async def answer(request: Request) -> Response:
        if not access.bearer(request.headers):
            return plain(errors.detail(404, errors.NOT_FOUND))
        chute = world.fleet.find(request.path_params["chute_id"])
        return await _asked(request, world, chute, f"/{request.path_params['path']}")

    return Route("/chutes/{chute_id}/{path:path}", answer, methods=["POST"])


async def _asked(request: Request, world: World, chute: Chute | None, path: str) -> Response:
    """Answer for one chute."""
    if chute is None:
        return plain(errors.detail(404, errors.NO_CHUTE))
    if request.method == "GET" and path == "/v1/models" and chute.template in ("vllm", "embedding"):
        return JSONResponse({"object": "list", "data": [models.row(chute, world.fleet, int(world.clock()))]})
    handler = CORDS[chute.template].get(path, _no_cord) if request.method == "POST" else _no_cord
    if handler is _no_cord:
        return plain(_NO_CORD)
    return await infer(request, world, handler, chute.template, chute)


_NO_CORD: Answer = errors.detail(404, errors.NO_CORD)


async def _no_cord(call: Call, chute: Chute, fault: Fault | None) -> Response:
    return plain(_NO_CORD)


def _ping() -> Route:
    async def pong(request: Request) -> Response:
        return JSONResponse({"message": "pong"})

    return Route("/ping", pong, methods=["GET"])
