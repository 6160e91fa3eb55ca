"""What both frameworks make of the members of a fallback: one table, and a face for each framework."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from llama_index.core.base.llms.types import AudioBlock, ChatMessage, ImageBlock, TextBlock

from chutes_core import ChutesError, ChutesWarning, ConfigurationError, RequestRefusedError, TimeLimits
from chutes_core.fallback import Needs
from chutes_core.testing import VirtualClock
from langchain_chutes import ChatChutes
from langchain_chutes import ChutesFallback as LangChainFallback
from langchain_chutes.fallback.run import needs_of as langchain_needs
from llama_index_chutes import Chutes
from llama_index_chutes import ChutesFallback as LlamaIndexFallback
from llama_index_chutes.fallback.run import needs_of as llama_index_needs
from tests.langchain_chutes import fallback_stage
from tests.llama_index_chutes import rigs, stages
from tests.llama_index_chutes.strangers import Predictor, Stranger

QWEN, GEMMA = "Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE"
KEY = "cpk_test"


@dataclass
class Told:
    """What a call came to.

    Attributes:
        models: The models that were asked, in order.
        attempts: The attempts in the answer.
        clock: The time it took.
        error: What was raised.
    """

    models: list[str]
    clock: VirtualClock
    attempts: list[dict[str, Any]] = field(default_factory=list)
    error: ChutesError | None = None


class LangChain:
    """The fallback of LangChain."""

    fallback: Any = LangChainFallback
    own: Any = ChatChutes
    address = "base_url"
    place = "langchain_chutes:ChatChutes"
    stranger: Any = staticmethod(lambda: fallback_stage.Other(model_name="other/model"))
    restless: Any = fallback_stage.Plain

    def seats(self, fallback: Any) -> list[Any]:
        return list(fallback._sit())

    def needs(self, text: str, kind: str | None, params: dict[str, Any]) -> Needs:
        return langchain_needs([HumanMessage(self.content(text, kind))], params, None)

    def content(self, text: str, kind: str | None) -> Any:
        address = {"image": "image/png", "audio": "audio/wav"}
        part = {"type": kind, "base64": "AAAA", "mime_type": address.get(kind or "")}
        return [{"type": "text", "text": text}, part] if kind else text

    def call(
        self, script: Any = (), members: Any = None, text: str = "Hi", kind: str | None = None,
        options: dict[str, Any] | None = None, **params: Any,
    ) -> Told:  # fmt: skip
        made = fallback_stage.stage(list(script), members or fallback_stage.NAMES, **(options or {}))
        made.call("sync-whole", ask=[HumanMessage(self.content(text, kind))], **params)
        error = made.error if isinstance(made.error, ChutesError) else None
        return Told(made.models, made.clock, made.attempts if error is None else [], error)


class LlamaIndex:
    """The fallback of LlamaIndex."""

    fallback: Any = LlamaIndexFallback
    own: Any = Chutes
    address = "api_base"
    place = "llama_index_chutes:Chutes"
    stranger: Any = staticmethod(lambda: Stranger(plays=[]))
    restless: Any = Predictor

    def seats(self, fallback: Any) -> list[Any]:
        return list(fallback._sit())

    def needs(self, text: str, kind: str | None, params: dict[str, Any]) -> Needs:
        return llama_index_needs([self.message(text, kind)], params)

    def message(self, text: str, kind: str | None) -> ChatMessage:
        blocks: list[Any] = [TextBlock(text=text)]
        if kind:
            blocks.append({"image": ImageBlock, "audio": AudioBlock}[kind](url="https://example.org/it"))
        return ChatMessage(blocks=blocks)

    def call(
        self, script: Any = (), members: Any = None, text: str = "Hi", kind: str | None = None,
        options: dict[str, Any] | None = None, **params: Any,
    ) -> Told:  # fmt: skip
        made = stages.stage(list(script), members or fallback_stage.NAMES, **(options or {}))
        outcome = rigs.ask(made.llm, "chat", [self.message(text, kind)], **params)
        attempts = stages.attempts(outcome) if outcome.error is None else []
        return Told(made.asked, made.clock, attempts, outcome.error)


# LlamaIndex says so of the models that are made up here.
pytestmark = pytest.mark.filterwarnings("ignore:The catalogue does not know the context window")
FACES = pytest.mark.parametrize("face", [LangChain(), LlamaIndex()], ids=["langchain", "llama-index"])

# ------------------------------------------------------------------------------------------ what a request needs

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@FACES
@pytest.mark.parametrize(
    ("text", "kind", "params", "features", "modalities", "tokens"),
    [
        ("Hello there!", None, {}, set(), set(), (2, 2)),
        ("word " * 12_000, None, {}, set(), set(), (8_000, 12_000)),
        ("你好" * 6_000, None, {}, set(), set(), (7_000, 9_000)),
        ("Look:", "image", {}, set(), {"image"}, (0, 1)),
        ("Listen:", "audio", {}, set(), {"audio"}, (1, 1)),
        ("Add:", None, {"tools": [TOOL]}, {"tools"}, set(), (10, 30)),
        ("Add:", None, {"response_format": {"type": "json_object"}}, {"json_mode"}, set(), (0, 0)),
        ("Add:", None, {"max_tokens": 100}, set(), set(), (100, 100)),
        ("Add:", None, {"max_completion_tokens": 100}, set(), set(), (100, 100)),
    ],
)
def test_a_request_needs_the_same_of_a_model(
    face: Any, text: str, kind: Any, params: Any, features: Any, modalities: Any, tokens: tuple[int, int]
) -> None:
    """Length on the low side, in every script; what is in the messages besides text; and what is asked for."""
    needs = face.needs(text, kind, params)
    assert (needs.features, needs.modalities) == (features, modalities)
    assert tokens[0] <= needs.tokens <= tokens[1]


@FACES
def test_no_member_is_sent_audio(face: Any) -> None:
    """A member that is known to take none is skipped, and for one that is not known the request is refused."""
    told = face.call(members=[QWEN, GEMMA], kind="audio")
    assert isinstance(told.error, RequestRefusedError)
    assert f"{QWEN}: no audio input; {GEMMA}: no audio input" in str(told.error)
    told = face.call(members=["acme/one", "acme/two"], kind="audio")
    assert isinstance(told.error, RequestRefusedError)
    assert "no audio in a chat: send its transcript" in str(told.error)
    assert told.models == []


# ------------------------------------------------------------------------------------------ what may be listed

STRANGER = object()
"""Stands for a model of another provider, of the face's own kind."""


@FACES
@pytest.mark.parametrize(
    ("members", "options", "said"),
    [
        ([], {}, r"a list of at least one model, members=\['a/one'"),
        (None, {}, r"No model was named, and there is no default one: pass members=\[\"a/one\""),
        ("acme/one", {}, "for a comma-separated string use from_models"),
        ({"model": "acme/one"}, {}, "a list of at least one model"),
        ([3], {}, "A member is the name of a model or a (LangChain chat model|LlamaIndex LLM), not int"),
        (None, {"models": [QWEN]}, "no 'models' beside its members: list the model among them, as in members="),
        (None, {"llms": [QWEN], "api_key": KEY}, "no 'llms' beside its members"),
        ([QWEN], {"model": GEMMA}, "no 'model' beside its members"),
        ([QWEN], {"model_name": GEMMA}, "no 'model_name' beside its members"),
        ([QWEN], {"max_retries": 2}, r"limit them with FallbackPolicy\(max_attempts=...\)"),
        ([QWEN], {"temprature": 0}, "ChutesFallback has no argument 'temprature'. Did you mean 'temperature'"),
        ([QWEN], {"polcy": {}}, "ChutesFallback has no argument 'polcy'. Did you mean 'policy'"),
        (
            [QWEN],
            {"is_chat_model": False},
            "ChutesFallback has no argument 'is_chat_model'. Every model here is a chat model",
        ),
        ([STRANGER], {"temperature": 1}, "temperature: these arguments are for members listed by name, and there are"),
        ([STRANGER], {"e2ee": True}, "cannot be asked sealed"),
        ([{"model": "x", "provider": "nobody"}], {}, "There is no provider 'nobody' here. Use anthropic, azure_openai"),
        ([{"model": "x", "provider": "fireworks"}], {}, "provider='fireworks' needs .*: pip install l.*-fireworks"),
        (
            [{"model": "x", "provider": "json:Nothing"}],
            {},
            "provider='json:Nothing' needs Nothing: it is not in 'json'",
        ),
        ([{"model": "x", "provider": "json:JSONEncoder"}], {}, "json:JSONEncoder is not a L"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_the_door(face: Any, members: Any, options: Any, said: str) -> None:
    """In the same words, which say what to do."""
    given = [face.stranger() if each is STRANGER else each for each in members] if type(members) is list else members
    with pytest.raises(ConfigurationError, match=said):
        face.fallback(**({} if given is None else {"members": given}), **options)


@FACES
def test_own_retries_are_turned_off(face: Any) -> None:
    """In a copy; that there shall be none may be said, and where they cannot be turned off a warning says so."""
    mine, other = face.own(model=QWEN, api_key=KEY, max_retries=3), face.stranger()
    made = face.fallback([mine, other])
    assert [each.max_retries for each in made.members] == [0, 0]
    assert (mine.max_retries, other.max_retries) == (3, 2)
    for none in (0, None):
        assert [each.max_retries for each in face.fallback([QWEN], max_retries=none, api_key=KEY).members] == [0]
    name = face.restless.__name__
    with pytest.warns(ChutesWarning, match=f"{name}: its own retries cannot be turned off") as told:
        face.fallback([face.restless(), other])
    assert told[0].filename == __file__


@FACES
def test_a_table_names_another_provider(face: Any) -> None:
    """Any class of the framework may be a member."""
    made = face.fallback([{"model": QWEN, "provider": face.place, "api_key": KEY}, {"model": GEMMA}], api_key="cpk_b")
    assert [type(each) for each in made.members] == [face.own] * 2


@FACES
def test_a_fallback_among_them_is_replaced_by_its_members(face: Any) -> None:
    """They are asked in its place, under the rules of the one that is called; e2ee of that one holds for them too."""
    connected = {face.address: "https://example.org/v1"}
    inner = face.fallback([GEMMA, "acme/two"], api_key="cpk_inner", temperature=0.5, **connected)
    outer = face.fallback([QWEN, inner, "acme/three"], api_key=KEY)
    assert [each.model for each in outer.members] == [QWEN, GEMMA, "acme/two", "acme/three"]
    assert [each.temperature for each in outer.members] == [None, 0.5, 0.5, None]
    assert [getattr(each, face.address) for each in outer.members[1:3]] == ["https://example.org/v1"] * 2
    assert all(each.e2ee for each in face.fallback([QWEN, inner], api_key=KEY, e2ee=True).members)


# ------------------------------------------------------------------------------------------ the same model again


@FACES
def test_the_same_model_with_another_key_has_its_own_health(face: Any) -> None:
    """And with the same key again not; no label tells a key."""
    members = [face.own(model=QWEN, api_key=f"cpk_{name}") for name in "abb"]
    members[2].temperature = 0.5
    seats = face.seats(face.fallback([*members, GEMMA], api_key="cpk_a"))
    first, second, third, other = (seat.member for seat in seats)
    assert first.account == other.account != second.account == third.account
    assert first.target != second.target == third.target
    assert len({first.place, second.place, third.place}) == 3
    assert "cpk" not in str([seat.member for seat in seats])


@FACES
def test_the_same_model_with_other_settings_is_another_chance(face: Any) -> None:
    """It is asked when the first failed, and shares its health."""
    told = face.call(["cold"], [QWEN, {"model": QWEN, "temperature": 1}])
    assert told.models == [QWEN, QWEN]
    assert [each["outcome"] for each in told.attempts] == ["failed", "answered"]


@FACES
def test_others_that_look_alike_are_asked_one_after_the_other(face: Any) -> None:
    """What a model of another provider depends on is not known, so only the same object is the same."""
    first, second = (seat.member for seat in face.seats(face.fallback([face.stranger(), face.stranger()])))
    assert first.target == second.target
    assert first.place != second.place


@FACES
@pytest.mark.parametrize(
    "listed",
    [
        lambda face: [QWEN, GEMMA, QWEN],
        lambda face: [{"model": QWEN, "temperature": 1}, {"model": QWEN, "temperature": 1}],
        lambda face: [face.own(model=QWEN, api_key=KEY)] * 2,
        lambda face: [face.stranger()] * 2,
    ],
    ids=["names", "tables", "models", "strangers"],
)
def test_the_same_twice_is_refused(face: Any, listed: Any) -> None:
    """At the door: it would add nothing."""
    with pytest.raises(ConfigurationError, match="listed twice with the same key and settings: once is enough"):
        face.fallback(listed(face))


@FACES
def test_the_same_in_other_words_is_refused_at_the_first_call(face: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the key is looked at, which may come from the environment."""
    made = face.fallback([face.own(model=QWEN, api_key=KEY), QWEN])
    assert len({seat.member.account for seat in face.seats(made)}) == 2
    monkeypatch.setenv("CHUTES_API_KEY", KEY)
    made = face.fallback([face.own(model=QWEN, api_key=KEY), QWEN])
    with pytest.raises(ConfigurationError, match=f"'{QWEN}' is listed twice"):
        face.seats(made)


# ------------------------------------------------------------------------------------------ what a call may ask for


@FACES
@pytest.mark.parametrize(
    ("call", "members"),
    [
        ({"n": 2}, {}),
        ({"extra_body": {"n": 2}}, {}),
        ({}, {"n": 2}),
        ({}, {"extra_body": {"n": 2}}),
    ],
)
def test_a_fallback_gives_one_answer(face: Any, call: Any, members: Any) -> None:
    """More are refused, wherever they were asked for; a call's own number comes before a member's."""
    options = members if face.own is ChatChutes or not members else {"additional_kwargs": members}
    told = face.call(options=options, **call)
    assert isinstance(told.error, RequestRefusedError)
    assert str(told.error) == "A fallback returns one answer: for n > 1, call one of its members directly."
    assert told.models == []
    if members.get("n"):
        assert face.call(options=options, n=1).error is None


@FACES
def test_a_call_may_name_its_model(face: Any) -> None:
    """That one is asked, and blamed: a member, or another one with the key of the first of ours."""
    told = face.call(["cold"], model="acme/two")
    assert (told.error, told.models) == (None, ["acme/two", "acme/two"])
    assert [each["model"] for each in told.attempts] == told.models
    told = face.call(model="acme/other")
    assert (told.error, told.models) == (None, ["acme/other"])
    assert face.call(model=None).models == ["acme/one"]
    told = face.call(model=["acme/two"])
    assert isinstance(told.error, RequestRefusedError)
    assert told.models == []


@FACES
@pytest.mark.parametrize("limit", [2.0, TimeLimits(total=2.0)])
def test_a_call_may_have_a_shorter_limit(face: Any, limit: Any) -> None:
    """Each attempt is held to it; a longer one than the policy's changes nothing, and none at all is refused."""
    told = face.call(["hang"], timeout=limit)
    assert [each["kind"] for each in told.attempts] == ["total_timeout", None]
    assert told.clock.now() == pytest.approx(2)
    told = face.call(["hang"], timeout=500)
    assert told.clock.now() == pytest.approx(5)
    assert told.error is None
    assert isinstance(face.call(timeout=0).error, ConfigurationError)


@FACES
def test_the_shortest_limit_holds(face: Any) -> None:
    """Of the fallback's, the call's and the member's own; another provider's model has none of its own."""
    mine = face.own(model=QWEN, api_key=KEY, timeout=TimeLimits(first_token=3, gap=50))
    own, other = face.seats(face.fallback([mine, face.stranger()]))
    step = TimeLimits(first_token=8, gap=5, total=60)
    assert own.limits(step) == TimeLimits(first_token=3, gap=5, total=60)
    assert own.limits(step, TimeLimits(total=9)) == TimeLimits(first_token=3, gap=5, total=9)
    assert other.limits(step) == step
    assert other.limits(step, TimeLimits(total=9)).total == 9
