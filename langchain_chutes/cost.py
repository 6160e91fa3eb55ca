"""Track and limit what a LangChain program uses and costs, by model and by run.

>>> from langchain_chutes import CostCallback
>>> cost = CostCallback()
>>> cost
<CostCallback: 0 calls, 0 tokens, $0>

``model.invoke("Hello", config={"callbacks": [cost]})`` counts one call; ``with CostCallback() as cost:`` counts
every call inside the block.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langchain_core.tracers.context import register_configure_hook

from chutes_core.spending.budget import Estimate, most, prompt_tokens
from chutes_core.spending.meter import Used, Watcher, watch, watching
from chutes_core.spending.totals import Tally, limit_of
from chutes_core.usage import Ledger, Usage
from langchain_chutes._convert.replies import usage_in
from langchain_chutes._settings import translated_errors

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["CostCallback"]

_FALLBACK = "chutes-fallback"
_OURS = ("chutes", "chutes-chat", _FALLBACK)


class CostCallback(Tally, BaseCallbackHandler):
    """Callback that tracks tokens and US dollars by model and by run, and enforces a budget.

    Pass it as ``config={"callbacks": [...]}`` to count what is done for one call, or use it as a context manager to
    count every call in the block. One object can be shared between any number of threads and tasks.

    Args:
        budget: Limits. A call that could exceed them raises ``BudgetExceededError`` and is not sent.
        prices: US dollars per million prompt and answer tokens, for other providers' models; without a price, their
            cost is unknown and never guessed.
        catalog: Prices of Chutes models; by default the newest available.
        keep_runs: Number of recent runs to keep.

    >>> from chutes_core import Budget
    >>> CostCallback(budget=Budget(usd=5), prices={"other/model": (0.25, 1.0)}).total_cost
    0.0
    """

    # A limit must be able to stop the call, and its context must be the caller's.
    raise_error = True
    run_inline = True

    # ------------------------------------------------------------------------------------ as a context

    def __enter__(self) -> Self:
        several = _Several(self, around=_AROUND.get(), watcher=watching())
        _AROUND.set(several)
        watch(several)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        several = _AROUND.get()
        if several is not None:
            _AROUND.set(several.around)
            watch(several.watcher)

    # ------------------------------------------------------------------------------------ steps of a run

    def on_chain_start(self, *given: Any, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any) -> None:
        """Record which run a step belongs to."""
        self.meter.begin(run_id, parent_run_id, str(kwargs.get("name") or ""))

    def on_chain_end(self, *given: Any, run_id: UUID, **kwargs: Any) -> None:
        """Record that a step has ended or failed."""
        self.meter.end(run_id)

    on_chain_error = on_chain_end
    on_tool_start = on_retriever_start = on_chain_start
    on_tool_end = on_retriever_end = on_tool_error = on_retriever_error = on_chain_end

    # ------------------------------------------------------------------------------------ calls

    def on_chat_model_start(
        self,
        serialized: Any,
        messages: Sequence[Sequence[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Reserve the most the call may use, or refuse it.

        Raises:
            BudgetExceededError: The call could exceed the budget; nothing was sent.
        """
        prompt = [[each.content, getattr(each, "tool_calls", None)] for each in messages[0]] if messages else []
        self._begin(prompt, run_id, parent_run_id, kwargs)

    def on_llm_start(
        self,
        serialized: Any,
        prompts: Sequence[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Do the same for completion models."""
        self._begin(list(prompts), run_id, parent_run_id, kwargs)

    def _begin(self, prompt: object, run_id: UUID, parent: UUID | None, told: Mapping[str, Any]) -> None:
        params: Mapping[str, Any] = told.get("invocation_params") or {}
        metadata: Mapping[str, Any] = told.get("metadata") or {}
        wanted = None
        fallback = params.get("_type") == _FALLBACK
        if self.budget is not None:
            size = prompt_tokens([prompt, params.get("tools"), params.get("response_format")])
            asked = (fallback and params.get("members")) or [{**metadata, **params}]
            ours = all(_is_ours(one) for one in asked)
            if not (ours and any(self.meter.leaves(_model(one, one), one.get("base_url")) for one in asked)):
                wanted = most([each for each in (self._estimate(size, one) for one in asked) if each is not None])
        # LangChain does not report cancelled calls, but drops their id then, and no sooner.
        call = UUID(int=run_id.int)
        with translated_errors:
            self.meter.open(
                call,
                model=_model(params, metadata),
                run=parent,
                name=str(told.get("name") or ""),
                wanted=wanted,
                base_url=params.get("base_url"),
                deaf=fallback,
            )
        weakref.finalize(run_id, self.meter.close, call).atexit = False

    def _estimate(self, size: int, params: Mapping[str, Any]) -> Estimate | None:
        return self.meter.estimate(
            _model(params, params),
            size,
            ours=_is_ours(params),
            max_tokens=limit_of(params),
            answers=params.get("n") or 1,
            base_url=params.get("base_url"),
        )

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Record what the call used."""
        self.meter.close(run_id, list(self._uses(response, run_id)))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record what a failed call used."""
        failed = self._failed(error, run_id)
        self.meter.close(run_id, failed or [each for each in self._uses(kwargs.get("response"), run_id) if each[1]])

    def _uses(self, response: LLMResult | None, call: UUID) -> Iterator[Used]:
        """Yield what LangChain reports for a call: one entry, or one per fallback member that was called."""
        generations = response.generations if response is not None else []
        first = generations[0][0] if generations and generations[0] else None
        message = getattr(first, "message", None)
        told: Mapping[str, Any] = getattr(message, "response_metadata", None) or {}
        raw: Mapping[str, Any] = getattr(message, "usage_metadata", None) or {}
        if raw.get("total_cost") == 0:
            return  # from LangChain's cache: nothing was sent
        model = str(told.get("model_name") or told.get("model") or "")
        # Completion models and older integrations put it beside the message.
        output = (response.llm_output if response is not None else None) or {}
        usage = usage_in(raw) or Usage.parse(output.get("token_usage") or output.get("usage"))
        ours = told.get("model_provider") == "chutes"
        yield from self._answered(told, model, usage, meta=told, ours=ours, call=call, price=told.get("cost"))


class _Several(BaseCallbackHandler):
    """The callbacks of the enclosing blocks, outermost first."""

    raise_error = True
    run_inline = True

    def __init__(self, inner: CostCallback, *, around: _Several | None, watcher: Watcher | None) -> None:
        self.members: tuple[CostCallback, ...] = (*(around.members if around is not None else ()), inner)
        self.around = around
        self.watcher = watcher

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)

        def tell(*given: Any, **options: Any) -> None:
            begun: list[CostCallback] = []
            try:
                for each in self.members:
                    getattr(each, name)(*given, **options)
                    begun.append(each)
            except BaseException as error:
                for each in begun:  # an inner limit stopped a call that outer ones have reserved for
                    each.on_llm_error(error, run_id=options["run_id"])
                raise

        return tell

    def used(self, model: str, usage: Usage | None, cost: float | None, ledger: Ledger | None = None) -> None:
        """Record usage outside LangChain calls: its embeddings have no callbacks."""
        for each in self.members:
            each.meter.used(model, usage, cost, ledger)


_AROUND: ContextVar[_Several | None] = ContextVar("chutes_cost", default=None)
register_configure_hook(_AROUND, inheritable=True)


def _is_ours(params: Mapping[str, Any]) -> bool:
    return params.get("_type") in _OURS or params.get("ls_provider") == "chutes"


def _model(params: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    named = params.get("model") or params.get("model_name") or metadata.get("ls_model_name")
    return str(named or params.get("_type") or "unknown")
