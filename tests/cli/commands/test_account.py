"""``chutes-connect account``: what is left, and when it resets."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chutes_cli.commands.account import Report, report_json, report_lines
from chutes_core.account import Discount, Profile, Quota, QuotaUsage, Subscription, Window
from chutes_core.shown.table import Cell
from chutes_local import LocalChutes
from tests.cli.conftest import NOWHERE, Run

NOW = datetime(2026, 8, 22, 18, tzinfo=UTC)
SOON = datetime(2026, 8, 22, 20, 30, tzinfo=UTC)
FULL = Report(
    Profile("anna", "u1", 12.5),
    quotas=[Quota("*", 300.0), Quota("c1", 0.0)],
    today=QuotaUsage(300.0, 300.0),
    subscription=Subscription(True, 20.0, Window(8.33, 8.33, 0.0, SOON), Window(0.0, None, None, None)),
    discounts=[Discount("*", 0.25), Discount("c1", 1.0)],
)


def said(report: Report) -> dict[str, str]:
    return {name: cell.text for name, cell in report_lines(report, {"c1": "acme/one"}, NOW)}


def test_everything_that_is_known_is_said() -> None:
    """Balance, today's requests, caps with their resets, quotas and discounts, with models by their names."""
    assert said(FULL) == {
        "account": "anna",
        "balance": "$12.50",
        "requests": "paid from the balance: the plan's cap (4 hours) is used up",
        "today": "300 of 300 requests used, 0 left; resets in 6 h 0 min",
        "quota": "0 a day of acme/one",
        "plan": "$20.00 a month",
        "4 hours": "$8.33 of $8.33 used, $0 left; resets in 2 h 30 min",
        "month": "no cap",
        "discount": "100% off acme/one",
    }


def test_what_runs_out_is_marked() -> None:
    """What is used up is yellow, and a balance that pays for something is green."""
    styles = {name: cell.style for name, cell in report_lines(FULL, {}, NOW)}
    assert (styles["today"], styles["4 hours"], styles["balance"]) == ("yellow", "yellow", "green")


@pytest.mark.parametrize(
    ("today", "text"),
    [
        (QuotaUsage(None, 7.0), "7 requests used, no limit"),
        (QuotaUsage(0.0, 0.0), "no requests are included"),
    ],
)
def test_quotas_of_every_kind(today: QuotaUsage, text: str) -> None:
    """Without a limit is not the same as nothing included."""
    assert said(Report(Profile("anna", "u1", 1.0), today=today))["today"] == text


def test_a_reset_that_has_passed_is_not_said() -> None:
    """The service's date for a month may be old: then it says nothing."""
    window = Window(1.0, 5.0, None, datetime(2026, 8, 1, tzinfo=UTC))
    plan = Subscription(True, 3.0, None, window)
    assert said(Report(Profile("anna", "u1", 1.0), subscription=plan))["month"] == "$1.00 of $5.00 used, $4.00 left"


def test_the_account_for_a_person(run: Run, service: LocalChutes) -> None:
    """The pages of the service become a few lines."""
    ran = run("account")
    assert ran.status == 0
    assert ran.lines[:2] == ["account   local", "balance   $100.00"]
    assert ran.lines[2] == "requests  included within today's quota, then paid from the balance"
    assert "0 of 5,000 requests used, 5,000 left" in ran.lines[3]


@pytest.mark.parametrize("balance", [12_345.67, -12_345.67])
def test_every_line_fits_a_terminal(balance: float) -> None:
    """Large numbers still fit in 80 columns."""
    plan = Subscription(True, 20.0, Window(8.33, 8.33, 0.0, SOON), Window(1_234.5, 2_345.6, None, SOON))
    full = Report(Profile("anna", "u1", balance), today=QuotaUsage(50_000.0, 12_345.0), subscription=plan)
    assert max(len(f"{name:<9} {cell.text}") for name, cell in report_lines(full, {}, NOW)) <= 80


def test_what_the_service_calls_somebody_is_one_line(
    run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could look like a line of ours."""
    monkeypatch.setattr("chutes_cli.commands.account.report_lines", lambda *given: [("account", Cell("ada\nbalance"))])
    assert run("account").out == "account   ada balance\n"


def test_the_account_as_json(run: Run, service: LocalChutes) -> None:
    """--json has numbers and times that a program reads."""
    found = run("account", "--json").json
    assert found["balance"] == 100.0
    assert found["today"] == {"total": 5000.0, "used": 0.0, "remaining": 5000.0}
    assert found["subscription"]["four_hour"]["cap"] == pytest.approx(8.333, abs=0.001)
    assert datetime.fromisoformat(found["subscription"]["monthly"]["reset_at"]).tzinfo is not None
    assert (found["discounts"], found["missing"]) == ([], {})


def test_names_stand_beside_ids_in_json() -> None:
    """A model is given by its chute id and, where that is known, by its name."""
    told = report_json(FULL, {"c1": "acme/one"})
    assert told["discounts"] == [
        {"model": "*", "share": 0.25, "name": None},
        {"model": "c1", "share": 1.0, "name": "acme/one"},
    ]


def test_a_page_that_fails_is_missing_and_no_more(
    run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One page that does not answer leaves the others."""
    monkeypatch.setattr("chutes_core.calls.clock.SystemClock.sleep", lambda self, seconds: None)
    service.faults.parse("/users/me/discounts=bad_gateway")
    ran = run("account")
    assert ran.status == 0
    assert "note: discounts unknown: " in ran.err


def test_a_key_for_models_alone_is_status_3(run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a key may not read the account."""
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_scoped")
    ran = run("account")
    assert ran.status == 3
    assert ran.err.startswith("error: This key may not read the account: either it was rejected, or it is limited")
    monkeypatch.setenv("CHUTES_MANAGEMENT_URL", NOWHERE)
    monkeypatch.setattr("chutes_core.calls.clock.SystemClock.sleep", lambda self, seconds: None)
    assert run("account").status == 4
