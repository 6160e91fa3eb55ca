"""The tracers that people use, each with a place of its own for what it writes down, and one form to read it in."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

Tokens = tuple[int, int]


@dataclass
class Seen:
    """A span, run or observation, whoever wrote it down.

    Attributes:
        name: Its name.
        llm: Whether the tracer counts it as a call of a model.
        model: The model it names.
        tokens: Those of the prompt and of the answer; None if it says nothing of them.
        params: The parameters of the call.
        finish: How the answer ended.
        error: What it says of a failure.
        above: Whether it is below another one.
        text: All that it says.
    """

    name: str
    llm: bool = False
    model: str | None = None
    tokens: Tokens | None = None
    params: dict[str, Any] = field(default_factory=dict)
    finish: str | None = None
    error: str = ""
    above: bool = False
    text: str = ""


@dataclass
class Sink:
    """A tracer at work: the callbacks of a call, what was seen, and what was said to the log."""

    callbacks: list[Any]
    read: Callable[[], list[Seen]]
    complaints: list[str] = field(default_factory=list)


class _Complaints(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("chutes_core"):  # which tells of attempts itself
            self._said.append(f"{record.name}: {record.getMessage()}")


@contextmanager
def _listening(callbacks: list[Any], read: Callable[[], list[Seen]]) -> Iterator[Sink]:
    made = Sink(callbacks, read)
    handler = _Complaints(made.complaints)
    logging.getLogger().addHandler(handler)
    try:
        yield made
    finally:
        logging.getLogger().removeHandler(handler)


_KEPT: dict[type, InMemorySpanExporter] = {}
"""By instrumentation, what has its spans, of those that cannot be undone: whoever uses one has it for the process."""


@contextmanager
def _otel(see: Callable[[ReadableSpan], Seen], instrumentor: Any, *, keep: bool = False) -> Iterator[Sink]:
    """An instrumentation of OpenTelemetry, with its spans in memory."""
    exporter = _KEPT.get(type(instrumentor))
    if exporter is None:
        exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        instrumentor.instrument(tracer_provider=provider)
        if keep:
            _KEPT[type(instrumentor)] = exporter
    exporter.clear()
    spans = exporter.get_finished_spans
    try:
        with _listening([], lambda: [see(span) for span in spans()]) as made:
            yield made
    finally:
        if not keep:
            instrumentor.uninstrument()


def _span(span: ReadableSpan, **facts: Any) -> Seen:
    errors = [
        str((event.attributes or {}).get("exception.message")) for event in span.events if event.name == "exception"
    ]
    text = json.dumps({**(span.attributes or {})}, default=str)
    given = {"error": "".join(errors), "above": span.parent is not None, "text": text, **facts}
    return Seen(span.name, **given)


def _pair(first: Any, second: Any) -> Tokens | None:
    return None if first is None and second is None else (int(first or 0), int(second or 0))


# ------------------------------------------------------------------------------------------------ of both frameworks


def _openinference(span: ReadableSpan) -> Seen:
    told = dict(span.attributes or {})
    return _span(
        span,
        llm=told["openinference.span.kind"] == "LLM",
        model=told.get("llm.model_name"),
        tokens=_pair(told.get("llm.token_count.prompt"), told.get("llm.token_count.completion")),
        params=json.loads(str(told.get("llm.invocation_parameters", "{}"))),
        finish=told.get("llm.finish_reason"),
    )


def _openllmetry(span: ReadableSpan) -> Seen:
    told = dict(span.attributes or {})
    ended: Any = told.get("gen_ai.response.finish_reasons") or [None]
    names = {"temperature": "gen_ai.request.temperature", "max_tokens": "gen_ai.request.max_tokens"}
    return _span(
        span,
        llm=told.get("gen_ai.operation.name") == "chat",
        model=told.get("gen_ai.response.model"),
        tokens=_pair(told.get("gen_ai.usage.input_tokens"), told.get("gen_ai.usage.output_tokens")),
        params={ours: told[theirs] for ours, theirs in names.items() if told.get(theirs) is not None},
        finish=ended[0],
    )


# ------------------------------------------------------------------------------------------------------ of LangChain


@contextmanager
def langsmith() -> Iterator[Sink]:
    """LangSmith's tracer, which sends to an endpoint on this machine."""
    from langchain_core.tracers.langchain import LangChainTracer
    from langsmith import Client

    runs: dict[str, dict[str, Any]] = {}

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
            runs.setdefault(sent["id"], {}).update({name: value for name, value in sent.items() if value is not None})
            self.send_response(202)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_PATCH = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    def see(run: dict[str, Any]) -> Seen:
        extra = run.get("extra") or {}
        metadata = extra.get("metadata") or {}
        used = metadata.get("usage_metadata") or {}
        generations = (run.get("outputs") or {}).get("generations") or ()
        endings = [each[0].get("generation_info") or {} for each in generations if each]
        return Seen(
            run["name"],
            llm=run["run_type"] == "llm",
            model=metadata.get("ls_model_name"),
            tokens=_pair(used.get("input_tokens"), used.get("output_tokens")),
            params=extra.get("invocation_params") or {},
            finish=endings[0].get("finish_reason") if endings else None,
            error=run.get("error") or "",
            above=bool(run.get("parent_run_id")),
            text=json.dumps(run),
        )

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    client = Client(f"http://127.0.0.1:{server.server_port}", api_key="lsv2_fake", auto_batch_tracing=False)
    try:
        with _listening([LangChainTracer(client=client)], lambda: [see(run) for run in runs.values()]) as made:
            yield made
    finally:
        client.close()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def openinference_langchain() -> Iterator[Sink]:
    """Phoenix' instrumentation of LangChain."""
    from openinference.instrumentation.langchain import LangChainInstrumentor

    with _otel(_openinference, LangChainInstrumentor()) as made:
        yield made


@contextmanager
def openllmetry_langchain() -> Iterator[Sink]:
    """Traceloop's instrumentation of LangChain."""
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    with _otel(_openllmetry, LangchainInstrumentor(), keep=True) as made:
        yield made


@contextmanager
def langfuse() -> Iterator[Sink]:
    """Langfuse's handler, with an exporter in memory."""
    from langfuse import Langfuse
    from langfuse._client.resource_manager import LangfuseResourceManager
    from langfuse.langchain import CallbackHandler

    def see(span: ReadableSpan) -> Seen:
        told = {name.removeprefix("langfuse.observation."): value for name, value in (span.attributes or {}).items()}
        used = json.loads(str(told.get("usage_details", "{}")))
        return _span(
            span,
            llm=told.get("type") == "generation",
            model=told.get("model.name"),
            tokens=_pair(used.get("input"), used.get("output")),
            params=json.loads(str(told.get("model.parameters", "{}"))),
            error=str(told.get("status_message", "")) if told.get("level") == "ERROR" else "",
        )

    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    client = Langfuse(
        public_key="pk-fake", secret_key="sk-fake", base_url="http://127.0.0.1:9", span_exporter=exporter,
        tracer_provider=provider,
    )  # fmt: skip

    def read() -> list[Seen]:
        provider.force_flush()
        return [see(span) for span in exporter.get_finished_spans()]

    try:
        with _listening([CallbackHandler(public_key="pk-fake")], read) as made:
            yield made
    finally:
        client.shutdown()
        LangfuseResourceManager._instances.clear()


@contextmanager
def usage_callback() -> Iterator[Sink]:
    """LangChain's own counter, by model."""
    from langchain_core.callbacks import UsageMetadataCallbackHandler

    counter = UsageMetadataCallbackHandler()

    def read() -> list[Seen]:
        return [
            Seen(model, llm=True, model=model, tokens=(used["input_tokens"], used["output_tokens"]))
            for model, used in counter.usage_metadata.items()
        ]

    with _listening([counter], read) as made:
        yield made


@contextmanager
def openai_callback() -> Iterator[Sink]:
    """The counter of langchain-community, which knows no models but OpenAI's."""
    from langchain_community.callbacks.openai_info import OpenAICallbackHandler

    counter = OpenAICallbackHandler()

    def read() -> list[Seen]:
        if not counter.total_tokens:
            return []
        return [Seen("total", llm=True, tokens=(counter.prompt_tokens, counter.completion_tokens))]

    with _listening([counter], read) as made:
        yield made


# ----------------------------------------------------------------------------------------------------- of LlamaIndex


def _off(*modules: str) -> None:
    """Take handlers off the root dispatcher that an instrumentation leaves there."""
    from llama_index.core.instrumentation import get_dispatcher

    root = get_dispatcher()
    for name in ("event_handlers", "span_handlers"):
        setattr(root, name, [each for each in getattr(root, name) if not type(each).__module__.startswith(modules)])


@contextmanager
def openinference_llama_index() -> Iterator[Sink]:
    """Phoenix' instrumentation of LlamaIndex."""
    from openinference.instrumentation.llama_index import LlamaIndexInstrumentor

    try:
        with _otel(_openinference, LlamaIndexInstrumentor()) as made:
            yield made
    finally:
        _off("openinference")


@contextmanager
def openllmetry_llama_index() -> Iterator[Sink]:
    """Traceloop's instrumentation of LlamaIndex."""
    from opentelemetry.instrumentation.llamaindex import LlamaIndexInstrumentor

    with _otel(_openllmetry, LlamaIndexInstrumentor(), keep=True) as made:
        yield made


@contextmanager
def token_counter() -> Iterator[Sink]:
    """LlamaIndex' own counter."""
    from llama_index.core.callbacks import TokenCountingHandler

    counter = TokenCountingHandler(tokenizer=str.split)

    def read() -> list[Seen]:
        return [
            Seen("call", llm=True, tokens=(each.prompt_token_count, each.completion_token_count))
            for each in counter.llm_token_counts
            if each.total_token_count  # it has an entry for a failed call too
        ]

    with _listening([counter], read) as made:
        yield made


LANGCHAIN = {
    "LangSmith": langsmith,
    "Langfuse": langfuse,
    "OpenInference": openinference_langchain,
    "`get_usage_metadata_callback`": usage_callback,
    "`get_openai_callback`": openai_callback,
    "OpenLLMetry": openllmetry_langchain,  # cannot be undone
}
LLAMA_INDEX = {
    "OpenInference": openinference_llama_index,
    "`TokenCountingHandler`": token_counter,
    "OpenLLMetry": openllmetry_llama_index,
}
