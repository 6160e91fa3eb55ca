"""Assemble a reply from a complete body or from the chunks of a stream.

:func:`parse_reply` reads a reply that was not streamed; the guard in :mod:`chutes_core.stream` feeds a
:class:`ReplyBuilder` chunk by chunk. Both produce the same :class:`~chutes_core.response.Reply`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from chutes_core.response import Choice, Reply, ReplyMeta, ToolCall
from chutes_core.think import ThinkSplitter, split_whole
from chutes_core.usage import Usage

BROKEN_FINISHES = frozenset({"abort", "error"})
"""Finish reasons that mean the engine did not finish: it was shut down, or it failed."""
_ENDS_WITH_CALLS = frozenset({"stop", "tool_calls", "function_call"})

__all__ = [
    "BROKEN_FINISHES",
    "ChoiceDraft",
    "ReplyBuilder",
    "ToolDraft",
    "note_extra",
    "parse_reply",
    "reasoning_of",
    "tool_fields",
]


@dataclass(slots=True)
class ToolDraft:
    """A tool call under construction."""

    id: str | None = None
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ChoiceDraft:
    """A choice under construction."""

    index: int
    splitter: ThinkSplitter
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tools: dict[int, ToolDraft] = field(default_factory=dict)
    finish_reason: str | None = None
    logprobs: dict[str, object] | None = None
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing has arrived yet."""
        return not (self.content or self.reasoning or self.tools)

    def add_logprobs(self, logprobs: Mapping[str, object]) -> None:
        """Append a chunk's log probabilities to the earlier ones."""
        self.logprobs = self.logprobs or {}
        for key, value in logprobs.items():
            before = self.logprobs.get(key)
            self.logprobs[key] = before + value if isinstance(before, list) and isinstance(value, list) else value

    def finished(self, reply_id: str | None) -> Choice:
        """Build the choice from what has arrived; all tool calls of an unfinished choice are invalid."""
        calls = [
            _finish_call(draft, index, reply_id, self.finish_reason) for index, draft in sorted(self.tools.items())
        ]
        valid = tuple(call for call in calls if call.error is None)
        # Some engines report "stop" when they call tools.
        reason = "tool_calls" if valid and self.finish_reason == "stop" else self.finish_reason
        return Choice(
            self.index,
            "".join(self.content),
            "".join(self.reasoning),
            valid,
            tuple(call for call in calls if call.error is not None),
            reason,
            self.logprobs,
            self.extra,
        )


def _finish_call(draft: ToolDraft, index: int, reply_id: str | None, finish_reason: str | None) -> ToolCall:
    """Build a tool call; a valid one has a finished answer, a name, and arguments that are a JSON object."""
    written = "".join(draft.arguments)
    text = written.strip() or "{}"
    call_id = draft.id or f"call_{reply_id or 'local'}_{index}"
    error = None
    try:
        parsed = json.loads(text)
        if isinstance(parsed, str):  # some models JSON-encode the object twice
            text, parsed = parsed, json.loads(parsed)
        if not isinstance(parsed, dict):
            error = "the arguments are not a JSON object"
    except (ValueError, RecursionError) as problem:
        error = f"the arguments are not valid JSON: {problem}"
    if not draft.name:
        error = "the call names no tool"
    # Engines send the name first. A later cut shows in the unclosed JSON.
    if finish_reason is None or (not written.strip() and finish_reason not in _ENDS_WITH_CALLS):
        error = "the answer was cut off before the call was complete"
    return ToolCall(call_id, draft.name, written if error else text, error, index)


class ReplyBuilder:
    """Collects the parts of a reply and builds it at the end."""

    def __init__(self, meta: ReplyMeta | None = None, *, starts_thinking: bool = False) -> None:
        self.id: str | None = None
        self.model: str | None = None
        self.created: int | None = None
        self.meta = meta or ReplyMeta()
        self.raw_usage: Mapping[str, object] | None = None
        self.extra: dict[str, object] = {}
        self.drafts: dict[int, ChoiceDraft] = {}
        self._starts_thinking = starts_thinking

    def draft(self, index: int) -> ChoiceDraft:
        """Return the choice with this index, creating it if new."""
        draft = self.drafts.get(index)
        if draft is None:
            draft = self.drafts[index] = ChoiceDraft(index, ThinkSplitter(inside=self._starts_thinking))
        return draft

    def head(self, body: Mapping[str, object]) -> None:
        """Read the fields of a reply or a chunk other than its choices."""
        if self.model is None and isinstance(model := body.get("model"), str):
            self.model = model
        if self.created is None and isinstance(created := body.get("created"), int):
            self.created = created
        # Usage on every chunk is cumulative: the last one is the total.
        if isinstance(usage := body.get("usage"), Mapping):
            self.raw_usage = usage
        for key in body.keys() - _KNOWN_FIELDS:
            self.extra[key] = body[key]

    def build(self) -> Reply:
        """Return the reply as it is now."""
        choices = tuple(self.drafts[index].finished(self.id) for index in sorted(self.drafts))
        return Reply(
            self.id, self.model, choices, Usage.parse(self.raw_usage), self.meta, self.created, dict(self.extra)
        )


_KNOWN_FIELDS = frozenset({"id", "object", "created", "model", "choices", "usage"})


def tool_fields(call: Mapping[str, object], function: Mapping[str, object]) -> tuple[str | None, str | None, str]:
    """Read id, name and arguments of a tool call or a piece of one; an id or name that is not text counts as absent.

    >>> tool_fields({"id": 5}, {"name": "pay", "arguments": {"amount": 1}})
    (None, 'pay', '{"amount": 1}')
    """
    call_id, name, arguments = call.get("id"), function.get("name"), function.get("arguments")
    return (
        call_id if isinstance(call_id, str) and call_id else None,
        name if isinstance(name, str) and name else None,
        arguments if isinstance(arguments, str) else json.dumps(arguments) if arguments else "",
    )


def reasoning_of(message: Mapping[str, object]) -> str:
    """Return the reasoning of a message or delta, under either engine's field name."""
    for key in ("reasoning_content", "reasoning"):
        if isinstance(text := message.get(key), str) and text:
            return text
    return ""


def parse_reply(body: Mapping[str, object], meta: ReplyMeta | None = None, *, starts_thinking: bool = False) -> Reply:
    """Read a reply that was not streamed.

    Raises:
        ValueError: It is not a reply; the message says why.

    >>> parse_reply({"id": "1", "choices": [{"message": {"content": "<think>hm</think>Yes"}, "finish_reason": "stop"}]})
    Reply(id='1', model=None, choices=(Choice(index=0, content='Yes', reasoning='hm', tool_calls=(), \
invalid_tool_calls=(), finish_reason='stop', logprobs=None, extra={}),), usage=None, \
meta=ReplyMeta(invocation_id=None, quota_total=None, quota_used=None, quota_remaining=None, rate_limit_user=None, \
rate_limit_model=None, invoice_billing=None), created=None, extra={})
    """
    builder = ReplyBuilder(meta, starts_thinking=starts_thinking)
    builder.id = body["id"] if isinstance(body.get("id"), str) else None  # type: ignore[assignment]
    builder.head(body)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise ValueError("the reply has no choices")
    for position, choice in enumerate(choices):
        message = choice.get("message") if isinstance(choice, Mapping) else None
        if not isinstance(message, Mapping):
            raise ValueError(f"choice {position} has no message")
        index = choice.get("index")
        _read_message(
            builder.draft(index if isinstance(index, int) else position),
            choice,
            message,
            starts_thinking=starts_thinking,
        )
    return builder.build()


def _read_message(
    draft: ChoiceDraft, choice: Mapping[str, object], message: Mapping[str, object], *, starts_thinking: bool
) -> None:
    reasoning, content = reasoning_of(message), message.get("content")
    if content is not None and not isinstance(content, str):
        raise ValueError("the content is not text")
    thought, answer = ("", content or "") if reasoning else split_whole(content or "", inside=starts_thinking)
    draft.reasoning += filter(None, (reasoning, thought))
    draft.content += filter(None, (answer,))
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise ValueError("the tool calls are not a list")
    for position, call in enumerate(calls):
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            raise ValueError(f"tool call {position} has no function")
        call_id, name, text = tool_fields(call, function)
        draft.tools[position] = ToolDraft(call_id, name or "", [text])
    reason = choice.get("finish_reason")
    finished = isinstance(reason, str) and reason and reason not in BROKEN_FINISHES
    draft.finish_reason = str(reason) if finished else None
    if isinstance(logprobs := choice.get("logprobs"), Mapping):
        draft.add_logprobs(logprobs)
    note_extra(draft, choice, message)


_KNOWN_CHOICE = frozenset({"index", "delta", "message", "finish_reason", "logprobs"})
_KNOWN_MESSAGE = frozenset({"role", "content", "reasoning_content", "reasoning", "tool_calls"})


def note_extra(draft: ChoiceDraft, choice: Mapping[str, object], message: Mapping[str, object]) -> None:
    """Keep the unknown fields of a choice and its message."""
    for known, fields in ((_KNOWN_CHOICE, choice), (_KNOWN_MESSAGE, message)):
        for key in fields.keys() - known:
            if fields[key] is not None:
                draft.extra[key] = fields[key]
