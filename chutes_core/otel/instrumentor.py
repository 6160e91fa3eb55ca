"""The switch that turns spans and metrics on and off, as OpenTelemetry's instrumentations have it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, cast

try:
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
except ImportError:
    raise ImportError("chutes_core.otel needs OpenTelemetry: pip install 'chutes-connect[otel]'") from None

from chutes_core.otel.spans import Spans

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["ChutesInstrumentor"]


class ChutesInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Makes spans and metrics of all calls, from ``instrument()`` to ``uninstrument()``.

    Arguments of ``instrument``:
        tracer_provider: Where spans go; by default the global provider.
        meter_provider: Where metrics go; by default the global provider.
        frameworks: Whether calls through LangChain, LlamaIndex and the openai package get spans: always, never, or by
            default (None) unless an instrumentation of that package is active.
    """

    _spans: Spans | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the packages that it instruments: none but this one."""
        return ()

    def _instrument(self, **options: object) -> None:
        self._spans = Spans(
            cast("TracerProvider | None", options.get("tracer_provider")),
            cast("MeterProvider | None", options.get("meter_provider")),
            frameworks=cast("bool | None", options.get("frameworks")),
        )
        self._spans.listen()

    def _uninstrument(self, **options: object) -> None:
        if self._spans is not None:
            self._spans.leave()
            self._spans = None
