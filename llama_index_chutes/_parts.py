"""What flows from a member through the fallback, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.program.utils import FlexibleModel

from chutes_core import Delta, Reply, Usage
from chutes_core.fallback import Attempt, Call, Try
from llama_index_chutes._stream import ChatDraft
from llama_index_chutes._structured import Mode, Plan

__all__ = [
    "ATTEMPTS",
    "FIRST_HOP",
    "RESTART",
    "Final",
    "Part",
    "Pieces",
    "Restart",
    "Wanted",
    "adopted",
    "ends",
    "has_calls",
    "row",
    "shows",
    "told",
    "usage_in",
    "waits",
]

ATTEMPTS = "chutes_attempts"
FIRST_HOP = "chutes_first_hop"
RESTART = "chutes_restart"


@dataclass(frozen=True, slots=True)
class Restart:
    """What came before is void: another member begins."""

    step: Try


@dataclass(frozen=True, slots=True)
class Final:
    """The whole answer of another provider's model."""

    response: ChatResponse
    usage: Usage | None


Part = Delta | Reply | ChatResponse | Final | Restart

# ----------------------------------------------------------------------------------- what the engine asks of a part
# Each of these is asked of every part: what is most frequent comes first.


def shows(part: Part) -> bool:
    """Whether a part has something of an answer."""
    if type(part) is Delta:
        return bool(part.content or part.reasoning or part.tool_calls)
    if isinstance(part, ChatResponse):
        return bool(part.delta or part.message.content or part.additional_kwargs.get("thinking_delta"))
    return False


def usage_in(part: Part) -> Usage | None:
    """The tokens that a part reports."""
    return part.usage if type(part) is Delta or isinstance(part, Reply | Final) else None


def ends(part: Part) -> bool:
    """Whether a part is the end, which waits for the engine to note that the answer is whole."""
    return type(part) is not Delta and not isinstance(part, ChatResponse)


def waits(part: Part) -> bool:
    """Where an answer may begin anew, tool calls wait too: they must not be seen before they are whole."""
    if type(part) is Delta:
        return bool(part.tool_calls)
    return not isinstance(part, ChatResponse) or has_calls(part)


def has_calls(chunk: ChatResponse) -> bool:
    """Whether a chunk has a tool call, in either of the framework's forms."""
    message = chunk.message
    return bool(message.additional_kwargs.get("tool_calls")) or any(
        isinstance(block, ToolCallBlock) for block in message.blocks
    )


# ------------------------------------------------------------------------------------------------------- objects


class Wanted(dict[str, Any]):
    """A description of the object that is asked for, which also knows its class: each member is asked in its own way.

    Attributes:
        result: The object, once a member has given one.
    """

    def __init__(
        self,
        output_cls: type[BaseModel],
        messages: Sequence[ChatMessage] = (),
        params: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name=output_cls.__name__)
        self.output_cls: type[Any] = output_cls
        self.result: Any = None
        self._arguments = {**(params or {}), "messages": list(messages)}
        self._reader: Plan[Any] | None = None

    @property
    def request(self) -> dict[str, Any]:
        """The arguments of the call that asks."""
        return {**self._arguments, "structured": self}

    def ends(self, chunk: ChatResponse) -> bool:
        """Tell whether a chunk is the last of a stream: it says what was tried."""
        return isinstance(chunk.raw, Mapping) and ATTEMPTS in chunk.raw

    def read(self, response: ChatResponse) -> Any:
        """Return the object, which was read when its member's answer was whole."""
        return self.result

    def partial(self, chunk: ChatResponse) -> Any | FlexibleModel | None:
        """Return what is there of it, or None."""
        if RESTART in chunk.additional_kwargs:
            return None
        self._reader = self._reader or Plan.make(self.output_cls, Mode.WORDS, [], None, model="")
        return self._reader.partial(chunk)


class Pieces:
    """Whether a part shows something of the object that is asked for.

    The words of an answer reach nobody, only the pieces that can be made of them: until there is one, another member
    may take over.
    """

    def __init__(self, wanted: Wanted, call: Call) -> None:
        self._wanted = wanted
        self._call = call
        self._draft = ChatDraft()

    def begin(self) -> None:
        """A member begins."""
        self._draft = ChatDraft()

    def __call__(self, part: Part) -> bool:
        """Take the next part of a member's answer."""
        if shows(part):
            self._call.first_part(given_out=False)  # that is how soon it answers
        chunk = self._draft.add(part) if type(part) is Delta else part
        return isinstance(chunk, ChatResponse) and self._wanted.partial(chunk) is not None


# -------------------------------------------------------------------------------------------------- what is told

_USAGE = tuple(field.name for field in fields(Usage))


def row(attempt: Attempt) -> dict[str, Any]:
    """Tell an attempt as plain data.

    >>> row(Attempt("acme/one", "skipped", detail="no tools"))["detail"]
    'no tools'
    """
    usage = attempt.usage
    return {
        "model": attempt.model,
        "outcome": attempt.outcome,
        "kind": attempt.kind.value if attempt.kind is not None else None,
        "status_code": attempt.status_code,
        "elapsed": attempt.elapsed,
        "detail": attempt.detail,
        "usage": _counts(usage) if usage is not None else None,
        "cost": attempt.cost,
        "served": attempt.served,
    }


def _counts(usage: Usage) -> dict[str, int | None]:
    return {name: getattr(usage, name) for name in _USAGE}


def told(call: Call) -> dict[str, Any]:
    """Say of a whole answer who gave it and what was tried."""
    assert call.served is not None, "an answer that is whole has somebody who gave it"
    beside: dict[str, Any] = {
        "model_name": call.attempts[-1].served or call.served.name,
        ATTEMPTS: [row(attempt) for attempt in call.attempts],
    }
    if call.policy.first_hop == "server":
        beside[FIRST_HOP] = call.first_hop
    return beside


def adopted(end: Final, beside: Mapping[str, Any]) -> dict[str, Any]:
    """Give what another provider's model has in ``raw`` as a dict, with more beside it.

    The tokens are put where the framework's counters look for them; some integrations have them elsewhere.
    """
    raw = end.response.raw
    if isinstance(raw, BaseModel):
        found = raw.model_dump()
    else:
        found = dict(raw) if isinstance(raw, Mapping) else {"raw": raw} if raw is not None else {}
    if end.usage is not None and not found.get("usage"):
        found["usage"] = _counts(end.usage)
    return {**found, **beside}
