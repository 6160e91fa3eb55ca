"""What a call needs beside the engine, and what it tells in the end. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk

from chutes_core.errors import APIError, Kind, RequestRefusedError
from chutes_core.failures import failure
from chutes_core.fallback import Attempt, Call, FallbackError, Needs, Try, drivers
from chutes_core.fallback.foreign import as_failure
from langchain_chutes import _errors
from langchain_chutes._attempts import shows, usage
from langchain_chutes._forms import Form
from langchain_chutes._restart import restart_chunk, restartable
from langchain_chutes._tokens import estimate_tokens

if TYPE_CHECKING:
    from langchain_core.exceptions import ModelError
else:
    ModelError = _errors.ModelError

__all__ = ["ATTEMPTS", "Relay", "closing_chunk", "is_last", "needs_of", "raised", "reports"]

ATTEMPTS = "chutes_attempts"


class Relay(drivers.Relay[ChatGenerationChunk]):
    """The engine's relay for chunks, which also knows what may count as a member's failure.

    Args:
        call: The call.
        handled: The exceptions after which the next member is asked; None is every failure of a model.
        whole: Give nothing out before the answer is whole.
        blocks: Chunks have content blocks.
    """

    def __init__(
        self, call: Call, *, handled: tuple[type[Exception], ...] | None, whole: bool, blocks: bool = False
    ) -> None:
        def marker(step: Try) -> ChatGenerationChunk:
            return restart_chunk(step.member.name, blocks=blocks)

        restarts = call.policy.after_commit == "restart"
        super().__init__(
            call,
            shows=shows,
            usage=usage,
            marker=marker,
            holds=_calls_tools if restarts and not whole else _holds_nothing,
            whole=whole,
        )
        self._handled = handled

    def broke(self, error: Exception, step: Try) -> None:
        """A member failed, or whoever asked it made a mistake, which no other member puts right."""
        if self._handled is None:
            if isinstance(error, RequestRefusedError):
                self.call.cancelled()
                raise error
            super().broke(error, step)
            return
        if not isinstance(error, self._handled):
            found = as_failure(error, step.member.name)
            if found is None:
                self.call.cancelled()
            else:
                self.call.failed(found)
            raise error
        self.call.failed(_read(error, step.member.name))


def _read(error: Exception, model: str) -> APIError:
    """Read an exception of which the caller said that it is a member's failure, whatever it is."""
    if isinstance(error, RequestRefusedError):
        made = failure(Kind.UNSUPPORTED, str(error), model=model)
    else:
        made = as_failure(error, model) or failure(Kind.UPSTREAM, f"{type(error).__name__}: {error}", model=model)
    if made is not error:
        made.__cause__ = error
    return made


def _calls_tools(chunk: ChatGenerationChunk) -> bool:
    return bool(chunk.message.tool_call_chunks)  # type: ignore[attr-defined]


def _holds_nothing(chunk: ChatGenerationChunk) -> bool:
    return False


def is_last(chunk: ChatGenerationChunk) -> bool:
    """Tell whether a chunk ends an answer."""
    return chunk.message.chunk_position == "last"  # type: ignore[attr-defined, no-any-return]


def closing_chunk(held: ChatGenerationChunk | None, call: Call, *, restarts: bool = False) -> ChatGenerationChunk:
    """The last chunk of an answer, which also says what happened."""
    last = held or ChatGenerationChunk(message=AIMessageChunk(content="", chunk_position="last"))
    told = last.message.response_metadata
    name = told.get("model_name") or (call.served.name if call.served is not None else None)
    last.message.response_metadata = {**told, "model_name": name, ATTEMPTS: reports(call.attempts)}
    return restartable(last) if restarts else last


def reports(attempts: Iterable[Attempt]) -> list[dict[str, Any]]:
    """Attempts as plain data.

    >>> reports([Attempt("acme/one", "failed", Kind.CAPACITY, 429, 0.5, "busy")])
    [{'model': 'acme/one', 'outcome': 'failed', 'kind': 'capacity', 'status_code': 429, 'elapsed': 0.5,
      'detail': 'busy', 'usage': None, 'cost': None}]
    """
    return [
        {
            "model": attempt.model,
            "outcome": attempt.outcome,
            "kind": attempt.kind.value if attempt.kind is not None else None,
            "status_code": attempt.status_code,
            "elapsed": attempt.elapsed,
            "detail": attempt.detail,
            "usage": asdict(attempt.usage) if attempt.usage is not None else None,
            "cost": attempt.cost,
        }
        for attempt in attempts
    ]


def needs_of(messages: Sequence[BaseMessage], options: Mapping[str, Any], form: Form | None) -> Needs:
    """What a request asks of the model that answers it. The tokens are an estimate that errs on the low side."""
    body: dict[str, object] = {
        "messages": [{"content": each.content} for each in messages if not isinstance(each.content, str)],
        "tools": options.get("tools"),
        "response_format": options.get("response_format"),
    }
    if form is not None:
        if form.method == "function_calling" or form.tools:
            body["tools"] = [True]
        if form.method in ("json_schema", "json_mode"):
            body["response_format"] = {"type": {"json_mode": "json_object"}.get(form.method, form.method)}
    tokens = sum(map(_tokens, messages))
    if tools := options.get("tools"):
        tokens += len(json.dumps(tools, default=str)) // 5
    return Needs.of(body, tokens)


def _tokens(message: BaseMessage) -> int:
    content = message.content
    if isinstance(content, str):
        # What is short needs no exact look: every window is larger.
        return len(content) // 5 if len(content) < 4_000 else int(estimate_tokens(content) * 0.8)
    texts = [part if isinstance(part, str) else part.get("text") for part in content]
    return sum(int(estimate_tokens(text) * 0.8) for text in texts if isinstance(text, str))


class _FallbackError(FallbackError, ModelError):
    """A fallback's error that is one of LangChain's too."""

    @property
    def is_retryable(self) -> bool:  # type: ignore[override]
        """Whether the same call may succeed when it is made again."""
        return any(isinstance(each, APIError) and _errors.retryable(each) for each in self.exceptions)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (self.message, list(self.exceptions), self.attempts)


_FallbackError.__name__ = _FallbackError.__qualname__ = "FallbackError"


def raised(error: FallbackError) -> FallbackError:
    """The same error as one that is LangChain's too."""
    return _rebuilt(error.message, list(error.exceptions), error.attempts)  # type: ignore[arg-type]


def _rebuilt(message: str, failures: list[APIError], attempts: tuple[Attempt, ...]) -> FallbackError:
    made = _FallbackError(message, failures)
    made.attempts = attempts
    return made
