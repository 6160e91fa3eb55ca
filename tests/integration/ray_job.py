"""A job on a cluster of two workers: begun, left in the middle, begun again, a worker killed, and then another corpus
into the same folder, with the example. Prints what it saw.

It runs in a process of its own, so that nothing of Ray's is left in that of the tests. Arguments: the service's
address, a folder, how many texts.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any

BATCH = 256
# Before Ray is imported: nothing but 127.0.0.1, nothing told to anybody, and no process before it is needed.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


def start(home: str) -> None:
    """Start a cluster. Ray gives one half a minute, which is not enough on a machine that is busy with other tests."""
    import ray

    for last in (False, False, True):
        try:
            ray.init(
                address="local", num_cpus=3, include_dashboard=False, object_store_memory=80 * 2**20,
                log_to_driver=False, logging_level="ERROR", _temp_dir=home,
            )  # fmt: skip
        except Exception as error:
            ray.shutdown()
            if last or "timed out during startup" not in str(error):
                raise
        else:
            return


def example() -> Any:
    """The example as a module, which uses the cluster that is there."""
    path = Path(__file__).parents[2] / "examples" / "embed_corpus_ray.py"
    found = importlib.util.spec_from_file_location("embed_corpus_ray", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    module.start = lambda options: None  # type: ignore[attr-defined]
    return module


def run_example(folder: Path, base_url: str, texts: dict[int, str], *options: str) -> tuple[object, list[str]]:
    """Run the example as from the command line: how it ended, and its lines."""
    import ray

    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in texts.items()))
    kept, ray.shutdown = ray.shutdown, lambda: None
    sys.argv = [
        "example", str(corpus), "--out", str(folder / "parts"), "--base-url", base_url, "--dimensions", "32",
        "--model", "acme/embed", "--batch", "64", *options,
    ]  # fmt: skip
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            ended = example().main()
    except Exception as error:
        ended = f"{type(error).__name__}: {error}"
    finally:
        ray.shutdown = kept
    return ended, output.getvalue().splitlines()


def main(base_url: str, folder: str, count: int) -> None:
    import pyarrow as pa
    import ray
    import ray.data

    from chutes_core import Budget, Catalog, Ledger
    from chutes_core.fallback import Health
    from chutes_core.scale import Embed, Parts

    # A path to a socket is short by law, and those of temporary folders of tests are not.
    home = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    start(home)
    ray.data.DataContext.get_current().enable_progress_bars = False
    seen: dict[str, Any] = {}
    try:
        parts = Parts(Path(folder) / "parts", key="id")
        blocks = [
            pa.table({"id": [*ids], "text": [f"text {number}" for number in ids]})
            for start in range(0, count, 2 * BATCH)
            if (ids := range(start, min(start + 2 * BATCH, count)))
        ]
        corpus = ray.data.from_arrow(blocks)
        options = {
            "model": "acme/embed", "dimensions": 32, "parts": parts, "base_url": base_url, "request_size": 64,
            "concurrency": 4, "max_retries": 1, "patience": 60.0, "catalog": Catalog.bundled(),
            "ledger": Budget(tokens=10**9).split(2)[0],
        }  # fmt: skip

        def work() -> Any:
            return (
                parts.remaining(corpus, Embed(**options))
                .map_batches(
                    Embed, fn_constructor_kwargs=options, batch_size=BATCH, batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(size=2),
                )
                .iter_rows()
            )  # fmt: skip

        begun, first = 0, iter(work())
        while begun < count // 4:
            begun += next(first)["rows"]
        del first  # the run ends here, as one that was killed does
        seen["after the first run"] = parts.read([]).num_rows  # type: ignore[union-attr]

        rows, killed = [], None
        for row in work():
            rows.append(row)
            if killed is None and len(rows) > 3:
                killed = int(row["worker"].partition(":")[2])
                os.kill(killed, signal.SIGKILL)
        seen["workers of the second run"] = len({row["worker"] for row in rows})
        seen["failed"] = sum(row["failed"] for row in rows)
        seen["tokens"] = sum(row["tokens"] for row in rows)
        seen["seconds of work"] = sum(row["seconds"] for row in rows)
        seen["rows of the second run"] = sum(row["rows"] for row in rows)

        # A corpus that has rolled on: some texts are gone, one has changed, and three are new.
        texts = {number: f"text {number}" for number in range(100, count + 3)} | {count - 1: "changed"}
        seen["example"] = run_example(Path(folder), base_url, texts)
        seen["example again"] = run_example(Path(folder), base_url, texts)
        seen["another model"] = run_example(Path(folder), base_url, texts, "--model", "acme/other")

        @ray.remote
        def travelled(*things: object) -> list[str]:
            return [repr(thing) for thing in things]

        things = [Budget(usd=5.0), Ledger(), Health(), Catalog.bundled()]
        seen["travelled"] = ray.get(travelled.remote(*things)) == [repr(thing) for thing in things]
    finally:
        ray.shutdown()
        rmtree(home, ignore_errors=True)
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
