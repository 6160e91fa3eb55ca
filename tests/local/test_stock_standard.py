from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("langchain_openai")
pytest.importorskip("langchain_tests")

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

from chutes_local import LocalChutes, serve

pytestmark = pytest.mark.local


@pytest.fixture(scope="module")
def real() -> Iterator[LocalChutes]:
    with serve(backend="auto") as server:
        yield server


@pytest.fixture(autouse=True)
def _here(real, monkeypatch):
    monkeypatch.setenv("OPENAI_API_BASE", real.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", real.api_key)


class TestStock(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "google/gemma-4-31B-turbo-TEE", "temperature": 0, "max_tokens": 64, "max_retries": 0}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "Qwen/Qwen3-32B-TEE"
