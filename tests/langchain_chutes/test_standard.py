"""LangChain's own tests for chat models and embeddings, with every switch on that the models have.

The unit tests need no service. The integration tests run against the embedded Chutes with an echo behind it,
which calls a tool or fills a schema with the smallest values that fit; the same tests run once more on the
real model, marked ``local``.
"""

from __future__ import annotations

from typing import Any, Literal

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests

from chutes_local import LocalChutes
from langchain_chutes import ChatChutes, ChutesEmbeddings

# It sees images and has every feature, so that every switch can be on.
MODEL = "google/gemma-4-31B-turbo-TEE"
OTHER = "Qwen/Qwen3-32B-TEE"
KEY = "cpk_0123"

Details = dict[
    Literal["invoke", "stream"],
    list[Literal["audio_input", "audio_output", "reasoning_output", "cache_read_input", "cache_creation_input"]],
]


class TestChatUnit(ChatModelUnitTests):
    """What a model object must be able to do without a service."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatChutes

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": MODEL, "api_key": KEY}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {**super().standard_chat_model_params, "api_key": KEY}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"CHUTES_API_KEY": KEY}, {"model": MODEL}, {"api_key": KEY}


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    """The same for embeddings."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return ChutesEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"api_key": KEY}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"CHUTES_API_KEY": KEY}, {}, {"api_key": KEY}


class ChatIntegration(ChatModelIntegrationTests):
    """Everything the service can do, seen through LangChain."""

    server: LocalChutes

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatChutes

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": MODEL, "api_key": self.server.api_key, "base_url": self.server.base_url}

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return OTHER

    @property
    def supported_usage_metadata_details(self) -> Details:
        return {"invoke": ["reasoning_output"], "stream": ["reasoning_output"]}

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        """Think before the answer."""
        model = ChatChutes(**{**self.chat_model_params, "model": OTHER}, reasoning=True)
        if not stream:
            return model.invoke("What is 2 + 2?")
        first, *rest = model.stream("What is 2 + 2?")
        whole: AIMessage = first + rest
        return whole


@pytest.mark.usefixtures("offline_pictures")
class TestChatIntegration(ChatIntegration):
    """On the echo."""

    @pytest.fixture(autouse=True)
    def _serve(self, server: LocalChutes) -> None:
        type(self).server = server


@pytest.mark.local
@pytest.mark.usefixtures("offline_pictures")
class TestChatIntegrationOnAModel(ChatIntegration):
    """On a real model of 135M parameters."""

    @pytest.fixture(autouse=True)
    def _serve(self, model_server: LocalChutes) -> None:
        type(self).server = model_server


class EmbeddingsIntegration(EmbeddingsIntegrationTests):
    """Vectors, blocking and async."""

    server: LocalChutes

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return ChutesEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {
            "api_key": self.server.api_key,
            "base_url": self.server.base_url,
            "embedding_base_url": self.server.embedding_base_url,
        }


class TestEmbeddingsIntegration(EmbeddingsIntegration):
    """On trigrams."""

    @pytest.fixture(autouse=True)
    def _serve(self, server: LocalChutes) -> None:
        type(self).server = server


@pytest.mark.local
class TestEmbeddingsIntegrationOnAModel(EmbeddingsIntegration):
    """On a real model."""

    @pytest.fixture(autouse=True)
    def _serve(self, model_server: LocalChutes) -> None:
        type(self).server = model_server
