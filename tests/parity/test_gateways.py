"""Whose price it is: of a gateway of one's own, of the model of a list that answered; in all ways to ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from llama_index.core.base.llms.types import ChatMessage

from chutes_core import Budget, BudgetExceededError, ChutesClient, Ledger
from chutes_core.catalog import Catalog
from langchain_chutes import ChatChutes, CostCallback
from langchain_chutes import ChutesFallback as LangChainFallback
from llama_index_chutes import Chutes, CostHandler
from llama_index_chutes import ChutesFallback as LlamaIndexFallback

MODEL, OTHER = "Qwen/Qwen3-32B-TEE", "zai-org/GLM-5.1-TEE"
URL = "https://gateway.test/v1"
TOKENS = {"prompt_tokens": 1_000, "completion_tokens": 1_000, "total_tokens": 2_000}
QUOTA = {"x-chutes-quota-total": "200", "x-chutes-quota-used": "3", "x-chutes-quota-remaining": "197"}
HEADERS = {**QUOTA, "x-chutes-rl-user": "60", "x-chutes-invoice-billing": "true"}
OWN = 0.003  # by the prices of the gateway: 1 and 2 dollars for a million
ROW = {"id": MODEL, "context_length": 8_192, "max_output_length": 2_000, "chute_id": "0a" * 4}


@dataclass
class Gateway:
    """A gateway with a list of models of its own; None if it has none."""

    rows: list[dict[str, Any]] | None
    asked: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        if request.method == "GET":
            return httpx.Response(404) if self.rows is None else httpx.Response(200, json={"data": self.rows})
        body = json.loads(request.content)
        message, end = {"role": "assistant", "content": "Hi"}, {"index": 0, "finish_reason": "stop"}
        self.models.append(body["model"])
        told = {"id": "r", "model": MODEL, "usage": TOKENS}
        if not body["stream"]:
            return httpx.Response(200, headers=HEADERS, json={**told, "choices": [{**end, "message": message}]})
        chunk = json.dumps({**told, "choices": [{**end, "delta": message}]})
        return httpx.Response(
            200, headers={**HEADERS, "content-type": "text/event-stream"}, text=f"data: {chunk}\n\ndata: [DONE]\n\n"
        )

    @property
    def calls(self) -> int:
        return self.asked.count("POST /v1/chat/completions")

    @property
    def lists(self) -> int:
        return self.asked.count("GET /v1/models")


def priced() -> Gateway:
    return Gateway([{**ROW, "pricing": {"prompt": 1.0, "completion": 2.0}}])


def unpriced() -> Gateway:
    return Gateway([ROW])


def unlisted() -> Gateway:
    return Gateway(None)


class LangChain:
    """LangChain's model, and its handler."""

    handler = CostCallback

    def __init__(self, gateway: Gateway, *, fallback: bool = False, **more: Any) -> None:
        transport = httpx.MockTransport(gateway)
        clients = {
            "http_client": httpx.Client(transport=transport),
            "http_async_client": httpx.AsyncClient(transport=transport),
        }
        own: Any = {"api_key": "cpk_test", "base_url": URL, "max_retries": 0, "max_tokens": 1_000, **clients, **more}
        self.single = ChatChutes(**{"model": MODEL, **own})
        self.model: Any = LangChainFallback([self.single]) if fallback else self.single

    def ask(self, way: str) -> Any:
        """Return what is told of the answer."""
        if way == "whole":
            return self.model.invoke("Hi").response_metadata
        if way == "stream":
            parts = list(self.model.stream("Hi"))
        elif way == "whole async":
            return asyncio.run(self.model.ainvoke("Hi")).response_metadata
        else:
            parts = asyncio.run(_all(lambda: self.model.astream("Hi")))
        return {name: value for part in parts for name, value in part.response_metadata.items()}


class LlamaIndex:
    """LlamaIndex's model, and its handler."""

    handler = CostHandler

    def __init__(self, gateway: Gateway, *, fallback: bool = False, **more: Any) -> None:
        transport = httpx.MockTransport(gateway)
        clients = {
            "http_client": httpx.Client(transport=transport),
            "async_http_client": httpx.AsyncClient(transport=transport),
        }
        own: Any = {"api_key": "cpk_test", "api_base": URL, "max_retries": 0, "max_tokens": 1_000, **clients, **more}
        self.single = Chutes(**{"model": MODEL, **own})
        self.model: Any = LlamaIndexFallback([self.single]) if fallback else self.single

    def ask(self, way: str) -> Any:
        """Return what is told of the answer."""
        said = [ChatMessage("Hi")]
        if way == "whole":
            raw = self.model.chat(said).raw
        elif way == "stream":
            raw = list(self.model.stream_chat(said))[-1].raw
        elif way == "whole async":
            raw = asyncio.run(self.model.achat(said)).raw
        else:
            raw = asyncio.run(_awaited(self.model, said))[-1].raw
        return {**raw["chutes"], "model_name": raw["model"]}


async def _all(stream: Callable[[], Any]) -> list[Any]:
    return [part async for part in stream()]


async def _awaited(model: Any, said: Any) -> list[Any]:
    return [part async for part in await model.astream_chat(said)]


FACES: Any = pytest.mark.parametrize("face", [LangChain, LlamaIndex], ids=["langchain", "llama_index"])
WAYS = pytest.mark.parametrize("way", ["whole", "stream", "whole async", "stream async"])
SORTS = pytest.mark.parametrize("fallback", [False, True], ids=["model", "fallback"])


@FACES
@WAYS
@SORTS
def test_before_the_list_is_known_the_price_is_unknown(face: Any, way: str, fallback: bool) -> None:
    """The service's price of a model of that name is not taken for it, in the ledger or a handler."""
    gateway, ledger = priced(), Ledger()
    asking = face(gateway, fallback=fallback, ledger=ledger)
    with face.handler() as cost:
        told = asking.ask(way)
    assert "cost" not in told
    for totals in (ledger.totals(), cost.totals):
        assert (totals.calls, totals.cost, totals.unpriced_calls, totals.usage.total_tokens) == (1, 0, 1, 2_000)
    assert gateway.lists == 0


@FACES
@WAYS
@SORTS
def test_a_limit_in_dollars_asks_for_the_prices_once(face: Any, way: str, fallback: bool) -> None:
    """What is reserved and spent are then the gateway's own prices."""
    gateway = priced()
    asking = face(gateway, fallback=fallback)
    budget = Budget(usd=3 * OWN)
    with face.handler(budget=budget) as cost:
        asking.ask(way)
        asking.ask(way)
        asking.ask(way)
        with pytest.raises(BudgetExceededError, match="with \\$0 of"):
            asking.ask(way)
    assert (gateway.lists, gateway.calls) == (1, 3)
    assert (cost.total_cost, cost.totals.unpriced_calls) == (pytest.approx(3 * OWN), 0)
    assert budget.reserved.tokens == 0


@FACES
@WAYS
@SORTS
@pytest.mark.parametrize("gateway", [unpriced, unlisted])
def test_where_it_says_no_price_such_a_limit_refuses_the_call(
    face: Any, way: str, fallback: bool, gateway: Callable[[], Gateway]
) -> None:
    """At the door, whoever holds the limit; and its owner may allow it, or give the price."""
    there = gateway()
    asking = face(there, fallback=fallback)
    for _ in range(2):
        with face.handler(budget=Budget(usd=5)), pytest.raises(BudgetExceededError, match="price is not known"):
            asking.ask(way)
    with pytest.raises(BudgetExceededError, match="price is not known"):
        face(there, fallback=fallback, ledger=Budget(usd=5)).ask(way)
    assert (there.calls, there.lists) == (0, 2)  # once by each of the two models
    with face.handler(budget=Budget(usd=5, unpriced="allow")) as allowed:
        asking.ask(way)
    assert (allowed.total_cost, allowed.totals.unpriced_calls) == (0, 1)
    with face.handler(budget=Budget(usd=5), prices={MODEL: (10.0, 10.0)}) as given:
        asking.ask(way)
    assert given.total_cost == pytest.approx(0.02)


@FACES
@WAYS
def test_a_budget_may_be_the_ledger(face: Any, way: str) -> None:
    """Of a model by itself, without a handler."""
    gateway, budget = priced(), Budget(usd=OWN)
    asking = face(gateway, ledger=budget)
    asking.ask(way)
    with pytest.raises(BudgetExceededError, match="may cost up to"):
        asking.ask(way)
    assert (gateway.lists, gateway.calls, budget.totals().cost) == (1, 1, pytest.approx(OWN))


@FACES
@WAYS
@SORTS
def test_what_the_service_says_of_the_account_is_told(face: Any, way: str, fallback: bool) -> None:
    """Quota, rate limit and invoice: beside the answer, and in a handler as the latest answer said."""
    asking = face(unlisted(), fallback=fallback)
    with face.handler() as cost:
        told = asking.ask(way)
    assert [told[name] for name in ("quota_total", "quota_used", "quota_remaining")] == [200, 3, 197]
    assert (told["rate_limit_user"], told["invoice_billing"]) == ("60", True)
    assert (cost.quota_remaining, cost.rate_limit_user) == (197, "60")


ROUTES = {
    f"{OTHER},{MODEL}": f"{OTHER},{MODEL}",
    f"{OTHER}, {MODEL}:latency": f"{OTHER},{MODEL}:latency",
    f"{OTHER.lower()},Qwen/Qwen3-32B:THROUGHPUT": f"{OTHER},{MODEL}:throughput",
    f"{MODEL}:latency": f"{MODEL}:latency",
    f"{OTHER},{MODEL}:THINKING": f"{OTHER},{MODEL}",
    "my-alias": "my-alias",
    "my-alias:latency": "my-alias:latency",
}
"""Names that the gateway chooses by, and what is sent of them."""


@FACES
@WAYS
@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.filterwarnings("ignore:The catalogue does not know the context window of 'my-alias")
def test_of_several_models_the_one_that_answered_is_told_and_paid(face: Any, way: str, name: str) -> None:
    """A list, a strategy or an alias: its name and its price, in the answer, the ledger and a handler."""
    gateway, ledger = unlisted(), Ledger()
    asking = face(gateway, model=name, catalog=Catalog.bundled(), ledger=ledger, max_tokens=None)
    with face.handler() as cost:
        told = asking.ask(way)
    assert gateway.models == [ROUTES[name]]
    assert told["model_name"] == MODEL
    assert ledger.by_model().keys() == cost.by_model().keys() == {MODEL}
    assert ledger.totals().cost == cost.total_cost == pytest.approx(0.00052)


@pytest.mark.parametrize("name", ROUTES)
def test_what_all_of_a_list_can_do_is_what_it_can_do(name: str) -> None:
    """The smallest window, and the shared features; of an alias nothing is known."""
    options: Any = {"model": name, "api_key": "cpk_test", "catalog": Catalog.bundled()}
    profile, known = ChatChutes(**options).profile or {}, name in ROUTES and not name.startswith("my-")
    assert profile.get("max_input_tokens") == (40_960 if known else None)
    assert profile.get("tool_calling") is (True if known else None)
    if known:
        told = Chutes(**options).metadata
        assert (told.context_window, told.is_function_calling_model) == (40_960, True)


def test_a_limit_in_dollars_takes_the_dearest_of_a_list_and_needs_a_price_for_an_alias() -> None:
    """Which of them answers is not known before; what an alias stands for, only the service knows."""
    for name, prices, passes in (
        (f"{OTHER},{MODEL}:latency", {}, False),
        (MODEL, {}, True),
        ("my-alias", {}, False),
        ("my-alias", {"my-alias": (0.1, 0.4)}, True),
    ):
        asking = LangChain(unlisted(), model=name, catalog=Catalog.bundled())
        with CostCallback(budget=Budget(usd=0.001), prices=prices):
            if passes:
                asking.ask("whole")
            else:
                with pytest.raises(BudgetExceededError):
                    asking.ask("whole")


def test_langchain_tells_the_cost_in_the_metadata() -> None:
    """With the gateway's own price once its list is known, and none before."""
    asking = LangChain(priced())
    assert "cost" not in asking.model.invoke("Hi").response_metadata
    asking.model.client.models()
    assert asking.model.invoke("Hi").response_metadata["cost"] == pytest.approx(OWN)


@FACES
@WAYS
def test_a_catalogue_that_was_given_holds(face: Any, way: str) -> None:
    """Whoever gives one vouches for its prices, and nothing is asked."""
    gateway = unlisted()
    asking = face(gateway, catalog=Catalog.bundled())
    with face.handler() as cost:
        asking.ask(way)
    assert cost.total_cost == pytest.approx(0.00052)
    assert gateway.lists == 0


def test_what_the_service_asks_is_not_asked_here() -> None:
    """The address may come from the environment too; the service's own is as ever."""
    with ChutesClient("cpk_test", base_url=URL) as client:
        assert client.catalog.model(MODEL).price_in is None
    with ChutesClient("cpk_test") as client:
        assert client.catalog.model(MODEL).price_in == 0.104
