"""A model of LangChain without features over raw httpx: whatever it costs, the framework costs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from benchmarks.speed.clients import Client
from benchmarks.speed.clients.langchain import client

_ROLES = {"human": "user", "ai": "assistant"}


class LeanChat(BaseChatModel):
    """The least that LangChain accepts as a chat model."""

    model: str
    url: str
    http: Any = None
    async_http: Any = None

    @property
    def _llm_type(self) -> str:
        return "lean"

    def _body(self, messages: list[Any], stream: bool) -> dict[str, Any]:
        sent = [{"role": _ROLES[message.type], "content": message.content} for message in messages]
        return {"model": self.model, "messages": sent, "stream": stream}

    def _generate(self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return _result(self.http.post(self.url, json=self._body(messages, False)).json())

    async def _agenerate(
        self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return _result((await self._async().post(self.url, json=self._body(messages, False))).json())

    def _stream(
        self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        with self.http.stream("POST", self.url, json=self._body(messages, True)) as reply:
            for line in reply.iter_lines():
                if line.startswith("data: {"):
                    yield _chunk(json.loads(line[6:]))

    async def _astream(
        self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with self._async().stream("POST", self.url, json=self._body(messages, True)) as reply:
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    yield _chunk(json.loads(line[6:]))

    def _async(self) -> httpx.AsyncClient:
        if self.async_http is None:
            self.async_http = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None))
        made: httpx.AsyncClient = self.async_http
        return made


def _result(reply: Any) -> ChatResult:
    message = AIMessage(content=reply["choices"][0]["message"]["content"])
    return ChatResult(generations=[ChatGeneration(message=message)])


def _chunk(event: Any) -> ChatGenerationChunk:
    said = (event["choices"][0]["delta"].get("content") or "") if event["choices"] else ""
    return ChatGenerationChunk(message=AIMessageChunk(content=said))


def floor(url: str, model: str) -> Client:
    return client(LeanChat(model=model, url=f"{url}/chat/completions", http=httpx.Client(timeout=60)), features=False)
