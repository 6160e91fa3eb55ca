"""The LangChain side of a fallback call: relaying chunks, and finding what a request needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk

from chutes_core.errors import APIError, ChutesError, Kind, Retry
from chutes_core.failures.reading import failure
from chutes_core.fallback import Attempt, Call, FallbackError, Needs, Try, drivers
from chutes_core.fallback.foreign import as_failure
from chutes_core.fallback.report import beside
from chutes_core.fallback.stream import FallbackReply
from chutes_core.response import Reply
from langchain_chutes import _errors
from langchain_chutes._forms import Form
from langchain_chutes._parts import Part, ends, receipt, shows, usage
from langchain_chutes._restart import restart_chunk, restartable

if TYPE_CHECKING:
    from langchain_core.exceptions import ModelError
else:
    ModelError = _errors.ModelError

__all__ = ["Relay", "needs_of", "raised"]


class Relay(drivers.Relay[Part]):
    """The engine's relay for chunks; also decides which exceptions count as a member's failure.

    Args:
        call: The call.
        handled: The exceptions that move on to the next member; None means every model failure.
        whole: Emit nothing before the answer is complete.
        blocks: Chunks have content blocks.
    """

    def __init__(
        self, call: Call, *, handled: tuple[type[Exception], ...] | None, whole: bool, blocks: bool = False
    ) -> None:
        self._restarts = call.policy.after_commit == "restart" and not whole
        self._handled = handled
        self._begun = False
        super().__init__(
            call,
            shows=shows,
            usage=usage,
            marker=partial(_mark, blocks),
            # The last chunk reports the attempts, so it waits until the answer is accepted.
            holds=_ends_or_calls_tools if self._restarts else ends,
            whole=whole,
            receipt=receipt,
        )

    def end(self) -> list[Part]:
        """Return the parts still held, with the attempts reported in the last one."""
        held = super().end()
        if not held or not ends(held[-1]):
            held.append(ChatGenerationChunk(message=AIMessageChunk(content="", chunk_position="last")))
        last = held[-1].message
        added = beside(FallbackReply.of(Reply(None, None, ()), self.call))
        last.response_metadata = {**last.response_metadata, **added}
        return self.opened(held)

    def opened(self, given: list[Part]) -> list[Part]:
        """Make the first chunk restartable, so that chunks add up correctly if the answer may restart."""
        if not self._restarts or self._begun:
            return given
        self._begun = True
        return [restartable(given[0]), *given[1:]]  # type: ignore[arg-type]

    def broke(self, error: Exception, step: Try) -> None:
        """Record a member's failure, or re-raise a caller's mistake, which no other member can fix."""
        if self._handled is None:
            super().broke(error, step)
        elif isinstance(error, self._handled):
            if isinstance(error, ChutesError) and not isinstance(error, APIError | FallbackError):
                self.call.unable(error)  # refused on this side: the others may be asked all the same
            else:
                self.failed(_read(error, step.member.name))
        else:
            found = as_failure(error, step.member.name)
            if found is None:
                self.left(error)
            else:
                self.failed(found)
            raise error


def _read(error: Exception, model: str) -> APIError:
    """Turn an exception that the caller declared a member's failure into an ``APIError``."""
    made = as_failure(error, model) or failure(Kind.UPSTREAM, f"{type(error).__name__}: {error}", model=model)
    if made.retry is Retry.NEVER:
        made = _errors.elsewhere(made)
    if made is not error:
        made.__cause__ = error
    return made


def _mark(blocks: bool, step: Try) -> Part:
    return restart_chunk(step.member.name, blocks=blocks)


def _ends_or_calls_tools(part: Part) -> bool:
    return ends(part) or bool(part.message.tool_call_chunks)  # type: ignore[attr-defined]


def needs_of(messages: Sequence[BaseMessage], options: Mapping[str, Any], form: Form | None) -> Needs:
    """Return what a request needs from a model."""
    params = dict(options)
    if form is not None:
        if form.method == "function_calling" or form.tools:
            params["tools"] = [*(options.get("tools") or ()), *form.tools] or [True]
        if form.method in ("json_schema", "json_mode"):
            params["response_format"] = {"type": {"json_mode": "json_object"}.get(form.method, form.method)}
    return Needs.of_contents(params, (message.content for message in messages))


class _FallbackError(FallbackError, ModelError):
    """A ``FallbackError`` that is also a LangChain ``ModelError``."""

    @property
    def is_retryable(self) -> bool:  # type: ignore[override]
        """Whether retrying the same call may succeed."""
        return any(isinstance(each, APIError) and _errors.retryable(each) for each in self.exceptions)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (self.message, list(self.exceptions), self.attempts)


_FallbackError.__name__ = _FallbackError.__qualname__ = "FallbackError"


def raised(error: FallbackError) -> FallbackError:
    """Return the error as one that is LangChain's too."""
    return _rebuilt(error.message, list(error.exceptions), error.attempts)  # type: ignore[arg-type]


def _rebuilt(message: str, failures: list[APIError], attempts: tuple[Attempt, ...]) -> FallbackError:
    made = _FallbackError(message, failures)
    made.attempts = attempts
    return made
