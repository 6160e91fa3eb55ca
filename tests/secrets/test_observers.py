"""What hooks, spans and the log are told has no secret in it, whatever a hostile service writes where."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chutes_core import hooks
from chutes_core.otel import ChutesInstrumentor
from chutes_core.wire.pools import http_package

from .ways import CALLS
from .world import Service, leaks, logged, made

DOORS = [
    ("ChutesClient", "chat"), ("ChutesClient", "stream"), ("ChutesClient", "embed"), ("AsyncChutesClient", "chat"),
    ("openai_client", "chat"), ("openai_client", "stream"), ("langchain ChatChutes", "stream"),
    ("langchain ChutesFallback", "invoke"), ("llama_index Chutes", "achat"), ("llama_index ChutesFallback", "chat"),
    ("llama_index ChutesEmbedding", "get_text_embedding"),
]  # fmt: skip


class Whole(Service):
    """A service whose answers are whole, and have the key as their id, model and names of the request."""

    def _answer(self, request: Any) -> Any:
        package, sent = http_package(), dict(request.headers.items())
        self.seen.append(sent)
        key = sent["authorization"].partition(" ")[2]
        back = {"x-request-id": key, "x-chutes-invocationid": key, "x-chutes-ratelimit-model": key}
        if "embeddings" in str(request.url):
            vectors = {"id": key, "model": key, "data": [{"index": 0, "embedding": [0.6, 0.8]}]}
            return package.Response(200, json=vectors, headers=back)
        said = {"role": "assistant", "content": "Hi"}
        if b'"stream":true' not in request.content.replace(b" ", b""):
            choice: Mapping[str, Any] = {"index": 0, "message": said, "finish_reason": "stop"}
            return package.Response(200, json={"id": key, "model": key, "choices": [choice]}, headers=back)
        choices = [{"index": 0, "delta": delta, "finish_reason": end} for delta, end in ((said, None), ({}, "stop"))]
        events = [json.dumps({"id": key, "model": key, "choices": [each]}) for each in choices]
        stream = "".join(f"data: {each}\n\n" for each in (*events, "[DONE]"))
        return package.Response(200, content=stream.encode(), headers={**back, "content-type": "text/event-stream"})


@pytest.fixture
def told() -> Iterator[list[str]]:
    """All that hooks and exporters are told."""
    seen: list[str] = []

    def note(event: hooks.Event) -> None:
        seen.append(repr(event) + repr(event.reply))

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = ChutesInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    points = (hooks.on_start, hooks.on_attempt, hooks.on_retry, hooks.on_give_up, hooks.on_end)
    for hook in points:
        hook.add(note)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # keys without a known beginning are what this is about
        yield seen
    for hook in points:
        hook.remove(note)
    instrumentor.uninstrument()
    seen += [span.to_json() for span in exporter.get_finished_spans()]
    provider.shutdown()
    assert seen
    assert [place for each in seen for place in leaks(each)] == []


@pytest.mark.parametrize("way", ["whole", "status", "event", "partial", "malformed"])
@pytest.mark.parametrize(("kind", "method"), DOORS)
def test_observers_are_told_no_secret(
    kind: str, method: str, way: str, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither of an answer nor of a failure; the fixture looks at what was told."""
    caplog.set_level(logging.DEBUG)
    service = Whole() if way == "whole" else Service(way)
    with suppress(Exception) if way != "whole" else nullcontext():
        CALLS[kind][method](made(kind, service), [])
    assert service.seen
    assert logged(caplog.text) == []
