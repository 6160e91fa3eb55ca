"""Every reader of ours on one reply: the clients of the core, the SDK's, both frameworks, and who reads a page.

Each gives what a case says under ``ours``: an answer, vectors, a value, or the kind of an error.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import openai
from langchain_core.messages import AIMessage
from llama_index.core.base.llms.types import ChatMessage, ThinkingBlock, ToolCallBlock

from chutes_cli.commands.aliases import parse_aliases
from chutes_cli.exchange import exchange
from chutes_core import (
    E2EE,
    APIError,
    AsyncChutesClient,
    Catalog,
    ChutesClient,
    Embeddings,
    Reply,
    openai_client,
)
from chutes_core.calls.clock import SystemClock
from chutes_core.login.tokens import Grant, Refusal, request_tokens, revoke, user_of
from chutes_core.secrets.secret import Secret
from langchain_chutes import ChatChutes, ChutesEmbeddings
from llama_index_chutes import Chutes, ChutesEmbedding

from .framings import Wire
from .recordings import Case

__all__ = ["CHAT", "EMBED", "PAGES", "SEALED", "TRACED", "Reader"]

KEY = "cpk_test"
HELLO: Any = [{"role": "user", "content": "Hi"}]
MODEL = "Qwen/Qwen3-32B-TEE"
EMBEDDER = "Qwen/Qwen3-Embedding-8B-TEE"

Found = dict[str, Any]
Reader = Callable[[Case, Wire], Found]


def failed(error: APIError, streamed: str | None = None) -> Found:
    """What an error says; of a stream, with the text that had come."""
    found = {"error": error.kind.value, "scope": error.scope.value, "retry": error.retry.value}
    if streamed is not None:
        assert streamed == error.partial
    return {**found, "partial": error.partial} if error.partial else found


def failed_sdk(error: openai.APIError, text: str = "") -> Found:
    """The same of an error of the SDK, which has the kind as its code."""
    return {"error": error.code, **({"partial": text} if text else {})}


def answered(text: str, reasoning: str, calls: Iterable[Any], finish: Any, usage: Any, model: Any) -> Found:
    """What an answer says, without what is empty."""
    made = [[name, arguments] for name, arguments in calls]
    return {
        "text": text,
        **({"reasoning": reasoning} if reasoning else {}),
        **({"calls": made} if made else {}),
        "finish": finish,
        "usage": usage and list(usage),
        "model": model,
    }


def _options(wire: Wire, **more: Any) -> dict[str, Any]:
    own = {} if wire.sync is None else {"http_client": wire.sync}
    return {"base_url": wire.base_url, "max_retries": 0, "catalog": Catalog.bundled(), **own, **more}


def _client(wire: Wire, **more: Any) -> ChutesClient:
    addresses = {"embedding_base_url": wire.base_url, "management_url": wire.management_url}
    return ChutesClient(KEY, **_options(wire, **addresses, **more))


def _async_client(wire: Wire, **more: Any) -> AsyncChutesClient:
    own = {} if wire.asynchronous is None else {"http_client": wire.asynchronous}
    addresses = {"embedding_base_url": wire.base_url, "management_url": wire.management_url}
    return AsyncChutesClient(KEY, **{**_options(wire, **addresses), "http_client": None, **own, **more})


# --- chat ---------------------------------------------------------------------------------------------


def _of_reply(reply: Reply) -> Found:
    usage = reply.usage
    calls = [(call.name, call.args) for call in reply.tool_calls]
    counts = usage and (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    found = answered(reply.content, reply.reasoning, calls, reply.finish_reason, counts, reply.model)
    if reply.invalid_tool_calls:
        found["invalid"] = [call.name for call in reply.invalid_tool_calls]
    meta = reply.meta
    if meta.quota_total is not None:
        found["quota"] = [meta.quota_total, meta.quota_used, meta.quota_remaining]
    return found


def core(case: Case, wire: Wire, **more: Any) -> Found:
    text = ""
    with _client(wire, **more) as client:
        try:
            if "count" in case.ours:
                return embedded(client.embed(["a"], model=EMBEDDER))
            if case.reader in ("chat", "sealed", "sealed_whole", "discovery", "evidence"):
                return _of_reply(client.chat(HELLO, model=_model(case)))
            with client.stream(HELLO, model=_model(case)) as stream:
                for delta in stream:
                    text += delta.content
                assert text == stream.reply.content
                return _of_reply(stream.reply)
        except APIError as error:
            return failed(error, text)


def core_async(case: Case, wire: Wire, **more: Any) -> Found:
    async def ask() -> Found:
        text = ""
        async with _async_client(wire, **more) as client:
            try:
                if "count" in case.ours:
                    return embedded(await client.embed(["a"], model=EMBEDDER))
                if case.reader in ("chat", "sealed", "sealed_whole", "discovery", "evidence"):
                    return _of_reply(await client.chat(HELLO, model=_model(case)))
                async with client.stream(HELLO, model=_model(case)) as stream:
                    async for delta in stream:
                        text += delta.content
                    assert text == stream.reply.content
                    return _of_reply(stream.reply)
            except APIError as error:
                return failed(error, text)

    return asyncio.run(ask())


def thoughts_in(said: Any) -> str:
    """The reasoning, which the stock client shows under the engine's own name for it."""
    return getattr(said, "reasoning_content", None) or getattr(said, "reasoning", None) or ""


def sdk(case: Case, wire: Wire) -> Found:
    ask: Any = {"model": _model(case), "messages": HELLO}
    text, reasoning, calls, finish, usage, model = "", "", dict[int, list[str]](), None, None, None
    with openai_client(KEY, **_options(wire)) as client:
        try:
            if case.reader == "chat":
                made = client.chat.completions.create(**ask)
                choice, counts = made.choices[0], made.usage
                said: Any = choice.message
                pairs = [(call.function.name, json.loads(call.function.arguments)) for call in said.tool_calls or ()]
                thought = thoughts_in(said)
                total = counts and (counts.prompt_tokens, counts.completion_tokens, counts.total_tokens)
                return answered(said.content or "", thought, pairs, choice.finish_reason, total, made.model)
            for chunk in client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **ask):
                usage, model = chunk.usage or usage, chunk.model or model
                for choice in chunk.choices:
                    finish = choice.finish_reason or finish
                    text += choice.delta.content or ""
                    reasoning += thoughts_in(choice.delta)
                    for part in choice.delta.tool_calls or ():
                        call = calls.setdefault(part.index, ["", ""])
                        call[0] += part.function.name or ""
                        call[1] += part.function.arguments or ""
        except openai.APIError as error:
            return failed_sdk(error, text)
    total = usage and (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    pairs = [(name, json.loads(arguments)) for name, arguments in calls.values()]
    return answered(text, reasoning, pairs, finish, total, model)


def langchain(case: Case, wire: Wire) -> Found:
    model = ChatChutes(model=_model(case), api_key=KEY, **_options(wire))
    text = ""
    try:
        if case.reader == "chat":
            message: Any = model.invoke("Hi")
        else:
            chunks = []
            for chunk in model.stream("Hi"):
                text += chunk.text
                chunks.append(chunk)
            message = chunks[0] + chunks[1:]  # type: ignore[operator]
    except APIError as error:
        return failed(error, text if case.reader == "stream" else None)
    assert isinstance(message, AIMessage)
    assert not message.invalid_tool_calls
    usage, told = message.usage_metadata, message.response_metadata
    return answered(
        message.text,
        message.additional_kwargs.get("reasoning_content", ""),
        [(call["name"], call["args"]) for call in message.tool_calls],
        told["finish_reason"],
        usage and (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]),
        told.get("model_name"),
    )


def llama_index(case: Case, wire: Wire) -> Found:
    model = Chutes(model=_model(case), api_key=KEY, context_window=8192, **_options(wire))
    text, ask = "", [ChatMessage("Hi")]
    try:
        if case.reader == "chat":
            last: Any = model.chat(ask)
        else:
            for last in model.stream_chat(ask):
                text += last.delta or ""
    except APIError as error:
        return failed(error, text if case.reader == "stream" else None)
    blocks, raw = last.message.blocks, last.raw
    usage = raw.get("usage")
    return answered(
        last.message.content or "",
        "".join(block.content for block in blocks if isinstance(block, ThinkingBlock)),
        [(block.tool_name, block.tool_kwargs) for block in blocks if isinstance(block, ToolCallBlock)],
        raw["choices"][0]["finish_reason"],
        usage and (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]),
        raw.get("model"),
    )


def _model(case: Case) -> str:
    return case.asked or MODEL


def _steps(told: Iterable[Any]) -> list[list[Any]]:
    return [[event["step"], event.get("instance")] for event in told]


def traced(case: Case, wire: Wire) -> Found:
    with _client(wire, trace=True) as client:
        try:
            if case.streamed and case.reader == "stream":
                with client.stream(HELLO, model=_model(case)) as stream:
                    text = ""
                    for delta in stream:
                        text += delta.content
                    reply = stream.reply
                assert text == reply.content
            else:
                reply, text = client.chat(HELLO, model=_model(case)), ""
        except APIError as error:
            return failed(error)
        return {**_of_reply(reply), "trace": _steps(event.to_dict() for event in reply.meta.trace)}


def traced_async(case: Case, wire: Wire) -> Found:
    async def ask() -> Found:
        async with _async_client(wire) as client:
            reply = await client.chat(HELLO, model=_model(case), trace=True)
        return {**_of_reply(reply), "trace": _steps(event.to_dict() for event in reply.meta.trace)}

    return asyncio.run(ask())


def traced_langchain(case: Case, wire: Wire) -> Found:
    message = ChatChutes(model=_model(case), api_key=KEY, trace=True, **_options(wire)).invoke("Hi")
    usage, told = message.usage_metadata, message.response_metadata
    assert usage is not None
    counts = (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"])
    found = answered(message.text, "", [], told["finish_reason"], counts, told["model_name"])
    return {**found, "quota": _quota(told), "trace": _steps(told["trace"])}


def traced_llama_index(case: Case, wire: Wire) -> Found:
    raw: Any = Chutes(model=_model(case), api_key=KEY, trace=True, **_options(wire)).chat([ChatMessage("Hi")]).raw
    (choice,), usage = raw["choices"], raw["usage"]
    counts = (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"])
    found = answered(choice["message"]["content"], "", [], choice["finish_reason"], counts, raw["model"])
    return {**found, "quota": _quota(raw["chutes"]), "trace": _steps(raw["chutes"]["trace"])}


def _quota(told: Mapping[str, Any]) -> list[int]:
    return [told["quota_total"], told["quota_used"], told["quota_remaining"]]


TRACED: dict[str, Reader] = {
    each.__name__: each for each in (traced, traced_async, traced_langchain, traced_llama_index)
}
CHAT: dict[str, Reader] = {each.__name__: each for each in (core, core_async, sdk, langchain, llama_index)}

# --- embeddings ---------------------------------------------------------------------------------------


def _vectors(vectors: Any, usage: Any = None) -> Found:
    found: Found = {
        "count": len(vectors),
        "width": len(vectors[0]),
        "begins": [[round(number, 4) for number in vector[:4]] for vector in vectors],
    }
    return found if usage is None else {**found, "usage": usage}


def _texts(case: Case) -> list[str]:
    given = case.send["body"]["input"]
    return [given] if isinstance(given, str) else list(given)


def embedded(made: Embeddings) -> Found:
    usage = made.usage
    assert usage is not None
    return _vectors(made.vectors, [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens])


def embed_core(case: Case, wire: Wire) -> Found:
    with _client(wire) as client:
        try:
            made = client.embed(_texts(case), model=EMBEDDER)
        except APIError as error:
            return failed(error)
    return embedded(made)


def embed_async(case: Case, wire: Wire) -> Found:
    async def ask() -> Found:
        async with _async_client(wire) as client:
            try:
                return _vectors((await client.embed(_texts(case), model=EMBEDDER)).vectors)
            except APIError as error:
                return failed(error)

    return asyncio.run(ask())


def embed_sdk(case: Case, wire: Wire) -> Found:
    with openai_client(KEY, **_options(wire, embedding_base_url=wire.base_url)) as client:
        try:
            rows = client.embeddings.create(input=_texts(case), model=EMBEDDER).data
        except openai.APIError as error:
            return failed_sdk(error)
    return _vectors([row.embedding for row in rows])


def embed_langchain(case: Case, wire: Wire) -> Found:
    options = _options(wire, embedding_base_url=wire.base_url)
    try:
        return _vectors(ChutesEmbeddings(model=EMBEDDER, api_key=KEY, **options).embed_documents(_texts(case)))
    except APIError as error:
        return failed(error)


def embed_llama_index(case: Case, wire: Wire) -> Found:
    try:
        made = ChutesEmbedding(model_name=EMBEDDER, api_key=KEY, **_options(wire))
        return _vectors(made.get_text_embedding_batch(_texts(case)))
    except APIError as error:
        return failed(error)


EMBED: dict[str, Reader] = {
    each.__name__: each for each in (embed_core, embed_async, embed_sdk, embed_langchain, embed_llama_index)
}

# --- the account, the catalogue, the login ------------------------------------------------------------


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


PAGE: Mapping[str, Callable[[Any], Any]] = {
    "me": lambda client: client.account.me(),
    "quotas": lambda client: client.account.quotas(),
    "quota_usage": lambda client: client.account.quota_usage(),
    "subscription": lambda client: client.account.subscription(),
    "discounts": lambda client: client.account.discounts(),
    "usage": lambda client: client.account.usage(),
    "models": lambda client: client.models(),
    "stats": lambda client: client.stats("2026-01-01"),
    "utilization": lambda client: client.utilization(),
}
LISTED = ("id", "chute_id", "context_length", "price_in", "price_out", "confidential")


def _shown(reader: str, value: Any) -> Found:
    if reader == "models":
        value = [[getattr(info, name) for name in LISTED] for info in value if info.kind == "chat"]
    return {"value": _plain(value)}


def page(case: Case, wire: Wire) -> Found:
    """A page that the client has a method for."""
    with _client(wire) as client:
        try:
            return _shown(str(case.reader), PAGE[str(case.reader)](client))
        except APIError as error:
            return failed(error)


def page_async(case: Case, wire: Wire) -> Found:
    async def ask() -> Found:
        async with _async_client(wire) as client:
            try:
                return _shown(str(case.reader), await PAGE[str(case.reader)](client))
            except APIError as error:
                return failed(error)

    return asyncio.run(ask())


def chutes(case: Case, wire: Wire) -> Found:
    """The list of chutes, as the catalogue takes it."""
    rows = case.json["items"]
    with _client(wire) as client:
        client.refresh_catalog()
        info = client.catalog.get(rows[0]["name"])
    assert info is not None
    return {"value": [info.id, info.chute_id, info.hot]}


def warm_up(case: Case, wire: Wire) -> Found:
    statuses = []
    with _client(wire) as client:
        try:
            for status in client.warm_up(MODEL):
                statuses.append([status.status, status.log])
                if not case.whole:
                    break
        except APIError as error:
            return failed(error)
    return {"value": statuses}


def tokens(case: Case, wire: Wire) -> Found:
    got = request_tokens(wire.management_url, {"grant_type": "refresh_token"})
    if isinstance(got, Refusal):
        return {"refusal": str(got)}
    assert isinstance(got, Grant)
    assert got.refresh is not None
    return {"grant": [got.access.get_secret_value(), got.refresh.get_secret_value(), got.expires_in, got.scope]}


def revoked(case: Case, wire: Wire) -> Found:
    return {"value": revoke(wire.management_url, Secret("crt_fake"))}


def user(case: Case, wire: Wire) -> Found:
    return {"value": user_of(wire.management_url, Secret("cak_fake"))}


def aliases(case: Case, wire: Wire) -> Found:
    """The command's own exchange."""
    try:
        reply = exchange(case.send["method"], f"{wire.management_url}/model_aliases/", secret=Secret(KEY))
        return {"value": _plain(parse_aliases(reply.value() or []))}
    except APIError as error:
        return failed(error)


PAGES: dict[str, tuple[Reader, ...]] = {
    **dict.fromkeys(PAGE, (page, page_async)),
    "chutes": (chutes,),
    "warm_up": (warm_up,),
    "tokens": (tokens,),
    "revoke": (revoked,),
    "user": (user,),
    "aliases": (aliases,),
}
OWN_POOL = (tokens, revoked, user, aliases)
"""These take no HTTP client, so that they read what is on a socket only."""

# --- the sealed path ----------------------------------------------------------------------------------


class OwnClock(SystemClock):
    """The system's time, and machines that no other test knows."""


def sealed(case: Case, wire: Wire) -> Found:
    verify: Any = "binding" if case.reader == "evidence" else "off"
    return core(case, wire, e2ee=E2EE(verify=verify), clock=OwnClock())


def sealed_async(case: Case, wire: Wire) -> Found:
    verify: Any = "binding" if case.reader == "evidence" else "off"
    return core_async(case, wire, e2ee=E2EE(verify=verify), clock=OwnClock())


SEALED: dict[str, Reader] = {"sealed": sealed, "sealed_async": sealed_async}
