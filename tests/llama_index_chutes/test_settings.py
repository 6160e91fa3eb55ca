"""What a model is made of: fields, the catalogue's word, serialization, and that the key stays here."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
import warnings
from typing import Any

import pytest
from llama_index.core.bridge.pydantic import SecretStr, ValidationError

from chutes_core import Catalog, ChutesWarning, ConfigurationError, MissingKeyError, ModelInfo, TimeLimits
from chutes_core.testing import Answer
from llama_index_chutes import Chutes, ChutesEmbedding
from llama_index_chutes._convert.profile import DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUT

from .rigs import HELLO, KEY, MODEL, connection, rig

SECRET = "cpk_" + "0123456789abcdef"
BOTH: list[tuple[Any, dict[str, Any]]] = [(Chutes, {"model": MODEL}), (ChutesEmbedding, {})]
both = pytest.mark.parametrize(("kind", "given"), BOTH, ids=["llm", "embedding"])

# --------------------------------------------------------------------------------------------------- metadata


def described(model: str, **settings: Any) -> Any:
    return Chutes(model=model, api_key=KEY, catalog=Catalog.bundled(), **settings).metadata


def test_metadata_is_the_catalogues() -> None:
    """Window, output, tools and name, as the catalogue knows them."""
    info = Catalog.bundled().model("Qwen/Qwen3.6-27B-TEE")
    metadata = described(info.id)
    assert metadata.context_window == info.context_length
    assert metadata.num_output == info.max_output
    assert (metadata.is_chat_model, metadata.is_function_calling_model) == (True, True)
    assert metadata.model_name == info.id


def test_the_reserve_for_the_answer_leaves_room_for_the_prompt() -> None:
    """A model whose answer may fill its window does not push every prompt out of it."""
    metadata = described("Qwen/Qwen3-32B-TEE")
    assert (metadata.context_window, metadata.num_output) == (40960, 20480)
    assert described("Qwen/Qwen3-32B-TEE", max_tokens=500).num_output == 500


def test_a_routing_list_is_as_wide_as_its_narrowest() -> None:
    """Whichever member answers, the prompt fits."""
    assert described("Qwen/Qwen3.6-27B-TEE,Qwen/Qwen3-32B-TEE:latency").context_window == 40960


def test_an_unknown_model_has_a_generous_window_and_a_warning() -> None:
    """A name that no catalogue knows is said to be unknown, once, and never taken for a dwarf."""
    llm = Chutes(model="acme/one", api_key=KEY, catalog=Catalog.bundled())
    with pytest.warns(ChutesWarning, match="'acme/one'; 131,072 tokens are assumed") as told:
        metadata = llm.metadata
    assert len(told) == 1
    assert llm.metadata is metadata
    assert (metadata.context_window, metadata.num_output) == (DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUT)
    assert metadata.is_function_calling_model


def test_what_the_caller_knows_counts() -> None:
    """A window and a word about tools of one's own need no catalogue, and no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metadata = described("acme/one", context_window=1000, is_function_calling_model=False)
    assert (metadata.context_window, metadata.num_output) == (1000, 500)
    assert not metadata.is_function_calling_model


def test_a_model_without_tools_is_no_function_calling_model() -> None:
    """The catalogue's no is a no; where it says nothing, it is tried."""
    rows = [{"id": "acme/plain", "context_length": 9000, "supported_features": ["json_mode"]}]
    catalog = Catalog.bundled().updated(rows, fetched_at=0.0)
    llm = Chutes(model="acme/plain", api_key=KEY, catalog=catalog)
    assert not llm.metadata.is_function_calling_model
    assert isinstance(catalog.model("acme/plain"), ModelInfo)


def test_metadata_follows_a_change() -> None:
    """Another model on the same object has its own metadata."""
    llm = Chutes(model="Qwen/Qwen3-32B-TEE", api_key=KEY, catalog=Catalog.bundled())
    assert llm.metadata.context_window == 40960
    llm.model = "google/gemma-4-31B-turbo-TEE"
    assert llm.metadata.context_window == 131072


# --------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("temprature", "Did you mean 'temperature'"),
        ("is_chat_model", "Leave it out"),
        ("tokenizer", "set llama_index.core.Settings.tokenizer"),
    ],
)
def test_unknown_keywords(name: str, hint: str) -> None:
    """A keyword that is no field is refused, with what was probably meant."""
    with pytest.raises(ConfigurationError, match=f"no argument '{name}'.*{hint}"):
        Chutes(**{"model": MODEL, name: 1})


def test_unknown_keywords_of_the_embedding() -> None:
    """The same for embeddings."""
    with pytest.raises(ConfigurationError, match="Did you mean 'embed_batch_size'"):
        ChutesEmbedding(**{"embed_bach_size": 5})
    assert ChutesEmbedding(**{"batch_size": 5}).embed_batch_size == 5


def test_other_integrations_names_are_taken() -> None:
    """What the twin and others call base_url, model or model_name is understood, but not twice."""
    llm = Chutes(**{"model_name": MODEL, "base_url": "http://127.0.0.1:9/v1"})
    assert (llm.model, llm.api_base) == (MODEL, "http://127.0.0.1:9/v1")
    assert ChutesEmbedding(**{"model": "acme/embed"}).model_name == "acme/embed"
    with pytest.raises(ConfigurationError, match="another name for 'model'"):
        Chutes(**{"model": MODEL, "model_name": MODEL})


@pytest.mark.parametrize(
    "settings",
    [
        {"additional_kwargs": {"temperatur": 1}},
        {"additional_kwargs": {"max_tokens": 0}},
        {"max_tokens": -1},
        {"additional_kwargs": {"reasoning_effort": "very"}},
        {"model": ""},
        {"timeout": 0},
        {"timeout": -1.0},
        {"max_retries": -1},
        {"api_key": 5},
        {"context_window": 0},
        {"reasoning": "very"},
    ],
)
def test_what_no_request_could_carry_is_refused_at_once(settings: dict[str, Any]) -> None:
    """A bad value is an error where it is written, and a ValueError whoever found it."""
    with pytest.raises(ValueError, match=r".") as caught:
        Chutes(**{"model": MODEL, **settings})
    assert isinstance(caught.value, ConfigurationError | ValidationError)


@both
def test_without_a_key_nothing_is_sent(kind: Any, given: dict[str, Any]) -> None:
    """A model is made without a key; the first call says what is missing."""
    transport, _, settings = connection([Answer()])
    component = kind(**{**settings, **given, "api_key": None})
    with pytest.raises(MissingKeyError, match="CHUTES_API_KEY"):
        component.chat(HELLO) if kind is Chutes else component.get_text_embedding("Hi")
    assert transport.requests == []


# ---------------------------------------------------------------------------------------------- serialization


@both
def test_a_round_trip_through_a_dict(kind: Any, given: dict[str, Any]) -> None:
    """`to_dict` and `from_dict` give the same component, without the key."""
    limits = TimeLimits(first_token=8)
    made = kind(**given, api_key=SECRET, timeout=limits, max_retries=5, default_headers={"X-Title": "t"})
    data = made.to_dict()
    assert SECRET not in json.dumps(data, default=str)
    assert data["class_name"] == kind.class_name()
    again = kind.from_dict(data)
    assert again.to_dict() == data
    assert (again.timeout, again.max_retries, again.api_key) == (limits, 5, None)
    assert kind.from_json(made.to_json()).to_dict() == data


@both
def test_a_round_trip_through_a_pickle(kind: Any, given: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """A pickle has the settings and neither key nor connection; the living object loses nothing by it."""
    _, _, settings = connection([Answer("Hi")])
    made = kind(**{**settings, **given, "api_key": SECRET, "max_retries": 5})
    made._client()
    with caplog.at_level(logging.WARNING):
        data = pickle.dumps(made)
    assert SECRET.encode() not in data
    assert caplog.messages == []
    again = pickle.loads(data)
    assert (again.max_retries, again.api_key, again.http_client) == (5, None, None)
    assert (made.api_key.get_secret_value(), made.http_client) == (SECRET, settings["http_client"])


@both
def test_secret_headers_are_not_serialized(kind: Any, given: dict[str, Any]) -> None:
    """Of a header that may carry a key only the name goes along; of a harmless one, all."""
    headers = {"X-Proxy": SECRET, "X-Whatever": "1", "X-Title": "mine"}
    made = kind(**given, default_headers=headers)
    told = made.to_dict()["default_headers"]
    assert told["X-Title"] == "mine"
    assert all(told[name].startswith("**** ") for name in ("X-Proxy", "X-Whatever"))
    assert pickle.loads(pickle.dumps(made)).default_headers == {**dict.fromkeys(headers, "****"), "X-Title": "mine"}
    assert made.default_headers == headers
    with pytest.raises(ConfigurationError, match="api_key"):
        kind(**given, default_headers={"Authorization": "Bearer abc"})


@both
def test_the_key_is_never_shown(kind: Any, given: dict[str, Any]) -> None:
    """Not in repr, str, dumps, payloads of events, copies or refusals."""
    made = kind(**given, api_key=SECRET)
    shown = [repr(made), str(made), made.model_dump(), made.to_payload(), repr(made.__dict__), repr(copy.copy(made))]
    for wrong in ({"api_ky": SECRET}, {"api_key": SECRET, "max_retries": SECRET}, {"api_key": SECRET, "timeout": -1}):
        with pytest.raises(ValueError, match=r".") as caught:
            kind(**given, **wrong)
        shown.append("".join(traceback.format_exception(caught.value)))
    assert SECRET not in str(shown)


@pytest.mark.parametrize("key", [SECRET, SecretStr(SECRET), lambda: SECRET])
def test_every_form_of_a_key_is_taken(key: Any) -> None:
    """A text, a SecretStr and a function all reach the service."""
    made = rig([Answer("Hi")], api_key=key)
    assert made.llm.chat(HELLO).message.content == "Hi"


# ------------------------------------------------------------------------------------------------------ copies


def test_settings_may_be_changed_at_any_time() -> None:
    """What is set after a call holds for the next: nothing is set in vain."""
    made = rig(["capacity", Answer("Hi"), "capacity"], max_retries=1)
    made.llm.chat(HELLO)
    first = made.llm._client()
    assert made.llm._client() is first
    made.llm.max_retries = 0
    made.llm.default_headers = {"X-Title": "mine"}
    with pytest.raises(Exception, match="busy"):
        made.llm.chat(HELLO)
    assert len(made.transport.requests) == 3
    assert made.transport.requests[-1].headers["x-title"] == "mine"
    second = made.llm._client()
    made.llm.default_headers["X-Title"] = "yours"
    assert made.llm._client() is not second


def test_a_copy_with_another_setting_uses_it() -> None:
    """`model_copy(update=...)` is a model of its own."""
    made = rig([Answer("Hi"), Answer("Ho")], temperature=0.1)
    made.llm.chat(HELLO)
    other = made.llm.model_copy(update={"temperature": 0.9, "model": "google/gemma-4-31B-turbo-TEE"})
    other.chat(HELLO)
    assert [body["temperature"] for body in made.bodies] == [0.1, 0.9]
    assert made.bodies[1]["model"] == "google/gemma-4-31B-turbo-TEE"


def test_a_deep_copy_works() -> None:
    """Agents and programs copy what they are given."""
    llm = Chutes(model=MODEL, api_key=SECRET)
    llm._client()
    assert copy.deepcopy(llm).to_dict() == llm.to_dict()


def test_the_ledger_adds_up_every_call() -> None:
    """Blocking or not, what was used is in one place, and can be shared."""
    made = rig([Answer("Hi")] * 2)
    other = rig([Answer("Ho")], ledger=made.llm.ledger)
    made.llm.chat(HELLO)
    list(made.llm.stream_chat(HELLO))
    other.llm.complete("Hi")
    assert made.llm.ledger.totals().calls == 3
