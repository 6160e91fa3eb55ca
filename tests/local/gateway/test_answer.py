"""What becomes of a backend that fails, at each moment of an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator

import httpx
import pytest

from chutes_local import serve
from chutes_local.backends.backend import (
    BackendError,
    ChatRequest,
    ContextOverflowError,
    EmbedResult,
    EngineDelta,
)
from chutes_local.backends.echo import EchoBackend
from chutes_local.gateway.answer import frames_of
from chutes_local.gateway.request import Job
from chutes_local.wire import errors
from chutes_local.world.fleet import Shape
from tests.local.conftest import EMBEDDER, MODEL, events, request_over_socket, spoken

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
KEY = {"Authorization": "Bearer x"}


class Failing:
    """Says so many words, and then fails."""

    name, is_model = "failing (not a model)", False

    def __init__(self, words: int, error: BackendError) -> None:
        self.words, self.error = words, error

    async def start(self) -> None:
        """Nothing."""

    async def stop(self) -> None:
        """Nothing."""

    async def chat(self, request: ChatRequest) -> AsyncGenerator[EngineDelta, None]:
        for count in range(self.words):
            yield EngineDelta(" word", prompt_tokens=1, completion_tokens=count + 1)
        raise self.error

    async def embed(self, texts: list[str]) -> EmbedResult:
        raise self.error


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_before_the_first_word_is_a_status(stream: bool) -> None:
    """The headers wait for the first word, so an early failure is a 500; the reason is in the journal."""
    with serve(backend=Failing(0, BackendError("it broke"))) as server:
        response = httpx.post(f"{server.base_url}/chat/completions", json={**BODY, "stream": stream}, headers=KEY)
        assert response.status_code == 500
        assert response.json() == {"detail": errors.engine_failed("it broke")}
        assert server.journal.wait(1)[0].note == "it broke"
        embedding = httpx.post(
            f"{server.embedding_base_url}/embeddings", json={"model": EMBEDDER, "input": "x"}, headers=KEY
        )
        assert embedding.status_code == 500


def test_a_failure_in_the_middle_is_a_bare_line() -> None:
    """Later it is a line without data: and without a newline, and what was said is billed."""
    with serve(backend=Failing(3, BackendError("it broke"))) as server:
        response = httpx.post(f"{server.base_url}/chat/completions", json={**BODY, "stream": True}, headers=KEY)
        assert response.status_code == 200
        assert spoken(events(response)) == " word word word"
        assert response.text.endswith(
            '\n\n{"error":"Unhandled exception during response stream: exhausted all available targets to no avail'
            ' (the engine of the embedded Chutes failed, which is no simulated fault: it broke)"}'
        )
        entry = server.journal.wait(1)[0]
        assert (entry.billed.completion, entry.note) == (3, "it broke")


@pytest.mark.parametrize("stream", [False, True])
def test_the_small_models_window(stream: bool) -> None:
    """A prompt that fits the row but not the model behind it is refused as too long, with the true window."""
    with serve(backend=Failing(0, ContextOverflowError(9000, 8192))) as server:
        response = httpx.post(f"{server.base_url}/chat/completions", json={**BODY, "stream": stream}, headers=KEY)
        assert response.status_code == 400
        assert "maximum context length of 8192 tokens" in response.json()["detail"]


async def test_nothing_comes_before_the_engines_first_word() -> None:
    """Not even the role is announced for an engine that says nothing."""
    with pytest.raises(BackendError):
        await anext(frames_of(Job(ChatRequest(())), Failing(0, BackendError("no"))))


async def test_usage_grows_over_choices() -> None:
    """The second choice counts on from the first."""

    class Twice(Failing):
        async def chat(self, request: ChatRequest) -> AsyncGenerator[EngineDelta, None]:
            yield EngineDelta("a", prompt_tokens=2, completion_tokens=1)
            yield EngineDelta("", "stop", 2, 1)

    backend = Twice(0, BackendError(""))
    job = Job(ChatRequest(()), n=2, shape=Shape(), reasoning="reasoning")
    frames = [frame async for frame in frames_of(job, backend)]
    totals = [frame.usage.completion for frame in frames]
    assert totals == sorted(totals)
    last = frames[-1].usage
    assert (last.prompt, last.completion - last.reasoning) == (2, 2)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_the_model(stream: bool) -> None:
    """Whoever hangs up while the model works ends its work, streamed or not; what it said is billed."""

    class Endless(EchoBackend):
        def __init__(self) -> None:
            self.waiting, self.closed = threading.Event(), threading.Event()

        async def chat(self, request: ChatRequest) -> AsyncGenerator[EngineDelta, None]:
            try:
                yield EngineDelta("word", prompt_tokens=1, completion_tokens=1)
                self.waiting.set()
                await asyncio.Event().wait()
            finally:
                self.closed.set()

    backend = Endless()
    with serve(backend=backend) as server:
        with request_over_socket(server, stream=stream):
            assert backend.waiting.wait(60)
        assert backend.closed.wait(60)
        entry = server.journal.wait(1)[0]
        assert entry.ended == "client left"
        assert entry.billed.completion == 1
