"""Whichever way a secret comes in, it does not show; and where it does not come in, a call says so."""

from __future__ import annotations

import copy
import pickle
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.load import dumpd, load
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

import langchain_chutes as lc
from chutes_core import ConfigurationError
from chutes_core.scale import Embed
from chutes_core.wire import pools

from .ways import CALLS, HERE, SHOWS
from .world import ALL, HARMLESS, HEADER, HEADERS, KEY, MAKERS, MODEL, PASSWORD, TOKEN, Service, leaks, made

CLIENTS = [kind for kind in MAKERS if "client" in kind.lower()]
PLAIN_CLIENTS = ["ChutesClient", "AsyncChutesClient"]
FALLBACKS = [kind for kind in MAKERS if "Fallback" in kind]
MODELS = [kind for kind in MAKERS if kind not in CLIENTS and kind not in FALLBACKS]
SECRET = {"default_headers": ALL, "api_key": KEY}


@pytest.fixture(autouse=True)
def _any_key() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def headers_of(thing: Any) -> Any:
    """The headers of an object, or of the first member of one."""
    return (thing.members[0] if hasattr(thing, "members") else thing).default_headers


# ------------------------------------------------------------------------------------------------- ways in


def _set(thing: Any) -> Any:
    thing.default_headers, thing.api_key = dict(ALL), KEY
    return thing


def _set_one(thing: Any) -> Any:
    thing.default_headers = HARMLESS
    for name, value in HEADERS.items():
        thing.default_headers[name] = value
    return thing


WAYS_IN: Mapping[str, Callable[[Any], Any]] = {
    "set": _set,
    "set one by one": _set_one,
    "model_copy": lambda thing: thing.model_copy(update=SECRET),
    "deep model_copy": lambda thing: thing.model_copy(update=SECRET, deep=True),
    "copy": lambda thing: thing.copy(update=SECRET),
    "model_construct": lambda thing: type(thing).model_construct(
        default_headers=ALL, api_key=KEY, **({"model": MODEL} if "model" in type(thing).model_fields else {})
    ),
    "model_validate": lambda thing: type(thing).model_validate(
        {"default_headers": ALL, "api_key": KEY, "model": MODEL}
    ),
    "made of its values": lambda thing: type(thing)(
        **{**{name: thing.__dict__[name] for name in thing.model_fields_set}, "default_headers": ALL}
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way_in", WAYS_IN)
@pytest.mark.parametrize("kind", MODELS)
def test_no_way_in_goes_around_the_mask(kind: str, way_in: str) -> None:
    """Set, copied, or put in without validation: it is sent, and not shown."""
    thing = WAYS_IN[way_in](made(kind, headers=HARMLESS))
    assert headers_of(thing)[HEADER] == TOKEN
    found = {}
    for way, show in SHOWS.items():
        try:
            text = show(thing)
        except (AttributeError, TypeError, NotImplementedError, PydanticSerializationError):
            continue
        if where := leaks(text):
            found[way] = where
    assert found == {}


# ------------------------------------------------------------------------------------------------- refusals

BAD: Mapping[str, dict[str, Any]] = {
    "unknown argument": {"api_ky": KEY},
    "unknown argument with headers": {"extra_headers": ALL},
    "headers that are no mapping": {"default_headers": [TOKEN]},
    "headers that are text": {"default_headers": TOKEN},
    "a header that is no text": {"default_headers": {HEADER: [TOKEN]}},
    "a header in bytes": {"default_headers": {HEADER: TOKEN.encode()}},
    "a header with a line break": {"default_headers": {HEADER: f"{TOKEN}\nX-Other: 1"}},
    "a header with blanks": {"default_headers": {HEADER: f" {TOKEN} "}},
    "a header and value in one": {"default_headers": {f"{HEADER}: {TOKEN}": ""}},
    "a key as a header": {"default_headers": {"Authorization": f"Bearer {KEY}"}},
    "a key with a line break": {"api_key": f"{KEY}\n1"},
    "a key that is no text": {"api_key": [KEY]},
    "a key in bytes with a blank": {"api_key": KEY.encode() + b" x"},
    "a key as address": {"base_url": KEY},
    "a key in the address": {"base_url": f"https://me:{PASSWORD}@h.test/v1"},
    "a key for a name in the address": {"base_url": f"https://{PASSWORD}@h.test/v1"},
    "a key in the query": {"base_url": f"https://h.test/v1?token={TOKEN}"},
    "a key behind a hash": {"base_url": f"https://h.test/v1#{TOKEN}"},
    "a key in an odd address": {"management_url": f"ftp://me:pa/{PASSWORD}@h.test?{KEY}"},
    "a bad limit": {"timeout": -1},
    "a bad number": {"max_retries": -1},
}  # fmt: skip

TAKEN = (
    "a header in bytes",  # pydantic reads them
    "a key with a line break", "a key in bytes with a blank",  # refused at the first call
    "a bad limit",  # not by the stock clients
)  # fmt: skip


def refused(make: Callable[[], object]) -> BaseException | None:
    try:
        thing = make()
        if (client := getattr(thing, "_client", None)) is not None and "llama" in type(thing).__module__:
            client()
        elif "langchain" in type(thing).__module__:
            thing.client  # type: ignore[attr-defined] # noqa: B018
    except Exception as error:
        return error
    return None


def shown_by(error: BaseException) -> Iterator[object]:
    """Everything of a refusal, with what pydantic says was put in."""
    stack = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    yield from (repr(frame.locals) for frame in stack if not frame.filename.startswith(HERE))
    yield from (str(error), repr(error), repr(error.args), repr(error.__context__), repr(error.__cause__))
    yield getattr(error, "__notes__", "")
    if isinstance(error, ValidationError):
        yield from (error.errors(), error.json())
        for line in error.errors():
            inner = line.get("ctx", {}).get("error")
            assert inner is None or inner.__traceback__ is None


def shown_of(wrong: str, error: BaseException | None) -> list[str]:
    assert error is not None or wrong in TAKEN, wrong
    return [] if error is None else [f"{wrong}: {found}" for each in shown_by(error) for found in leaks(each)]


@pytest.mark.parametrize("kind", MAKERS)
def test_no_refusal_shows_a_secret(kind: str) -> None:
    """Neither in its text, nor in the frames it has passed, nor as the input that pydantic repeats."""
    found: list[str] = []
    for wrong, given in BAD.items():
        named = {{"default_headers": "headers", "api_key": "key"}.get(name, name): each for name, each in given.items()}
        if "base_url" in named and kind.startswith("llama"):
            named["api_base"] = named.pop("base_url")
        found += shown_of(wrong, refused(partial(made, kind, **named)))
    assert found == []


CHANGES: Mapping[str, Callable[[Any, str, Any], Any]] = {
    "set": setattr,
    "model_copy": lambda thing, name, value: thing.model_copy(update={name: value}),
    "copy": lambda thing, name, value: thing.copy(update={name: value}),
    "model_construct": lambda thing, name, value: type(thing).model_construct(**{name: value}),
    "model_validate": lambda thing, name, value: type(thing).model_validate({"model": MODEL, name: value}),
}


@pytest.mark.parametrize("way", CHANGES)
@pytest.mark.parametrize("kind", MODELS)
def test_no_refused_change_shows_a_secret(kind: str, way: str) -> None:
    """The same for arguments that are set, copied, or put in without validation."""
    found: list[str] = []
    for wrong, given in BAD.items():
        ((name, value),) = given.items()
        if name not in ("api_key", "default_headers", "base_url", "management_url"):
            continue
        thing, name = made(kind), "api_base" if name == "base_url" and kind.startswith("llama") else name
        found += shown_of(wrong, refused(partial(CHANGES[way], thing, name, value))) + leaks(repr(thing))
    assert found == []


def test_no_refused_proxy_shows_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxies are read when the first connection is made."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@h.test:port")
    monkeypatch.setattr(pools._Shared, "sync", pools.SyncPools())
    with pytest.raises(Exception, match="Invalid port") as caught:
        made("ChutesClient").models()
    assert [found for each in shown_by(caught.value) for found in leaks(each)] == []


# ------------------------------------------------------------------------------------------- other processes


def elsewhere(kind: str, thing: Any, service: Service) -> Any:
    """What another process gets, with a key and connections of its own."""
    there = pickle.loads(pickle.dumps(thing))
    for each in getattr(there, "members", [there]):
        if kind in CLIENTS:
            each._http_client = service.waiting if kind.startswith("Async") else service.blocking
        else:
            each.http_client = service.blocking
            setattr(each, "http_async_client" if kind.startswith("langchain") else "async_http_client", service.waiting)
    return there


@pytest.mark.parametrize("kind", [*PLAIN_CLIENTS, *MODELS, *FALLBACKS])
def test_in_another_process_a_call_says_which_header_is_missing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent until it is set there, where the message says so; harmless headers have come along."""
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_there")
    service = Service()
    thing = made(kind, default_query={})
    there = elsewhere(kind, thing, service)
    for call in CALLS[kind].values():
        with pytest.raises(ConfigurationError) as caught:
            call(there, [])
        assert all(name in str(caught.value) for name in HEADERS)
        assert f"default_headers['{HEADER}'] = " in str(caught.value)
    assert service.seen == []
    for each in getattr(there, "members", [there]):
        each.default_headers.update(HEADERS)
    first = next(iter(CALLS[kind].values()))
    first(there, [])
    sent = service.seen[-1]
    assert {name: sent[name.lower()] for name in ALL} == ALL
    assert headers_of(thing) == ALL


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda thing: thing.model_copy(deep=True)])
@pytest.mark.parametrize("kind", [*MODELS, *FALLBACKS])
def test_a_copy_in_the_same_process_keeps_its_headers(kind: str, duplicate: Callable[[Any], Any]) -> None:
    """Nothing is lost there."""
    assert headers_of(duplicate(made(kind))) == ALL


def test_a_copied_client_keeps_its_headers_too() -> None:
    """The clients of the core."""
    for kind in PLAIN_CLIENTS:
        assert copy.deepcopy(made(kind)).default_headers == copy.copy(made(kind)).default_headers == ALL


@pytest.mark.filterwarnings("ignore:The function `load`")
def test_what_is_made_of_data_says_which_header_is_missing() -> None:
    """LangChain's load and LlamaIndex's from_dict."""
    chat = load(
        dumpd(made("langchain ChatChutes")), allowed_objects=[lc.ChatChutes], valid_namespaces=["langchain_chutes"]
    )
    llm = made("llama_index Chutes")
    for again in (chat, type(llm).from_json(llm.to_json())):
        assert again.default_headers["X-Title"] == HARMLESS["X-Title"]
        with pytest.raises(ConfigurationError, match=HEADER):
            again.default_headers.ready()


def test_a_worker_of_a_corpus_gets_its_headers_from_a_function() -> None:
    """A value would be part of the job's description."""
    with pytest.raises(ConfigurationError, match=HEADER) as caught:
        Embed("acme/e", default_headers=ALL)
    assert leaks("".join(map(str, shown_by(caught.value)))) == []
    worker = Embed("acme/e", default_headers=lambda: ALL)
    assert worker.client.default_headers == ALL
    assert Embed("acme/e", default_headers=HARMLESS).client.default_headers == HARMLESS


# ------------------------------------------------------------------------------------------ told apart


@pytest.mark.parametrize("key", [KEY, partial(str, KEY)])
@pytest.mark.parametrize("kind", ["langchain ChatChutes", "langchain ChutesFallback"])
def test_two_header_sets_share_no_cached_answer(kind: str, key: Any) -> None:
    """The same ones do, also in two objects; and so does a model without secret headers, whoever makes it."""
    cache, service = InMemoryCache(), Service()
    for headers in (HEADERS, HEADERS, {**HEADERS, HEADER: "another"}, {HEADER: TOKEN}, HARMLESS, HARMLESS):
        made(kind, service, key=key, headers=headers, cache=cache).invoke("Hi")
    assert len(service.seen) == 4


@pytest.mark.parametrize("kind", ["langchain ChatChutes", "langchain ChutesFallback"])
def test_a_changed_header_shares_no_cached_answer(kind: str) -> None:
    """Also if it is changed in place, after a first call."""
    service = Service()
    model = made(kind, service, cache=InMemoryCache())
    model.invoke("Hi")
    headers_of(model)[HEADER] = "another"
    model.invoke("Hi")
    model.invoke("Hi")
    assert [sent[HEADER.lower()] for sent in service.seen] == [TOKEN, "another"]


@pytest.mark.parametrize("kind", FALLBACKS)
def test_members_with_the_same_function_share_an_account(kind: str) -> None:
    """It is wrapped once for each, and is still one source of keys."""
    model = made(kind, key=lambda: KEY)
    seats = model._sit()
    assert len({seat.member.account for seat in seats}) == 1


def test_two_header_sets_share_no_place_in_a_request() -> None:
    """Members of a fallback that differ in a header are not asked in one request."""
    from llama_index_chutes import Chutes, ChutesFallback, FallbackPolicy

    def pools(*tokens: str) -> set[str | None]:
        names = (MODEL, "zai-org/GLM-5.2-TEE")
        llms = [
            Chutes(model=name, api_key=KEY, default_headers={HEADER: each})
            for name, each in zip(names, tokens, strict=True)
        ]
        return {
            seat.member.pool for seat in ChutesFallback(llms, policy=FallbackPolicy(first_hop="server"))._seats_now()
        }

    assert len(pools("one", "one")) == 1
    assert len(pools("one", "two")) == 2


def test_a_header_of_a_call_wins_over_that_of_the_client() -> None:
    """The stock client of the SDK is given a placeholder, which our transport fills."""
    service = Service()
    client = made("openai_client", service)
    client.models.list(extra_headers={HEADER: "mine"})
    client.with_options(default_headers={"X-Other": "1"}).models.list()
    assert [sent[HEADER.lower()] for sent in service.seen] == ["mine", TOKEN]
    assert client.default_headers[HEADER] == "****"
