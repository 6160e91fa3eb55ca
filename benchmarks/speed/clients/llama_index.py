"""The models of LlamaIndex."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

from llama_index.core.llms import LLM, ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool

from benchmarks.speed.clients import Client, Turns


def _messages(turns: Turns) -> list[Any]:
    return [ChatMessage(role=role, content=text) for role, text in turns]


def _store(name: str, age: int, city: str, about: str) -> str:
    """Keep a person."""
    return name


def client(model: LLM, *, features: bool = True) -> Client:
    """Any model of LlamaIndex."""
    from benchmarks.speed.clients.person import Person

    tool = FunctionTool.from_defaults(fn=_store, name="Person")

    def whole(messages: Any) -> str:
        return str(model.chat(messages).message.content)

    async def awhole(messages: Any) -> str:
        return str((await model.achat(messages)).message.content)

    def stream(messages: Any) -> Iterator[Any]:
        return iter(model.stream_chat(messages))

    async def astream(messages: Any) -> AsyncIterator[Any]:
        async for chunk in await model.astream_chat(messages):
            yield chunk

    def tools(messages: Any) -> list[dict[str, Any]]:
        asks: Any = model
        (last,) = deque(asks.stream_chat_with_tools([tool], chat_history=messages), maxlen=1)
        return [call.tool_kwargs for call in asks.get_tool_calls_from_response(last)]

    def structured(messages: Any) -> Any:
        return model.structured_predict(Person, PromptTemplate(messages[-1].content))

    return Client(
        _messages, whole, stream, lambda chunk: chunk.delta or "", awhole, astream,
        tools if features else None, structured if features else None,
    )  # fmt: skip


def chutes(url: str, model: str) -> Client:
    from llama_index_chutes import Chutes

    return client(Chutes(model=model, api_key="cpk_none", api_base=url, is_function_calling_model=True))


def fallback(url: str, model: str) -> Client:
    from llama_index_chutes import Chutes, ChutesFallback

    members = [
        Chutes(model=name, api_key="cpk_none", api_base=url, is_function_calling_model=True)
        for name in (model, "bench/9")
    ]
    return client(ChutesFallback(members))


def openai_like(url: str, model: str) -> Client:
    from llama_index.llms.openai_like import OpenAILike

    made: LLM = OpenAILike(
        model=model, api_key="none", api_base=url, is_chat_model=True, is_function_calling_model=True, max_retries=0
    )
    return client(made)


def litellm(url: str, model: str) -> Client:
    from llama_index.llms.litellm import LiteLLM

    made: LLM = LiteLLM(model=f"openai/{model}", api_key="none", api_base=url, max_retries=0)
    return client(made)
