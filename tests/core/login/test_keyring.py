"""A login in the system's keyring: what is there, what goes with it, and a keyring that does not work."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from chutes_core.login.errors import LoginError
from chutes_core.login.store import LoginStore, StoredLogin
from chutes_core.secrets.secret import Secret
from tests.core.login.conftest import frames

SERVICE = "https://api.chutes.ai"
LOGIN = StoredLogin(
    SERVICE,
    Secret("cak_aaaa", places=[SERVICE, "https://gateway.example"]),
    100.0,
    Secret("crt_bbbb"),
    "cid_1",
    Secret("csc_cccc"),
    "profile chutes:invoke",
    "ann",
)


@pytest.fixture
def store(tmp_path: Path) -> LoginStore:
    return LoginStore(folder=tmp_path / "config")


class FakeKeyring:
    def __init__(self) -> None:
        self.held: dict[tuple[str, str], str] = {}

    def get_password(self, service_name: str, username: str) -> str | None:
        return self.held.get((service_name, username))

    def set_password(self, service_name: str, username: str, password: str) -> None:
        self.held[service_name, username] = password

    def delete_password(self, service_name: str, username: str) -> None:
        del self.held[service_name, username]


IN_KEYRING = replace(LOGIN, keeper="keyring")


def test_the_keyring_holds_the_secrets(store: LoginStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the keyring the file says only where they are, and deleting empties both."""
    keyring = FakeKeyring()
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    store.save(IN_KEYRING)
    login = store.load()
    assert login == IN_KEYRING
    assert login is not None
    assert login.access.places == IN_KEYRING.access.places
    assert not any(word in store.path.read_text() for word in ("aaaa", "bbbb", "cccc"))
    assert list(keyring.held) == [("chutes-connect", SERVICE)]
    store.delete()
    assert store.load() is None
    assert keyring.held == {}


def test_the_keyring_is_emptied_by_a_login_that_is_kept_elsewhere(
    store: LoginStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the old tokens would stay there for good, since nothing knows of them any more."""
    keyring = FakeKeyring()
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    store.save(IN_KEYRING)
    store.save(LOGIN)
    assert keyring.held == {}
    assert store.load() == LOGIN


def test_a_keyring_that_was_emptied(store: LoginStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets that somebody removed from the keyring are missed in words, and logging out still works."""
    keyring = FakeKeyring()
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    store.save(IN_KEYRING)
    keyring.held.clear()
    with pytest.raises(LoginError, match="no longer in the system's keyring"):
        store.load()
    store.delete()
    assert store.load() is None


def test_without_its_package_the_keyring_is_no_choice(store: LoginStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is named, and nothing is stored."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(LoginError, match="pip install keyring"):
        store.save(IN_KEYRING)
    assert not store.path.exists()


def test_a_keyring_that_does_not_work_is_told_of(store: LoginStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a backend raises becomes one sentence, without what it was to keep."""

    def fail(*given: str) -> None:
        raise RuntimeError(f"no backend for {given}")

    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(set_password=fail))
    with pytest.raises(LoginError, match="does not work here") as caught:
        store.save(IN_KEYRING)
    assert not any(word in frames(caught.value) for word in ("aaaa", "bbbb", "cccc"))
