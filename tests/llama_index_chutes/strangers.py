"""Models of other providers, which play a list of failures and answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any

import httpx
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata, MessageRole, ToolCallBlock
from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM


class RateLimitError(Exception):
    """As another provider's client raises it."""

    status_code = 429

    def __init__(self) -> None:
        super().__init__("slow down")
        self.response = httpx.Response(429, headers={"retry-after": "7"})


def said(
    text: str, *, raw: Any = None, calls: Sequence[tuple[str, Any]] = (), delta: str | None = None
) -> ChatResponse:
    """One chunk of a stranger's stream."""
    message = ChatMessage(role=MessageRole.ASSISTANT, content=text)
    message.blocks += [ToolCallBlock(tool_call_id="c1", tool_name=name, tool_kwargs=given) for name, given in calls]
    return ChatResponse(message=message, delta=text if delta is None else delta, raw=raw)


def chunk_raw(reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


class Stranger(FunctionCallingLLM):
    """Another provider's model: plays its list of failures and streams."""

    model: str = "other/model"
    api_key: str | None = "not-for-others"
    max_retries: int = 2
    calls_tools: bool = True
    streams: bool = True
    plays: list[Any] = Field(default_factory=list)
    asked: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self.model, is_function_calling_model=self.calls_tools, is_chat_model=True)

    def _play(self, messages: Sequence[ChatMessage], given: dict[str, Any]) -> list[ChatResponse]:
        self.asked.append({"messages": list(messages), "max_retries": self.max_retries, **given})
        play = self.plays.pop(0) if self.plays else [said("I am another.")]
        if isinstance(play, Exception):
            raise play
        return list(play)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._play(messages, kwargs)[-1]

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._play(messages, kwargs)[-1]

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse, None, None]:
        if not self.streams:
            raise NotImplementedError

        def chunks() -> Generator[ChatResponse, None, None]:
            for chunk in self._play(messages, kwargs):
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk

        return chunks()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncGenerator[ChatResponse, None]:
        chunks = self.stream_chat(messages, **kwargs)

        async def given() -> AsyncGenerator[ChatResponse, None]:
            for chunk in chunks:
                await asyncio.sleep(0)
                yield chunk

        return given()

    def complete(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("it is asked for chats")

    acomplete = stream_complete = astream_complete = complete

    def _prepare_chat_with_tools(
        self, tools: Any, user_msg: Any = None, chat_history: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        kwargs.pop("verbose", None)
        return {"messages": chat_history, "tools": [tool.metadata.name for tool in tools], **kwargs}

    def get_tool_calls_from_response(self, response: Any, error_on_no_tool_call: bool = True, **kwargs: Any) -> Any:
        from llama_index.core.llms.llm import ToolSelection

        return [
            ToolSelection(
                tool_id=block.tool_call_id or "",
                tool_name=block.tool_name,
                tool_kwargs=json.loads(block.tool_kwargs) if isinstance(block.tool_kwargs, str) else block.tool_kwargs,
            )
            for block in response.message.blocks
            if isinstance(block, ToolCallBlock)
        ]


class Asked(Stranger):
    """Another provider's model that gives objects, and remembers with which messages it was asked for one."""

    heard: list[ChatMessage] = Field(default_factory=list)

    def structured_predict(self, output_cls: Any, prompt: Any, llm_kwargs: Any = None, **prompt_args: Any) -> Any:
        self.heard += prompt.format_messages(**prompt_args)
        return output_cls(name="Bern", people=134000)

    async def astructured_predict(self, *args: Any, **kwargs: Any) -> Any:
        return self.structured_predict(*args, **kwargs)

    def stream_structured_predict(self, *args: Any, **kwargs: Any) -> Any:
        yield self.structured_predict(*args, **kwargs)

    async def astream_structured_predict(self, *args: Any, **kwargs: Any) -> Any:
        async def pieces() -> AsyncGenerator[Any, None]:
            yield self.structured_predict(*args, **kwargs)

        return pieces()


class Predictor(CustomLLM):
    """Another provider's model that only completes, and has no retries to turn off."""

    text: str = '{"name": "Bern", "people": 134000}'
    prompts: list[str] = Field(default_factory=list)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="other/plain")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        from llama_index.core.base.llms.types import CompletionResponse

        self.prompts.append(prompt)
        return CompletionResponse(text=self.text)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError
