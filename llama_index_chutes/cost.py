"""Track and limit what a LlamaIndex program uses and costs, by model and by run.

>>> from llama_index_chutes import CostHandler
>>> with CostHandler() as cost:
...     pass  # queries, chats, agents
>>> cost
<CostHandler: 0 calls, 0 tokens, $0>

As a context manager it counts every call of the program; in a ``CallbackManager([cost])``, the calls of models and
indexes with that manager.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import llama_index.core.instrumentation as instrument
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.callbacks.schema import BASE_TRACE_EVENT
from llama_index.core.instrumentation.span import BaseSpan, active_span_id
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler

from chutes_core.spending.budget import Estimate, prompt_tokens
from chutes_core.spending.meter import OpenCall, Used, watching
from chutes_core.spending.totals import Tally, limit_of
from llama_index_chutes._convert.unusable import usage_of

if TYPE_CHECKING:
    from types import TracebackType


__all__ = ["CostHandler"]

_COUNTED = (CBEventType.LLM, CBEventType.EMBEDDING)
_FALLBACK, _EMBEDDING = "ChutesFallback_llm", "ChutesEmbedding"
_OURS = ("Chutes_llm", _FALLBACK, _EMBEDDING)
_WRAPPER = "structured_llm"  # the framework's wrapper around the model that makes the call


class CostHandler(Tally, BaseCallbackHandler):
    """Handler that tracks tokens and US dollars by model and by run, and enforces a budget.

    LlamaIndex's instrumentation reports every call but ignores exceptions from handlers; its callbacks can stop a
    call but are only sent to models with their manager. As a context manager, this handler uses instrumentation to
    join every model's callback manager, and counts all calls of the process until the block ends.

    Args:
        budget: Limits. A call that could exceed them raises ``BudgetExceededError`` and is not sent. Other providers'
            embeddings are the exception: their usage is not known beforehand.
        prices: US dollars per million prompt and answer tokens, for other providers' models; without a price, their
            cost is unknown and never guessed.
        catalog: Prices of Chutes models; by default the newest available.
        keep_runs: Number of recent runs to keep.

    >>> from chutes_core import Budget
    >>> CostHandler(budget=Budget(usd=5), prices={"other/model": (0.25, 1.0)}).total_cost
    0.0
    """

    def _set_up(self) -> None:
        BaseCallbackHandler.__init__(self, [], [])
        self._lock = threading.Lock()
        self._blocks = 0
        self._managers: list[CallbackManager] = []
        self._spans = _Spans()
        self._spans._owner = self

    # ------------------------------------------------------------------------------------ as a context

    def __enter__(self) -> Self:
        with self._lock:
            self._blocks += 1
            if self._blocks == 1:
                _root().span_handlers.append(self._spans)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks:
                return
            root = _root()
            root.span_handlers = [each for each in root.span_handlers if each is not self._spans]
            for manager in self._managers:
                manager.handlers = [each for each in manager.handlers if each is not self]
            self._managers.clear()
        self.meter.abandon()

    def _join(self, component: object) -> None:
        """Join a model's callback manager."""
        if not isinstance(component, BaseLLM | BaseEmbedding) or component.class_name() == _WRAPPER:
            return
        manager = component.callback_manager
        with self._lock:
            if self._blocks and isinstance(manager, CallbackManager) and self not in manager.handlers:
                # Not appended: managers created without handlers share the list of the one in Settings.
                manager.handlers = [*manager.handlers, self]
                self._managers.append(manager)

    # ------------------------------------------------------------------------------------ calls

    def start_trace(self, trace_id: str | None = None) -> None:
        """Do nothing."""

    def end_trace(self, trace_id: str | None = None, trace_map: dict[str, list[str]] | None = None) -> None:
        """Do nothing."""

    def on_event_start(
        self,
        event_type: CBEventType,
        payload: dict[str, Any] | None = None,
        event_id: str = "",
        parent_id: str = "",
        **kwargs: Any,
    ) -> str:
        """Reserve the most a call may use, or refuse it.

        Raises:
            BudgetExceededError: The call could exceed the budget; nothing was sent.
        """
        parent = active_span_id.get() if self._blocks else None
        parent = parent or (parent_id if parent_id != BASE_TRACE_EVENT else None)
        told = payload or {}
        model: Mapping[str, Any] = (told.get(EventPayload.SERIALIZED) or {}) if event_type in _COUNTED else {}
        kind = model.get("class_name")
        if event_type not in _COUNTED or kind == _WRAPPER:
            self.meter.begin(event_id, parent, event_type.value)
            return event_id
        name = str(model.get("model_name") or "unknown")
        around = watching()
        if isinstance(around, OpenCall) and around.deaf and name in around.model.split(","):
            return event_id  # a member of a fallback, which reports all its members at its end
        wanted = self._wanted(name, model, told) if event_type is CBEventType.LLM else None
        deaf, mute = kind == _FALLBACK, kind == _EMBEDDING
        self.meter.open(
            event_id, model=name, run=parent, name=name, wanted=wanted, base_url=model.get("api_base"), deaf=deaf,
            mute=mute,
        )  # fmt: skip
        return event_id

    def _wanted(self, name: str, model: Mapping[str, Any], told: Mapping[str, Any]) -> Estimate | None:
        """Estimate the most a call may use; None without a budget."""
        ours, base_url = model.get("class_name") in _OURS, model.get("api_base")
        if self.budget is None or (ours and self.meter.leaves(name, base_url)):
            return None
        options: Mapping[str, Any] = told.get(EventPayload.ADDITIONAL_KWARGS) or {}
        messages = told.get(EventPayload.MESSAGES) or told.get(EventPayload.PROMPT) or ()
        said = messages if isinstance(messages, str) else [_plain(each) for each in messages]
        size = prompt_tokens([said, options.get("tools"), options.get("response_format")])
        return self.meter.estimate(name, size, ours=ours, max_tokens=_limit(model, options), base_url=base_url)

    def on_event_end(
        self,
        event_type: CBEventType,
        payload: dict[str, Any] | None = None,
        event_id: str = "",
        **kwargs: Any,
    ) -> None:
        """Record what a call used."""
        self.meter.end(event_id)
        if event_type not in _COUNTED:
            return
        told = payload or {}
        error = told.get(EventPayload.EXCEPTION)
        uses: Iterable[Used]
        if isinstance(error, BaseException):
            uses = self._failed(error, event_id)
        elif event_type is CBEventType.EMBEDDING:
            uses = [("", None, None)]  # LlamaIndex reports no usage, and starts several events before it makes a call
        else:
            uses = list(self._uses(told.get(EventPayload.RESPONSE) or told.get(EventPayload.COMPLETION), event_id))
        self.meter.close(event_id, uses)

    def _uses(self, answer: Any, call: str) -> Iterator[Used]:
        """Return what LlamaIndex reports for a call."""
        raw = getattr(answer, "raw", None)
        told: Mapping[str, Any] = raw if isinstance(raw, Mapping) else getattr(raw, "__dict__", {})
        model = str(told.get("model") or told.get("model_name") or "")
        meta = told.get("chutes")
        headers: Mapping[str, Any] = meta if isinstance(meta, Mapping) else {}
        return self._answered(told, model, usage_of(answer), meta=headers, ours=headers is meta, call=call)


class _Spans(BaseSpanHandler[BaseSpan]):
    """Records which steps belong together, and adds its owner to every model that is called."""

    _owner: Any = PrivateAttr(default=None)

    def new_span(
        self,
        id_: str,
        bound_args: Any,
        instance: Any = None,
        parent_span_id: str | None = None,
        *given: Any,
        **told: Any,
    ) -> None:
        """Record that a step begins; no span is kept."""
        self._owner.meter.begin(id_, parent_span_id, id_.rsplit("-", 5)[0])
        self._owner._join(instance)

    def prepare_to_exit_span(self, id_: str, *given: Any, **told: Any) -> None:
        """Record that a step has ended."""
        self._owner.meter.end(id_)

    def prepare_to_drop_span(self, id_: str, *given: Any, **told: Any) -> None:
        """Record that a step has failed."""
        self._owner.meter.end(id_)


def _root() -> Any:
    return instrument.get_dispatcher()  # type: ignore[attr-defined]


def _plain(message: Any) -> object:
    return message.model_dump(mode="json") if hasattr(message, "model_dump") else str(message)


def _limit(model: Mapping[str, Any], options: Mapping[str, Any]) -> int | None:
    """Return the maximum answer length that was set; None if there is no limit.

    ``num_output`` is that limit, or, if none was set, the room the framework should leave: half the window.
    """
    asked = limit_of(options)
    if asked is not None:
        return asked
    room, window = model.get("num_output"), model.get("context_window")
    if not isinstance(room, int) or room <= 0:
        return None
    return None if isinstance(window, int) and room >= window // 2 else room
