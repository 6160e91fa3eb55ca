"""Arguments that are set, copied or configured after a model was made hold from then on."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.load import dumps
from langchain_core.messages import HumanMessage
from langchain_core.runnables import ConfigurableField
from pydantic import SecretStr

from chutes_core import Catalog, ConfigurationError
from chutes_core.testing import Answer, FaultScript
from chutes_core.wire.pools import http_package
from langchain_chutes import ChatChutes, ChutesEmbeddings, ChutesFallback

from .fallback_stage import stage
from .models import KEY, scripted

QWEN, GEMMA = "Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE"
NEW = "cpk_something_new"


class Listening:
    """A transport that writes down who asks, and where."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.urls: list[str] = []
        package = http_package()

        def answer(request: Any) -> Any:
            self.keys.append(request.headers["authorization"].removeprefix("Bearer "))
            self.urls.append(str(request.url))
            return package.Response(200, json=Answer("Hi").body("acme/one"))

        self.client = package.Client(transport=package.MockTransport(answer))


@pytest.mark.parametrize("how", ["set", "copied"])
@pytest.mark.parametrize("before", [None, "cpk_before"])
def test_a_key_that_is_set_is_used_and_never_shown(
    before: str | None, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also over that of the environment, after a first call, and as plain text."""
    monkeypatch.delenv("CHUTES_OAUTH_TOKEN", raising=False)
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_environment")
    heard = Listening()
    model = ChatChutes(model="acme/one", api_key=before, http_client=heard.client)
    model.invoke("Hi")
    if how == "set":
        model.api_key = NEW  # type: ignore[assignment]
    else:
        model = model.model_copy(update={"api_key": NEW})
    model.invoke("Hi")
    assert heard.keys == [before or "cpk_environment", NEW]
    assert model.api_key == SecretStr(NEW)
    assert NEW not in repr(model)
    model.api_key = None
    model.invoke("Hi")
    assert heard.keys[-1] == "cpk_environment"


def test_the_environments_key_is_read_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown as the one in use, and is not taken for one that was given."""
    monkeypatch.delenv("CHUTES_OAUTH_TOKEN", raising=False)
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_environment")
    heard = Listening()
    model = ChatChutes(model="acme/one", http_client=heard.client)
    model.invoke("Hi")
    monkeypatch.setenv("CHUTES_API_KEY", NEW)
    model.invoke("Hi")
    assert heard.keys == ["cpk_environment", NEW]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 3.0),
        ("max_retries", 1),
        ("default_headers", {"x": "y"}),
        ("base_url", "https://example.org/v1"),
        ("inline_images", True),
    ],
)
def test_what_is_set_holds_for_the_next_call(name: str, value: Any) -> None:
    """The client of the earlier calls does not outlive the argument that it was made with."""
    heard = Listening()
    model = ChatChutes(model="acme/one", api_key=KEY, max_retries=0, http_client=heard.client)
    model.invoke("Hi")
    first, other = model.client, model.async_client
    setattr(model, name, value)
    assert model.client is not first
    assert model.async_client is not other
    model.invoke("Hi")
    assert heard.urls[-1].startswith("https://example.org/" if name == "base_url" else "https://llm.chutes.ai/")
    last = model.client
    model.temperature = 0.5
    assert model.client is last


def test_embeddings_change_too() -> None:
    """They share the arguments of the connection."""
    embeddings = ChutesEmbeddings(api_key=KEY)
    first = embeddings.client
    embeddings.embedding_base_url = "https://example.org/v1"
    assert embeddings.client is not first
    embeddings.api_key = NEW  # type: ignore[assignment]
    assert NEW not in repr(embeddings)


def test_setting_an_argument_loads_no_catalogue() -> None:
    """What is known of the models is read from disk when it is needed."""
    embeddings = ChutesEmbeddings(api_key="cpk_test")
    embeddings.timeout = 3.0
    assert embeddings.catalog is None


def test_a_cache_knows_a_changed_model_from_what_it_was() -> None:
    """An answer of one model is never given for that of another."""
    cache = InMemoryCache()
    script = FaultScript(by_model={"acme/one": [Answer("One.")], "acme/two": [Answer("Two."), Answer("Two.")]})
    outcome = scripted(script, cache=cache)
    assert outcome.model.invoke("Who?").text == "One."
    assert outcome.model.model_copy(update={"model": "acme/two"}).invoke("Who?").text == "Two."
    outcome.model.model = "acme/two"
    assert outcome.model.invoke("Who?").text == "Two."
    assert len(outcome.transport.requests) == 2


# ------------------------------------------------------------------------------------------ profiles


def test_a_profile_is_that_of_the_model() -> None:
    """Of a copy with another model, of a model that is set, and of one that is configured for a call."""
    told = {name: ChatChutes(model=name, api_key=KEY).profile for name in (QWEN, GEMMA)}
    assert told[QWEN] != told[GEMMA]
    model = ChatChutes(model=QWEN, api_key=KEY)
    assert model.model_copy(update={"model": GEMMA}).profile == told[GEMMA]
    assert model.model_copy(update={"temperature": 0}).profile == told[QWEN]
    assert model.model_copy(update={"catalog": Catalog((), "live", 0.0, "2026-01-01", offline=True)}).profile is None
    configured: Any = model.configurable_fields(model=ConfigurableField(id="model"))
    assert configured.prepare({"configurable": {"model": GEMMA}})[0].profile == told[GEMMA]
    assert pickle.loads(pickle.dumps(model)).profile == told[QWEN]
    model.model = GEMMA
    assert model.profile == told[GEMMA]


def test_a_profile_that_was_given_stays() -> None:
    """Whatever the model is called."""
    mine: Any = {"tool_calling": True}
    model = ChatChutes(model=QWEN, api_key=KEY, profile=mine)
    assert model.model_copy(update={"model": GEMMA}).profile == mine
    assert ChatChutes(model=QWEN, api_key=KEY).model_copy(update={"model": GEMMA, "profile": mine}).profile == mine
    configured: Any = model.configurable_fields(model=ConfigurableField(id="model"))
    assert configured.prepare({"configurable": {"model": GEMMA}})[0].profile == mine


# ------------------------------------------------------------------------------------------ fallbacks


def test_a_fallback_asks_the_members_that_it_has_now() -> None:
    """Members and rules may be set, copied or configured."""
    made = stage()
    made.model.invoke("Hi")
    others = made.model.members[1:]
    made.model.model_copy(update={"members": others}).invoke("Hi")
    made.model.members = others
    made.model.invoke("Hi")
    assert made.models == ["acme/one", "acme/two", "acme/two"]


def test_a_fallbacks_profile_is_that_of_its_members() -> None:
    """However they came to be them."""
    one, two = (ChatChutes(model=name, api_key=KEY) for name in (QWEN, GEMMA))
    model = ChutesFallback([one])
    wanted = ChutesFallback([two]).profile
    assert model.profile != wanted
    assert model.model_copy(update={"members": [two]}).profile == wanted
    configured: Any = model.configurable_fields(members=ConfigurableField(id="members"))
    assert configured.prepare({"configurable": {"members": [two]}})[0].profile == wanted
    model.members = [two]
    assert model.profile == wanted


def configured(model: ChutesFallback, members: Any) -> Any:
    field: Any = model.configurable_fields(members=ConfigurableField(id="members"))
    return field.prepare({"configurable": {"members": members}})[0]


def assigned(model: ChutesFallback, members: Any) -> ChutesFallback:
    model.members = members
    return model


HOWS = pytest.mark.parametrize(
    "how", [configured, assigned, lambda model, members: model.model_copy(update={"members": members})],
    ids=["configured", "set", "copied"],
)  # fmt: skip


@HOWS
def test_new_members_by_name_keep_what_the_old_ones_shared(how: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key, the address and the settings: nothing goes to another host, or under another key."""
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_environment")
    heard = Listening()
    base = "https://example.org/v1"
    before = ChutesFallback([QWEN], api_key=KEY, base_url=base, temperature=0.5, http_client=heard.client)
    after = how(how(before, [GEMMA]), ["acme/one", {"model": "acme/two", "temperature": 1}])
    assert [(each.model, each.temperature, each.max_retries) for each in after.members] == [
        ("acme/one", 0.5, 0),
        ("acme/two", 1, 0),
    ]
    for member in after.members:
        member._generate([HumanMessage("Hi")])
    assert heard.keys == [KEY, KEY]
    assert all(url.startswith(base) for url in heard.urls)
    assert KEY not in repr(after) + str(after.model_dump()) + dumps(after)
    there = pickle.loads(pickle.dumps(ChutesFallback([QWEN], api_key=KEY, base_url=base)))
    assert KEY not in str(pickle.dumps(there))
    assert [each.base_url for each in how(there, [GEMMA]).members] == [base]
    assert how(there, [ChatChutes(model=GEMMA)]).template is there.template


@HOWS
def test_new_members_are_checked_like_the_first(how: Any) -> None:
    """A name is refused where nothing says what it shares; a model's retries are turned off."""
    made = ChutesFallback([ChatChutes(model=QWEN, api_key=KEY)])
    with pytest.raises(ConfigurationError, match="No member of this fallback was listed by name"):
        how(made, [GEMMA])
    with pytest.raises(ConfigurationError, match="at least one model"):
        how(made, [])
    mine = ChatChutes(model=GEMMA, api_key=KEY)
    assert [each.max_retries for each in how(made, [mine]).members] == [0]
