"""Replies and deltas as plain values: built by :mod:`chutes_core.reply.assemble`, read by callers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from chutes_core.usage import Usage

__all__ = ["Attested", "Choice", "Delta", "Reply", "ReplyMeta", "ToolCall", "ToolCallDelta", "TraceEvent"]

Step = Literal["found", "asked", "answered", "failed"]
_TARGET = re.compile(r"\btarget=([0-9A-Za-z-]+)")
_STEPS: Mapping[str, Step] = {
    "identified": "found",
    "attempting": "asked",
    "successfully": "answered",
    "error": "failed",
}
"""By the first word of what the gateway says."""
_DIGITS = 15  # of a count in a header


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call requested by the model.

    Attributes:
        id: Its id; derived from the reply's id if the model gave none.
        name: The tool's name.
        arguments: The arguments as JSON text, as the model wrote them.
        error: Why the call is invalid; None for a valid one.
        index: Its position in the answer, counting valid and invalid calls together.
    """

    id: str
    name: str
    arguments: str
    error: str | None = None
    index: int = field(default=0, compare=False, repr=False)

    @property
    def args(self) -> dict[str, object]:
        """The arguments as a dict.

        >>> ToolCall("call_1", "add", '{"a": 1}').args
        {'a': 1}
        """
        parsed: dict[str, object] = json.loads(self.arguments)
        return parsed


@dataclass(slots=True)
class ToolCallDelta:
    """A piece of a tool call: the first of an index has id and name, each has part of the arguments."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(slots=True)
class Delta:
    """What one chunk of a stream adds; the last of a choice has its ``finish_reason``, the very last ``usage``."""

    content: str = ""
    reasoning: str = ""
    tool_calls: Sequence[ToolCallDelta] = ()
    choice: int = 0
    finish_reason: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of a reply (there is one unless ``n`` asked for more)."""

    index: int
    content: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    invalid_tool_calls: tuple[ToolCall, ...]
    finish_reason: str | None
    logprobs: object = None
    extra: Mapping[str, object] = field(default_factory=dict)
    refusal: str = ""

    @property
    def empty(self) -> bool:
        """Whether it has neither text nor a tool call: reasoning alone is no answer, and blank text is no text.

        >>> Choice(0, " ", "Let me see.", (), (), "stop").empty
        True
        """
        return not (self.tool_calls or self.invalid_tool_calls or self.content.strip())


@dataclass(frozen=True, slots=True)
class Attested:
    """What the machine proved that a sealed answer came from (docs/privacy.md).

    Attributes:
        machine: Its id.
        measured_as: The system that it booted, by its name in the list of measurements.
        verify: How far its proof was checked.
        at: When.
    """

    machine: str
    measured_as: str
    verify: str
    at: str

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data.

        >>> Attested("machine-1", "8xh200 1.4.1", "full", "2026-10-05T12:00:00+00:00").to_dict()["measured_as"]
        '8xh200 1.4.1'
        """
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """What the gateway told of a request that was asked with ``trace=True``.

    Attributes:
        message: Its own words.
        step: What happened: machines were ``"found"``, one was ``"asked"``, and it ``"answered"`` or ``"failed"``; None
            for anything else. After a failure, the next one that is asked is a retry inside the gateway.
        instance: The machine that it is about.
        time: When, in UTC, as the gateway writes it.
        chute_id: The chute that was asked.
        invocation_id: The service's name for the request.
        attempt_id: The service's name for the attempt.

    >>> event = TraceEvent.parse({"message": "attempting to query target=0650-74fb uid=1", "function": "chat"})
    >>> event.step, event.instance
    ('asked', '0650-74fb')
    """

    message: str
    step: Step | None = None
    instance: str | None = None
    time: str | None = None
    chute_id: str | None = None
    invocation_id: str | None = None
    attempt_id: str | None = None

    @classmethod
    def parse(cls, told: object) -> TraceEvent:
        """Read an event.

        Raises:
            ValueError: It is not an object, or has no message.
        """
        if not isinstance(told, Mapping) or not isinstance(said := told.get("message"), str):
            raise ValueError("an event without a message")
        target = _TARGET.search(said)
        told_of = (told.get(name) for name in ("timestamp", "chute_id", "invocation_id", "child_id"))
        named = (value if isinstance(value, str) else None for value in told_of)
        return cls(said, _STEPS.get(said.partition(" ")[0]), target[1] if target else None, *named)

    def to_dict(self) -> dict[str, str]:
        """Return what is known as plain data.

        >>> TraceEvent("identified 3 available targets", "found").to_dict()
        {'message': 'identified 3 available targets', 'step': 'found'}
        """
        told = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: value for name, value in told if value is not None}


@dataclass(frozen=True, slots=True)
class ReplyMeta:
    """The service's own headers of a reply, the trace if one was asked for, and what its machine proved.

    >>> ReplyMeta.parse({"x-chutes-invocationid": "abc", "X-Chutes-Quota-Remaining": "7"}).quota_remaining
    7
    """

    invocation_id: str | None = None
    quota_total: int | None = None
    quota_used: int | None = None
    quota_remaining: int | None = None
    rate_limit_user: str | None = None
    rate_limit_model: str | None = None
    invoice_billing: bool | None = None
    trace: Sequence[TraceEvent] = ()
    attested: Attested | None = None

    @classmethod
    def parse(cls, headers: Mapping[str, str]) -> ReplyMeta:
        """Read the headers; one that is absent or unreadable is None."""
        found = {name.lower(): value for name, value in headers.items() if name.lower().startswith("x-chutes-")}

        def number(name: str) -> int | None:
            value = found.get(name, "")
            return int(value) if value.isdecimal() and len(value) <= _DIGITS else None

        return cls(
            found.get("x-chutes-invocationid"),
            number("x-chutes-quota-total"),
            number("x-chutes-quota-used"),
            number("x-chutes-quota-remaining"),
            found.get("x-chutes-rl-user"),
            found.get("x-chutes-rl-chute"),
            found["x-chutes-invoice-billing"].lower() == "true" if "x-chutes-invoice-billing" in found else None,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply; the properties are those of its first choice, the only one unless ``n`` asked for more.

    ``model`` is the model that answered: with a routing list, one of its members. ``extra`` keeps every field of the
    reply that this library does not know.
    """

    id: str | None
    model: str | None
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    meta: ReplyMeta = field(default_factory=ReplyMeta)
    created: int | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """The answer's text, without the reasoning."""
        return self.choices[0].content if self.choices else ""

    @property
    def reasoning(self) -> str:
        """The model's reasoning before the answer; empty if there is none."""
        return self.choices[0].reasoning if self.choices else ""

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The valid tool calls."""
        return self.choices[0].tool_calls if self.choices else ()

    @property
    def invalid_tool_calls(self) -> tuple[ToolCall, ...]:
        """Tool calls that name no tool, were cut off, or whose arguments are not a JSON object; never run these."""
        return self.choices[0].invalid_tool_calls if self.choices else ()

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ended: ``stop``, ``length`` or ``tool_calls``; None for a partial answer."""
        return self.choices[0].finish_reason if self.choices else None

    @property
    def truncated(self) -> bool:
        """Whether an answer was cut off at ``max_tokens``, yours or the model's; this is not an error.

        >>> Reply("1", "acme/one", (Choice(0, "The sky is", "", (), (), "length"),)).truncated
        True
        """
        return any(choice.finish_reason == "length" for choice in self.choices)
