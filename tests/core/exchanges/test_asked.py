"""The environment says whether exchanges are recorded, and of a copy of a client its own does."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from chutes_core import AsyncChutesClient, ChutesClient
from chutes_core.exchanges.recorder import Recorder
from chutes_core.wire.hands import AsyncWire, SyncWire


def test_off_costs_nothing() -> None:
    """Without the variable a call is made by the plain hands."""
    assert isinstance(ChutesClient("cpk_fake")._wire(), SyncWire)
    assert isinstance(AsyncChutesClient("cpk_fake")._wire(), AsyncWire)


@pytest.mark.filterwarnings("ignore:CHUTES_RECORD")
def test_a_copy_of_a_client_asks_its_own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that travels to another process records there if it is asked to there."""
    monkeypatch.setenv("CHUTES_RECORD", str(tmp_path / "own.jsonl"))
    sent = pickle.dumps(ChutesClient(base_url="http://127.0.0.1:9/v1", max_retries=0))
    assert isinstance(pickle.loads(sent)._recorder, Recorder)
    monkeypatch.delenv("CHUTES_RECORD")
    assert pickle.loads(sent)._recorder is None
