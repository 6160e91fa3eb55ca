"""Where a login is kept, who can read it, and what happens when it cannot be read or written."""

from __future__ import annotations

import json
import os
import pickle
import stat
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from chutes_core.errors import ChutesWarning
from chutes_core.login.errors import LoginError
from chutes_core.login.store import LoginStore, StoredLogin, default_folder
from chutes_core.secrets.secret import Secret
from tests.core.login.conftest import frames

SERVICE = "https://api.chutes.ai"
LOGIN = StoredLogin(
    SERVICE, Secret("cak_aaaa"), 100.0, Secret("crt_bbbb"), "cid_1", Secret("csc_cccc"), "profile chutes:invoke", "ann"
)
posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")


@pytest.fixture
def store(tmp_path: Path) -> LoginStore:
    return LoginStore(folder=tmp_path / "config")


@pytest.mark.parametrize("login", [LOGIN, StoredLogin.of_key(SERVICE, Secret("cpk_dddd"))])
def test_what_is_saved_is_loaded(store: LoginStore, login: StoredLogin) -> None:
    """A login comes back as it was, and without one there is None."""
    assert store.load() is None
    store.save(login)
    assert store.load() == login


@posix
def test_only_its_owner_can_read_it(store: LoginStore) -> None:
    """The file is 0600 and its folder 0700, under whatever umask; a replacement too."""
    before = os.umask(0)
    try:
        store.save(LOGIN)
        store.save(replace(LOGIN, user="bob"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert [each.name for each in store.folder.iterdir()] == ["login.json"]


@posix
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_file_that_others_could_read_is_closed_and_told_of(store: LoginStore, mode: int) -> None:
    """A login with loose rights is used, with a warning, and is private from then on."""
    store.save(LOGIN)
    store.path.chmod(mode)
    with pytest.warns(ChutesWarning, match="could read the login"):
        assert store.load() == LOGIN
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize(
    ("mode", "told"), [(0o700, False), (0o775, False), (0o777, True), (0o702, True), (0o1777, False)]
)
def test_a_folder_that_everybody_can_write_is_told_of(store: LoginStore, mode: int, told: bool) -> None:
    """Anybody could put a login of theirs there, and get what is asked with it."""
    store.save(LOGIN)
    store.folder.chmod(mode)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert store.load() == LOGIN
    assert ["another login in the place of yours" in str(each.message) for each in caught] == [True] * told


@posix
def test_a_login_of_somebody_else_is_not_used(store: LoginStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever put it there would get what is asked with it; root is who it says, and reads those of all."""
    store.save(LOGIN)
    if os.geteuid() == 0:
        os.chown(store.path, 4321, -1)
    owner = store.path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(LoginError, match="belongs to another user"):
        store.load()
    for user in (owner, 0):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        assert store.load() == LOGIN


def test_each_service_has_a_login_of_its_own(tmp_path: Path) -> None:
    """A login at one address is not found by a client of another."""
    store = LoginStore(folder=tmp_path)
    store.save(LOGIN)
    other = LoginStore("http://127.0.0.1:8000/api", folder=tmp_path)
    assert other.load() is None
    other.save(replace(LOGIN, service=other.service, user="other"))
    other.delete()
    assert store.load() == LOGIN


def test_the_environment_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """CHUTES_CONFIG_DIR is where logins are; without it the platform's own folder for settings."""
    monkeypatch.setenv("CHUTES_CONFIG_DIR", str(tmp_path / "mine"))
    assert LoginStore().folder == tmp_path / "mine"
    monkeypatch.setattr("platformdirs.user_config_dir", lambda name: str(tmp_path / name))
    assert default_folder({}) == tmp_path / "chutes-connect"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": 1}', '{"version": 1, "access": 3}', "\xff"])
def test_a_damaged_file_is_told_of(store: LoginStore, text: str) -> None:
    """What is no login says where it is and what to do."""
    store.folder.mkdir()
    store.path.write_bytes(text.encode("latin-1"))
    store.path.chmod(0o600)
    with pytest.raises(LoginError, match=r"login\.json is damaged.*chutes-connect logout"):
        store.load()
    store.delete()
    assert store.load() is None


def test_a_newer_versions_file_is_left_alone(store: LoginStore) -> None:
    """A file of a later format is not taken for a damaged one."""
    store.save(LOGIN)
    store.path.write_text(json.dumps({"version": 99}))
    with pytest.raises(LoginError, match="newer chutes-connect"):
        store.load()


def test_a_folder_that_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    """Neither a missing right nor a file in the way loses the login without a word, or shows it."""
    (tmp_path / "file").write_text("")
    store = LoginStore(folder=tmp_path / "file" / "config")
    assert store.load() is None
    for attempt in (store.check_writable, lambda: store.save(LOGIN)):
        with pytest.raises(LoginError, match="CHUTES_CONFIG_DIR") as caught:
            attempt()
        assert "aaaa" not in frames(caught.value)


def test_a_write_that_fails_leaves_the_old_login(store: LoginStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs the new login, never the old one, and leaves no half file; the traceback has no token."""
    store.save(LOGIN)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LoginError, match="No space left") as caught:
        store.save(replace(LOGIN, access=Secret("cak_new1")))
    shown = frames(caught.value)
    assert "store.py" in shown
    assert not any(word in shown for word in ("aaaa", "bbbb", "cccc", "new1"))
    assert store.load() == LOGIN
    assert [each.name for each in store.folder.iterdir()] == ["login.json"]


def test_a_disk_that_takes_only_empty_files_is_found_out(store: LoginStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a renewal uses up the old token: a full disk still makes a file, and has no room for what is in it."""
    store.save(LOGIN)
    store.check_writable()

    def full(descriptor: int) -> None:
        if os.fstat(descriptor).st_size:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LoginError, match="No space left"):
        store.check_writable()
    assert [each.name for each in store.folder.iterdir()] == ["login.json"]


def test_a_half_written_login_goes_with_the_login(store: LoginStore) -> None:
    """A program that was killed while it wrote one leaves a file with tokens, which logging out removes too."""
    other = LoginStore("http://127.0.0.1/api", folder=store.folder)
    store.save(LOGIN)
    for each in (store, other):
        (store.folder / f".{each.path.name}.abcdefgh").write_text("cak_aaaa")
    store.delete()
    assert [each.name for each in store.folder.iterdir()] == [f".{other.path.name}.abcdefgh"]


def test_a_login_does_not_show_its_secrets() -> None:
    """Neither its repr nor a pickle has a token in it."""
    assert not any(word in repr(LOGIN) for word in ("aaaa", "bbbb", "cccc"))
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(LOGIN)
