"""An answer as it comes, measured: its parts, what it used, and how it is summed up. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chutes_core.attempt import Attempt
from chutes_core.response import Delta, Reply, ReplyMeta
from chutes_core.shown.numbers import priced, seconds
from chutes_core.usage import Totals, Usage

__all__ = ["Answered", "Meter", "answer_json", "attempts_json", "summed_up", "usage_json", "usage_words"]


_TOO_SHORT = 0.2


@dataclass(slots=True)
class Meter:
    """Takes the time of an answer.

    >>> meter = Meter(started=10.0)
    >>> meter.take(Delta(content="Hel"), 10.4); meter.take(Delta(content="lo"), 11.0)
    >>> round(meter.ttft, 1), round(meter.total, 1)
    (0.4, 1.0)
    """

    started: float
    first: float | None = None
    last: float | None = None

    def take(self, part: Delta, now: float) -> None:
        """Note when a part came; only what a reader sees counts as the first."""
        self.last = now
        if self.first is None and (part.content or part.reasoning or part.tool_calls):
            self.first = now

    @property
    def ttft(self) -> float | None:
        """Seconds to the first part that shows something."""
        return None if self.first is None else self.first - self.started

    @property
    def total(self) -> float | None:
        """Seconds to the last part."""
        return None if self.last is None else self.last - self.started


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole answer, and what it took."""

    reply: Reply
    meter: Meter
    totals: Totals
    attempts: Sequence[Attempt] = field(default=())

    @property
    def cost(self) -> float | None:
        """US dollars for all attempts; None where a price is not known."""
        return None if self.totals.unpriced_calls or not self.totals.calls else self.totals.cost

    @property
    def speed(self) -> float | None:
        """Tokens a second, once the answer had begun; None where it came too much at once to tell."""
        usage, ttft, total = self.reply.usage, self.meter.ttft, self.meter.total
        if usage is None or ttft is None or total is None or total - ttft < _TOO_SHORT:
            return None
        return usage.completion_tokens / (total - ttft)


def usage_words(usage: Usage | None) -> str:
    """Say how many tokens were used.

    >>> usage_words(Usage(1200, 34, 1234, reasoning_tokens=20, cached_tokens=1000))
    '1,200 in (1,000 cached) + 34 out (20 reasoning) tokens'
    """
    if usage is None:
        return "? tokens"
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    reasoning = f" ({usage.reasoning_tokens:,} reasoning)" if usage.reasoning_tokens else ""
    return f"{usage.prompt_tokens:,} in{cached} + {usage.completion_tokens:,} out{reasoning} tokens"


def summed_up(answer: Answered) -> list[str]:
    """Sum an answer up: who, how much, how fast."""
    reply = answer.reply
    parts = [reply.model or "?", usage_words(reply.usage), priced(answer.cost)]
    parts.append(f"first token {seconds(answer.meter.ttft)}, all {seconds(answer.meter.total)}")
    if answer.speed is not None:
        parts.append(f"{answer.speed:.0f} tok/s")
    if (paid := _paid(reply.meta)) is not None:
        parts.append(paid)
    return parts


def _paid(meta: ReplyMeta) -> str | None:
    """Say what a call was paid from; the service tells what the quota was before it.

    >>> _paid(ReplyMeta(quota_total=200, quota_used=7)), _paid(ReplyMeta(quota_total=0, quota_used=0))
    ('included: request 8 of 200 today', 'pay as you go')
    >>> _paid(ReplyMeta(quota_total=200, quota_used=200)), _paid(ReplyMeta())
    ("pay as you go: today's 200 requests are used up", None)
    """
    if meta.invoice_billing:
        return "billed by invoice"
    if meta.quota_total is None or meta.quota_used is None:
        return None
    if meta.quota_used < meta.quota_total:
        return f"included: request {meta.quota_used + 1:,} of {meta.quota_total:,} today"
    return "pay as you go" + (f": today's {meta.quota_total:,} requests are used up" if meta.quota_total else "")


def rate(limit: str | None) -> str | None:
    """Say the account's limit of requests; the service does not name the time that it is for.

    >>> rate("60"), rate("inf"), rate(None)
    ('rate limit 60', 'no rate limit', None)
    """
    return None if limit is None else "no rate limit" if limit == "inf" else f"rate limit {limit}"


def told_of(meta: ReplyMeta) -> dict[str, object]:
    """Give what the service told of the account, beside an answer, as plain data."""
    names = ("quota_total", "quota_used", "quota_remaining", "rate_limit_user")
    return {name: getattr(meta, name) for name in names}


def usage_json(usage: Usage | None) -> dict[str, object] | None:
    """Give the tokens as plain data."""
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cached_tokens": usage.cached_tokens,
    }


def attempts_json(attempts: Sequence[Attempt]) -> list[dict[str, object]]:
    """Give what happened, in order, as plain data.

    >>> attempts_json([Attempt("acme/one", "failed", elapsed=0.5)])
    [{'model': 'acme/one', 'outcome': 'failed', 'kind': None, 'status_code': None, 'seconds': 0.5}]
    """
    return [
        {
            "model": each.model,
            "outcome": each.outcome,
            "kind": each.kind.value if each.kind is not None else None,
            "status_code": each.status_code,
            "seconds": round(each.elapsed, 3),
        }
        for each in attempts
    ]


def answer_json(answer: Answered) -> dict[str, object]:
    """Give an answer as plain data."""
    reply, meter = answer.reply, answer.meter
    told: Mapping[str, object] = {
        "model": reply.model,
        "content": reply.content,
        "reasoning": reply.reasoning,
        "finish_reason": reply.finish_reason,
        "usage": usage_json(reply.usage),
        "cost": answer.cost,
        "ttft": _rounded(meter.ttft),
        "seconds": _rounded(meter.total),
        **told_of(reply.meta),
        "attempts": attempts_json(answer.attempts),
    }
    return dict(told)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
