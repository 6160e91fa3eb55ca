"""CostCallback: what is added up is what the service counted, and a budget stops calls before they are sent."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ModelError
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable

from chutes_core import Budget, BudgetExceededError, Catalog, ChutesError, ConfigurationError, Usage, cost
from chutes_core.testing import Answer, Fault, FaultScript
from langchain_chutes import ChatChutes, ChutesEmbeddings, ChutesFallback, CostCallback, FallbackPolicy

from .models import MODES, Outcome, call, scripted

MODEL = "Qwen/Qwen3-32B-TEE"
OTHER = "google/gemma-4-31B-turbo-TEE"
INFO = Catalog.bundled().model(MODEL)
ANSWER = Answer("Hello there, friend.", pieces=4, prompt_tokens=11, cached_tokens=4)


def priced(script: Any = (), **options: Any) -> Outcome:
    """A scripted model whose price is in the catalogue."""
    return scripted(script, **{"model": MODEL, "catalog": Catalog.bundled(), **options})


def served(*answers: Answer) -> Usage:
    """What the service counts for whole answers."""
    told = [Usage.parse(answer.usage(len(answer.deltas()))) for answer in answers]
    return sum((usage for usage in told if usage is not None), Usage(0, 0, 0))


TOLD = {
    "input_tokens": 20,
    "output_tokens": 7,
    "total_tokens": 27,
    "output_token_details": {"reasoning": 3},
    "input_token_details": {"cache_read": 5},
}


class Foreign(BaseChatModel):
    """A model of another provider, which says what it used and nothing of its price."""

    max_retries: int = 0
    tells: bool = True

    @property
    def usage(self) -> Any:
        return TOLD if self.tells else None

    @property
    def _llm_type(self) -> str:
        return "other-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": "other/model"}

    def _generate(self, messages: Sequence[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        message = AIMessage("Hi", usage_metadata=self.usage, response_metadata={"model_name": "other/model"})
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, messages: Sequence[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk("Hi"))
        told = {"model_name": "other/model", "finish_reason": "stop"}
        yield ChatGenerationChunk(
            message=AIMessageChunk("", usage_metadata=self.usage, response_metadata=told, chunk_position="last")
        )


@pytest.mark.parametrize("mode", MODES)
def test_the_sum_is_what_the_service_counted(mode: str) -> None:
    """Tokens, cached ones among them, and dollars of one call, in each of the four ways to make it."""
    counted = CostCallback()
    call(
        mode, [ANSWER], runnable=lambda model: model.with_config(callbacks=[counted]),
        model=MODEL, catalog=Catalog.bundled(),
    )  # fmt: skip
    assert counted.by_model().keys() == {MODEL}
    assert counted.totals.calls == 1
    assert counted.totals.usage == served(ANSWER)
    assert counted.totals.usage.cached_tokens == 4
    assert counted.total_cost == cost(served(ANSWER), INFO)
    assert counted.total_tokens == 15
    assert counted.totals.unpriced_calls == 0
    assert counted.quota_remaining == 199


@pytest.mark.parametrize("mode", MODES)
def test_a_block_counts_every_call_in_it_and_none_after(mode: str) -> None:
    """The context needs no wiring, ends with the block, and gives a call to every block around it, once."""
    rig = priced(FaultScript(default=ANSWER))
    with CostCallback() as outer:
        rig.model.invoke("one", config={"callbacks": [outer]})
        with CostCallback() as inner:
            rig.model.batch(["two", "three", "four"])
        asyncio.run(rig.model.ainvoke("five"))
    rig.model.invoke("six")
    assert (outer.totals.calls, inner.totals.calls) == (5, 3)
    assert outer.totals.usage == served(*[ANSWER] * 5)
    assert len(rig.transport.requests) == 6


def test_a_block_that_fails_ends_too() -> None:
    """After an exception nothing is counted any more."""
    rig = priced(FaultScript(default=ANSWER))
    counted = CostCallback()

    def failing() -> None:
        with counted:
            rig.model.invoke("one")
            raise LookupError

    with pytest.raises(LookupError):
        failing()
    rig.model.invoke("two")
    assert counted.totals.calls == 1


@pytest.mark.parametrize("mode", ["sync-stream", "async-stream"])
def test_a_stream_that_broke_counts_what_it_used(mode: str) -> None:
    """The tokens until the break were used, and so were billed."""
    counted = CostCallback()
    out = call(
        mode, [Fault("error_line", after=2, answer=ANSWER)], runnable=lambda m: m.with_config(callbacks=[counted]),
        model=MODEL, catalog=Catalog.bundled(),
    )  # fmt: skip
    assert out.error is not None
    used = Usage(11, 2, 13, cached_tokens=4)
    assert counted.totals.usage == used
    assert counted.total_cost == cost(used, INFO)


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_used_nothing_counts_nothing(mode: str) -> None:
    """A refusal of the service costs nothing and is no call."""
    counted = CostCallback()
    call(mode, ["capacity"], runnable=lambda model: model.with_config(callbacks=[counted]), model=MODEL)
    assert counted.totals.calls == 0


def test_runs_tell_an_agents_calls_apart_from_others() -> None:
    """All calls of one agent are one run; each call by itself is one of its own."""

    def add(a: int, b: int) -> int:
        """Add two whole numbers."""
        return a + b

    steps = [Answer("", tool_calls=[("add", {"a": 20, "b": 22})]), Answer("It is 42.")]
    rig = priced([*steps, ANSWER])
    with CostCallback() as counted:
        create_agent(rig.model, [add], name="sums").invoke({"messages": [("user", "What is 20 + 22?")]})
        rig.model.invoke("Hello", config={"run_name": "greeting"})
    agent, greeting = counted.runs
    assert (agent.name, agent.totals().calls, agent.totals().usage) == ("sums", 2, served(*steps))
    assert (greeting.name, greeting.totals().usage) == ("greeting", served(ANSWER))
    assert repr(greeting).startswith("Run('greeting', 1 call, ")


def test_only_the_latest_runs_are_kept() -> None:
    """A program that runs for months keeps a bounded number of them, and the whole sum."""
    rig = priced(FaultScript(default=ANSWER))
    counted = CostCallback(keep_runs=2)
    for name in "abc":
        rig.model.invoke("Hello", config={"callbacks": [counted], "run_name": name})
    assert [run.name for run in counted.runs] == ["b", "c"]
    assert counted.totals.calls == 3
    counted.reset()
    assert (counted.runs, counted.totals.calls) == ([], 0)


def test_chains_and_batches_share_one_sum_between_threads() -> None:
    """Nothing is lost or doubled when a batch runs in many threads."""
    rig = priced(FaultScript(default=ANSWER))
    chain: Runnable[Any, Any] = ChatPromptTemplate.from_template("Say {word}") | rig.model
    with CostCallback() as counted:
        chain.batch([{"word": str(number)} for number in range(40)], config={"max_concurrency": 8})
    assert counted.totals.calls == 40
    assert counted.totals.usage == served(*[ANSWER] * 40)
    assert len(counted.runs) == 40


# ------------------------------------------------------------------------------------------- fallback


def fallback(script: FaultScript, *more: BaseChatModel, **options: Any) -> tuple[ChutesFallback, Outcome]:
    """Two models of ours over one script, and those of others behind them."""
    rig = priced(script)
    shared = {
        name: getattr(rig.model, name) for name in ("api_key", "http_client", "http_async_client", "clock", "catalog")
    }
    policy = FallbackPolicy(order="given")
    return ChutesFallback([MODEL, OTHER, *more], policy=policy, **{**shared, **options}), rig


def ask(mode: str, model: Runnable[Any, Any], **config: Any) -> None:
    """Call in one of the four modes, to the end."""

    async def waiting() -> None:
        if mode == "async-whole":
            await model.ainvoke("Hello", config=config)  # type: ignore[arg-type]
        else:
            _ = [chunk async for chunk in model.astream("Hello", config=config)]  # type: ignore[arg-type]

    if mode == "sync-whole":
        model.invoke("Hello", config=config)  # type: ignore[arg-type]
    elif mode == "sync-stream":
        list(model.stream("Hello", config=config))  # type: ignore[arg-type]
    else:
        asyncio.run(waiting())


@pytest.mark.parametrize("how", ["config", "block", "model"])
@pytest.mark.parametrize("mode", MODES)
def test_every_attempt_of_a_fallback_counts_once(mode: str, how: str) -> None:
    """The failed member's tokens and the answering one's, each under its own name and price."""
    counted = CostCallback()
    broken = Fault("role_only", answer=ANSWER)
    script = FaultScript(by_model={MODEL: [broken], OTHER: [ANSWER]})
    model, _ = fallback(script, **({"callbacks": [counted]} if how == "model" else {}))
    if how == "block":
        with counted:
            ask(mode, model)
    else:
        ask(mode, model, **({"callbacks": [counted]} if how == "config" else {}))
    sums = counted.by_model()
    assert sums[OTHER].usage == served(ANSWER)
    assert sums[OTHER].cost == cost(served(ANSWER), Catalog.bundled().model(OTHER))
    assert sums[MODEL].usage.total_tokens == 15
    assert counted.totals.calls == 2


@pytest.mark.parametrize("how", ["config", "model"])
@pytest.mark.parametrize("mode", MODES)
def test_a_member_of_another_provider_counts_without_a_price(mode: str, how: str) -> None:
    """Its tokens are counted, reasoning and cached ones too; what they cost is unknown, not guessed."""
    counted = CostCallback()
    script = FaultScript(by_model={MODEL: ["cold"], OTHER: ["cold"]})
    model, _ = fallback(script, Foreign(), **({"callbacks": [counted]} if how == "model" else {}))
    ask(mode, model, **({"callbacks": [counted]} if how == "config" else {}))
    assert counted.totals.usage == Usage(20, 7, 27, reasoning_tokens=3, cached_tokens=5)
    assert (counted.totals.calls, counted.totals.unpriced_calls, counted.total_cost) == (1, 1, 0.0)


def test_when_nobody_answers_what_was_used_still_counts() -> None:
    """The failure of all has used what each of them used."""
    broken = Fault("role_only", answer=ANSWER)
    for how in ({"callbacks": [counted := CostCallback()]}, {}):
        model, _ = fallback(FaultScript([broken] * 20), **how)
        model.policy = FallbackPolicy(order="given", max_attempts=2)
        with pytest.raises(Exception, match="No model gave a whole answer"):
            model.invoke("Hello", config={} if how else {"callbacks": [counted := CostCallback()]})
        assert counted.totals.usage.total_tokens == 30


def test_prices_of_others_can_be_given() -> None:
    """US dollars per million tokens of prompt and of answer."""
    counted = CostCallback(prices={"other/model": (1.0, 10.0)})
    Foreign().invoke("Hello", config={"callbacks": [counted]})
    assert counted.total_cost == pytest.approx(20e-6 + 70e-6)
    with pytest.raises(ConfigurationError, match="'other/model' must be"):
        CostCallback(prices={"other/model": 3})  # type: ignore[dict-item]


def test_a_model_that_says_nothing_counts_as_unknown() -> None:
    """A call without a usage is a call, of no known tokens and no known price."""
    counted = CostCallback(prices={"other/model": (1.0, 10.0)})
    Foreign(tells=False).invoke("Hello", config={"callbacks": [counted]})
    assert (counted.totals.calls, counted.totals.unpriced_calls, counted.total_tokens) == (1, 1, 0)


def test_what_comes_out_of_the_cache_costs_nothing() -> None:
    """LangChain's cache sends nothing, so nothing is counted."""
    rig = priced([ANSWER], cache=InMemoryCache())
    with CostCallback() as counted:
        rig.model.invoke("Hello")
        rig.model.invoke("Hello")
    assert len(rig.transport.requests) == 1
    assert counted.totals.calls == 1


# --------------------------------------------------------------------------------------------- budget


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [{"usd": 1e-6}, {"tokens": 100}])
def test_a_call_that_could_pass_the_limit_is_not_sent(mode: str, limit: dict[str, Any]) -> None:
    """The error says what the call may use and what is left, and the service hears nothing."""
    counted = CostCallback(budget=Budget(**limit))
    rig = priced([ANSWER])
    with pytest.raises(BudgetExceededError, match=f"Nothing was sent to {MODEL}: this call may") as caught:
        ask(mode, rig.model, callbacks=[counted])
    assert rig.transport.requests == []
    assert caught.value.budget is counted.budget
    assert counted.budget is not None
    assert counted.budget.reserved.tokens == 0


@pytest.mark.parametrize("mode", MODES)
def test_what_was_used_takes_the_place_of_what_was_reserved(mode: str) -> None:
    """A budget lasts for as many calls as their true use allows, and an error gives the reservation back."""
    budget = Budget(tokens=100)
    rig = priced(FaultScript(["capacity", Fault("error_line", after=2, answer=ANSWER)], default=ANSWER), max_tokens=40)
    seen: list[ChutesError | None] = []
    with CostCallback(budget=budget):
        for _ in range(8):
            try:
                ask(mode, rig.model)
            except ChutesError as error:
                seen.append(error)
            else:
                seen.append(None)
            assert budget.reserved.tokens == 0
    assert len(rig.transport.requests) == 8 - sum(isinstance(each, BudgetExceededError) for each in seen)
    assert seen[2:5] == [None] * 3
    assert isinstance(seen[-1], BudgetExceededError)
    assert budget.totals().usage.total_tokens <= 100


def test_a_batch_stops_where_the_budget_ends() -> None:
    """The answers that fit are given, the others are errors, and the limit holds among threads."""
    budget = Budget(usd=40 * (cost(served(ANSWER), INFO) or 0))
    rig = priced(FaultScript(default=ANSWER), max_tokens=20)
    with CostCallback(budget=budget) as counted:
        results = rig.model.batch(["Hello"] * 200, config={"max_concurrency": 8}, return_exceptions=True)
    whole = [each for each in results if isinstance(each, AIMessage)]
    refused = [each for each in results if isinstance(each, BudgetExceededError)]
    assert len(whole) + len(refused) == 200
    assert 0 < len(whole) == counted.totals.calls == len(rig.transport.requests) < 200
    assert budget.totals().cost <= (budget.usd or 0)


def test_calls_at_the_same_time_cannot_pass_the_limit_together() -> None:
    """Each reserves before it is sent: as many as fit are under way, however late their answers come."""
    gate, under_way = threading.Barrier(3, timeout=60), threading.Semaphore(0)

    class Slow(Foreign):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            under_way.release()
            gate.wait()
            return super()._generate(*args, **kwargs)

    counted = CostCallback(budget=Budget(tokens=450))
    outcomes: list[object] = []

    def one() -> None:
        try:
            outcomes.append(Slow().invoke("Hello", max_tokens=200, config={"callbacks": [counted]}))
        except BudgetExceededError as error:
            outcomes.append(error)

    first = [threading.Thread(target=one) for _ in range(2)]
    for thread in first:
        thread.start()
    for _ in first:
        assert under_way.acquire(timeout=60)
    one()  # the third does not fit beside the two that have not answered
    assert isinstance(outcomes[0], BudgetExceededError)
    assert "reserved by calls under way" in str(outcomes[0])
    gate.wait()
    for thread in first:
        thread.join()
    assert counted.totals.calls == 2


def test_an_agent_stops_in_the_middle_of_its_run() -> None:
    """The second round of an agent is refused when only the first one fits."""
    looping = Answer("", tool_calls=[("look", {})])
    rig = priced(FaultScript(default=looping), max_tokens=60)
    budget = Budget(tokens=250)

    def look() -> str:
        """Look around."""
        return "nothing"

    agent = create_agent(rig.model, [look])
    with CostCallback(budget=budget), pytest.raises(BudgetExceededError):
        agent.invoke({"messages": [("user", "Look!")]})
    assert 1 <= len(rig.transport.requests) < 20
    assert budget.totals().usage.total_tokens <= 250


# LangChain drops what it had prepared for the handlers behind one that raises, and Python says so.
@pytest.mark.filterwarnings("ignore:coroutine 'ahandle_event' was never awaited")
@pytest.mark.parametrize("mode", MODES)
def test_a_fallback_spends_from_the_same_budget(mode: str) -> None:
    """Members are held to it one by one, and a limit ends the call instead of going on to the next member."""
    broken = Fault("role_only", answer=ANSWER)
    model, rig = fallback(FaultScript([broken, ANSWER, ANSWER]), max_tokens=30)
    budget = Budget(tokens=60)
    ask(mode, model, callbacks=[CostCallback(budget=budget)])
    assert budget.totals().usage.total_tokens == 30
    assert budget.reserved.tokens == 0
    with pytest.raises(BudgetExceededError):
        ask(mode, model, callbacks=[CostCallback(budget=budget)])
    assert len(rig.transport.requests) == 2
    assert budget.reserved.tokens == 0
    gc.collect()


def test_dollars_cannot_limit_what_has_no_price() -> None:
    """Such a call is refused, unless it is allowed to be outside of the limit, or its price is given."""
    with pytest.raises(BudgetExceededError, match="its price is not known"):
        Foreign().invoke("Hello", config={"callbacks": [CostCallback(budget=Budget(usd=1))]})
    allowed = CostCallback(budget=Budget(usd=1, unpriced="allow"))
    known = CostCallback(budget=Budget(usd=1), prices={"other/model": (1.0, 10.0)})
    Foreign().invoke("Hello", config={"callbacks": [allowed, known]})
    assert allowed.totals.unpriced_calls == 1
    assert known.total_cost == pytest.approx(90e-6)


def test_a_list_of_models_is_bounded_by_its_dearest() -> None:
    """The gateway may give the call to any of them."""
    rig = priced([ANSWER], model=f"{MODEL},zai-org/GLM-5.2-TEE:latency", max_tokens=1_000)
    dearest = Catalog.bundled().model("zai-org/GLM-5.2-TEE")
    with pytest.raises(BudgetExceededError):
        rig.model.invoke("Hi", config={"callbacks": [CostCallback(budget=Budget(usd=1e-3 * (dearest.price_out or 0)))]})
    rig.model.invoke("Hi", config={"callbacks": [CostCallback(budget=Budget(usd=2e-3 * (dearest.price_out or 0)))]})
    assert len(rig.transport.requests) == 1


def test_an_inner_limit_gives_back_what_an_outer_one_reserved() -> None:
    """Two budgets around a call are kept both, and a refusal leaves nothing reserved."""
    rig = priced([ANSWER])
    outer = Budget(tokens=10**6)
    with CostCallback(budget=outer), CostCallback(budget=Budget(tokens=10)), pytest.raises(BudgetExceededError):
        rig.model.invoke("Hello")
    assert outer.reserved.tokens == 0


def test_it_is_no_burden_to_other_handlers() -> None:
    """Handlers beside it see what they always see, and a copy of a model counts in the same place."""
    seen: list[str] = []

    class Beside(BaseCallbackHandler):
        def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            seen.append("end")

    rig = priced(FaultScript(default=ANSWER), callbacks=[Beside()])
    with CostCallback() as counted:
        list(rig.model.stream("Hello"))
    assert seen == ["end"]
    assert copy.deepcopy(counted) is copy.copy(counted) is counted
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(counted)
    assert repr(counted).startswith("<CostCallback: 1 call, 15 tokens, $")


def test_only_a_budget_is_a_budget() -> None:
    """A number is refused, with what to give instead."""
    with pytest.raises(ConfigurationError, match=r"Budget\(usd="):
        CostCallback(budget=5)  # type: ignore[arg-type]
    assert isinstance(ChatChutes(model=MODEL, api_key="cpk_0123").ledger, object)


# -------------------------------------------------------------------------- what only the client can tell


@pytest.mark.parametrize("mode", MODES)
def test_tries_that_failed_are_in_the_sum(mode: str) -> None:
    """A client that tried again has used the tokens of each try."""
    rig = priced([Fault("role_only", answer=ANSWER), ANSWER], max_retries=1)
    with CostCallback() as counted:
        ask(mode, rig.model)
    assert counted.totals.calls == 2
    assert counted.totals.usage == served(ANSWER, ANSWER)
    assert rig.model.ledger.totals().usage == counted.totals.usage


def test_streams_that_are_left_early_are_in_the_sum() -> None:
    """What was used until then is billed; streams that are read in turns do not mix up their runs."""
    rig = priced(FaultScript(default=ANSWER))
    with CostCallback() as counted:
        first, second = (rig.model.stream("Hello", config={"run_name": name}) for name in "ab")
        for stream in (first, second, first):
            next(stream)
        first.close()  # type: ignore[attr-defined]
        list(second)
        gc.collect()
    assert {run.name: run.totals().usage.completion_tokens for run in counted.runs} == {"a": 2, "b": 4}
    assert rig.model.ledger.totals().usage == counted.totals.usage


def test_embeddings_in_a_block_are_in_the_sum(server: Any) -> None:
    """LangChain tells nobody of them; the client does."""
    host = server.embedding_base_url
    embeddings = ChutesEmbeddings(api_key=server.api_key, base_url=server.base_url, embedding_base_url=host)
    with CostCallback() as counted:
        embeddings.embed_documents(["one", "two"])
        asyncio.run(embeddings.aembed_query("three"))
    assert counted.totals.calls == 2
    assert counted.totals.usage == embeddings.ledger.totals().usage
    assert counted.total_tokens > 0


def test_embeddings_that_could_pass_the_limit_are_not_sent(server: Any) -> None:
    """Each request is held to the budgets of the blocks around it, also while a stream of a model is open."""
    host = server.embedding_base_url
    embeddings = ChutesEmbeddings(api_key=server.api_key, base_url=server.base_url, embedding_base_url=host)
    rig = priced(FaultScript(default=ANSWER), max_tokens=20)
    with CostCallback(budget=Budget(tokens=10_000)) as outer, CostCallback(budget=Budget(tokens=60)) as inner:
        embeddings.embed_documents(["one", "two"])
        with pytest.raises(BudgetExceededError, match="this call may use up to"):
            embeddings.embed_documents(["word " * 50])
        with pytest.raises(BudgetExceededError):
            asyncio.run(embeddings.aembed_query("word " * 50))
        stream = rig.model.stream("Hello")
        next(stream)
        with pytest.raises(BudgetExceededError):
            embeddings.embed_documents(["word " * 30])
        list(stream)
    for each in (outer, inner):
        assert each.budget is not None
        assert each.budget.reserved.tokens == 0
        assert each.totals.calls == each.budget.totals().calls == 2


@pytest.mark.parametrize("mode", MODES)
def test_a_budget_may_be_a_models_ledger(mode: str) -> None:
    """Then the model itself keeps to it, without any callback, and a callback beside it counts once."""
    budget = Budget(tokens=60)
    rig = priced(FaultScript(default=ANSWER), ledger=budget, max_tokens=20)
    counted = CostCallback(budget=budget)
    ask(mode, rig.model, callbacks=[counted])
    assert budget.totals().calls == counted.totals.calls == 1
    ask(mode, rig.model)
    ask(mode, rig.model)
    with pytest.raises(BudgetExceededError):
        ask(mode, rig.model)
    assert budget.totals().usage.total_tokens <= 60
    assert budget.reserved.tokens == 0


@pytest.mark.parametrize("streams", [False, True])
async def test_a_call_that_is_cancelled_gives_its_reservation_back(streams: bool) -> None:
    """LangChain tells no handler that a call was cancelled: the client does."""
    made = priced([Fault("hang")], max_tokens=20)
    made.clock.asleep = _for_ever  # type: ignore[method-assign]
    budget = Budget(tokens=1000)

    async def asked() -> None:
        with CostCallback(budget=budget):
            if streams:
                async for _ in made.model.astream("Say hello."):
                    pass
            else:
                await made.model.ainvoke("Say hello.")

    task = asyncio.create_task(asked())
    for _ in range(1000):
        await asyncio.sleep(0)
    assert budget.reserved.tokens
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not budget.reserved.tokens


class Hanging(Foreign):
    """A model of another provider that never answers."""

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        await asyncio.Event().wait()
        raise AssertionError

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk("Hi"))
        await asyncio.Event().wait()


@pytest.mark.parametrize("how", ["cancel", "wait_for", "timeout"])
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("falls", [False, True])
async def test_a_cancelled_call_of_others_gives_its_reservation_back(falls: bool, streams: bool, how: str) -> None:
    """LangChain tells nobody, and no client of ours is there to say so: the end of the run itself does."""
    budget = Budget(tokens=100_000, reply_tokens=100)
    counted = CostCallback(budget=budget)
    model: Any = ChutesFallback([Hanging(), Hanging()], health=None) if falls else Hanging()

    async def asked() -> None:
        config = {"callbacks": [counted]}
        if streams:
            async for _ in model.astream("Hello", config=config):
                pass
        else:
            await model.ainvoke("Hello", config=config)

    limits: list[asyncio.Timeout] = []

    async def limited() -> None:
        async with asyncio.timeout(None) as limit:
            limits.append(limit)
            await asked()

    task = asyncio.create_task(limited() if how == "timeout" else asked())
    for _ in range(50):
        await asyncio.sleep(0)
    assert budget.reserved.tokens
    if how == "cancel":
        task.cancel()
    elif how == "timeout":
        limits.pop().reschedule(asyncio.get_running_loop().time())
    with pytest.raises((asyncio.CancelledError, TimeoutError)):
        await (asyncio.wait_for(task, 0) if how == "wait_for" else task)
    del task
    await asyncio.sleep(0)
    gc.collect()
    assert not budget.reserved.tokens
    await Foreign().ainvoke("Hello", config={"callbacks": [counted]})
    assert counted.totals.calls == 1


def test_a_limit_is_an_error_that_nobody_retries() -> None:
    """It is one of LangChain's too, which its retries ask whether another try may help."""
    rig = priced([ANSWER])
    agent = create_agent(rig.model, middleware=[ModelRetryMiddleware(max_retries=3, on_failure="error")])
    for config in ({"callbacks": [CostCallback(budget=Budget(tokens=1))]}, {}):
        rig.model.ledger = Budget(tokens=1)
        with pytest.raises(ModelError) as caught:
            agent.invoke({"messages": [("user", "Hello")]}, config)  # type: ignore[arg-type, call-overload]
        assert isinstance(caught.value, BudgetExceededError)
        assert not caught.value.is_retryable
    assert rig.transport.requests == []


async def _for_ever(seconds: float) -> None:
    await asyncio.Event().wait()
