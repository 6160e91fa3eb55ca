"""The embedded Chutes behind the LangChain tests: an echo, or the real models where a test is marked ``local``."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import pytest
from vcr import VCR
from vcr.cassette import Cassette
from vcr.record_mode import RecordMode

from chutes_local import LocalChutes, serve
from chutes_local.pytest_plugin import chutes_faults, chutes_local
from tests.cassettes.interactions import FOLDER, SETTINGS

from .attentive import AttentiveEcho

__all__ = ["chutes_faults", "chutes_local"]

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def server(chutes_local: LocalChutes, chutes_faults: object) -> LocalChutes:
    """The session's server with an echo, as new."""
    return chutes_local


@pytest.fixture(scope="session")
def attentive_server() -> Iterator[LocalChutes]:
    """A server with an echo that fills schemas with what it was told."""
    with serve(backend=AttentiveEcho()) as running:
        yield running


@pytest.fixture(scope="session")
def model_server() -> Iterator[LocalChutes]:
    """A server with the real models behind it."""
    with serve(backend="llama") as running:
        yield running


@pytest.fixture
def offline_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """LangChain's tests fetch their picture from the web; here they get one without it."""

    def get(url: str, **options: object) -> httpx.Response:
        return httpx.Response(200, content=PIXEL, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)


@pytest.fixture
def vcr(request: pytest.FixtureRequest) -> Iterator[Cassette]:
    """The cassette of a test of LangChain's that replays one: the same answer each time, and nothing unrecorded."""
    name = f"{request.cls.__name__}.{request.node.name}.yaml"
    replaying = VCR(cassette_library_dir=str(FOLDER), record_mode=RecordMode.NONE, **SETTINGS)
    with replaying.use_cassette(name, allow_playback_repeats=True) as cassette:
        yield cassette
