"""``chutes-connect doctor``: each check in order, out of order, and what to do then."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chutes_cli import checks
from chutes_cli.commands.account import Report
from chutes_cli.exits import Exit
from chutes_core.account import Profile, QuotaUsage, Subscription
from chutes_core.secrets.secret import Secret
from chutes_local import LocalChutes
from tests.cli.conftest import MODEL, NOWHERE, OTHER, Ran, Run

CHEAPEST = "unsloth/Mistral-Nemo-Instruct-2407-TEE"
NOON = "Sat, 22 Aug 2026 12:00:00 GMT"
NOON_SECONDS = 1787400000.0


def states(ran: Ran) -> dict[str, str]:
    return {each["check"]: each["state"] for each in ran.json["checks"]}


def said(ran: Ran, check: str) -> str:
    return next(str(each["said"]) for each in ran.json["checks"] if each["check"] == check)


def test_all_is_well(run: Run, service: LocalChutes) -> None:
    """With a key and a service every check is in order, a real call included, and the status is 0."""
    ran = run("doctor", "--json")
    assert ran.status == 0
    assert ran.json["ok"] is True
    hosts, own = (
        {"chat", "embeddings", "management"},
        {"key", "destination", "clock", "versions", "model", "account", "call"},
    )
    assert set(states(ran)) == hosts | own
    assert set(states(ran).values()) <= {"ok", "skip"}
    assert said(ran, "call").startswith(f"{CHEAPEST} · 2 in + 12 out tokens · $0.0000")
    assert service.api_key not in ran.out


def test_a_person_reads_lines_that_fit(run: Run, service: LocalChutes) -> None:
    """Each check is a line, wrapped where it is too long, with the remedy below it."""
    service.faults.parse("/users/me=bad_gateway")
    ran = run("doctor", "--no-call", width=80)
    assert max(map(len, ran.lines)) <= 80
    assert ran.lines[0].split() == ["ok", "key", "CHUTES_API_KEY", "holds", "cpk_****", "of", "102", "characters"]
    assert "warn account     the account cannot be read" in ran.out
    assert " Try again in a moment." in " ".join(ran.out.split())


def test_colours_on_a_terminal(run: Run, service: LocalChutes) -> None:
    """A person sees green where it is in order."""
    assert "\x1b[32mok   \x1b[0mkey" in run("doctor", "--no-call", terminal=True).out


def test_no_key_is_the_first_failure(run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key the hosts are looked at all the same, and no call is made."""
    monkeypatch.delenv("CHUTES_API_KEY")
    ran = run("doctor", "--json")
    assert ran.status == 3
    assert states(ran)["key"] == "fail"
    assert states(ran)["chat"] == "ok"
    assert "call" not in states(ran)


def test_a_key_that_is_refused(run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call tells that a key is not accepted."""
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_bad")
    ran = run("doctor", "--json")
    assert ran.status == 3
    assert (states(ran)["key"], states(ran)["account"], states(ran)["call"]) == ("warn", "warn", "fail")


def test_the_key_may_come_from_standard_input(run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the key is from is said, and the key never."""
    monkeypatch.delenv("CHUTES_API_KEY")
    ran = run("doctor", "--json", "--api-key-stdin", stdin=f"{service.api_key}\n")
    assert ran.status == 0
    assert said(ran, "key") == "standard input holds cpk_**** of 102 characters"
    assert service.api_key not in ran.out + ran.err


def test_a_host_that_is_down(run: Run, service: LocalChutes) -> None:
    """A host that does not answer is status 4; the others are looked at."""
    ran = run("doctor", "--json", "--base-url", f"{NOWHERE}/v1")
    assert ran.status == 4
    assert (states(ran)["chat"], states(ran)["management"]) == ("fail", "ok")
    assert "clock" not in states(ran)


def test_an_account_with_nothing_left(run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither quota nor balance is a failure of its own."""
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_poor")
    ran = run("doctor", "--json", "--no-call")
    assert ran.status == 6
    assert states(ran)["account"] == "fail"


def test_a_model_that_an_account_may_not_ask_gives_way_to_the_next(
    run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without plan and balance only models without confidential compute answer, and that is a warning."""
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_small")
    service.change("deepseek-ai/DeepSeek-V4-Flash-0731-TEE", tee=False)
    ran = run("doctor", "--json")
    assert (ran.status, states(ran)["account"], states(ran)["call"]) == (0, "warn", "ok")
    service.reset()
    ran = run("doctor", "--json")
    assert (ran.status, states(ran)["call"]) == (6, "fail")


def test_a_busy_model_gives_way_to_the_next(run: Run, service: LocalChutes) -> None:
    """That a model is busy says nothing against the way to it."""
    service.faults.parse(f"{CHEAPEST}=capacity")
    ran = run("doctor", "--json")
    assert ran.status == 0
    assert said(ran, "call").startswith("deepseek-ai/DeepSeek-V4-Flash-0731-TEE · ")


def test_when_every_model_is_busy_it_is_a_warning(run: Run, service: LocalChutes) -> None:
    """Nobody can answer now, and nothing is out of order here."""
    service.faults.parse("*=capacity")
    ran = run("doctor", "--json")
    assert ran.status == 0
    assert (states(ran)["call"], said(ran, "call")) == ("warn", f"{OTHER} cannot answer now")


def test_the_model_of_the_call_can_be_named(run: Run, service: LocalChutes) -> None:
    """--model is asked, and nobody else; one that does not exist is a failure."""
    assert said(run("doctor", "--json", "--model", MODEL), "call").startswith(MODEL)
    ran = run("doctor", "--json", "--model", "nope")
    assert (ran.status, states(ran)["call"]) == (8, "fail")


def test_the_embedding_host_is_the_one_that_embeddings_go_to(run: Run, service: LocalChutes) -> None:
    """Where only the gateway was replaced, embeddings go there too, and that is what is looked at."""
    ran = run("doctor", "--json", "--no-call", env={"CHUTES_EMBEDDING_BASE_URL": ""})
    assert said(ran, "embeddings").startswith(f"{service.base_url} answers in ")


def test_where_the_key_goes_and_why(run: Run, service: LocalChutes) -> None:
    """Each address is named with the reason; one that a variable has put there is refused, and gets nothing."""
    assert said(run("doctor", "--json", "--no-call"), "destination").endswith("(this machine)")
    ran = run("doctor", "--json", env={"CHUTES_EMBEDDING_BASE_URL": "https://evil.example/v1"})
    assert (ran.status, states(ran)["destination"], "call" in states(ran)) == (2, "fail", False)
    assert said(ran, "destination") == "the key does not go to https://evil.example (CHUTES_EMBEDDING_BASE_URL)"
    assert "not named together" in str([each["remedy"] for each in ran.json["checks"]])


@pytest.mark.parametrize(
    ("text", "state"),
    [("cpk_" + "0" * 98, "ok"), ("cak_" + "0" * 40, "ok"), ("cpk_short", "warn"), ("sk-other", "warn")],
)
def test_the_form_of_a_key(text: str, state: str) -> None:
    """A key of another form is a warning, since the service alone decides; it never shows."""
    finding = checks.key(Secret(text), "CHUTES_API_KEY")
    assert finding.state == state
    assert text[4:] not in str(finding)


@pytest.mark.parametrize(
    ("now", "state", "text"),
    [
        (NOON_SECONDS + 5, "ok", "this clock is correct"),
        (NOON_SECONDS - 90, "warn", "this clock is 1 min 30 s behind"),
        (NOON_SECONDS + 3600, "fail", "this clock is 1 h 0 min ahead"),
    ],
)
def test_the_clock(now: float, state: str, text: str) -> None:
    """A clock that is a little wrong is a warning, one that is far off a failure."""
    finding = checks.clock(NOON, now)
    assert (finding.state, finding.said) == (state, text)


@pytest.mark.parametrize("date", [None, "", "soon"])
def test_a_service_that_does_not_say_the_time(date: str | None) -> None:
    """Without a date there is nothing to compare with."""
    assert checks.clock(date, NOON_SECONDS).state == "skip"


def test_a_host_that_answers_with_trouble() -> None:
    """A 404 shows that somebody is there, a 502 that nobody is."""
    assert checks.host("chat", "http://x/v1", 404, 0.01).state == "ok"
    assert checks.host("chat", "http://x/v1", 502, 0.01).status is Exit.UNREACHABLE


@pytest.mark.parametrize(
    ("report", "state"),
    [
        (Report(Profile("anna", "u1", 0.0), today=QuotaUsage(200.0, 10.0)), "warn"),
        (Report(Profile("anna", "u1", 0.0), today=QuotaUsage(None, 10.0)), "ok"),
        (Report(Profile("anna", "u1", 5.0), today=QuotaUsage(0.0, 0.0)), "ok"),
        (Report(Profile("anna", "u1", None)), "warn"),
        (Report(Profile(None, None, -1.0), subscription=Subscription(True, 3.0)), "warn"),
        (Report(Profile("anna", "u1", 0.0), today=QuotaUsage(300.0, 300.0)), "fail"),
    ],
)
def test_what_is_left_to_pay_with(report: Report, state: str) -> None:
    """Included requests or a balance will do; what is not known is no failure."""
    assert checks.money(report, datetime.now(UTC)).state == state


def test_the_first_failure_decides() -> None:
    """The whole takes the status of its first failure, and warnings are none."""
    warning = checks.Finding("a", "warn", "")
    assert checks.exit_of_all([warning]) is Exit.OK
    assert checks.exit_of_all([warning, checks.Finding("b", "fail", "", status=Exit.ACCOUNT)]) is Exit.ACCOUNT
