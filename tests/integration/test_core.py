"""The core against the embedded Chutes on real sockets: every fault, every call, and the accounts agree."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from chutes_core import (
    APIError,
    AsyncChutesClient,
    CapacityError,
    ChutesClient,
    ColdModelError,
    ContextLengthError,
    Kind,
    PaymentRequiredError,
    RateLimitError,
    Reply,
    TimeLimits,
)
from chutes_local import LocalChutes

MODEL = "Qwen/Qwen3-32B-TEE"
EMBEDDER = "Qwen/Qwen3-Embedding-8B-TEE"
HELLO = [{"role": "user", "content": "Please say something of a few words."}]
MODES = ["sync-whole", "sync-stream", "async-whole", "async-stream"]
LIMITS = TimeLimits(connect=2, first_token=0.3, gap=0.3, total=5)
LATE = {Kind.FIRST_TOKEN_TIMEOUT, Kind.STALL, Kind.TOTAL_TIMEOUT}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def options(server: LocalChutes, **more: Any) -> dict[str, Any]:
    return {
        "base_url": server.base_url,
        "embedding_base_url": server.embedding_base_url,
        "management_url": server.management_url,
        **more,
    }


def ask(
    mode: str, server: LocalChutes, messages: Any = HELLO, *, model: str = MODEL, params: Any = None, **more: Any
) -> Reply:
    """Make one call in one of the four modes."""
    params = params or {}
    stream = mode.endswith("stream")
    if mode.startswith("sync"):
        with ChutesClient(more.pop("key", server.api_key), **options(server, **more)) as client:
            if not stream:
                return client.chat(messages, model=model, **params)
            with client.stream(messages, model=model, **params) as steps:
                text = "".join(delta.content for delta in steps)
                assert text == steps.reply.content
                return steps.reply

    async def waiting() -> Reply:
        async with AsyncChutesClient(more.pop("key", server.api_key), **options(server, **more)) as client:
            if not stream:
                return await client.chat(messages, model=model, **params)
            async with client.stream(messages, model=model, **params) as steps:
                text = "".join([delta.content async for delta in steps])
                assert text == steps.reply.content
                return steps.reply

    return asyncio.run(waiting())


# What each fault comes to: its kind in a stream and in a reply in one piece; None is a whole answer.
FAULTS: dict[str, tuple[Kind | None, Kind | None]] = {
    "capacity": (Kind.CAPACITY, Kind.CAPACITY),
    "retry_after": (Kind.CAPACITY, Kind.CAPACITY),
    "account_limit": (Kind.ACCOUNT_LIMIT, Kind.ACCOUNT_LIMIT),
    "rate_limit": (Kind.ENDPOINT_LIMIT, Kind.ENDPOINT_LIMIT),
    "keyless": (Kind.EDGE_LIMIT, Kind.EDGE_LIMIT),
    "cold": (Kind.COLD, Kind.COLD),
    "disabled": (Kind.DISABLED, Kind.DISABLED),
    "exhausted": (Kind.EXHAUSTED, Kind.EXHAUSTED),
    "no_infrastructure": (Kind.EXHAUSTED, Kind.EXHAUSTED),
    "empty_500": (Kind.UPSTREAM, Kind.UPSTREAM),
    "bad_gateway": (Kind.BAD_GATEWAY, Kind.BAD_GATEWAY),
    "gateway_timeout": (Kind.GATEWAY_TIMEOUT, Kind.GATEWAY_TIMEOUT),
    "quota": (Kind.PAYMENT, Kind.PAYMENT),
    "subscription_cap": (Kind.PLAN_CAP, Kind.PLAN_CAP),
    "tee_balance": (Kind.TEE_PAYMENT, Kind.TEE_PAYMENT),
    "owner_balance": (Kind.OWNER_PAYMENT, Kind.OWNER_PAYMENT),
    "auth": (Kind.AUTHENTICATION, Kind.AUTHENTICATION),
    "forbidden": (Kind.PERMISSION, Kind.PERMISSION),
    "not_found": (Kind.MODEL_NOT_FOUND, Kind.MODEL_NOT_FOUND),
    "not_tee": (Kind.NOT_CONFIDENTIAL, Kind.NOT_CONFIDENTIAL),
    "overflow": (Kind.CONTEXT_LENGTH, Kind.CONTEXT_LENGTH),
    "bad_request": (Kind.BAD_REQUEST, Kind.BAD_REQUEST),
    "too_large": (Kind.TOO_LARGE, Kind.TOO_LARGE),
    "garbage": (Kind.MALFORMED, Kind.MALFORMED),
    "hang": (Kind.FIRST_TOKEN_TIMEOUT, Kind.TOTAL_TIMEOUT),
    "hang_after_headers": (Kind.FIRST_TOKEN_TIMEOUT, Kind.TOTAL_TIMEOUT),
    "stall": (Kind.STALL, Kind.TOTAL_TIMEOUT),
    "reset": (Kind.RESET, Kind.RESET),
    "half_close": (Kind.RESET, Kind.RESET),
    "no_finish": (Kind.TRUNCATED, Kind.TRUNCATED),
    "error_line": (Kind.STREAM_ERROR, Kind.EXHAUSTED),
    "error_event": (Kind.STREAM_ERROR, Kind.EXHAUSTED),
    "restart": (Kind.RESTARTED, None),
    "malformed": (Kind.MALFORMED, Kind.MALFORMED),
    "empty": (Kind.EMPTY, Kind.MALFORMED),
    "role_only": (Kind.EMPTY, Kind.EMPTY),
    "reasoning_only": (Kind.EMPTY, Kind.EMPTY),
    "no_done": (None, None),
    "done_only": (Kind.TRUNCATED, None),
    "no_usage": (None, None),
    "cumulative_usage": (None, None),
    "final_usage": (None, None),
    "slow_drip(seconds=0.001)": (None, None),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_a_whole_answer_or_the_right_error(server: LocalChutes, fault: str, mode: str) -> None:
    """On a real socket each fault is what the table says, its text a prefix of the truth, and never a success."""
    truth = ask("sync-whole", server).content
    server.faults.parse(f"{MODEL}={fault}")
    kind = FAULTS[fault][0 if mode.endswith("stream") else 1]
    short = LIMITS if mode.endswith("stream") else TimeLimits(total=0.6)
    limits = short if kind in LATE else TimeLimits(total=60)  # a busy machine is no fault of the one under test
    if kind is None:
        reply = ask(mode, server, timeout=limits, max_retries=0)
        assert reply.content == truth
        return
    with pytest.raises(APIError) as caught:
        ask(mode, server, timeout=limits, max_retries=0)
    error = caught.value
    assert error.kind is kind
    assert truth.startswith(error.partial) or kind is Kind.EMPTY or not mode.endswith("stream")
    assert server.api_key not in str(error) + repr(error.body)


@pytest.mark.parametrize("mode", MODES)
def test_the_ledger_is_what_the_server_billed(server: LocalChutes, mode: str) -> None:
    """Tokens are counted once, as the server counts them, over whole answers."""
    total = 0
    for _ in range(3):
        usage = ask(mode, server).usage
        assert usage is not None
        total += usage.total_tokens
    server.journal.wait(3)
    billed = server.journal.billed(MODEL)
    assert total == billed.total


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["reasoning_content", "reasoning", "think"])
def test_reasoning_in_each_form(server: LocalChutes, mode: str, form: str) -> None:
    """Reasoning is kept apart from the answer whichever way the machine sends it."""
    server.change(MODEL, reasoning=form)
    reply = ask(mode, server, params={"reasoning": True})
    assert reply.reasoning
    assert reply.content
    assert "think>" not in reply.content + reply.reasoning


@pytest.mark.parametrize("mode", MODES)
def test_tools_come_whole(server: LocalChutes, mode: str) -> None:
    """Several calls whose pieces arrive interleaved are each valid."""
    server.change(MODEL, tool_calls=2, tool_deltas="interleaved")
    reply = ask(mode, server, params={"tools": [WEATHER], "tool_choice": "required"})
    assert len(reply.tool_calls) == 2
    assert all(set(call.args) == {"city"} for call in reply.tool_calls)
    assert reply.finish_reason == "tool_calls"
    assert len({call.id for call in reply.tool_calls}) == 2


@pytest.mark.parametrize("mode", MODES)
def test_a_list_of_models_says_who_answered(server: LocalChutes, mode: str) -> None:
    """With a routing list, reply.model is the member that served."""
    other = "google/gemma-4-31B-turbo-TEE"
    server.change(MODEL, busy=True)
    assert ask(mode, server, model=f"{MODEL},{other}").model == other


def test_headers_of_the_reply(server: LocalChutes) -> None:
    """Invocation and quota are on the reply."""
    meta = ask("sync-stream", server).meta
    assert meta.invocation_id
    assert meta.quota_remaining is not None


def test_a_request_the_gateway_would_refuse_is_made_fit(server: LocalChutes) -> None:
    """Patterns, roles, modern names and a schema reach the gateway in its own terms."""
    schema = {"type": "object", "properties": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}}, "required": ["zip"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    messages = [{"role": "developer", "content": "Answer in JSON."}, *HELLO]
    with pytest.warns(UserWarning, match="pattern"):
        reply = ask("sync-whole", server, messages, params={"response_format": wanted, "max_completion_tokens": 50})
    assert set(json.loads(reply.content)) == {"zip"}


@pytest.mark.parametrize(("key", "error"), [("cpk_poor", PaymentRequiredError), ("cpk_free", RateLimitError)])
def test_an_account_in_trouble(server: LocalChutes, key: str, error: type[APIError]) -> None:
    """Payment and account limits are told apart, and not retried."""
    with pytest.raises(error):
        ask("sync-whole", server, key=key)
    assert len(server.journal.entries) == 1


def test_retries_help_where_they_may(server: LocalChutes) -> None:
    """Two failures of the machines are overcome without a word."""
    server.faults.parse(f"{MODEL}=exhausted x1")
    with ChutesClient(server.api_key, **options(server)) as client:
        client._clock.sleep = lambda seconds: None  # type: ignore[method-assign]
        assert client.chat(HELLO, model=MODEL).content


def test_the_context_limit_is_said_with_its_numbers(server: LocalChutes) -> None:
    """An overflow tells the window and what was asked for."""
    server.faults.parse(f"{MODEL}=overflow")
    with pytest.raises(ContextLengthError) as caught:
        ask("sync-whole", server)
    assert caught.value.limit == 40960
    assert caught.value.requested is not None
    assert caught.value.requested > 40960


def test_embeddings_in_order_whatever_the_machine_refuses(server: LocalChutes) -> None:
    """Refused dimensions are made up for, rows out of order put back, and a short reply is an error."""
    texts = [f"text number {number}" for number in range(40)]
    with ChutesClient(server.api_key, **options(server, max_retries=0)) as client:
        plain = client.embed(texts, model=EMBEDDER).vectors
        server.faults.parse(f"{EMBEDDER}=shuffled")
        assert client.embed(texts, model=EMBEDDER).vectors == plain
        server.faults.clear()
        for refusal in ("refuse_400", "refuse_422", "refuse_500"):
            server.change(EMBEDDER, dimensions=refusal)
            client._embed_steps.clear()
            short = client.embed(texts, model=EMBEDDER, dimensions=200).vectors
            assert [len(vector) for vector in short] == [200] * 40
            length = sum(number * number for number in plain[0][:200]) ** 0.5
            assert short[0] == pytest.approx([number / length for number in plain[0][:200]])
        server.faults.parse(f"{EMBEDDER}=short")
        with pytest.raises(APIError):
            client.embed(texts, model=EMBEDDER)


def test_catalogue_account_and_warm_up(server: LocalChutes) -> None:
    """The service's own pages, and a cold model that is woken."""
    with ChutesClient(server.api_key, **options(server, max_retries=0)) as client:
        client.refresh_catalog()
        assert client.catalog.source == "live"
        assert MODEL in client.catalog
        assert client.utilization()
        assert client.account.me().username
        assert client.account.subscription() is not None
        assert isinstance(client.account.quotas(), list)
        assert client.account.usage() is not None
        server.change(MODEL, machines=0)
        with pytest.raises((ColdModelError, CapacityError)):
            client.chat(HELLO, model=MODEL)
        assert [status.hot for status in client.warm_up(MODEL)][-1]
        assert client.chat(HELLO, model=MODEL).content


@pytest.mark.local
def test_real_models_answer(model_server: LocalChutes) -> None:
    """With the real models: a streamed answer, a tool call, a form filled in, and texts told apart."""
    with ChutesClient(model_server.api_key, **options(model_server)) as client:
        with client.stream([{"role": "user", "content": "Name a colour."}], model=MODEL, max_tokens=16) as stream:
            assert "".join(delta.content for delta in stream) == stream.reply.content
        assert stream.reply.usage is not None
        assert stream.reply.usage.completion_tokens > 0
        question = [{"role": "user", "content": "What is the weather in Paris?"}]
        call = client.chat(question, model=MODEL, tools=[WEATHER], tool_choice="required").tool_calls[0]
        assert isinstance(call.args["city"], str)
        apples, pears, engine = client.embed(
            ["Apples grow on trees.", "Pears grow on trees.", "The engine needs oil."], model=EMBEDDER
        ).vectors
        assert _likeness(apples, pears) > _likeness(apples, engine)


def _likeness(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
