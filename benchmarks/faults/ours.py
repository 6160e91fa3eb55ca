"""Our own clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

from benchmarks.faults.clients import KEY, URL, Asker, Client, Kit
from benchmarks.faults.judge import Restart, Seen, Tools
from benchmarks.faults.world import MODELS, READ, Call


def pay(amount: int) -> str:
    """Pay an amount of money."""
    return f"paid {amount}"


class LangChain:
    """Any chat model of LangChain: chunks added up as its documentation shows."""

    def __init__(self, model: Any, marks: Any = lambda chunk: False, tools: Any = (pay,)) -> None:
        self._text = model
        self._tools = model.bind_tools(list(tools))
        self._marks = marks

    async def stream(self, call: Call) -> AsyncIterator[Seen]:
        total = None
        async for chunk in (self._tools if call.tool else self._text).astream(call.prompt):
            total = chunk if total is None else total + chunk
            if self._marks(chunk):
                yield Restart()
            elif chunk.tool_call_chunks:
                yield Tools()
            elif chunk.text:
                yield chunk.text
        yield reported(total)

    async def whole(self, call: Call) -> list[Seen]:
        message = await (self._tools if call.tool else self._text).ainvoke(call.prompt)
        return [message.text, reported(message)]


def reported(message: Any) -> Tools:
    """The tool calls of a message; one that is reported as invalid is an honest error."""
    if message is None:
        return Tools(())
    if message.invalid_tool_calls:
        raise ValueError(f"invalid tool calls: {message.invalid_tool_calls}")
    return Tools([(each["name"], each["args"]) for each in message.tool_calls])


class LlamaIndex:
    """Our fallback for LlamaIndex."""

    def __init__(self, llm: Any) -> None:
        from llama_index.core.tools import FunctionTool

        self._llm = llm
        self._tools = [FunctionTool.from_defaults(pay)]

    async def stream(self, call: Call) -> AsyncIterator[Seen]:
        from llama_index.core.llms import ChatMessage

        from llama_index_chutes.fallback import is_restart

        if call.tool:
            chunks = await self._llm.astream_chat_with_tools(self._tools, user_msg=call.prompt)
        else:
            chunks = await self._llm.astream_chat([ChatMessage(call.prompt)])
        last = None
        async for chunk in chunks:
            last = chunk
            if is_restart(chunk):
                yield Restart()
            elif chunk.delta:
                yield chunk.delta
            elif chunk.message.additional_kwargs.get("tool_calls"):
                yield Tools()
        yield self._reported(last)

    async def whole(self, call: Call) -> list[Seen]:
        from llama_index.core.llms import ChatMessage

        if call.tool:
            response = await self._llm.achat_with_tools(self._tools, user_msg=call.prompt)
        else:
            response = await self._llm.achat([ChatMessage(call.prompt)])
        return [response.message.content or "", self._reported(response)]

    def _reported(self, response: Any) -> Tools:
        called = self._llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
        return Tools([(each.tool_name, each.tool_kwargs) for each in called])


AfterCommit = Literal["raise", "hold", "restart", "resume"]


def policy(after_commit: AfterCommit, first_token: float = READ, hedge: float | Literal["p95"] | None = None) -> Any:
    from chutes_core.fallback import FallbackPolicy

    return FallbackPolicy(first_token=first_token, gap=READ, after_commit=after_commit, hedge=hedge)


def catalog() -> Any:
    """Models that were seen to go on with an answer that was begun, as `models check --prefill` would find them."""
    from chutes_core import Catalog
    from chutes_core.catalog.model_info import ModelInfo, Traits

    models = [ModelInfo(id=name, traits=Traits(prefill="as_is")) for name in MODELS]
    return Catalog(models, source="here", fetched_at=0.0, snapshot_date="2026-01-01")


def langchain(kit: Kit, rules: Any) -> Asker:
    from langchain_chutes import ChutesFallback
    from langchain_chutes.fallback import is_restart

    model = ChutesFallback(
        list(MODELS), policy=rules, clock=kit.clock, api_key=KEY, base_url=URL, http_async_client=kit.http(),
        catalog=catalog(),
    )  # fmt: skip
    return LangChain(model, is_restart)


def ours(
    name: str,
    title: str,
    told: str,
    after_commit: AfterCommit,
    first_token: float = READ,
    hedge: float | Literal["p95"] | None = None,
) -> Client:
    """Our fallback of LangChain, with a policy."""
    return Client(
        name, f"ChutesFallback, {title}", told, ("langchain_core",),
        lambda kit: langchain(kit, policy(after_commit, first_token, hedge)),
        ours=True, promise=after_commit != "raise",
    )  # fmt: skip


def llama_index(kit: Kit) -> Asker:
    from llama_index_chutes import ChutesFallback

    rules, http = policy("restart"), kit.http()
    return LlamaIndex(
        ChutesFallback(list(MODELS), policy=rules, clock=kit.clock, api_key=KEY, api_base=URL, async_http_client=http)
    )


CLIENTS = (
    ours("restart", "restart", 'LangChain, `after_commit="restart"`, otherwise the defaults', "restart"),
    ours("restart-1.5", "restart, 1.5 s", "the same with `first_token=1.5`", "restart", 1.5),
    ours("learned", "restart, learned", "the same with `first_token=20`, the default", "restart", 20),
    ours("hedge-p95", "restart, hedge", 'the first with `hedge="p95"`', "restart", hedge="p95"),
    ours("hedge-1", "restart, hedge 1 s", "the first with `hedge=1`", "restart", hedge=1),
    ours("hold", "hold", 'LangChain, `after_commit="hold"`', "hold"),
    ours("resume", "resume", 'LangChain, `after_commit="resume"`, all models known to continue', "resume"),
    ours("resume-hedge", "resume, hedge", 'the same with `hedge="p95"`', "resume", hedge="p95"),
    Client(
        "restart-li", "ChutesFallback of LlamaIndex, restart", "the same as the first, in LlamaIndex",
        ("llama_index.core",), llama_index, ours=True, promise=True,
    ),
    ours("raise", "raise", 'LangChain, `after_commit="raise"`, the default', "raise"),
)  # fmt: skip
