"""LangChain's own tests for chat models and embeddings, with every switch on that the models have.

The unit tests need no service. The integration tests run against the embedded Chutes with an echo behind it,
which calls tools and fills schemas with the numbers and names of the question; the same tests run once more on
a real model, marked ``local``.
"""

from __future__ import annotations

from typing import Any, Literal

import langchain_tests.unit_tests.chat_models
import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.load import load as langchain_load
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests

from chutes_local import LocalChutes
from langchain_chutes import ChatChutes, ChutesEmbeddings, ChutesFallback

# It sees images and has every feature, so that every switch can be on.
MODEL = "google/gemma-4-31B-turbo-TEE"
OTHER = "Qwen/Qwen3-32B-TEE"
KEY = "cpk_0123"

Details = dict[
    Literal["invoke", "stream"],
    list[Literal["audio_input", "audio_output", "reasoning_output", "cache_read_input", "cache_creation_input"]],
]


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
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

    @pytest.fixture(autouse=True)
    def _allow_the_class(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the serialisation test load this class: "all" means langchain-core's own list of classes there."""

        def load(value: Any, *, allowed_objects: Any, **options: Any) -> Any:
            return langchain_load(value, allowed_objects=[ChatChutes], **options)

        monkeypatch.setattr(langchain_tests.unit_tests.chat_models, "load", load)


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
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {"temperature": 0, "max_tokens": 100}

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
    """On an echo that listens; the test of the time that a stream takes replays a cassette."""

    @property
    def enable_vcr_tests(self) -> bool:
        return True

    @pytest.fixture(autouse=True)
    def _serve(self, attentive_server: LocalChutes) -> None:
        type(self).server = attentive_server


@pytest.mark.local
@pytest.mark.usefixtures("offline_pictures")
class TestChatIntegrationOnAModel(ChatIntegration):
    """On a real model of 135M parameters, whose answers are kept short."""

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {"temperature": 0, "max_tokens": 60}

    @pytest.fixture(autouse=True)
    def _serve(self, model_server: LocalChutes) -> None:
        type(self).server = model_server


@pytest.mark.usefixtures("offline_pictures")
class TestFallbackIntegration(ChatIntegration):
    """The same of a fallback, also with a model that a call names."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChutesFallback

    @property
    def chat_model_params(self) -> dict[str, Any]:
        server = self.server
        return {"members": [MODEL, OTHER], "api_key": server.api_key, "base_url": server.base_url}

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        """Think before the answer."""
        model = self.chat_model_class(**{**self.chat_model_params, "members": [OTHER]}, reasoning=True)
        if not stream:
            return model.invoke("What is 2 + 2?")
        first, *rest = model.stream("What is 2 + 2?")
        whole: AIMessage = first + rest
        return whole

    @pytest.fixture(autouse=True)
    def _serve(self, attentive_server: LocalChutes) -> None:
        type(self).server = attentive_server


class Chained(ChatChutes):
    """What ``with_fallbacks`` makes, built like a model."""

    def __new__(cls, *, members: list[str], **options: Any) -> Any:
        first, *others = (ChatChutes(model=name, **options) for name in members)
        return first.with_fallbacks(others)


class TestWithFallbacksIntegration(TestFallbackIntegration):
    """The same of LangChain's own way to have one."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return Chained


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
