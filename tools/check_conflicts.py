"""See that the distribution can stand beside what its users have: pip resolves them together, and installs nothing.

Asks the index for what is newest today, so it may fail tomorrow where it passes today: that is what it is for, and why
it is not in `make check` (it is in `make check-long`).
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from check_dist import ROOT, Clean, built

# The extra, and what is asked for beside it.
BESIDE = (
    ("langchain", "langchain-openai"),
    ("langchain", "langchain"),
    ("llama-index", "llama-index"),
    ("all", "litellm"),
    ("all", "pydantic-ai"),
    ("all", "crewai"),
)


def resolved(clean: Clean, wheel: Path, extra: str, other: str) -> dict[str, str]:
    """Return the versions that pip would install."""
    report = clean.folder / "report.json"
    clean.pip("install", "--dry-run", "--report", report, f"chutes-connect[{extra}] @ {wheel.as_uri()}", other)
    planned = (each["metadata"] for each in json.loads(report.read_text())["install"])
    return {each["name"].lower().replace("_", "-"): each["version"] for each in planned}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (wheel,) = built(ROOT, folder / "dist", "--wheel")
        clean = Clean(folder)
        for extra, other in BESIDE:
            versions = resolved(clean, wheel, extra, other)
            sdk = f", on openai {versions['openai']}" if "openai" in versions else ""
            print(f"conflicts: chutes-connect[{extra}] and {other} {versions[other]} go together{sdk}", flush=True)


if __name__ == "__main__":
    main()
