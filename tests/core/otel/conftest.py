"""OpenTelemetry's own kit, in memory, behind the instrumentor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chutes_core.otel import ChutesInstrumentor


@dataclass
class Sink:
    """What has arrived."""

    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    tracers: TracerProvider
    meters: MeterProvider

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        """The only one."""
        (span,) = self.spans
        return span

    def events(self) -> list[str]:
        return [event.name for event in self.span.events]

    def points(self, name: str) -> list[Any]:
        """The points of a metric."""
        found = self.reader.get_metrics_data()
        metrics = [
            metric
            for resource in (found.resource_metrics if found is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]

    def instrument(self, **options: Any) -> None:
        ChutesInstrumentor().instrument(tracer_provider=self.tracers, meter_provider=self.meters, **options)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A sink that nothing goes to yet."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(shutdown_on_exit=False), MeterProvider([reader], shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    yield Sink(exporter, reader, tracers, meters)
    if ChutesInstrumentor().is_instrumented_by_opentelemetry:
        ChutesInstrumentor().uninstrument()
    tracers.shutdown()
    meters.shutdown()


@pytest.fixture
def seen(sink: Sink) -> Sink:
    """A sink that all calls go to."""
    sink.instrument()
    return sink
