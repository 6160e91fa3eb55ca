"""What flows from a member through the fallback: parts, and how they become chunks of LlamaIndex."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, MessageRole
from llama_index.core.bridge.pydantic import BaseModel

from chutes_core import Reply, Usage
from chutes_core.fallback import Attempt, Try
from llama_index_chutes._messages import chat_response, completion_response
from llama_index_chutes._stream import ChatDraft, CompletionDraft

if TYPE_CHECKING:
    from llama_index.core.tools.types import BaseTool

    from chutes_core import Delta

__all__ = [
    "ATTEMPTS",
    "RESTART",
    "ChatWriter",
    "CompletionWriter",
    "Final",
    "Restart",
    "Toolbox",
    "Wanted",
    "Writer",
    "row",
]

ATTEMPTS = "chutes_attempts"
RESTART = "chutes_restart"

C_co = TypeVar("C_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Restart:
    """What came before is void: another member begins."""

    step: Try


@dataclass(frozen=True, slots=True)
class Final:
    """The whole answer of another provider's model."""

    response: ChatResponse
    usage: Usage | None


class Toolbox(list[Mapping[str, Any]]):
    """Descriptions of tools, which also know the tools themselves: each member translates them its own way."""

    def __init__(
        self, specs: Sequence[Mapping[str, Any]], tools: Sequence[BaseTool], options: Mapping[str, Any]
    ) -> None:
        super().__init__(specs)
        self.tools = list(tools)
        self.options = dict(options)


class Wanted(dict[str, Any]):
    """A description of the object that is asked for, which also knows its class: each member asks its own way."""

    def __init__(self, output_cls: type[BaseModel], prompt: object, prompt_args: Mapping[str, Any]) -> None:
        super().__init__(name=output_cls.__name__)
        self.output_cls: type[Any] = output_cls
        self.prompt = prompt
        self.prompt_args = prompt_args
        self.result: Any = None


class Writer(Protocol[C_co]):
    """Makes chunks of parts."""

    def restart(self, step: Try) -> C_co:
        """Return the reset marker."""

    @property
    def own(self) -> Callable[[Delta], C_co | None]:
        """Makes the chunk of a part of one of our own models."""

    def foreign(self, part: ChatResponse) -> C_co:
        """Return the chunk of a part of another provider's model."""

    def finish(self, end: Reply | Final, delta: str | None, served: str, attempts: Sequence[Attempt]) -> C_co:
        """Return the whole answer, and in ``raw`` who gave it and what was tried."""


class ChatWriter:
    """Writes chat responses."""

    def __init__(self) -> None:
        self.own = ChatDraft().add

    def restart(self, step: Try) -> ChatResponse:
        """Return the reset marker: an empty message, from which the next answer grows."""
        self.own = ChatDraft().add
        mark = {RESTART: step.member.name}
        message = ChatMessage(role=MessageRole.ASSISTANT, content="")
        return ChatResponse(message=message, delta="", raw=mark, additional_kwargs=dict(mark))

    def foreign(self, part: ChatResponse) -> ChatResponse:
        """Return it as it is."""
        return part

    def finish(self, end: Reply | Final, delta: str | None, served: str, attempts: Sequence[Attempt]) -> ChatResponse:
        """Return the whole message."""
        if isinstance(end, Final):
            raw = {**_plain(end.response.raw), **_told(served, attempts)}
            return end.response.model_copy(update={"raw": raw, "delta": delta})
        response = chat_response(end, delta)
        response.raw.update(_told(served, attempts))  # type: ignore[union-attr]
        return response


class CompletionWriter:
    """Writes completions."""

    def __init__(self) -> None:
        self.own = CompletionDraft().add

    def restart(self, step: Try) -> CompletionResponse:
        """Return the reset marker."""
        self.own = CompletionDraft().add
        mark = {RESTART: step.member.name}
        return CompletionResponse(text="", delta="", raw=mark, additional_kwargs=dict(mark))

    def foreign(self, part: ChatResponse) -> CompletionResponse:
        """Return the text so far."""
        return CompletionResponse(
            text=part.message.content or "", delta=part.delta, additional_kwargs=part.additional_kwargs
        )

    def finish(
        self, end: Reply | Final, delta: str | None, served: str, attempts: Sequence[Attempt]
    ) -> CompletionResponse:
        """Return the whole text."""
        if isinstance(end, Final):
            text, extra = end.response.message.content or "", end.response.additional_kwargs
            raw = {**_plain(end.response.raw), **_told(served, attempts)}
            return CompletionResponse(text=text, delta=delta, raw=raw, additional_kwargs=extra)
        response = completion_response(end, delta)
        response.raw.update(_told(served, attempts))  # type: ignore[union-attr]
        return response


def _told(served: str, attempts: Sequence[Attempt]) -> dict[str, Any]:
    return {"model_name": served, ATTEMPTS: [row(each) for each in attempts]}


def row(attempt: Attempt) -> dict[str, Any]:
    """Tell an attempt as plain data."""
    return {
        "model": attempt.model,
        "outcome": attempt.outcome,
        "kind": attempt.kind.value if attempt.kind is not None else None,
        "status_code": attempt.status_code,
        "elapsed": attempt.elapsed,
        "detail": attempt.detail,
        "usage": asdict(attempt.usage) if attempt.usage is not None else None,
        "cost": attempt.cost,
    }


def _plain(raw: object) -> dict[str, Any]:
    if isinstance(raw, BaseModel):
        return raw.model_dump()
    return dict(raw) if isinstance(raw, Mapping) else {"raw": raw} if raw is not None else {}
