"""Folders for one user are that user's alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from chutes_core.default_model import store
from chutes_core.folders import make_folder, replace_file
from chutes_core.login.store import LoginStore
from chutes_core.login.value import StoredLogin
from chutes_core.secrets.secret import Secret

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")


@pytest.fixture
def no_mask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(each.relative_to(folder)): stat.S_IMODE(each.stat().st_mode) for each in folder.rglob("*")}


def test_with_a_umask_of_nothing(no_mask: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the login, the default model nor the cache, nor a folder above them, is open to others."""
    monkeypatch.setenv("CHUTES_CONFIG_DIR", str(tmp_path / "default" / "deep"))
    login = LoginStore(folder=tmp_path / "login" / "deep")
    with login.exclusive():
        login.save(StoredLogin.of_key(login.service, Secret("cpk_0123")))
    store(["acme/one"])
    replace_file(tmp_path / "cache" / "deep" / "models.json", "{}")
    found = modes(tmp_path)
    assert len(found) >= 9
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o022} == {}
    folders = [mode for name, mode in found.items() if (tmp_path / name).is_dir()]
    assert set(folders) == {0o700}


def test_a_folder_that_is_there_stays_as_it_is(no_mask: None, tmp_path: Path) -> None:
    """Whoever made it chose its mode; a file in its place is an error."""
    (tmp_path / "own").mkdir(mode=0o755)
    make_folder(tmp_path / "own")
    assert modes(tmp_path) == {"own": 0o755}
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="exists"):
        make_folder(tmp_path / "file")
