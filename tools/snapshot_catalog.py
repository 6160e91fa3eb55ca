"""Make the snapshot of the catalogue that ships with the library from the service's list of models.

python tools/snapshot_catalog.py                              fetch today's list
python tools/snapshot_catalog.py FILE_OR_URL --date 2026-08-22    from a saved reply, of the day it was saved

The table of families and the models that the list never has (embeddings) are kept as they stand in the file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from chutes_core.catalog.model_info import parse_row  # noqa: E402

SERVICE = "https://llm.chutes.ai/v1/models"
TARGET = ROOT / "chutes_core" / "data" / "catalog.json"


def read(source: str) -> object:
    """Read a reply from a file or, where the source is an address, from the service."""
    if source.startswith(("http://", "https://")):
        with urlopen(source, timeout=60) as reply:
            return json.load(reply)
    return json.loads(Path(source).read_text("utf-8"))


def rows_of(reply: object) -> list[Mapping[str, object]]:
    """Return the rows of a reply, or stop with a sentence about what it is instead."""
    rows = reply.get("data") if isinstance(reply, Mapping) else None
    if not isinstance(rows, list) or not rows:
        raise SystemExit("This is no list of models: an object with a non-empty list under 'data' is needed.")
    return [row for row in rows if isinstance(row, Mapping)]


def models_from(rows: Iterable[Mapping[str, object]], old: Iterable[dict[str, object]]) -> list[dict[str, object]]:
    """Put the listed models first, as the service ranks them, then those that the list never has."""
    listed = {info.id: info.to_dict() for row in rows if (info := parse_row(row)) is not None}
    kept = [model for model in old if model.get("kind") != "chat" and model["id"] not in listed]
    return [*listed.values(), *kept]


def written(catalog: Mapping[str, object]) -> str:
    """Write one model and one family to a line, so that a difference can be read."""
    parts = [
        f' "{key}": '
        + (
            "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in value) + "\n ]"
            if isinstance(value, list)
            else json.dumps(value)
        )
        for key, value in catalog.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default=SERVICE, help=f"file or address (default: {SERVICE})")
    parser.add_argument("--date", type=datetime.date.fromisoformat, default=datetime.datetime.now(datetime.UTC).date())
    parser.add_argument("--target", type=Path, default=TARGET, help="the file to rewrite")
    options = parser.parse_args()
    old = json.loads(options.target.read_text("utf-8"))
    models = models_from(rows_of(read(options.source)), old["models"])
    options.target.write_text(written({**old, "snapshot_date": options.date.isoformat(), "models": models}), "utf-8")
    print(f"{options.target.name}: {len(models)} models of {options.date}")


if __name__ == "__main__":
    main()
