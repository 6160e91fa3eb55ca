"""A fallback over one scripted service, doubles of other providers, and callbacks that write down what they see."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langchain_core.tracers import BaseTracer
from pydantic import BaseModel, PrivateAttr

from chutes_core import ChutesError
from chutes_core.testing import Answer, FaultScript, FaultyTransport, VirtualClock
from chutes_core.wire.pools import http_package
from langchain_chutes import ChutesFallback, FallbackPolicy
from langchain_chutes.fallback import collect

from .models import KEY

NAMES = ["acme/one", "acme/two", "acme/three"]
ANSWER = Answer("The answer is forty-two.", pieces=4)
PAYING = Answer("Paying.", tool_calls=[("pay", {"amount": 1000})], pieces=3)
POLICY = FallbackPolicy(first_token=5, gap=5, deadline=60)
RESTART = FallbackPolicy(first_token=5, gap=5, deadline=60, after_commit="restart")
STREAMED = {"sync-stream", "async-stream"}


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def pay(amount: int) -> str:
    """Pay an amount."""
    return f"Paid {amount}."


@dataclass
class Stage:
    """A fallback over one scripted service."""

    model: ChutesFallback
    transport: FaultyTransport
    clock: VirtualClock
    chunks: list[AIMessageChunk] = field(default_factory=list)
    message: Any = None
    error: Exception | None = None

    @property
    def attempts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.message.response_metadata["chutes_attempts"]
        return found

    @property
    def models(self) -> list[str]:
        return [request.model for request in self.transport.requests]

    def call(self, mode: str, runnable: Any = None, ask: Any = "What is the answer?", **params: Any) -> Stage:
        """Call in one of the four ways."""
        target = runnable if runnable is not None else self.model

        async def waiting() -> None:
            if mode == "async-whole":
                self.message = await target.ainvoke(ask, **params)
                return
            async for chunk in target.astream(ask, **params):
                self.chunks.append(chunk)

        try:
            if mode == "sync-whole":
                self.message = target.invoke(ask, **params)
            elif mode == "sync-stream":
                for chunk in target.stream(ask, **params):
                    self.chunks.append(chunk)
            else:
                asyncio.run(waiting())
        except ChutesError as error:
            self.error = error
        if mode in STREAMED and self.error is None and isinstance(self.chunks[0], AIMessageChunk):
            self.message = collect(self.chunks)
        return self


def stage(script: FaultScript | list[Any] = (), members: list[Any] = NAMES, **options: Any) -> Stage:  # type: ignore[assignment]
    """Models on one scripted service; some of the members may be models of others."""
    package = http_package()
    clock = VirtualClock()
    made = script if isinstance(script, FaultScript) else FaultScript(script, default=ANSWER)
    transport = FaultyTransport(made, clock=clock)
    model = ChutesFallback(
        members,
        **{
            "policy": POLICY,
            "api_key": KEY,
            "clock": clock,
            "http_client": package.Client(transport=transport),
            "http_async_client": package.AsyncClient(transport=transport),
            **options,
        },
    )
    return Stage(model, transport, clock)


class RateLimitError(Exception):
    """As the SDKs of others raise it."""

    status_code = 429


class Other(BaseChatModel):
    """A chat model of another provider, which plays a script of texts, messages and exceptions."""

    model_name: str = "other/model"
    max_retries: int = 2
    provider: str | None = None
    seconds: float = 0.0

    _script: list[Any] = PrivateAttr(default_factory=list)
    _asked: list[dict[str, Any]] = PrivateAttr(default_factory=list)

    @classmethod
    def of(cls, *script: Any, **options: Any) -> Other:
        model = cls(max_retries=0, **options)
        model._script = list(script)
        return model

    @property
    def _llm_type(self) -> str:
        return "other"

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kw: Any
    ) -> ChatResult:
        raise AssertionError("it is streamed underneath")

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self._asked.append({"messages": messages, "stop": stop, **kwargs})
        for step in self._script:
            if isinstance(step, Exception):
                raise step
            message = AIMessageChunk(content=step) if isinstance(step, str) else step
            if self.provider:
                message.response_metadata["model_provider"] = self.provider
            yield ChatGenerationChunk(message=message)

    def bind_tools(self, tools: Any, *, tool_choice: Any = None, **kwargs: Any) -> Any:
        return self.bind(other_tools=tools, other_choice=tool_choice, **kwargs)


class Plain(BaseChatModel):
    """A chat model that neither streams nor says anything of retries."""

    answer: AIMessage = AIMessage("Plainly.")

    @property
    def _llm_type(self) -> str:
        return "plain"

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kw: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.answer)])

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


class Recorder(BaseCallbackHandler):
    """Writes down what callbacks are told."""

    def __init__(self) -> None:
        self.starts: list[tuple[Any, Any]] = []
        self.tokens: list[tuple[Any, str]] = []
        self.ends: list[str] = []
        self.errors: list[Any] = []
        self.events: list[tuple[str, Any]] = []
        self.told: list[dict[str, Any]] = []
        self.attempts: list[tuple[str, Any, Any]] = []
        self._begun: dict[Any, tuple[str, Any]] = {}

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any = None, **kw: Any
    ) -> None:
        self._begun[run_id] = kw["name"], parent_run_id

    def on_chain_end(self, outputs: Any, *, run_id: Any, **kw: Any) -> None:
        self.on_chain_error(None, run_id=run_id)

    def on_chain_error(self, error: Any, *, run_id: Any, **kw: Any) -> None:
        name, above = self._begun.pop(run_id)
        self.attempts.append((name, error, above))

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: Any, parent_run_id: Any = None, **kw: Any
    ) -> None:
        self.starts.append((run_id, parent_run_id))

    def on_llm_new_token(self, token: Any, *, run_id: Any, **kw: Any) -> None:
        self.tokens.append((run_id, token))

    def on_llm_end(self, response: Any, **kw: Any) -> None:
        self.ends.append(response.generations[0][0].text)

    def on_llm_error(self, error: Any, *, parent_run_id: Any = None, **kw: Any) -> None:
        self.errors.append((error, parent_run_id))

    def on_custom_event(self, name: str, data: Any, **kw: Any) -> None:
        self.events.append((data["model"], data["outcome"]))
        self.told.append(data)


class Tree(BaseTracer):
    """Keeps the runs as a tree."""

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Any] = []

    def _persist_run(self, run: Any) -> None:
        self.roots.append(run)
