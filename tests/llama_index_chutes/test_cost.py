"""CostHandler: what is added up is what the service counted, and a budget stops calls before they are sent."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata
from llama_index.core.callbacks import CallbackManager
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.custom import CustomLLM

from chutes_core import APIError, Budget, BudgetExceededError, Catalog, ConfigurationError, Usage, cost
from chutes_core.testing import Answer, Fault, FaultScript
from llama_index_chutes import ChutesFallback, CostHandler, FallbackError, FallbackPolicy

from .rigs import HELLO, MODEL, STREAMS, STYLES, TOOLS, ask, connection, rig
from .test_embeddings import Machine

OTHER = "google/gemma-4-31B-turbo-TEE"
INFO = Catalog.bundled().model(MODEL)
ANSWER = Answer("Hello there, friend.", pieces=4, prompt_tokens=11, cached_tokens=4)
BROKEN = Fault("role_only", answer=ANSWER)


def served(*answers: Answer) -> Usage:
    """What the service counts for whole answers."""
    told = [Usage.parse(answer.usage(len(answer.deltas()))) for answer in answers]
    return sum((usage for usage in told if usage is not None), Usage(0, 0, 0))


class Foreign(CustomLLM):
    """A model of another provider, which says what it used in its own words and nothing of its price."""

    max_retries: int = 0

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="other/model", num_output=200)

    def _answer(self, **more: Any) -> ChatResponse:
        raw = {"model": "other/model", "usage": {"input_tokens": 20, "output_tokens": 7}}
        return ChatResponse(message=ChatMessage("Hi", role="assistant"), raw=raw, **more)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._answer()

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse, None, None]:
        def chunks() -> Generator[ChatResponse, None, None]:
            yield self._answer(delta="Hi")

        return chunks()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text="Hi")

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("how", ["block", "manager"])
@pytest.mark.parametrize("style", STYLES)
def test_the_sum_is_what_the_service_counted(style: str, how: str) -> None:
    """Tokens, cached ones among them, and dollars of one call, in each of the eight ways to make it."""
    counted = CostHandler()
    made = rig([ANSWER], **({"callback_manager": CallbackManager([counted])} if how == "manager" else {}))
    if how == "block":
        with counted:
            ask(made.llm, style)
    else:
        ask(made.llm, style)
    assert counted.by_model().keys() == {MODEL}
    assert counted.totals.calls == 1
    assert counted.totals.usage == served(ANSWER)
    assert counted.total_cost == cost(served(ANSWER), INFO)
    assert (counted.total_tokens, counted.totals.unpriced_calls, counted.quota_remaining) == (15, 0, 199)


def test_a_block_ends_and_leaves_nothing_behind() -> None:
    """After it no call is counted, and no handler of it is left in a model or in the framework."""
    made = rig(FaultScript(default=ANSWER))
    before = list(get_dispatcher().span_handlers)
    with CostHandler() as outer:
        made.llm.chat(HELLO)
        with CostHandler() as inner, inner:
            made.llm.chat(HELLO)
            made.llm.chat(HELLO)
        made.llm.chat(HELLO)
    made.llm.chat(HELLO)
    assert (outer.totals.calls, inner.totals.calls) == (4, 2)
    assert made.llm.callback_manager.handlers == []
    assert [id(each) for each in get_dispatcher().span_handlers] == [id(each) for each in before]


def test_the_managers_of_the_settings_work_as_ever() -> None:
    """A handler in the manager of Settings counts once, also inside of a block of its own."""
    counted = CostHandler()
    made = rig(FaultScript(default=ANSWER), callback_manager=CallbackManager([counted]))
    with counted:
        made.llm.chat(HELLO)
    made.llm.chat(HELLO)
    assert counted.totals.calls == 2


@pytest.mark.parametrize("style", STREAMS)
def test_a_stream_that_broke_counts_what_it_used(style: str) -> None:
    """The tokens until the break were used, and so were billed."""
    made = rig([Fault("error_line", after=2, answer=ANSWER)])
    with CostHandler() as counted:
        assert ask(made.llm, style).error is not None
    used = Usage(11, 2, 13, cached_tokens=4)
    assert counted.totals.usage == used
    assert counted.total_cost == cost(used, INFO)


@pytest.mark.parametrize("style", STYLES)
def test_a_call_that_used_nothing_counts_nothing(style: str) -> None:
    """A refusal of the service costs nothing and is no call."""
    made = rig(["auth"])
    with CostHandler() as counted:
        assert ask(made.llm, style).error is not None
    assert counted.totals.calls == 0


def test_threads_share_one_sum() -> None:
    """Nothing is lost or doubled when many threads ask."""
    made = rig(FaultScript(default=ANSWER))
    with CostHandler() as counted, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: made.llm.chat(HELLO), range(40)))
    assert counted.totals.calls == 40
    assert counted.totals.usage == served(*[ANSWER] * 40)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_agents_calls_are_one_run() -> None:
    """All rounds of an agent are one run, and a call by itself is another."""
    steps = [Answer("", tool_calls=[("add", {"a": 20, "b": 22})]), Answer("It is 42.")]
    made = rig([*steps, ANSWER])

    async def work() -> None:
        await FunctionAgent(tools=TOOLS[:1], llm=made.llm).run("What is 20 + 22?")

    with CostHandler() as counted:
        asyncio.run(work())
        made.llm.chat(HELLO)
    agent, call = counted.runs
    assert (agent.totals().calls, agent.totals().usage) == (2, served(*steps))
    assert agent.name.endswith(".run")
    assert (call.name, call.totals().usage) == ("Chutes.chat", served(ANSWER))


@pytest.mark.parametrize("how", ["block", "settings"])
def test_a_query_is_one_run(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query's embedding and its answer belong together, in a block and in the manager of Settings."""
    counted = CostHandler()
    monkeypatch.setattr(Settings, "_callback_manager", None)
    if how == "settings":
        Settings.callback_manager = CallbackManager([counted])
    made = rig(FaultScript(default=ANSWER))
    with counted if how == "block" else nullcontext():
        index = VectorStoreIndex.from_documents([Document(text="Paris.")], embed_model=MockEmbedding(8))
        engine = index.as_query_engine(llm=made.llm)
        engine.query("What is the capital of France?")
        engine.query("And of Spain?")
    queries = [run for run in counted.runs if MODEL in run.by_model()]
    assert [run.totals().calls for run in queries] == [2, 2]
    assert {run.name.lower() for run in queries} <= {"query", "retrieverqueryengine.query"}


# ------------------------------------------------------------------------------------------- fallback


def fallback(script: FaultScript, *more: Any, **options: Any) -> Any:
    """Two models of ours over one script, and those of others behind them."""
    transport, _, settings = connection(script)
    return ChutesFallback([MODEL, OTHER, *more], policy=FallbackPolicy(order="given"), **settings, **options), transport


@pytest.mark.parametrize("style", STYLES)
def test_every_attempt_of_a_fallback_counts_once(style: str) -> None:
    """The failed member's tokens and the answering one's, each under its own name and price."""
    llm, _ = fallback(FaultScript(by_model={MODEL: [BROKEN], OTHER: [ANSWER]}))
    with CostHandler() as counted:
        ask(llm, style)
    sums = counted.by_model()
    assert sums[OTHER].usage == served(ANSWER)
    assert sums[OTHER].cost == cost(served(ANSWER), Catalog.bundled().model(OTHER))
    assert sums[MODEL].usage.total_tokens == 15
    assert counted.totals.calls == 2


@pytest.mark.parametrize("style", ["chat", "stream_chat", "achat", "astream_chat"])
def test_a_member_of_another_provider_counts_once_and_without_a_price(style: str) -> None:
    """Its tokens are counted; what they cost is unknown, not guessed."""
    llm, _ = fallback(FaultScript(["cold"] * 9), Foreign(), context_window=8_192)
    with CostHandler() as counted:
        ask(llm, style)
    assert counted.totals.usage == Usage(20, 7, 27)
    assert (counted.totals.calls, counted.totals.unpriced_calls, counted.total_cost) == (1, 1, 0.0)


def test_when_nobody_answers_what_was_used_still_counts() -> None:
    """The failure of all has used what each of them used."""
    llm, _ = fallback(FaultScript([BROKEN] * 20))
    llm.policy = FallbackPolicy(order="given", max_attempts=2)
    with CostHandler() as counted, pytest.raises(FallbackError):
        llm.chat(HELLO)
    assert counted.totals.usage.total_tokens == 30


@pytest.mark.parametrize("style", STREAMS)
def test_when_an_answer_breaks_the_tries_before_it_count_too(style: str) -> None:
    """The failure that is raised is one member's, and knows of those that were asked before it."""
    broken = Fault("error_line", after=2, answer=ANSWER)
    llm, _ = fallback(FaultScript(by_model={MODEL: [BROKEN], OTHER: [broken]}))
    llm.policy = FallbackPolicy(order="given", after_commit="raise")
    with CostHandler() as counted:
        assert isinstance(ask(llm, style).error, APIError)
    assert {name: sums.usage.total_tokens for name, sums in counted.by_model().items()} == {MODEL: 15, OTHER: 13}


def test_prices_of_others_can_be_given() -> None:
    """US dollars per million tokens of prompt and of answer."""
    with CostHandler(prices={"other/model": (1.0, 10.0)}) as counted:
        Foreign().chat(HELLO)
    assert counted.total_cost == pytest.approx(20e-6 + 70e-6)
    with CostHandler() as blind:
        Foreign().complete("Hello")
    assert (blind.totals.calls, blind.totals.unpriced_calls) == (1, 1)


def test_embeddings_of_others_are_calls_of_unknown_price() -> None:
    """Nobody says what they used, and nothing is made up."""
    with CostHandler() as counted:
        MockEmbedding(8).get_text_embedding("Hello")
    assert (counted.totals.calls, counted.totals.unpriced_calls, counted.total_tokens) == (1, 1, 0)


# --------------------------------------------------------------------------------------------- budget


@pytest.mark.parametrize("limit", [{"usd": 1e-6}, {"tokens": 100}])
@pytest.mark.parametrize("style", STYLES)
def test_a_call_that_could_pass_the_limit_is_not_sent(style: str, limit: dict[str, Any]) -> None:
    """The error says what the call may use and what is left, and the service hears nothing."""
    made = rig([ANSWER])
    with CostHandler(budget=Budget(**limit)) as counted:
        outcome = ask(made.llm, style)
    assert isinstance(outcome.error, BudgetExceededError)
    assert f"Nothing was sent to {MODEL}: this call may" in str(outcome.error)
    assert made.transport.requests == []
    assert counted.budget is outcome.error.budget is not None
    assert counted.budget.reserved.tokens == 0


@pytest.mark.parametrize("style", STYLES)
def test_what_was_used_takes_the_place_of_what_was_reserved(style: str) -> None:
    """A budget lasts for as many calls as their true use allows, and an error gives the reservation back."""
    budget = Budget(tokens=100)
    made = rig(FaultScript(["auth"], default=ANSWER), max_tokens=40)
    errors: list[type[Exception]] = []
    with CostHandler(budget=budget):
        for _ in range(8):
            if (error := ask(made.llm, style).error) is not None:
                errors.append(type(error))
            assert budget.reserved.tokens == 0
    assert errors[-1] is BudgetExceededError
    assert len(made.transport.requests) == 8 - errors.count(BudgetExceededError) >= 4
    assert budget.totals().usage.total_tokens <= 100


def test_threads_cannot_pass_the_limit_together() -> None:
    """However many ask at once, what is spent stays within the limit."""
    budget = Budget(usd=40 * (cost(served(ANSWER), INFO) or 0))
    made = rig(FaultScript(default=ANSWER), max_tokens=20)

    def one(_: int) -> bool:
        return ask(made.llm, "chat").error is None

    with CostHandler(budget=budget) as counted, ThreadPoolExecutor(8) as threads:
        whole = sum(threads.map(one, range(200)))
    assert 0 < whole == counted.totals.calls == len(made.transport.requests) < 200
    assert budget.totals().cost <= (budget.usd or 0)


def test_dollars_cannot_limit_what_has_no_price() -> None:
    """Such a call is refused, unless it is allowed to be outside of the limit."""
    with CostHandler(budget=Budget(usd=1)), pytest.raises(BudgetExceededError, match="its price is not known"):
        Foreign().chat(HELLO)
    with CostHandler(budget=Budget(usd=1, unpriced="allow")) as allowed:
        Foreign().chat(HELLO)
    assert allowed.totals.unpriced_calls == 1


def test_a_stream_that_outlives_its_block_holds_nothing() -> None:
    """What was reserved for it is given back with the block."""
    made = rig([ANSWER])
    budget = Budget(tokens=10**6)
    with CostHandler(budget=budget):
        chunks = made.llm.stream_chat(HELLO)
        next(chunks)
        assert budget.reserved.tokens > 0
    assert budget.reserved.tokens == 0
    chunks.close()  # type: ignore[attr-defined]


def test_it_stays_in_its_process() -> None:
    """A copied model counts in the same place; a pickle is refused; only a Budget is a budget."""
    counted = CostHandler()
    assert copy.deepcopy(counted) is copy.copy(counted) is counted
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(counted)
    with pytest.raises(ConfigurationError, match=r"Budget\(usd="):
        CostHandler(budget=5)  # type: ignore[arg-type]
    assert repr(counted) == "<CostHandler: 0 calls, 0 tokens, $0>"


# -------------------------------------------------------------------------- what only the client can tell


@pytest.mark.parametrize("style", STYLES)
def test_tries_that_failed_are_in_the_sum(style: str) -> None:
    """A client that tried again has used the tokens of each try."""
    made = rig([BROKEN, ANSWER], max_retries=1)
    with CostHandler() as counted:
        assert ask(made.llm, style).error is None
    assert counted.totals.calls == 2
    assert counted.totals.usage == made.llm.ledger.totals().usage == served(ANSWER, ANSWER)


def test_streams_that_are_left_early_are_in_the_sum() -> None:
    """What was used until then is billed."""
    made = rig([ANSWER])
    with CostHandler() as counted:
        chunks = made.llm.stream_chat(HELLO)
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        gc.collect()
    assert counted.totals.usage == made.llm.ledger.totals().usage == Usage(11, 1, 12, cached_tokens=4)


def test_embeddings_are_in_the_sum() -> None:
    """LlamaIndex tells nobody what they used; the client does, each request once."""
    embedding = Machine().embedding(embed_batch_size=2)
    with CostHandler() as counted:
        embedding.get_text_embedding_batch(["one", "two", "three"])
        asyncio.run(embedding.aget_text_embedding_batch(["four", "five", "six"]))
        embedding.get_query_embedding("seven")
    assert counted.totals.calls == 5
    assert counted.totals.usage == embedding.ledger.totals().usage
    assert counted.total_tokens > 0


@pytest.mark.parametrize("style", STYLES)
def test_a_budget_may_be_a_models_ledger(style: str) -> None:
    """Then the model itself keeps to it, without any handler, and a handler beside it counts once."""
    budget = Budget(tokens=60)
    made = rig(FaultScript(default=ANSWER), ledger=budget, max_tokens=20)
    with CostHandler(budget=budget) as counted:
        assert ask(made.llm, style).error is None
    assert budget.totals().calls == counted.totals.calls == 1
    errors = [ask(made.llm, style).error for _ in range(4)]
    assert isinstance(errors[-1], BudgetExceededError)
    assert budget.totals().usage.total_tokens <= 60
