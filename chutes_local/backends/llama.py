"""The backend with real models: llama.cpp on this machine's CPU; nothing is sent elsewhere."""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import cast

from chutes_local.backends.backend import BackendError, ChatRequest, EmbedResult, EngineDelta, Health
from chutes_local.backends.bounds import bounded
from chutes_local.backends.engine import Engine, ModelSettings
from chutes_local.backends.progress import Progress
from chutes_local.backends.supervisor import Supervisor
from chutes_local.backends.weights import CHAT, EMBEDDING, WeightsError, ensure

CHAT_CONTEXT = 4096
EMBEDDING_CONTEXT = 512
DEFAULT_MAX_TOKENS = 512  # a small model that is not told when to stop may not stop
DEFAULT_TEMPERATURE = 0.2  # what the model's authors recommend

CLS, SEP = 101, 102  # what encloses a text in the embedding model's vocabulary

# Compact JSON: a small model gets lost in free white space.
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_ROLES = {"system": "system", "developer": "system", "assistant": "assistant"}


class XLlamaCppBackend:
    """SmolLM2-135M-Instruct for chat and all-MiniLM-L6-v2 for embeddings, in a child process."""

    name = "SmolLM2-135M-Instruct (llama.cpp)"
    is_model = True

    def __init__(
        self, *, threads: int | None = None, cache: Path | None = None, progress: Progress | None = None
    ) -> None:
        self.threads = threads or default_threads()
        self._cache = cache
        self._progress = progress
        self._supervisor: Supervisor[Engine] | None = None

    @property
    def health(self) -> Health:
        """What has become of the engine, for ``/local``."""
        return self._supervisor.health if self._supervisor else Health("down")

    async def start(self) -> None:
        """Fetch the weights if they are not cached, start the engine and warm both models up."""
        if self._supervisor is not None:
            return
        chat, embedding = await self._weights()
        supervisor = Supervisor(lambda: _ready(models(chat, embedding, self.threads)))
        await supervisor.start()
        self._supervisor = supervisor

    async def stop(self) -> None:
        """End the engine; safe to call at any time."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            await supervisor.stop()

    async def chat(self, request: ChatRequest) -> AsyncGenerator[EngineDelta, None]:
        """Stream one answer."""
        engine, text = await self._running(), ""
        async with aclosing(engine.events("chat", "/completion", completion_body(request))) as events:
            async for event in events:
                if "error" in event:
                    raise engine.failure(f"The model engine gave up: {event['error']}")
                prompt_tokens, count = (
                    cast(int, event["tokens_evaluated"]),
                    cast(int, event["tokens_predicted"]),
                )
                if content := str(event["content"]):
                    text += content
                    yield EngineDelta(content, prompt_tokens=prompt_tokens, completion_tokens=count)
                if event["stop"]:
                    reason = "length" if event["stop_type"] == "limit" else "stop"
                    if reason == "stop" and request.json_schema is not None and not request.stop:
                        _insist_on_json(text)
                    yield EngineDelta("", reason, prompt_tokens, count)
                    return
        raise engine.failure("The answer broke off")

    async def embed(self, texts: list[str]) -> EmbedResult:
        """Embed every text; a text longer than the model's window is embedded in parts and averaged."""
        if not texts:
            return EmbedResult([], 0)
        engine = await self._running()
        parts = [await _parts(engine, text) for text in texts]
        body = {"input": [part for each in parts for part in each], "model": EMBEDDING.filename}
        reply = await engine.post("embedding", "/v1/embeddings", body)
        rows = cast("list[Mapping[str, object]]", reply["data"])
        in_order = sorted(rows, key=lambda row: cast(int, row["index"]))
        vectors = iter([cast("list[float]", row["embedding"]) for row in in_order])
        joined = [mean([next(vectors) for _ in each], [len(part) for part in each]) for each in parts]
        return EmbedResult(joined, cast("Mapping[str, int]", reply["usage"])["prompt_tokens"])

    async def _weights(self) -> tuple[Path, Path]:
        cancel = threading.Event()

        def fetch() -> tuple[Path, Path]:
            chat = ensure(CHAT, self._cache, progress=self._progress, cancel=cancel)
            return chat, ensure(EMBEDDING, self._cache, progress=self._progress, cancel=cancel)

        try:
            return await asyncio.to_thread(fetch)
        except WeightsError as error:
            raise BackendError(str(error)) from error
        finally:
            cancel.set()  # a cancelled start must not leave the thread fetching

    async def _running(self) -> Engine:
        if self._supervisor is None:
            raise BackendError("The backend is not running: call start() first.")
        return await self._supervisor.engine()


async def _ready(settings: Mapping[str, ModelSettings]) -> Engine:
    """Return a new engine, loaded and warm."""
    engine = Engine(settings)
    try:
        await engine.wait_until_ready()
        await asyncio.gather(_warm_chat(engine), engine.post("embedding", "/v1/embeddings", {"input": ["warm"]}))
    except BaseException:
        await engine.close()
        raise
    return engine


async def _warm_chat(engine: Engine) -> None:
    request = ChatRequest(({"role": "user", "content": "Hi"},), max_tokens=1)
    async for _ in engine.events("chat", "/completion", completion_body(request)):
        pass


async def _parts(engine: Engine, text: str) -> Sequence[str | list[int]]:
    room = EMBEDDING_CONTEXT - 2
    if len(text) <= room:  # a token has at least one character
        return [text]
    reply = await engine.post("embedding", "/tokenize", {"content": text})
    tokens = cast("list[int]", reply["tokens"])
    return [[CLS, *tokens[start : start + room], SEP] for start in range(0, len(tokens), room)] or [text]


def default_threads() -> int:
    """Return the engine's thread count: one on a small machine, where more would compete."""
    return max(1, min(4, (os.cpu_count() or 1) // 2))


def models(chat: Path, embedding: Path, threads: int) -> dict[str, ModelSettings]:
    """Return the settings for loading both models."""
    return {
        "chat": {
            "path": str(chat),
            "context": CHAT_CONTEXT,
            "slots": 2,
            "threads": threads,
            "embedding": False,
        },
        "embedding": {
            "path": str(embedding),
            "context": EMBEDDING_CONTEXT,
            "slots": 4,
            "threads": threads,
            "embedding": True,
        },
    }


def completion_body(request: ChatRequest) -> dict[str, object]:
    r"""Build the engine's request for one answer.

    >>> body = completion_body(ChatRequest(({"role": "user", "content": "Hi"},), max_tokens=5, seed=1))
    >>> body["prompt"], body["n_predict"], body["seed"]
    ('<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n', 5, 1)
    """
    body: dict[str, object] = {
        "prompt": chatml(request.messages, continued=request.continued),
        "stream": True,
        "n_predict": DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens,
        "temperature": DEFAULT_TEMPERATURE if request.temperature is None else request.temperature,
        "stop": list(request.stop),
    }
    asked = {"top_p": request.top_p, "top_k": request.top_k, "seed": request.seed}
    body.update((key, value) for key, value in asked.items() if value is not None)
    if request.json_schema is not None:
        body["json_schema"] = {**bounded(request.json_schema), "x-guidance": _COMPACT}
    return body


def chatml(messages: Sequence[Mapping[str, str]], *, continued: bool = False) -> str:
    r"""Format messages as the model expects, without the system line that its chat template adds.

    That line turns the answers of so small a model into gibberish. Markers inside a message are broken up, or one
    message could pretend to be several. If the last one is ``continued``, its turn stays open.

    >>> chatml([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hel"}], continued=True)
    '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHel'
    """
    turns = []
    for message in messages:
        content = message["content"].replace("<|im_", "<| im_")
        turns.append(f"<|im_start|>{_ROLES.get(message['role'], 'user')}\n{content}<|im_end|>\n")
    if continued:
        return "".join(turns).removesuffix("<|im_end|>\n")
    return "".join(turns) + "<|im_start|>assistant\n"


def _insist_on_json(text: str) -> None:
    # The engine silently drops a grammar that it cannot compile, and answers in prose.
    try:
        json.loads(text)
    except ValueError:
        raise BackendError(f"The engine did not follow the JSON schema; it wrote {text[:80]!r}.") from None


def mean(vectors: Sequence[Sequence[float]], weights: Sequence[int]) -> list[float]:
    """Return the weighted average of unit vectors, as a unit vector.

    >>> mean([[1.0, 0.0], [0.0, 1.0]], [3, 4])
    [0.6, 0.8]
    """
    if len(vectors) == 1:
        return list(vectors[0])
    summed = [sum(map(float.__mul__, row, map(float, weights))) for row in zip(*vectors, strict=True)]
    length = math.hypot(*summed) or 1.0
    return [value / length for value in summed]
