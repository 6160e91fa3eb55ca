"""The stream guard: the one place that decides whether a streamed answer is complete.

:class:`StreamGuard` takes the bytes of a streamed reply and yields deltas. It does no I/O and has no clock. It raises
as soon as the answer can no longer be complete, and :meth:`StreamGuard.close` raises if the stream ended too early;
either way the exception carries everything delivered so far.

An answer is complete when every choice has a ``finish_reason``. On Chutes that is not a formality: a machine may die
mid-sentence, and then the gateway restarts the answer on another machine inside the same HTTP stream (a new chunk id,
or a second opening role), or appends a bare ``{"error": …}`` outside the event format, or just closes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from chutes_core.assemble import (
    BROKEN_FINISHES,
    ChoiceDraft,
    ReplyBuilder,
    ToolDraft,
    note_extra,
    reasoning_of,
    tool_fields,
)
from chutes_core.errors import APIError, Kind
from chutes_core.failures import failure, reported_error
from chutes_core.response import Delta, Reply, ReplyMeta, ToolCallDelta
from chutes_core.sse import EventDecoder, Stray

__all__ = ["StreamGuard"]


class StreamGuard:
    r"""Turns the bytes of one streamed reply into deltas, and raises unless the answer is complete.

    Args:
        model: The requested model, for error messages.
        choices: How many answers were requested (``n``).
        allow_empty: Accept an empty answer, such as one cut at its start by a stop sequence.
        starts_thinking: The model's output begins inside its reasoning, without an opening tag.
        meta: The data from the reply's headers.

    >>> guard = StreamGuard()
    >>> chunk = b'data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\n'
    >>> [delta.content for delta in guard.feed(chunk)]
    ['Hi']
    >>> [delta.finish_reason for delta in guard.close()], guard.reply.content
    (['stop'], 'Hi')
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        choices: int = 1,
        allow_empty: bool = False,
        starts_thinking: bool = False,
        meta: ReplyMeta | None = None,
    ) -> None:
        self._model = model
        self._expected = choices
        self._allow_empty = allow_empty
        self._events = EventDecoder()
        self._meta = meta
        self._starts_thinking = starts_thinking
        self._begin()
        self._started = False
        self.count = 0
        """How many deltas have been yielded."""
        self.done = False
        """Whether the end marker has arrived: nothing after it belongs to the answer."""

    def _begin(self, chunk_id: str | None = None) -> None:
        self._builder = ReplyBuilder(self._meta, starts_thinking=self._starts_thinking)
        self._builder.id = chunk_id
        self._unopened: set[int] = set()

    @property
    def delivered(self) -> bool:
        """Whether any part of the answer has been yielded: from then on a restart would be visible."""
        return self.count > 0

    @property
    def whole(self) -> bool:
        """Whether every expected choice has finished."""
        drafts = self._builder.drafts
        return len(drafts) >= self._expected and all(draft.finish_reason for draft in drafts.values())

    @property
    def reply(self) -> Reply:
        """What has arrived so far: the complete reply after :meth:`close`, a partial one before."""
        return self._builder.build()

    def feed(self, block: bytes) -> Iterator[Delta]:
        """Take the next bytes; yield what they add, then raise if they are invalid."""
        for payload in self._events.feed(block):
            yield from self._event(payload)

    def close(self, broken: Kind | None = None, said: str = "") -> Iterator[Delta]:
        """Handle the end of the stream and yield the closing deltas: buffered text, finish reasons, usage.

        Args:
            broken: How the transport failed, if the end was not clean.
            said: The transport's own message.

        Raises:
            APIError: The answer is incomplete.
        """
        if not self.done:
            yield from self._tail()
        if not self.whole:
            if broken is not None:
                raise self._failure(broken, said)
            raise self._failure(Kind.TRUNCATED if self._started else Kind.EMPTY)
        for index in sorted(self._builder.drafts):
            yield from self._flush(self._builder.drafts[index])
        reply = self.reply
        if not self._allow_empty and all(choice.empty for choice in reply.choices):
            raise self._failure(Kind.EMPTY)
        for position, choice in enumerate(reply.choices, 1):
            usage = reply.usage if position == len(reply.choices) else None
            yield Delta(choice=choice.index, finish_reason=choice.finish_reason, usage=usage)

    def _partial(self) -> Reply | None:
        return self.reply if self._builder.drafts else None

    def _failure(self, kind: Kind, said: str = "") -> APIError:
        """Build the error of this stream, with what has arrived."""
        return failure(
            kind,
            said,
            model=self._model or self._builder.model,
            request_id=self._builder.meta.invocation_id,
            partial_reply=self._partial(),
        )

    def _tail(self) -> Iterator[Delta]:
        """Read what the end of the stream completes; half an event alone is not an error."""
        for payload in self._events.close():
            if not _is_json(payload) and not payload.startswith(b"<"):
                # A bare error directly follows whatever was sent before, possibly half an event.
                _, bare, rest = payload.rpartition(b'{"error"')
                if not bare or not _is_json(bare + rest):
                    continue
                payload = Stray(bare + rest)
            yield from self._event(payload)

    def _event(self, payload: bytes) -> Iterator[Delta]:
        """Read one event."""
        if self.done or not payload:
            return
        if payload.strip() == b"[DONE]":
            self.done = True
            return
        try:
            chunk = json.loads(payload.decode())
        except (ValueError, RecursionError):
            if self.whole:
                return
            raise self._failure(Kind.MALFORMED, _excerpt(payload)) from None
        if not isinstance(chunk, dict) or (type(payload) is Stray and "error" not in chunk and "detail" not in chunk):
            if self.whole:
                return
            raise self._failure(Kind.MALFORMED, _excerpt(payload))
        if chunk.get("error") or (chunk.get("detail") and "choices" not in chunk):
            if self.whole:
                return
            raise self._reported(chunk)
        self._started = True
        yield from self._chunk(chunk)

    def _reported(self, chunk: Mapping[str, object]) -> APIError:
        return reported_error(
            chunk,
            model=self._model or self._builder.model,
            request_id=self._builder.meta.invocation_id,
            partial_reply=self._partial(),
            delivered=self.delivered,
        )

    def _chunk(self, chunk: Mapping[str, object]) -> Iterator[Delta]:
        choices = chunk.get("choices") or []
        if not isinstance(choices, list):
            raise self._failure(Kind.MALFORMED, "the choices of a chunk are not a list")
        if choices:
            chunk_id = chunk.get("id")
            if isinstance(chunk_id, str) and chunk_id:
                if self._builder.id is None:
                    self._builder.id = chunk_id
                elif self._builder.id != chunk_id:
                    if self.whole:  # the machine died after finishing: the answer stands
                        self.done = True
                        return
                    if self.delivered or any(draft.finish_reason for draft in self._builder.drafts.values()):
                        raise self._failure(Kind.RESTARTED, "the chunk id changed")
                    self._begin(chunk_id)  # nothing of the first machine's answer has been yielded
        self._builder.head(chunk)
        for choice in choices:
            delta = self._choice(choice)
            if delta is not None:
                self.count += 1
                yield delta
            if choice.get("finish_reason") in BROKEN_FINISHES:
                raise self._failure(Kind.STREAM_ERROR, f"finish_reason {choice['finish_reason']!r}")

    def _choice(self, choice: object) -> Delta | None:
        if not isinstance(choice, dict):
            raise self._failure(Kind.MALFORMED, "a choice is not an object")
        index = choice.get("index")
        draft = self._builder.draft(index if isinstance(index, int) else 0)
        delta = choice.get("delta")
        step = self._delta(draft, delta) if isinstance(delta, dict) else None
        if isinstance(logprobs := choice.get("logprobs"), dict):
            draft.add_logprobs(logprobs)
        reason = choice.get("finish_reason")
        note_extra(draft, choice, delta if isinstance(delta, dict) else {})
        if isinstance(reason, str) and reason and reason not in BROKEN_FINISHES:
            draft.finish_reason = reason
        return step

    def _delta(self, draft: ChoiceDraft, delta: Mapping[str, object]) -> Delta | None:
        reasoning, content, calls = reasoning_of(delta), delta.get("content") or "", delta.get("tool_calls") or []
        if not isinstance(content, str) or not isinstance(calls, list):
            raise self._failure(Kind.MALFORMED, "a delta has an unknown format")
        self._check_opening(draft, delta, bool(calls))
        if not (reasoning or content or calls):
            return None
        if draft.finish_reason:
            raise self._failure(Kind.RESTARTED, "the answer continued after its finish_reason")
        if reasoning:
            # Reasoning has its own field here, so a tag in the content is part of the answer.
            content = draft.splitter.stop() + content
        elif content and not draft.splitter.passes:
            reasoning, content = draft.splitter.feed(content)
        if calls and not draft.splitter.passes:
            # No tag comes after the first tool call, so release what was held back for one.
            thought, rest = draft.splitter.close()
            reasoning, content = reasoning + thought, content + rest
        if reasoning:
            draft.reasoning.append(reasoning)
        if content:
            draft.content.append(content)
        steps = [step for call in calls if (step := self._tool(draft, call))]
        if not (reasoning or content or steps):
            return None
        return Delta(content, reasoning, steps, draft.index)

    def _check_opening(self, draft: ChoiceDraft, delta: Mapping[str, object], calls: bool) -> None:
        """Detect a second opening: a role again, after deltas without one.

        Some engines send the role in every delta, or again with a tool call; neither is an opening.
        """
        if not delta.get("role"):
            self._unopened.add(draft.index)
        elif draft.index in self._unopened and not draft.empty and not calls and not draft.finish_reason:
            raise self._failure(Kind.RESTARTED, "the answer opened a second time")

    def _tool(self, draft: ChoiceDraft, call: object) -> ToolCallDelta | None:
        """Add a piece of a tool call to its call."""
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict | None):
            raise self._failure(Kind.MALFORMED, "a tool call has an unknown format")
        call_id, name, arguments = tool_fields(call, function or {})
        index = self._tool_index(draft, call.get("index"), call_id, name)
        tool = draft.tools.get(index)
        if tool is None:
            draft.tools[index] = ToolDraft(call_id, name or "", [arguments])
            return ToolCallDelta(index, call_id, name, arguments)
        if (call_id and tool.id and call_id != tool.id) or (name and tool.name and name != tool.name):
            raise self._failure(Kind.RESTARTED, f"tool call {index} was opened a second time")
        fresh_id, fresh_name = (None if tool.id else call_id), (None if tool.name else name)
        tool.id, tool.name = tool.id or call_id, tool.name or name or ""
        tool.arguments.append(arguments)
        if not (fresh_id or fresh_name or arguments):
            return None
        return ToolCallDelta(index, fresh_id, fresh_name, arguments)

    @staticmethod
    def _tool_index(draft: ChoiceDraft, index: object, call_id: str | None, name: str | None) -> int:
        """Return which call a piece belongs to, even if the engine omits the index."""
        if isinstance(index, int):
            return index
        for known, tool in draft.tools.items():
            if call_id is not None and tool.id == call_id:
                return known
        last = max(draft.tools, default=-1)
        opens = call_id is not None or last < 0 or (name is not None and bool(draft.tools[last].name))
        return last + 1 if opens else last

    @staticmethod
    def _flush(draft: ChoiceDraft) -> list[Delta]:
        """Return what was held back for a tag that never came."""
        reasoning, content = draft.splitter.close()
        if not (reasoning or content):
            return []
        draft.reasoning += filter(None, (reasoning,))
        draft.content += filter(None, (content,))
        return [Delta(content, reasoning, (), draft.index)]


def _is_json(text: bytes) -> bool:
    if text == b"[DONE]":
        return True
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _excerpt(payload: bytes) -> str:
    text = payload.decode("utf-8", "replace")
    return text if len(text) <= 200 else f"{text[:200]}…"
