"""Spans and metrics, made of what hooks are told."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Token
from dataclasses import dataclass
from urllib.parse import urlsplit

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from chutes_core import hooks
from chutes_core.attempt import Attempt
from chutes_core.errors import ConfigurationError
from chutes_core.otel.messages import input_messages, output_messages

__all__ = ["Spans"]

Value = str | bool | int | float | list[str]

_PROVIDER = "chutes"
_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_SUPPRESSED = "suppress_language_model_instrumentation"
_SENT = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
    "dimensions": "gen_ai.embeddings.dimension.count",
}
_USED = {
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}
# Who makes spans of the calls through a package: the class in the module, where it is loaded.
_INSTRUMENTORS: Mapping[str, Mapping[str, str]] = {
    "langchain": {
        "openinference.instrumentation.langchain": "LangChainInstrumentor",
        "opentelemetry.instrumentation.langchain": "LangchainInstrumentor",
    },
    "llama_index": {
        "openinference.instrumentation.llama_index": "LlamaIndexInstrumentor",
        "opentelemetry.instrumentation.llamaindex": "LlamaIndexInstrumentor",
    },
    "openai": {
        "openinference.instrumentation.openai": "OpenAIInstrumentor",
        "opentelemetry.instrumentation.openai": "OpenAIInstrumentor",
        "opentelemetry.instrumentation.openai_v2": "OpenAIInstrumentor",
    },
}
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)


@dataclass(slots=True)
class _Open:
    """A span that is not over, and when it began."""

    span: trace.Span
    began: float
    about: dict[str, str | int]
    token: Token[Context] | None = None


class Spans:
    """Makes spans and metrics of what hooks are told."""

    def __init__(
        self, tracers: trace.TracerProvider | None, meters: metrics.MeterProvider | None, *, frameworks: bool | None
    ) -> None:
        self._frameworks = frameworks
        self._tracer = trace.get_tracer("chutes_core", tracer_provider=tracers)
        meter = metrics.get_meter("chutes_core", meter_provider=meters)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )  # fmt: skip
        self._first = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", "Time to the first chunk of a streamed answer.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )  # fmt: skip
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )  # fmt: skip
        self._attempts = meter.create_counter(
            "chutes.client.attempts", "{attempt}", "Attempts, by model, outcome and kind of failure."
        )
        self._open: dict[object, _Open] = {}
        self._hooks = (
            (hooks.on_start, self.start),
            (hooks.on_attempt, self.attempt),
            (hooks.on_retry, self.retry),
            (hooks.on_takeover, self.takeover),
            (hooks.on_end, self.end),
        )

    def listen(self) -> None:
        """Begin to make spans."""
        for hook, function in self._hooks:
            hook.add(function)

    def leave(self) -> None:
        """Make no more; those that are open are ended, and calls give their context back as they end."""
        for hook, function in self._hooks:
            hook.remove(function)
        left: dict[object, Token[Context]] = {}
        while self._open:
            call, opened = self._open.popitem()
            opened.span.end()
            if opened.token is not None:
                left[call] = opened.token

        def give_back(event: hooks.Event) -> None:
            if (token := left.pop(event.call, None)) is not None:
                context.detach(token)
            if not left:
                with suppress(ConfigurationError):  # another thread has just done so
                    hooks.on_end.remove(give_back)

        if left:
            hooks.on_end.add(give_back)

    def start(self, event: hooks.Event) -> None:
        """Open the span of a call."""
        if event.operation == "request" or self._is_anothers(event):
            return
        place = urlsplit(event.url)
        about: dict[str, str | int] = {
            "gen_ai.operation.name": event.operation,
            "gen_ai.provider.name": _PROVIDER,
            "gen_ai.request.model": event.model,
            **({"server.address": place.hostname} if place.hostname else {}),
            **({"server.port": place.port or {"http": 80}.get(place.scheme, 443)} if place.hostname else {}),
        }
        span = self._tracer.start_span(
            f"{event.operation} {event.model}", kind=trace.SpanKind.CLIENT, attributes={**about, **_asked(event)}
        )
        # What the call sends is inside it. A stream is read in whatever context its reader has, so it is left out.
        token = None if event.streamed else context.attach(trace.set_span_in_context(span))
        self._open[event.call] = _Open(span, time.monotonic(), about, token)

    def attempt(self, event: hooks.Event) -> None:
        """Count an attempt; one that did not answer is an event of the span."""
        attempt = event.attempt
        if attempt is None or event.operation == "request":
            return
        told = {"gen_ai.request.model": attempt.model, "chutes.attempt.outcome": attempt.outcome}
        if attempt.kind is not None:
            told["error.type"] = attempt.kind.value
        self._attempts.add(1, told)
        if attempt.outcome != "answered":
            self._note(event, f"chutes.attempt.{attempt.outcome}", attempt)

    def retry(self, event: hooks.Event) -> None:
        """Note a retry in the span."""
        self._note(event, "chutes.retry", event.attempt)

    def takeover(self, event: hooks.Event) -> None:
        """Note in the span that another member is asked."""
        self._note(event, f"chutes.takeover.{event.how}", None)

    def end(self, event: hooks.Event) -> None:
        """Close the span of a call, with what it came to."""
        opened = self._open.pop(event.call, None)
        if opened is None:
            return
        elapsed, span, about = time.monotonic() - opened.began, opened.span, opened.about
        if opened.token is not None:
            context.detach(opened.token)
        came = _came_to(event)
        span.set_attributes(came)
        about = {**about, **{name: str(came[name]) for name in _IN_METRICS if name in came}}
        if event.error is not None:
            span.set_status(trace.Status(trace.StatusCode.ERROR, event.error))
        self._duration.record(elapsed, about)
        if event.first is not None:
            self._first.record(event.first, about)
        for name, kind in (("gen_ai.usage.input_tokens", "input"), ("gen_ai.usage.output_tokens", "output")):
            if isinstance(count := came.get(name), int):
                self._tokens.record(count, {**about, "gen_ai.token.type": kind})
        span.end()

    def _note(self, event: hooks.Event, name: str, attempt: Attempt | None) -> None:
        opened = self._open.get(event.call)
        if opened is None:
            return
        told: dict[str, Value] = {"gen_ai.request.model": event.model, "chutes.attempt.number": event.number}
        if attempt is not None:
            told["gen_ai.request.model"] = attempt.model
            told["chutes.attempt.seconds"] = attempt.elapsed
            told |= _known(
                {
                    "error.type": attempt.kind.value if attempt.kind is not None else None,
                    "http.response.status_code": attempt.status_code,
                    "chutes.cost": attempt.cost,
                    **_usage(attempt.usage),
                }
            )
        told |= _known({"chutes.wait": event.wait, "chutes.request_id": event.request_id})
        opened.span.add_event(name, told)

    def _is_anothers(self, event: hooks.Event) -> bool:
        """Return whether the span of a call is made by another instrumentation, or unwanted."""
        if not is_instrumentation_enabled() or context.get_value(_SUPPRESSED):
            return True
        if event.face is None or self._frameworks is not None:
            return event.face is not None and not self._frameworks
        if event.face == "langchain" and event.operation == "embeddings":
            return False  # for which LangChain has no callbacks, so nobody else sees it
        return any(_active(module, name) for module, name in _INSTRUMENTORS.get(event.face, {}).items())


_IN_METRICS = ("gen_ai.response.model", "error.type")


def _active(module: str, name: str) -> bool:
    # The one instance that there is, if any: to make it again would set its options back.
    instance = getattr(getattr(sys.modules.get(module), name, None), "_instance", None)
    return bool(getattr(instance, "is_instrumented_by_opentelemetry", False))


def _asked(event: hooks.Event) -> dict[str, Value]:
    """Return the attributes of what was asked."""
    asked = event.request or {}
    numbers = ((label, asked.get(name)) for name, label in _SENT.items())
    told: dict[str, Value] = {label: number for label, number in numbers if isinstance(number, int | float)}
    if told.get("gen_ai.request.choice.count") == 1:
        del told["gen_ai.request.choice.count"]
    if event.streamed:
        told["gen_ai.request.stream"] = True
    if stop := asked.get("stop"):
        told["gen_ai.request.stop_sequences"] = [str(each) for each in stop] if isinstance(stop, list) else [str(stop)]
    if _captures() and "messages" in asked:
        told["gen_ai.input.messages"] = input_messages(asked["messages"])
    return told


def _came_to(event: hooks.Event) -> dict[str, Value]:
    """Return the attributes of what a call came to."""
    attempt, reply = event.attempt, event.reply
    usage = reply.usage if reply is not None else (attempt.usage if attempt is not None else None)
    told: dict[str, Value | None] = {
        "error.type": event.error,
        "chutes.attempts": event.number or None,
        "chutes.cost": attempt.cost if attempt is not None else None,
        "gen_ai.response.model": attempt.served if attempt is not None and event.error is None else None,
        "gen_ai.response.time_to_first_chunk": event.first,
        **_usage(usage),
    }
    if reply is not None:
        told["gen_ai.response.id"] = reply.id
        told["gen_ai.response.finish_reasons"] = [each.finish_reason or "error" for each in reply.choices]
        if _captures():
            told["gen_ai.output.messages"] = output_messages(reply)
    return _known(told)


def _usage(usage: object) -> dict[str, Value | None]:
    return {label: getattr(usage, name, None) for name, label in _USED.items()}


def _known(values: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value is not None}


def _captures() -> bool:
    return os.environ.get(_CAPTURE, "").strip().lower() in ("true", "1", "span_only", "span_and_event")
