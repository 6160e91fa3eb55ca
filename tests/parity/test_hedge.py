"""A second member beside a silent one, in both frameworks: one table, with whoever watches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from pydantic import BaseModel

from chutes_core import Budget
from chutes_core.fallback import FallbackPolicy
from chutes_core.testing import Answer, Fault
from langchain_chutes import CostCallback
from langchain_chutes.fallback import collect
from tests.langchain_chutes import fallback_stage
from tests.langchain_chutes.fallback_stage import Other, Recorder, Tree
from tests.llama_index_chutes import rigs, stages
from tests.llama_index_chutes.strangers import Stranger, said
from tests.parity.scenarios import MODES

NAMES = ["acme/one", "acme/two", "acme/three"]
ANSWER = Answer("The answer is forty-two.", pieces=4)
OTHER = Answer("Forty-two, says the other.", pieces=3)
PAYING = Answer("Paying.", tool_calls=[("pay", {"amount": 1000, "to": "bob"})], pieces=3)
THINKING = Answer("The answer is forty-two.", reasoning="Let me think of it.", pieces=4)
POLICY = FallbackPolicy(hedge=2, first_token=8, gap=5, deadline=60)


def slow(seconds: float, answer: Answer = ANSWER) -> Fault:
    return Fault("hang_after_headers", seconds=seconds, answer=answer)


TABLE: dict[str, tuple[list[Any], Answer, list[str]]] = {
    "in time": ([slow(1)], ANSWER, ["one answered"]),
    "the second": ([slow(7), OTHER], OTHER, ["one outrun", "two answered"]),
    "the second, whose first is silence": ([Fault("hang"), OTHER], OTHER, ["one outrun", "two answered"]),
    "the first after all": ([slow(3), slow(7, OTHER)], ANSWER, ["two outrun", "one answered"]),
    "the second fails": ([slow(3), "cold"], ANSWER, ["two failed", "one answered"]),
    "both fail": ([Fault("hang"), "cold", OTHER], OTHER, ["two failed", "one failed", "three answered"]),
    "a call": ([slow(7), PAYING], PAYING, ["one outrun", "two answered"]),
    "thoughts": ([slow(7), THINKING], THINKING, ["one outrun", "two answered"]),
}


@pytest.fixture
def spans() -> Iterator[SimpleSpanHandler]:
    """A handler of spans on LlamaIndex' root dispatcher, taken off again."""
    root, handler = get_dispatcher(), SimpleSpanHandler()
    root.add_span_handler(handler)
    yield handler
    root.span_handlers.remove(handler)


def brief(attempts: Any) -> list[str]:
    return [f"{each['model'].removeprefix('acme/')} {each['outcome']}" for each in attempts]


@pytest.mark.parametrize("after", ["raise", "hold", "restart"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TABLE)
def test_langchain(name: str, mode: str, after: Any) -> None:
    """One member's answer and every attempt in its metadata; each is a run of its own below the call's."""
    script, answer, attempts = TABLE[name]
    policy = FallbackPolicy(hedge=2, first_token=8, gap=5, deadline=60, after_commit=after)
    tree, seen = Tree(), Recorder()
    made = fallback_stage.stage(script, NAMES, policy=policy).call(mode, config={"callbacks": [tree, seen]})
    assert made.error is None
    assert made.message.text == answer.text
    assert [(each["name"], each["args"]) for each in made.message.tool_calls] == list(answer.tool_calls)
    assert made.message.additional_kwargs.get("reasoning_content", "") == answer.reasoning
    assert brief(made.attempts) == attempts
    assert made.message.response_metadata["model_name"] == f"acme/{attempts[-1].partition(' ')[0]}"
    assert made.transport.open_replies == 0
    (root,) = tree.roots
    begun = sorted(each.partition(" ")[0] for each in attempts)
    assert sorted(run.name for run in root.child_runs) == sorted(f"Attempt acme/{each}" for each in begun)
    for run in root.child_runs:
        told = run.outputs or run.inputs
        assert told["model"] == run.name.removeprefix("Attempt ")
        assert bool(run.error) is (told["outcome"] == "failed"), "who was outrun has not failed"
    assert seen.events == [(f"acme/{model}", outcome) for model, outcome in (each.split() for each in attempts)]
    assert seen.errors == []


@pytest.mark.parametrize("after", ["raise", "hold", "restart"])
@pytest.mark.parametrize("style", ["chat", "stream_chat", "achat", "astream_chat"])
@pytest.mark.parametrize("name", TABLE)
def test_llama_index(name: str, style: str, after: Any, spans: SimpleSpanHandler) -> None:
    """The same, with a span for each attempt."""
    script, answer, attempts = TABLE[name]
    policy = FallbackPolicy(hedge=2, first_token=8, gap=5, deadline=60, after_commit=after)
    made = stages.stage(script, NAMES, policy=policy, context_window=8_000)
    outcome = rigs.ask(made.llm, style)
    assert outcome.error is None
    assert outcome.last.message.content == answer.text
    assert brief(stages.attempts(outcome)) == attempts
    assert made.transport.open_replies == 0
    called = made.llm.get_tool_calls_from_response(outcome.last, error_on_no_tool_call=False)
    assert [(each.tool_name, each.tool_kwargs) for each in called] == list(answer.tool_calls)
    of_attempts = [each for each in spans.completed_spans if ".attempt-" in each.id_]
    dropped = [each for each in spans.dropped_spans if ".attempt-" in each.id_]
    assert len(dropped) == sum(each.endswith("failed") for each in attempts), "who was outrun has not failed"
    assert len(of_attempts) + len(dropped) == len(attempts)
    assert len({each.parent_id for each in (*of_attempts, *dropped)}) == 1
    assert spans.open_spans == {}


class City(BaseModel):
    """A city."""

    name: str
    people: int


BERN = Answer('{"name": "Bern", "people": 134000}', pieces=6)


@pytest.mark.parametrize(
    "script",
    [[slow(7), BERN], [slow(3, BERN), slow(7)], [slow(3, BERN), "cold"]],
    ids=["the second", "the first after all", "the second fails"],
)
@pytest.mark.parametrize("mode", ["sync-whole", "async-whole"])
def test_an_object_is_that_of_the_winner(mode: str, script: list[Any]) -> None:
    """Each member is asked in its own way and its answer read in that, whichever was asked last."""
    made = fallback_stage.stage(script, NAMES, policy=POLICY)
    made.call(mode, made.model.with_structured_output(City))
    assert made.message == City(name="Bern", people=134000)
    style = "structured_predict" if mode == "sync-whole" else "astructured_predict"
    llm = stages.stage(script, NAMES, policy=POLICY, context_window=8_000).llm
    assert rigs.gather(llm, style, stages.City, stages.PROMPT, place="Bern").last == stages.BERN


@pytest.mark.parametrize("mode", MODES)
def test_another_providers_model_beside(mode: str) -> None:
    """A model of another provider may be the second; its own run is not one of the call's, as ever."""
    tree = Tree()
    made = fallback_stage.stage([slow(7)], ["acme/one", Other.of("I am ", "another.")], policy=POLICY)
    made.call(mode, config={"callbacks": [tree]})
    assert made.message.text == "I am another."
    assert brief(made.attempts) == ["one outrun", "other/model answered"]
    assert [run.name for run in tree.roots[0].child_runs] == ["Attempt acme/one", "Attempt other/model"]
    style = {"sync-whole": "chat", "sync-stream": "stream_chat", "async-whole": "achat"}.get(mode, "astream_chat")
    stranger = Stranger(plays=[[said("I am another.")]], max_retries=0)
    outcome = rigs.ask(stages.stage([slow(7)], ["acme/one", stranger], policy=POLICY, context_window=8_000).llm, style)
    assert outcome.last.message.content == "I am another."
    assert brief(stages.attempts(outcome)) == ["one outrun", "other/model answered"]


def test_added_chunks_are_one_answer() -> None:
    """Whoever adds chunks up has the winner's answer, with its attempts."""
    made = fallback_stage.stage([slow(7), OTHER], NAMES, policy=POLICY)
    total: Any = None
    for chunk in made.model.stream("Hi"):
        total = chunk if total is None else total + chunk
    assert total.text == collect([total]).text == OTHER.text
    assert brief(total.response_metadata["chutes_attempts"]) == ["one outrun", "two answered"]


@pytest.mark.parametrize("mode", ["sync-stream", "async-stream"])
async def test_what_a_handler_has_reserved_stays_while_the_winner_speaks(mode: str) -> None:
    """The loser is stopped, and the call goes on: its reservation is given back when the call has ended."""
    handler = CostCallback(Budget(tokens=100_000))
    script = [Fault("stall", after=0, seconds=7), OTHER]
    made = fallback_stage.stage(script, NAMES, policy=POLICY)
    config: Any = {"callbacks": [handler]}
    if mode == "sync-stream":
        chunks = made.model.stream("Hi", config)
        next(chunks)
        assert handler.meter.budget.reserved.tokens > 0
        attempts = list(chunks)[-1].response_metadata["chutes_attempts"]
    else:
        waited = made.model.astream("Hi", config)
        await anext(waited)
        assert handler.meter.budget.reserved.tokens > 0
        attempts = [chunk async for chunk in waited][-1].response_metadata["chutes_attempts"]
    assert brief(attempts) == ["one outrun", "two answered"]
    assert handler.meter.budget.reserved.tokens == 0
    assert handler.meter.totals().usage.total_tokens == sum(each["usage"]["total_tokens"] for each in attempts)
