"""Assemble a reply from a complete body or from the chunks of a stream.

:func:`parse_reply` reads a reply that was not streamed; the guard in :mod:`chutes_core.reply.guard` feeds a
:class:`ReplyBuilder` chunk by chunk. Both produce the same :class:`~chutes_core.response.Reply`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chutes_core import door
from chutes_core.door import MisfitError
from chutes_core.errors import Kind
from chutes_core.json_text import parse
from chutes_core.reply.think import ThinkSplitter, split_whole
from chutes_core.response import Choice, Reply, ReplyMeta, ToolCall, ToolCallDelta
from chutes_core.usage import Usage

_MARKS = re.compile(r'\\.?|["{}\[\]]', re.DOTALL)
BROKEN_FINISHES = frozenset({"abort", "error"})
"""Finish reasons that mean the engine did not finish: it was shut down, or it failed."""
_ENDS_WITH_CALLS = frozenset({"stop", "tool_calls", "function_call"})
_REASONING = ("reasoning_content", "reasoning")
"""What engines call the field with the reasoning; tags around it are read in :mod:`chutes_core.reply.think`."""

__all__ = [
    "BROKEN_FINISHES",
    "ChoiceDraft",
    "ReplyBuilder",
    "ToolDraft",
    "choice_index",
    "finish_of",
    "flaw_of",
    "note_extra",
    "parse_reply",
    "reasoning_of",
    "tool_fields",
]


@dataclass(slots=True)
class ToolDraft:
    """A tool call under construction; ``continued`` once a piece without id and name has followed its opening."""

    id: str | None = None
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    continued: bool = False
    _looked_at: int = 0
    _open: int = 0
    _quoted: bool = False
    _rest: str = ""
    _first: str = ""

    @property
    def is_object(self) -> bool:
        r"""Whether the arguments, as far as they have come, are a whole object. Each piece is looked at once.

        >>> ToolDraft(arguments=['{"a": "}', '\\', '"}"', "}"]).is_object, ToolDraft(arguments=['{"a": "}']).is_object
        (True, False)
        """
        for piece in self.arguments[self._looked_at :]:
            text, self._rest = self._rest + piece, ""
            self._first = self._first or text.lstrip()[:1]
            for mark in _MARKS.findall(text):
                if mark == "\\":
                    self._rest = mark  # what it escapes is in the next piece
                elif mark == '"':
                    self._quoted = not self._quoted
                elif len(mark) == 1 and not self._quoted:
                    self._open += 1 if mark in "{[" else -1
        self._looked_at = len(self.arguments)
        return self._first == "{" and not self._open and not self._quoted


@dataclass(slots=True)
class ChoiceDraft:
    """A choice under construction."""

    index: int
    splitter: ThinkSplitter
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    tools: dict[int, ToolDraft] = field(default_factory=dict)
    pieces: Sequence[ToolCallDelta] = ()  # of tool calls, in the latest chunk
    moved: dict[int, int] = field(default_factory=dict)  # by the index that an engine gives to several calls
    finish_reason: str | None = None
    logprobs: dict[str, object] | None = None
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing has arrived yet."""
        return not (self.content or self.reasoning or self.tools)

    def add_logprobs(self, raw: object) -> None:
        """Append a chunk's log probabilities to the earlier ones."""
        logprobs = door.mapping(raw, "logprobs")
        if logprobs is None:
            return
        for token in door.objects(logprobs.get("content"), "logprobs.content"):
            _check_token(token)
            for other in door.objects(token.get("top_logprobs"), "top_logprobs"):
                _check_token(other)
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
            "".join(self.refusal),
        )


def _check_token(token: Mapping[str, object]) -> None:
    """Check one token of the log probabilities."""
    if door.text(token.get("token"), "logprobs.content[].token") is None:
        raise door.MisfitError("logprobs.content[].token is null, not text")
    if door.number(token.get("logprob"), "logprobs.content[].logprob") is None:
        raise door.MisfitError("logprobs.content[].logprob is null, not a number")
    for byte in door.listed(token.get("bytes"), "logprobs.content[].bytes"):
        door.count(byte, "logprobs.content[].bytes[]")


def _finish_call(draft: ToolDraft, index: int, reply_id: str | None, finish_reason: str | None) -> ToolCall:
    """Build a tool call; a valid one has a finished answer, a name, and arguments that are a JSON object."""
    written = "".join(draft.arguments)
    text = written.strip() or "{}"
    call_id = draft.id or f"call_{reply_id or 'local'}_{index}"
    error = None
    try:
        parsed = parse(text, strict=True)
        if isinstance(parsed, str):  # some models JSON-encode the object twice
            text, parsed = parsed, parse(parsed, strict=True)
        if not isinstance(parsed, dict):
            error = "the arguments are not a JSON object"
    except ValueError as problem:
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
        if self.model is None:
            self.model = door.text(body.get("model"), "model")
        if self.created is None:
            self.created = door.count(body.get("created"), "created")
        # Usage on every chunk is cumulative: the last one is the total.
        usage = door.mapping(body.get("usage"), "usage")
        if usage is not None:
            self.raw_usage = usage
        for key in body.keys() - KNOWN_FIELDS:
            self.extra[key] = body[key]

    def usage(self) -> Usage | None:
        """Return the usage.

        Raises:
            MisfitError: It has a count that is none.
        """
        return Usage.parse(self.raw_usage)

    def build(self) -> Reply:
        """Return the reply as it is now; usage that cannot be read counts as not stated."""
        choices = tuple(self.drafts[index].finished(self.id) for index in sorted(self.drafts))
        try:
            usage = self.usage()
        except MisfitError:
            usage = None
        return Reply(self.id, self.model, choices, usage, self.meta, self.created, dict(self.extra))


KNOWN_FIELDS = frozenset({"id", "object", "created", "model", "choices", "usage"})


def tool_fields(call: Mapping[str, object], function: Mapping[str, object]) -> tuple[str | None, str | None, str]:
    """Read id, name and arguments of a tool call or a piece of one; some engines send arguments as an object.

    >>> tool_fields({"id": ""}, {"name": "pay", "arguments": {"amount": 1}})
    (None, 'pay', '{"amount": 1}')
    """
    call_id, name = door.text(call.get("id"), "tool_calls[].id"), door.text(function.get("name"), "function.name")
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments)
    return call_id or None, name or None, door.text(arguments, "function.arguments") or ""


def reasoning_of(message: Mapping[str, object]) -> str:
    """Return the reasoning of a message or delta, under any engine's name for it."""
    for key in _REASONING:
        if (raw := message.get(key)) is not None and (text := door.text(raw, key)):
            return text
    return ""


def choice_index(choice: Mapping[str, object], expected: int, position: int = 0) -> int:
    """Return which answer a choice is; one of those that were asked for.

    >>> choice_index({"index": 1}, 2), choice_index({}, 1)
    (1, 0)
    """
    if "index" not in choice and expected == 1:
        return position
    index = door.count(choice.get("index"), "choices[].index")
    if index is None:
        raise MisfitError("choices[].index is missing")
    if index >= expected:
        raise MisfitError(f"choice {index} was not asked for")
    return index


def finish_of(choice: Mapping[str, object]) -> str | None:
    """Return why a choice ended; None if it has not."""
    return None if (raw := choice.get("finish_reason")) is None else door.text(raw, "finish_reason") or None


def flaw_of(reply: Reply, *, allow_empty: bool = False, refuse_cut: bool = False) -> tuple[Kind, str] | None:
    """Return why a reply that has finished is no answer, with what it says about that; None if it is one.

    >>> flaw_of(Reply("1", "acme/one", (Choice(0, "", "Let me see.", (), (), "length"),)))
    (<Kind.THINKING_LIMIT: 'thinking_limit'>, '')
    >>> flaw_of(Reply("1", "acme/one", (Choice(0, "It was a", "", (), (), "length"),)), refuse_cut=True)
    (<Kind.LENGTH_LIMIT: 'length_limit'>, '')
    """
    for choice in reply.choices:
        if choice.finish_reason == "content_filter" or (choice.refusal and choice.empty):
            return Kind.REFUSED, choice.refusal or "finish_reason 'content_filter'"
        if not choice.empty:
            if refuse_cut and choice.finish_reason == "length":
                return Kind.LENGTH_LIMIT, ""
            continue
        if choice.finish_reason == "length" and choice.reasoning:
            return Kind.THINKING_LIMIT, ""
        # A stop sequence may end an answer at its first token.
        if not (allow_empty and choice.finish_reason == "stop"):
            return Kind.EMPTY, "" if choice.finish_reason == "stop" else f"finish_reason {choice.finish_reason!r}"
    return None


def parse_reply(
    body: Mapping[str, object], meta: ReplyMeta | None = None, *, starts_thinking: bool = False, choices: int = 1
) -> Reply:
    """Read a reply that was not streamed; ``choices`` is how many answers were asked for.

    Raises:
        ValueError: It is not a reply; the message says why.

    >>> parse_reply({"id": "1", "choices": [{"message": {"content": "<think>hm</think>Yes"}, "finish_reason": "stop"}]})
    Reply(id='1', model=None, choices=(Choice(index=0, content='Yes', reasoning='hm', tool_calls=(), \
invalid_tool_calls=(), finish_reason='stop', logprobs=None, extra={}, refusal=''),), usage=None, \
meta=ReplyMeta(invocation_id=None, quota_total=None, quota_used=None, quota_remaining=None, rate_limit_user=None, \
rate_limit_model=None, invoice_billing=None, trace=(), attested=None), created=None, extra={})
    """
    builder = ReplyBuilder(meta, starts_thinking=starts_thinking)
    builder.id = door.text(body.get("id"), "id")
    builder.head(body)
    builder.usage()
    given = door.objects(body.get("choices"), "choices")
    if not given:
        raise MisfitError("the reply has no choices")
    for position, choice in enumerate(given):
        message = door.mapping(choice.get("message"), f"choices[{position}].message")
        if message is None:
            raise MisfitError(f"choices[{position}].message is missing")
        index = choice_index(choice, choices, position)
        if index in builder.drafts or index >= choices:
            raise MisfitError(f"choice {index} came twice" if index in builder.drafts else "more choices than asked")
        _read_message(builder.draft(index), choice, message, starts_thinking=starts_thinking)
    return builder.build()


def _read_message(
    draft: ChoiceDraft, choice: Mapping[str, object], message: Mapping[str, object], *, starts_thinking: bool
) -> None:
    reasoning, content = reasoning_of(message), door.text(message.get("content"), "message.content") or ""
    thought, answer = ("", content) if reasoning else split_whole(content, inside=starts_thinking)
    draft.reasoning += filter(None, (reasoning, thought))
    draft.content += filter(None, (answer,))
    draft.refusal += filter(None, (door.text(message.get("refusal"), "message.refusal"),))
    for position, call in enumerate(door.objects(message.get("tool_calls"), "message.tool_calls")):
        function = door.mapping(call.get("function"), f"tool_calls[{position}].function")
        if function is None:
            raise MisfitError(f"tool_calls[{position}].function is missing")
        call_id, name, text = tool_fields(call, function)
        draft.tools[position] = ToolDraft(call_id, name or "", [text])
    reason = finish_of(choice)
    draft.finish_reason = None if reason in BROKEN_FINISHES else reason
    draft.add_logprobs(choice.get("logprobs"))
    note_extra(draft, choice, message)


TEXTS = frozenset({"content", *_REASONING})
"""Where a message or delta has text of the answer."""
_KNOWN_CHOICE = frozenset({"index", "delta", "message", "finish_reason", "logprobs"})
_KNOWN_MESSAGE = frozenset({"role", "content", *_REASONING, "tool_calls", "refusal"})


def note_extra(draft: ChoiceDraft, choice: Mapping[str, object], message: Mapping[str, object]) -> None:
    """Keep the unknown fields of a choice and its message."""
    for known, fields in ((_KNOWN_CHOICE, choice), (_KNOWN_MESSAGE, message)):
        for key in fields.keys() - known:
            if fields[key] is not None:
                draft.extra[key] = fields[key]
