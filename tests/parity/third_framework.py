"""A framework that is made up, and in little like OpenAI's format, as real ones are: what third_face.py translates."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Text:
    """Something said."""

    text: str


@dataclass(frozen=True)
class Thought:
    """Something thought before it was said."""

    text: str


@dataclass(frozen=True)
class Picture:
    """An image, by its address."""

    url: str


@dataclass(frozen=True)
class Call:
    """What the model wants done."""

    id: str
    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """What came of a call."""

    call: str
    text: str


Part = Text | Thought | Picture | Call | Result


@dataclass(frozen=True)
class Turn:
    """What one side says."""

    by: Literal["system", "user", "model"]
    parts: Sequence[Part]


@dataclass(frozen=True)
class Tool:
    """Something that the model may call."""

    name: str
    purpose: str
    inputs: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """The model's turn; tokens are (in, out), or None if nobody counted them."""

    turn: Turn
    model: str | None
    tokens: tuple[int, int] | None
    ended: str | None
    unusable: Sequence[str] = ()


@dataclass(frozen=True)
class Void:
    """In a stream: forget what came before, the answer begins again."""


class ModelFailed(Exception):
    """There is no answer: what arrived of it, and whether to ask again."""

    def __init__(self, said: str, so_far: str, again: bool) -> None:
        super().__init__(said)
        self.so_far = so_far
        self.again = again


Piece = Text | Thought | Void | Answer


class Model(Protocol):
    """What the framework asks of a model. A stream's last piece is the whole answer."""

    def answer(self, turns: Sequence[Turn], tools: Sequence[Tool] = (), **settings: Any) -> Answer: ...

    def pieces(self, turns: Sequence[Turn], tools: Sequence[Tool] = (), **settings: Any) -> Iterator[Piece]: ...


class AsyncModel(Protocol):
    """The same on an event loop."""

    async def answer(self, turns: Sequence[Turn], tools: Sequence[Tool] = (), **settings: Any) -> Answer: ...

    def pieces(self, turns: Sequence[Turn], tools: Sequence[Tool] = (), **settings: Any) -> AsyncIterator[Piece]: ...
