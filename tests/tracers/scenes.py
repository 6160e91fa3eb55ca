"""What is traced: calls of every class in both frameworks, and what a scripted service has given for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from chutes_core import Catalog, ChutesError
from chutes_core.fallback import FallbackPolicy
from chutes_core.testing import Answer, Fault, FaultScript, FaultyTransport, VirtualClock
from chutes_core.testing.faults import clean_play
from chutes_core.wire.pools import http_package

ONE, TWO = "Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE"
LONG = Answer(
    "Once upon a time there was a wide river, and by that river stood a mill that no one had seen.", pieces=20
)
SHORT = Answer("The answer is forty-two.", pieces=4)
DEAD = Fault("reset", after=13, answer=LONG)
PARAMS = {"temperature": 0.5, "max_tokens": 99}
PERSON = Answer('{"name": "Ada", "age": 36}', pieces=5)
CALLING = Answer("", tool_calls=[("add", {"a": 1, "b": 2})], pieces=2)
KEY = "cpk_test"


@dataclass(frozen=True)
class Truth:
    """What the service knows of a scene.

    Attributes:
        answers: The model of each answer, and the tokens of its prompt and its text.
        failed: The tokens of the answers that broke off.
        error: Whether the call fails, and how.
    """

    answers: Sequence[tuple[str, int, int]] = ()
    failed: Sequence[int] = ()
    error: str = ""

    @property
    def tokens(self) -> tuple[int, int]:
        return sum(each[1] for each in self.answers), sum(each[2] for each in self.answers)


class Service(FaultyTransport):
    """A service that goes on with an answer, if one was begun."""

    def _play(self, request: Any) -> Any:
        begun = json.loads(request.content)["messages"][-1] if b'"messages"' in request.content else {}
        if begun.get("role") != "assistant" or begun.get("tool_calls"):
            return super()._play(request)
        super()._play(request)  # notes the request
        rest = replace(LONG, text=LONG.text.removeprefix(begun["content"]), pieces=6)
        return clean_play(rest, self.requests[-1])


def catalog() -> Catalog:
    """The bundled catalogue, in which both models go on with an answer."""
    known = Catalog.bundled()
    models = tuple(
        replace(info, traits=replace(info.traits, prefill="as_is")) if info.id in (ONE, TWO) else info for info in known
    )
    return replace(known, models=models)


def service(script: Any) -> tuple[dict[str, Any], dict[str, Any], FaultyTransport]:
    """A scripted service, and what leads LangChain's and LlamaIndex's classes to it."""
    clock, package = VirtualClock(), http_package()
    made = script if isinstance(script, FaultScript) else FaultScript(script, default=SHORT)
    transport = Service(made, clock=clock)
    http, ahttp = package.Client(transport=transport), package.AsyncClient(transport=transport)
    shared = {"api_key": KEY, "clock": clock, "catalog": catalog(), **PARAMS}
    ours = {**shared, "http_client": http, "http_async_client": ahttp}
    theirs = {**shared, "http_client": http, "async_http_client": ahttp}
    return ours, theirs, transport


def policy(after: str = "raise") -> FallbackPolicy:
    return FallbackPolicy(first_token=5, gap=5, deadline=60, after_commit=after)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Scene:
    """A way to call.

    Attributes:
        name: Its name.
        script: What the service does.
        truth: What it knows then.
        how: How a model is called: `whole`, `stream`, `batch`, `agent`, `structured` or `left`.
        after: What a fallback does when a stream breaks.
        alone: Whether one model can play it; a fallback always can.
    """

    name: str
    script: Sequence[Any]
    truth: Truth
    how: str = "whole"
    after: str = "raise"
    alone: bool = True


S = (ONE, 11, 4)
SCENES = [
    Scene("answered", [SHORT], Truth([S])),
    Scene("first failed", [DEAD, SHORT], Truth([(TWO, 11, 4)], [13]), alone=False),
    Scene("streamed", [SHORT], Truth([S]), "stream"),
    Scene("restarted", [DEAD, SHORT], Truth([(TWO, 11, 4)], [13]), "stream", "restart", alone=False),
    Scene("resumed", [DEAD], Truth([(ONE, 22, 19)], [13]), "stream", "resume", alone=False),
    Scene("agent", [CALLING, SHORT], Truth([(ONE, 11, 2), S]), "agent"),
    Scene("batch", [SHORT] * 3, Truth([S, S, S]), "batch"),
    Scene("structured", [PERSON], Truth([(ONE, 11, 5)]), "structured"),
    Scene("left", [SHORT], Truth(error="left"), "left"),
    Scene("all failed", ["disabled"] * 9, Truth(error="disabled")),
    Scene("all failed, streamed", ["disabled"] * 9, Truth(error="disabled"), "stream"),
]


# ------------------------------------------------------------------------------------------------------- LangChain


def langchain_model(face: str, scene: Scene) -> Any:
    from langchain_chutes import ChatChutes, ChutesFallback

    ours, _, _ = service(scene.script)
    if face == "ChutesFallback":
        return ChutesFallback([ONE, TWO], policy=policy(scene.after), **ours)
    one = ChatChutes(model=ONE, max_retries=0, **ours)
    if face == "ChatChutes":
        return one
    model: Any = one.with_fallbacks([ChatChutes(model=TWO, max_retries=0, **ours)])  # type: ignore[list-item]
    return model.model_copy(update={"policy": policy(scene.after), "clock": ours["clock"]})


def play_langchain(face: str, scene: Scene, callbacks: list[Any], *, waits: bool) -> None:
    """Play a scene in LangChain; a failure is the caller's to see in the trace."""
    from langchain.agents import create_agent
    from pydantic import BaseModel

    class Person(BaseModel):
        """A person."""

        name: str
        age: int

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    model, config = langchain_model(face, scene), {"callbacks": callbacks}
    target: Any = model
    given: Any = "Once upon a time?"
    if scene.how == "structured":
        target = model.with_structured_output(Person, method="json_schema")
    elif scene.how == "agent":
        target, given = create_agent(model, [add]), {"messages": [{"role": "user", "content": "1 + 2?"}]}

    async def ask() -> None:
        if scene.how in ("stream", "left"):
            chunks = target.astream(given, config)
            async for _ in chunks:
                if scene.how == "left":
                    break
            await chunks.aclose()
        elif scene.how == "batch":
            await target.abatch([given] * 3, config)
        else:
            await target.ainvoke(given, config)

    try:
        if waits:
            asyncio.run(ask())
        elif scene.how in ("stream", "left"):
            chunks = target.stream(given, config)
            for _ in chunks:
                if scene.how == "left":
                    break
            chunks.close()
        elif scene.how == "batch":
            target.batch([given] * 3, config)
        else:
            target.invoke(given, config)
    except ChutesError:
        assert scene.truth.error


# ------------------------------------------------------------------------------------------------------ LlamaIndex


def llama_index_model(face: str, scene: Scene, callbacks: list[Any]) -> Any:
    from llama_index.core.callbacks import CallbackManager

    from llama_index_chutes import Chutes, ChutesFallback

    _, theirs, _ = service(scene.script)
    theirs["callback_manager"] = CallbackManager(callbacks)
    if face == "ChutesFallback":
        return ChutesFallback([ONE, TWO], policy=policy(scene.after), additional_kwargs={"seed": 7}, **theirs)
    return Chutes(model=ONE, max_retries=0, additional_kwargs={"seed": 7}, **theirs)


def play_llama_index(face: str, scene: Scene, callbacks: list[Any], *, waits: bool) -> None:
    """Play a scene in LlamaIndex."""
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.bridge.pydantic import BaseModel
    from llama_index.core.prompts import PromptTemplate
    from llama_index.core.tools import FunctionTool

    class Person(BaseModel):
        """A person."""

        name: str
        age: int

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    llm = llama_index_model(face, scene, callbacks)
    given = [ChatMessage("Once upon a time?")]

    async def ask() -> None:
        if scene.how == "agent":
            await FunctionAgent(tools=[FunctionTool.from_defaults(add)], llm=llm, streaming=False).run("1 + 2?")
        elif scene.how in ("stream", "left"):
            chunks = await llm.astream_chat(given)
            async for _ in chunks:
                if scene.how == "left":
                    break
            await chunks.aclose()
        elif scene.how == "batch":
            await asyncio.gather(*(llm.achat(given) for _ in range(3)))
        elif scene.how == "structured":
            await llm.astructured_predict(Person, PromptTemplate("Who?"))
        else:
            await llm.achat(given)

    try:
        if waits or scene.how == "agent":
            asyncio.run(ask())
        elif scene.how in ("stream", "left"):
            chunks = llm.stream_chat(given)
            for _ in chunks:
                if scene.how == "left":
                    break
            chunks.close()
        elif scene.how == "batch":
            for _ in range(3):
                llm.chat(given)
        elif scene.how == "structured":
            llm.structured_predict(Person, PromptTemplate("Who?"))
        else:
            llm.chat(given)
    except ChutesError:
        assert scene.truth.error
