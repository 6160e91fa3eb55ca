"""The clients that belong to no framework."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.speed.clients import Client, Turns, sealed

if TYPE_CHECKING:
    from pydantic import BaseModel

PERSON_TOOL = {
    "type": "function",
    "function": {
        "name": "Person",
        "description": "A person.",
        "parameters": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "age": {"type": "integer"},
                "city": {"type": "string"},
                "about": {"type": "string"},
            },
            "required": ["name", "age", "city", "about"],
        },
    },
}
FORM = {"type": "json_schema", "json_schema": {"name": "Person", "schema": PERSON_TOOL["function"]["parameters"]}}  # type: ignore[index]


def person() -> type[BaseModel]:
    """The form of answers; made on demand, since pydantic is not everybody's."""
    from benchmarks.speed.clients.person import Person

    return Person


def dicts(turns: Turns) -> list[dict[str, Any]]:
    """A conversation as the wire has it."""
    return [{"role": role, "content": text} for role, text in turns]


def _joined(pieces: Iterable[tuple[int, str]]) -> list[dict[str, Any]]:
    calls: dict[int, list[str]] = {}
    for index, piece in pieces:
        calls.setdefault(index, []).append(piece)
    return [json.loads("".join(parts)) for parts in calls.values()]


def with_httpx(url: str, model: str) -> Client:
    """What anybody would write by hand over httpx."""
    return _by_hand("httpx", url, model)


def with_httpx2(url: str, model: str) -> Client:
    """The same over httpx2."""
    return _by_hand("httpx2", url, model)


def _by_hand(package: str, url: str, model: str) -> Client:
    httpx = import_module(package)
    http = httpx.Client(timeout=60)
    address = f"{url}/chat/completions"

    @cache
    def async_http(wide: bool = False) -> Any:
        # As it comes, a client holds a hundred connections: too few for a thousand streams.
        return httpx.AsyncClient(timeout=60, **({"limits": httpx.Limits(max_connections=None)} if wide else {}))

    def body(messages: Any, **more: Any) -> dict[str, Any]:
        return {"model": model, "messages": messages, **more}

    def whole(messages: Any) -> str:
        reply = http.post(address, json=body(messages)).json()
        return str(reply["choices"][0]["message"]["content"])

    async def awhole(messages: Any) -> str:
        reply = (await async_http().post(address, json=body(messages))).json()
        return str(reply["choices"][0]["message"]["content"])

    def stream(messages: Any, **more: Any) -> Iterator[dict[str, Any]]:
        with http.stream("POST", address, json=body(messages, stream=True, **more)) as reply:
            for line in reply.iter_lines():
                if line.startswith("data: {"):
                    yield json.loads(line[6:])

    async def astream(messages: Any) -> AsyncIterator[dict[str, Any]]:
        async with async_http(wide=True).stream("POST", address, json=body(messages, stream=True)) as reply:
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    yield json.loads(line[6:])

    def tools(messages: Any) -> list[dict[str, Any]]:
        chunks = stream(messages, tools=[PERSON_TOOL])
        deltas = (chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"])
        calls = (call for delta in deltas for call in delta.get("tool_calls") or ())
        return _joined((call["index"], call["function"]["arguments"]) for call in calls)

    def structured(messages: Any) -> Any:
        reply = http.post(address, json=body(messages, response_format=FORM)).json()
        return person().model_validate_json(reply["choices"][0]["message"]["content"])

    def text(chunk: dict[str, Any]) -> str:
        return str(chunk["choices"][0]["delta"].get("content") or "") if chunk["choices"] else ""

    return Client(dicts, whole, stream, text, awhole, astream, tools, structured)


def openai_sdk(url: str, model: str) -> Client:
    """The openai SDK as its documentation shows it."""
    import openai

    client = openai.OpenAI(api_key="none", base_url=url, max_retries=0)
    made: list[openai.AsyncOpenAI] = []

    def async_client() -> Any:
        if not made:
            made.append(openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0))
        return made[0]

    chat: Any = client.chat.completions

    def whole(messages: Any) -> str:
        return str(chat.create(model=model, messages=messages).choices[0].message.content)

    async def awhole(messages: Any) -> str:
        reply = await async_client().chat.completions.create(model=model, messages=messages)
        return str(reply.choices[0].message.content)

    def stream(messages: Any) -> Iterator[Any]:
        return iter(chat.create(model=model, messages=messages, stream=True))

    async def astream(messages: Any) -> AsyncIterator[Any]:
        async for chunk in await async_client().chat.completions.create(model=model, messages=messages, stream=True):
            yield chunk

    def tools(messages: Any) -> list[dict[str, Any]]:
        chunks = chat.create(model=model, messages=messages, stream=True, tools=[PERSON_TOOL])
        deltas = (chunk.choices[0].delta for chunk in chunks if chunk.choices)
        return _joined((c.index, c.function.arguments) for delta in deltas for c in delta.tool_calls or ())

    def structured(messages: Any) -> Any:
        return chat.parse(model=model, messages=messages, response_format=person()).choices[0].message.parsed

    def text(chunk: Any) -> str:
        return str(chunk.choices[0].delta.content or "") if chunk.choices else ""

    return Client(dicts, whole, stream, text, awhole, astream, tools, structured)


def chutes_core(url: str, model: str) -> Client:
    """Our core alone."""
    return _core(model, {"base_url": url})


def chutes_core_sealed(url: str, model: str) -> Client:
    """Our core on the encrypted path."""
    return _core(model, sealed.settings(url, model))


def _core(model: str, settings: dict[str, Any]) -> Client:
    from chutes_core import AsyncChutesClient, ChutesClient

    client = ChutesClient("cpk_none", **settings)
    async_client = AsyncChutesClient("cpk_none", **settings)

    def whole(messages: Any) -> str:
        return client.chat(messages, model=model).content

    async def awhole(messages: Any) -> str:
        return (await async_client.chat(messages, model=model)).content

    def stream(messages: Any) -> Iterator[Any]:
        return client.stream(messages, model=model)

    def astream(messages: Any) -> AsyncIterator[Any]:
        return async_client.stream(messages, model=model)

    def tools(messages: Any) -> list[dict[str, Any]]:
        asked = client.stream(messages, model=model, tools=[PERSON_TOOL])
        for _ in asked:
            pass
        return [call.args for call in asked.reply.tool_calls]

    def structured(messages: Any) -> Any:
        return person().model_validate_json(client.chat(messages, model=model, response_format=FORM).content)

    return Client(dicts, whole, stream, lambda delta: delta.content, awhole, astream, tools, structured)
