"""What an observer sees: one span and one LLM event per call, usage once, and the end of every stream."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import Field
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span import SimpleSpan
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler

from chutes_core.testing import Answer, Fault

from .rigs import HELLO, MODEL, STREAMS, STYLES, ask, rig

ANSWER = Answer("Hello there, friend.", pieces=5)


class Observer(BaseEventHandler):
    """Remembers events."""

    seen: list[Any] = Field(default_factory=list)

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.seen.append(event)

    def names(self) -> Counter[str]:
        return Counter(event.class_name() for event in self.seen)


@pytest.fixture
def observer() -> Iterator[tuple[Observer, SimpleSpanHandler]]:
    """Handlers on the root dispatcher, taken off again."""
    root, events, spans = get_dispatcher(), Observer(), SimpleSpanHandler()
    root.add_event_handler(events)
    root.add_span_handler(spans)
    yield events, spans
    root.event_handlers.remove(events)
    root.span_handlers.remove(spans)


@pytest.mark.parametrize("style", STYLES)
def test_one_span_per_call(style: str, observer: tuple[Observer, SimpleSpanHandler]) -> None:
    """A call is one span, also a completion, which is a chat underneath."""
    events, spans = observer
    ask(rig([ANSWER]).llm, style)
    assert [type(span) for span in spans.completed_spans] == [SimpleSpan]
    assert spans.completed_spans[0].id_.startswith(f"Chutes.{style}-")
    kind = "Completion" if "complete" in style else "Chat"
    seen = events.names()
    assert seen[f"LLM{kind}StartEvent"] == seen[f"LLM{kind}EndEvent"] == 1
    assert seen[f"LLM{kind}InProgressEvent"] == (6 if style in STREAMS else 0)
    assert "cpk_test" not in str([event.model_dump() for event in events.seen])


@pytest.mark.parametrize("style", STYLES)
def test_tokens_are_counted_once(style: str) -> None:
    """The framework's counter has the service's numbers, not sums of cumulative ones and no estimates."""
    counter = TokenCountingHandler(tokenizer=str.split)
    ask(rig([ANSWER], callback_manager=CallbackManager([counter])).llm, style)
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (11, 5)
    assert len(counter.llm_token_counts) == 1


@pytest.mark.parametrize("style", STYLES)
def test_callbacks_see_the_answer(style: str) -> None:
    """An LLM event begins and ends, with the whole answer."""
    debug = LlamaDebugHandler(print_trace_on_end=False)
    ask(rig([ANSWER], callback_manager=CallbackManager([debug])).llm, style)
    ((_, end),) = debug.get_event_pairs(CBEventType.LLM)
    assert ANSWER.text in str(end.payload)


@pytest.mark.parametrize("style", STYLES)
def test_a_failure_ends_the_span_and_the_event(style: str, observer: tuple[Observer, SimpleSpanHandler]) -> None:
    """Whoever waits for the end of a call hears of its failure."""
    events, spans = observer
    debug = LlamaDebugHandler(print_trace_on_end=False)
    made = rig([Fault("error_line", answer=ANSWER)], callback_manager=CallbackManager([debug]), max_retries=0)
    assert ask(made.llm, style).error is not None
    assert spans.open_spans == {}
    ((_, end),) = debug.get_event_pairs(CBEventType.LLM)
    assert "exception" in str(end.payload)
    assert events.names()["ExceptionEvent" if style in STREAMS else "SpanDropEvent"] == 1


@pytest.mark.parametrize("style", STYLES)
def test_the_parameters_of_a_call_are_recorded(style: str, observer: tuple[Observer, SimpleSpanHandler]) -> None:
    """Events tell what is sent with every request of the model, and what is sent with this one."""
    events, _ = observer
    made = rig([ANSWER], temperature=0.5, max_tokens=99, additional_kwargs={"seed": 7, "extra_body": {"x": "secret"}})
    ask(made.llm, style, top_p=0.3)
    (start,) = [event for event in events.seen if event.class_name().endswith("StartEvent")]
    told = {name: start.model_dict[name] for name in ("model", "temperature", "max_tokens", "seed")}
    assert told == {"model": MODEL, "temperature": 0.5, "max_tokens": 99, "seed": 7}
    assert start.additional_kwargs == {"top_p": 0.3}
    assert "secret" not in str(start.model_dict), "anything may be in there"
    sent = made.bodies[0]
    assert {name: sent[name] for name in told} == told
    made.llm.temperature = 0.25
    assert made.llm.to_payload()["temperature"] == 0.25


def test_a_structured_answer_counts_once() -> None:
    """A structured prediction is one call of the model."""
    from llama_index.core.prompts import PromptTemplate

    from .structured.test_plans import AS_TEXT, OSLO, City

    counter = TokenCountingHandler(tokenizer=str.split)
    made = rig([AS_TEXT], callback_manager=CallbackManager([counter]))
    assert made.llm.structured_predict(City, PromptTemplate("Invent.")) == OSLO
    assert len(counter.llm_token_counts) == 1


def test_an_abandoned_stream_ends_its_event() -> None:
    """Leaving a stream is no success: the event ends with what happened."""
    debug = LlamaDebugHandler(print_trace_on_end=False)
    made = rig([ANSWER], callback_manager=CallbackManager([debug]))
    stream = made.llm.stream_chat(HELLO)
    next(stream)
    stream.close()
    ((_, end),) = debug.get_event_pairs(CBEventType.LLM)
    assert "GeneratorExit" in str(end.payload)


def test_the_frameworks_rate_limiter_is_asked() -> None:
    """A limiter that somebody gives is acquired once per call."""

    class Limiter:
        acquired = 0

        def acquire(self) -> None:
            self.acquired += 1

        async def async_acquire(self) -> None:
            self.acquired += 1

    limiter = Limiter()
    made = rig([ANSWER] * 2, rate_limiter=limiter)
    made.llm.complete("Hi")
    asyncio.run(made.llm.achat([ChatMessage("Hi")]))
    assert limiter.acquired == 2
