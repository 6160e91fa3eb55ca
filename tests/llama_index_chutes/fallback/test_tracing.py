"""What an observer sees of the attempts: a span and an event for each, and every token once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler

from chutes_core.testing import Fault, VirtualClock
from llama_index_chutes.fallback import AttemptEvent, tracing
from tests.llama_index_chutes.rigs import HELLO, STREAMS, STYLES, ask, gather, text_of
from tests.llama_index_chutes.stages import ANSWER, BERN, CITY, MEMBERS, OTHER, PREDICT, PROMPT, RESTART, City, stage
from tests.llama_index_chutes.strangers import Stranger, said
from tests.llama_index_chutes.test_observability import Observer


class Forgetful(Observer):
    """Keeps no exceptions: their frames would keep a stream alive that was left."""

    def handle(self, event: Any, **kwargs: Any) -> None:
        if not isinstance(event, ExceptionEvent):
            super().handle(event, **kwargs)


class Watch:
    """Handlers on the root dispatcher, and what they saw."""

    def __init__(self) -> None:
        self.events = Forgetful()
        self.spans = SimpleSpanHandler()

    @property
    def attempts(self) -> list[AttemptEvent]:
        return [event for event in self.events.seen if isinstance(event, AttemptEvent)]

    def named(self, part: str) -> list[Any]:
        """The spans, whole and dropped, by their begin."""
        all_ = [*self.spans.completed_spans, *self.spans.dropped_spans]
        return sorted((span for span in all_ if part in span.id_), key=lambda span: span.start_time)


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Handlers on the root dispatcher, taken off again."""
    root, seen = get_dispatcher(), Watch()
    root.add_event_handler(seen.events)
    root.add_span_handler(seen.spans)
    yield seen
    root.event_handlers.remove(seen.events)
    root.span_handlers.remove(seen.spans)


@pytest.mark.parametrize("style", STYLES)
def test_each_attempt_is_a_span_below_the_calls(style: str, watch: Watch) -> None:
    """One span for the call, and a child for each member that was asked; the one that failed is dropped."""
    ask(stage(["cold"]).llm, style)
    (call,) = watch.named(f"ChutesFallback.{style}-")
    children = watch.named(".attempt-")
    assert [child.parent_id for child in children] == [call.id_] * 2
    assert watch.spans.dropped_spans == children[:1]
    assert "No instances available" in children[0].metadata["error"]
    assert watch.spans.open_spans == {}


@pytest.mark.parametrize("style", STYLES)
def test_each_attempt_is_an_event_of_its_span(style: str, watch: Watch) -> None:
    """Whoever listens hears of each attempt once, with all that the answer says of it; the call's events stay."""
    outcome = ask(stage(["cold"]).llm, style)
    assert [event.attempt for event in watch.attempts] == outcome.last.raw["chutes_attempts"]
    assert [event.span_id for event in watch.attempts] == [span.id_ for span in watch.named(".attempt-")]
    kind = "Completion" if "complete" in style else "Chat"
    names = watch.events.names()
    assert names[f"LLM{kind}StartEvent"] == names[f"LLM{kind}EndEvent"] == 1
    assert names[f"LLM{kind}InProgressEvent"] == len(outcome.chunks if style in STREAMS else ())


@pytest.mark.parametrize("style", ["chat", "astream_complete"])
def test_an_attempt_is_a_step_and_no_call(style: str, watch: Watch) -> None:
    """Its span has no model, by which tracers would count it as a call; its event has what a step came to, as text."""
    made, instances = stage(["cold"], temperature=0.5), []

    class Looking(SimpleSpanHandler):
        def new_span(self, id_: str, bound_args: Any, instance: Any = None, *args: Any, **kwargs: Any) -> Any:
            instances.append((id_.partition("-")[0], type(instance).__name__))
            return super().new_span(id_, bound_args, instance, *args, **kwargs)

    looking = Looking()
    get_dispatcher().add_span_handler(looking)
    try:
        ask(made.llm, style)
    finally:
        get_dispatcher().span_handlers.remove(looking)
    calls, attempts = (f"ChutesFallback.{style}", "ChutesFallback"), ("ChutesFallback.attempt", "NoneType")
    assert instances == [calls, attempts, attempts]
    assert [json.loads(event.output) for event in watch.attempts] == [event.attempt for event in watch.attempts]
    assert made.llm.to_payload()["temperature"] == 0.5
    made.llm.members[1].temperature = 0.25
    assert "temperature" not in made.llm.to_payload(), "it is not that of every member"


@pytest.mark.parametrize("style", PREDICT)
def test_attempts_for_an_object(style: str, watch: Watch) -> None:
    """They are there where no answer could carry them."""
    assert gather(stage(["cold", CITY]).llm, style, City, PROMPT, place="Bern").last == BERN
    assert [event.attempt["outcome"] for event in watch.attempts] == ["failed", "answered"]
    assert len(watch.named(".attempt-")) == 2
    (predict,) = watch.named(f"ChutesFallback.{style}-")
    (chat,) = [span for span in watch.named("ChutesFallback.") if "chat-" in span.id_]
    # The spans of the framework's own generators are over when somebody begins to read them.
    assert chat.parent_id == (predict.id_ if style != "stream_structured_predict" else None)


def test_a_wait_belongs_to_no_attempt(watch: Watch) -> None:
    """A span ends when its attempt does, and not when the next one begins."""
    made = stage(["cold"] * 3)
    open_spans: list[int] = []

    class Clock(VirtualClock):
        """Looks at what is open while the engine waits."""

        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            open_spans.append(len(watch.spans.open_spans))

    made.llm.clock = Clock()
    ask(made.llm, "chat")
    assert open_spans == [1], "the call's own is left"


@pytest.mark.parametrize("style", ["stream_chat", "astream_chat"])
def test_who_leaves_ends_the_span(style: str, watch: Watch) -> None:
    """A stream that is left in the middle has an attempt that was cancelled."""
    made = stage()

    async def leave() -> None:
        chunks: Any = await made.llm.astream_chat(HELLO)
        await anext(chunks)
        await chunks.aclose()
        await asyncio.sleep(0)

    if style == "astream_chat":
        asyncio.run(leave())
    else:
        chunks = made.llm.stream_chat(HELLO)
        next(chunks)
        chunks.close()
    assert [event.attempt["outcome"] for event in watch.attempts] == ["cancelled"]
    assert watch.attempts[0].attempt["usage"]["completion_tokens"] == 1
    assert watch.spans.dropped_spans == watch.named(".attempt-")
    assert watch.spans.open_spans == {}


@pytest.mark.parametrize("style", STYLES)
def test_a_strangers_own_span_is_inside_of_its_attempt(style: str, watch: Watch) -> None:
    """Another provider's model is instrumented by itself, below the attempt that asks it."""
    ask(stage(["cold"], members=[MEMBERS[0], Stranger()]).llm, style)
    attempt = watch.named(".attempt-")[-1]
    inner = watch.named("Stranger.")
    assert inner
    assert all(span.parent_id in {attempt.id_, *(each.id_ for each in inner)} for span in inner)


def test_who_is_skipped_is_told_without_a_span(watch: Watch) -> None:
    """Nothing was sent, and the event is the call's own."""
    made = stage(members=[Stranger(calls_tools=False), *MEMBERS[:2]])
    ask(made.llm, "chat", tools=[{"type": "function", "function": {"name": "add"}}])
    (call,) = watch.named("ChutesFallback.chat-")
    assert [(event.attempt["outcome"], event.span_id == call.id_) for event in watch.attempts][:1] == [
        ("skipped", True)
    ]
    assert len(watch.named(".attempt-")) == 1


def test_where_nobody_listens_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans and events cost nothing then."""
    monkeypatch.setattr(tracing, "uuid4", None)
    monkeypatch.setattr(tracing, "AttemptEvent", None)
    assert text_of(ask(stage(["cold"]).llm, "chat").last) == ANSWER.text


# ----------------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("style", STYLES)
def test_tokens_are_counted_once(style: str) -> None:
    """The framework's counter has those of the answer that was given, whoever was asked before."""
    counter = TokenCountingHandler(tokenizer=str.split)
    fault = Fault("error_line", after=2, answer=OTHER)
    made = stage(["cold", fault], policy=RESTART, callback_manager=CallbackManager([counter]))
    outcome = ask(made.llm, style)
    assert text_of(outcome.last) == ANSWER.text
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (11, 4)
    assert len(counter.llm_token_counts) == 1


@pytest.mark.parametrize("style", STYLES)
def test_a_strangers_tokens_are_counted_once(style: str) -> None:
    """Also where it has the same handlers as the fallback; a handler of its own hears it, and it stays as it was."""
    counter, own = TokenCountingHandler(tokenizer=str.split), TokenCountingHandler(tokenizer=str.split)
    usage = {"usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}
    stranger = Stranger(plays=[[said("Whole.", raw=usage)]], callback_manager=CallbackManager([counter, own]))
    made = stage(members=[stranger], callback_manager=CallbackManager([counter]))
    outcome = ask(made.llm, style)
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (5, 2)
    assert len(counter.llm_token_counts) == 1
    assert own.llm_token_counts[0].total_token_count == 7
    assert outcome.last.raw["usage"]["total_tokens"] == 7
    assert stranger.callback_manager.handlers == [counter, own]


@pytest.mark.parametrize("style", ["chat", "stream_complete"])
def test_a_strangers_tokens_are_found_where_it_has_them(style: str) -> None:
    """Some integrations put them beside the answer: in the fallback's they are where counters look."""
    counter = TokenCountingHandler(tokenizer=str.split)
    chunk = said("Whole.").model_copy(update={"additional_kwargs": {"prompt_tokens": 5, "completion_tokens": 2}})
    made = stage(members=[Stranger(plays=[[chunk]])], callback_manager=CallbackManager([counter]))
    outcome = ask(made.llm, style)
    assert outcome.last.raw["usage"]["completion_tokens"] == 2
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (5, 2)
