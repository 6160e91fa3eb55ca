"""What the tests of LlamaIndex share."""

from __future__ import annotations

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import NullSpanHandler


@pytest.fixture(autouse=True)
def _nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """No handler hears of calls but a test's own: none that another left behind, and none that this one leaves."""
    root = get_dispatcher()
    monkeypatch.setattr(root, "event_handlers", [])
    monkeypatch.setattr(root, "span_handlers", [NullSpanHandler()])
