"""The backends behind the gateway: a real small model, or an echo that says it is not one.

The gateway speaks Chutes; a backend only turns flattened messages into text and texts into vectors.
Tool calls, reasoning shapes, chunk formats, ``n`` and the placement of usage are up to the gateway: to force a
tool call it asks for an answer constrained to :func:`chutes_local.gateway.forced_call.tool_schema`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

BackendKind = Literal["auto", "llama", "echo"]

EMBEDDING_DIMENSIONS = 384
"""Length of every vector a backend returns (as with all-MiniLM-L6-v2)."""


class BackendError(RuntimeError):
    """The backend cannot start or did not answer; the text says what to do about it."""


class ContextOverflowError(BackendError):
    """The prompt exceeds the model's context window."""

    def __init__(self, prompt_tokens: int, context_size: int) -> None:
        super().__init__(f"The prompt has {prompt_tokens} tokens, the model's window {context_size}.")
        self.prompt_tokens = prompt_tokens
        self.context_size = context_size


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One completion request: plain text messages and the requested sampling settings.

    ``None`` means not requested. With ``json_schema`` (any schema: the backend bounds it) the answer is text that is
    valid under it, unless ``max_tokens`` cuts it off. With ``continued`` the last message is the beginning of the
    answer: the model goes on where it ends, and yields only what is new.

    >>> ChatRequest(messages=({"role": "user", "content": "hi"},), max_tokens=8).temperature is None
    True
    """

    messages: Sequence[Mapping[str, str]]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: Sequence[str] = ()
    json_schema: Mapping[str, object] | None = None
    continued: bool = False


@dataclass(frozen=True, slots=True)
class EngineDelta:
    """One step of an answer: some text, or the end with its finish reason (``stop`` or ``length``) and usage.

    ``completion_tokens`` counts from the start of the answer, never per delta. ``prompt_tokens`` is set whenever
    the engine reports it, and always on the last delta.
    """

    content: str = ""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """One vector per text, in order, and the number of tokens used."""

    vectors: list[list[float]]
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Health:
    """What has become of an engine: its state, how often it was started again, and what was last wrong with it."""

    state: Literal["running", "restarting", "down"] = "running"
    restarts: int = 0
    last_problem: str = ""


class Backend(Protocol):
    """Interface that the gateway needs of a model. An instance belongs to one event loop."""

    name: str  # "SmolLM2-135M-Instruct (llama.cpp)", "echo (not a model)"
    is_model: bool

    async def start(self) -> None:
        """Fetch weights if needed, start and warm up; return once the first request can be answered."""

    async def stop(self) -> None:
        """Stop and clean up; safe to call twice, or without a start."""

    def chat(self, request: ChatRequest) -> AsyncGenerator[EngineDelta, None]:
        """Stream one answer: deltas with content, then exactly one with ``finish_reason`` and usage.

        Raises ``ContextOverflowError`` for a prompt that is too long and ``SchemaError`` for a schema that cannot
        constrain an answer, both before the first delta, and ``BackendError`` when the engine fails. Closing the
        iterator cancels the generation.
        """

    async def embed(self, texts: list[str]) -> EmbedResult:
        """Embed every text."""


def health_of(backend: Backend) -> Health:
    """Return what a backend says of its engine; one that says nothing has none that could die."""
    found = getattr(backend, "health", None)
    return found if isinstance(found, Health) else Health()
