"""Helpers of the management routes: errors as answers, pagination, form and JSON bodies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import cast
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from chutes_local.wire import errors
from chutes_local.wire.errors import Refused, plain
from chutes_local.wire.read import read_json

Endpoint = Callable[[Request], Awaitable[Response]]


def guarded(endpoint: Endpoint) -> Endpoint:
    """Turn a :class:`Refused` raised by ``endpoint`` into its answer."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Refused as refused:
            return plain(refused.answer)

    return answer


def number(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """Read a whole number from a query, refusing anything else as the service does: 422 and a list."""
    text = query.get(name, str(default))
    if not text.lstrip("-").isdecimal() or not low <= int(text) <= high:
        problem = f"Input should be a whole number between {low} and {high}"
        raise Refused(invalid("query", name, problem, text))
    return int(text)


def invalid(place: str, name: str, problem: str, given: object) -> errors.Answer:
    """Build the answer for an invalid value in a management request, as pydantic words it."""
    entry = {"type": "value_error", "loc": [place, name], "msg": f"Value error, {problem}", "input": given}
    return errors.detail(422, [{**entry, "ctx": {"error": {}}}])


def missing(place: str, *names: str, given: object = None) -> errors.Answer:
    """Build the answer for a request that lacks something; it lists all that is missing."""
    entries = [{"type": "missing", "loc": [place, name], "msg": "Field required", "input": given} for name in names]
    return errors.detail(422, entries)


def stamp(seconds: float) -> str:
    """Write a time as the service's pages do.

    >>> stamp(0.5)
    '1970-01-01T00:00:00.500000Z'
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def page_of(items: Sequence[object], query: Mapping[str, str], *, most: int = 100) -> dict[str, object]:
    """Return one page of ``items``; pages count from 0.

    >>> page_of(["a", "b", "c"], {"page": "1", "limit": "2"})
    {'total': 3, 'page': 1, 'limit': 2, 'items': ['c']}
    """
    limit = number(query, "limit", 25, 1, most)
    page = number(query, "page", 0, 0, 100)
    start = number(query, "offset", page * limit, 0, 10**9)
    return {"total": len(items), "page": page, "limit": limit, "items": list(items[start : start + limit])}


async def form(request: Request) -> dict[str, str]:
    """Read a form body; of a repeated field the first value counts."""
    fields = parse_qs((await request.body()).decode(errors="replace"), keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}


async def json_object(request: Request) -> dict[str, object]:
    """Read a JSON body that must be an object."""
    try:
        body = read_json(await request.body())
    except ValueError as error:
        raise Refused(invalid("body", "", f"JSON decode error: {error}", None)) from error
    if not isinstance(body, dict):
        raise Refused(invalid("body", "", "Input should be an object", body))
    return cast("dict[str, object]", body)
