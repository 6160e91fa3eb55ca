"""What shows itself as a table does so wherever it is looked at, and costs nothing until then."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from chutes_core import Attempt, Budget, Catalog, Kind, Usage
from chutes_core.attempt import Attempts
from chutes_core.fallback.health import Health
from chutes_core.shown.tabular import Tabular
from langchain_chutes import CostCallback
from llama_index_chutes import CostHandler


def health() -> Health:
    made = Health(now=lambda: 0.0)
    made.succeeded("https://llm.test/v1|acme/<one>", ttft=0.5)
    made.failed("https://llm.test/v1|acme/two", Kind.CAPACITY)
    return made


def cost(handler: Any) -> Any:
    handler.meter.ledger.add("Qwen/Qwen3-32B-TEE", Usage(1000, 500, 1500), 0.0003)
    handler.meter.ledger.add("acme/<one>", Usage(10, 5, 15), None)
    return handler


SHOWN: dict[str, tuple[Tabular, list[str]]] = {
    "health": (health(), ["acme/<one>", "acme/two", "last for 5 s (capacity)", "well"]),
    "callback": (cost(CostCallback(Budget(usd=1))), ["acme/<one>", "1,000", "$0 and 1 without a price"]),
    "handler": (cost(CostHandler()), ["acme/<one>", "1,000", "$0 and 1 without a price"]),
    "models": (Catalog.bundled().select(limit=3), ["0.416", "41k"]),
    "attempts": (Attempts([Attempt("acme/<one>", "failed", Kind.COLD, 503, 0.1)]), ["acme/<one>", "cold 503"]),
}


@pytest.mark.parametrize("name", SHOWN)
def test_it_is_shown_everywhere(name: str) -> None:
    """In a notebook, to rich, and as text."""
    shown, said = SHOWN[name]
    text, html = shown.as_text(), shown._repr_html_()
    console = Console(file=io.StringIO(), width=200)
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    for each in said:
        assert each in text
        assert each.replace("<", "&lt;").replace(">", "&gt;") in html
        assert each in console.file.getvalue()


def test_a_sum_without_a_price_says_so() -> None:
    """Above the table too: $0 alone would be what it cost."""
    assert "2 calls, 1,515 tokens, $0.0003 and 1 call of unknown price" in cost(CostCallback())._repr_html_()


def test_nothing_is_loaded_before_it_is_shown() -> None:
    """A program that shows nothing does not pay for tables."""
    program = (
        "import sys, chutes_core.fallback.health, chutes_core.spending.totals, chutes_core.attempt;"
        "print('chutes_core.shown.table' in sys.modules, 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
