"""Sign in with Chutes as a person does: the command in a process of its own, a real Chromium at the consent page."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from chutes_core import ChutesClient
from chutes_core.login import LoginEndedError, LoginStore
from chutes_core.login.pkce import OAuthApp, SignIn
from chutes_core.secrets.secret import Secret
from chutes_local import LocalChutes
from chutes_local.world.oauth import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET
from tests.ports import free_port

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium: apt-get install chromium chromium-driver"
)
# Without these Chromium looks for Google's hosts at every start; a sandbox is not to be had as root.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)
HELLO = [{"role": "user", "content": "one two three"}]
MODEL = "Qwen/Qwen3-32B-TEE"
# Where a browser or a command takes this long, in seconds, it hangs.
PATIENCE = 120


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One Chromium for all tests here."""
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(CHROMIUM)
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.set_page_load_timeout(PATIENCE)
    driver.implicitly_wait(PATIENCE)  # an address changes before its page is there
    try:
        yield driver
    finally:
        driver.quit()


@dataclass
class Command:
    """``chutes-connect login --no-browser`` in a process of its own."""

    process: subprocess.Popen[str]
    url: str = ""
    said: str = ""

    def paste(self, line: str) -> None:
        """Type a line into its standard input."""
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: the status, the result, and what else was said."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, self.said + err

    def stop(self) -> None:
        """End it where the test did not, which has failed then."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@dataclass
class Desk:
    """A terminal and a browser before one service."""

    server: LocalChutes
    browser: Any
    store: LoginStore
    commands: list[Command] = field(default_factory=list)

    def start(self, *words: str) -> Command:
        """Start signing in, and wait until the address is there."""
        login = [sys.executable, "-m", "chutes_cli", "login", "--no-browser", *words]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = Command(subprocess.Popen(login, text=True, env=dict(os.environ), **pipes))  # type: ignore[call-overload]
        self.commands.append(command)
        assert command.process.stderr
        for line in command.process.stderr:
            command.said += line
            if line.startswith("http"):
                command.url = line.strip()
                return command
        raise AssertionError(command.end())

    def decide(self, url: str, decision: str) -> str:
        """Open the consent page, press a button, and read the page that the browser ends at."""
        self.browser.get(url)
        assert "Local demo" in self.browser.page_source
        self.press(decision)
        return self.heading()

    def press(self, decision: str) -> None:
        """Press a button of the consent page, and wait until the browser is sent back."""
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.wait import WebDriverWait

        with suppress(WebDriverException):  # the driver may complain where nobody is there to come back to
            self.browser.find_element(By.CSS_SELECTOR, f"button[value={decision}]").click()
        WebDriverWait(self.browser, PATIENCE).until(lambda driver: "/oauth-callback" in driver.current_url)

    def heading(self) -> str:
        from selenium.webdriver.common.by import By

        return str(self.browser.find_element(By.TAG_NAME, "h1").text)


@pytest.fixture
def desk(server: LocalChutes, browser: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The demo app with a way back at a free port, and the environment that leads there."""
    back = f"http://127.0.0.1:{free_port()}/oauth-callback"
    app = server.oauth.app(DEMO_CLIENT_ID)
    assert app
    app.redirect_uris.append(back)
    settings = {name: value for name, value in server.env.items() if name != "CHUTES_API_KEY"}
    settings |= {"CHUTES_CLIENT_ID": DEMO_CLIENT_ID, "CHUTES_CLIENT_SECRET": DEMO_CLIENT_SECRET}
    for name, value in {**settings, "CHUTES_OAUTH_REDIRECT_URI": back}.items():
        monkeypatch.setenv(name, value)
    at = Desk(server, browser, LoginStore(server.management_url))
    yield at
    for command in at.commands:
        command.stop()
    with server.refusing():  # which ends the connections that the browser keeps
        pass


def sign_in(desk: Desk) -> None:
    command = desk.start()
    assert desk.decide(command.url, "allow") == "Chutes has answered"
    assert command.end()[0] == 0


def test_access_is_allowed(desk: Desk) -> None:
    """Allow in the browser: the command ends well, the login is private, and a client needs no variable."""
    command = desk.start("--json")
    assert desk.decide(command.url, "allow") == "Chutes has answered"
    status, out, err = command.end()
    assert status == 0, err
    told = json.loads(out)
    assert (told["signed_in"], told["user"], told["renews_itself"]) == (True, "local", True)
    login = desk.store.load()
    assert login
    assert login.access.get_secret_value() not in out + err
    with ChutesClient() as client:
        assert "one two three" in client.chat(HELLO, model=MODEL).content


def test_access_is_denied(desk: Desk) -> None:
    """Deny in the browser: both ends say so, and nothing is stored."""
    command = desk.start()
    assert desk.decide(command.url, "deny") == "Not signed in"
    status, _, err = command.end()
    assert status == 3
    assert "denied in the browser" in err
    assert desk.store.load() is None


def test_another_sign_ins_answer(desk: Desk) -> None:
    """A forged answer is turned away in the browser and told of; the command waits on for the right one."""
    command = desk.start()
    back = os.environ["CHUTES_OAUTH_REDIRECT_URI"]
    desk.browser.get(f"{back}?code=forged&state=wrong")
    assert desk.heading() == "Not signed in"
    assert "belongs to another sign-in" in desk.browser.page_source
    assert desk.decide(command.url, "allow") == "Chutes has answered"
    status, _, err = command.end()
    assert status == 0
    assert "belongs to another sign-in" in err


def test_a_replayed_answer(desk: Desk) -> None:
    """The browser's address from one sign-in buys nothing in a second one, by state nor by its bare code."""
    sign_in(desk)
    used = desk.browser.current_url
    desk.store.delete()
    command = desk.start()
    desk.browser.get(used)
    assert desk.heading() == "Not signed in"
    code = used.partition("code=")[2].partition("&")[0]
    command.paste(code)
    status, _, err = command.end()
    assert status == 3
    assert "rejected this code" in err
    assert desk.store.load() is None


def test_an_answer_pasted_from_another_machine(desk: Desk) -> None:
    """A browser that cannot come back, being elsewhere, still shows the address that is to be pasted."""
    port = int(os.environ["CHUTES_OAUTH_REDIRECT_URI"].split(":")[2].partition("/")[0])
    with socket.create_server(("127.0.0.1", port)):
        command = desk.start()
    desk.browser.get(command.url)
    desk.press("allow")
    command.paste(desk.browser.current_url)
    status, out, err = command.end()
    assert status == 0, err
    assert "Only a pasted answer" in err
    assert "Signed in as local." in out


def test_an_expired_token_is_renewed(desk: Desk) -> None:
    """An hour later the next call renews the login and goes through."""
    sign_in(desk)
    before = desk.store.load()
    assert before
    desk.server.clock.advance(3601)
    desk.store.save(replace(before, expires_at=time.time() - 1))
    with ChutesClient() as client:
        assert client.chat(HELLO, model=MODEL).content
    after = desk.store.load()
    assert after
    assert after.access != before.access
    assert after.refresh != before.refresh


@pytest.mark.parametrize("how", ["stolen", "expired"])
def test_a_refresh_token_that_is_lost(desk: Desk, how: str) -> None:
    """A refresh token that somebody else used, or that is too old, ends the login; signing in again mends it."""
    sign_in(desk)
    login = desk.store.load()
    assert login
    assert login.refresh
    if how == "stolen":
        desk.server.oauth.refresh(login.refresh.get_secret_value(), DEMO_CLIENT_ID, DEMO_CLIENT_SECRET)
    else:
        desk.server.clock.advance(31 * 24 * 3600)
    desk.store.save(replace(login, expires_at=time.time() - 1))
    with ChutesClient() as client:
        with pytest.raises(LoginEndedError, match="was used by someone else"):
            client.chat(HELLO, model=MODEL)
        sign_in(desk)
        assert client.chat(HELLO, model=MODEL).content


def test_an_expired_code(desk: Desk) -> None:
    """A code that was not traded within ten minutes is refused."""
    attempt = SignIn(desk.server.management_url, OAuthApp.from_environment())
    desk.browser.get(attempt.url)
    desk.press("allow")
    answer = attempt.read(desk.browser.current_url)
    assert isinstance(answer.code, Secret)
    desk.server.clock.advance(601)
    with pytest.raises(ValueError, match="valid once, for ten minutes"):
        attempt.finish(answer.code)


def test_the_folder_of_logins_is_this_tests_own(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test can read or replace a login of the machine's user."""
    assert desk.store.folder.is_relative_to(Path(tmp_path_factory.getbasetemp()))
