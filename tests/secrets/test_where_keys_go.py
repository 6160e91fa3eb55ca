"""Where a key goes: every source of a key, every form of an address, through every door."""

from __future__ import annotations

import asyncio
import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chutes_core import ChutesClient, FallbackClient
from chutes_core.catalog import cache
from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.errors import APIError, ConfigurationError
from chutes_core.login.store import LoginStore
from chutes_core.login.value import StoredLogin
from chutes_core.secrets.secret import Secret
from chutes_core.wire import pools

from .ways import CALLS
from .world import Service, made

KEY = "cpk_" + "0" * 40
OURS, OTHER, PLAIN = "https://llm.chutes.ai/v1", "https://gateway.example/v1", "http://gateway.example/v1"
GOES, APART, OPEN = "", "was not named together with it", "would go unencrypted"
HELLO = [{"role": "user", "content": "Hi"}]


@pytest.fixture(autouse=True)
def _any_key() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Store a login."""

    def store(key: str) -> None:
        monkeypatch.setenv("CHUTES_CONFIG_DIR", str(tmp_path))
        text, _, place = key.partition("@")
        held = Secret(text, places=[place] if place else [])
        LoginStore(folder=tmp_path).save(StoredLogin.of_key("https://api.chutes.ai", held))

    return store


# The source of the key, the key, where the address is from, the address, and what comes of it.
TABLE = [
    *((source, KEY, where, OURS, GOES) for source in ("argument", "function", "environment", "token", "login")
      for where in ("argument", "environment")),
    *((source, KEY, where, address, GOES) for source in ("argument", "environment", "login")
      for where in ("argument", "environment")
      for address in ("http://127.0.0.1:8/v1", "http://localhost:8/v1", "http://[::1]:8/v1",
                      "https://acme-embed.chutes.ai/v1", "https://LLM.chutes.ai:443/v1")),
    ("argument", KEY, "argument", OTHER, GOES),
    ("function", KEY, "argument", "https://GATEWAY.example:443/v1", GOES),
    ("argument", KEY, "environment", OTHER, APART),
    ("function", KEY, "environment", OTHER, APART),
    *((source, KEY, where, OTHER, APART) for source in ("environment", "token", "login")
      for where in ("argument", "environment")),
    *((source, KEY, where, PLAIN, OPEN) for source in ("argument", "function", "environment", "login")
      for where in ("argument", "environment")),
    *((source, f"{KEY}@https://gateway.example", where, OTHER, GOES) for source in ("argument", "environment", "login")
      for where in ("argument", "environment")),
    ("environment", f"{KEY}@gateway.example", "environment", OTHER, GOES),
    ("environment", f"{KEY}@gateway.example", "environment", "https://gateway.example:8443/v1", APART),
    ("environment", f"{KEY}@gateway.example", "environment", PLAIN, OPEN),
    ("environment", f"{KEY}@http://gateway.example", "environment", PLAIN, GOES),
    ("environment", f"{KEY}@gateway.example", "environment", OURS, GOES),
    *(("environment", KEY, "environment", address, said) for address, said in (
        ("http://llm.chutes.ai/v1", OPEN),
        ("https://llm.chutes.ai.example/v1", APART),
        ("https://evilchutes.ai/v1", APART),
        ("https://example.test/llm.chutes.ai/v1", APART),
        ("https://llm.chutes.ai./v1", APART),
        ("https://exa\\.chutes.ai/v1", APART),
        ("http://127.0.0.1.example/v1", OPEN),
        ("http://localhost.example/v1", OPEN),
        ("http://2130706433/v1", OPEN),
        ("http://0x7f.0.0.1/v1", OPEN),
        ("http://0.0.0.0:8/v1", OPEN),
        ("http://10.0.0.1/v1", OPEN),
        ("http://[::ffff:127.0.0.1]/v1", OPEN),
        ("http://[fe80::1]/v1", OPEN),
    )),
]  # fmt: skip


def asked(
    row: tuple[str, str, str, str, str], login: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> tuple[Service, dict[str, Any]]:
    """Prepare what a row says, and return the arguments that are left for the client."""
    source, key, where, address, _ = row
    given: dict[str, Any] = {}
    if source in ("argument", "function"):
        given["api_key"] = key if source == "argument" else lambda: key
    elif source == "login":
        login(key)
    else:
        monkeypatch.setenv("CHUTES_API_KEY" if source == "environment" else "CHUTES_OAUTH_TOKEN", key)
    if where == "argument":
        given["base_url"] = address
    else:
        monkeypatch.setenv("CHUTES_BASE_URL", address)
    return Service(), given


@pytest.mark.parametrize("row", TABLE, ids=[" ".join(map(str, row[:4])).replace(KEY, "key") for row in TABLE])
def test_the_table(
    row: tuple[str, str, str, str, str], login: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key goes to the service, to this machine, and to what was named with it; else nothing is sent, and why."""
    service, given = asked(row, login, monkeypatch)
    client = ChutesClient(max_retries=0, http_client=service.blocking, **given)
    refused = ""
    try:
        client.chat(HELLO, model="acme/one")
    except ConfigurationError as error:
        refused = str(error)
    assert [sent["authorization"] for sent in service.seen] == ([] if row[4] else [f"Bearer {KEY}"])
    assert row[4] in refused
    assert bool(refused) is bool(row[4])
    assert KEY not in refused


KEYLESS = [("ChutesClient", "models"), ("AsyncChutesClient", "models")]
DOORS = [(kind, method) for kind, methods in CALLS.items() for method in methods if (kind, method) not in KEYLESS]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every address is another one, as the .env file of a cloned project could say."""
    for name in ("CHUTES_BASE_URL", "CHUTES_EMBEDDING_BASE_URL", "CHUTES_MANAGEMENT_URL"):
        monkeypatch.setenv(name, OTHER)
    return monkeypatch


PAGES: dict[str, Callable[[Any], Any]] = {
    "models": lambda client: client.models(),
    "refresh_catalog": lambda client: client.refresh_catalog(),
    "utilization": lambda client: client.utilization(),
    "stats": lambda client: client.stats("2026-08-01"),
}


def _opened_up(kind: str, page: str, service: Service, **given: Any) -> None:
    asked = PAGES[page](made(kind, service, **given))
    if kind == "AsyncChutesClient":
        asyncio.run(asked)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("kind", ["ChutesClient", "AsyncChutesClient"])
def test_a_page_that_needs_no_key_takes_no_secret_header_along(
    kind: str, page: str, elsewhere: pytest.MonkeyPatch
) -> None:
    """Secret headers go where the key may go; without any, such a page is asked for anywhere, without the key."""
    service = Service()
    with pytest.raises(ConfigurationError, match=APART):
        _opened_up(kind, page, service)
    assert service.seen == []
    with suppress(APIError):  # a page that is none
        _opened_up(kind, page, service, headers={"X-Title": "me"})
    assert all("authorization" not in sent for sent in service.seen)
    anonymous = len(service.seen)
    assert anonymous
    with suppress(APIError):
        _opened_up(kind, page, service, key=f"{KEY}@gateway.example")
    with suppress(APIError):
        _opened_up(kind, page, service, base_url=OTHER, management_url=OTHER)
    assert "authorization" not in service.seen[-1]
    assert len(service.seen) >= 3 * anonymous
    assert all("x-tenant-token" in sent for sent in service.seen[anonymous:])


@pytest.mark.parametrize(("kind", "method"), DOORS)
def test_no_door_sends_a_key_where_only_a_variable_says(kind: str, method: str, elsewhere: pytest.MonkeyPatch) -> None:
    """Nothing is sent, and the failure says so; with the address behind the key it is."""
    elsewhere.setenv("CHUTES_API_KEY", KEY)
    service = Service()
    with pytest.raises(Exception, match=r"(?s)Nothing was sent.*gateway") as caught:
        CALLS[kind][method](made(kind, service, api_key=None, default_headers={}), [])
    assert service.seen == []
    assert KEY not in str(caught.value)
    elsewhere.setenv("CHUTES_API_KEY", f"{KEY}@gateway.example")
    with suppress(APIError):  # an account that is no account
        CALLS[kind][method](made(kind, service, api_key=None, default_headers={}), [])
    assert {sent["authorization"] for sent in service.seen} == {f"Bearer {KEY}"}


def test_sealed_calls(elsewhere: pytest.MonkeyPatch) -> None:
    """Asking for machines takes the key to the management address."""
    elsewhere.delenv("CHUTES_BASE_URL")
    service = Service()
    client = ChutesClient(KEY, e2ee=True, max_retries=0, http_client=service.blocking)
    with pytest.raises(ConfigurationError, match=APART):
        client.chat(HELLO, model="Qwen/Qwen3-32B-TEE")
    assert service.seen == []


def test_a_host_from_a_catalogue_that_anybody_may_write(tmp_path: Path) -> None:
    """Embeddings go to hosts of the service alone, encrypted."""
    service = Service()
    cached = cache.cache_file(tmp_path)
    rows = [{"id": f"acme/{number}", "kind": "embedding", "host": host} for number, host in enumerate(HOSTS)]
    cached.write_text(json.dumps({"schema": 1, "fetched_at": time.time(), "models": rows}))
    catalog = Catalog.load(cache_dir=tmp_path, offline=True)
    client = ChutesClient(KEY, catalog=catalog, max_retries=0, http_client=service.blocking)
    for number in range(len(HOSTS)):
        assert catalog.model(f"acme/{number}").host is None
        client.embed(["a"], model=f"acme/{number}")
    assert {sent["host"] for sent in service.seen} == {"embed.chutes.ai"}
    made_by_hand = replace(catalog, models=(ModelInfo(id="acme/one", kind="embedding", host=HOSTS[0]),))
    with pytest.raises(ConfigurationError, match=OPEN):
        ChutesClient(KEY, catalog=made_by_hand, http_client=service.blocking).embed(["a"], model="acme/one")


HOSTS = [
    "http://acme.chutes.ai/v1",
    "https://acme.chutes.ai.example/v1",
    "https://evil.example",
    "http://127.0.0.1:9/v1",
]


def test_the_sdk_given_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address alone does not take the key along; with a key of its own it is that one."""
    service = Service()
    client = made("openai_client", service, api_key=KEY, default_headers={})
    other = client.with_options(base_url=OTHER)
    with pytest.raises(Exception, match=APART):
        other.chat.completions.create(model="acme/one", messages=HELLO)
    assert service.seen == []


def test_the_sdk_s_other_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given with its address, it goes there."""
    service = Service()
    other = made("openai_client", service, api_key=KEY, default_headers={}).with_options(base_url=OTHER, api_key="own")
    other.chat.completions.create(model="acme/one", messages=HELLO)
    assert [sent["authorization"] for sent in service.seen] == ["Bearer own"]


@pytest.mark.parametrize("address", [OTHER, PLAIN])
def test_the_sdk_s_other_key_alone(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not go where only a variable says, nor unencrypted, whichever way the SDK is given it."""
    monkeypatch.setenv("CHUTES_BASE_URL", address)
    service = Service()
    client = made("openai_client", service, api_key=KEY, default_headers={})
    said = APART if address == OTHER else OPEN
    with pytest.raises(Exception, match=said):
        client.with_options(api_key="own").chat.completions.create(model="acme/one", messages=HELLO)
    with pytest.raises(Exception, match=said):
        client.with_options(api_key="own").embeddings.create(model="acme/one", input="a")
    headers = {"Authorization": "Bearer own"}
    with pytest.raises(Exception, match=said):
        client.chat.completions.create(model="acme/one", messages=HELLO, extra_headers=headers)
    with pytest.raises(Exception, match=OPEN):
        client.with_options(api_key="own", base_url=PLAIN).models.list()
    assert service.seen == []
    monkeypatch.setenv("CHUTES_BASE_URL", OURS)
    made("openai_client", service, api_key=KEY).with_options(api_key="own").models.list()
    assert [sent["authorization"] for sent in service.seen] == ["Bearer own"]


def test_members_of_a_fallback_have_their_own_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member whose address the key may not go to is skipped, and the report says why."""
    monkeypatch.setenv("CHUTES_API_KEY", KEY)
    service = Service()
    client = FallbackClient(
        [{"model": "acme/one", "base_url": OTHER}, "acme/two"], http_client=service.blocking, timeout=5
    )
    reply = client.chat(HELLO)
    assert [(each.model, each.outcome) for each in reply.attempts] == [
        ("acme/one", "skipped"),
        ("acme/two", "answered"),
    ]
    assert APART in str(reply.attempts[0])
    assert {sent["host"] for sent in service.seen} == {"llm.chutes.ai"}


def test_what_is_behind_a_key_must_be_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be part of a key, and is not repeated."""
    for wrong in ("@", "@h/path", "@ftp://h", "@h@i", "@https://h?x=1", "@https://"):
        with pytest.raises(ConfigurationError, match="behind the @") as caught:
            ChutesClient(f"{KEY}{wrong}").chat(HELLO, model="acme/one")
        assert KEY not in str(caught.value)


def test_where_it_could_read_the_key_no_proxy_is_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that the environment names could: what is for this machine, or unencrypted, goes there directly."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    client: Any = pools._client("Client")
    for url in ("http://127.0.0.1:8/v1", "http://localhost/v1", "http://[::1]:8/v1"):
        assert client._transport_for_url(pools.http_package().URL(url)) is client._transport
    assert client._transport_for_url(pools.http_package().URL(PLAIN)) is client._transport
    assert client._transport_for_url(pools.http_package().URL(OTHER)) is not client._transport
    client.close()
