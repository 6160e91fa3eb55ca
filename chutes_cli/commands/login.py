"""``chutes-connect login`` and ``logout``: sign in once, and every program of yours finds the login."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, Stop
from chutes_cli.numbers import duration
from chutes_cli.options import Commands, Parser, command
from chutes_cli.places import tilde

if TYPE_CHECKING:
    from chutes_cli.out import Out
    from chutes_core.login.store import LoginStore, StoredLogin
    from chutes_core.login.value import Keeper
    from chutes_core.secrets.secret import Secret

__all__ = ["add", "signed_in"]

_SOURCES = ("prompt", "stdin", "env")


def add(commands: Commands) -> None:
    """Register ``login`` and ``logout``."""
    login = command(
        commands,
        "login",
        "sign in with Chutes, or store an API key, for all your programs",
        usage="[--api-key [SOURCE]] [OPTIONS]",
        run=_login,
        examples=[
            "login",
            "login --no-browser",
            "login --api-key",
            "login --api-key stdin < key.txt",
            "login --status",
        ],
    )
    how = login.add_mutually_exclusive_group()
    how.add_argument(
        "--api-key",
        nargs="?",
        const="",
        metavar="SOURCE",
        help="store an API key: typed in (prompt), from the first line of standard input (stdin), or from "
        "CHUTES_API_KEY (env); default: prompt in a terminal, else stdin",
    )
    how.add_argument("--no-browser", action="store_true", help="print the URL; the answer can be pasted too")
    how.add_argument("--status", action="store_true", help="show who is signed in, and until when")
    login.add_argument("--keyring", action="store_true", help="store it in the system keyring (package: keyring)")
    login.add_argument("--wait", type=duration, default=300.0, metavar="SECONDS", help="for the answer (300)")
    _add_common(login)
    logout = command(
        commands, "logout", "sign out: revoke the login and delete it here", usage="[OPTIONS]", run=_logout
    )
    _add_common(logout)


def _add_common(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--management-url", metavar="URL", help="instead of CHUTES_MANAGEMENT_URL")


def _store(options: argparse.Namespace) -> LoginStore:
    from chutes_core.login.store import LoginStore
    from chutes_core.settings import Settings

    return LoginStore(Settings.resolve(management_url=options.management_url).management_url)


def _check_named(service: str, options: argparse.Namespace, places: Collection[str] = ()) -> None:
    """Refuse to sign in where only a variable says: whoever wrote it would get the login.

    Args:
        service: The management URL.
        options: The command's; ``--management-url`` is the explicit word.
        places: The addresses behind the key, which are another.
    """
    from chutes_core.secrets.places import is_stranger
    from chutes_core.settings import origin_of

    if options.management_url or not is_stranger(service) or origin_of(service) in places:
        return
    raise Stop(
        f"Nothing was sent or stored: CHUTES_MANAGEMENT_URL names {origin_of(service)}, which is neither Chutes nor "
        f"this machine, and would get your login. If that is meant, say so: --management-url {service}. If it is not, "
        "look for it in a .env file.",
        Exit.USAGE,
    )


@contextmanager
def _as_stop() -> Iterator[None]:
    """Let a login that failed end the command with the status of a missing key, and in its own words."""
    from chutes_core.login.errors import LoginError

    try:
        yield
    except LoginError as error:
        raise Stop(str(error), Exit.KEY) from None


# ------------------------------------------------------------------------------------------------ login


def _login(options: argparse.Namespace, out: Out) -> int:
    with _as_stop():
        store = _store(options)
        if options.status:
            return _status(store, out)
        keeper: Keeper = "keyring" if options.keyring else "file"
        if options.api_key is not None:
            login = _of_key(store.service, options.api_key, options, keeper, out)
        else:
            login = _of_browser(store.service, options, keeper, out)
        with store.exclusive():
            store.save(login)
    if out.as_json:
        out.data(_described(store, login))
    else:
        out.line(_greeting(login), f" The login is stored in {_place(store, login)}.")
    for note in _notes(login):
        out.note(note)
    return Exit.OK


def signed_in(options: argparse.Namespace, way: str, key: Secret | None, out: Out, *, asks: bool) -> str:
    """Have a stored login, made now if there is none, a way was chosen or a key was given, and say where it is."""
    from chutes_core.auth import Credential
    from chutes_core.login.value import StoredLogin

    with _as_stop():
        store = _store(options)
        anew = key is not None or (asks and options.auth_choice is not None)
        login = None if anew else store.load()
        if login is None:
            if key is not None:
                key = Credential(key, env={}).secret()
                _check_named(store.service, options, key.places)
                login = StoredLogin.of_key(store.service, key, "file")
            elif not asks:
                raise Stop(
                    "No login is stored: pipe a key in with --api-key-stdin, or run this in a terminal.", Exit.KEY
                )
            elif way == "apikey":
                login = _of_key(store.service, "", options, "file", out)
            else:
                browser = argparse.Namespace(no_browser=False, wait=300.0, management_url=options.management_url)
                login = _of_browser(store.service, browser, "file", out)
            with store.exclusive():
                store.save(login)
    what = "an API key" if login.is_key else f"the login of {login.user or 'an unknown user'}"
    return f"{what}, stored in {_place(store, login)}"


def _of_key(service: str, source: str, options: argparse.Namespace, keeper: Keeper, out: Out) -> StoredLogin:
    from chutes_core.auth import Credential
    from chutes_core.login.value import StoredLogin

    if source and source not in _SOURCES:
        # What stands here may well be the key itself: it is not shown.
        raise Stop(
            "--api-key takes a source (prompt, stdin or env), never the key itself: on the command line a key is "
            "visible in the process list and the shell history. If this was a key, replace it.",
            Exit.USAGE,
        )
    # Credential checks a key's form here as everywhere, and takes it from a function so that no frame holds it.
    key = Credential(lambda: _given_key(source, out), env={}).secret()
    _check_named(service, options, key.places)
    return StoredLogin.of_key(service, key, keeper)


def _given_key(source: str, out: Out) -> str:
    source = source or ("prompt" if out.interactive else "stdin")
    if source == "prompt":
        return getpass.getpass("API key (not shown): ", stream=sys.stderr)
    return sys.stdin.readline() if source == "stdin" else os.environ.get("CHUTES_API_KEY", "")


def _of_browser(service: str, options: argparse.Namespace, keeper: Keeper, out: Out) -> StoredLogin:
    from chutes_core.login.browser import await_code
    from chutes_core.login.pkce import OAuthApp, SignIn

    _check_named(service, options)
    sign_in = SignIn(service, OAuthApp.from_environment())
    by_hand = options.no_browser or out.interactive
    code = await_code(
        sign_in,
        show=_shown(out, opens=not options.no_browser, by_hand=by_hand),
        note=out.note,
        must_listen=not options.no_browser,
        paste=sys.stdin if by_hand else None,
        seconds=options.wait,
    )
    return sign_in.finish(code, keeper=keeper)


def _shown(out: Out, *, opens: bool, by_hand: bool) -> Callable[[str], None]:
    """Make what brings the address before the user."""

    def show(url: str) -> None:
        if opens and _open_browser(url):
            out.note("Allow access on the page that opens in your browser. If none opens, visit this address:")
        else:
            out.note("Open this address in a browser, and allow access there:")
        out.note(url)
        if by_hand:
            out.note(
                "If that browser is on another machine, it ends at a page that cannot be reached: copy the address of "
                "that page, paste it here and press Enter."
            )

    return show


def _open_browser(url: str) -> bool:
    import webbrowser

    try:
        return webbrowser.open(url)
    except (OSError, webbrowser.Error):
        return False


# ------------------------------------------------------------------------------------------ what is said


def _greeting(login: StoredLogin) -> str:
    if login.is_key:
        return "The API key is stored, but not yet tested: `chutes-connect doctor` tests it."
    return f"Signed in as {login.user}." if login.user else "Signed in."


def _place(store: LoginStore, login: StoredLogin) -> str:
    """Say where a login is, as a person would."""
    return "the system keyring" if login.keeper == "keyring" else tilde(store.path)


def _described(store: LoginStore, login: StoredLogin | None) -> dict[str, object]:
    """Describe a login for a program, without its secrets."""
    if login is None:
        return {"service": store.service, "signed_in": False}
    return {
        "service": login.service,
        "signed_in": True,
        "kind": "api_key" if login.is_key else "oauth",
        "user": login.user or None,
        "scope": login.scope.split(),
        "token_ends": None if login.expires_at is None else _utc(login.expires_at),
        "renews_itself": login.renewable,
        "kept_in": "keyring" if login.keeper == "keyring" else str(store.path),
        "overridden_by": _overriding(),
    }


def _utc(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _overriding() -> str | None:
    """Name the variable that is used instead of the login."""
    from chutes_core.secrets.secret import ENVIRONMENT

    return next((name for name in ENVIRONMENT if os.environ.get(name, "").strip()), None)


def _notes(login: StoredLogin) -> list[str]:
    """Say what a user would otherwise find out the hard way."""
    notes = []
    if login.is_key and not login.access.get_secret_value().startswith(("cpk_", "cak_")):
        notes.append("This key does not begin with 'cpk_' as Chutes' keys do.")
    if login.expires_at is not None and not login.renewable:
        ends = time.strftime("%H:%M", time.localtime(login.expires_at))
        why = "without CHUTES_CLIENT_SECRET" if login.client_secret is None else "without a refresh token"
        notes.append(f"The login ends at {ends} and cannot be renewed {why}: sign in again then.")
    if not login.is_key and login.scope and "chutes:invoke" not in login.scope.split():
        notes.append("This login may not call models: its scope lacks chutes:invoke.")
    if name := _overriding():
        notes.append(f"{name} is set and takes precedence over the login.")
    return notes


def _status(store: LoginStore, out: Out) -> int:
    login = store.load()
    if out.as_json:
        out.data(_described(store, login))
    elif login is None:
        out.line(f"Not signed in at {store.service}.")
    else:
        what = "an API key" if login.is_key else f"{login.user or 'unknown user'}, with {login.scope}"
        renewal = " renewed automatically," if login.renewable else ""
        ends = "" if login.expires_at is None else f",{renewal} token until {_utc(login.expires_at)}"
        out.line(f"Signed in at {store.service}: {what}{ends}. Stored in {_place(store, login)}.")
        for note in _notes(login):
            out.note(note)
    return Exit.KEY if login is None else Exit.OK


# ----------------------------------------------------------------------------------------------- logout


def _logout(options: argparse.Namespace, out: Out) -> int:
    from chutes_core.login.errors import LoginError

    with _as_stop():
        store = _store(options)
        with store.exclusive():
            try:
                login = store.load()
            except LoginError as error:
                out.note(f"The login is deleted, not revoked, because it cannot be read. {error}")
                login = None
            existed = store.path.exists()
            problem = _revoked(login) if login is not None else None
            store.delete()
    if out.as_json:
        out.data({"service": store.service, "deleted": existed, "revoked": problem is None and _had_tokens(login)})
    elif not existed:
        out.line(f"You were not signed in at {store.service}.")
    else:
        out.line(_farewell(login, problem))
    if problem is not None:
        out.note(f"The tokens could not be revoked and stay valid until they expire: {problem}")
    return Exit.OK if problem is None else Exit.UNREACHABLE


def _had_tokens(login: StoredLogin | None) -> bool:
    return login is not None and not login.is_key


def _revoked(login: StoredLogin) -> Exception | None:
    """Revoke both tokens, the longer-lived one first; give back what prevented it."""
    from chutes_core.login.tokens import revoke

    if login.is_key:
        return None
    for token in filter(None, (login.refresh, login.access)):
        if (problem := revoke(login.service, token)) is not None:
            return problem
    return None


def _farewell(login: StoredLogin | None, problem: Exception | None) -> str:
    if login is not None and login.is_key:
        return "The stored API key is deleted here. It stays valid until you delete it at Chutes."
    return "Signed out." if problem is None else "The login is deleted here."
