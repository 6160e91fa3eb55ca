"""Addresses and time limits: where they come from, and what is refused."""

from __future__ import annotations

import pytest

from chutes_core.errors import ConfigurationError
from chutes_core.settings import Settings, TimeLimits

NAMES = {
    "base_url": "CHUTES_BASE_URL",
    "embedding_base_url": "CHUTES_EMBEDDING_BASE_URL",
    "management_url": "CHUTES_MANAGEMENT_URL",
}


def test_the_services_own_addresses() -> None:
    """With nothing given, the gateway and the management host are the service's, and embeddings go by model."""
    assert Settings.resolve(env={}) == Settings(
        "https://llm.chutes.ai/v1", embedding_base_url=None, management_url="https://api.chutes.ai"
    )


@pytest.mark.parametrize(("name", "variable"), NAMES.items())
def test_argument_before_environment_before_default(name: str, variable: str) -> None:
    """Each address comes from its argument, else from its variable, else it is the service's own."""
    env = {variable: "http://env.test/v1"}
    assert getattr(Settings.resolve(**{name: "http://arg.test/v1"}, env=env), name) == "http://arg.test/v1"
    assert getattr(Settings.resolve(env=env), name) == "http://env.test/v1"
    assert getattr(Settings.resolve(env={variable: ""}), name) == getattr(Settings(), name)


def test_the_real_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without another one, the environment of the process counts."""
    monkeypatch.setenv("CHUTES_BASE_URL", "http://127.0.0.1:8000/v1")
    assert Settings.resolve().base_url == "http://127.0.0.1:8000/v1"


def test_the_ambiguous_variable_is_not_read() -> None:
    """CHUTES_API_URL, which means different hosts to different programs, changes nothing."""
    assert Settings.resolve(env={"CHUTES_API_URL": "http://elsewhere.test"}) == Settings()


@pytest.mark.parametrize("given", ["http://h.test/v1/", " http://h.test/v1 ", "http://h.test/v1//"])
def test_an_address_is_put_right(given: str) -> None:
    """Blanks around an address and slashes at its end go."""
    assert Settings.resolve(base_url=given, env={}).base_url == "http://h.test/v1"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("llm.chutes.ai/v1", "must be an http"),
        ("ftp://h.test", "must be an http"),
        ("http://", "must be an http"),
        ("   ", "must be an http"),
        ("http://[::1", "must be an http"),
        ("http://h.test:99999/v1", "must be an http"),
        ("http://h.test:port/v1", "must be an http"),
        ("http://h.test:0/v1", "must be an http"),
        (b"http://h.test/v1", "not bytes"),
        ("https://me:secret@h.test/v1", "must not contain a user or password"),
        ("https://:secret@h.test/v1", "must not contain a user or password"),
        ("https://h.test/v1?key=1", "must end at its path: https://h.test/v1$"),
        ("https://h.test/v1#top", "must end at its path"),
    ],
)
def test_what_is_no_address_is_refused(given: str, words: str) -> None:
    """The error names the setting and what it should be."""
    with pytest.raises(ConfigurationError, match=f"^management_url .*{words}"):
        Settings.resolve(management_url=given, env={})


@pytest.mark.parametrize(
    ("given", "secret"),
    [("cpk_0123.4567", "0123"), ("me:pass word@h.test", "word"), ("ftp://me:secret@h.test", "secret")],
)
def test_a_secret_in_the_wrong_place_is_not_shown(given: str, secret: str) -> None:
    """A key or password given as an address is refused without being repeated."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.resolve(base_url=given, env={})
    assert secret not in str(caught.value)


def test_limits_by_default() -> None:
    """Everything but the whole of a stream is bounded, and a reply in one piece is waited for 600 s."""
    limits = TimeLimits.of(None)
    assert (limits.connect, limits.first_token, limits.gap, limits.total) == (10.0, 300.0, 120.0, None)
    assert limits.whole == 600.0


def test_a_number_limits_the_whole_call() -> None:
    """`timeout=30` is the limit of the call, and the other limits stay."""
    limits = TimeLimits.of(30)
    assert (limits.total, limits.whole, limits.connect) == (30, 30, 10.0)


def test_limits_are_taken_as_they_are() -> None:
    """TimeLimits pass through; None waits for ever."""
    limits = TimeLimits(connect=None, first_token=None, gap=None, total=None)
    assert TimeLimits.of(limits) is limits


@pytest.mark.parametrize("name", ["connect", "first_token", "gap", "total"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "30"])
def test_a_limit_that_cannot_be_kept_is_refused(name: str, value: float) -> None:
    """Zero, less, no number, or endless by another name than None: the error says which limit and what it was."""
    with pytest.raises(ConfigurationError, match=f"{name!r} must be a positive number.*not {value!r}"):
        TimeLimits(**{name: value})
