"""LangChain's standard tests, on stock ChatOpenAI against the embedded Chutes with an echo that listens.

What they find wrong is what a stock client gets wrong on Chutes; each such test is marked, with the reason. On the real
model the same tests run with our own client (tests/langchain_chutes/test_standard.py).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from chutes_local import LocalChutes, serve
from tests.langchain_chutes.attentive import AttentiveEcho
from tests.local.conftest import MODEL, OTHER

stock: Any = pytest.importorskip("langchain_openai")
standard: Any = pytest.importorskip("langchain_tests.integration_tests")

pytestmark = [
    # These two are between ChatOpenAI, the openai client and pydantic, whatever server there is.
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
    pytest.mark.filterwarnings("ignore:Received a Pydantic BaseModel V1 schema:UserWarning"),
]

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def attentive() -> Iterator[LocalChutes]:
    with serve(backend=AttentiveEcho()) as server:
        yield server


@pytest.fixture
def vcr() -> None:
    """No cassette: LangChain's test that would replay one skips itself."""


@pytest.fixture(autouse=True)
def _here(attentive: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead the client to the server, and keep the tests of pictures from fetching theirs from a network."""
    monkeypatch.setenv("OPENAI_API_BASE", attentive.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", attentive.api_key)
    monkeypatch.setattr(httpx, "get", lambda url, **settings: httpx.Response(200, content=PIXEL))


class TestStockChatOpenAI(standard.ChatModelIntegrationTests):  # type: ignore[misc]
    """All of the suite that the service has a counterpart for: no files and no sound."""

    @property
    def chat_model_class(self) -> Any:
        return stock.ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        # Each test has an event loop of its own, and ChatOpenAI one asynchronous client for all of them: a
        # connection that is kept would belong to a loop that is closed.
        headers = {"Connection": "close"}
        return {"model": OTHER, "temperature": 0, "max_tokens": 128, "max_retries": 0, "default_headers": headers}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return MODEL

    @pytest.mark.xfail(
        raises=AssertionError,
        reason="Chutes counts the usage so far on every chunk; ChatOpenAI adds all of them up",
    )
    def test_usage_metadata_streaming(self, model: Any) -> None:
        super().test_usage_metadata_streaming(model)
