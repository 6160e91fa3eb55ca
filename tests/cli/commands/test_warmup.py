"""``chutes-connect warmup``: what is said until a model is hot."""

from __future__ import annotations

import pytest

from chutes_core import ChutesClient
from chutes_core.calls.flows import WarmUpStatus
from chutes_local import LocalChutes
from tests.cli.conftest import MODEL, Run


def test_a_cold_model_is_woken(run: Run, service: LocalChutes) -> None:
    """What the service says is said once each, and the end is when the model is hot."""
    service.change(MODEL, machines=0)
    ran = run("warmup", "qwen/qwen3-32b")
    assert ran.status == 0
    assert ran.err.splitlines() == ["cold  waiting for instances ...", "hot   chute is hot, 1 instances available"]
    assert ran.out.startswith(f"{MODEL} is hot after ")


def test_what_the_service_says_is_one_line(run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could look like a line of ours."""
    said = [WarmUpStatus("cold\nerror:", "a\r\nb"), WarmUpStatus("hot")]
    monkeypatch.setattr(ChutesClient, "warm_up", lambda client, name: iter(said))
    assert run("warmup", MODEL).err.splitlines() == ["cold error: a b", "hot   "]


def test_as_json(run: Run, service: LocalChutes) -> None:
    """--json has each thing the service said, and when."""
    service.change(MODEL, machines=0)
    found = run("warmup", MODEL, "--json").json
    assert (found["model"], found["hot"]) == (MODEL, True)
    assert [each["status"] for each in found["said"]] == ["cold", "hot"]


def test_what_cannot_be_woken(run: Run, service: LocalChutes) -> None:
    """A model that does not exist, and one that is switched off, have each their status."""
    assert run("warmup", "nope").status == 8
    service.change(MODEL, disabled=True)
    assert run("warmup", MODEL).status == 5
