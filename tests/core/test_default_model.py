"""The model to ask where none is named: where it comes from, and who asks it."""

from __future__ import annotations

import os
import stat

import httpx
import pytest

from chutes_core import AsyncChutesClient, ChutesClient, ConfigurationError
from chutes_core.default_model import DefaultModel, find, forget, kept_in, store
from chutes_core.testing import FaultyTransport

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, which no test here sends anywhere."""
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_fake")


def test_the_variable_wins_over_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """CHUTES_MODEL goes before the file, and counts as not set where it names nothing."""
    assert find() is None
    store(["acme/stored", "acme/other"])
    assert find() == DefaultModel(("acme/stored", "acme/other"), str(kept_in()))
    monkeypatch.setenv("CHUTES_MODEL", "acme/one, acme/two ,acme/one")
    assert find() == DefaultModel(("acme/one", "acme/two"), "CHUTES_MODEL")
    monkeypatch.setenv("CHUTES_MODEL", " ,")
    assert find() == DefaultModel(("acme/stored", "acme/other"), str(kept_in()))


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_what_is_stored_is_its_owner_s_alone() -> None:
    """The file is 0600 in a folder of 0700, also where the umask would allow more; forgetting deletes it."""
    before = os.umask(0)
    try:
        path = store(["acme/one"])
    finally:
        os.umask(before)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o600, 0o700]
    assert [each.name for each in path.parent.iterdir()] == ["model.json"]
    assert (forget(), forget(), find()) == (True, False, None)


@pytest.mark.parametrize(
    "text", ["{", "[]", "null", '{"models": 3}', '{"models": ["a"]}', "{}", "\xff", "[" * 100_000], ids=range(8)
)
def test_a_damaged_file_is_named_with_the_way_out(text: str) -> None:
    """What cannot be read is an error that says where it is and what to do, and an argument needs no file."""
    store(["acme/one"])
    kept_in().write_text(text, "latin-1")
    with pytest.raises(ConfigurationError, match=r"model\.json cannot be read \(it is damaged\): set CHUTES_MODEL"):
        find()


async def test_a_client_looks_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call without a model asks the default one of that moment, in all four ways; an empty name is no default."""
    sync, asynchronous = FaultyTransport(), FaultyTransport()
    with httpx.Client(transport=sync) as http:
        client = ChutesClient(http_client=http)
        with pytest.raises(ConfigurationError, match="No model was named"):
            client.chat(HELLO)
        monkeypatch.setenv("CHUTES_MODEL", "acme/one,acme/two")
        client.chat(HELLO)
        monkeypatch.setenv("CHUTES_MODEL", "acme/two")
        list(client.stream(HELLO))
        with pytest.raises(ConfigurationError, match="must be the name of a model"):
            client.chat(HELLO, model="")
    assert [request.model for request in sync.requests] == ["acme/one", "acme/two"]
    async with httpx.AsyncClient(transport=asynchronous) as http_async:
        other = AsyncChutesClient(http_client=http_async)
        await other.chat(HELLO)
        async for _ in other.stream(HELLO):
            pass
    assert [request.model for request in asynchronous.requests] == ["acme/two", "acme/two"]
