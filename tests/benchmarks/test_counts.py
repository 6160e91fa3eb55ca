"""What a call and a chunk cost, in counts that are the same on every machine.

A count that has grown fails here before it is a figure in a benchmark. RECORDED says what each was; to record anew,
run ``python tests/benchmarks/test_counts.py``.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from llama_index.core.llms import ChatMessage

import chutes_core
import langchain_chutes
import llama_index_chutes
from chutes_core.testing import Answer, FaultScript, FaultyTransport
from tests.core.raw_server import DONE, END, HEAD, event

OURS = tuple(str(Path(str(package.__file__)).parent) for package in (chutes_core, langchain_chutes, llama_index_chutes))
TESTING = str(Path(OURS[0], "testing"))
SLACK = 1.15
QUESTION = "Say something."
MODEL = "Qwen/Qwen3-32B-TEE"


def client(chunks: int) -> httpx.Client:
    answer = Answer("word " * chunks, pieces=chunks)
    return httpx.Client(transport=FaultyTransport(FaultScript(default=answer)))


def core(chunks: int) -> Any:
    return chutes_core.ChutesClient("cpk_none", http_client=client(chunks))


def chat(chunks: int) -> Any:
    return langchain_chutes.ChatChutes(model=MODEL, api_key="cpk_none", http_client=client(chunks))


def chat_fallback(chunks: int) -> Any:
    return langchain_chutes.ChutesFallback([chat(chunks)])


def llm(chunks: int) -> Any:
    return llama_index_chutes.Chutes(model=MODEL, api_key="cpk_none", http_client=client(chunks))


def llm_fallback(chunks: int) -> Any:
    return llama_index_chutes.ChutesFallback([llm(chunks)])


def stream_core(model: Any) -> int:
    return sum(1 for _ in model.stream([{"role": "user", "content": QUESTION}], model=MODEL))


def stream_chat(model: Any) -> int:
    return sum(1 for _ in model.stream(QUESTION))


def stream_llm(model: Any) -> int:
    return sum(1 for _ in model.stream_chat([ChatMessage(QUESTION)]))


def in_step(ask: Callable[[str], AsyncIterator[object]]) -> Callable[[Any], int]:
    """A stream over a real connection, whose server sends each chunk after the one before was read."""

    def stream(chunks: Any) -> int:
        read = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b'"stream":true')
            writer.write(HEAD)
            for number in range(chunks):
                writer.write(event({"content": f"word{number} "}))
                await read.wait()
                read.clear()
            writer.write(event({}, "stop") + DONE + END)
            writer.close()

        async def main() -> int:
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            seen = 0
            async with server:
                async for _ in ask(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"):
                    seen += 1
                    read.set()
            return seen

        return asyncio.run(main())

    return stream


async def astream_core(url: str) -> AsyncIterator[object]:
    async with chutes_core.AsyncChutesClient("cpk_none", base_url=url) as made:
        async for delta in made.stream([{"role": "user", "content": QUESTION}], model=MODEL):
            yield delta


async def astream_chat(url: str) -> AsyncIterator[object]:
    async for chunk in langchain_chutes.ChatChutes(model=MODEL, api_key="cpk_none", base_url=url).astream(QUESTION):
        yield chunk


def call_core(model: Any) -> object:
    return model.chat([{"role": "user", "content": QUESTION}], model=MODEL)


def call_chat(model: Any) -> object:
    return model.invoke(QUESTION)


def call_llm(model: Any) -> object:
    return model.chat([ChatMessage(QUESTION)])


STREAMS: dict[str, tuple[Callable[[int], Any], Callable[[Any], int]]] = {
    "ChutesClient.stream": (core, stream_core),
    "ChatChutes.stream": (chat, stream_chat),
    "LangChain ChutesFallback.stream": (chat_fallback, stream_chat),
    "Chutes.stream_chat": (llm, stream_llm),
    "LlamaIndex ChutesFallback.stream_chat": (llm_fallback, stream_llm),
    "AsyncChutesClient.stream, a token at a time": (int, in_step(astream_core)),
    "ChatChutes.astream, a token at a time": (int, in_step(astream_chat)),
}
CALLS: dict[str, tuple[Callable[[int], Any], Callable[[Any], object]]] = {
    "ChutesClient.chat": (core, call_core),
    "ChatChutes.invoke": (chat, call_chat),
    "LangChain ChutesFallback.invoke": (chat_fallback, call_chat),
    "Chutes.chat": (llm, call_llm),
    "LlamaIndex ChutesFallback.chat": (llm_fallback, call_llm),
}
RECORDED = {
    "ChutesClient.stream": 67,
    "ChatChutes.stream": 79,
    "LangChain ChutesFallback.stream": 85,
    "Chutes.stream_chat": 74,
    "LlamaIndex ChutesFallback.stream_chat": 78,
    "AsyncChutesClient.stream, a token at a time": 70,
    "ChatChutes.astream, a token at a time": 83,
    "ChutesClient.chat": 497,
    "ChatChutes.invoke": 603,
    "LangChain ChutesFallback.invoke": 1871,
    "Chutes.chat": 597,
    "LlamaIndex ChutesFallback.chat": 1830,
}
"""Function calls of ours, per chunk of a stream and per call with a whole reply, on Python 3.11."""
LANGCHAIN = "from langchain_core.language_models import BaseChatModel; from langchain_core.runnables import RunnableMap"
IMPORTS = {
    "chutes_core": ("pass", "from chutes_core import ChutesClient", 239),
    "LangChain": (LANGCHAIN, "from langchain_chutes import ChatChutes", 52),
    "LangChain, fallback": (LANGCHAIN, "from langchain_chutes import ChutesFallback", 128),
    "LlamaIndex": ("import llama_index.core", "from llama_index_chutes import Chutes", 50),
}
"""The framework alone, what is imported after it, and how many modules that loads."""


def calls_of(work: Callable[[], object]) -> int:
    """How many functions our packages call, and are called with, during some work; the doubles do not count."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        name = frame.f_code.co_filename
        count += event in ("call", "c_call") and name.startswith(OURS) and not name.startswith(TESTING)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def per_chunk(name: str, short: int = 100, long: int = 300) -> float:
    make, stream = STREAMS[name]
    counts = []
    for chunks in (short, long):
        model = make(chunks)
        assert stream(model) >= chunks
        counts.append(calls_of(lambda model=model: stream(model)))  # type: ignore[misc]
    return (counts[1] - counts[0]) / (long - short)


def per_call(name: str) -> int:
    make, call = CALLS[name]
    model = make(8)
    call(model)
    return calls_of(lambda: call(model))


def measured() -> dict[str, int]:
    return {**{name: round(per_chunk(name)) for name in STREAMS}, **{name: per_call(name) for name in CALLS}}


def held(name: str, count: float) -> None:
    unit = "chunk" if name in STREAMS else "call"
    assert count <= RECORDED[name] * SLACK, (
        f"{name} makes {count:.0f} function calls per {unit}; {RECORDED[name]} are on record. Find what is new there "
        "with `python -m cProfile`; where it is worth its price, record the new count in this file and say why."
    )


@pytest.mark.parametrize("name", STREAMS)
def test_calls_per_chunk(name: str) -> None:
    """A chunk of a stream costs no more function calls than are on record."""
    held(name, per_chunk(name))


@pytest.mark.parametrize("name", CALLS)
def test_calls_per_call(name: str) -> None:
    """A call that gets a whole reply costs no more function calls than are on record."""
    held(name, per_call(name))


@pytest.mark.parametrize("name", STREAMS)
def test_growth_with_the_answer(name: str) -> None:
    """The last chunks of a long answer cost as much as the first ones."""
    assert per_chunk(name, 1000, 1100) == pytest.approx(per_chunk(name, 100, 200), rel=0.02)


@pytest.mark.parametrize("name", ["ChatChutes.invoke", "LangChain ChutesFallback.invoke"])
def test_growth_with_history_in_langchain(name: str) -> None:
    """Each further message of a conversation costs the same."""
    make, _ = CALLS[name]
    model = make(8)

    def conversation(turns: int) -> list[Any]:
        return [(AIMessage, HumanMessage)[turn % 2](f"Turn {turn}.") for turn in range(turns)]

    grows_evenly(lambda turns: model.invoke(conversation(turns)))


@pytest.mark.parametrize("name", ["Chutes.chat", "LlamaIndex ChutesFallback.chat"])
def test_growth_with_history_in_llama_index(name: str) -> None:
    """Each further message of a conversation costs the same."""
    make, _ = CALLS[name]
    model = make(8)

    def conversation(turns: int) -> list[ChatMessage]:
        return [ChatMessage(f"Turn {turn}.", role=("assistant", "user")[turn % 2]) for turn in range(turns)]

    grows_evenly(lambda turns: model.chat(conversation(turns)))


def grows_evenly(call: Callable[[int], object]) -> None:
    call(2)
    few, more, most = (calls_of(lambda turns=turns: call(turns)) for turns in (2, 102, 202))  # type: ignore[misc]
    assert most - more == pytest.approx(more - few, rel=0.02)


@pytest.mark.parametrize("name", ["ChutesClient.stream", "Chutes.stream_chat"])
def test_memory_of_a_stream(name: str) -> None:
    """A stream that is open keeps of each chunk its text, and nothing else (LangChain itself keeps all chunks)."""
    make, _ = STREAMS[name]
    model: Any = make(1200)
    if make is core:
        steps = model.stream([{"role": "user", "content": QUESTION}], model=MODEL)
    else:
        steps = model.stream_chat([ChatMessage(QUESTION)])
    for _ in range(100):
        next(steps)
    early = sys.getallocatedblocks()
    for _ in range(1000):
        next(steps)
    kept = (sys.getallocatedblocks() - early) / 1000
    assert kept < 4, f"An open stream keeps {kept:.1f} blocks of memory per chunk."


@cache
def modules_loaded(program: str) -> set[str]:
    """The modules that are there after a program, in a process of its own."""
    show = f"{program}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", show], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", IMPORTS)
def test_modules_imported(name: str) -> None:
    """Importing a class loads few modules beside the framework, and neither an HTTP client nor the SDK."""
    framework, ours, most = IMPORTS[name]
    added = modules_loaded(f"{framework}\n{ours}") - modules_loaded(framework)
    packages = {module.partition(".")[0] for module in added}
    assert not packages & {"openai", "httpx", "httpx2", "numpy", "cryptography", "authlib", "rich", "ray"}
    assert len(added) <= most * SLACK, (
        f"{ours!r} loads {len(added)} modules beside the framework; {most} are on record. Import what is not always "
        f"needed where it is used. There are: {sorted(added)}"
    )


if __name__ == "__main__":
    print(measured())
