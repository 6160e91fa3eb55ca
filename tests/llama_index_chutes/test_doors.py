"""Where LlamaIndex's users look for an integration, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOORS = {"llama_index.llms.chutes": "Chutes", "llama_index.embeddings.chutes": "ChutesEmbedding"}


def python(code: str, folder: Path) -> str:
    """Run code in a fresh interpreter inside a folder."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("folder", [ROOT, ROOT / "tests"], ids=["checkout", "elsewhere"])
def test_the_doors_lead_to_the_same_classes(folder: Path) -> None:
    """Both spellings give one class, also in the checkout, whose folder does not hide the framework's own."""
    code = "import llama_index.core, llama_index_chutes\nassert llama_index.__file__ is None\n"
    for door, name in DOORS.items():
        code += f"from {door} import {name}\nassert {name} is llama_index_chutes.{name}\n"
    python(code, folder)


def test_importing_brings_no_sdk() -> None:
    """What only a call needs is imported by the first call."""
    heavy = ["openai", "chutes_core.client", "chutes_local", "langchain_core"]
    code = f"import sys, llama_index_chutes\nprint([name for name in {heavy} if name in sys.modules])"
    assert python(code, ROOT).strip() == "[]"


def test_without_the_framework_the_extra_is_named() -> None:
    """Whoever lacks the framework is told what to install."""
    code = (
        "import sys\nsys.modules['llama_index.core'] = None\n"
        "try:\n    import llama_index.llms.chutes\nexcept ImportError as error:\n    print(error)"
    )
    assert "pip install 'chutes-connect[llama-index]'" in python(code, ROOT)
