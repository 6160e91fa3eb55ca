"""No way out shows a secret: neither of an object, nor of a call that failed, nor of a refusal."""

from __future__ import annotations

import copy
import logging
import pickle
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pickle import PicklingError

import openai
import pytest
from pydantic_core import PydanticSerializationError

from chutes_core import APIError, FallbackClient, FallbackError
from chutes_core.secrets.headers import Headers
from chutes_core.secrets.secret import Secret
from chutes_core.wire.pools import http_package

from .ways import ASK, CALLS, SHOWS, told
from .world import ALL, BASIC, HEADER, KEY, KEYS, MAKERS, MODEL, PASSWORD, QUERY, Service, leaks, logged, made

NOT_FOR = (AttributeError, TypeError, NotImplementedError, PicklingError, PydanticSerializationError)

CORE = tuple(
    f"chutes_core/{name}.py" for name in ("client", "effects", "flows", "stream", "frames", "openai_transport")
)


@pytest.fixture(autouse=True)
def _any_key() -> Iterator[None]:
    """Keys without a known beginning are what this is about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("kind", MAKERS)
def test_no_object_shows_a_secret(kind: str, key: str) -> None:
    """Printed, dumped, copied, pickled, or described for a trace, a cache or an event."""
    found, shown = {}, 0
    for way, show in SHOWS.items():
        if key == "function" and "pickle" in way:
            continue  # a function goes along, with its arguments
        thing = made(kind, key=KEYS[key]())
        try:
            text = show(thing)
        except NOT_FOR:
            continue
        shown += 1
        if where := leaks(text):
            found[way] = where
    assert found == {}
    assert shown > 8


@pytest.mark.parametrize("thing", [Secret(KEY), Headers({HEADER: KEY}), Headers({HEADER: KEY})[HEADER]], ids=repr)
def test_no_secret_shows_itself(thing: object) -> None:
    """What holds one, by itself: printed, in a list, pickled."""
    shown = [repr(thing), repr([thing]), repr({"a": thing})]
    shown += [] if isinstance(thing, str) else [str(thing), f"{thing}", "%s" % thing]  # noqa: UP031
    with suppress(TypeError):
        shown += [str(pickle.dumps(thing, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    assert [place for each in shown for place in leaks(each)] == []
    assert isinstance(thing, Headers) or copy.copy(thing) is copy.deepcopy(thing) is thing


@pytest.mark.parametrize("way", ["status", "body", "event", "partial", "malformed", "long"])
@pytest.mark.parametrize(("kind", "method"), [(kind, method) for kind, methods in CALLS.items() for method in methods])
def test_no_failure_shows_a_secret(kind: str, method: str, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever form the service writes it back in: not in texts, frames, pickles, logs, callbacks, runs or events."""
    if "openai" in kind and method in ("models", "embed") and way in ("body", "malformed"):
        pytest.skip("the SDK reads these replies itself")
    service, seen = Service(way), []
    thing = made(kind, service)
    caplog.set_level(logging.DEBUG)
    try:
        CALLS[kind][method](thing, seen)
    except Exception as error:
        # The tokens that were passed on before are the caller's, and in the frames of whoever handles them.
        shown = list(told(error, CORE if way == "partial" else ("",)))
    else:
        assert way in ("event", "partial") or "models" in method or "account" in method  # it was an answer
        return
    assert any("s3cr3t" in str(headers) for headers in service.seen)
    shown += seen if way != "partial" else []
    assert [found for each in shown for found in leaks(each)] == []
    assert logged(caplog.text) == []
    assert caplog.records == [] or all(HEADER.lower() not in record.getMessage().lower() for record in caplog.records)


@pytest.mark.parametrize("kind", ["ChutesClient", "AsyncChutesClient", "openai_client"])
def test_no_failure_shows_what_a_proxy_says(kind: str) -> None:
    """It knows its password, which is not among what a call has sent."""

    def refused(request: object) -> None:
        raise http_package().ProxyError(f"407 not with {PASSWORD} in {BASIC}")

    service = Service()
    for http in (service.blocking, service.waiting):
        http._transport.handler = refused
    with pytest.raises(Exception, match=r"Connection error|ProxyError: 407") as caught:
        CALLS[kind]["chat"](made(kind, service, headers={}), [])
    assert [place for each in told(caught.value) for place in leaks(each)] == []


def test_no_failure_shows_a_query_that_the_sdk_was_given() -> None:
    """It stands in the address that the SDK has made, and in the SDK's own frames; the service's words are masked."""
    service, package = Service(), http_package()
    service.blocking._transport.handler = lambda request: package.Response(401, json={"detail": f"no {QUERY}"})
    client = made("openai_client", service).with_options(default_query={"tenant": QUERY})
    with pytest.raises(openai.APIStatusError, match="401") as caught:
        CALLS["openai_client"]["chat"](client, [])
    assert leaks((str(caught.value), caught.value.body, caught.value.response.text)) == []


@pytest.mark.parametrize("after", ["raise", "resume", "resume_or_restart", "restart"])
@pytest.mark.parametrize("second", ["status", "partial"])
def test_no_failure_of_an_answer_that_others_go_on_with_shows_a_secret(after: str, second: str) -> None:
    """What was given out before is in the failure of the whole, masked like what a single model gave out."""
    first, then = Service("partial"), Service(second)
    answers = iter([first._answer])
    first.blocking._transport.handler = lambda request: next(answers, then._answer)(request)
    policy = {"after_commit": after, "max_attempts": 2, "backoff": 0.001}
    members = [MODEL, "zai-org/GLM-5.2-TEE"]
    client = FallbackClient(members, KEY, policy=policy, default_headers=ALL, http_client=first.blocking)
    with pytest.raises((APIError, FallbackError)) as caught:
        list(client.stream(ASK))
    shown = list(told(caught.value, CORE))
    assert [place for each in shown for place in leaks(each)] == []
