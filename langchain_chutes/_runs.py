"""Tracing runs for a fallback's attempts: one parent, with a child for each member called.

LangChain passes a run manager to ``_generate`` but not to ``_stream``. So a stream gets its callbacks in a manager
made beforehand, with an extra handler that records the run id when the run begins.
"""

from __future__ import annotations

from asyncio import iscoroutinefunction, to_thread
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar, cast
from uuid import UUID

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    BaseCallbackHandler,
    CallbackManager,
    UsageMetadataCallbackHandler,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.outputs.chat_generation import merge_chat_generation_chunks
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.tracers import BaseTracer

from langchain_chutes._parts import aclosed, closed

__all__ = ["Runs", "announced", "current_runs"]

EVENT = "chutes_attempt"
M = TypeVar("M", CallbackManager, AsyncCallbackManager)
T = TypeVar("T")
P = ChatGenerationChunk | ChatGeneration
Messages = Sequence[BaseMessage]
_CURRENT: ContextVar[Runs | None] = ContextVar("chutes_runs", default=None)


class Runs:
    """Reports the attempts of one call: to all handlers as an event, to tracers as child runs.

    Args:
        manager: The manager that child runs inherit from.
    """

    def __init__(self, manager: CallbackManager | AsyncCallbackManager) -> None:
        self._manager = manager
        self.config: RunnableConfig | None = None
        waits = isinstance(manager, AsyncCallbackManager)
        watching = [seen for each in manager.handlers if (seen := _watcher(each, waits=waits)) is not None]
        if watching:
            children = _below(manager, manager.parent_run_id, type(manager))
            children.set_handlers(watching)
            self.config = {"callbacks": children}

    def over(self, parts: Iterator[P], model: BaseChatModel, messages: Messages, **options: Any) -> Iterator[P]:
        """Pass on a Chutes model's attempt and report its run to observers."""
        manager, given = self._opening(model, options)
        (run,) = manager.on_chat_model_start({}, [list(messages)], **given)
        seen: list[P] = []
        try:
            for part in parts:
                if isinstance(part, ChatGenerationChunk):
                    run.on_llm_new_token(part.message.content, chunk=part)
                seen.append(part)
                yield part
        except BaseException as error:
            run.on_llm_error(error, response=_result(seen))
            raise
        finally:
            parts.close()  # type: ignore[attr-defined]
        run.on_llm_end(_result(seen))

    async def aover(
        self, parts: AsyncIterator[P], model: BaseChatModel, messages: Messages, **options: Any
    ) -> AsyncIterator[P]:
        """Async version of :meth:`over`."""
        manager, given = self._opening(model, options)
        (run,) = await manager.on_chat_model_start({}, [list(messages)], **given)
        seen: list[P] = []
        try:
            async for part in parts:
                if isinstance(part, ChatGenerationChunk):
                    await run.on_llm_new_token(part.message.content, chunk=part)
                seen.append(part)
                yield part
        except BaseException as error:
            await run.on_llm_error(error, response=_result(seen))
            raise
        finally:
            await parts.aclose()  # type: ignore[attr-defined]
        await run.on_llm_end(_result(seen))

    def _opening(self, model: BaseChatModel, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        assert self.config is not None
        children: Any = self.config["callbacks"]
        manager = _below(children, children.parent_run_id, type(children))
        manager.add_metadata(dict(model._get_ls_params(**options)), inherit=False)
        params = {**model._identifying_params, "_type": model._llm_type, **options}
        return manager, {"invocation_params": params, "options": options, "name": model.get_name(), "batch_size": 1}

    def unseen(self, messages: Iterator[T]) -> Iterator[T]:
        """Keep handlers that observe the call's run from observing an attempt's run again.

        A model called through its public interface looks up handlers in its context, such as LangChain's token
        counter, before its first message.
        """
        with closed(messages):
            with self._hidden():
                first = next(messages, None)
            if first is not None:
                yield first
                yield from messages

    async def aunseen(self, messages: AsyncIterator[T]) -> AsyncIterator[T]:
        """Async version of :meth:`unseen`."""
        async with aclosed(messages):
            with self._hidden():
                first = await anext(messages, None)
            if first is not None:
                yield first
                async for message in messages:
                    yield message

    @contextmanager
    def _hidden(self) -> Iterator[None]:
        known = self._manager.handlers
        found = [(var, value) for var, value in copy_context().items() if any(value is each for each in known)]
        for var, _ in found:
            var.set(None)
        try:
            yield
        finally:
            for var, value in found:
                var.set(value)

    @classmethod
    def under(cls, manager: Any) -> Runs | None:
        """Return the reporter below a LangChain run manager's run; None without observers."""
        if manager is None or not manager.handlers:
            return None
        waits = isinstance(manager, AsyncCallbackManagerForLLMRun)
        return cls(_below(manager, manager.run_id, AsyncCallbackManager if waits else CallbackManager))

    def tell(self, attempt: Mapping[str, Any]) -> None:
        """Report an attempt that has ended."""
        if isinstance(self._manager, CallbackManager) and self._manager.parent_run_id is not None:
            self._manager.on_custom_event(EVENT, dict(attempt), run_id=self._manager.parent_run_id)

    async def atell(self, attempt: Mapping[str, Any]) -> None:
        """Report an attempt that has ended."""
        if isinstance(self._manager, AsyncCallbackManager) and self._manager.parent_run_id is not None:
            await self._manager.on_custom_event(EVENT, dict(attempt), run_id=self._manager.parent_run_id)
        else:
            self.tell(attempt)


def current_runs(manager: Any = None) -> Runs | None:
    """Return the reporter for the starting call, from its manager or from what was recorded when its run began."""
    learned = _CURRENT.get()
    _CURRENT.set(None)
    return Runs.under(manager) if manager is not None else learned


def announce(manager: Any) -> None:
    """Store a run's manager for the stream that is about to begin under it."""
    _CURRENT.set(Runs.under(manager))


def announced(config: RunnableConfig | None, kind: type[M]) -> RunnableConfig:
    """Return a config that makes a stream's run known to :func:`current_runs` once it begins."""
    _CURRENT.set(None)
    config = ensure_config(config)
    manager = kind.configure(
        config.get("callbacks"), inheritable_tags=config.get("tags"), inheritable_metadata=config.get("metadata")
    )
    if manager.handlers:
        manager.add_handler(_Listener(manager), inherit=False)
        config["callbacks"] = manager
    return config


def _below(manager: Any, run_id: UUID | None, kind: type[Any]) -> Any:
    """Return the manager for a run's children, with inherited handlers."""
    made = kind(handlers=[], parent_run_id=run_id)
    # A tracer that is not inheritable, such as a run collector, should still see the attempts.
    tracers = [each for each in manager.handlers if isinstance(each, BaseTracer)]
    made.set_handlers(
        [*manager.inheritable_handlers, *(each for each in tracers if each not in manager.inheritable_handlers)]
    )
    made.add_tags(manager.inheritable_tags)
    made.add_metadata(manager.inheritable_metadata)
    return made


def _result(parts: list[P]) -> LLMResult:
    whole = merge_chat_generation_chunks(cast("list[ChatGenerationChunk]", parts))
    return LLMResult(generations=[[whole]] if whole is not None else [])


class _Listener(BaseCallbackHandler):
    """Records the id of a run when it begins, in the context in which its stream starts right after."""

    run_inline = True

    def __init__(self, manager: CallbackManager | AsyncCallbackManager) -> None:
        self._manager = manager

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **options: Any) -> None:
        _CURRENT.set(Runs(_below(self._manager, run_id, type(self._manager))))


def _watcher(handler: BaseCallbackHandler, *, waits: bool) -> Any:
    """Return what a handler gets to see of the attempts.

    A handler that shows tokens or adds up usage already gets them from the parent run and would count them twice, and
    the tokens of an attempt that may fail must not be shown. Our own handlers know about attempts.
    """
    if hasattr(handler, "tap_output_iter") or isinstance(handler, UsageMetadataCallbackHandler):
        return None
    if isinstance(handler, BaseTracer):
        return handler
    counts = type(handler).__module__.partition(".")[0] == __name__.partition(".")[0]
    return _AsyncWithoutTokens(handler, counts) if waits else _WithoutTokens(handler, counts)


class _WithoutTokens:
    """Wraps a handler so that it sees runs begin and end, but no tokens in between.

    Args:
        handler: The handler.
        counts: Whether it also gets the usage.
    """

    def __init__(self, handler: Any, counts: bool) -> None:
        self._handler = handler
        self._counts = counts

    def __getattr__(self, name: str) -> Any:
        if name == "_handler":  # a copy that is not initialized yet
            raise AttributeError(name)
        return getattr(self._handler, name)

    def on_llm_new_token(self, *given: Any, **options: Any) -> Any:
        """Ignore the event."""

    def on_stream_event(self, *given: Any, **options: Any) -> Any:
        """Ignore the event."""

    def on_llm_end(self, response: LLMResult, **options: Any) -> Any:
        """Forward the end without usage, which is reported with the call's own run."""
        return self._handler.on_llm_end(response if self._counts else _without_usage(response), **options)


class _AsyncWithoutTokens(_WithoutTokens):
    """Async version, for awaited callbacks."""

    async def on_llm_new_token(self, *given: Any, **options: Any) -> Any:
        """Ignore the event."""

    async def on_stream_event(self, *given: Any, **options: Any) -> Any:
        """Ignore the event."""

    async def on_llm_end(self, response: LLMResult, **options: Any) -> Any:
        """Forward the end without usage."""
        ended = super().on_llm_end
        if iscoroutinefunction(self._handler.on_llm_end):
            await ended(response, **options)
        elif self._handler.run_inline:
            ended(response, **options)
        else:
            await to_thread(ended, response, **options)


def _without_usage(response: LLMResult) -> LLMResult:
    return LLMResult(generations=[[_uncounted(each) for each in row] for row in response.generations])


def _uncounted(generation: Any) -> Any:
    message = getattr(generation, "message", None)
    if message is None or getattr(message, "usage_metadata", None) is None:
        return generation
    return generation.model_copy(update={"message": message.model_copy(update={"usage_metadata": None})})
