"""The embedded Chutes as an object: a server in its own thread, started and stopped from any thread.

>>> with serve(backend="echo") as chutes:
...     chutes.base_url.startswith("http://127.0.0.1:"), chutes.base_url.endswith("/v1")
(True, True)
"""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from chutes_local.app import create_app
from chutes_local.backends.backend import Backend, BackendError, BackendKind
from chutes_local.backends.choose import choose_backend
from chutes_local.faults.plan import FaultPlan
from chutes_local.wire.hosts import served
from chutes_local.wire.listener import Listener
from chutes_local.world.accounts import API_KEY, Accounts, Kind
from chutes_local.world.fleet import Chute, Fleet
from chutes_local.world.journal import Journal
from chutes_local.world.oauth import OAuthStore
from chutes_local.world.world import Clock, World

STOP_SECONDS = 10.0


def site(host: str, port: int) -> str:
    """Return the root URL of a host and port."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def environment(url: str) -> dict[str, str]:
    """Return the variables that point a program to the server at a root URL."""
    return {
        "CHUTES_API_KEY": API_KEY,
        "CHUTES_BASE_URL": f"{url}/v1",
        "CHUTES_EMBEDDING_BASE_URL": f"{url}/embed/v1",
        "CHUTES_MANAGEMENT_URL": f"{url}/api",
    }


class LocalChutes:
    """A local server that speaks Chutes, with a small model or an echo behind it.

    Args:
        backend: ``"auto"``, ``"llama"``, ``"echo"``, or your own backend.
        host: the address to listen on; rarely worth changing.
        port: the port; 0 takes a free one.
        faults: fault rules as text (see :mod:`chutes_local.faults.plan`).
        seed: makes the probabilities in ``faults`` reproducible.
        keys: kinds of account behind further keys, beyond the documented ones: ``{"cpk_x": "poor"}``.
        strict_keys: refuse keys that do not look like Chutes keys.
        redirect_uris: further redirect URIs of the demo OAuth app.
        hosts: further names under which it is reached, beside ``localhost`` and the address that it listens on.
        token: the secret for the controls by HTTP; by default ``CHUTES_LOCAL_TOKEN`` if set, else a new one.

    Everything can be read and changed from other threads while it runs.
    """

    def __init__(
        self,
        *,
        backend: Backend | BackendKind = "auto",
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Iterable[str] = (),
        seed: int = 0,
        keys: Mapping[str, Kind] | None = None,
        strict_keys: bool = False,
        redirect_uris: Iterable[str] = (),
        hosts: Iterable[str] = (),
        token: str | None = None,
    ) -> None:
        chosen = choose_backend(backend) if isinstance(backend, str) else backend
        self.world = World(
            chosen,
            faults=FaultPlan(seed=seed),
            first_rules=tuple(faults),
            accounts=Accounts(strict=strict_keys, keys=dict(keys or {})),
            redirect_uris=tuple(redirect_uris),
            hosts=served(host, hosts),
            token=token or os.environ.get("CHUTES_LOCAL_TOKEN") or secrets.token_urlsafe(24),
        )
        self._host, self._port = host, port
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._listener: Listener | None = None

    # ------------------------------------------------------------- lifecycle

    def start(self) -> LocalChutes:
        """Start, and return once requests can be answered; with ``llama`` this may fetch weights."""
        if self._thread is not None:
            return self
        self._ready.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._run, name="chutes_local", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            raise self._failure
        atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """Stop; answers in progress are cut off. Safe to call twice, or without a start."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        atexit.unregister(self.stop)
        self.interrupt()
        thread.join(STOP_SECONDS)

    def interrupt(self) -> None:
        """Ask the server to stop, even while it starts, without waiting: for signal handlers."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with suppress(RuntimeError):  # the loop has ended already
                loop.call_soon_threadsafe(stop.set)

    def __enter__(self) -> LocalChutes:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the server is started and not stopped."""
        return self._thread is not None and self._thread.is_alive()

    # ------------------------------------------------------------- addresses

    @property
    def url(self) -> str:
        """The root URL, without a path."""
        if not self._port:
            raise RuntimeError("The server has no address yet: start() it, or use it in a with statement.")
        return site(self._host, self._port)

    @property
    def base_url(self) -> str:
        """The LLM gateway: ``https://llm.chutes.ai/v1`` on the real service."""
        return self.env["CHUTES_BASE_URL"]

    @property
    def embedding_base_url(self) -> str:
        """The embedding gateway: ``https://embed.chutes.ai/v1`` on the real service."""
        return self.env["CHUTES_EMBEDDING_BASE_URL"]

    @property
    def management_url(self) -> str:
        """The management API: ``https://api.chutes.ai`` on the real service."""
        return self.env["CHUTES_MANAGEMENT_URL"]

    def chute_url(self, model: str) -> str:
        """Return the URL of one model's own host: ``https://{slug}.chutes.ai/v1`` on the real service."""
        chute = self.world.fleet.find(model)
        if chute is None:
            raise ValueError(f"No model {model!r} here; the models are {', '.join(c.name for c in self.world.fleet)}.")
        return f"{self.url}/chute/{chute.slug}/v1"

    @property
    def api_key(self) -> str:
        """The documented fake key, which is accepted."""
        return API_KEY

    @property
    def token(self) -> str:
        """The secret for the controls by HTTP, which are sent it as ``X-Local-Token``."""
        return self.world.token

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that point a program to this server."""
        return environment(self.url)

    # ---------------------------------------------------------- state, faults

    @property
    def faults(self) -> FaultPlan:
        """The fault plan."""
        return self.world.faults

    @property
    def journal(self) -> Journal:
        """The record of requests and answers."""
        return self.world.journal

    @property
    def fleet(self) -> Fleet:
        """The available models."""
        return self.world.fleet

    @property
    def accounts(self) -> Accounts:
        """The accounts, with their quota and balance."""
        return self.world.accounts

    @property
    def oauth(self) -> OAuthStore:
        """The OAuth state of the sign-in."""
        return self.world.oauth

    @property
    def clock(self) -> Clock:
        """The time by which tokens expire."""
        return self.world.clock

    def change(self, model: str, **changes: object) -> Chute:
        """Change a model: ``machines=0``, ``busy=True``, ``disabled=True``, ``tee=False``, or its shape."""
        return self.world.fleet.change(model, **changes)

    def reset(self) -> None:
        """Restore the initial state: the first faults, an empty journal, every quota."""
        self.world.reset()
        if self.running:
            self._in_loop(self._set_listening(True))

    @property
    def connections(self) -> int:
        """Number of open connections, idle kept-alive ones included."""
        return self._listener.connections if self._listener else 0

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse new connections in the block, and abort the open ones, like a host that is down."""
        self._in_loop(self._set_listening(False))
        try:
            yield
        finally:
            self._in_loop(self._set_listening(True))

    # ------------------------------------------------------------- internals

    def _in_loop(self, work: Any) -> None:
        if self._loop is None or not self.running:
            work.close()
            raise RuntimeError("The server is not running.")
        asyncio.run_coroutine_threadsafe(work, self._loop).result(STOP_SECONDS)

    async def _set_listening(self, wanted: bool) -> None:
        assert self._listener is not None  # it runs
        if wanted:
            await self._listener.open()
        else:
            self._listener.close()
            # The connections are actually lost in the next turn of the loop.
            await asyncio.sleep(0)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # start() raises it in the calling thread
            self._failure = error
        finally:
            self._ready.set()

    async def _start_backend(self, stop: asyncio.Event) -> None:
        """Start the backend, which may fetch a model; give up if the server is stopped first."""
        starting, stopping = asyncio.create_task(self.world.backend.start()), asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if starting.done():
            return await starting
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        raise BackendError("it was stopped during startup.")

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.world.stopping = asyncio.Event()
        self.world.ready = False
        self._listener = listener = Listener(create_app(self.world), self._host, self._port)
        self.world.refuse = listener.close_for
        try:
            await listener.open()  # first, so that a taken port is told before anything is fetched
            self._port = listener.port
            await self._start_backend(self._stop)
            self.world.ready = True
            self._ready.set()
            await self._stop.wait()
        finally:
            self.world.ready = False
            self.world.stopping.set()
            await asyncio.sleep(0)  # let waiting requests finish
            await listener.end()
            await self.world.backend.stop()


def serve(
    *,
    backend: Backend | BackendKind = "auto",
    host: str = "127.0.0.1",
    port: int = 0,
    faults: Iterable[str] = (),
    seed: int = 0,
    keys: Mapping[str, Kind] | None = None,
    strict_keys: bool = False,
    redirect_uris: Iterable[str] = (),
    hosts: Iterable[str] = (),
    token: str | None = None,
) -> LocalChutes:
    """Create and start a :class:`LocalChutes`; use it in a ``with`` statement, or call ``stop()``."""
    return LocalChutes(
        backend=backend,
        host=host,
        port=port,
        faults=faults,
        seed=seed,
        keys=keys,
        strict_keys=strict_keys,
        redirect_uris=redirect_uris,
        hosts=hosts,
        token=token,
    ).start()
