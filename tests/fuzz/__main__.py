"""python -m tests.fuzz [--seconds N] [--seed N] [-k WORD]: throw bytes at the parsers, and end with 1 if one fell."""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback

from .habit import tried
from .targets import TARGETS

EXAMPLES = 100


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument(
        "--seconds", type=float, default=120.0, help="how long; each target has its turn at least once"
    )
    options.add_argument("--seed", type=int, help="the first seed; each round has the next one (default: any)")
    options.add_argument("-k", dest="word", default="", help="only the targets with this in their names")
    given = options.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed
    names, fallen = [name for name in TARGETS if given.word in name], set[str]()
    print(f"fuzz: {len(names)} targets, from seed {seed} on", flush=True)
    end, rounds = time.monotonic() + given.seconds, 0
    while rounds == 0 or (time.monotonic() < end and len(fallen) < len(names)):
        for name in names:
            if name in fallen or (rounds and time.monotonic() > end):
                continue
            try:
                tried(name, EXAMPLES, seed + rounds)
            except Exception:
                fallen.add(name)
                print(
                    f"fuzz: {name} fell. Again: make fuzz FUZZ_SEED={seed + rounds} FUZZ_ARGS='-k \"{name}\"'",
                    flush=True,
                )
                traceback.print_exc(file=sys.stdout)
        rounds += 1
    print(f"fuzz: {rounds} rounds of {EXAMPLES} examples, " + (f"fallen: {sorted(fallen)}" if fallen else "all stand"))
    return 1 if fallen else 0


if __name__ == "__main__":
    sys.exit(main())
