"""Keys: where they come from, when they are refused, and that nothing shows them."""

from __future__ import annotations

import asyncio
import copy
import functools
import pickle
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from chutes_core.auth import Credential
from chutes_core.errors import ChutesWarning, ConfigurationError, MissingKeyError
from chutes_core.secrets.secret import Secret

KEY = "cpk_" + "0123456789abcdef"
TOKEN = "cak_" + "fedcba9876543210"
BOTH = {"CHUTES_API_KEY": KEY, "CHUTES_OAUTH_TOKEN": TOKEN}


@dataclass(frozen=True)
class Holder:
    secret: Secret


def plain(credential: Credential) -> str:
    return credential.secret().get_secret_value()


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        "{!r}".format,
        "%s".__mod__,
        lambda secret: repr([secret]),
        lambda secret: repr(Holder(secret)),
        lambda secret: repr(asdict(Holder(secret))),
        lambda secret: repr([copy.copy(secret), copy.copy(Holder(secret))]),
        lambda secret: repr(copy.deepcopy({"key": secret})),
        lambda secret: repr(getattr(secret, "__dict__", {})),
    ],
)
def test_a_secret_does_not_show_itself(show: Callable[[object], str]) -> None:
    """However a secret is written out, alone or inside something else, its text is not there."""
    assert KEY[4:] not in show(Secret(KEY))


def test_the_repr_tells_what_sort_of_key_it_is() -> None:
    """A key and a token can be told apart; of any other text nothing is shown."""
    assert [repr(Secret(text)) for text in (KEY, TOKEN, "hunter2")] == [
        "Secret('cpk_****')",
        "Secret('cak_****')",
        "Secret('****')",
    ]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(protocol: int) -> None:
    """A secret never gets into a pickle, and the error says where the other side finds its key."""
    with pytest.raises(TypeError, match="from the environment"):
        pickle.dumps(Secret(KEY), protocol)


def test_secrets_compare_by_their_text() -> None:
    """Equal keys are equal secrets, and a secret is not equal to its text."""
    assert Secret(KEY) == Secret(KEY)
    assert hash(Secret(KEY)) == hash(Secret(KEY))
    assert Secret(KEY) != Secret(TOKEN)
    assert Secret(KEY) != KEY


@pytest.mark.parametrize(
    "given", [KEY, f" {KEY}\n", Secret(KEY), SecretStr(KEY), lambda: KEY, lambda: SecretStr(KEY), lambda: Secret(KEY)]
)
def test_every_form_of_a_key(given: Any) -> None:
    """A text, a SecretStr, a Secret, or a function that gives one of them."""
    assert plain(Credential(given, env={})) == KEY


@pytest.mark.parametrize(
    ("given", "env", "found"),
    [
        (KEY, BOTH, KEY),
        ("cpk_other", BOTH, "cpk_other"),
        (None, BOTH, TOKEN),
        (None, {"CHUTES_API_KEY": KEY}, KEY),
        (None, {"CHUTES_API_KEY": KEY, "CHUTES_OAUTH_TOKEN": "  "}, KEY),
        (None, {"CHUTES_API_KEY": f"{KEY}\n"}, KEY),
    ],
)
def test_argument_before_token_before_key(given: str | None, env: dict[str, str], found: str) -> None:
    """The argument wins over CHUTES_OAUTH_TOKEN, which wins over CHUTES_API_KEY."""
    assert plain(Credential(given, env=env)) == found


def test_the_environment_is_asked_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is set after the client was made is found."""
    credential = Credential()
    monkeypatch.setenv("CHUTES_API_KEY", KEY)
    assert plain(credential) == KEY
    monkeypatch.setenv("CHUTES_OAUTH_TOKEN", TOKEN)
    assert plain(credential) == TOKEN


@pytest.mark.parametrize("env", [{}, {"CHUTES_API_KEY": ""}, {"CHUTES_API_KEY": " "}, {"OPENAI_API_KEY": KEY}])
async def test_without_a_key_nothing_is_sent(env: dict[str, str]) -> None:
    """No key is an error at once, and it says what to pass or set."""
    credential = Credential(env=env)
    with pytest.raises(MissingKeyError, match=r"api_key=.*CHUTES_API_KEY.*CHUTES_OAUTH_TOKEN"):
        credential.secret()
    with pytest.raises(MissingKeyError):
        await credential.asecret()


@pytest.mark.parametrize("key", ["", " \n"])
def test_an_empty_key_is_a_missing_one(key: str) -> None:
    """An empty argument is not replaced by a key from the environment, nor is what a function returns."""
    with pytest.raises(MissingKeyError):
        Credential(key, env=BOTH)
    with pytest.raises(MissingKeyError):
        Credential(lambda: key, env=BOTH).secret()


BROKEN = [
    (f"{KEY} {KEY}", "spaces"),
    (f"Bearer {KEY}", "spaces"),
    (f"{KEY}\nX-Other: 1", "line breaks"),
    (f"{KEY}…", "non-ASCII"),
    (f"{KEY}\x00", "characters"),
    (SecretStr(f"{KEY}…"), "non-ASCII"),
    (Secret(f"{KEY}…"), "non-ASCII"),
    (Secret(f"{KEY}\nX-Other: 1"), "line breaks"),
    (Secret(""), "No Chutes key"),
    (KEY.encode(), "not bytes"),
    (7, "not int"),
]


@pytest.mark.parametrize(("given", "words"), BROKEN)
def test_a_key_that_cannot_be_sent_is_refused(given: Any, words: str) -> None:
    """What would break the header is refused at the door, without being shown."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        Credential(given, env={})
    assert KEY[4:] not in str(caught.value)


@pytest.mark.parametrize(("given", "words"), [*BROKEN, (None, "NoneType"), ("", "No Chutes key")])
async def test_what_a_function_gives_is_checked_too(given: Any, words: str) -> None:
    """A function's key is held to the same, blocking and async."""
    credential = Credential(lambda: given, env={})
    with pytest.raises(ConfigurationError, match=words):
        credential.secret()
    with pytest.raises(ConfigurationError, match=words):
        await credential.asecret()


def frames(error: BaseException, *, of: str = "") -> str:
    """The traceback with the variables of each frame, but those of the test itself and its helper."""
    trace = error.__traceback__
    while trace is not None and (
        trace.tb_frame.f_code.co_name.startswith("test_") or trace.tb_frame.f_code.co_name == of
    ):
        trace = trace.tb_next
    inner = error.with_traceback(trace)
    return "".join(traceback.TracebackException.from_exception(inner, capture_locals=True).format())


def once(value: Any) -> Callable[[], Any]:
    """A function that hands a key over and does not keep it."""
    return iter([value]).__next__


async def refuse(given: str, way: str) -> None:
    """Bring a key in on one of the ways."""
    match way:
        case "argument":
            Credential(given, env={})
        case "variable":
            Credential(env={"CHUTES_OAUTH_TOKEN": given}).secret()
        case "function":
            Credential(once(given), env={}).secret()
        case "async":
            await Credential(once(given), env={}).asecret()


@pytest.mark.parametrize("way", ["argument", "variable", "function", "async"])
@pytest.mark.parametrize("given", [f"{KEY} x", f"{KEY}\nX: 1", f"{KEY}…"])
async def test_no_traceback_shows_a_refused_key(given: str, way: str) -> None:
    """Wherever a refused key came from, not even the variables of the frames that the refusal passes show it."""
    with pytest.raises(ConfigurationError) as caught:
        await refuse(given, way)
    shown = frames(caught.value, of="refuse")
    assert "auth.py" in shown
    assert KEY[4:] not in shown


def test_no_traceback_shows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key is reported without a frame that holds everything else in the environment."""
    monkeypatch.setenv("SOME_OTHER_PASSWORD", "hunter2-hunter2")
    with pytest.raises(MissingKeyError) as caught:
        Credential().secret()
    assert "hunter2" not in frames(caught.value)


@pytest.mark.parametrize("given", ["sk-something", SecretStr("sk-something")])
def test_a_key_of_another_service_is_warned_of(given: Any) -> None:
    """A key without Chutes' beginning is used, with a warning that does not show it."""
    with pytest.warns(ChutesWarning, match="does not begin with 'cpk_' or 'cak_'") as caught:
        credential = Credential(given, env={})
    assert "sk-something" not in str(caught[0].message)
    assert plain(credential) == "sk-something"


def test_a_strange_key_from_the_environment_is_warned_of() -> None:
    """The warning comes when the key is looked up."""
    credential = Credential(env={"CHUTES_API_KEY": "sk-something"})
    with pytest.warns(ChutesWarning, match="does not begin"):
        assert plain(credential) == "sk-something"


def test_a_function_is_asked_each_time() -> None:
    """A function may give a fresh token for every call, and the credential says so."""
    tokens = iter(["cak_one", "cak_two"])
    credential = Credential(lambda: next(tokens), env={})
    assert credential.renewable
    assert [plain(credential), plain(credential)] == ["cak_one", "cak_two"]
    assert not Credential(KEY).renewable
    assert not Credential(env=BOTH).renewable


async def given_async() -> str:
    await asyncio.sleep(0)
    return TOKEN


class CallableObject:
    async def __call__(self) -> str:
        return await given_async()


@pytest.mark.parametrize(
    "given",
    [given_async, functools.partial(given_async), lambda: given_async(), CallableObject()],
    ids=["function", "partial", "lambda", "object"],
)
async def test_an_async_function(given: Any) -> None:
    """An async function serves the async client in whatever wrapping it comes, and the blocking one refuses it."""
    credential = Credential(given, env={})
    assert (await credential.asecret()).get_secret_value() == TOKEN
    with pytest.raises(ConfigurationError, match="use the async client"):
        credential.secret()


async def test_another_kind_of_awaitable() -> None:
    """What can only be awaited is refused by the blocking client, a coroutine or not."""
    future = asyncio.get_running_loop().create_future()
    future.set_result(TOKEN)
    credential = Credential(lambda: future, env={})
    with pytest.raises(ConfigurationError, match="use the async client"):
        credential.secret()


async def test_a_blocking_function_does_not_hold_up_the_event_loop() -> None:
    """A plain function runs in another thread when the client is async."""
    seen: list[int] = []

    def fetch() -> str:
        seen.append(threading.get_ident())
        return KEY

    assert (await Credential(fetch, env={}).asecret()).get_secret_value() == KEY
    assert seen != [threading.get_ident()]


async def test_a_literal_key_serves_the_async_client_too() -> None:
    """Literal keys and those of the environment are the same for both clients."""
    assert (await Credential(KEY, env={}).asecret()).get_secret_value() == KEY
    assert (await Credential(env=BOTH).asecret()).get_secret_value() == TOKEN


def test_an_error_of_the_function_is_the_callers_own() -> None:
    """What a key function raises is not disguised."""

    def fail() -> str:
        raise LookupError("vault is locked")

    with pytest.raises(LookupError, match="vault is locked"):
        Credential(fail, env={}).secret()


def fetch_key() -> str:
    return KEY


def test_a_pickled_credential_leaves_the_key_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another process a credential looks into the environment there; a function goes along."""
    data = pickle.dumps(Credential(KEY))
    assert KEY[4:].encode() not in data
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_there")
    assert plain(pickle.loads(data)) == "cpk_there"
    made = Credential(functools.partial(str, "cpk_made"), named={"https://gateway.example"})
    there = pickle.loads(pickle.dumps(made)).secret()
    assert (there.get_secret_value(), there.places) == ("cpk_made", {"https://gateway.example"})
    assert KEY[4:].encode() not in pickle.dumps(Credential(env=BOTH))


def test_a_copied_credential_keeps_the_key() -> None:
    """Inside one process copies are as good as the original."""
    credential = Credential(KEY, env={})
    assert plain(copy.deepcopy({"c": credential})["c"]) == plain(copy.copy(credential)) == KEY


def test_a_credential_says_where_its_key_comes_from() -> None:
    """The repr tells the source and no key, and neither do the object's attributes."""
    assert repr(Credential(KEY)) == "Credential('cpk_****')"
    assert repr(Credential(fetch_key)) == "Credential(from a function)"
    assert repr(Credential()) == "Credential(from the environment)"
    assert KEY[4:] not in repr(vars(Credential(KEY)))
