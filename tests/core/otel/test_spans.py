"""The span and the metrics of each call, as OpenTelemetry's own kit receives them."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import httpx
import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from chutes_core import (
    ChutesClient,
    FallbackClient,
    FallbackError,
    FallbackPolicy,
    Ledger,
    UnavailableError,
    hooks,
    openai_client,
)
from chutes_core.spending.budget import Budget
from chutes_core.testing import Answer, Fault, FaultyTransport
from chutes_local import serve
from tests.core.clients import HELLO, KEY, MODES, call, scripted
from tests.core.e2ee.test_client import OwnClock
from tests.core.listening import listening

from .conftest import Sink

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
QWEN = "Qwen/Qwen3-32B-TEE"


@pytest.mark.parametrize("mode", MODES)
def test_a_call_is_one_span(mode: str, seen: Sink) -> None:
    params = {"temperature": 0.5, "max_tokens": 9, "stop": ["x"], "seed": 7, "n": 1}
    outcome = call(mode, [Answer("Hello!")], params=params, model=QWEN)
    span, streamed = seen.span, mode.endswith("stream")
    usage = outcome.reply.usage  # type: ignore[union-attr]
    assert (span.name, span.kind, span.status.status_code) == (f"chat {QWEN}", SpanKind.CLIENT, StatusCode.UNSET)
    told: dict[str, Any] = dict(span.attributes or {})
    assert (told.pop("gen_ai.response.time_to_first_chunk", None) is not None) == streamed
    assert told.pop("gen_ai.request.stream", False) is streamed
    assert told.pop("chutes.cost") > 0
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "chutes",
        "gen_ai.request.model": QWEN,
        "gen_ai.response.model": QWEN,
        "gen_ai.response.id": "chatcmpl-0",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ("x",),
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "server.address": "llm.chutes.ai",
        "server.port": 443,
        "chutes.attempts": 1,
    }
    assert not span.events


@pytest.mark.parametrize("mode", MODES)
def test_a_retry_is_an_event(mode: str, seen: Sink) -> None:
    call(mode, ["capacity", Answer("Hello!")])
    assert seen.events() == ["chutes.attempt.failed", "chutes.retry"]
    failed, retry = (dict(event.attributes or {}) for event in seen.span.events)
    assert failed["error.type"] == "capacity"
    assert failed["http.response.status_code"] == 429
    assert retry["chutes.wait"] > 0  # type: ignore[operator]
    assert seen.span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_has_its_kind_and_no_words(mode: str, seen: Sink) -> None:
    call(mode, ["cold"])
    assert seen.span.status.status_code is StatusCode.ERROR
    assert (seen.span.attributes or {})["error.type"] == seen.span.status.description == "cold"
    (duration,) = seen.points("gen_ai.client.operation.duration")
    assert duration.attributes["error.type"] == "cold"


def test_a_stream_that_is_left_is_cancelled(seen: Sink) -> None:
    outcome = scripted([Answer("one two three", pieces=3)])
    with outcome.client.stream(HELLO, model="acme/one") as stream:
        next(stream)
        assert not seen.spans
    assert (seen.span.attributes or {})["error.type"] == "cancelled"


def test_a_call_that_was_not_sent_names_the_reason(seen: Sink) -> None:
    call("sync-whole", [], ledger=Budget(tokens=1))
    assert (seen.span.attributes or {})["error.type"] == "BudgetExceededError"


@pytest.mark.parametrize("mode", MODES)
def test_metrics(mode: str, seen: Sink) -> None:
    outcome = call(mode, ["capacity", Answer("Hello!")])
    usage = outcome.reply.usage  # type: ignore[union-attr]
    (duration,) = seen.points("gen_ai.client.operation.duration")
    assert (duration.count, duration.attributes["gen_ai.response.model"]) == (1, "acme/one")
    tokens = {point.attributes["gen_ai.token.type"]: point.sum for point in seen.points("gen_ai.client.token.usage")}
    assert tokens == {"input": usage.prompt_tokens, "output": usage.completion_tokens}
    assert len(seen.points("gen_ai.client.operation.time_to_first_chunk")) == mode.endswith("stream")
    attempts = {
        (point.attributes["chutes.attempt.outcome"], point.attributes.get("error.type")): point.value
        for point in seen.points("chutes.client.attempts")
    }
    assert attempts == {("failed", "capacity"): 1, ("answered", None): 1}


def test_what_a_whole_call_sends_is_inside_its_span(seen: Sink) -> None:
    within: list[object] = []

    def serve(request: httpx.Request) -> httpx.Response:
        within.append(trace.get_current_span().get_span_context().span_id)
        return httpx.Response(503, json={"detail": "cold"})

    tracer = seen.tracers.get_tracer("mine")
    with httpx.Client(transport=httpx.MockTransport(serve)) as http, tracer.start_as_current_span("mine"):
        client = ChutesClient(KEY, http_client=http, max_retries=0)
        with pytest.raises(UnavailableError):
            client.chat(HELLO, model="acme/one")
        mine = trace.get_current_span().get_span_context()
    ours = next(span for span in seen.spans if span.name == "chat acme/one")
    assert within == [ours.context.span_id]  # type: ignore[union-attr]
    assert ours.parent is not None
    assert ours.parent.span_id == mine.span_id


def test_batches_of_texts_are_below_the_span_in_which_they_are_embedded(seen: Sink) -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        data = [{"index": at, "embedding": [0.5]} for at in range(len(json.loads(request.content)["input"]))]
        return httpx.Response(200, json={"model": "acme/one", "data": data})

    tracer = seen.tracers.get_tracer("mine")
    with httpx.Client(transport=httpx.MockTransport(serve)) as http, tracer.start_as_current_span("mine"):
        ChutesClient(KEY, http_client=http).embed(["a", "b", "c"], model="acme/one", batch_size=1)
    *batches, mine = seen.spans
    assert [span.parent and span.parent.span_id for span in batches] == [mine.get_span_context().span_id] * 3


# --- content ------------------------------------------------------------------------------------------


def test_content_is_not_recorded_unless_asked_for(seen: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CAPTURE, raising=False)
    call("sync-whole", [Answer("A secret answer")])
    assert "secret" not in seen.span.to_json()
    assert "Say hello." not in seen.span.to_json()


@pytest.mark.parametrize("value", ["true", "SPAN_ONLY", "span_and_event"])
def test_content_on_request(value: str, seen: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPTURE, value)
    call("sync-stream", [Answer("Hello!", reasoning="Hm.")])
    told: dict[str, Any] = dict(seen.span.attributes or {})
    assert json.loads(told["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "Say hello."}]}
    ]
    (answer,) = json.loads(told["gen_ai.output.messages"])
    assert answer["finish_reason"] == "stop"
    assert answer["parts"] == [{"type": "reasoning", "content": "Hm."}, {"type": "text", "content": "Hello!"}]


# --- once ---------------------------------------------------------------------------------------------


class _Other:
    """An instrumentation of a framework: one object, whose options are set whenever it is asked for."""

    is_instrumented_by_opentelemetry = True
    _instance: Any = None

    def __new__(cls, **options: object) -> _Other:
        cls._instance = cls._instance or object.__new__(cls)
        return cls._instance  # type: ignore[no-any-return]

    def __init__(self, *, content: bool = True) -> None:
        self.content = content


@pytest.mark.parametrize(
    ("face", "module", "name"),
    [
        ("langchain", "openinference.instrumentation.langchain", "LangChainInstrumentor"),
        ("langchain", "opentelemetry.instrumentation.langchain", "LangchainInstrumentor"),
        ("llama_index", "openinference.instrumentation.llama_index", "LlamaIndexInstrumentor"),
        ("llama_index", "opentelemetry.instrumentation.llamaindex", "LlamaIndexInstrumentor"),
    ],
)
@pytest.mark.parametrize("frameworks", [None, True, False])
@pytest.mark.parametrize("active", [True, False])
def test_a_call_through_a_framework_has_one_span(
    face: str,
    module: str,
    name: str,
    frameworks: bool | None,
    active: bool,
    sink: Sink,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While another instrumentation makes it, this one does not, unless it is told to."""
    other = ModuleType(module)
    kind = type(name, (_Other,), {"is_instrumented_by_opentelemetry": active})
    instance = kind(content=False)
    setattr(other, name, kind)
    monkeypatch.setitem(sys.modules, module, other)
    sink.instrument(frameworks=frameworks)
    outcome = scripted([Answer("Hello!"), Answer("Hello!")])
    outcome.client.face = face
    outcome.client.chat(HELLO, model="acme/one")
    assert len(sink.spans) == (not active if frameworks is None else frameworks)
    outcome.client.face = None
    outcome.client.chat(HELLO, model="acme/one")
    assert sink.spans[-1].name == "chat acme/one"  # the client by itself always has its own
    assert not instance.content  # and the other one's options are as they were


def test_embeddings_through_langchain_have_a_span_whoever_else_is_active(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LangChain has no callbacks for them, so its instrumentations make none."""
    from langchain_chutes import ChutesEmbeddings

    module = ModuleType("openinference.instrumentation.langchain")
    module.LangChainInstrumentor = type("LangChainInstrumentor", (_Other,), {})  # type: ignore[attr-defined]
    module.LangChainInstrumentor()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    sink.instrument()
    body = {"model": "acme/two", "data": [{"index": 0, "embedding": [0.5, 0.5]}], "usage": {"prompt_tokens": 2}}
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, json=body))) as http:
        ChutesEmbeddings(model="acme/two", api_key=KEY, http_client=http).embed_query("Hi")
    assert sink.span.name == "embeddings acme/two"


@pytest.mark.parametrize(
    "key",
    [
        "suppress_instrumentation",
        "suppress_language_model_instrumentation",
        context._SUPPRESS_INSTRUMENTATION_KEY,  # the only one that OpenInference's suppress_tracing sets
    ],
    ids=["plain", "models", "own"],  # the last is drawn anew in each process
)
def test_a_context_that_is_suppressed_has_none(key: str, seen: Sink) -> None:
    token = context.attach(context.set_value(key, True))
    try:
        call("sync-whole", [Answer("Hello!")])
    finally:
        context.detach(token)
    assert not seen.spans


def test_the_openai_client_has_spans_too(seen: Sink) -> None:
    pytest.importorskip("openai")
    transport, ledger = FaultyTransport([Answer("Hello!"), Answer("Hello!"), "cold"]), Ledger()
    client = openai_client(KEY, http_client=httpx.Client(transport=transport), max_retries=0, ledger=ledger)
    said: Any = HELLO
    client.chat.completions.create(model="acme/one", messages=said)
    list(client.chat.completions.create(model="acme/one", messages=said, stream=True))
    with pytest.raises(Exception, match="machine"):
        client.chat.completions.create(model="acme/one", messages=said)
    whole, streamed, failed = seen.spans
    for span in (whole, streamed):
        assert span.name == "chat acme/one"
        assert (span.attributes or {})["gen_ai.response.finish_reasons"] == ("stop",)
    used = [(span.attributes or {})["gen_ai.usage.output_tokens"] for span in (whole, streamed)]
    assert sum(used) == ledger.totals().usage.completion_tokens  # type: ignore[arg-type]
    assert "gen_ai.response.time_to_first_chunk" in (streamed.attributes or {})
    assert (failed.attributes or {})["error.type"] == "cold"


def test_requests_that_ask_no_model_have_none(seen: Sink) -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=[])

    with httpx.Client(transport=httpx.MockTransport(serve)) as http:
        ChutesClient(KEY, http_client=http).stats("2026-08-01")
    assert not seen.spans


# --- over the wire ------------------------------------------------------------------------------------


def test_spans_reach_a_collector(sink: Sink) -> None:
    """A real receiver of OTLP over HTTP, which reads the protocol with its own package."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    received: list[Any] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *values: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        exporter = OTLPSpanExporter(f"http://127.0.0.1:{server.server_port}/v1/traces")
        sink.tracers.add_span_processor(SimpleSpanProcessor(exporter))
        sink.instrument()
        call("sync-whole", ["capacity", Answer("Hello!")])
        sink.tracers.shutdown()
        server.shutdown()
    (span,) = received[0].resource_spans[0].scope_spans[0].spans
    assert span.name == "chat acme/one"
    assert [event.name for event in span.events] == ["chutes.attempt.failed", "chutes.retry"]
    told = {each.key: each.value for each in span.attributes}
    assert told["gen_ai.usage.output_tokens"].int_value == 3


def test_nobody_is_left_listening(sink: Sink) -> None:
    from chutes_core.otel import ChutesInstrumentor

    sink.instrument()
    assert len(hooks.on_start) == 1
    ChutesInstrumentor().uninstrument()
    assert not hooks.listening()
    call("sync-whole", [Answer("Hello!")])
    assert not sink.spans


def test_a_call_in_progress_gives_its_context_back_when_spans_are_turned_off(sink: Sink) -> None:
    from chutes_core.otel import ChutesInstrumentor

    def serve(request: httpx.Request) -> httpx.Response:
        ChutesInstrumentor().uninstrument()
        return FaultyTransport([Answer("Hello!")]).handle_request(request)

    sink.instrument()
    before = context.get_current()
    with httpx.Client(transport=httpx.MockTransport(serve)) as http:
        ChutesClient(KEY, http_client=http).chat(HELLO, model="acme/one")
    assert context.get_current() == before
    assert sink.span.name == "chat acme/one"
    assert not hooks.listening()


# --- fallbacks ----------------------------------------------------------------------------------------

ONE, TWO = "Qwen/Qwen3-32B-TEE", "zai-org/GLM-5.1-TEE"


@pytest.mark.parametrize("stream", [False, True])
def test_a_fallback_is_one_span(stream: bool, seen: Sink) -> None:
    """It starts with the model that comes first, and ends with the one that answered, its usage and its cost."""
    transport = FaultyTransport([Fault("reset", after=2, answer=Answer("", reasoning="a b c d")), Answer("Hello!")])
    with FallbackClient([ONE, TWO], KEY, http_client=httpx.Client(transport=transport)) as client:
        reply = client.stream(HELLO).read() if stream else client.chat(HELLO)
    told: dict[str, Any] = dict(seen.span.attributes or {})
    assert seen.span.name == f"chat {ONE}"
    assert (told["gen_ai.request.model"], told["gen_ai.response.model"]) == (ONE, TWO)
    assert reply.usage is not None
    assert told["gen_ai.usage.output_tokens"] == reply.usage.completion_tokens
    assert told["chutes.cost"] == reply.cost
    assert told["chutes.attempts"] == 2
    assert told["server.address"] == "llm.chutes.ai"
    assert seen.events() == ["chutes.attempt.failed", "chutes.takeover.next"]
    failed = dict(seen.span.events[0].attributes or {})
    assert failed["gen_ai.request.model"] == ONE
    assert failed["gen_ai.usage.output_tokens"] == reply.attempts[0].usage.completion_tokens  # type: ignore[union-attr]
    tokens = {point.attributes["gen_ai.token.type"]: point.sum for point in seen.points("gen_ai.client.token.usage")}
    assert tokens == {"input": reply.usage.prompt_tokens, "output": reply.usage.completion_tokens}


def test_of_a_fallback_that_fails_the_last_kind_is_the_type(seen: Sink) -> None:
    transport = FaultyTransport(["not_found", "cold"])
    policy = FallbackPolicy(max_attempts=2)
    client = FallbackClient([ONE, TWO], KEY, policy=policy, http_client=httpx.Client(transport=transport))
    with client, pytest.raises(FallbackError):
        client.chat(HELLO)
    assert (seen.span.attributes or {})["error.type"] == "cold"
    assert seen.span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fallback", [False, True])
def test_of_a_sealed_call_no_words_are_told(
    fallback: bool, stream: bool, seen: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if content is asked for; its tokens and its model are there."""
    monkeypatch.setenv(CAPTURE, "true")
    said = [{"role": "user", "content": "The walrus is in the garden."}]
    with serve(backend="echo") as server, listening() as heard:
        options: Any = {
            "base_url": server.base_url,
            "management_url": server.management_url,
            "e2ee": True,
            "clock": OwnClock(),
        }
        one, key = ([ONE], server.api_key), server.api_key
        client: Any = FallbackClient(*one, **options) if fallback else ChutesClient(key, **options)
        asked = {} if fallback else {"model": ONE}
        with client:
            answer = list(client.stream(said, **asked)) if stream else client.chat(said, **asked).content
    assert "walrus" in str(answer)
    assert "walrus" not in seen.span.to_json()
    assert "walrus" not in str([(event, event.request, event.reply) for _, event in heard])
    assert (seen.span.attributes or {})["gen_ai.response.model"] == ONE
    assert (seen.span.attributes or {})["gen_ai.usage.output_tokens"] > 0  # type: ignore[operator]
