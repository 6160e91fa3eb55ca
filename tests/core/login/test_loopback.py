"""The server that the browser comes back to, and the wait for it."""

from __future__ import annotations

import io
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from chutes_core.login.browser import await_code
from chutes_core.login.errors import CannotListenError, LoginError
from chutes_core.login.loopback import Loopback
from chutes_core.login.pkce import Answer, SignIn
from chutes_core.secrets.secret import Secret
from tests.core.login.conftest import APP
from tests.ports import free_port


@dataclass
class Attempt:
    """A sign-in whose way back is free, and what was said meanwhile."""

    sign_in: SignIn
    notes: list[str] = field(default_factory=list)

    @property
    def back(self) -> str:
        return self.sign_in.app.redirect_uri

    @property
    def state(self) -> str:
        return parse_qs(urlsplit(self.sign_in.url).query)["state"][0]

    def wait(self, show: Callable[[str], object], **options: object) -> Secret:
        settings = {"note": self.notes.append, "seconds": 60.0, **options}
        return await_code(self.sign_in, show=show, **settings)  # type: ignore[arg-type]


@pytest.fixture
def attempt() -> Attempt:
    app = replace(APP, redirect_uri=f"http://127.0.0.1:{free_port()}/oauth-callback")
    return Attempt(SignIn("https://api.chutes.ai", app))


def get(url: str, **query: str) -> httpx.Response:
    return httpx.get(url, params=query, timeout=60)


def test_the_browser_brings_the_code(attempt: Attempt) -> None:
    """The code is taken, and the page that the browser ends at says so, is not kept, and refers to nobody."""
    pages: list[httpx.Response] = []
    code = attempt.wait(lambda url: pages.append(get(attempt.back, code="c0de", state=attempt.state)))
    assert code.get_secret_value() == "c0de"
    assert pages[0].status_code == 200
    assert "go back to the terminal" in pages[0].text
    assert "c0de" not in pages[0].text
    assert pages[0].headers["cache-control"] == "no-store"
    assert pages[0].headers["referrer-policy"] == "no-referrer"


def test_a_wrong_state_is_told_and_waited_past(attempt: Attempt) -> None:
    """An answer with another state is no answer: the browser and the terminal say so, and the right one counts."""
    pages: list[httpx.Response] = []

    def show(url: str) -> None:
        pages.append(get(attempt.back, code="evil", state="other"))
        pages.append(get(attempt.back, code="evil"))
        pages.append(get(attempt.back, error="access_denied", state="other"))
        pages.append(get(attempt.back, error="access_denied"))
        pages.append(get(attempt.back, code="c0de", state=attempt.state))

    assert attempt.wait(show).get_secret_value() == "c0de"
    assert [page.status_code for page in pages] == [400, 400, 400, 400, 200]
    assert all("another sign-in" in page.text for page in pages[:4])
    assert all("another sign-in" in note for note in attempt.notes)


def test_a_denial_ends_the_wait(attempt: Attempt) -> None:
    """Whoever denies access is believed at once, in the browser and in the terminal."""
    pages: list[httpx.Response] = []
    with pytest.raises(LoginError, match="denied in the browser"):
        attempt.wait(lambda url: pages.append(get(attempt.back, error="access_denied", state=attempt.state)))
    assert pages[0].status_code == 400
    assert "Nothing was stored" in pages[0].text


def test_what_a_page_says_is_escaped(attempt: Attempt) -> None:
    """Nothing that comes in an address becomes part of the page."""
    pages: list[httpx.Response] = []
    with pytest.raises(LoginError):
        attempt.wait(lambda url: pages.append(get(attempt.back, error="<script>x</script>", state=attempt.state)))
    assert "<script>" not in pages[0].text
    back = f"http://127.0.0.1:{free_port()}/back"
    with Loopback(back, lambda query: Answer(problem=f"<b>{query}"), lambda answer: None):
        assert "<p>&lt;b&gt;/back?error=" in get(back, error="<b>").text


def test_other_addresses_and_idle_connections_do_not_matter(attempt: Attempt) -> None:
    """A browser asks for its icon and opens connections that it does not use; neither holds up the answer."""

    def show(url: str) -> None:
        port = int(attempt.back.split(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            assert get(f"http://127.0.0.1:{port}/favicon.ico").status_code == 404
            get(attempt.back, code="c0de", state=attempt.state)

    assert attempt.wait(show).get_secret_value() == "c0de"
    with pytest.raises(httpx.ConnectError):
        get(attempt.back)


def asking(attempt: Attempt, path: str = "") -> socket.socket:
    """A browser that has sent its request and not read anything yet."""
    port = int(attempt.back.split(":")[2].partition("/")[0])
    browser = socket.create_connection(("127.0.0.1", port), timeout=60)
    browser.sendall(f"GET {path or '/oauth-callback?code=c0de'} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return browser


def page_of(browser: socket.socket) -> str:
    """What it reads until the end."""
    return b"".join(iter(lambda: browser.recv(65536), b"")).decode()


def test_the_browser_has_its_page_before_anybody_has_the_answer(attempt: Attempt) -> None:
    """Whoever takes the answer may end the program at once, and the page is there nevertheless."""
    there: list[object] = []
    over = threading.Event()

    def take(answer: Answer) -> None:
        there.extend(select.select([browser], [], [], 60)[0])
        over.set()

    with Loopback(attempt.back, lambda url: Answer(code=Secret("c0de")), take), asking(attempt) as browser:
        assert over.wait(90)
    assert there == [browser]


def test_the_end_waits_for_a_page_that_is_being_written(attempt: Attempt) -> None:
    """A pasted answer may win while the browser's own is being read: its page comes whole, before the end."""
    reading, leaving = threading.Event(), threading.Event()

    def read(url: str) -> Answer:
        reading.set()
        leaving.wait(60)
        return Answer(problem="Too late.")

    with Loopback(attempt.back, read, lambda answer: None):
        browser = asking(attempt)
        assert reading.wait(60)
        leaving.set()
    with browser:
        browser.setblocking(False)
        assert "Too late." in page_of(browser)


def test_whoever_has_come_is_answered_at_the_end(attempt: Attempt) -> None:
    """Requests that arrive as the wait ends are served, in any number that a browser opens, and idle ones closed."""
    with Loopback(attempt.back, lambda url: Answer(code=Secret("c0de")), lambda answer: None) as loopback:
        loopback._server.shutdown()  # from here on nothing is accepted but by the end itself
        browsers = [asking(attempt), asking(attempt, "/favicon.ico"), asking(attempt)]
        port = int(attempt.back.split(":")[2].partition("/")[0])
        idle = socket.create_connection(("127.0.0.1", port), timeout=60)
    pages = [page_of(browser) for browser in browsers]
    assert [page.split()[1] for page in pages] == ["200", "404", "200"]
    assert page_of(idle) == ""
    for each in (*browsers, idle):
        each.close()


def test_an_answer_counts_though_the_browser_left(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that hung up before its page came has brought the code nevertheless."""

    def gone(*args: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("chutes_core.login.loopback._Handler._show", gone)

    def show(url: str) -> None:
        asking(attempt, f"/oauth-callback?code=c0de&state={attempt.state}").close()

    assert attempt.wait(show).get_secret_value() == "c0de"


def test_nothing_is_printed_by_the_server(attempt: Attempt, capfd: pytest.CaptureFixture[str]) -> None:
    """The addresses that the browser asks for, with the code in them, are not logged."""
    attempt.wait(lambda url: get(attempt.back, code="c0de", state=attempt.state))
    assert capfd.readouterr() == ("", "")


def test_a_port_in_use_is_told_plainly(attempt: Attempt) -> None:
    """Before anything is shown, the port is named with three ways out."""
    port = int(attempt.back.split(":")[2].partition("/")[0])
    words = rf"Port {port} of 127.0.0.1 is in use.*CHUTES_OAUTH_REDIRECT_URI.*--no-browser"
    with socket.create_server(("127.0.0.1", port)), pytest.raises(CannotListenError, match=words):
        attempt.wait(lambda url: pytest.fail("shown"))


@pytest.mark.parametrize(
    "uri",
    ["https://127.0.0.1:1456/x", "http://127.0.0.1/x", "http://app.example:1456/x", "x", "http://[", "http://h:x"],
)
def test_a_way_back_that_is_not_on_this_machine(uri: str) -> None:
    """Only an address of this machine with a port can be listened at."""
    with pytest.raises(CannotListenError, match="must be on this machine"):
        Loopback(uri, lambda url: Answer(), lambda answer: None)


def test_nobody_answers(attempt: Attempt) -> None:
    """The wait has an end."""
    with pytest.raises(LoginError, match="No answer arrived within 0 s"):
        attempt.wait(lambda url: None, seconds=0)


@pytest.fixture
def pasted() -> Iterator[tuple[io.TextIOWrapper, Callable[[str], None]]]:
    """A standard input, and what types into it."""
    readable, writable = os.pipe()
    with os.fdopen(readable, "r") as source:
        yield source, lambda text: [os.write(writable, text.encode()), os.close(writable)][0]  # type: ignore[func-returns-value]


Pasted = tuple[io.TextIOWrapper, Callable[[str], None]]


def test_a_pasted_address(attempt: Attempt, pasted: Pasted) -> None:
    """The address that the browser could not reach is as good as the visit."""
    source, type_in = pasted
    answer = f"\n{attempt.back}?code=c0de&state={attempt.state}\n"
    assert attempt.wait(lambda url: type_in(answer), paste=source).get_secret_value() == "c0de"


def test_lines_are_tried_until_one_fits(attempt: Attempt, pasted: Pasted) -> None:
    """A wrong address is told of, and the next line counts, also without a line end behind it."""
    source, type_in = pasted
    answers = f"{attempt.back}?code=evil&state=x\n{attempt.back}?code=c0de&state={attempt.state}"
    assert attempt.wait(lambda url: type_in(answers), paste=source).get_secret_value() == "c0de"
    assert "another sign-in" in attempt.notes[0]


def test_a_text_file_without_a_descriptor(attempt: Attempt) -> None:
    """Where standard input was replaced by an object, its lines are read."""
    assert attempt.wait(lambda url: None, paste=io.StringIO("c0de\n")).get_secret_value() == "c0de"


def test_pasting_works_where_the_port_is_taken(attempt: Attempt) -> None:
    """Without a browser on this machine a taken port is a note; with nothing pasted it is the end."""
    port = int(attempt.back.split(":")[2].partition("/")[0])
    with socket.create_server(("127.0.0.1", port)):
        code = attempt.wait(lambda url: None, must_listen=False, paste=io.StringIO("c0de\n"))
        assert code.get_secret_value() == "c0de"
        assert "in use" in attempt.notes[0]
        with pytest.raises(LoginError, match="No answer was given"):
            attempt.wait(lambda url: None, must_listen=False, paste=io.StringIO(""))
