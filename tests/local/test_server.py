"""Starting, stopping, addresses, refusing connections."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading

import httpx
import pytest

import chutes_local
from chutes_local import LocalChutes, serve
from chutes_local.backends.backend import BackendError, EmbedResult
from chutes_local.backends.echo import EchoBackend
from chutes_local.hosts import STARTING
from tests.local.conftest import MODEL

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


def test_what_the_package_offers() -> None:
    """Every public name can be imported, and no other pretends to be there."""
    for name in chutes_local.__all__:
        assert getattr(chutes_local, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = chutes_local.nothing  # type: ignore[attr-defined]


def test_addresses() -> None:
    """Each host of the service has an address under the one port, and the environment leads there."""
    with serve(backend="echo") as server:
        root = server.url
        assert server.base_url == f"{root}/v1"
        assert server.embedding_base_url == f"{root}/embed/v1"
        assert server.management_url == f"{root}/api"
        assert server.chute_url(MODEL) == f"{root}/chute/chutes-qwen-qwen3-32b-tee/v1"
        assert set(server.env) == {
            "CHUTES_API_KEY", "CHUTES_BASE_URL", "CHUTES_EMBEDDING_BASE_URL", "CHUTES_MANAGEMENT_URL",
        }  # fmt: skip
        with pytest.raises(ValueError, match="No model 'nobody'"):
            server.chute_url("nobody")


def test_no_connection_becomes_a_websocket() -> None:
    """The service has none, whatever else is installed that could make one."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "eA==",
    }
    with serve(backend="echo") as server:
        assert httpx.get(f"{server.base_url}/models", headers=headers).status_code == 200


def test_before_the_start_there_is_no_address() -> None:
    """An address is only known once the server runs."""
    with pytest.raises(RuntimeError, match="start"):
        _ = LocalChutes(backend="echo").url


def test_stopping_frees_port_and_thread() -> None:
    """After stop() the port is closed and the thread has ended; stopping again does nothing."""
    before = threading.active_count()
    server = serve(backend="echo")
    port = int(server.url.rpartition(":")[2])
    assert server.running
    server.stop()
    server.stop()
    assert not server.running
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=60)


def test_starting_again_keeps_the_port() -> None:
    """A stopped server can be started again, at the same address; starting twice does nothing."""
    server = serve(backend="echo")
    url = server.url
    server.stop()
    with server:
        assert server.start() is server
        assert server.url == url
        assert httpx.get(f"{url}/v1/models").status_code == 200


def test_stopping_cuts_off_what_hangs() -> None:
    """Answers that wait do not hold up the stop, and are noted as cut by it."""
    server = serve(backend="echo", faults=["*=stall(after=1, seconds=600)"])
    with httpx.Client(timeout=60) as client:
        request = {**BODY, "stream": True}
        url = f"{server.base_url}/chat/completions"
        with client.stream("POST", url, json=request, headers={"Authorization": "x"}) as response:
            pieces = response.iter_text()
            next(pieces)
            server.stop()
            with pytest.raises(httpx.TransportError):
                list(pieces)
    assert not server.running
    assert server.journal.wait(1)[0].ended in ("server stopped", "client left")


def test_a_backend_that_cannot_start() -> None:
    """Its error reaches whoever called start(), and no thread is left."""

    class Broken(EchoBackend):
        stopped = False

        async def start(self) -> None:
            raise BackendError("no weights")

        async def stop(self) -> None:
            self.stopped = True

    backend, before = Broken(), threading.active_count()
    with pytest.raises(BackendError, match="no weights"):
        serve(backend=backend)
    assert backend.stopped
    assert threading.active_count() == before


def test_a_port_that_is_taken() -> None:
    """A taken port is an OSError in the caller's thread."""
    with serve(backend="echo") as server, pytest.raises(OSError, match="in use"):
        serve(backend="echo", port=int(server.url.rpartition(":")[2]))


def test_a_taken_port_is_told_before_anything_is_started() -> None:
    """Nothing is fetched for a server that cannot listen, and the error says what to do."""

    class Noted(EchoBackend):
        started = False

        async def start(self) -> None:
            self.started = True

    backend = Noted()
    with serve(backend="echo") as server, pytest.raises(OSError, match=r"is in use, .* or use --port 0") as caught:
        serve(backend=backend, port=int(server.url.rpartition(":")[2]))
    assert caught.value.errno == errno.EADDRINUSE
    assert not backend.started


def test_while_it_starts_it_says_so() -> None:
    """Requests before the engine is ready are refused with a reason; the overview tells too."""
    said: list[object] = []

    class Asked(EchoBackend):
        async def start(self) -> None:
            async with httpx.AsyncClient(base_url=server.url) as client:
                refused = await client.get("/v1/models")
                said.extend([refused.status_code, refused.json()["detail"]])
                said.append((await client.get("/local")).json()["engine"]["state"])

    server = LocalChutes(backend=Asked())
    with server:
        assert said == [503, STARTING, "starting"]
        assert httpx.get(f"{server.base_url}/models").status_code == 200


def test_refusing_connections() -> None:
    """Inside refusing() new connections are refused and kept ones broken; afterwards all is well."""
    with serve(backend="echo") as server, httpx.Client() as client:
        assert client.get(f"{server.base_url}/models").status_code == 200
        with server.refusing():
            for _ in range(2):
                with pytest.raises(httpx.TransportError):
                    client.get(f"{server.base_url}/models")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60)
        assert client.get(f"{server.base_url}/models").status_code == 200


def test_reset_ends_a_refusal() -> None:
    """The fault ``refused`` closes the door for everyone, until its time is over or the server is reset."""
    with serve(backend="echo", faults=["*=refused(seconds=600) x1"]) as server:
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{server.base_url}/chat/completions", json=BODY, headers={"Authorization": "x"})
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.base_url}/models")
        server.reset()
        assert httpx.get(f"{server.base_url}/models").status_code == 200


def test_refusing_needs_a_running_server() -> None:
    """A stopped server cannot refuse."""
    with pytest.raises(RuntimeError, match="not running"), LocalChutes(backend="echo").refusing():
        pass


def test_the_first_faults_come_back_with_reset() -> None:
    """reset() goes back to the rules of the start, not to none."""
    with serve(backend="echo", faults=["*=capacity x1"], seed=4) as server:
        server.faults.add("*", "auth")
        server.reset()
        assert server.faults.describe() == ["*=capacity (1 left)"]
        assert server.faults.seed == 4


def test_a_backend_of_ones_own() -> None:
    """Anything that keeps the protocol may answer."""

    class Zero(EchoBackend):
        name = "zero"

        async def embed(self, texts: list[str]) -> EmbedResult:
            return EmbedResult([[0.5] * 4 for _ in texts], 7)

    with serve(backend=Zero()) as server:
        response = httpx.post(
            f"{server.embedding_base_url}/embeddings",
            json={"model": "Qwen/Qwen3-Embedding-8B", "input": "x"},
            headers={"Authorization": "x"},
        )
        assert response.json()["data"][0]["embedding"] == [0.5] * 4
        assert response.headers["X-Local-Backend"] == "zero"
        assert server.journal.wait(1)[0].billed.prompt == 7


def test_strict_keys() -> None:
    """With strict keys a foreign key is refused, the documented one accepted."""
    with serve(backend="echo", strict_keys=True) as server:
        url = f"{server.base_url}/chat/completions"
        foreign = httpx.post(url, json=BODY, headers={"Authorization": "Bearer sk-foreign"})
        own = httpx.post(url, json=BODY, headers={"Authorization": f"Bearer {server.api_key}"})
        assert (foreign.status_code, own.status_code) == (401, 200)


def test_many_threads_at_once() -> None:
    """Requests from many threads all come back, and all are in the journal."""
    with serve(backend="echo") as server:
        url, statuses = f"{server.base_url}/chat/completions", []

        def work() -> None:
            with httpx.Client(headers={"Authorization": "x"}) as client:
                statuses.extend(client.post(url, json=BODY).status_code for _ in range(10))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 80
        entries = server.journal.wait(80)
        assert len({entry.number for entry in entries}) == 80


def test_a_start_can_be_interrupted() -> None:
    """A server whose backend is still fetching gives that up at once, and says that it was stopped."""
    fetching, given_up = threading.Event(), threading.Event()

    class Slow(EchoBackend):
        async def start(self) -> None:
            fetching.set()
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()

    server = LocalChutes(backend=Slow())

    def interrupt() -> None:
        fetching.wait(60)
        server.interrupt()

    threading.Thread(target=interrupt).start()
    with pytest.raises(BackendError, match="stopped during startup"):
        server.start()
    assert given_up.is_set()
    assert not server.running
