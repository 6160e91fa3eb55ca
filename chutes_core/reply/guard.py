"""The stream guard: the one place that decides whether a streamed answer is complete.

:class:`StreamGuard` takes the bytes of a streamed reply and yields deltas. It does no I/O and has no clock. It raises
as soon as the answer can no longer be complete, and :meth:`StreamGuard.close` raises if the stream ended too early;
either way the exception carries everything delivered so far.

An answer is complete when every choice has a ``finish_reason``. On Chutes that is not a formality: a machine may die
mid-sentence, and then the gateway restarts the answer on another machine inside the same HTTP stream (a new chunk id,
or a second opening role), or appends a bare ``{"error": …}`` outside the event format, or just closes.

The theory of operation: a reader acts on a delta as soon as it has it, and nobody can take it back. So the guard has
two moments. While bytes come it raises at the first sign that what was given out may not stand; at the end it asks
whether every choice has finished. Between them it holds three things true:

- What was given out, added up, is what :attr:`StreamGuard.reply` has. A piece goes into its draft first and out after,
  so an error's ``partial`` has every word that the reader saw.
- One machine wrote all of it. Another one's beginning is an error once anything was given out or finished; before that
  the draft is thrown away, and nobody knows.
- Once whole, it stays so. After the last ``finish_reason`` an error, noise or another machine is passed over; more text
  from the same one is an error, since then the end was none.

What cannot be read may have been a word, so it is an error too, and is never skipped. What would break it: giving out a
piece before its checks; guessing from the text whether a machine began anew (two answers may begin alike, and a model
may repeat itself); a second place that reads ``finish_reason`` to decide whether an answer is whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from chutes_core import door
from chutes_core.door import MisfitError
from chutes_core.errors import APIError, Kind
from chutes_core.failures.reading import failure, reported_error
from chutes_core.reply.alike import Likeness, counts_of, likeness
from chutes_core.reply.assemble import (
    BROKEN_FINISHES,
    KNOWN_FIELDS,
    TEXTS,
    ChoiceDraft,
    ReplyBuilder,
    ToolDraft,
    choice_index,
    finish_of,
    flaw_of,
    note_extra,
    reasoning_of,
    tool_fields,
)
from chutes_core.reply.replay import Replay
from chutes_core.reply.sse import EventDecoder, EventTooLongError, Stray
from chutes_core.response import Delta, Reply, ReplyMeta, ToolCallDelta

__all__ = ["StreamGuard"]

_TELLING = frozenset({"error", "detail", "trace"})
"""Fields of a chunk that decide something."""
_TRIES = 8
"""How many more chunks than these the short way is looked for, where they are not alike."""


class StreamGuard:
    r"""Turns the bytes of one streamed reply into deltas, and raises unless the answer is complete.

    Args:
        model: The requested model, for error messages.
        choices: How many answers were requested (``n``).
        allow_empty: Accept an empty answer, such as one cut at its start by a stop sequence.
        refuse_cut: Accept no answer that reached ``max_tokens``.
        starts_thinking: The model's output begins inside its reasoning, without an opening tag.
        meta: The data from the reply's headers.
        heals: Let an answer that begins anew go on, if what was given out comes again.

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
        refuse_cut: bool = False,
        starts_thinking: bool = False,
        meta: ReplyMeta | None = None,
        heals: bool = False,
    ) -> None:
        self._model = model
        self._expected = choices
        self._allow_empty, self._refuse_cut = allow_empty, refuse_cut
        self._events = EventDecoder()
        self._meta = meta
        self._starts_thinking = starts_thinking
        self._heals = heals
        self._like: Likeness | None = None  # what chunks have in common, while they come
        self._last: bytes | None = None  # the last one of these
        self._short = self._long = 0  # how many chunks took which way
        self._first: Reply | None = None  # what was given out before the answer began anew, while that is compared
        self._replay: Replay | None = None
        self._begin()
        self._started = False
        self.count = 0
        """How many deltas have come, those that were given out already included."""
        self.done = False
        """Whether the end marker has arrived: nothing after it belongs to the answer."""

    def _begin(self, chunk_id: str | None = None) -> None:
        self._builder = ReplyBuilder(self._meta, starts_thinking=self._starts_thinking)
        self._builder.id = chunk_id
        self._unopened: set[int] = set()

    @property
    def delivered(self) -> bool:
        """Whether any part of the answer has been yielded: from then on a restart may be visible."""
        return self.count > 0

    @property
    def whole(self) -> bool:
        """Whether every expected choice has finished."""
        drafts = self._builder.drafts
        return len(drafts) >= self._expected and all(draft.finish_reason for draft in drafts.values())

    @property
    def id(self) -> str | None:
        """The id of the answer, as far as it has come."""
        return (self._first or self._builder).id

    @property
    def reply(self) -> Reply:
        """What has arrived so far: the complete reply after :meth:`close`, a partial one before."""
        self._settle()
        return self._first or self._builder.build()

    def feed(self, block: bytes) -> Iterator[Delta]:
        """Take the next bytes; yield what they add, then raise if they are invalid."""
        try:
            payloads = self._events.feed(block)
        except EventTooLongError as problem:
            raise self._failure(Kind.MALFORMED, str(problem)) from None
        for payload in payloads:
            like = self._like if type(payload) is bytes else None
            if like is not None and (text := like.text_of(payload)) is not None:
                self._last, self._short = payload, self._short + 1
                if (step := self._alike(like, text)) is not None:
                    yield step
            else:
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
        self._settle()
        if not self.whole:
            if broken is not None:
                raise self._failure(broken, said)
            raise self._failure(Kind.TRUNCATED if self._started else Kind.EMPTY)
        for index in sorted(self._builder.drafts):
            for rest in self._flush(self._builder.drafts[index]):
                if (delta := self._compared(rest)) is not None:
                    yield delta
        if self._replay is not None:
            raise self._failure(Kind.RESTARTED, "the answer began anew, and ended sooner")
        try:
            self._builder.usage()
        except MisfitError as problem:
            raise self._failure(Kind.MALFORMED, str(problem)) from None
        reply = self.reply
        if (flaw := flaw_of(reply, allow_empty=self._allow_empty, refuse_cut=self._refuse_cut)) is not None:
            raise self._failure(*flaw)
        for position, choice in enumerate(reply.choices, 1):
            usage = reply.usage if position == len(reply.choices) else None
            yield Delta(choice=choice.index, finish_reason=choice.finish_reason, usage=usage)

    def _partial(self) -> Reply | None:
        return self.reply if self._first is not None or self._builder.drafts else None

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
        self._settle()
        if payload.strip() == b"[DONE]":
            self.done = True
            return
        try:
            chunk = door.loads(payload)
        except ValueError:
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
        try:
            yield from self._chunk(chunk)
        except MisfitError as problem:
            raise self._failure(Kind.MALFORMED, str(problem)) from None
        self._long += 1
        if type(payload) is bytes and self._long <= self._short + _TRIES:
            self._like = self._learned(payload, chunk)

    def _alike(self, like: Likeness, text: str) -> Delta | None:
        """Take the short way: a chunk that is like the one before except for its text."""
        (draft,) = self._builder.drafts.values()
        is_content = like.field == "content"
        delta = self._texts(draft, "" if is_content else text, text if is_content else "")
        self.count += delta is not None
        return delta

    def _settle(self) -> None:
        """Read what chunks that took the short way have said beside their texts, of which the last one counts."""
        last, self._last, self._like = self._last, None, None
        if last is not None:
            self._builder.head(cast("dict[str, object]", door.loads(last)))

    def _learned(self, payload: bytes, chunk: Mapping[str, object]) -> Likeness | None:
        """Return what the next chunks may have in common with this one, if it had one piece of text and no more."""
        choices = cast("Sequence[Mapping[str, object]]", chunk.get("choices") or ())
        drafts = self._builder.drafts
        if self._replay is not None or self._expected > 1 or not len(choices) == len(drafts) == 1:
            return None
        choice, (draft,) = choices[0], drafts.values()
        said = {name: value for name, value in cast("Mapping[str, object]", choice["delta"]).items() if value}
        if said.pop("role", None) and draft.index in self._unopened:
            return None  # the next one with a role would be a second opening
        field = next(iter(said), "")
        if len(said) > 1 or field not in TEXTS or draft.finish_reason or choice.get("logprobs") is not None:
            return None
        words = [name for name in chunk.keys() - KNOWN_FIELDS - _TELLING if isinstance(chunk[name], str)]
        return likeness(payload, field, counts_of(chunk.get("usage")), words)

    def _reported(self, chunk: Mapping[str, object]) -> APIError:
        return reported_error(
            chunk,
            model=self._model or self._builder.model,
            request_id=self._builder.meta.invocation_id,
            partial_reply=self._partial(),
            delivered=self.delivered,
        )

    def _chunk(self, chunk: Mapping[str, object]) -> Iterator[Delta]:
        choices = door.objects(chunk.get("choices"), "choices")
        if not choices and chunk.get("choices") is None and "trace" not in chunk:
            raise MisfitError("a chunk has no choices")  # it may have lost a word
        if choices and (chunk_id := door.text(chunk.get("id"), "id")):
            if self._builder.id is None:
                self._builder.id = chunk_id
            elif self._builder.id != chunk_id:
                if self.whole:  # the machine died after finishing: the answer stands
                    self.done = True
                    return
                if self.delivered or any(draft.finish_reason for draft in self._builder.drafts.values()):
                    self._again(_Anew("the chunk id changed"), chunk_id)
                else:
                    self._begin(chunk_id)  # nothing of the first machine's answer has been yielded
        self._builder.head(chunk)
        if len(choices) > 1 and len({choice_index(each, self._expected) for each in choices}) < len(choices):
            raise MisfitError("a chunk has one choice twice")
        for choice in choices:
            index, reason = choice_index(choice, self._expected), finish_of(choice)
            try:
                delta = self._choice(self._builder.draft(index), choice, reason)
            except _Anew as second:
                self._again(second, self._builder.id)
                self._builder.head(chunk)
                delta = self._choice(self._builder.draft(index), choice, reason)
            if delta is not None:
                self.count += 1
                if self._replay is None or (delta := self._compared(delta)) is not None:
                    yield delta
            if reason in BROKEN_FINISHES:
                raise self._failure(Kind.STREAM_ERROR, f"finish_reason {reason!r}")

    def _again(self, second: _Anew, chunk_id: str | None) -> None:
        """Compare an answer that begins anew with what was given out, or fail if that cannot be the same one."""
        first = self.reply
        told = first.choices[0] if self._expected == len(first.choices) == 1 else None
        calls = told is not None and (told.tool_calls or told.invalid_tool_calls)
        if not self._heals or told is None or calls or told.refusal or told.finish_reason:
            raise self._failure(Kind.RESTARTED, str(second))
        self._first, self._replay = first, Replay(told.reasoning, told.content)
        self._begin(chunk_id)

    def _compared(self, delta: Delta) -> Delta | None:
        """Return what a delta adds to what was given out before the answer began anew."""
        if self._replay is None:
            return delta
        added = self._replay.step(delta)
        if added is None:
            raise self._failure(Kind.RESTARTED, "the answer began anew, in other words")
        if self._replay.over:
            self._first = self._replay = None
        return added if added.content or added.reasoning or added.tool_calls else None

    def _choice(self, draft: ChoiceDraft, choice: Mapping[str, object], reason: str | None) -> Delta | None:
        delta = door.mapping(choice.get("delta"), "choices[].delta")
        if delta is None:
            raise MisfitError("choices[].delta is missing")
        if (logprobs := choice.get("logprobs")) is not None:
            draft.add_logprobs(logprobs)
        step = self._delta(draft, delta)
        note_extra(draft, choice, delta)
        if reason is not None and reason not in BROKEN_FINISHES:
            draft.finish_reason = reason
        return step

    def _delta(self, draft: ChoiceDraft, delta: Mapping[str, object]) -> Delta | None:
        # Most fields are null in most deltas, of which there are thousands.
        reasoning, content = reasoning_of(delta), door.text(delta.get("content"), "delta.content") or ""
        refusal = None if (raw := delta.get("refusal")) is None else door.text(raw, "delta.refusal")
        pieces = draft.pieces = [] if (raw := delta.get("tool_calls")) is None else self._pieces(draft, raw)
        self._check_opening(draft, door.text(delta.get("role"), "delta.role"), pieces)
        if not (reasoning or content or pieces or refusal):
            return None
        if draft.finish_reason:
            raise self._failure(Kind.RESTARTED, "the answer continued after its finish_reason")
        steps = tuple(step for piece in pieces if (step := self._tool(draft, piece))) if pieces else ()
        if refusal:
            draft.refusal.append(refusal)
        return self._texts(draft, reasoning, content, steps, ends_tags=bool(pieces))

    @staticmethod
    def _texts(
        draft: ChoiceDraft,
        reasoning: str,
        content: str,
        steps: Sequence[ToolCallDelta] = (),
        *,
        ends_tags: bool = False,
    ) -> Delta | None:
        """Add texts to a draft and return what they and the steps of its tool calls add."""
        if reasoning:
            # Reasoning has its own field here, so a tag in the content is part of the answer.
            content = draft.splitter.stop() + content
        elif content and not draft.splitter.passes:
            reasoning, content = draft.splitter.feed(content)
        if ends_tags and not draft.splitter.passes:
            # No tag comes after the first tool call, so release what was held back for one.
            thought, rest = draft.splitter.close()
            reasoning, content = reasoning + thought, content + rest
        if reasoning:
            draft.reasoning.append(reasoning)
        if content:
            draft.content.append(content)
        if not (reasoning or content or steps):
            return None
        return Delta(content, reasoning, steps, draft.index)

    def _check_opening(self, draft: ChoiceDraft, role: str | None, pieces: Sequence[ToolCallDelta]) -> None:
        """Detect a second opening: a role again, after deltas without one.

        Some engines send the role in every delta, or again where a tool call begins; neither is an opening.
        """
        if not role:
            self._unopened.add(draft.index)
        elif draft.index in self._unopened and not (draft.empty or draft.finish_reason):
            begins = pieces and all(piece.index not in draft.tools for piece in pieces)
            if not begins:
                raise _Anew("the answer opened a second time")

    def _pieces(self, draft: ChoiceDraft, raw: object) -> list[ToolCallDelta]:
        """Read the pieces of tool calls in a delta."""
        pieces: list[ToolCallDelta] = []
        for call in door.objects(raw, "tool_calls"):
            function = door.mapping(call.get("function"), "tool_calls[].function") or {}
            call_id, name, arguments = tool_fields(call, function)
            index = door.count(call.get("index"), "tool_calls[].index")
            if index is None:
                index = self._tool_index(draft, pieces, call_id, name, arguments)
            elif call_id is not None and self._is_another(draft.tools.get(draft.moved.get(index, index)), call_id):
                draft.moved[index] = max(draft.tools) + 1
            pieces.append(ToolCallDelta(draft.moved.get(index, index), call_id, name, arguments))
        return pieces

    def pieces_of(self, choice: object) -> Sequence[ToolCallDelta]:
        """Return the pieces of tool calls that the latest event had for a choice, each with its call's own index."""
        draft = self._builder.drafts.get(choice) if isinstance(choice, int) else None
        return () if draft is None else draft.pieces

    def _is_another(self, tool: ToolDraft | None, call_id: str) -> bool:
        """Return whether a piece begins another call, though it has the index of one.

        Some engines give all calls the same. A machine that answers anew does too, but in another chunk id.
        """
        if tool is None or tool.id in (None, call_id) or self._builder.id is None:
            return False
        return tool.is_object

    def _tool(self, draft: ChoiceDraft, piece: ToolCallDelta) -> ToolCallDelta | None:
        """Add a piece of a tool call to its call; return what it adds."""
        tool = draft.tools.get(piece.index)
        if tool is None:
            draft.tools[piece.index] = ToolDraft(piece.id, piece.name or "", [piece.arguments])
            return piece
        other = (piece.id and tool.id and piece.id != tool.id) or (piece.name and tool.name and piece.name != tool.name)
        if other or self._reopens(tool, piece):
            raise self._failure(Kind.RESTARTED, f"tool call {piece.index} was opened a second time")
        tool.continued = tool.continued or bool((tool.id or tool.name) and not (piece.id or piece.name))
        fresh_id, fresh_name = (None if tool.id else piece.id), (None if tool.name else piece.name)
        tool.id, tool.name = tool.id or piece.id, tool.name or piece.name or ""
        tool.arguments.append(piece.arguments)
        if not (fresh_id or fresh_name or piece.arguments):
            return None
        return ToolCallDelta(piece.index, fresh_id, fresh_name, piece.arguments)

    @staticmethod
    def _reopens(tool: ToolDraft, piece: ToolCallDelta) -> bool:
        """Return whether a piece names its call again, after pieces that did not, and begins its arguments anew.

        Some engines name the call in every piece, or once more in the last; they go on with the arguments.
        """
        repeats = (piece.id is not None and piece.id == tool.id) or (piece.name is not None and piece.name == tool.name)
        return tool.continued and repeats and (not piece.arguments or piece.arguments.lstrip().startswith("{"))

    @staticmethod
    def _tool_index(
        draft: ChoiceDraft, pieces: Sequence[ToolCallDelta], call_id: str | None, name: str | None, arguments: str
    ) -> int:
        """Return which call a piece belongs to if the engine omits the index.

        A name begins another call, unless it is once more that of one whose arguments are not whole yet.
        """
        known = {index: (tool.id, tool.name) for index, tool in draft.tools.items()}
        known.update((piece.index, (piece.id, piece.name or "")) for piece in pieces)
        for index, (known_id, _) in known.items():
            if call_id is not None and known_id == call_id:
                return index
        last = max(known, default=-1)
        open_call = draft.tools.get(last)
        goes_on = arguments and open_call is not None and open_call.name == name and not open_call.is_object
        opens = call_id is not None or last < 0 or (name is not None and bool(known[last][1]) and not goes_on)
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


class _Anew(Exception):
    """The answer begins a second time."""


def _is_json(text: bytes) -> bool:
    if text == b"[DONE]":
        return True
    try:
        door.loads(text)
    except ValueError:
        return False
    return True


def _excerpt(payload: bytes) -> str:
    text = payload.decode("utf-8", "replace")
    return text if len(text) <= 200 else f"{text[:200]}…"
