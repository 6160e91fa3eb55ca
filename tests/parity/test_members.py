"""What both frameworks make of the members of a fallback: one table, and a face for each framework."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from llama_index.core.base.llms.types import AudioBlock, ChatMessage, ImageBlock, TextBlock

from chutes_core import ChutesError, RequestRefusedError
from chutes_core.fallback import Needs
from chutes_core.testing import VirtualClock
from langchain_chutes import ChatChutes
from langchain_chutes import ChutesFallback as LangChainFallback
from langchain_chutes._calls import needs_of as langchain_needs
from llama_index_chutes import Chutes
from llama_index_chutes import ChutesFallback as LlamaIndexFallback
from llama_index_chutes._run import needs_of as llama_index_needs
from tests.langchain_chutes import fallback_stage
from tests.llama_index_chutes import rigs, stages

QWEN, GEMMA = "Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE"
KEY = "cpk_test"


@dataclass
class Told:
    """What a call came to.

    Attributes:
        models: The models that were asked, in order.
        attempts: The attempts in the answer.
        clock: The time it took.
        error: What was raised.
    """

    models: list[str]
    clock: VirtualClock
    attempts: list[dict[str, Any]] = field(default_factory=list)
    error: ChutesError | None = None


class LangChain:
    """The fallback of LangChain."""

    fallback: Any = LangChainFallback
    own: Any = ChatChutes
    address = "base_url"

    def needs(self, text: str, kind: str | None, params: dict[str, Any]) -> Needs:
        return langchain_needs([HumanMessage(self.content(text, kind))], params, None)

    def content(self, text: str, kind: str | None) -> Any:
        address = {"image": "image/png", "audio": "audio/wav"}
        part = {"type": kind, "base64": "AAAA", "mime_type": address.get(kind or "")}
        return [{"type": "text", "text": text}, part] if kind else text

    def call(
        self, script: Any = (), members: Any = None, text: str = "Hi", kind: str | None = None,
        options: dict[str, Any] | None = None, **params: Any,
    ) -> Told:  # fmt: skip
        made = fallback_stage.stage(list(script), members or fallback_stage.NAMES, **(options or {}))
        made.call("sync-whole", ask=[HumanMessage(self.content(text, kind))], **params)
        error = made.error if isinstance(made.error, ChutesError) else None
        return Told(made.models, made.clock, made.attempts if error is None else [], error)


class LlamaIndex:
    """The fallback of LlamaIndex."""

    fallback: Any = LlamaIndexFallback
    own: Any = Chutes
    address = "api_base"

    def needs(self, text: str, kind: str | None, params: dict[str, Any]) -> Needs:
        return llama_index_needs([self.message(text, kind)], params)

    def message(self, text: str, kind: str | None) -> ChatMessage:
        blocks: list[Any] = [TextBlock(text=text)]
        if kind:
            blocks.append({"image": ImageBlock, "audio": AudioBlock}[kind](url="https://example.org/it"))
        return ChatMessage(blocks=blocks)

    def call(
        self, script: Any = (), members: Any = None, text: str = "Hi", kind: str | None = None,
        options: dict[str, Any] | None = None, **params: Any,
    ) -> Told:  # fmt: skip
        made = stages.stage(list(script), members or fallback_stage.NAMES, **(options or {}))
        outcome = rigs.ask(made.llm, "chat", [self.message(text, kind)], **params)
        attempts = stages.attempts(outcome) if outcome.error is None else []
        return Told(made.asked, made.clock, attempts, outcome.error)


FACES = pytest.mark.parametrize("face", [LangChain(), LlamaIndex()], ids=["langchain", "llama-index"])

# ------------------------------------------------------------------------------------------ what a request needs

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@FACES
@pytest.mark.parametrize(
    ("text", "kind", "params", "features", "modalities", "tokens"),
    [
        ("Hello there!", None, {}, set(), set(), (2, 2)),
        ("word " * 12_000, None, {}, set(), set(), (8_000, 12_000)),
        ("你好" * 6_000, None, {}, set(), set(), (7_000, 9_000)),
        ("Look:", "image", {}, set(), {"image"}, (0, 1)),
        ("Listen:", "audio", {}, set(), {"audio"}, (1, 1)),
        ("Add:", None, {"tools": [TOOL]}, {"tools"}, set(), (10, 30)),
        ("Add:", None, {"response_format": {"type": "json_object"}}, {"json_mode"}, set(), (0, 0)),
        ("Add:", None, {"max_tokens": 100}, set(), set(), (100, 100)),
        ("Add:", None, {"max_completion_tokens": 100}, set(), set(), (100, 100)),
    ],
)
def test_a_request_needs_the_same_of_a_model(
    face: Any, text: str, kind: Any, params: Any, features: Any, modalities: Any, tokens: tuple[int, int]
) -> None:
    """Length on the low side, in every script; what is in the messages besides text; and what is asked for."""
    needs = face.needs(text, kind, params)
    assert (needs.features, needs.modalities) == (features, modalities)
    assert tokens[0] <= needs.tokens <= tokens[1]


@FACES
@pytest.mark.filterwarnings("ignore:The catalogue does not know the context window")
def test_no_member_is_sent_audio(face: Any) -> None:
    """A member that is known to take none is skipped, and for one that is not known the request is refused."""
    told = face.call(members=[QWEN, GEMMA], kind="audio")
    assert isinstance(told.error, RequestRefusedError)
    assert f"{QWEN}: no audio input; {GEMMA}: no audio input" in str(told.error)
    told = face.call(members=["acme/one", "acme/two"], kind="audio")
    assert isinstance(told.error, RequestRefusedError)
    assert "no audio in a chat: send its transcript" in str(told.error)
    assert told.models == []
