"""CostHandler: models around models are no calls of their own, and a budget holds what no framework tells of."""

from __future__ import annotations

import asyncio
import gc
from contextlib import nullcontext
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.callbacks import CallbackManager
from llama_index.core.embeddings import MockEmbedding

from chutes_core import Budget, BudgetExceededError
from chutes_core.testing import FaultScript
from llama_index_chutes import ChutesFallback, CostHandler

from .rigs import HELLO, STREAMS, TOOLS, ask, connection, gather, rig
from .stages import ANSWER, BERN, CITY, MEMBERS, POLICY, City, stage
from .test_embeddings import Machine

WRAPPED = ["chat", "stream_chat", "achat", "astream_chat", "complete", "acomplete"]

# --------------------------------------------------------------------------------- models around models


@pytest.mark.filterwarnings("ignore:The `json` method is deprecated")  # the framework uses it
@pytest.mark.parametrize("how", ["block", "manager"])
@pytest.mark.parametrize("style", WRAPPED)
def test_a_structured_model_is_no_model_of_its_own(style: str, how: str) -> None:
    """Its one call is the call of the model inside, which a limit in dollars lets pass."""
    counted = CostHandler(budget=Budget(usd=5))
    manager = CallbackManager([counted] if how == "manager" else [])
    made = rig(FaultScript(default=CITY), callback_manager=manager)
    structured = made.llm.as_structured_llm(City)
    structured.callback_manager = manager
    question: Any = "Bern?" if "complete" in style else HELLO
    with counted if how == "block" else nullcontext():
        outcome = gather(structured, style, question)
    assert outcome.error is None
    assert outcome.last.raw == BERN
    assert (counted.totals.calls, counted.totals.unpriced_calls) == (1, 0)
    assert counted.by_model().keys() == {made.llm.model}
    assert counted.totals == made.llm.ledger.totals()
    assert counted.budget is not None
    assert counted.budget.reserved.tokens == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_agents_object_comes_within_a_budget() -> None:
    """An agent asks for its object by such a model, and would take a refusal for no object."""
    made = rig([ANSWER, CITY])

    async def work() -> Any:
        return await FunctionAgent(tools=TOOLS, llm=made.llm, output_cls=City).run("Where is the bear?")

    with CostHandler(budget=Budget(usd=5)) as counted:
        found = asyncio.run(work())
    assert found.get_pydantic_model(City) == BERN
    assert (counted.totals.calls, len(counted.runs)) == (2, 1)


# ------------------------------------------------------------------------------------------- embeddings


@pytest.mark.parametrize("how", ["block", "manager"])
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("method", ["get_text_embedding", "aget_text_embedding", "get_query_embedding"])
def test_embeddings_that_could_pass_the_limit_are_not_sent(method: str, batch: bool, how: str) -> None:
    """The framework does not say what it embeds, so each request is held where it is made."""
    if batch and "query" in method:
        pytest.skip("queries come one by one")
    counted = CostHandler(budget=Budget(tokens=30))
    machine = Machine()
    manager = CallbackManager([counted] if how == "manager" else [])
    embedding = machine.embedding(query_instruction="", callback_manager=manager)
    ask_for = getattr(embedding, method + "_batch" * batch)

    def once() -> None:
        asked = ask_for(["word " * 10] if batch else "word " * 10)
        if method.startswith("a"):
            asyncio.run(asked)

    with counted if how == "block" else nullcontext():
        once()
        with pytest.raises(BudgetExceededError, match="this call may use up to"):
            [once() for _ in range(20)]
    assert counted.budget is not None
    assert len(machine.bodies) == counted.totals.calls
    assert counted.budget.totals().usage.total_tokens <= 30
    assert counted.budget.reserved.tokens == 0


def test_every_budget_holds_an_embedding_once() -> None:
    """Those of the blocks around it, and that of the embedding itself; one that is both is asked for one place."""
    budget, machine = Budget(tokens=40), Machine()
    embedding = machine.embedding(ledger=budget)
    with CostHandler(budget=Budget(tokens=10_000)) as outer, CostHandler(budget=budget):
        embedding.get_text_embedding("word " * 15)  # 25 at most: twice would not fit
        with pytest.raises(BudgetExceededError) as refused:
            embedding.get_text_embedding("word " * 30)
    assert refused.value.budget is budget
    assert outer.budget is not None
    assert (outer.budget.totals().calls, outer.budget.reserved.tokens, len(machine.bodies)) == (1, 0, 1)
    with CostHandler(budget=Budget(tokens=5)), pytest.raises(BudgetExceededError):
        machine.embedding(ledger=Budget(tokens=10_000)).get_text_embedding("word " * 30)


def test_dollars_hold_embeddings_with_a_price() -> None:
    """One without is refused, as any call is; with a price that was given it is held to it."""
    machine = Machine()
    with CostHandler(budget=Budget(usd=1)), pytest.raises(BudgetExceededError, match="limit in dollars cannot hold"):
        machine.embedding().get_text_embedding("word")
    prices = {"Qwen/Qwen3-Embedding-8B-TEE": (1e4, 0.0)}
    with CostHandler(budget=Budget(usd=1), prices=prices) as counted:
        machine.embedding().get_text_embedding("word")
        with pytest.raises(BudgetExceededError, match=r"this call may cost up to"):
            machine.embedding().get_text_embedding("word " * 100)
    assert counted.total_cost == pytest.approx(0.03)
    assert len(machine.bodies) == 1


def test_embeddings_of_others_pass() -> None:
    """Nobody says what they will use: they are counted, as of unknown price, and not held."""
    with CostHandler(budget=Budget(usd=1e-6, tokens=1)) as counted:
        MockEmbedding(8).get_text_embedding("Hello")
    assert counted.totals.unpriced_calls == 1


# ------------------------------------------------------------------------------ streams that never begin


@pytest.mark.parametrize("kind", ["model", "fallback"])
@pytest.mark.parametrize("how", ["block", "manager"])
@pytest.mark.parametrize("style", STREAMS)
def test_a_stream_that_never_begins_holds_nothing(style: str, how: str, kind: str) -> None:
    """Nothing was sent for it: closed or dropped, it gives back what was set aside, and the next one has its place."""
    budget = Budget(tokens=120)
    counted = CostHandler(budget=budget)
    transport, _, settings = connection(FaultScript(default=ANSWER))
    settings["callback_manager"] = CallbackManager([counted] if how == "manager" else [])
    llm: Any = rig(FaultScript(default=ANSWER), max_tokens=50, **settings).llm
    if kind == "fallback":
        llm = ChutesFallback(MEMBERS, policy=POLICY, max_tokens=50, **settings)
    question: Any = "Hello?" if "complete" in style else HELLO

    async def asked() -> None:
        stream = getattr(llm, style)(question)
        stream = await stream if style.startswith("a") else stream
        assert budget.reserved.tokens > 50
        if style.startswith("a"):
            await stream.aclose()
        else:
            stream.close()

    with counted if how == "block" else nullcontext():
        for _ in range(3):
            asyncio.run(asked())
            gc.collect()
            assert budget.reserved.tokens == 0
        assert transport.requests == []
        assert ask(llm, style).error is None
    assert (counted.totals.calls, budget.reserved.tokens) == (1, 0)


def test_a_stream_that_has_begun_counts_to_its_end() -> None:
    """Also where others that never begin are dropped meanwhile."""
    made = stage([ANSWER])
    with CostHandler(budget=Budget(tokens=10**6, reply_tokens=100)) as counted:
        chunks = made.llm.stream_chat(HELLO)
        next(chunks)
        made.llm.stream_chat(HELLO)
        gc.collect()
        assert counted.budget is not None
        assert counted.budget.reserved.tokens > 0
        list(chunks)
    assert counted.totals.calls == 1
    assert counted.total_tokens > 0
