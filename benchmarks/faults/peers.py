"""The peers, each set up as its own documentation recommends for several models, with the same read limit."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

from benchmarks.faults.clients import KEY, URL, Asker, Client, Kit
from benchmarks.faults.judge import Restart, Seen, Tools
from benchmarks.faults.ours import LangChain, pay
from benchmarks.faults.world import MODELS, READ, Call

# ------------------------------------------------------------------------------------------------ LangChain


def chat_openai(kit: Kit, model: str, retries: int) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        model=model, api_key=KEY, base_url=URL, timeout=READ, max_retries=retries, http_async_client=kit.http()
    )


def alone(kit: Kit) -> Asker:
    return LangChain(chat_openai(kit, MODELS[0], 2))


class WithFallbacks(LangChain):
    """`with_fallbacks` of LangChain itself; tools are bound to each model before."""

    def __init__(self, kit: Kit, retries: int) -> None:
        def chain(*models: Any) -> Any:
            return models[0].with_fallbacks(list(models[1:]))

        models = [chat_openai(kit, name, retries) for name in MODELS]
        self._text = chain(*models)
        self._tools = chain(*(model.bind_tools([pay]) for model in models))
        self._marks = lambda chunk: False


_PAID: ContextVar[list[tuple[str, object]]] = ContextVar("paid")


class Agent:
    """An agent of LangChain with its middleware for fallbacks. What counts as a tool call is what it carried out.

    The reader does the best that the stream allows: a chunk with another message id begins a new answer.
    """

    def __init__(self, kit: Kit) -> None:
        from langchain.agents import create_agent
        from langchain.agents.middleware import ModelFallbackMiddleware
        from langchain_core.tools import tool

        async def paid(amount: int) -> str:
            """Pay an amount of money."""
            _PAID.get().append(("pay", {"amount": amount}))
            return "paid"

        first, *others = (chat_openai(kit, name, 2) for name in MODELS)
        self._agent = create_agent(
            first,
            tools=[tool("pay", return_direct=True)(paid)],
            middleware=[ModelFallbackMiddleware(*others)],
        )

    async def stream(self, call: Call) -> AsyncIterator[Seen]:
        from langchain_core.messages import AIMessageChunk

        paid: list[tuple[str, object]] = []
        _PAID.set(paid)
        shown: str | None = None
        async for chunk, _ in self._agent.astream({"messages": [("user", call.prompt)]}, stream_mode="messages"):
            if not isinstance(chunk, AIMessageChunk):
                continue
            if shown is not None and chunk.id != shown:
                yield Restart()
            shown = chunk.id
            if chunk.tool_call_chunks:
                yield Tools()
            elif chunk.text:
                yield chunk.text
        yield self._carried_out(call, paid)

    async def whole(self, call: Call) -> list[Seen]:
        paid: list[tuple[str, object]] = []
        _PAID.set(paid)
        state = await self._agent.ainvoke({"messages": [("user", call.prompt)]})
        return ["" if call.tool else state["messages"][-1].text, self._carried_out(call, paid)]

    @staticmethod
    def _carried_out(call: Call, paid: list[tuple[str, object]]) -> Tools:
        if call.tool and not paid:
            raise ValueError("the agent ended without the payment that was asked for")  # its program can see that
        return Tools(paid)


# -------------------------------------------------------------------------------------------------- litellm

_TOOL = {
    "type": "function",
    "function": {
        "name": "pay",
        "description": "Pay an amount of money.",
        "parameters": {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]},
    },
}


class LiteLLM:
    """litellm's Router."""

    def __init__(self, kit: Kit, *, one_group: bool) -> None:
        import litellm

        litellm.disable_aiohttp_transport = True
        litellm.aclient_session = kit.http()
        litellm.in_memory_llm_clients_cache.flush_cache()
        litellm.suppress_debug_info = True
        groups = ["any"] * len(MODELS) if one_group else list(MODELS)
        deployments = [
            {
                "model_name": group,
                "litellm_params": {"model": f"openai/{name}", "api_base": URL, "api_key": KEY, "timeout": READ},
            }
            for group, name in zip(groups, MODELS, strict=True)
        ]
        first, *others = groups
        self._group = first
        chosen: dict[str, Any] = {} if one_group else {"fallbacks": [{first: others}], "num_retries": 2}
        self._router = litellm.Router(model_list=deployments, timeout=READ, stream_timeout=READ, **chosen)

    async def _ask(self, call: Call, *, stream: bool) -> Any:
        tools = {"tools": [_TOOL]} if call.tool else {}
        messages: Any = [{"role": "user", "content": call.prompt}]
        return await self._router.acompletion(model=self._group, messages=messages, stream=stream, **tools)

    async def stream(self, call: Call) -> AsyncIterator[Seen]:
        pieces: dict[int, list[str]] = {}
        async for chunk in await self._ask(call, stream=True):
            for choice in chunk.choices:
                if choice.delta.content:
                    yield choice.delta.content
                for piece in choice.delta.tool_calls or ():
                    held = pieces.setdefault(piece.index, ["", ""])
                    held[0] += piece.function.name or ""
                    held[1] += piece.function.arguments or ""
                    yield Tools()
        yield Tools([(name, json.loads(arguments)) for name, arguments in pieces.values()])

    async def whole(self, call: Call) -> list[Seen]:
        message = (await self._ask(call, stream=False)).choices[0].message
        calls = [(each.function.name, json.loads(each.function.arguments)) for each in message.tool_calls or ()]
        return [message.content or "", Tools(calls)]


# ---------------------------------------------------------------------------------------------- pydantic-ai


class PydanticAI:
    """An agent of pydantic-ai on its FallbackModel; a payment is an output of its own, which it validates."""

    def __init__(self, kit: Kit) -> None:
        from openai import AsyncOpenAI
        from pydantic_ai import Agent, ToolOutput
        from pydantic_ai.models.fallback import FallbackModel
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        def model(name: str) -> OpenAIChatModel:
            client = AsyncOpenAI(api_key=KEY, base_url=URL, timeout=READ, max_retries=2, http_client=kit.http())
            return OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))

        def paid(amount: int) -> tuple[str, object]:
            """Pay an amount of money."""
            return ("pay", {"amount": amount})

        fallback = FallbackModel(*map(model, MODELS))
        self._text: Any = Agent(fallback)
        self._tools: Any = Agent(fallback, output_type=ToolOutput(paid, name="pay"))

    async def stream(self, call: Call) -> AsyncIterator[Seen]:
        from pydantic_ai import AgentRunResultEvent, PartDeltaEvent, PartStartEvent
        from pydantic_ai.messages import TextPart, TextPartDelta

        async with (self._tools if call.tool else self._text).run_stream_events(call.prompt) as events:
            async for event in events:
                if isinstance(event, AgentRunResultEvent):
                    yield Tools([event.result.output] if call.tool else [])
                elif isinstance(event, PartStartEvent):
                    yield event.part.content if isinstance(event.part, TextPart) else Tools()
                elif isinstance(event, PartDeltaEvent):
                    yield event.delta.content_delta if isinstance(event.delta, TextPartDelta) else Tools()

    async def whole(self, call: Call) -> list[Seen]:
        result = await (self._tools if call.tool else self._text).run(call.prompt)
        return [Tools([result.output])] if call.tool else [result.output]


_OPENAI = ("langchain_openai",)

CLIENTS = (
    Client(
        "chat-openai", "ChatOpenAI", "one model, `max_retries=2` (the default)", _OPENAI, alone
    ),
    Client(
        "with-fallbacks-0", "with_fallbacks, SDK retries 0", "three ChatOpenAI with `max_retries=0`", _OPENAI,
        lambda kit: WithFallbacks(kit, 0),
    ),
    Client(
        "with-fallbacks-2", "with_fallbacks, SDK retries 2", "three ChatOpenAI with `max_retries=2`", _OPENAI,
        lambda kit: WithFallbacks(kit, 2),
    ),
    Client(
        "middleware", "ModelFallbackMiddleware", "`create_agent` over three ChatOpenAI with `max_retries=2`; its "
        "reader begins anew with each message id", (*_OPENAI, "langchain"), Agent,
    ),
    Client(
        "litellm", "litellm Router, 3 groups", "a group for each model, `fallbacks` between them, `num_retries=2`",
        ("litellm",), lambda kit: LiteLLM(kit, one_group=False),
    ),
    Client(
        "litellm-one", "litellm Router, one group", "the three models in one group, all else by default",
        ("litellm",), lambda kit: LiteLLM(kit, one_group=True),
    ),
    Client(
        "pydantic-ai", "pydantic-ai FallbackModel", "an Agent over three models, SDK retries 2", ("pydantic_ai",),
        PydanticAI,
    ),
)  # fmt: skip
