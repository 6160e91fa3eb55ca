"""Record the cassettes anew: against the live service with a key in the environment, else the embedded Chutes.

python cassettes/record.py [NAME ...]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.cassettes.interactions import FOLDER, INTERACTIONS, MODEL, recorder  # noqa: E402


def main(names: list[str]) -> None:
    """Record all, or those named."""
    if os.environ.get("CHUTES_API_KEY"):
        _record(names or list(INTERACTIONS), "the live service")
        return
    from chutes_local import serve

    with serve(backend="llama") as chutes:
        os.environ.update(chutes.env)
        _record(names or list(INTERACTIONS), f"the embedded Chutes, {chutes.world.backend.name}")


def _record(names: list[str], source: str) -> None:
    outcomes = _outcomes()
    for name in names:
        (FOLDER / f"{name}.yaml").unlink(missing_ok=True)
        with recorder("all").use_cassette(name):
            outcome = INTERACTIONS[name]({})
        outcomes[name] = {"recorded_against": source, "model": MODEL, "outcome": outcome}
        print(f"{name}: {json.dumps(outcome, ensure_ascii=False)[:100]}")
    (FOLDER / "outcomes.json").write_text(json.dumps(outcomes, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _outcomes() -> dict[str, object]:
    file = FOLDER / "outcomes.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


if __name__ == "__main__":
    main(sys.argv[1:])
