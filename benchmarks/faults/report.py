"""What is told of faults: the part of docs/benchmarks.md, and docs/benchmarks/faults.md. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.faults.summary import NEVER, Spread, by_scenario, spread
from benchmarks.faults.world import MODELS, PER_TOKEN, READ, SIGMA, TTFT

Runs = dict[str, list[Mapping[str, Any]]]
_AIM = 99.9
_OUTCOMES = ("whole", "wrong", "before", "after", "attempts", "attempts_per_whole", "amplification")


def summary(data: Mapping[str, Any], folder: str) -> str:
    """Write the short part in Markdown; the plots are expected in ``folder``."""
    parts = [
        f"""## When models fail

{data["calls"]} calls in each run, {data["seeds"]} runs of each with other luck, in virtual time: all clients meet \
the same refusals, silences, broken streams and outages. An answer is *whole* when no error was raised and it is the \
right one, *silently wrong* when no error was raised and it is not. \
[How it is done, and all figures](benchmarks/faults.md).""",
        _aims(data),
        f"![Whole answers, honest errors and silently wrong answers]({folder}faults-outcomes.svg)",
        f"![Seconds to the first token]({folder}faults-first-token.svg)",
    ]
    return "\n\n".join(parts) + "\n"


def report(data: Mapping[str, Any]) -> str:
    """Write the page of all figures in Markdown."""
    return "\n\n".join([_intro(data), *(_section(data, *found) for found in by_scenario(data))]) + "\n"


def _intro(data: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in data["versions"].items())
    clients = _table(["Client", "Set up as"], [[it["title"], it["told"]] for it in data["clients"].values()])
    left_out = "".join(
        f"\n\n{title} is left out: {', '.join(missing)} is not installed." for title, missing in data["skipped"].items()
    )
    return f"""# When models fail: all figures

What matters of it is on [the page before](../benchmarks.md#when-models-fail).

{data["calls"]} calls in each run, {data["seeds"]} runs of each with other luck; the figures are means over the runs, \
with the least and the most of them in brackets. {len(MODELS)} models of equal speed: {TTFT:g} s to the first token in \
the median (lognormal, sigma {SIGMA:g}), {PER_TOKEN:g} s for each further one. All clients have the same read limit of \
{READ:g} s, unless their name says otherwise. Every fifth call asks for the tool call `pay(amount=100000)`.

Time is virtual: an event loop whose clock jumps to what happens next, and a gateway that is an HTTP transport in the \
client's own process; it honours read limits as a network does. What an attempt meets depends on the seed, the call, \
the model and how often this call has asked it, and on nothing else, so all clients meet the same luck; outages and \
capacity go by the clock. Calls come at random moments, one a second on average, whether or not the ones before have \
been answered. Not in it: the clients' own computing time, and threads, which are run in place.

Every right answer is known, word by word. An answer is *whole* when no error was raised and it is the right one, \
*silently wrong* when no error was raised and it is not; where a client says that the answer begins anew, only what \
follows counts. A reader of first tokens is shown text; tool calls are not counted there. A latency that a call never \
reached counts as never, so that nobody looks fast by giving up; what was reached is in a column of its own. \
*Amplification* is tokens generated to tokens delivered in whole answers, *left open* counts replies that were not \
closed one second after their call had ended.

{clients}{left_out}

{versions}."""


def _section(data: Mapping[str, Any], scenario: str, runs: Runs) -> str:
    about = data["scenarios"][scenario]
    titles = {name: data["clients"][name]["title"] for name in runs}
    outcomes = [
        [
            titles[name],
            *(spread(each, figure).text(2) for figure in _OUTCOMES),
            f"{sum(run['leaks'] for run in each)}",
        ]
        for name, each in runs.items()
    ]  # fmt: skip
    heads = ["Client", "whole %", "silently wrong %", "error before %", "error after %"]
    told = _table([*heads, "attempts per call", "per whole answer", "amplification", "left open"], outcomes)
    kinds = ("end", "end_whole") if about["whole"] else ("first", "first_seen", "end", "end_whole")
    columns = [(kind, place) for kind in kinds for place in ("p50", "p95", "p99") if place == "p95" or "_" not in kind]
    late = [
        [titles[name], *(spread(each, kind, place).text(2) for kind, place in columns)] for name, each in runs.items()
    ]
    words = {
        "first": "first token", "first_seen": "of those seen", "end": "whole answer", "end_whole": "of those whole"
    }  # fmt: skip
    times = _table(["Client", *(f"{words[kind]} {place}" for kind, place in columns)], late)
    return f"## {about['title']}\n\n{about['told']}\n\n{told}\n\nSeconds:\n\n{times}"


def _aims(data: Mapping[str, Any]) -> str:
    """How far our own aims are met, from the same figures."""
    ours = [name for name, it in data["clients"].items() if it["promise"]]
    theirs = [name for name, it in data["clients"].items() if not it["ours"]]
    rows = []
    for scenario, runs in by_scenario(data):
        mine, peers = ([name for name in names if name in runs] for names in (ours, theirs))
        if not mine:
            continue
        whole = min(spread(runs[name], "whole").mean for name in mine)
        wrong = sum(run["wrong"] for name in mine for run in runs[name])
        about = data["scenarios"][scenario]
        late = ("end" if about["whole"] else "first", "p95")
        rows.append(
            [
                about["title"],
                f"{whole:.2f} % ({_yes(whole >= _AIM) if about['alive'] else 'no model is alive for a time'})",
                f"{'none' if not wrong else 'some'} ({_yes(not wrong)})",
                *(_against(runs, mine, peers, path) for path in (late, ("attempts",), ("attempts_per_whole",))),
                _paid(runs),
            ]
        )
    heads = ["", "whole, the least of ours", "silently wrong", "p95 to the first token", "attempts per call"]
    return f"""### Against our aims

At least {_AIM} % whole answers and none silently wrong with `after_commit` `"restart"`, `"hold"` and `"resume"`; the \
p95 to the first token and the attempts below every peer's; and no more tokens generated with `"resume"` than with \
`"restart"`. Each cell has the best of ours and the best peer. A peer that gives up early makes few attempts, so those \
for each whole answer stand beside them. Answers in one piece have no first token: their p95 is \
that to the end.

{_table([*heads, "attempts per whole answer", "amplification: resume, restart"], rows)}"""


def _against(runs: Runs, mine: Sequence[str], peers: Sequence[str], path: tuple[str, ...]) -> str:
    if not peers:
        return min((spread(runs[name], *path) for name in mine), key=_mean).text(2)
    own, best = (min((spread(runs[name], *path) for name in names), key=_mean) for names in (mine, peers))
    if own.mean == NEVER == best.mean:
        return "never, never"
    return f"{own.text(2)}, peers {best.text(2)} ({_yes(own.mean < best.mean)})"


def _paid(runs: Runs) -> str:
    """What was generated for what was delivered, by those who go on and by those who begin anew."""
    if not {"resume", "restart"} <= runs.keys():
        return ""
    resumed, restarted = (spread(runs[name], "amplification") for name in ("resume", "restart"))
    return f"{resumed.text(2)}, {restarted.text(2)} ({_yes(resumed.mean <= restarted.mean)})"


def _mean(value: Spread) -> float:
    return value.mean


def _yes(met: bool) -> str:
    return "met" if met else "**missed**"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
