"""``chutes-connect cost``: what a workload costs with each model, beside a price you pay elsewhere."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, Stop
from chutes_cli.out import Out
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.shown.numbers import dollars, ratio
from chutes_core.shown.table import Cell, Column, Table
from chutes_core.usage import Usage, cost

if TYPE_CHECKING:
    from chutes_cli.options import Commands

__all__ = ["Estimate", "Workload", "add", "cost_table", "estimates", "reference"]

_DAYS = 30


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked of a model in a day.

    Attributes:
        calls: Calls a day.
        prompt: Tokens of a prompt.
        answer: Tokens of an answer, reasoning included.
        cached: The share of the prompt's tokens that the service has in its cache.
    """

    calls: float
    prompt: int
    answer: int
    cached: float = 0.0

    @property
    def usage(self) -> Usage:
        """The tokens of one call."""
        return Usage(
            self.prompt, self.answer, self.prompt + self.answer, cached_tokens=round(self.prompt * self.cached)
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a workload costs with one model, in US dollars; None where a price is not known."""

    model: str
    per_call: float | None
    per_day: float | None
    per_month: float | None
    ratio: float | None
    is_reference: bool = False


def estimates(models: Sequence[ModelInfo], work: Workload, references: Sequence[ModelInfo] = ()) -> list[Estimate]:
    """Estimate what a workload costs with each model, the cheapest first; ratios are to the first reference.

    >>> one = ModelInfo(id="acme/one", price_in=0.1, price_out=0.4)
    >>> other = reference("other=2.5,10")
    >>> found = estimates([one], Workload(1000, 800, 300), [other])
    >>> [(each.model, round(each.per_day, 2), each.ratio) for each in found]
    [('acme/one', 0.2, 0.04), ('other', 5.0, 1.0)]
    """
    base = cost(work.usage, references[0]) if references else None
    made = [_estimate(info, work, base, info in references) for info in (*models, *references)]
    return sorted(made, key=lambda each: (each.per_call is None, each.per_call or 0.0))


def _estimate(info: ModelInfo, work: Workload, base: float | None, is_reference: bool) -> Estimate:
    call = cost(work.usage, info)
    if call is None:
        return Estimate(info.id, None, None, None, None, is_reference)
    day = call * work.calls
    return Estimate(info.id, call, day, day * _DAYS, call / base if base else None, is_reference)


def reference(text: str) -> ModelInfo:
    """Read prices that are paid elsewhere: ``NAME=IN,OUT`` or ``NAME=IN,OUT,CACHED``, dollars per million tokens.

    >>> info = reference("gpt-x=2.5,10")
    >>> info.id, info.price_in, info.price_out, info.price_cached
    ('gpt-x', 2.5, 10.0, None)
    """
    name, _, right = text.rpartition("=")
    try:
        prices = [float(each.replace("$", "")) for each in right.split(",")]
        if not name.strip() or len(prices) not in (2, 3) or min(prices) < 0:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be NAME=IN,OUT, in dollars per million tokens, such as gpt-x=2.5,10"
        ) from None
    cached = prices[2] if len(prices) == 3 else None
    return ModelInfo(id=name.strip(), price_in=prices[0], price_out=prices[1], price_cached=cached)


def cost_table(found: Sequence[Estimate], against: str | None) -> Table:
    """Make the table; ``against`` names what the ratios are to."""
    columns = [
        Column("model"),
        Column("a call", right=True, drop=2),
        Column("a day", right=True),
        Column(f"{_DAYS} days", right=True),
        *([Column(f"of {against}", right=True, drop=1)] if against else []),
    ]
    rows: list[list[Cell | str]] = []
    for each in found:
        style = "bold" if each.is_reference else ""
        texts = [each.model, dollars(each.per_call), dollars(each.per_day), dollars(each.per_month)]
        rows.append([Cell(text, style) for text in (*texts, *([ratio(each.ratio)] if against else []))])
    return Table.of(columns, rows)


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_cli.numbers import calls, share, tokens
    from chutes_cli.options import add_service_options, command

    parser = command(
        commands,
        "cost",
        "estimate what a workload costs with each model",
        usage="--calls-per-day N --in TOKENS --out TOKENS [OPTIONS]",
        run=_run,
        examples=[
            "cost --calls-per-day 10000 --in 800 --out 300",
            "cost --calls-per-day 10000 --in 800 --out 300 --pick 'tools, <=1$' --reference gpt-x=2.5,10",
        ],
    )
    work = parser.add_argument_group("the workload")
    work.add_argument("--calls-per-day", type=calls, required=True, metavar="N", help="calls per day (10000, 10k)")
    work.add_argument("--in", dest="prompt", type=tokens, required=True, metavar="TOKENS", help="tokens in a prompt")
    work.add_argument(
        "--out",
        dest="answer",
        type=tokens,
        required=True,
        metavar="TOKENS",
        help="tokens in an answer, including reasoning",
    )
    work.add_argument("--cached", type=share, default=0.0, metavar="SHARE", help="cached share of the prompt (0.5)")
    which = parser.add_argument_group("which models")
    which.add_argument("--models", metavar="A,B", help="only these (default: all chat models)")
    which.add_argument("--pick", metavar="DEMANDS", help="only those that meet these demands, as in `models`")
    which.add_argument(
        "--reference",
        action="append",
        default=[],
        type=reference,
        metavar="NAME=IN,OUT",
        help="prices elsewhere, in dollars per million tokens; ratios are to the first",
    )
    which.add_argument("--live", action="store_true", help="fetch the current prices")
    add_service_options(parser, key=False)


def _run(options: argparse.Namespace, out: Out) -> int:
    from chutes_cli.demands import fitting, read_demands, unmet
    from chutes_cli.model_table import summary
    from chutes_cli.options import client, names

    with client(options, max_retries=0, listed=True) as service:
        if options.live:
            service.models()
        catalog = service.catalog
    models = [info for info in catalog if info.kind == "chat"]
    if options.models:
        models = [catalog.model(name) for name in names(options.models)]
    try:
        demands = read_demands(options.pick or "")
    except argparse.ArgumentTypeError as error:
        raise Stop(f"--pick: {error}.", Exit.USAGE) from None
    chosen = fitting(models, demands)
    if not chosen:
        raise Stop(unmet(models, demands))
    work = Workload(options.calls_per_day, options.prompt, options.answer, options.cached)
    found = estimates(chosen, work, options.reference)
    if out.as_json:
        out.data(_json(found, work, options.reference))
        return Exit.OK
    out.table(cost_table(found, options.reference[0].id if options.reference else None))
    out.facts(["US dollars", *summary(chosen, catalog).split("; "), "without quotas, discounts and retries"])
    return Exit.OK


def _json(found: Sequence[Estimate], work: Workload, references: Sequence[ModelInfo]) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "workload": {
            "calls_per_day": work.calls, "in": work.prompt, "out": work.answer, "cached": work.cached, "days": _DAYS,
        },
        "reference": references[0].id if references else None,
        "models": [asdict(each) for each in found],
    }  # fmt: skip
