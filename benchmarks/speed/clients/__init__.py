"""The clients under measurement.

An :class:`Entry` says where a client comes from; nothing of it is imported before it is measured. Its adapter gives
every client the same face, :class:`Client`, and does nothing per chunk.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

Turns = Sequence[tuple[str, str]]

FRAMEWORKS = {
    "none": (),
    "LangChain": (
        "langchain_core.callbacks.manager",
        "langchain_core.language_models.chat_models",
        "langchain_core.messages.ai",
        "langchain_core.outputs.chat_result",
        "langchain_core.runnables.base",
        "langchain_core.tools.base",
    ),
    "LlamaIndex": ("llama_index.core",),
}
"""What counts as the framework alone: it is imported before the clock of a client's import starts."""


@dataclass(frozen=True)
class Client:
    """One client, ready to be called; what it cannot do is None."""

    messages: Callable[[Turns], Any]
    """Makes a conversation in the client's own form, outside of what is measured."""
    whole: Callable[[Any], str]
    stream: Callable[[Any], Iterator[Any]]
    text: Callable[[Any], str]
    """The text of a chunk of a stream."""
    awhole: Callable[[Any], Awaitable[str]] | None = None
    astream: Callable[[Any], AsyncIterator[Any]] | None = None
    tools: Callable[[Any], list[dict[str, Any]]] | None = None
    """The arguments of the calls of a streamed tool call."""
    structured: Callable[[Any], Any] | None = None
    batch: Callable[[list[Any]], list[str]] | None = None


@dataclass(frozen=True)
class Entry:
    """A client that can be measured.

    Attributes:
        name: In tables.
        framework: Of :data:`FRAMEWORKS`.
        imports: The module and the name that a user imports; empty for what is made here.
        adapter: The function that makes a :class:`Client` for an address and a model.
        sdk: The openai SDK of its environment.
        twin: Whether it is there beside the same client of the other environment, to compare others with.
        floor: Whether it shows what the framework itself costs.
    """

    name: str
    framework: str
    imports: tuple[str, str]
    adapter: str
    sdk: int = 3
    twin: bool = False
    floor: bool = False
    tokens: bool = True
    """Whether it is measured a token at a time."""
    named: bool = False
    """Whether the aims name it, or it belongs beside those: it is measured a token at a time in all ways."""

    @property
    def key(self) -> str:
        """Its name in figures: one client may be measured in both environments."""
        return f"{self.name} (openai 2)" if self.twin else self.name

    def load(self) -> Callable[[str, str], Client]:
        """Import the adapter, and with it the client."""
        module, _, name = self.adapter.partition(":")
        made: Callable[[str, str], Client] = getattr(import_module(f"benchmarks.speed.clients.{module}"), name)
        return made


RAW, SDK = "httpx, JSON parsed", "openai SDK"
_LC, _LI = "LangChain", "LlamaIndex"

CLIENTS = [
    Entry(RAW, "none", ("httpx", "Client"), "raw:with_httpx", tokens=False),
    Entry("httpx2, JSON parsed", "none", ("httpx2", "Client"), "raw:with_httpx2", tokens=False),
    Entry(SDK, "none", ("openai", "OpenAI"), "raw:openai_sdk"),
    Entry("chutes_core", "none", ("chutes_core", "ChutesClient"), "raw:chutes_core", named=True),
    Entry("chutes_core, e2ee", "none", ("chutes_core", "ChutesClient"), "raw:chutes_core_sealed", tokens=False),
    Entry("LangChain's floor", _LC, ("", ""), "langchain_floor:floor", floor=True, tokens=False),
    Entry("ChatChutes", _LC, ("langchain_chutes", "ChatChutes"), "langchain:chat_chutes", named=True),
    Entry("ChatChutes, e2ee", _LC, ("langchain_chutes", "ChatChutes"), "langchain:chat_chutes_sealed", tokens=False),
    Entry("ChutesFallback", _LC, ("langchain_chutes", "ChutesFallback"), "langchain:fallback", named=True),
    Entry("ChatOpenAI", _LC, ("langchain_openai", "ChatOpenAI"), "langchain:chat_openai", named=True),
    Entry("ChatFireworks", _LC, ("langchain_fireworks", "ChatFireworks"), "langchain:chat_fireworks"),
    Entry("ChatOpenRouter", _LC, ("langchain_openrouter", "ChatOpenRouter"), "langchain:chat_openrouter"),
    Entry("LlamaIndex's floor", _LI, ("", ""), "llama_index_floor:floor", floor=True, tokens=False),
    Entry("LlamaIndex Chutes", _LI, ("llama_index_chutes", "Chutes"), "llama_index:chutes"),
    Entry("LlamaIndex ChutesFallback", _LI, ("llama_index_chutes", "ChutesFallback"), "llama_index:fallback"),
    Entry(RAW, "none", ("httpx", "Client"), "raw:with_httpx", 2, True, tokens=False),
    Entry(SDK, "none", ("openai", "OpenAI"), "raw:openai_sdk", 2, True, tokens=False),
    Entry("ChatChutes", _LC, ("langchain_chutes", "ChatChutes"), "langchain:chat_chutes", 2, True, tokens=False),
    Entry("ChatLiteLLM", _LC, ("langchain_litellm", "ChatLiteLLM"), "langchain:chat_litellm", 2),
    Entry("LlamaIndex Chutes", _LI, ("llama_index_chutes", "Chutes"), "llama_index:chutes", 2, True, tokens=False),
    Entry("OpenAILike", _LI, ("llama_index.llms.openai_like", "OpenAILike"), "llama_index:openai_like", 2),
    Entry("LlamaIndex LiteLLM", _LI, ("llama_index.llms.litellm", "LiteLLM"), "llama_index:litellm", 2),
]

BARE, BARE_BLOCKING = "asyncio, bytes", "sockets, bytes"
WIRE = [
    Entry(BARE, "none", ("", ""), "wire:bare", floor=True, named=True),
    Entry("aiohttp, bytes", "none", ("aiohttp", "ClientSession"), "wire:with_aiohttp", named=True),
    Entry("httpx2, bytes", "none", ("httpx2", "Client"), "wire:with_httpx2", named=True),
]
"""Those that look at no byte; they are measured a token at a time only."""
TOKENS = [*WIRE, *(entry for entry in CLIENTS if entry.tokens)]
"""Who is measured a token at a time on an event loop."""
THREADS = [
    Entry(BARE_BLOCKING, "none", ("", ""), "wire:bare", floor=True, named=True),
    *(entry for entry in TOKENS if entry.name in ("httpx2, bytes", "chutes_core", "ChatChutes", "ChatOpenAI")),
]
"""Who is in blocking calls."""

BY_KEY = {entry.key: entry for entry in (*CLIENTS, *WIRE, *THREADS)}
