"""The ways in which an object, or a call that failed, shows what it holds."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd, dumps
from langchain_core.tracers.base import BaseTracer
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base_handler import BaseCallbackHandler as LlamaHandler
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from pydantic import PrivateAttr

HERE = str(Path(__file__).resolve().parent)


def _pickled(thing: Any) -> bytes:
    return b"".join(pickle.dumps(thing, protocol) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1))


def _called(name: str) -> Callable[[Any], Any]:
    return lambda thing: getattr(thing, name)()


def _printed(thing: Any) -> str:
    out = io.StringIO()
    pprint.pprint(vars(thing), out)
    return out.getvalue()


def _logged(thing: Any) -> str:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    logger = logging.getLogger("tests.secrets")
    logger.addHandler(handler)
    logger.warning("%s %r %s", thing, thing, vars(thing))
    logger.removeHandler(handler)
    return out.getvalue()


SHOWS: Mapping[str, Callable[[Any], Any]] = {
    "repr": repr,
    "str": str,
    "format": "{0} {0!r}".format,
    "pprint": _printed,
    "log": _logged,
    "vars": lambda thing: repr(vars(thing)),
    "private": lambda thing: repr(thing.__pydantic_private__),
    "fields": lambda thing: [repr(pair) for pair in thing],
    "pickle": _pickled,
    "copy": lambda thing: repr(vars(copy.copy(thing))),
    "deepcopy": lambda thing: repr(vars(copy.deepcopy(thing))),
    "pickle of a deepcopy": lambda thing: _pickled(copy.deepcopy(thing)),
    "pickle of a pickle": lambda thing: _pickled(pickle.loads(pickle.dumps(thing))),
    "model_copy": lambda thing: repr(vars(thing.model_copy(update={}))),
    "model_dump": _called("model_dump"),
    "model_dump_json": _called("model_dump_json"),
    "dict": _called("dict"),
    "json": _called("json"),
    "to_dict": _called("to_dict"),
    "to_json": _called("to_json"),
    "to_payload": _called("to_payload"),
    "dumps": dumps,
    "dumpd": dumpd,
    "lc_attributes": lambda thing: thing.lc_attributes,
    "identifying": lambda thing: (thing._identifying_params, thing._get_ls_params(), thing.asdict()),
    "cache key": lambda thing: thing._get_llm_string(stop=["x"]),
    "ingestion hash": lambda thing: get_transformation_hash([], thing),
    "default_headers": lambda thing: repr(thing.default_headers),
    "client": lambda thing: (repr(vars(thing.client)), repr(vars(thing.async_client))),
    "own client": lambda thing: (repr(vars(thing._client())), repr(vars(thing._async_client()))),
}


# ------------------------------------------------------------------------------------------------------- calls


class Watching(BaseCallbackHandler):
    """Writes down all that LangChain tells a handler."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_chat_model_start(self, *args: Any, **options: Any) -> None:
        self.seen.append(repr((args, options)) + dumps(args[0]))

    def on_llm_error(self, *args: Any, **options: Any) -> None:
        self.seen.append(repr((args, options)))

    def on_custom_event(self, *args: Any, **options: Any) -> None:
        self.seen.append(repr((args, options)))


class Tracing(BaseTracer):
    """Writes down the runs, as an exporter does."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def _persist_run(self, run: Any) -> None:
        self.seen.append(repr(run) + str(run.model_dump() if hasattr(run, "model_dump") else run.dict()))


class Events(BaseEventHandler):
    """Writes down the events of LlamaIndex, as an exporter does."""

    _seen: list[str] = PrivateAttr(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "Events"

    def handle(self, event: Any, **options: Any) -> None:
        self._seen.append(repr(event) + str(event.model_dump()) + event.model_dump_json(fallback=repr))


class Payloads(LlamaHandler):
    """Writes down the payloads of LlamaIndex's callbacks."""

    def __init__(self) -> None:
        super().__init__([], [])
        self.seen: list[str] = []

    def on_event_start(self, event_type: Any, payload: Any = None, *args: Any, **options: Any) -> str:
        self.seen.append(repr(payload) + json.dumps(payload, default=repr))
        return ""

    def on_event_end(self, event_type: Any, payload: Any = None, *args: Any, **options: Any) -> None:
        self.seen.append(repr(payload) + json.dumps(payload, default=repr))

    def start_trace(self, trace_id: str | None = None) -> None: ...
    def end_trace(self, trace_id: str | None = None, trace_map: Any = None) -> None: ...


ASK = [{"role": "user", "content": "Hi"}]


def _all(stream: Any) -> list[Any]:
    return list(stream)


async def _aall(stream: Any) -> list[Any]:
    return [each async for each in stream]


def _langchain(method: str) -> Callable[[Any, list[str]], Any]:
    def call(model: Any, seen: list[str]) -> Any:
        watching, tracing = Watching(), Tracing()
        config = {"callbacks": [watching, tracing]}
        try:
            given = getattr(model, method)("Hi", config=config)
            if "stream" in method:
                return asyncio.run(_aall(given)) if method.startswith("a") else _all(given)
            return asyncio.run(_wait(given)) if method.startswith("a") else given
        finally:
            seen += watching.seen + tracing.seen

    return call


async def _wait(given: Any) -> Any:
    return await given


def _llama(method: str, *args: Any) -> Callable[[Any, list[str]], Any]:
    def call(model: Any, seen: list[str]) -> Any:
        payloads, events, spans = Payloads(), Events(), SimpleSpanHandler()
        dispatcher = get_dispatcher()
        dispatcher.add_event_handler(events)
        dispatcher.add_span_handler(spans)
        model.callback_manager = CallbackManager([payloads])

        async def waiting() -> Any:
            given = await getattr(model, method)(*args)
            return await _aall(given) if "stream" in method else given

        try:
            if method.startswith("a"):
                return asyncio.run(waiting())
            given = getattr(model, method)(*args)
            return _all(given) if "stream" in method else given
        finally:
            dispatcher.event_handlers.remove(events)
            dispatcher.span_handlers.remove(spans)
            seen += payloads.seen + events._seen + [repr(span) for span in spans.completed_spans + spans.dropped_spans]

    return call


async def _astream(client: Any) -> None:
    async with client.stream(ASK, model="acme/one") as steps:
        await _aall(steps)


async def _awarm(client: Any) -> None:
    await _aall(client.warm_up("acme/one"))


def _openai(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(model="acme/one", messages=ASK, **options)


async def _aopenai(client: Any) -> None:
    await _aall(await _openai(client, stream=True))


def _plain(call: Callable[[Any], Any]) -> Callable[[Any, list[str]], Any]:
    return lambda client, seen: call(client)


CHATS = [ChatMessage("Hi")]
CALLS: Mapping[str, Mapping[str, Callable[[Any, list[str]], Any]]] = {
    "ChutesClient": {
        "chat": _plain(lambda client: client.chat(ASK, model="acme/one")),
        "stream": _plain(lambda client: _all(client.stream(ASK, model="acme/one"))),
        "embed": _plain(lambda client: client.embed(["a"], model="acme/e")),
        "models": _plain(lambda client: client.models()),
        "account": _plain(lambda client: client.account.me()),
        "warm_up": _plain(lambda client: _all(client.warm_up("acme/one"))),
    },
    "AsyncChutesClient": {
        "chat": _plain(lambda client: asyncio.run(client.chat(ASK, model="acme/one"))),
        "stream": _plain(lambda client: asyncio.run(_astream(client))),
        "embed": _plain(lambda client: asyncio.run(client.embed(["a"], model="acme/e"))),
        "models": _plain(lambda client: asyncio.run(client.models())),
        "warm_up": _plain(lambda client: asyncio.run(_awarm(client))),
    },
    "openai_client": {
        "chat": _plain(_openai),
        "stream": _plain(lambda client: _all(_openai(client, stream=True))),
        "embed": _plain(lambda client: client.embeddings.create(model="acme/e", input="a")),
        "models": _plain(lambda client: client.models.list()),
    },
    "async_openai_client": {
        "chat": _plain(lambda client: asyncio.run(_wait(_openai(client)))),
        "stream": _plain(lambda client: asyncio.run(_aopenai(client))),
    },
    "langchain ChatChutes": {name: _langchain(name) for name in ("invoke", "stream", "ainvoke", "astream")},
    "langchain ChutesFallback": {name: _langchain(name) for name in ("invoke", "stream", "ainvoke", "astream")},
    "langchain ChutesEmbeddings": {
        "embed_query": _plain(lambda model: model.embed_query("a")),
        "aembed_documents": _plain(lambda model: asyncio.run(model.aembed_documents(["a"]))),
    },
    "llama_index Chutes": {name: _llama(name, CHATS) for name in ("chat", "stream_chat", "achat", "astream_chat")},
    "llama_index ChutesFallback": {
        name: _llama(name, CHATS) for name in ("chat", "stream_chat", "achat", "astream_chat")
    },
    "llama_index ChutesEmbedding": {
        "get_text_embedding": _llama("get_text_embedding", "a"),
        "aget_query_embedding": _llama("aget_query_embedding", "a"),
    },
}


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that it refers to."""
    found, seen = [error], set()
    while found:
        each = found.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        found += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
        yield each


def told(error: BaseException, files: tuple[str, ...] = ("",)) -> Iterator[object]:
    """Yield everything that an exception shows, except the frames of these tests, which know the secrets.

    Args:
        error: The exception.
        files: If given, only the frames of files whose path ends so.
    """
    for each in chain(error):
        frames = traceback.TracebackException.from_exception(each, capture_locals=True).stack
        yield from (
            repr(frame.locals)
            for frame in frames
            if not frame.filename.startswith(HERE) and frame.filename.endswith(files)
        )
        yield from (str(each), repr(each), repr(each.args), vars(each), getattr(each, "__notes__", ""))
        yield from (
            getattr(each, name, None) for name in ("body", "request_id", "partial", "partial_reply", "doc", "response")
        )
        if (response := getattr(each, "response", None)) is not None:
            yield from (response.text, response.headers.multi_items(), response.request.headers.multi_items())
        if (request := getattr(each, "request", None)) is not None:
            yield request.headers.multi_items()
        with contextlib.suppress(TypeError, AttributeError):
            yield pickle.dumps(each)
