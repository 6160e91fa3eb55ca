"""Which systems are accepted: the list of this release, what the caller gives, and of the service's what is named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from chutes_core import AttestationError, ConfigurationError
from chutes_core.calls.effects import run
from chutes_core.e2ee import E2EE
from chutes_core.e2ee.measurements import as_of, bundled, listed, rehearsed, row_name
from chutes_local.e2ee.proof import measurements

from .service import EMBEDDED, Hand, Service, planned, sealed_path

ROWS: Any = measurements()
OTHERS: Any = [{**ROWS[0], "mrtd": "00" * 48}]


def asks(**settings: Any) -> Service:
    """Make one call with these settings."""
    service = Service()
    flow, _ = planned(service, sealed_path(service, **settings), retries=0)
    run(flow, Hand(service))
    return service


def test_the_list_of_this_release_is_whole_and_dated() -> None:
    """No register is left out, and no two rows are the same."""
    assert as_of() >= "2026-10-05"
    assert len(listed(bundled())) == len({json.dumps(row["runtime_rtmrs"]) + str(row["mrtd"]) for row in bundled()}) + 1
    assert {row_name(row) for row in bundled()} >= {"8xh200 1.3.0", "8xh200 [10.2.1, flat-188c-1128g-nvsw4] 1.4.1"}


def test_what_only_the_service_lists_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """The party under examination does not choose its measure; the error says how the row is allowed."""
    service = Service()
    path = sealed_path(service, allow=())
    flow, _ = planned(service, path, retries=0)
    with pytest.raises(AttestationError, match=r"not in the list of 2026.*E2EE\(allow=\['embedded server") as caught:
        run(flow, Hand(service))
    assert EMBEDDED in str(caught.value)
    assert service.sent == []


@pytest.mark.parametrize("kind", ["rows", "file", "function"])
def test_the_callers_measurements_are_the_only_ones(kind: str, tmp_path: Path) -> None:
    """As rows, as a file, as a function; the service is then not even asked for its list."""
    file = tmp_path / "rows.json"
    for rows, accepted in ((ROWS, True), (OTHERS, False), ([], False)):
        file.write_text(json.dumps(rows), "utf-8")
        given: Any = {"rows": rows, "file": file, "function": lambda rows=rows: rows}[kind]
        if accepted:
            assert asks(measurements=given, allow=()).questions("/measurements") == 0
        else:
            with pytest.raises(AttestationError, match=r"not in your measurements|neither in your measurements"):
                asks(measurements=given, allow=())


def test_a_function_that_fails_proves_nothing() -> None:
    """Nor does one that returns something else."""
    for wrong in (lambda: 1 / 0, lambda: "rows", lambda: [{}]):
        with pytest.raises(AttestationError, match="the measurements could not be had"):
            asks(measurements=wrong, allow=())


@pytest.mark.parametrize(
    "wrong", [[{}], "/no/such/file", 5, [{**ROWS[0], "mrtd": "00"}], [{**ROWS[0], "runtime_rtmrs": {}}]]
)
def test_what_is_no_list_is_refused_at_once(wrong: Any) -> None:
    """Before anything is asked."""
    with pytest.raises(ConfigurationError, match="measurements"):
        E2EE(measurements=wrong)


async def later(*given: Any) -> Any:
    """Return what nobody waits for."""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"streams": "all"}, "streams must be one of"),
        ({"tcb": ["Fine"]}, "tcb must be one of"),
        ({"tcb": "UpToDate"}, "tcb must be a list"),
        ({"allow": "8xh200"}, "allow must be a list"),
        ({"evaluation": -1}, "evaluation must be"),
        ({"debug": 1}, "debug must be"),
        ({"chutes": ["a"]}, "chutes must be a table"),
        ({"collateral": "x"}, "collateral must be a function"),
        ({"collateral": later}, "collateral must be a function that is not async"),
        ({"measurements": later}, "measurements must be a function that is not async"),
    ],
)
def test_a_setting_of_another_kind_is_refused(wrong: Any, said: str) -> None:
    """With its name."""
    with pytest.raises(ConfigurationError, match=said):
        E2EE(**wrong)


@pytest.mark.parametrize("verify", ["off", "binding"])
@pytest.mark.parametrize("given", [{"collateral": str}, {"tcb": ["OutOfDate"]}, {"evaluation": 20}], ids=str)
def test_what_is_about_the_makers_signature_needs_it_to_be_checked(given: Any, verify: Any) -> None:
    """Who sets it relies on it."""
    E2EE(verify="full", **given)
    with pytest.raises(ConfigurationError, match="verify='full' checks; with verify="):
        E2EE(verify=verify, **given)


def test_the_embedded_servers_system_counts_on_this_machine_only() -> None:
    """There a rehearsal needs no settings; elsewhere whoever serves its quotes is refused."""
    assert rehearsed()["runtime_rtmrs"] == {name: value.lower() for name, value in ROWS[0]["runtime_rtmrs"].items()}
    assert rehearsed()["mrtd"] == ROWS[0]["mrtd"].lower()
    assert row_name(rehearsed()) == EMBEDDED


def test_settings_travel_as_they_are() -> None:
    """As plain data and as a pickle; what a function pinned is not lost, but accepts nothing."""
    made = E2EE(
        verify="full",
        measurements=ROWS,
        chutes={"a/one": "c"},
        streams="whole",
        allow=["x 1"],
        tcb=["OutOfDate"],
        evaluation=20,
    )
    assert E2EE.of(made.to_dict()) == made == pickle.loads(pickle.dumps(made))
    assert E2EE(measurements=lambda: ROWS).to_dict()["measurements"] == []
    assert hash(made) == hash(pickle.loads(pickle.dumps(made)))
