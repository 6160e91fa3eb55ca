"""llama.cpp's server in a child process, and the few calls made to it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import tempfile
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import TypedDict

import httpx

from chutes_local.backends import process
from chutes_local.backends.backend import BackendError, ContextOverflowError

START_SECONDS = 60.0
DYING_SECONDS = 5.0
LOG_TAIL = 2000


class ModelSettings(TypedDict):
    """How to load one model; ``context`` is the window of each of its ``slots``."""

    path: str
    context: int
    slots: int
    threads: int
    embedding: bool


class Engine:
    """A running child with its models. Construct it in a long-lived thread: the child ends with the thread."""

    def __init__(self, models: Mapping[str, ModelSettings]) -> None:
        # Other users of this machine can reach its ports, so the engine requires this key.
        key = secrets.token_urlsafe(16)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the child)
        self._said: str | None = None
        self._watcher: threading.Thread | None = None
        try:
            job = {"job": "models", "models": {name: {**each, "key": key} for name, each in models.items()}}
            self._process = process.start(job, self._log)
        except BaseException:
            self._log.close()
            raise
        self._addresses: Mapping[str, str] = {}
        # No read timeout: an answer may be queued for long, and a dead engine closes the connection. Proxy
        # settings in the environment do not apply to a local engine.
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(None, connect=10.0),
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    async def wait_until_ready(self) -> None:
        """Wait until every model is loaded.

        Raises:
            BackendError: the child exited, or took too long.
        """
        stdout = self._process.stdout
        assert stdout is not None
        try:
            line = await asyncio.wait_for(asyncio.to_thread(stdout.readline), START_SECONDS)
        except TimeoutError:
            raise self.failure(f"The model engine was not ready after {START_SECONDS:.0f} s") from None
        if not line:
            raise await self._broken("The model engine did not start")
        self._addresses = json.loads(line)

    async def post(self, model: str, path: str, body: Mapping[str, object]) -> Mapping[str, object]:
        """Request one JSON answer."""
        try:
            response = await self._http.post(self._url(model, path), json=body)
        except httpx.TransportError as error:
            raise await self._broken("The model engine did not answer") from error
        self._check(response.status_code, response.content)
        answer: Mapping[str, object] = response.json()
        return answer

    async def events(
        self, model: str, path: str, body: Mapping[str, object]
    ) -> AsyncGenerator[Mapping[str, object], None]:
        """Request a stream of JSON events. Closing the iterator makes the engine stop generating."""
        try:
            async with self._http.stream("POST", self._url(model, path), json=body) as response:
                if response.status_code != httpx.codes.OK:
                    self._check(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    _, data, event = line.partition("data: ")
                    if data:
                        yield json.loads(event)
        except httpx.TransportError as error:
            raise await self._broken("The answer broke off") from error

    async def ended(self) -> str:
        """Wait until the child has ended by itself, and say how."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def watch() -> None:
            self._process.wait()
            with suppress(RuntimeError):  # the loop has ended too
                loop.call_soon_threadsafe(over.set)

        # Not a thread of the loop's pool: a program that is ending would wait for those.
        self._watcher = threading.Thread(target=watch, name="chutes_local engine", daemon=True)
        self._watcher.start()
        await over.wait()
        return str(self.failure("The model engine ended"))

    async def close(self) -> None:
        """End the child and release all resources."""
        try:
            await self._http.aclose()
        finally:
            await asyncio.shield(asyncio.to_thread(self._end))

    def _end(self) -> None:
        process.end(self._process)
        if self._watcher is not None:
            self._watcher.join()
        self._last_words()
        self._log.close()

    async def _broken(self, what: str) -> BackendError:
        """Describe a broken connection; wait briefly, because a crashed child may take a moment to exit."""
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, DYING_SECONDS)
        return self.failure(what)

    def failure(self, what: str) -> BackendError:
        """Describe a failure, with the end of the child's log if the child has exited."""
        code = self._process.poll()
        if code is None:
            return BackendError(f"{what}.")
        return BackendError(f"{what}: its process exited with {code}. {self._last_words()}".rstrip())

    def _last_words(self) -> str:
        """Return the end of the child's log, also once that is closed: answers may still be breaking off."""
        if self._said is None:
            self._log.seek(0, os.SEEK_END)
            self._log.seek(max(0, self._log.tell() - LOG_TAIL))
            self._said = self._log.read().decode(errors="replace").strip()
        return self._said

    def _url(self, model: str, path: str) -> str:
        return self._addresses[model] + path

    def _check(self, status: int, content: bytes) -> None:
        """Raise for an error status."""
        if status == httpx.codes.OK:
            return
        try:
            error = json.loads(content)["error"]
            if error["type"] == "exceed_context_size_error":
                raise ContextOverflowError(error["n_prompt_tokens"], error["n_ctx"])
            message = error["message"]
        except (ValueError, KeyError, TypeError):
            message = content[:200].decode(errors="replace")
        raise self.failure(f"The model engine refused the request ({status}): {message}")
