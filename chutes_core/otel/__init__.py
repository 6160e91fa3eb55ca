"""OpenTelemetry: a span and metrics for each call, by its conventions for generative AI. Extra ``otel``.

>>> from chutes_core.otel import ChutesInstrumentor
>>> ChutesInstrumentor().instrument()
>>> ChutesInstrumentor().uninstrument()

``opentelemetry-instrument`` finds it by itself. A span is one call of a client, of a fallback, of ``openai_client()``,
or of a class for LangChain or LlamaIndex, with all that it came to: retries and other members are events in it, with
their model, kind of failure, tokens and cost.

A call has one span. Of one through a framework or through the openai package, none is made while an OpenTelemetry
instrumentation of that package is active, which makes its own, nor where the context says that instrumentation is
suppressed. ``instrument(frameworks=True)`` and ``frameworks=False`` decide it instead. No instrumentation of LangChain
sees its embeddings, so they have one of ours unless it is False.

Prompts and answers are recorded only if ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` is ``true`` (or
``SPAN_ONLY``, ``SPAN_AND_EVENT``), and those of encrypted calls never.
"""

from chutes_core.otel.instrumentor import ChutesInstrumentor

__all__ = ["ChutesInstrumentor"]
