"""``chutes-connect login`` and ``logout``, through their own functions."""

from __future__ import annotations

import argparse
import io
import json
import queue
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from chutes_cli.commands import login as command
from chutes_cli.exits import Exit, Stop
from chutes_cli.options import Parser
from chutes_cli.out import Out
from chutes_core import ChutesClient, MissingKeyError
from chutes_core.login.store import LoginStore
from chutes_local import LocalChutes
from chutes_local.world.oauth import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET
from tests.core.login.conftest import frames
from tests.ports import free_port

KEY = "cpk_" + "0123456789abcdef"


def run(*words: str, interactive: bool = False) -> int:
    parser = Parser(prog="chutes-connect")
    command.add(parser.add_subparsers(parser_class=Parser))
    options = parser.parse_args(words)
    out = Out(as_json=options.json, interactive=interactive)
    assert isinstance(options, argparse.Namespace)
    return int(options.run(options, out))


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def stored() -> str:
    login = LoginStore().load()
    return login.access.get_secret_value() if login else ""


def test_a_key_typed_in(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """At a terminal the key is asked for without showing it, and later clients find it."""
    monkeypatch.setattr("getpass.getpass", lambda prompt, stream: KEY)
    assert run("login", "--api-key", interactive=True) == 0
    assert stored() == KEY
    assert ChutesClient()._credential.secret().get_secret_value() == KEY
    said = "".join(capsys.readouterr())
    assert str(LoginStore().path) in said
    assert KEY[4:] not in said


def test_the_place_is_shown_from_home(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A path under the user's own folder is shown as people write it, and given in full to programs."""
    store = LoginStore()
    monkeypatch.setattr("pathlib.Path.home", lambda: store.folder.parent)
    typed(monkeypatch, f"{KEY}\n")
    run("login", "--api-key")
    assert f"~/{store.folder.name}/login.json" in capsys.readouterr().out
    run("login", "--status", "--json")
    assert json.loads(capsys.readouterr().out)["kept_in"] == str(store.path)


@pytest.mark.parametrize("words", [["--api-key"], ["--api-key", "stdin"]])
def test_a_key_piped_in(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """Without a terminal the key is the first line of standard input."""
    typed(monkeypatch, f"{KEY}\nmore\n")
    assert run("login", *words) == 0
    assert stored() == KEY


ELSEWHERE = "https://gateway.example"


@pytest.mark.parametrize(
    "words", [["--api-key", "stdin"], ["--api-key", "env"], ["--no-browser", "--wait", "1"], ["--wait", "1"]]
)
def test_no_login_is_made_where_only_a_variable_says(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """Whoever wrote the variable would get it: a key, or the code, the verifier and the app's secret of a sign-in."""
    monkeypatch.setenv("CHUTES_MANAGEMENT_URL", ELSEWHERE)
    monkeypatch.setenv("CHUTES_API_KEY", KEY)
    monkeypatch.setenv("CHUTES_CLIENT_ID", DEMO_CLIENT_ID)
    monkeypatch.setattr("webbrowser.open", lambda url: pytest.fail("a browser is opened"))
    typed(monkeypatch, f"{KEY}\n")
    with pytest.raises(Stop, match=r"Nothing was sent or stored: CHUTES_MANAGEMENT_URL names .*gateway") as caught:
        run("login", *words)
    assert caught.value.status == Exit.USAGE
    assert not LoginStore(ELSEWHERE).path.exists()


@pytest.mark.parametrize(("key", "words"), [(KEY, ["--management-url", ELSEWHERE]), (f"{KEY}@gateway.example", [])])
def test_a_login_is_made_where_the_command_or_the_key_says(
    key: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is the explicit word; the key goes there then."""
    monkeypatch.setenv("CHUTES_MANAGEMENT_URL", ELSEWHERE)
    typed(monkeypatch, f"{key}\n")
    assert run("login", "--api-key", *words) == 0
    login = LoginStore(ELSEWHERE).load()
    assert login is not None
    assert login.access.places == {ELSEWHERE}


def test_a_key_from_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The variable's key is stored, and that the variable still comes first is said."""
    monkeypatch.setenv("CHUTES_API_KEY", KEY)
    assert run("login", "--api-key", "env", "--json") == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert (told["kind"], told["signed_in"], told["overridden_by"]) == ("api_key", True, "CHUTES_API_KEY")
    assert "CHUTES_API_KEY is set" in captured.err
    monkeypatch.delenv("CHUTES_API_KEY")
    assert stored() == KEY


@pytest.mark.parametrize("key", ["", f"{KEY} {KEY}", f"{KEY}…"])
def test_a_key_that_is_none(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """An empty or broken key is refused, not stored, and not shown."""
    typed(monkeypatch, f"{key}\n")
    with pytest.raises(ValueError, match="key") as caught:
        run("login", "--api-key", "stdin")
    assert KEY[4:] not in frames(caught.value)
    assert not LoginStore().path.exists()


def test_a_key_on_the_command_line_is_refused() -> None:
    """A key among the words is neither taken nor repeated."""
    with pytest.raises(Stop, match="never the key itself") as caught:
        run("login", "--api-key", KEY)
    assert caught.value.status is Exit.USAGE
    assert KEY[4:] not in str(caught.value)
    assert not LoginStore().path.exists()


def test_a_key_of_another_service_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key without Chutes' beginning is stored, with a note that does not show it."""
    typed(monkeypatch, "sk-something\n")
    assert run("login", "--api-key") == 0
    said = capsys.readouterr().err
    assert "does not begin with 'cpk_'" in said
    assert "something" not in said


@pytest.fixture
def app(server: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> LocalChutes:
    """The demo app, with a way back that is free."""
    back = f"http://127.0.0.1:{free_port()}/oauth-callback"
    registered = server.oauth.app(DEMO_CLIENT_ID)
    assert registered
    registered.redirect_uris.append(back)
    monkeypatch.setenv("CHUTES_OAUTH_REDIRECT_URI", back)
    monkeypatch.setenv("CHUTES_CLIENT_ID", DEMO_CLIENT_ID)
    monkeypatch.setenv("CHUTES_CLIENT_SECRET", DEMO_CLIENT_SECRET)
    return server


def visit(decision: str) -> Callable[[str], bool]:
    """A browser that presses one of the buttons."""

    def browse(url: str) -> bool:
        with httpx.Client(timeout=60) as http:
            page = http.get(url).text
            nonce = page.partition('name="nonce" value="')[2].partition('"')[0]
            form = {"nonce": nonce, "decision": decision}
            http.post(url.partition("?")[0], data=form, follow_redirects=True)
        return True

    return browse


def test_signing_in_and_out(
    app: LocalChutes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Login, status, a call, logout: and then the tokens are dead at the service and gone here."""
    monkeypatch.setattr("webbrowser.open", visit("allow"))
    assert run("login") == 0
    assert "Signed in as local." in capsys.readouterr().out
    assert run("login", "--status", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["user"], told["renews_itself"], told["kind"]) == ("local", True, "oauth")
    with ChutesClient() as client:
        assert client.chat([{"role": "user", "content": "Hi"}], model="Qwen/Qwen3-32B-TEE").content
    login = LoginStore(app.management_url).load()
    assert login
    assert login.refresh
    assert run("logout") == 0
    assert "Signed out." in capsys.readouterr().out
    assert not app.oauth.live(login.access.get_secret_value())
    assert not app.oauth.live(login.refresh.get_secret_value())
    with pytest.raises(MissingKeyError):
        ChutesClient()._credential.secret()
    assert run("logout") == 0
    assert "You were not signed in" in capsys.readouterr().out
    assert run("login", "--status") == Exit.KEY


def test_a_denial_ends_the_command(app: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Denied in the browser: the command says so with the status of a missing key, and stores nothing."""
    monkeypatch.setattr("webbrowser.open", visit("deny"))
    with pytest.raises(Stop, match="denied in the browser") as caught:
        run("login")
    assert caught.value.status is Exit.KEY
    assert not LoginStore(app.management_url).path.exists()


def test_without_a_browser_the_address_is_printed_and_the_answer_pasted(
    app: LocalChutes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--no-browser opens none; what is said is no part of the result, and a pasted answer is enough."""
    notes: queue.Queue[str] = queue.Queue()

    class Pasting(io.StringIO):
        """A user who waits for the address, goes there elsewhere, and pastes what that browser was sent to."""

        def __iter__(self) -> Any:
            url = next(note for note in iter(notes.get, None) if note.startswith("http"))
            page = httpx.get(url, timeout=60).text
            nonce = page.partition('name="nonce" value="')[2].partition('"')[0]
            sent = httpx.post(url.partition("?")[0], data={"nonce": nonce, "decision": "allow"}, timeout=60)
            yield sent.headers["location"] + "\n"

    monkeypatch.setattr("webbrowser.open", lambda url: pytest.fail("opened"))
    monkeypatch.setattr(Out, "note", lambda out, *parts: notes.put("".join(parts)))
    monkeypatch.setattr(sys, "stdin", Pasting())
    assert run("login", "--no-browser", "--json") == 0
    assert json.loads(capsys.readouterr().out)["user"] == "local"


def test_a_login_that_does_not_renew_itself_says_when_it_ends(
    app: LocalChutes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the client's secret signing in works, and its end is announced."""
    monkeypatch.delenv("CHUTES_CLIENT_SECRET")
    monkeypatch.setenv("CHUTES_OAUTH_SCOPES", "profile")
    monkeypatch.setattr("webbrowser.open", visit("allow"))
    assert run("login") == 0
    said = capsys.readouterr().err
    assert "cannot be renewed without CHUTES_CLIENT_SECRET" in said
    assert "its scope lacks chutes:invoke" in said


def test_without_an_app_the_command_says_how_to_get_one(server: LocalChutes) -> None:
    """No client id: what to set, and that a key will do."""
    with pytest.raises(Stop, match=r"CHUTES_CLIENT_ID.*--api-key"):
        run("login")


def test_logging_out_of_a_service_that_is_away(
    app: LocalChutes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The login is deleted here in any case; that the service still takes it is said, and is a failure."""
    monkeypatch.setattr("webbrowser.open", visit("allow"))
    run("login")
    with app.refusing():
        assert run("logout") == Exit.UNREACHABLE
    assert "could not be revoked" in capsys.readouterr().err
    assert not LoginStore(app.management_url).path.exists()


def test_logging_out_with_a_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A key is deleted here and lives on at the service, and the command says so."""
    typed(monkeypatch, f"{KEY}\n")
    run("login", "--api-key")
    assert run("logout") == 0
    assert "stays valid until you delete it at Chutes" in capsys.readouterr().out


def test_a_damaged_login_can_be_logged_out_of(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be read is deleted, with a word about it; until then every use says what to do."""
    store = LoginStore()
    store.folder.mkdir(parents=True)
    store.path.write_text("{")
    with pytest.raises(Stop, match="damaged"):
        run("login", "--status")
    assert run("logout") == 0
    assert "damaged" in capsys.readouterr().err
    assert not store.path.exists()
