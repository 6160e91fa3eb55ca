"""The fallback as a model: how it is made, what it tells, and what it keeps to itself."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import llama_index_chutes
from chutes_core import APIError, ConfigurationError, Kind, ModelInfo, Usage
from chutes_core.fallback import LiveStats
from chutes_core.testing import Answer, Fault, FaultScript
from chutes_core.usage import cost
from llama_index_chutes import Chutes, ChutesFallback, FallbackError, FallbackPolicy, Health
from tests.llama_index_chutes.rigs import HELLO, KEY, STYLES, ask, connection, gather
from tests.llama_index_chutes.stages import ANSWER, BERN, CITY, MEMBERS, OTHER, POLICY, PREDICT, PROMPT, City, stage
from tests.llama_index_chutes.strangers import Stranger


def test_an_answer_says_who_gave_it_and_what_was_tried() -> None:
    """The attempts are plain data, with kind, status, time, tokens and cost."""
    made = stage([Fault("error_line", after=2, answer=OTHER)])
    raw = ask(made.llm, "chat").last.raw
    first, second = json.loads(json.dumps(raw["chutes_attempts"]))
    assert (first["model"], first["kind"], first["usage"]["completion_tokens"]) == (MEMBERS[0], "stream_error", 2)
    assert (second["model"], second["outcome"], second["kind"]) == (MEMBERS[1], "answered", None)
    assert second["usage"]["completion_tokens"] == raw["usage"]["completion_tokens"]
    assert second["cost"] > 0
    assert second["elapsed"] >= 0


def test_nobody_answers() -> None:
    """The error lists every attempt in order and is a group of the failures."""
    made = stage(["cold"] * 20, policy=replace(POLICY, max_attempts=4))
    error = ask(made.llm, "chat").error
    assert isinstance(error, FallbackError)
    assert [attempt.model for attempt in error.attempts] == [*MEMBERS, MEMBERS[0]] == made.asked
    assert {each.kind for each in error.exceptions if isinstance(each, APIError)} == {Kind.COLD}


def test_health_is_shared_and_printed() -> None:
    """What one fallback learns another one knows, and a person can read it."""
    first = stage(["cold"])
    ask(first.llm, "chat")
    second = stage(health=first.llm.health)
    ask(second.llm, "chat")
    assert first.asked == MEMBERS[:2]
    assert second.asked == MEMBERS[1:2]
    assert MEMBERS[0] in str(second.llm.health)
    assert "cold" in str(second.llm.health)


def test_members_of_one_account_share_its_failures() -> None:
    """An account without money is not asked again under another model; a member with another key is."""
    transport, clock, connected = connection(FaultScript(["quota"], default=ANSWER))
    other = Chutes(model=MEMBERS[2], **{**connected, "api_key": "cpk_other"})
    llm = ChutesFallback([*MEMBERS[:2], other], policy=POLICY, **connected)
    outcome = ask(llm, "chat")
    assert [request.model for request in transport.requests] == [MEMBERS[0], MEMBERS[2]]
    assert outcome.last.raw["model_name"] == MEMBERS[2]
    assert "cpk" not in str(llm.health)
    assert clock.now() == 0


def test_a_line_of_names_and_a_route(tmp_path: Path) -> None:
    """Configuration is one line, or a file."""
    assert [each.model for each in ChutesFallback.from_models("a/b, c/d", api_key=KEY).members] == ["a/b", "c/d"]
    file = tmp_path / "routes.toml"
    place = "llama_index.core.llms.mock:MockLLM"
    file.write_text(
        "[routes.summarization]\nmodels = ['acme/small', {model = 'acme/big', max_tokens = 9}]\ntemperature = 0\n"
        f"policy = {{deadline = 30}}\n[routes.bad]\nmodels = [{{model = 'x', provider = '{place}'}}]\n"
        "[routes.unknown]\nmodels = [{model = 'x', provider = 'nobody'}]\n"
    )
    made = ChutesFallback.route("summarization", file, api_key=KEY)
    assert [(each.model, each.temperature, each.max_tokens) for each in made.members] == [
        ("acme/small", 0, None),
        ("acme/big", 0, 9),
    ]
    assert made.policy.deadline == 30
    with pytest.raises(ConfigurationError, match="no provider 'nobody'"):
        ChutesFallback.route("unknown", file)
    with pytest.raises(ConfigurationError, match="summarization"):
        ChutesFallback.route("sumarization", file)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"policy": {"dedline": 1}}, "deadline"),
        ({"policy": 5}, "a FallbackPolicy or a mapping, not int"),
        ({"health": 5}, "a Health, not int"),
    ],
)
def test_mistakes_are_told_at_the_door(arguments: dict[str, Any], said: str) -> None:
    """What cannot be meant is refused with a word of what to do."""
    with pytest.raises(ConfigurationError, match=said):
        ChutesFallback(["acme/one"], **arguments)


def test_our_models_are_copied_without_retries() -> None:
    """The model that was listed keeps its own."""
    own = Chutes(model=MEMBERS[0], api_key=KEY, max_retries=3)
    made = ChutesFallback([own, ChutesFallback(["acme/two"], api_key=KEY)])
    assert [each.max_retries for each in made.members] == [0, 0]
    assert own.max_retries == 3
    assert [each.model for each in made.members] == [MEMBERS[0], "acme/two"]


def test_no_key_leaves() -> None:
    """Neither repr, data nor pickle has one, and what comes back answers with another."""
    made = ChutesFallback([*MEMBERS[:2], Stranger()], api_key="cpk_secret", policy=FallbackPolicy(deadline=9))
    seen = repr(made) + str(made) + made.to_json() + repr(pickle.dumps(made)) + str(made.to_payload())
    assert "cpk_secret" not in seen
    assert "not-for-others" not in seen
    back = pickle.loads(pickle.dumps(made))
    assert [each.model for each in back.members] == [*MEMBERS[:2], "other/model"]
    assert back.policy == made.policy
    own = ChutesFallback(MEMBERS[:2], api_key="cpk_secret", policy=FallbackPolicy(deadline=9))
    again = ChutesFallback.from_dict(own.to_dict())
    assert again.to_dict() == own.to_dict()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(ChutesFallback(MEMBERS[:2], policy=FallbackPolicy(order=lambda members: members)))
    with pytest.raises(ConfigurationError, match="cannot be restored"):
        ChutesFallback.from_dict(made.to_dict())


def test_metadata_fits_every_member() -> None:
    """Prompts are made for the smallest window; tools are there when somebody has them."""
    data = stage().llm.metadata
    assert data.context_window == 40960
    assert data.is_function_calling_model
    assert data.model_name == ",".join(MEMBERS)


def test_a_changed_member_is_seen() -> None:
    """The next call uses what was changed."""
    made = stage()
    made.llm.chat(HELLO)
    made.llm.members[0].model = MEMBERS[2]
    made.llm.members.pop()
    made.llm.chat(HELLO)
    assert made.asked == [MEMBERS[0], MEMBERS[2]]


def test_members_and_rules_may_be_exchanged() -> None:
    """What is assigned becomes what the constructor would have made of it."""
    made = stage()
    stranger = Stranger()
    members = [ChutesFallback([MEMBERS[1]], api_key="cpk_0123"), stranger]
    copy = made.llm.model_copy(update={"members": members, "policy": {"deadline": 3}, "verbose": True})
    assert ([each.max_retries for each in copy.members], copy.policy.deadline) == ([0, 0], 3)
    made.llm.members = members
    made.llm.policy = {"deadline": 3}
    assert [member.metadata.model_name for member in made.llm.members] == [MEMBERS[1], "other/model"]
    assert [member.max_retries for member in made.llm.members] == [0, 0]
    assert stranger.max_retries == 2
    assert made.llm.policy == FallbackPolicy(deadline=3)
    made.llm.policy = None
    assert made.llm.policy == FallbackPolicy()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("members", ["acme/one"], "names are for the constructor"),
        ("members", "acme/one", "a list of models"),
        ("members", [], "a list of models"),
        ("members", [3], "a list of models"),
        ("policy", {"dedline": 3}, "deadline"),
        ("policy", 5, "not int"),
        ("health", None, "not NoneType"),
    ],
)
def test_mistakes_in_what_is_assigned_are_told_at_once(name: str, value: Any, said: str) -> None:
    """Not at the next call, and what was there stays."""
    llm = stage().llm
    before = getattr(llm, name)
    with pytest.raises(ConfigurationError, match=said):
        setattr(llm, name, value)
    with pytest.raises(ConfigurationError, match=said):
        llm.model_copy(update={name: value})
    assert getattr(llm, name) is before


def test_the_packages_names() -> None:
    """What users import is there."""
    assert {"ChutesFallback", "FallbackPolicy", "FallbackError", "Health"} <= set(llama_index_chutes.__all__)
    assert isinstance(stage().llm.health, Health)


def test_a_route_in_yaml(tmp_path: Path) -> None:
    """YAML says the same as TOML."""
    file = tmp_path / "routes.yaml"
    file.write_text(
        "routes:\n  analysis:\n    models: [acme/small, {model: acme/big, max_tokens: 9}]\n    temperature: 0\n"
        "    policy: {deadline: 30, after_commit: restart}\n"
    )
    made = ChutesFallback.route("analysis", file, api_key=KEY, temperature=1)
    assert [(each.model, each.temperature, each.max_tokens) for each in made.members] == [
        ("acme/small", 1, None),
        ("acme/big", 1, 9),
    ]
    assert made.policy == FallbackPolicy(deadline=30, after_commit="restart")


# -------------------------------------------------------------------------------------- what the service can do


class By(Answer):
    """An answer of the second of the models that were asked."""

    def chunks(self, model: str, *, machine: int = 0) -> list[dict[str, object]]:
        return Answer.chunks(self, model.split(",")[-1], machine=machine)


LARGE = MEMBERS[1:]


@pytest.mark.parametrize("style", STYLES)
def test_the_first_hop_can_be_the_services(style: str) -> None:
    """One request names the members; the answer says who gave it, what it cost, and who chose."""
    made = stage([By("Hi.")], members=LARGE, policy=replace(POLICY, first_hop="server"))
    raw = ask(made.llm, style).last.raw
    (request,) = made.transport.requests
    assert request.model == ",".join(LARGE)
    assert (raw["model_name"], raw["chutes_first_hop"]) == (LARGE[1], "server")
    (row,) = raw["chutes_attempts"]
    assert (row["model"], row["served"]) == (request.model, LARGE[1])
    info = made.llm.members[0]._known_models().get(LARGE[1])
    assert row["cost"] == cost(Usage(**row["usage"]), info)


def test_members_that_differ_are_not_asked_together() -> None:
    """A list has one set of parameters, one key and one address; the answer says why it was not used."""
    policy = replace(POLICY, first_hop="server")
    for other in ({"temperature": 0.5}, {"additional_kwargs": {"seed": 1}}, {"api_key": "cpk_other"}):
        made = stage(members=[LARGE[0], {"model": LARGE[1], **other}], policy=policy)
        assert ask(made.llm, "chat").last.raw["chutes_first_hop"].startswith("member: only")
        assert made.asked == LARGE[:1]
    made = stage(members=LARGE, policy=policy)
    made.llm.members[0].temperature = 1.0
    assert ask(made.llm, "chat").last.raw["chutes_first_hop"].startswith("member: only")
    assert "chutes_first_hop" not in ask(stage(members=LARGE).llm, "chat").last.raw


@pytest.mark.parametrize("style", PREDICT)
def test_an_object_is_asked_of_members_together(style: str) -> None:
    """In the way that all of them have."""
    made = stage([CITY], members=LARGE, policy=replace(POLICY, first_hop="server"))
    assert gather(made.llm, style, City, PROMPT, place="Bern").last == BERN
    assert made.asked == [",".join(LARGE)]


def test_the_list_has_no_room() -> None:
    """The service has asked all of its list by then: nobody is asked again before a wait."""
    made = stage(["capacity"], members=LARGE, policy=replace(POLICY, first_hop="server"))
    outcome = ask(made.llm, "chat")
    assert outcome.error is None
    assert made.asked[0] == ",".join(LARGE)
    assert set(made.asked[1:]) <= set(LARGE)
    assert made.clock.now() > 0


@pytest.mark.parametrize("order", ["latency", "throughput"])
def test_live_statistics_decide_the_order(order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come from the service in the background, once; other orders do not ask for them."""
    fetched: list[int] = []

    def fetch() -> list[ModelInfo]:
        fetched.append(1)
        return [ModelInfo(id=name, ttft=3 - place, tps=place + 1) for place, name in enumerate(MEMBERS)]

    def of_service(*args: object, **options: object) -> LiveStats:
        return LiveStats(fetch, spawn=lambda job: job())

    monkeypatch.setattr(LiveStats, "of_service", of_service)
    made = stage(policy=replace(POLICY, order=order))
    ask(made.llm, "chat")
    ask(made.llm, "chat")
    assert made.asked[0] == MEMBERS[2]
    assert len(fetched) == 1
    ask(stage().llm, "chat")
    assert len(fetched) == 1
    assert ask(stage(members=[Stranger()], policy=replace(POLICY, order=order)).llm, "chat").error is None
    assert len(fetched) == 1
