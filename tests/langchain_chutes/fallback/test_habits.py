"""A fallback among LangChain's own things: counters, tracers, limiters, caches, routes, with_fallbacks."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.rate_limiters import BaseRateLimiter

from chutes_core import CapacityError, Catalog, ColdModelError, InvalidRequestError, Kind, ModelInfo
from chutes_core.failures.reading import failure
from chutes_core.fallback import LiveStats
from chutes_core.testing import Answer, Fault, FaultScript
from langchain_chutes import ChatChutes, ChutesFallback, FallbackError, FallbackPolicy
from langchain_chutes._errors import family
from tests.langchain_chutes.fallback_stage import ANSWER, NAMES, RESTART, Other, Person, Recorder, Tree, pay, stage
from tests.langchain_chutes.models import KEY, MODES

USED = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}


def counted_answer() -> list[AIMessageChunk]:
    told = {"model_name": "other-1"}
    return [AIMessageChunk("Fo"), AIMessageChunk("ur.", usage_metadata=USED, response_metadata=told)]  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ what is counted


@pytest.mark.parametrize("mode", MODES)
def test_tokens_of_others_are_counted_once(mode: str) -> None:
    """LangChain's counter, which puts itself into every run, has the answer of another provider's model once."""
    with get_usage_metadata_callback() as counted:
        made = stage(["capacity"], ["acme/one", Other.of(*counted_answer())])
        made.call(mode)
    assert made.message.text == "Four."
    assert [each["total_tokens"] for each in counted.usage_metadata.values()] == [10]
    assert made.attempts[-1]["usage"]["total_tokens"] == 10


class Counter(BaseCallbackHandler):
    """A counter of somebody else."""

    def __init__(self) -> None:
        self.tokens = 0

    def on_llm_end(self, response: Any, **options: Any) -> None:
        used = response.generations[0][0].message.usage_metadata
        self.tokens += used["total_tokens"] if used else 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("foreign", [False, True])
def test_other_counters_count_once_too(foreign: bool, mode: str) -> None:
    """Whatever handler adds up the usage of runs has that of the answer from the call's own run."""
    counter = Counter()
    members: list[Any] = [Other.of(*counted_answer())] if foreign else NAMES
    made = stage([] if foreign else ["capacity"], [*members, "acme/last"]).call(mode, config={"callbacks": [counter]})
    assert counter.tokens == (10 if foreign else 15) == made.message.usage_metadata["total_tokens"]


def test_an_answer_that_was_refused_has_its_tokens() -> None:
    """An answer without the form was paid for: its attempt has usage and time like any other."""
    good = Answer('{"name": "Ada", "age": 36}')
    made = stage([Answer("No idea."), good])
    result: Any = made.model.with_structured_output(Person, include_raw=True, method="json_schema").invoke("Who?")
    assert result["parsing_error"] is not None
    seen = Recorder()
    made = stage([Answer("No idea."), good])
    asked = made.model.with_structured_output(Person, method="json_schema")
    assert asked.invoke("Who?", config={"callbacks": [seen]}) == Person(name="Ada", age=36)
    assert seen.events == [("acme/one", "failed"), ("acme/two", "answered")]
    ledger = made.model.members[0].ledger  # type: ignore[attr-defined]
    assert ledger.totals().usage.total_tokens == sum(data["usage"]["total_tokens"] for data in seen.told)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", ["reset", "error_line", "restart", "malformed", "stall", "no_finish"])
def test_usage_and_cost_of_every_attempt(fault: str, mode: str) -> None:
    """The attempts' tokens are those of the ledger, parts of answers included, and each has its price."""
    names = ["Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE"]
    made = stage([Fault(fault, after=2)], names, policy=RESTART).call(mode)
    total = made.model.members[0].ledger.totals()  # type: ignore[attr-defined]
    assert [each["outcome"] for each in made.attempts] == ["failed", "answered"]
    assert sum(each["usage"]["total_tokens"] for each in made.attempts) == total.usage.total_tokens
    assert sum(each["cost"] for each in made.attempts) == pytest.approx(total.cost)
    assert all(each["elapsed"] >= 0 for each in made.attempts)


# ------------------------------------------------------------------------------------------ who watches


@pytest.mark.parametrize("mode", MODES)
def test_every_attempt_is_a_child_run(mode: str) -> None:
    """Also that of another provider's model, and one that failed has its error."""
    tree = Tree()
    members = [Other.of(ConnectionResetError("gone")), "acme/one", "acme/two"]
    stage(["capacity"], members).call(mode, config={"callbacks": [tree]})
    (root,) = tree.roots
    assert [bool(child.error) for child in root.child_runs] == [True, True, False]
    assert all(child.parent_run_id == root.id for child in root.child_runs)


class Order(BaseCallbackHandler):
    """Writes down what ends, in order; not in the event loop's thread, like most handlers."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def on_chain_error(self, error: Any, **options: Any) -> None:
        self.ended.append(f"attempt: {type(error).__name__}")

    def on_llm_error(self, error: Any, **options: Any) -> None:
        self.ended.append(f"call: {type(error).__name__}")


def test_who_leaves_an_async_stream_ends_its_attempt_first() -> None:
    """LangChain leaves a member's stream to the collector: its attempt would end after the call, in a closing loop."""
    made, order = stage(), Order()

    async def leave() -> None:
        chunks: Any = made.model.astream("Hi", {"callbacks": [order]})
        await anext(chunks)
        await chunks.aclose()
        assert order.ended == ["attempt: GeneratorExit", "call: GeneratorExit"]
        assert made.transport.open_replies == 0

    asyncio.run(leave())


class Namer(BaseCallbackHandler):
    """Writes down what the end of a call says of the model, as tracers do that read no message."""

    def __init__(self) -> None:
        self.models: list[Any] = []

    def on_llm_end(self, response: Any, **options: Any) -> None:
        reason = response.generations[0][0].generation_info["finish_reason"]
        self.models.append(((response.llm_output or {}).get("model_name"), reason))


@pytest.mark.parametrize("mode", MODES)
def test_a_call_ends_with_the_model_that_served(mode: str) -> None:
    """And not with the names of all, by which nobody finds a price: for every handler, and in a tracer's metadata."""
    tree, namer = Tree(), Namer()
    made = stage(["capacity"], temperature=0.5).call(mode, config={"callbacks": [namer, tree]})
    assert namer.models == [("acme/two", "stop")]
    (root,) = tree.roots
    metadata = root.extra["metadata"]
    assert (metadata["ls_model_name"], metadata["ls_provider"]) == ("acme/two", "chutes")
    assert (metadata["ls_temperature"], root.extra["invocation_params"]["temperature"]) == (0.5, 0.5)
    assert [run.extra["metadata"]["ls_model_name"] for run in root.child_runs] == ["acme/one", "acme/two"]
    assert made.model.model_name == "acme/one,acme/two,acme/three"


def test_each_of_several_questions_has_its_own_model() -> None:
    """Questions of one call share LangChain's metadata: what one of them ends with is no other's."""
    tree, namer = Tree(), Namer()
    script = FaultScript(by_model={"acme/one": [ANSWER, "capacity"]}, default=ANSWER)
    stage(script).model.generate([[HumanMessage("One?")], [HumanMessage("Two?")]], callbacks=[namer, tree])
    assert [name for name, _ in namer.models] == ["acme/one", "acme/two"]
    assert [root.extra["metadata"]["ls_model_name"] for root in tree.roots] == ["acme/one", "acme/two"]


# ------------------------------------------------------------------------------------------ limiters and caches


class Turnstile(BaseRateLimiter):
    """Counts who passes."""

    def __init__(self) -> None:
        self.passed = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        self.passed += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire(blocking=blocking)


@pytest.mark.parametrize("mode", MODES)
def test_a_limiter_lets_calls_or_attempts_through(mode: str) -> None:
    """That of the fallback is asked once a call, and that of a member whenever the member is asked."""
    whole, own = Turnstile(), Turnstile()
    base = stage(["capacity", "capacity"])
    member = base.model.members[1].model_copy(update={"rate_limiter": own})
    model = ChutesFallback([base.model.members[0], member, base.model.members[2]], rate_limiter=whole, clock=base.clock)
    base.model = model
    assert base.call(mode).message.text == ANSWER.text
    assert (whole.passed, own.passed) == (1, 1)
    assert [each["outcome"] for each in base.attempts] == ["failed", "failed", "answered"]


@pytest.mark.parametrize("mode", ["sync-whole", "async-whole"])
def test_a_cache_knows_whom_it_asked(mode: str) -> None:
    """The same question to the same members is asked once; other members or rules are another question."""
    cache = InMemoryCache()
    first = stage(["capacity"], cache=cache)
    assert first.call(mode).message.text == first.call(mode).message.text
    assert len(first.transport.requests) == 2
    assert first.attempts[0]["outcome"] == "failed", "what happened is kept with the answer"
    others = [stage([], NAMES[:2], cache=cache), stage([], cache=cache, policy=FallbackPolicy(max_attempts=2))]
    for other in others:
        other.call(mode)
        assert len(other.transport.requests) == 1


# ------------------------------------------------------------------------------------------ routes


def test_routes_in_yaml(tmp_path: Path) -> None:
    """A YAML file says the same as a TOML file."""
    file = tmp_path / "routes.yaml"
    file.write_text(
        "routes:\n  short:\n    models: [acme/one, {model: acme/two, temperature: 1}]\n    temperature: 0\n"
        "    policy: {deadline: 30, after_commit: restart}\n"
    )
    model = ChutesFallback.route("short", file, api_key=KEY)
    assert repr(model) == "ChutesFallback(['acme/one', 'acme/two'], deadline=30, after_commit='restart')"
    assert [member.temperature for member in model.members] == [0, 1]  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------ with_fallbacks


@pytest.mark.parametrize("mode", MODES)
def test_only_the_exceptions_to_handle_are_handled(mode: str) -> None:
    """A full model is left for the next; a cold one, which was not named, raises its own error in one attempt."""

    def made(script: list[Any]) -> Any:
        base = stage(script)
        one, two = base.model.members[:2]
        base.model = one.with_fallbacks([two], exceptions_to_handle=(CapacityError,))  # type: ignore[assignment, list-item]
        base.model.clock = base.clock
        return base

    assert made(["capacity"]).call(mode).message.text == ANSWER.text
    cold = made(["cold"]).call(mode)
    assert isinstance(cold.error, ColdModelError)
    assert len(cold.transport.requests) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("handled", [None, (InvalidRequestError,), (family("ModelError"),)])
def test_what_is_handled_is_left_for_the_next_one(handled: Any, mode: str) -> None:
    """Also a refusal that ends the call of a fallback without exceptions to handle."""
    base = stage(["bad_request"])
    one, two = base.model.members[:2]
    base.model = one.with_fallbacks([two], **({"exceptions_to_handle": handled} if handled else {}))  # type: ignore[assignment]
    base.model.clock = base.clock
    assert base.call(mode).message.text == ANSWER.text
    assert [(each["outcome"], each["kind"]) for each in base.attempts] == [
        ("failed", "bad_request"),
        ("answered", None),
    ]
    plain = stage(["bad_request"]).call(mode)
    assert isinstance(plain.error, FallbackError)
    assert len(plain.transport.requests) == 1


def test_an_address_that_is_not_there_is_left_for_the_next_one() -> None:
    """For that has another one, and another account; where every failure is handled, whoever it is."""
    missing = failure(Kind.ROUTE_NOT_FOUND, "no matching cord", status_code=404)
    for handled in (None, (Exception,)):
        made = stage([], [Other.of(missing), "acme/two"], handled=handled).call("sync-whole")
        assert len(made.transport.requests) == 1


def test_a_refusal_that_was_handled_keeps_its_facts() -> None:
    """When all have refused, each refusal is there as it was, also in another process."""
    base = stage(["bad_request"] * 9)
    one, two = base.model.members[:2]
    with pytest.raises(FallbackError) as caught:
        one.with_fallbacks([two]).invoke("Hi")  # type: ignore[list-item]
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert [(each.kind, each.status_code) for each in error.exceptions] == [(Kind.BAD_REQUEST, 400)] * 2
        assert all(isinstance(each, InvalidRequestError) for each in error.exceptions)


def test_with_fallbacks_takes_chat_models_of_others() -> None:
    """And binds tools to all of them."""
    base = stage(["capacity"])
    other = Other.of("Done.")
    model: Any = base.model.members[0].with_fallbacks([other])
    assert isinstance(model, ChutesFallback)
    assert model.bind_tools([pay]).invoke("Pay").text == "Done."
    assert other._asked[0]["other_tools"] == [pay]


# ------------------------------------------------------------------------------------------ the first hop


class By(Answer):
    """An answer of one of a list of models."""

    def chunks(self, model: str, *, machine: int = 0) -> list[dict[str, object]]:
        return super().chunks(model.partition(",")[2].partition(":")[0] or model, machine=machine)


PAIR = ["Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE"]
SERVER = FallbackPolicy(first_hop="server")


@pytest.mark.parametrize("mode", MODES)
def test_the_server_takes_the_first_hop(mode: str) -> None:
    """One request with all names; the metadata say so, and who answered, for whose price."""
    made = stage([By("Yes.")], PAIR, policy=SERVER).call(mode)
    assert made.models == [",".join(PAIR)]
    assert made.message.response_metadata["chutes_first_hop"] == "server"
    assert made.message.response_metadata["model_name"] == PAIR[1]
    (attempt,) = made.attempts
    assert (attempt["model"], attempt["served"]) == (",".join(PAIR), PAIR[1])
    assert attempt["cost"] == made.message.response_metadata["cost"] > 0
    assert made.model.health.vitals(f"|{PAIR[1]}").successes == 1


@pytest.mark.parametrize("mode", MODES)
def test_after_the_first_hop_comes_the_next_member(mode: str) -> None:
    """A list that nobody of has room is followed by whoever is not in it."""
    made = stage(["capacity"], [*PAIR, Other.of("Mine.")], policy=SERVER).call(mode)
    assert made.message.text == "Mine."
    assert made.models == [",".join(PAIR)]
    assert [each["kind"] for each in made.attempts] == ["capacity", None]


def test_a_form_is_asked_for_in_a_way_that_all_have() -> None:
    """One request has one method: that of the first would not do for a list whose second lacks it."""
    infos = [Catalog.bundled().model(name) for name in PAIR]
    rows = (infos[0], replace(infos[1], features=frozenset({"tools"})))
    made = stage(
        [Answer("", tool_calls=[("Person", {"name": "Ada", "age": 36})])],
        PAIR,
        policy=SERVER,
        catalog=replace(Catalog.bundled(), models=rows),
    )
    assert made.model.with_structured_output(Person).invoke("Who?") == Person(name="Ada", age=36)
    assert made.models == [",".join(PAIR)]
    assert "response_format" not in made.transport.requests[0].body


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([ChatChutes(model=PAIR[0], api_key=KEY), ChatChutes(model=PAIR[1], api_key=KEY, temperature=1)], "only"),
        ([ChatChutes(model=PAIR[0], api_key=KEY), ChatChutes(model=PAIR[1], api_key="cpk_other")], "only"),
        ([Other.of("Mine."), ChatChutes(model=PAIR[1], api_key=KEY)], "'other/model' cannot be asked in a list"),
        (
            [ChatChutes(model=",".join(PAIR), api_key=KEY), ChatChutes(model=PAIR[1], api_key=KEY)],
            "special meaning",
        ),
    ],
)
def test_what_does_not_go_together_is_asked_alone(members: list[Any], why: str) -> None:
    """Other parameters, another account, another provider, or a list already; and the reason is told."""
    base = stage()
    client = base.model.members[0].http_client  # type: ignore[attr-defined]
    listed = [
        each.model_copy(update={"http_client": client}) if isinstance(each, ChatChutes) else each for each in members
    ]
    message = ChutesFallback(listed, policy=SERVER).invoke("Hi")
    told = message.response_metadata["chutes_first_hop"]
    assert told.startswith("member: ")
    assert why in told


def test_the_server_gets_no_picture_for_those_who_see_none() -> None:
    """A need that not all have keeps the others out of the list."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    made = stage([], [PAIR[1], PAIR[0]], policy=SERVER)
    made.call("sync-whole", ask=[{"role": "user", "content": [image]}])
    assert made.models == [PAIR[1]]


# ------------------------------------------------------------------------------------------ live orders


def test_an_order_by_what_is_fast_now() -> None:
    """The statistics turn the order around once they are there; the call that wanted them did not wait."""
    jobs: list[Any] = []
    made = stage([], PAIR, policy=FallbackPolicy(order="throughput"), catalog=Catalog.bundled())
    speeds = [ModelInfo(id=PAIR[0], tps=1.0), ModelInfo(id=PAIR[1], tps=90.0)]
    made.model._stats = (LiveStats(lambda: speeds, spawn=jobs.append),)
    made.model.invoke("Hi")
    (job,) = jobs
    job()
    made.model.invoke("Hi")
    assert made.models[1] == PAIR[1]


def test_no_order_by_speed_fetches_nothing() -> None:
    """Nor does one whose catalogue is offline."""
    assert stage([], PAIR).model._live_stats() is None
    offline = stage([], PAIR, policy=FallbackPolicy(order="latency"), catalog=Catalog.bundled(offline=True))
    assert offline.model._live_stats() is None
    assert stage([], PAIR, policy=FallbackPolicy(order="latency")).model._live_stats() is not None
