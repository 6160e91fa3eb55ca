"""How the instrumentation is turned on: by hand, and by OpenTelemetry's own launcher."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

from chutes_core.otel import ChutesInstrumentor

from .conftest import Sink


def test_the_launcher_finds_it() -> None:
    (found,) = [each for each in entry_points(group="opentelemetry_instrumentor") if each.name == "chutes"]
    assert found.load() is ChutesInstrumentor


def test_it_is_one_however_often_it_is_made(sink: Sink) -> None:
    sink.instrument()
    assert ChutesInstrumentor() is ChutesInstrumentor()
    assert ChutesInstrumentor().is_instrumented_by_opentelemetry
    assert ChutesInstrumentor().instrumentation_dependencies() == ()


def test_without_the_extra_the_message_says_what_to_install() -> None:
    code = (
        "import sys\nsys.modules['opentelemetry'] = None\n"
        "try:\n    import chutes_core.otel\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "chutes_core.otel needs OpenTelemetry: pip install 'chutes-connect[otel]'"
