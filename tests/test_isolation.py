"""The rules of the root conftest.py, tried from the outside: what a test sees, and where it can connect."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import platformdirs
import pytest
from pytest_socket import SocketConnectBlockedError

from chutes_core import Catalog
from chutes_core.wire.pools import http_package
from chutes_local.backends.weights import cache_folder

pytest_plugins = ["pytester"]

RULES = Path(__file__).resolve().parent.parent / "conftest.py"
SAMPLE = """
import os
import pytest

def test_ordinary():
    assert not {"CHUTES_API_KEY", "OPENAI_API_KEY", "HTTPS_PROXY"} & set(os.environ)

@pytest.mark.live
def test_live():
    assert os.environ["CHUTES_API_KEY"]
"""


def test_connecting_elsewhere_is_refused() -> None:
    """A test cannot reach another machine (192.0.2.1 is reserved for documentation)."""
    with socket.socket() as client, pytest.raises(SocketConnectBlockedError):
        client.connect(("192.0.2.1", 80))


def test_connecting_to_this_machine_is_allowed() -> None:
    """A test can talk to a server of its own."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert client.getpeername() == server.getsockname()


def test_environment_is_clean() -> None:
    """No key, login, endpoint or proxy of the developer's shell is visible."""
    assert [name for name in os.environ if name.startswith(("CHUTES_", "OPENAI_"))] == ["CHUTES_CONFIG_DIR"]
    assert not Path(os.environ["CHUTES_CONFIG_DIR"]).exists()
    assert [name for name in os.environ if name.lower().endswith("_proxy")] == []


def test_the_list_of_models_is_the_snapshot() -> None:
    """What the developer's own runs have cached is not seen, nor changed; the embedded models are where they were."""
    kept = Catalog.bundled().save()
    assert kept is not None
    assert not kept.is_relative_to(Path.home())
    assert cache_folder({}).parent == Path(platformdirs.user_cache_dir("chutes-connect", appauthor=False))


def test_the_second_environment_runs_on_httpx(pytestconfig: pytest.Config) -> None:
    """With --plain-httpx the core's own connections do, though another package may have brought httpx2."""
    if pytestconfig.getoption("--plain-httpx"):
        assert http_package().__name__ == "httpx"


@pytest.mark.parametrize(("api_key", "outcome"), [("", {"passed": 1, "skipped": 1}), ("set", {"passed": 2})])
def test_live_tests_wait_for_a_key(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, api_key: str, outcome: dict[str, int]
) -> None:
    """A live test is skipped without a key and sees it with one; every other test never sees it."""
    monkeypatch.setenv("CHUTES_API_KEY", api_key)
    monkeypatch.setenv("OPENAI_API_KEY", "set")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    pytester.makeconftest(RULES.read_text())
    pytester.makeini("[pytest]\nmarkers = live: calls the real service\n")
    pytester.makepyfile(SAMPLE)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(**outcome)
