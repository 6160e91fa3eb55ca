"""The lock around a login: its failures in words, and none of them waited for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chutes_core.login.errors import LoginError
from chutes_core.login.lock import locked
from chutes_core.login.store import LoginStore


@pytest.fixture
def store(tmp_path: Path) -> LoginStore:
    return LoginStore(folder=tmp_path / "config")


def test_a_folder_without_a_place_for_the_lock_is_told_of(store: LoginStore) -> None:
    """A login in a folder that cannot be written is said in words, not as the system's error."""
    store.folder.mkdir()
    store.path.with_suffix(".lock").mkdir()
    with pytest.raises(LoginError, match="CHUTES_CONFIG_DIR"), store.exclusive():
        pass


def test_a_lock_that_the_folder_does_not_know_is_told_at_once(
    store: LoginStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems have no locks: that is not another program's doing, and waiting does not help."""

    def no_locks(*given: int) -> None:
        raise OSError(37, "No locks available")

    for name in ("fcntl.flock", "msvcrt.locking"):
        if name.partition(".")[0] in sys.modules:
            monkeypatch.setattr(name, no_locks)
    with pytest.raises(LoginError, match="No locks available"), store.exclusive():
        pass


def test_a_holder_that_never_ends_is_told_of(tmp_path: Path) -> None:
    """Who waits for the lock too long says which file to look at."""
    with (
        locked(tmp_path / "lock"),
        pytest.raises(LoginError, match="Another program"),
        locked(tmp_path / "lock", patience=0.0),
    ):
        pass
