"""Every argument of the classes that people come from is taken, renamed, or refused with what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler

from chutes_core import TimeLimits
from chutes_core.errors import ChutesWarning, ConfigurationError
from chutes_core.peers import CALLS, FIELDS, PEERS, Peer
from chutes_core.request.chat import ChatParams
from chutes_core.testing import Answer, FaultyTransport
from langchain_chutes import ChatChutes, ChutesEmbeddings
from llama_index_chutes import Chutes, ChutesEmbedding

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))
import peer_arguments

MODEL, KEY = "Qwen/Qwen3-32B-TEE", "cpk_0123"
CLASSES: Mapping[str, Any] = {"langchain": ChatChutes, "llama_index": Chutes}
RECORD = json.loads(peer_arguments.RECORD.read_text("utf-8"))
HERE = peer_arguments.read()
ROWS = [f"{peer.face}.{peer.name}" for peer in PEERS]
BOTH = pytest.mark.parametrize("cls", [ChatChutes, Chutes])


def made(cls: Any, **arguments: Any) -> Any:
    return cls(**{"model": MODEL, "api_key": KEY, **arguments})


def names_of(row: str) -> list[str]:
    """Those on record, and those of what is installed, which may be another version."""
    return sorted({*RECORD[row]["names"], *HERE.get(row, {"names": ()})["names"]})


@pytest.mark.parametrize("cls", [ChatChutes, ChutesEmbeddings, Chutes, ChutesEmbedding])
def test_an_argument_without_its_name(cls: Any) -> None:
    """It is refused in words, by the name of the class, and without what was given, which may be a key."""
    with pytest.raises(TypeError, match=rf"^{cls.__name__} takes its arguments by name, such as model(_name)?="):
        cls(KEY)


def test_record_is_whole() -> None:
    """It has every class and every door of calls, with its version, and is right about what is installed."""
    assert RECORD.keys() == {*ROWS, "calls.openai", "calls.openrouter", "calls.litellm"}
    assert all(row["version"] and len(row["names"]) >= 15 for row in RECORD.values())
    assert peer_arguments.differing(RECORD, HERE) == []
    assert "langchain.ChatOpenAI" in HERE or "llama_index.OpenAILike" in HERE, "one of them is in every environment"


@pytest.mark.parametrize("peer", PEERS, ids=ROWS)
def test_every_argument_of_a_constructor(peer: Peer) -> None:
    """It is a field, or a parameter of requests; or is renamed to one; or the refusal says what to do."""
    cls, table = CLASSES[peer.face], FIELDS[peer.face]
    known = {*cls.model_fields, *ChatParams.__annotations__}
    for name in names_of(f"{peer.face}.{peer.name}"):
        word = table.get(name)
        if word is None:
            assert name in known, f"{name} is refused without a word"
        elif word.to:
            assert word.to in cls.model_fields, name
        else:
            with pytest.raises(ValueError) as refused:  # noqa: PT011  # LangChain's is pydantic's
                made(cls, **{name: object()})
            assert f"has no argument {name!r}. {word.say}" in str(refused.value)
            assert "Did you mean" not in str(refused.value)
            for value in (None, *word.free):
                made(cls, **{name: value})
    assert not table.keys() & cls.model_fields.keys(), "a field needs no row"


@pytest.mark.parametrize("door", ["openai", "openrouter", "litellm"])
@BOTH
def test_every_argument_of_a_call(cls: Any, door: str) -> None:
    """The same, without a request."""
    model = made(cls, http_client=httpx.Client(transport=FaultyTransport([])))
    for name in names_of(f"calls.{door}"):
        word = CALLS.get(name)
        if word is None:
            assert name in ChatParams.__annotations__ or name == "timeout", f"{name} is refused without a word"
        elif word.to:
            assert word.to in {*ChatParams.__annotations__, "model", "timeout"}
        elif name not in ("messages", "stream", "model"):  # which the frameworks take
            with pytest.raises(ConfigurationError) as refused:
                asked(model, **{name: object()})
            assert f"Unknown parameter {name!r}. {word.say}" in str(refused.value)


def asked(model: Any, **options: Any) -> Any:
    return model.invoke("Hi", **options) if isinstance(model, ChatChutes) else model.complete("Hi", **options)


class Heard:
    """Keeps the requests, and answers them."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = FaultyTransport([Answer("Hello.")] * 4)
        self.client = httpx.Client(transport=httpx.MockTransport(self._take))

    def _take(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answers.handle_request(request)

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.requests[-1].content)
        return body


@BOTH
def test_headers_and_query(cls: Any) -> None:
    """A call's own go beside the model's, and a name is sent once, however it is spelt."""
    heard = Heard()
    given = {"default_headers": {"X-Title": "me", "X-Tenant": "a"}, "default_query": {"tenant": "a", "zone": "1"}}
    model = made(cls, http_client=heard.client, **given)
    asked(model)
    asked(model, extra_headers={"x-tenant": "b"}, extra_query={"tenant": "b"})
    first, second = heard.requests
    assert (first.headers["x-tenant"], first.url.query) == ("a", b"tenant=a&zone=1")
    assert (second.headers.get_list("x-tenant"), second.headers["x-title"]) == (["b"], "me")
    assert second.url.query == b"tenant=b&zone=1"
    assert not {"extra_headers", "extra_query"} & heard.body.keys()
    assert "zone': '1" not in repr(model)


@BOTH
def test_a_query_is_not_for_a_sealed_request(cls: Any) -> None:
    """It would not arrive."""
    with pytest.raises(ConfigurationError, match="the address of a request is another"):
        asked(made(cls, e2ee=True, default_query={"a": "b"}))


@BOTH
def test_time_limits(cls: Any) -> None:
    """Of requests and of httpx; a number stays what it is."""
    expected = TimeLimits(connect=3, first_token=20, gap=20, reply=20)
    for given in ((3, 20), httpx.Timeout(20, connect=3), (3, 20, 5, 5)):
        assert made(cls, timeout=given).timeout == expected
        assert made(cls, request_timeout=given).timeout == expected
    assert made(cls, timeout=30).timeout == 30
    assert (expected.whole, TimeLimits(total=10, reply=20).whole, TimeLimits().whole) == (20, 10, 600)
    with pytest.raises(ValueError, match=r"A tuple of time limits is \(connect, read\)"):
        made(cls, timeout=(1, 2, 3))


@BOTH
def test_what_means_the_same(cls: Any) -> None:
    """None for a number, an effort in a mapping, other names, and what happens anyway."""
    model = made(cls, max_retries=None, reasoning={"effort": "low"}, max_completion_tokens=7, stream_usage=True)
    assert (model.max_retries, model.reasoning, model.max_tokens) == (2, "low", 7)
    heard = Heard()
    asked(made(cls, http_client=heard.client, min_tokens=3), stop_sequences=["."], service_tier="auto")
    assert (heard.body["min_tokens"], heard.body["stop"]) == (3, ["."])
    assert "service_tier" not in heard.body


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("https://llm.chutes.ai", "https://llm.chutes.ai/v1"),
        ("https://llm.chutes.ai/", "https://llm.chutes.ai/v1"),
        ("http://127.0.0.1:8000/v1/chat/completions", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/v1/embeddings/", "http://127.0.0.1:8000/v1"),
        ("https://proxy.example/chutes", None),
        ("https://llm.chutes.ai/v1/", None),
    ],
)
@BOTH
def test_an_address_that_ends_too_early_or_too_late(cls: Any, given: str, taken: str | None) -> None:
    """It is mended with a warning at the caller's line; a path of somebody's own is kept."""
    field = "base_url" if cls is ChatChutes else "api_base"
    if taken is None:
        assert getattr(made(cls, openai_api_base=given), field) == given
        return
    with pytest.warns(ChutesWarning, match=f"is taken for {taken}, not") as warned:
        model = made(cls, openai_api_base=given)
    assert [each.filename for each in warned] == [__file__]
    assert getattr(model, field) == taken


def test_strict_and_schemas_in_llama_index() -> None:
    """Both are the caller's to say where the catalogue is silent, or against it."""
    from llama_index.core.tools import FunctionTool

    heard = Heard()
    tool = FunctionTool.from_defaults(lambda city: city, name="find", description="Find it.")
    made(Chutes, http_client=heard.client, strict=True).chat_with_tools([tool], "Oslo")
    function = heard.body["tools"][0]["function"]
    assert (function["strict"], function["parameters"]["additionalProperties"]) == (True, False)


@BOTH
def test_repr_begins_with_the_model(cls: Any) -> None:
    """And has what was set, in one short line."""
    told = repr(made(cls, temperature=0, timeout=30))
    assert told.startswith(f"{cls.__name__}(model='{MODEL}', timeout=30")
    assert len(told) < 120
    assert KEY not in told


def test_a_calls_headers_are_no_part_of_caches_and_traces() -> None:
    """They tell two calls apart, and do not show."""
    heard, seen = Heard(), list[Any]()

    class Watch(BaseCallbackHandler):
        def on_chat_model_start(self, *arguments: Any, **options: Any) -> None:
            seen.append(options)

    cache = InMemoryCache()
    model = made(ChatChutes, http_client=heard.client, cache=cache, callbacks=[Watch()])
    for tenant in ("s3cr3t", "s3cr3t", "other"):
        model.invoke("Hi", extra_headers={"X-Tenant": tenant})
    assert len(heard.requests) == 2
    assert heard.requests[0].headers["x-tenant"] == "s3cr3t"
    assert seen[0]["invocation_params"]["extra_headers"] == {"X-Tenant": "****"}
    assert "s3cr3t" not in repr((seen, [*cache._cache]))
