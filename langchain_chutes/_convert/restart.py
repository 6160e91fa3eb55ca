"""Answers that restart mid-stream: the marker, and how to read a stream that contains one. Pure.

>>> from langchain_core.messages import AIMessageChunk
>>> chunks = [AIMessageChunk("The answer is f"), restart_message("acme/two"), AIMessageChunk("Forty-two.")]
>>> collect(chunks).content, (chunks[0] + chunks[1] + chunks[2]).content
('Forty-two.', 'Forty-two.')
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator
from typing import Any

from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk

from chutes_core.errors import ConfigurationError
from chutes_core.fallback.report import RESTART, two_answers

__all__ = ["acollect", "collect", "is_restart", "render", "restart_chunk", "restart_message", "restartable"]


class _Restart(AIMessageChunk):
    """The restart marker. Adding it to earlier chunks discards them, so a stream adds up correctly."""

    def __radd__(self, other: Any) -> AIMessageChunk:
        return _emptied(self)


class _TwoAnswersError(ConfigurationError, TypeError):
    """LangChain adds up chunks all at once, and one at a time, as markers need it, only after a TypeError."""


class _Nothing(str):
    """The text of a marker that voids text: who appends it to another would join two answers."""

    __slots__ = ("model",)
    model: str

    def __radd__(self, other: str) -> str:
        raise _TwoAnswersError(two_answers(self.model))


class _NoPlace(str):
    """The index of a marker's block, where content is blocks: to be added to others, it is compared with theirs."""

    __slots__ = ("model",)
    model: str
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        raise _TwoAnswersError(two_answers(self.model))


class _Void(_Restart):
    """A marker that voids text: who makes text of every chunk, as ``StrOutputParser`` does, would join two answers."""

    @property
    def text(self) -> Any:
        """Refuse to be text."""
        raise ConfigurationError(two_answers(str(self.additional_kwargs[RESTART])))


def _emptied(marker: AIMessageChunk) -> AIMessageChunk:
    return AIMessageChunk(content=[] if isinstance(marker.content, list) else "", id=marker.id)


class _Restartable(ChatGenerationChunk):
    """The first chunk of an answer that may restart: LangChain adds all other chunks to it at once."""

    def __add__(self, other: ChatGenerationChunk | list[ChatGenerationChunk]) -> ChatGenerationChunk:
        others = other if isinstance(other, list) else [other]
        marks = [position for position, each in enumerate(others) if is_restart(each.message)]
        if not marks:
            added = super().__add__(other)
            return _Restartable(message=added.message, generation_info=added.generation_info)
        marker, rest = others[marks[-1]], others[marks[-1] + 1 :]
        begun = _Restartable(message=_emptied(marker.message))  # type: ignore[arg-type]
        return begun + rest if rest else begun


def restart_message(model: str, *, blocks: bool = False, text: bool = True) -> AIMessageChunk:
    """Return the message that tells a reader to discard what came before: text, or reasoning alone."""
    marker = (_Void if text else _Restart)(content=[] if blocks else "", additional_kwargs={RESTART: model})
    if not text:
        return marker
    if blocks:
        nothing: _NoPlace | _Nothing = _NoPlace("lc_restart")
        marker.content = [{"type": "text", "text": "", "index": nothing}]
        # LangChain leaves blocks as they are where the metadata says that they are such already.
        marker.response_metadata["output_version"] = "v1"
    else:
        marker.content = nothing = _Nothing()
    nothing.model = model
    return marker


def restart_chunk(model: str, *, blocks: bool = False, text: bool = True) -> ChatGenerationChunk:
    """Return the restart marker as a chunk."""
    # Not validated, which would make text of it.
    return ChatGenerationChunk.model_construct(text="", message=restart_message(model, blocks=blocks, text=text))


def restartable(chunk: ChatGenerationChunk) -> ChatGenerationChunk:
    """Return the first chunk of a stream in a form that adds up correctly after a restart."""
    return _Restartable(message=chunk.message, generation_info=chunk.generation_info)


def is_restart(message: BaseMessage) -> bool:
    """Return whether a chunk is a restart marker."""
    return RESTART in message.additional_kwargs


class Kept:
    """The chunks of a stream that count: those since its last restart."""

    def __init__(self) -> None:
        self._chunks: list[Any] = []

    def add(self, chunk: BaseMessage) -> None:
        """Take the next chunk."""
        if is_restart(chunk):
            self._chunks = [_emptied(chunk)]  # type: ignore[arg-type]
        else:
            self._chunks.append(chunk)

    def message(self) -> AIMessageChunk:
        """Return their sum."""
        if not self._chunks:
            raise ValueError("The stream had no chunks.")
        if len(self._chunks) > 1:
            self._chunks = [self._chunks[0] + self._chunks[1:]]
        whole: AIMessageChunk = self._chunks[0]
        return whole


def collect(chunks: Iterable[AIMessageChunk]) -> AIMessageChunk:
    """Combine a stream into one message, leaving out everything before the last restart.

    Raises:
        ValueError: The stream is empty.
    """
    kept = Kept()
    for chunk in chunks:
        kept.add(chunk)
    return kept.message()


async def acollect(chunks: AsyncIterable[AIMessageChunk]) -> AIMessageChunk:
    """Async version of :func:`collect`."""
    kept = Kept()
    async for chunk in chunks:
        kept.add(chunk)
    return kept.message()


def render(chunks: Iterable[AIMessageChunk]) -> Iterator[str]:
    """Yield the full text to show after each chunk, replacing what was shown before.

    >>> list(render([AIMessageChunk("Fo"), restart_message("acme/two"), AIMessageChunk("Forty"), AIMessageChunk(".")]))
    ['Fo', '', 'Forty', 'Forty.']
    """
    shown = ""
    for chunk in chunks:
        shown = "" if is_restart(chunk) else shown + chunk.text
        yield shown
