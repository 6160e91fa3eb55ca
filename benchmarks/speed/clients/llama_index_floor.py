"""A model of LlamaIndex without features over raw httpx: whatever it costs, the framework costs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

from benchmarks.speed.clients import Client
from benchmarks.speed.clients.llama_index import client


class LeanLLM(CustomLLM):
    """The least that LlamaIndex accepts as a chat model."""

    model: str
    url: str
    http: Any = None
    async_http: Any = None

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self.model, is_chat_model=True)

    def _body(self, messages: Sequence[ChatMessage], stream: bool) -> dict[str, Any]:
        sent = [{"role": message.role.value, "content": message.content} for message in messages]
        return {"model": self.model, "messages": sent, "stream": stream}

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return _response(self.http.post(self.url, json=self._body(messages, False)).json())

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return _response((await self._async().post(self.url, json=self._body(messages, False))).json())

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        def parts() -> Iterator[ChatResponse]:
            said = ""
            with self.http.stream("POST", self.url, json=self._body(messages, True)) as reply:
                for line in reply.iter_lines():
                    if line.startswith("data: {"):
                        said += (delta := _delta(json.loads(line[6:])))
                        yield _part(said, delta)

        return parts()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        async def parts() -> AsyncIterator[ChatResponse]:
            said = ""
            async with self._async().stream("POST", self.url, json=self._body(messages, True)) as reply:
                async for line in reply.aiter_lines():
                    if line.startswith("data: {"):
                        said += (delta := _delta(json.loads(line[6:])))
                        yield _part(said, delta)

        return parts()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=self.chat([ChatMessage(prompt)]).message.content or "")

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        yield self.complete(prompt)

    def _async(self) -> httpx.AsyncClient:
        if self.async_http is None:
            self.async_http = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None))
        made: httpx.AsyncClient = self.async_http
        return made


def _response(reply: Any) -> ChatResponse:
    return ChatResponse(message=ChatMessage(role="assistant", content=reply["choices"][0]["message"]["content"]))


def _delta(event: Any) -> str:
    return (event["choices"][0]["delta"].get("content") or "") if event["choices"] else ""


def _part(said: str, delta: str) -> ChatResponse:
    # The framework's contract: each response has all of the text so far.
    return ChatResponse(message=ChatMessage(role="assistant", content=said), delta=delta)


def floor(url: str, model: str) -> Client:
    made = LeanLLM(model=model, url=f"{url}/chat/completions", http=httpx.Client(timeout=60))
    return client(made, features=False)
