"""The chat models of LangChain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage

from benchmarks.speed.clients import Client, Turns, sealed


def _messages(turns: Turns) -> list[Any]:
    return [HumanMessage(text) if role == "user" else AIMessage(text) for role, text in turns]


def _text(chunk: Any) -> str:
    return chunk.content if isinstance(chunk.content, str) else ""


def client(model: BaseChatModel, *, features: bool = True) -> Client:
    """Any chat model of LangChain."""
    from benchmarks.speed.clients.person import Person

    asks = model.bind_tools([Person]) if features else None
    forms = model.with_structured_output(Person) if features else None

    def whole(messages: Any) -> str:
        return str(model.invoke(messages).content)

    async def awhole(messages: Any) -> str:
        return str((await model.ainvoke(messages)).content)

    def stream(messages: Any) -> Iterator[Any]:
        return model.stream(messages)

    def astream(messages: Any) -> AsyncIterator[Any]:
        return model.astream(messages)

    def tools(messages: Any) -> list[dict[str, Any]]:
        assert asks is not None
        chunks = list(asks.stream(messages))
        merged: Any = chunks[0] + chunks[1:]  # type: ignore[operator]  # chunks add up with a list of chunks too
        return [call["args"] for call in merged.tool_calls]

    def structured(messages: Any) -> Any:
        assert forms is not None
        return forms.invoke(messages)

    def batch(many: list[Any]) -> list[str]:
        return [str(reply.content) for reply in model.batch(many, config={"max_concurrency": 8})]

    return Client(
        _messages, whole, stream, _text, awhole, astream,
        tools if features else None, structured if features else None, batch,
    )  # fmt: skip


def chat_chutes(url: str, model: str) -> Client:
    from langchain_chutes import ChatChutes

    return client(ChatChutes(model=model, api_key="cpk_none", base_url=url))


def chat_chutes_sealed(url: str, model: str) -> Client:
    from langchain_chutes import ChatChutes

    return client(ChatChutes(model=model, api_key="cpk_none", **sealed.settings(url, model)))


def fallback(url: str, model: str) -> Client:
    from langchain_chutes import ChutesFallback

    return client(ChutesFallback([model, "bench/9"], api_key="cpk_none", base_url=url))


def chat_openai(url: str, model: str) -> Client:
    from langchain_openai import ChatOpenAI

    return client(ChatOpenAI(model=model, api_key="none", base_url=url, max_retries=0))  # type: ignore[arg-type]


def chat_fireworks(url: str, model: str) -> Client:
    from langchain_fireworks import ChatFireworks

    return client(ChatFireworks(model=model, api_key="none", base_url=url, max_retries=0))


def chat_openrouter(url: str, model: str) -> Client:
    from langchain_openrouter import ChatOpenRouter

    return client(ChatOpenRouter(model=model, api_key="none", base_url=url, max_retries=0))


def chat_litellm(url: str, model: str) -> Client:
    from langchain_litellm import ChatLiteLLM

    return client(ChatLiteLLM(model=f"openai/{model}", api_key="none", api_base=url, max_retries=0))
