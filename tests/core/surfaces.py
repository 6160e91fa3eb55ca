"""One question through every client that there is: ours and the SDK's, blocking and async, whole and streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from chutes_core import AsyncChutesClient, ChutesClient, async_openai_client, openai_client

from .clients import HELLO, KEY, MODEL


def whole(base_url: str, messages: Any, options: Mapping[str, Any]) -> object:
    with ChutesClient(KEY, base_url=base_url, max_retries=0, **options) as client:
        return client.chat(messages, model=MODEL).content


def streamed(base_url: str, messages: Any, options: Mapping[str, Any]) -> object:
    with ChutesClient(KEY, base_url=base_url, max_retries=0, **options) as client:
        return "".join(delta.content for delta in client.stream(messages, model=MODEL))


def embedded(base_url: str, messages: Any, options: Mapping[str, Any]) -> object:
    with ChutesClient(KEY, base_url=base_url, max_retries=0, **options) as client:
        return client.embed(["a"], model="acme/embed").vectors


def listed(base_url: str, messages: Any, options: Mapping[str, Any]) -> object:
    with ChutesClient(KEY, base_url=base_url, max_retries=0, **options) as client:
        return client.models()


def awhole(base_url: str, messages: Any, options: Mapping[str, Any]) -> object:
    async def ask() -> object:
        async with AsyncChutesClient(KEY, base_url=base_url, max_retries=0, **options) as client:
            return (await client.chat(messages, model=MODEL)).content

    return asyncio.run(ask())


def astreamed(base_url: str, messages: Any, options: Mapping[str, Any]) -> object:
    async def ask() -> object:
        async with AsyncChutesClient(KEY, base_url=base_url, max_retries=0, **options) as client:
            return "".join([delta.content async for delta in client.stream(messages, model=MODEL)])

    return asyncio.run(ask())


def sdk_whole(base_url: str, messages: Any, options: Mapping[str, Any]) -> object:
    with openai_client(KEY, base_url=base_url, max_retries=0, **options) as client:
        return client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content


def sdk_streamed(base_url: str, messages: Any, options: Mapping[str, Any]) -> object:
    with openai_client(KEY, base_url=base_url, max_retries=0, **options) as client:
        chunks = client.chat.completions.create(model=MODEL, messages=messages, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def sdk_listed(base_url: str, messages: Any, options: Mapping[str, Any]) -> object:
    with openai_client(KEY, base_url=base_url, max_retries=0, **options) as client:
        return client.models.list().data


def sdk_awhole(base_url: str, messages: Any, options: Mapping[str, Any]) -> object:
    async def ask() -> object:
        async with async_openai_client(KEY, base_url=base_url, max_retries=0, **options) as client:
            reply = await client.chat.completions.create(model=MODEL, messages=messages)
            return reply.choices[0].message.content

    return asyncio.run(ask())


def sdk_astreamed(base_url: str, messages: Any, options: Mapping[str, Any]) -> object:
    async def ask() -> object:
        async with async_openai_client(KEY, base_url=base_url, max_retries=0, **options) as client:
            chunks = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    return asyncio.run(ask())


Ask = Callable[[str, Any, Mapping[str, Any]], object]
BLOCKING: dict[str, Ask] = {
    each.__name__: each for each in (whole, streamed, embedded, listed, sdk_whole, sdk_streamed, sdk_listed)
}
ALL: dict[str, Ask] = BLOCKING | {each.__name__: each for each in (awhole, astreamed, sdk_awhole, sdk_astreamed)}


def ask(surface: str, base_url: str, *, messages: Any = HELLO, own: ModuleType | None = None, **options: Any) -> Any:
    """Ask through one of them; with ``own``, through a client of that HTTP package which is the user's."""
    if surface in ("listed", "embedded"):
        options |= {"management_url": base_url}
    if own is None:
        return ALL[surface](base_url, messages, options)
    if surface in BLOCKING:
        with own.Client(follow_redirects=True) as http:
            return ALL[surface](base_url, messages, {**options, "http_client": http})
    http = own.AsyncClient(follow_redirects=True, limits=own.Limits(max_keepalive_connections=0))
    return ALL[surface](base_url, messages, {**options, "http_client": http})
