"""What observers see of a fallback's attempts: an event for each, and a run of its own below the call's.

The call's own run is the only one of a model: it has the answer and its tokens, so whoever adds those up counts them
once. The attempts are runs of a chain, with what is known of each as plain data.

LangChain passes a run manager to ``_generate`` but not to ``_stream``. So a stream gets its callbacks in a manager
made beforehand, with an extra handler that records the run id when the run begins. A run begins with the names of all
members; when it ends the same handler, which comes before all others, puts the name of the one that served where
tracers look for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import aclosing, closing, contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import partial
from inspect import isawaitable
from typing import Any, TypeVar
from uuid import UUID
from weakref import ref

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    BaseCallbackHandler,
    CallbackManager,
)
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.tracers import BaseTracer

from chutes_core.fallback import Attempt, Try
from chutes_core.fallback.report import report

__all__ = ["Runs", "announce", "announced", "current_runs", "watched"]

EVENT = "chutes_attempt"
_MODEL = "ls_model_name"
_NAMES = ((_MODEL, "model_name"), ("ls_provider", "model_provider"))
"""Where LangSmith, and whoever follows it, finds the model whose price is asked for; and an answer's names of it."""
M = TypeVar("M", CallbackManager, AsyncCallbackManager)
T = TypeVar("T")
_CURRENT: ContextVar[Runs | None] = ContextVar("chutes_runs", default=None)


class Runs:
    """Reports the attempts of one call.

    Args:
        manager: The manager of the call's run, as its parent.
    """

    def __init__(self, manager: CallbackManager | AsyncCallbackManager) -> None:
        self._manager: Any = manager
        self._waits = isinstance(manager, AsyncCallbackManager)
        self._due: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._attempts: dict[int, Any] = {}  # by the identity of the step with which each began
        self._listener: Callable[[], _Listener | None] = lambda: None
        # Those that show a call's tokens as they come have no use for the runs below it.
        watching = [each for each in manager.handlers if not hasattr(each, "tap_output_iter")]
        self._above: Any = _below(manager, manager.parent_run_id, watching) if watching else None

    @classmethod
    def under(cls, manager: Any) -> Runs | None:
        """Return the reporter below a LangChain run manager's run; None without observers."""
        if manager is None or not manager.handlers:
            return None
        waits = isinstance(manager, AsyncCallbackManagerForLLMRun)
        return cls(_inherited(manager, manager.run_id, AsyncCallbackManager if waits else CallbackManager))

    def config(self, step: Try) -> RunnableConfig:
        """Return the configuration of a model that is asked in an attempt: its run is not a second one of the call."""
        attempt = self._attempts.get(id(step))
        above = attempt.run_id if attempt is not None else self._manager.parent_run_id
        return {"callbacks": type(self._manager)(handlers=[], parent_run_id=above)}

    def begins(self, step: Try) -> None:
        """Open an attempt's run."""
        if self._above is not None:
            self._do(partial(self._begin, step))

    def ended(self, attempt: Attempt, error: BaseException | None, step: Try | None) -> None:
        """Report an attempt that has ended, or a member that was skipped."""
        self._do(partial(self._end, attempt, error, step))

    async def heard(self) -> None:
        """Tell handlers that are awaited."""
        due, self._due = self._due, []
        for each in due:
            await each()

    def _do(self, tell: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._waits:
            self._due.append(tell)
            return
        with suppress(StopIteration):  # a manager that does not wait has nothing to be awaited
            tell().send(None)

    async def _begin(self, step: Try) -> None:
        name = step.member.name
        self._above.metadata = {**self._above.metadata, _MODEL: name}  # the call's own has the names of all
        told = {"model": name, "restart": step.restart}
        self._attempts[id(step)] = await _done(self._above.on_chain_start(None, told, name=f"Attempt {name}"))

    async def _end(self, attempt: Attempt, error: BaseException | None, step: Try | None) -> None:
        told = report(attempt)
        if (run_id := self._manager.parent_run_id) is not None:
            await _done(self._manager.on_custom_event(EVENT, dict(told), run_id=run_id))
        run = self._attempts.pop(id(step), None)
        if run is None:
            return
        if attempt.outcome in ("answered", "outrun"):
            await _done(run.on_chain_end(told))
        else:  # a run that failed has no outputs: tracers find what it used beside what it was asked
            await _done(run.on_chain_error(error or RuntimeError(attempt.outcome), inputs=told))

    # ------------------------------------------------------------------------- models with runs of their own

    def unseen(self, chunks: Generator[T, None, None]) -> Generator[T, None, None]:
        """Keep whoever observes the call's run from observing a member's run as another one.

        A model called through its public interface looks up handlers in its context, such as LangChain's token
        counter, before its first chunk.
        """
        with closing(chunks):
            with self._hidden():
                first = next(chunks, None)
            if first is not None:
                yield first
                yield from chunks

    async def aunseen(self, chunks: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """Async version of :meth:`unseen`."""
        async with aclosing(chunks):
            with self._hidden():
                first = await anext(chunks, None)
            if first is not None:
                yield first
                async for chunk in chunks:
                    yield chunk

    @contextmanager
    def _hidden(self) -> Iterator[None]:
        from langsmith.run_helpers import tracing_context

        known = self._manager.handlers
        found = [(var, value) for var, value in copy_context().items() if any(value is each for each in known)]
        for var, _ in found:
            var.set(None)
        try:
            with tracing_context(enabled=False):
                yield
        finally:
            for var, value in found:
                var.set(value)


async def _done(told: Awaitable[T] | T) -> T:
    return await told if isawaitable(told) else told


def current_runs(manager: Any = None) -> Runs | None:
    """Return the reporter for the starting call, from its manager or from what was recorded when its run began."""
    learned = _CURRENT.get()
    _CURRENT.set(None)
    return Runs.under(manager) if manager is not None else learned


def announce(manager: Any) -> None:
    """Store a run's manager for the stream that may begin under it, and have its end name the model that served."""
    _CURRENT.set(Runs.under(manager))
    if manager is not None and manager.handlers:
        manager.handlers.insert(0, _Listener(manager, manager.run_id))


def watched(chunks: AsyncIterator[T]) -> AsyncIterator[T]:
    """Have a stream end before its call does, if a reader leaves it: LangChain leaves it to the collector."""
    runs = _CURRENT.get()
    if runs is not None and (listener := runs._listener()) is not None:
        listener.stream = chunks
    return chunks


def announced(config: RunnableConfig | None, kind: type[M]) -> RunnableConfig:
    """Return a config that makes a stream's run known to :func:`current_runs` once it begins."""
    _CURRENT.set(None)
    config = ensure_config(config)
    manager = kind.configure(
        config.get("callbacks"), inheritable_tags=config.get("tags"), inheritable_metadata=config.get("metadata")
    )
    if manager.handlers:
        manager.handlers.insert(0, (_AsyncListener if kind is AsyncCallbackManager else _Listener)(manager))
        config["callbacks"] = manager
    return config


def _inherited(manager: Any, run_id: UUID | None, kind: type[Any]) -> Any:
    """Return the manager for a run's children, with inherited handlers."""
    # A tracer that is not inheritable, such as a run collector, should still see the attempts.
    handlers = list(manager.inheritable_handlers)
    handlers += [each for each in manager.handlers if isinstance(each, BaseTracer) and not _is_among(each, handlers)]
    return _below(manager, run_id, handlers, kind)


def _is_among(tracer: BaseTracer, handlers: list[BaseCallbackHandler]) -> bool:
    """Return whether a tracer is there already, itself or as a copy: those share their runs."""
    return any(each is tracer or getattr(each, "run_map", None) is tracer.run_map for each in handlers)


def _below(
    manager: Any, run_id: UUID | None, handlers: list[BaseCallbackHandler], kind: type[Any] | None = None
) -> Any:
    made = (kind or type(manager))(handlers=[], parent_run_id=run_id)
    made.set_handlers(handlers)
    made.add_tags(manager.inheritable_tags)
    made.add_metadata(manager.inheritable_metadata)
    return made


class _Listener(BaseCallbackHandler):
    """Records a run's id when it begins, in the context in which its stream starts right after, and names its model."""

    run_inline = True

    def __init__(self, manager: Any, run_id: UUID | None = None) -> None:
        self._manager, self._run_id = manager, run_id
        self.stream: Any = None

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **options: Any) -> None:
        self._run_id = run_id
        runs = Runs(_inherited(self._manager, run_id, type(self._manager)))
        runs._listener = ref(self)  # which has the stream: no cycle, or a stream that is dropped would live on
        _CURRENT.set(runs)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **options: Any) -> None:
        """Name the model that served: in the result, where a stream has no place for it, and in the tracers' runs."""
        message = getattr(response.generations[0][0], "message", None) if run_id == self._run_id else None
        told = message.response_metadata if message is not None else {}
        if "model_name" not in told:
            return
        response.llm_output = {"model_name": told["model_name"], **(response.llm_output or {})}
        named = {ours: told[theirs] for ours, theirs in _NAMES if theirs in told}
        for each in self._manager.handlers:
            run = each.run_map.get(str(run_id)) if isinstance(each, BaseTracer) else None
            if run is not None:
                run.extra["metadata"] = {**(run.extra.get("metadata") or {}), **named}


class _AsyncListener(_Listener):
    async def on_llm_error(self, error: BaseException, **options: Any) -> None:
        """End the attempt before its call, where a reader leaves the stream."""
        stream = self.stream  # while it runs, a loop's end closes it
        if isinstance(error, GeneratorExit) and stream is not None and not stream.ag_running:
            await stream.aclose()
