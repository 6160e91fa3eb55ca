"""Embed a corpus on many machines with Ray Data, and go on where a killed run was.

    python embed_corpus_ray.py corpus.parquet --out vectors --dimensions 256 --workers 4

The corpus is Parquet, CSV or JSON lines with a column of texts and one that tells them apart. Each finished batch is
a file in the folder `--out`, which all machines must see; the same command again does what is left. A text is done if
the folder has its id with this very text: new and changed texts are embedded, and what is no longer in the corpus
stays. A folder has vectors of one model, dimensions and task; others are refused before anything is sent. Without
`--address` this machine alone is the cluster. The key is read from CHUTES_API_KEY, on every machine.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from chutes_core.errors import ChutesError
from chutes_core.scale import Embed, Parts, Progress


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("corpus", help="a file or a folder: .parquet, .csv, .json or .jsonl")
    parser.add_argument("--out", required=True, help="the folder for the finished parts")
    parser.add_argument("--key", default="id", help="the column that tells texts apart (default: %(default)s)")
    parser.add_argument("--text", default="text", help="the column with the texts (default: %(default)s)")
    parser.add_argument("--model", default="Qwen/Qwen3-Embedding-8B-TEE")
    parser.add_argument("--dimensions", type=int, help="numbers in a vector (default: the model's own)")
    parser.add_argument("--task", help="the texts are queries for this task (default: they are documents)")
    parser.add_argument("--workers", type=int, default=2, help="processes that send requests (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=3, help="requests at a time of each (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="texts in a part (default: %(default)s)")
    parser.add_argument("--request", type=int, default=64, help="texts in a request (default: %(default)s)")
    parser.add_argument("--patience", type=float, default=600, help="seconds without any success before giving up")
    parser.add_argument("--base-url", help="another address of the service")
    parser.add_argument("--address", help="the address of a Ray cluster, such as ray://head:10001 or auto")
    parser.add_argument("--ray-dir", help="where a cluster of this machine alone keeps its files (a short path)")
    return parser.parse_args()


def start(options: argparse.Namespace) -> None:
    """Connect to the cluster, or start a small one that nobody else can reach and that tells nobody of itself."""
    if not options.address:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on every system: 127.0.0.1 and nothing else
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    import ray

    if options.address:
        ray.init(address=options.address, log_to_driver=False)
        return
    ray.init(
        address="local",
        num_cpus=options.workers + 1,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=options.ray_dir,
    )


def keep_stdout() -> None:
    """Keep standard output for what this program prints: Ray's processes and libraries write to standard error."""
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


def read(corpus: str) -> Any:
    import ray.data

    kind = Path(corpus).suffix.lstrip(".") or "parquet"
    readers = {"parquet": ray.data.read_parquet, "csv": ray.data.read_csv}
    return readers.get(kind, ray.data.read_json)(corpus)


def summary(before: Progress, after: Progress) -> str:
    """Say what is done, as it stands in the folder and not as the workers told it."""
    return (
        f"Embedded {before.new - after.new:,} of {before.new:,} new, {before.there:,} were there already, "
        f"{before.changed - after.changed:,} of {before.changed:,} changed, {after.gone:,} in the folder are no longer "
        "in the corpus."
    )


def shortfall(after: Progress, told: int, done: int) -> str:
    """Say which texts are missing, and why if that can be told; nothing if none is."""
    if not after.missing:
        return ""
    keys = ", ".join(map(repr, after.missing_keys()))
    named = f"{keys}{', …' if after.missing > len(after.missing_keys()) else ''}"
    elsewhere = " The workers wrote rows that are not here: do all machines see this folder?" if told > done else ""
    return f"{after.missing:,} texts are missing; the same command tries them again: {named}.{elsewhere}"


def reason(error: Exception) -> str:
    """Say why the run ended: of a worker's own exception, Ray has only the text, among its traceback."""
    ours = [line for line in str(error).splitlines() if line.startswith("chutes_core.")]
    return ours[-1] if ours else f"{type(error).__name__}: {error}"


def main() -> int:
    options = arguments()
    start(options)
    import ray
    from ray.data import ActorPoolStrategy, DataContext
    from tqdm import tqdm

    DataContext.get_current().enable_progress_bars = False  # ours says more
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    parts = Parts(options.out, key=options.key)
    corpus = read(options.corpus).select_columns(list(dict.fromkeys([options.key, options.text])))
    client = {"base_url": options.base_url} if options.base_url else {}
    embed = {
        "model": options.model, "dimensions": options.dimensions, "task": options.task, "text": options.text,
        "parts": parts, "request_size": options.request, "concurrency": options.concurrency,
        "patience": options.patience, **client,
    }  # fmt: skip
    before = parts.progress(corpus, Embed(**embed))
    results = before.remaining.repartition(  # as many pieces of work as there are batches
        target_num_rows_per_block=options.batch
    ).map_batches(
        Embed, fn_constructor_kwargs=embed, batch_size=options.batch, batch_format="pyarrow",
        compute=ActorPoolStrategy(size=options.workers),
    )  # fmt: skip
    done = failed = tokens = unpriced = 0
    cost, why, started = 0.0, "", time.monotonic()
    with tqdm(total=before.there + before.missing, initial=before.there, unit="text", smoothing=0) as bar:
        try:
            for row in results.iter_rows() if before.missing else ():
                done, failed = done + row["rows"] - row["failed"], failed + row["failed"]
                tokens, cost, unpriced = tokens + row["tokens"], cost + row["cost"], unpriced + row["unpriced"]
                why = why or row["error"]
                bar.update(row["rows"])
                bar.set_postfix_str(f"{failed:,} failed, {tokens:,} tokens")
        except Exception as error:  # what is finished is finished, and is told below
            why = f"{reason(error)} The run ended there."
    seconds = time.monotonic() - started
    after = before.now()
    ray.shutdown()
    price = f"${cost:.4f}" if not unpriced else "at a price that is not listed"
    print(f"{summary(before, after)} They are in {options.out}.")
    print(f"{done:,} texts in {seconds:.1f} s ({done / max(seconds, 1e-9):,.0f} a second), {tokens:,} tokens, {price}.")
    if before.repeated:
        print(f"{before.repeated:,} rows of the corpus repeat another one, id and text; they count once.")
    if after.missing:
        print(shortfall(after, done, before.missing - after.missing), file=sys.stderr)
    if why:
        print(f"The first failure: {why}", file=sys.stderr)
    return 1 if after.missing else 0


if __name__ == "__main__":
    keep_stdout()
    try:
        sys.exit(main())
    except ChutesError as error:
        sys.exit(f"{error}")
