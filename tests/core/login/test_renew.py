"""Renewal: when, by whom, and what happens when it is refused."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chutes_core import (
    AsyncChutesClient,
    ChutesClient,
    ConnectionFailedError,
    MissingKeyError,
    async_openai_client,
    openai_client,
)
from chutes_core.auth import Credential
from chutes_core.login import renew
from chutes_core.login.errors import LoginEndedError, LoginError
from chutes_core.login.lock import locked
from chutes_core.login.store import LoginStore
from chutes_core.login.tokens import Grant
from chutes_core.login.value import StoredLogin
from chutes_core.secrets.secret import Secret
from chutes_local import LocalChutes
from tests.core.login.conftest import PUBLIC_APP, SignedIn, frames, sign_in_at, stored

HELLO = [{"role": "user", "content": "one two three"}]
MODEL = "Qwen/Qwen3-32B-TEE"


def tokens_of(login: object) -> list[str]:
    return [secret.get_secret_value() for secret in (login.access, login.refresh) if secret]


def renewals(server: LocalChutes) -> int:
    """How often the token page was asked since the login."""
    return len([entry for entry in server.journal if entry.path.endswith("/idp/token")]) - 1


def test_a_good_token_is_used_as_it_is(signed_in: SignedIn) -> None:
    """Until its last minute a token is not renewed."""
    signed_in.pass_time(3500)
    assert signed_in.current() == signed_in.first


@pytest.mark.parametrize("seconds", [3541, 3601, 29 * 24 * 3600])
def test_a_token_is_renewed_before_its_end_and_after(signed_in: SignedIn, seconds: float) -> None:
    """In its last minute, and for as long as the refresh token lives, the pair is replaced and stored."""
    signed_in.pass_time(seconds)
    fresh = signed_in.current()
    assert not set(tokens_of(fresh)) & set(tokens_of(signed_in.first))
    assert signed_in.store.load() == fresh
    assert signed_in.server.oauth.live(fresh.access.get_secret_value())
    signed_in.pass_time(3600)
    assert signed_in.current() != fresh


def test_the_new_pair_is_stored_before_it_is_used(signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the pair cannot be written the old one is not spent: nothing was asked of the service."""
    signed_in.pass_time(3601)
    monkeypatch.setattr("tempfile.mkstemp", lambda **options: (_ for _ in ()).throw(OSError(30, "Read-only")))
    with pytest.raises(LoginError, match="Read-only"):
        signed_in.current()
    monkeypatch.undo()
    assert signed_in.current().access != signed_in.first.access


def test_a_renewal_is_logged_without_tokens(signed_in: SignedIn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "chutes_core.login")
    signed_in.pass_time(3601)
    fresh = signed_in.current()
    (record,) = [each for each in caplog.records if each.name == "chutes_core.login"]
    assert record.getMessage() == "The login was renewed; its token is good for 3600 s"
    assert not any(token in str(vars(record)) for token in [*tokens_of(fresh), *tokens_of(signed_in.first)])


def test_threads_share_one_renewal(signed_in: SignedIn) -> None:
    """Many threads that need it at once get the same new token: a second renewal would have failed."""
    signed_in.pass_time(3601)
    start = threading.Barrier(8)

    def ask() -> Secret:
        start.wait()
        return signed_in.current().access

    with ThreadPoolExecutor(8) as pool:
        found = {each.result() for each in [pool.submit(ask) for _ in range(8)]}
    assert len(found) == renewals(signed_in.server) == 1
    assert signed_in.store.load() == signed_in.current()


PROCESS = """
import sys
from chutes_core.login.renew import current_login
from chutes_core.login.store import LoginStore
print("ready", flush=True)
sys.stdin.readline()
print(current_login(LoginStore(sys.argv[1], folder=sys.argv[2])).access.get_secret_value())
"""


def test_processes_share_one_renewal(signed_in: SignedIn) -> None:
    """Several processes that need it at once get the same new token."""
    signed_in.store.save(replace(signed_in.first, expires_at=0.0))
    words = [sys.executable, "-c", PROCESS, signed_in.store.service, str(signed_in.store.folder)]
    started = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(4)
    ]
    for process in started:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    found = {process.communicate()[0].strip() for process in started}
    assert [process.returncode for process in started] == [0] * 4
    assert len(found) == renewals(signed_in.server) == 1
    assert found != {signed_in.first.access.get_secret_value()}


def test_who_waited_asks_nobody(signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal that another made while we waited for the lock is taken over."""
    signed_in.pass_time(3601)
    other = replace(signed_in.first, access=Secret("cak_other"), expires_at=signed_in.clock + 3600)

    def exclusive(store: LoginStore) -> object:
        store.save(other)
        return locked(store.path.with_suffix(".lock"))

    monkeypatch.setattr(LoginStore, "exclusive", exclusive)
    monkeypatch.setattr(renew, "request_tokens", lambda *given: pytest.fail("the service was asked"))
    assert signed_in.current() == other


def test_a_refused_token_is_renewed_once(signed_in: SignedIn) -> None:
    """A token that the service does not take is replaced, unless it has been already."""
    refused = signed_in.first.access
    fresh = signed_in.current(refused)
    assert fresh.access != refused
    assert signed_in.current(refused) == fresh


def test_a_refused_key_stays_what_it_is(server: LocalChutes, tmp_path: Path) -> None:
    """There is nothing to renew in a key, and in a login without a secret."""
    signed_in = stored(server, tmp_path, PUBLIC_APP)
    assert signed_in.current(signed_in.first.access) == signed_in.first


def test_without_a_secret_the_end_is_the_end(server: LocalChutes, tmp_path: Path) -> None:
    """A login without the client secret is used to its last second, and then says why it is over."""
    signed_in = stored(server, tmp_path, PUBLIC_APP)
    signed_in.pass_time(3599)
    assert signed_in.current() == signed_in.first
    signed_in.pass_time(2)
    with pytest.raises(LoginEndedError, match=r"without the app's client secret.*Sign in again"):
        signed_in.current()


@pytest.mark.parametrize("how", ["stolen", "expired", "revoked"])
def test_a_refresh_token_that_is_not_taken(signed_in: SignedIn, how: str) -> None:
    """A used, old or revoked refresh token ends the login, with all three in the message; it is not tried again."""
    assert signed_in.first.refresh
    assert signed_in.first.client_secret
    refresh = signed_in.first.refresh.get_secret_value()
    if how == "stolen":
        secret = signed_in.first.client_secret.get_secret_value()
        signed_in.server.oauth.refresh(refresh, signed_in.first.client_id, secret)
    elif how == "revoked":
        signed_in.server.oauth.revoke(refresh)
    signed_in.pass_time(31 * 24 * 3600 if how == "expired" else 3601)
    with pytest.raises(LoginEndedError, match=r"too old, was revoked, or was used by someone else") as caught:
        signed_in.current()
    assert not any(token in frames(caught.value) for token in tokens_of(signed_in.first))
    kept = signed_in.store.load()
    assert kept is not None
    assert kept.refresh is None
    with pytest.raises(LoginEndedError, match="cannot be renewed"):
        signed_in.current()
    assert renewals(signed_in.server) == 1


def test_a_spent_refresh_token_leaves_the_last_minute(signed_in: SignedIn) -> None:
    """Whatever happens to the renewal, a token that is still good is used."""
    assert signed_in.first.refresh
    signed_in.server.oauth.revoke(signed_in.first.refresh.get_secret_value())
    signed_in.pass_time(3570)
    assert signed_in.current().access == signed_in.first.access


def test_a_wrong_secret_does_not_use_up_the_token(signed_in: SignedIn) -> None:
    """An app's new secret is asked for, and the refresh token is kept for it."""
    signed_in.store.save(replace(signed_in.first, client_secret=Secret("csc_wrong")))
    signed_in.pass_time(3601)
    with pytest.raises(LoginError, match="CHUTES_CLIENT_SECRET"):
        signed_in.current()
    signed_in.store.save(signed_in.first)
    assert signed_in.current() != signed_in.first


def test_a_service_that_cannot_be_reached(signed_in: SignedIn) -> None:
    """No connection is an error of its own once the token has ended, and nothing is lost by it."""
    with signed_in.server.refusing():
        signed_in.pass_time(3570)
        assert signed_in.current() == signed_in.first
        signed_in.pass_time(60)
        with pytest.raises(ConnectionFailedError) as caught:
            signed_in.current()
        assert not any(token in frames(caught.value) for token in tokens_of(signed_in.first))
    assert signed_in.current() != signed_in.first


# ----------------------------------------------------------------------------------------- through the clients


@pytest.fixture
def found(server: LocalChutes) -> LoginStore:
    """A login where the clients look, whose token has just ended."""
    store = LoginStore(server.management_url)
    store.save(replace(sign_in_at(server), expires_at=time.time() - 1))
    return store


def test_a_client_finds_the_login(found: LoginStore) -> None:
    """With no variable set a client uses the login, and renews it."""
    before = found.load()
    with ChutesClient() as client:
        assert "one two three" in client.chat(HELLO, model=MODEL).content
    after = found.load()
    assert before
    assert after
    assert after.access != before.access


async def test_an_async_client_finds_it_and_its_loop_goes_on(
    found: LoginStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renewal of an async client runs beside the event loop, and calls at the same time share it."""
    threads: list[int] = []
    ask = renew.request_tokens

    def watched(*given: object) -> object:
        threads.append(threading.get_ident())
        return ask(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(renew, "request_tokens", watched)
    async with AsyncChutesClient() as client:
        replies = await asyncio.gather(*(client.chat(HELLO, model=MODEL) for _ in range(4)))
    assert len(replies) == 4
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


async def test_a_client_renews_a_refused_login_once(server: LocalChutes) -> None:
    """A token that the service refuses with a 401 is renewed, and the call goes through, blocking and async."""
    store = LoginStore(server.management_url)
    store.save(sign_in_at(server))
    for renewed in (1, 2):
        login = store.load()
        assert login
        server.oauth.revoke(login.access.get_secret_value())
        if renewed == 1:
            with ChutesClient(max_retries=0) as client:
                assert client.chat(HELLO, model=MODEL).content
        else:
            async with AsyncChutesClient(max_retries=0) as other:
                assert (await other.chat(HELLO, model=MODEL)).content
        assert renewals(server) == renewed


def test_the_login_is_that_of_the_clients_own_service(found: LoginStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that is given as an argument has its own login, whatever the environment says."""
    monkeypatch.delenv("CHUTES_MANAGEMENT_URL")
    with ChutesClient(management_url=found.service) as client:
        assert client.chat(HELLO, model=MODEL).content
    with ChutesClient() as other, pytest.raises(MissingKeyError):
        other.chat(HELLO, model=MODEL)


async def test_the_stock_clients_use_the_login_too(server: LocalChutes) -> None:
    """Behind the door the openai clients find the login, and have it renewed when the service refuses it."""
    store = LoginStore(server.management_url)
    store.save(sign_in_at(server))
    said: Any = {"model": MODEL, "messages": HELLO}
    for renewed in (1, 2):
        login = store.load()
        assert login
        server.oauth.revoke(login.access.get_secret_value())
        if renewed == 1:
            with openai_client(max_retries=0) as client:
                assert client.chat.completions.create(**said).choices[0].message.content
        else:
            async with async_openai_client(max_retries=0) as other:
                assert (await other.chat.completions.create(**said)).choices[0].message.content
        assert renewals(server) == renewed


def test_telling_accounts_apart_asks_nobody(found: LoginStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login whose token has ended is not renewed for its name's sake, and a function is not asked either."""
    monkeypatch.setattr(renew, "request_tokens", lambda *given: pytest.fail("the service was asked"))
    assert Credential(service=found.service).at_hand() is None
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_variable")
    assert Credential(service=found.service).at_hand() == Secret("cpk_variable")
    assert Credential(lambda: pytest.fail("the function was asked")).at_hand() is None


def test_argument_and_environment_come_before_the_login(found: LoginStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The login is the last place to look, and a client that was given a key never touches it."""
    monkeypatch.setattr(LoginStore, "load", lambda store: pytest.fail("the login was read"))
    assert Credential("cpk_argument").secret().get_secret_value() == "cpk_argument"
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_variable")
    assert Credential().secret().get_secret_value() == "cpk_variable"


def test_a_login_at_another_service_is_not_used(found: LoginStore) -> None:
    """A token goes to the service that gave it alone."""
    with pytest.raises(MissingKeyError, match="chutes-connect login"):
        Credential(service="https://api.chutes.ai").secret()
    other = LoginStore("https://api.chutes.ai", folder=found.folder)
    other.save(StoredLogin.of_key(other.service, Secret("cpk_other")))
    assert Credential(service=other.service).secret().get_secret_value() == "cpk_other"
    assert Credential(service=found.service).secret().get_secret_value().startswith("cak_")


def test_an_environment_that_was_given_has_its_own_logins(found: LoginStore) -> None:
    """A replaced environment leads to the login only if it says where."""
    with pytest.raises(MissingKeyError):
        Credential(env={}).secret()
    env = {"CHUTES_CONFIG_DIR": str(found.folder), "CHUTES_MANAGEMENT_URL": found.service}
    assert Credential(env=env).secret().get_secret_value().startswith("cak_")


async def test_a_login_that_is_over_sends_nothing(found: LoginStore, server: LocalChutes) -> None:
    """A call with an ended login is refused here, blocking and async, as one without a key is."""
    login = found.load()
    assert login
    found.save(replace(login, refresh=None))
    with ChutesClient() as client, pytest.raises(LoginEndedError):
        client.chat(HELLO, model=MODEL)
    async with AsyncChutesClient() as other:
        with pytest.raises(MissingKeyError):
            await other.chat(HELLO, model=MODEL)
    assert not [entry for entry in server.journal if "/chat/" in entry.path]


def test_a_grant_does_not_show_itself() -> None:
    """What the token page gave is masked like everything else."""
    assert "aaaa" not in repr(Grant(Secret("cak_aaaa"), 3600.0, Secret("crt_aaaa")))
