"""What ``doctor`` looks at, as pure functions: from what was seen to a finding, with what to do about it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from chutes_cli.defaults import in_words, source
from chutes_cli.exits import Exit
from chutes_cli.standing import Report, standing
from chutes_core.catalog.names import ModelRef
from chutes_core.default_model import DefaultModel
from chutes_core.errors import ConfigurationError
from chutes_core.secrets.places import check_place, reason
from chutes_core.secrets.secret import Secret
from chutes_core.settings import origin_of
from chutes_core.shown.numbers import dollars, seconds

__all__ = ["Finding", "clock", "default_model", "destination", "exit_of_all", "host", "key", "money", "versions"]

State = Literal["ok", "warn", "fail", "skip"]
_KEY_LENGTH = 102
_SKEW_WARNS = 30.0
_SKEW_FAILS = 300.0
PACKAGES = ("openai", "httpx", "httpx2", "langchain-core", "llama-index-core", "rich", "shtab", "authlib", "numpy")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to.

    Attributes:
        check: Its name.
        state: "ok", "warn", "fail", or "skip" for what could not be looked at.
        said: What was seen.
        remedy: What to do, where it is not in order.
        status: The exit status that a failure stands for.
        facts: The same for a program.
    """

    check: str
    state: State
    said: str
    remedy: str = ""
    status: Exit = Exit.FAILURE
    facts: Mapping[str, object] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Give it as plain data."""
        return {
            "check": self.check, "state": self.state, "said": self.said, "remedy": self.remedy or None, **self.facts
        }  # fmt: skip


def exit_of_all(findings: Sequence[Finding]) -> Exit:
    """Choose the status of the whole: that of the first failure.

    >>> exit_of_all([Finding("a", "warn", ""), Finding("b", "fail", "", status=Exit.KEY), Finding("c", "fail", "")])
    <Exit.KEY: 3>
    """
    return next((each.status for each in findings if each.state == "fail"), Exit.OK)


def key(secret: Secret | None, source: str, problem: str = "") -> Finding:
    """Look at the key: whether there is one, from where, and whether it has the form of one.

    >>> key(Secret("cpk_0123"), "CHUTES_API_KEY").said
    'CHUTES_API_KEY holds cpk_**** of 8 characters'
    """
    if secret is None:
        return Finding("key", "fail", "no usable key", problem, Exit.KEY, {"source": None})
    text = secret.get_secret_value()
    kind = text[:4] if text[:4] in ("cpk_", "cak_") else ""
    said = f"{source} holds {kind}**** of {len(text)} characters"
    facts = {"source": source, "prefix": kind or None, "length": len(text)}
    if not kind:
        return Finding("key", "warn", said, "Chutes' keys begin with cpk_ and its tokens with cak_.", facts=facts)
    if kind == "cpk_" and len(text) != _KEY_LENGTH:
        told = f"Chutes' keys have {_KEY_LENGTH} characters: copy it again if calls are refused."
        return Finding("key", "warn", said, told, facts=facts)
    return Finding("key", "ok", said, facts=facts)


def destination(secret: Secret, addresses: Sequence[tuple[str, str]]) -> Finding:
    """Look at where the key goes, and why it may.

    Args:
        secret: The key.
        addresses: The addresses, and what named each.

    >>> destination(Secret("cpk_0123"), [("https://llm.chutes.ai/v1", "default")]).said
    'the key goes to https://llm.chutes.ai (service)'
    """
    found = {origin_of(url): (reason(url, secret), named_by, url) for url, named_by in addresses}
    told = [{"origin": origin, "why": why, "named_by": named_by} for origin, (why, named_by, _) in found.items()]
    facts = {"destinations": told}
    for origin, (why, named_by, url) in found.items():
        if why is None:
            said = f"the key does not go to {origin} ({named_by})"
            return Finding("destination", "fail", said, _refusal(url, secret), Exit.USAGE, facts)
    listed = ", ".join(f"{origin} ({why})" for origin, (why, _, _) in found.items())
    return Finding("destination", "ok", f"the key goes to {listed}", facts=facts)


def _refusal(url: str, secret: Secret) -> str:
    try:
        check_place(url, secret)
    except ConfigurationError as error:
        return str(error)
    return ""


def host(name: str, url: str, status: int | None, took: float | None, problem: str = "") -> Finding:
    """Look at a host: any answer below 500 shows that it is there.

    >>> host("chat", "http://127.0.0.1:1/v1", None, None, "Connection refused.").state
    'fail'
    """
    facts = {"url": url, "status": status, "seconds": None if took is None else round(took, 3)}
    if status is None:
        return Finding(name, "fail", f"{url} does not answer", problem, Exit.UNREACHABLE, facts)
    if status >= 500:
        told = "The service is down: wait, or see its status page."
        return Finding(name, "fail", f"{url} answers {status}", told, Exit.UNREACHABLE, facts)
    return Finding(name, "ok", f"{url} answers in {seconds(took)}", facts=facts)


def clock(date: str | None, now: float) -> Finding:
    """Compare this machine's clock with the service's.

    >>> from datetime import UTC, datetime
    >>> clock("Sat, 22 Aug 2026 10:00:00 GMT", datetime(2026, 8, 22, 10, 10, tzinfo=UTC).timestamp()).said
    'this clock is 10 min 0 s ahead'
    """
    try:
        skew = now - parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return Finding("clock", "skip", "the service does not report its time", facts={"skew": None})
    facts = {"skew": round(skew, 1)}
    if abs(skew) <= _SKEW_WARNS:
        return Finding("clock", "ok", "this clock is correct", facts=facts)
    state: State = "fail" if abs(skew) > _SKEW_FAILS else "warn"
    said = f"this clock is {seconds(abs(skew))} {'ahead' if skew > 0 else 'behind'}"
    return Finding("clock", state, said, "Set the clock: tokens and certificates depend on it.", facts=facts)


def versions(found: Mapping[str, str | None]) -> Finding:
    """List what is installed.

    >>> versions({"chutes-connect": "0.1.0", "openai": "3.1", "rich": None}).said.partition(", ")[2]
    'chutes-connect 0.1.0, openai 3.1'
    """
    told = {"python": platform.python_version(), **found}
    there = [f"{'Python' if name == 'python' else name} {version}" for name, version in told.items() if version]
    return Finding("versions", "ok", ", ".join(there), facts={"versions": told})


def default_model(
    found: DefaultModel | None, problem: str = "", *, known: Callable[[str], bool] = lambda name: True
) -> Finding:
    """Look at the default model: what it is, where it comes from, and whether the list of models has it.

    >>> default_model(DefaultModel(("acme/one", "acme/two"), "CHUTES_MODEL")).said
    'acme/one, then acme/two, from CHUTES_MODEL'
    """
    if problem:
        return Finding("model", "fail", "the default model cannot be read", problem, Exit.USAGE)
    if found is None:
        told = "Without one, name a model each time: `chutes-connect models set MODEL` stores one."
        return Finding("model", "skip", "no default model is set", told, facts={"models": [], "source": None})
    said, facts = f"{in_words(found.names)}, {source(found)}", {"models": list(found.names), "source": found.source}
    unknown = [name for name in found.names if not known(ModelRef.parse(name).names[0])]
    if unknown:
        told = f"Neither in the list of models nor an alias: {', '.join(unknown)}. See `chutes-connect models`."
        return Finding("model", "warn", said, told, facts=facts)
    return Finding("model", "ok", said, facts=facts)


def money(report: Report, now: datetime) -> Finding:
    """Look at what is left, and what becomes of requests."""
    balance, today, plan = report.profile.balance, report.today, report.subscription
    parts = [f"{report.profile.username or 'you'}: balance {dollars(balance)}"]
    if today is not None and today.total:
        parts.append(f"{today.used:,g} of {today.total:,g} requests used today")
    if plan is not None and plan.active:
        parts.append(f"a plan for {dollars(plan.monthly_price)} a month")
    stands = standing(report, now)
    said = f"{', '.join(parts)}; requests are {stands.said}"
    facts = {"balance": balance, "quota_remaining": today.remaining if today is not None else None}
    return Finding("account", stands.state, said, stands.remedy, Exit.ACCOUNT, facts)
