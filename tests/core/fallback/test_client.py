"""A fallback as a client: what can be a member, what is sent, and what comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from chutes_core import (
    APIError,
    AsyncFallbackClient,
    Attempt,
    Catalog,
    ChutesClient,
    ConfigurationError,
    Delta,
    FallbackClient,
    FallbackError,
    FallbackPolicy,
    FallbackReply,
    Kind,
    MissingKeyError,
    RequestRefusedError,
    Restart,
    TimeLimits,
)
from chutes_core.fallback import Health
from chutes_core.testing import Answer, Fault, FaultScript, FaultyTransport, VirtualClock

HELLO = [{"role": "user", "content": "Hi"}]
ANSWER = Answer("The answer is forty-two.", pieces=4)
PAYING = Answer("", tool_calls=[("pay", {"amount": 1000})], pieces=3)
TWO = ["acme/one", "acme/two"]
RESTART = FallbackPolicy(after_commit="restart")


class Stage:
    """A scripted service, and the clients that ask it."""

    def __init__(self, *script: Answer | Fault | str, **by_model: Any) -> None:
        self.clock = VirtualClock()
        self.transport = FaultyTransport(FaultScript(script, default=ANSWER, **by_model), clock=self.clock)

    def client(self, members: Any = TWO, **options: Any) -> FallbackClient:
        given = {"catalog": Catalog.bundled(), "clock": self.clock, **options}
        return FallbackClient(members, "cpk_test", http_client=httpx.Client(transport=self.transport), **given)

    def async_client(self, members: Any = TWO, **options: Any) -> AsyncFallbackClient:
        given = {"catalog": Catalog.bundled(), "clock": self.clock, **options}
        http = httpx.AsyncClient(transport=self.transport)
        return AsyncFallbackClient(members, "cpk_test", http_client=http, **given)

    @property
    def asked(self) -> list[str]:
        return [request.model for request in self.transport.requests]


def brief(attempts: Any) -> list[tuple[str, str, Kind | None]]:
    return [(each.model, each.outcome, each.kind) for each in attempts]


def test_a_whole_answer() -> None:
    """The next member takes over unnoticed; the reply is the answer's own, with the attempts behind it."""
    reply = Stage("capacity").client().chat(HELLO, max_tokens=50)
    assert isinstance(reply, FallbackReply)
    assert (reply.content, reply.model, reply.finish_reason) == (ANSWER.text, "acme/two", "stop")
    assert reply.usage is not None
    assert brief(reply.attempts) == [("acme/one", "failed", Kind.CAPACITY), ("acme/two", "answered", None)]
    assert reply.attempts[-1].usage == reply.usage
    assert reply.first_hop == "member"


async def test_a_whole_answer_async() -> None:
    """The same on an event loop."""
    async with Stage("capacity").async_client() as client:
        reply = await client.chat(HELLO)
    assert (reply.content, len(reply.attempts)) == (ANSWER.text, 2)


def test_a_stream() -> None:
    """Deltas of one member only; the reply is there once the stream has ended, and before what has arrived."""
    with Stage(Fault("reset", after=0)).client().stream(HELLO) as stream:
        first = next(stream)
        assert stream.reply.content == first.content
        rest = [*stream]
    assert "".join(delta.content for delta in [first, *rest]) == ANSWER.text == stream.reply.content
    assert brief(stream.reply.attempts) == [("acme/one", "failed", Kind.RESET), ("acme/two", "answered", None)]


async def test_a_stream_async() -> None:
    """The same on an event loop."""
    async with Stage(Fault("reset", after=0)).async_client().stream(HELLO) as stream:
        text = "".join([delta.content async for delta in stream])
    assert text == ANSWER.text == stream.reply.content


def test_after_a_part_the_error_is_raised() -> None:
    """What a reader has seen is not repeated by another model, unless the policy says so."""
    stream = Stage(Fault("reset", after=3)).client().stream(HELLO)
    with pytest.raises(APIError) as caught:
        list(stream)
    assert caught.value.partial
    assert brief(caught.value.attempts) == [("acme/one", "failed", Kind.RESET)]
    assert stream.reply.content == caught.value.partial


def test_a_restart_says_that_what_came_is_void() -> None:
    """After it comes the whole answer of another member."""
    deltas = [*Stage(Fault("reset", after=3)).client(policy=RESTART).stream(HELLO)]
    marks = [place for place, delta in enumerate(deltas) if isinstance(delta, Restart)]
    assert len(marks) == 1
    mark = deltas[marks[0]]
    assert isinstance(mark, Restart)
    assert mark.model == "acme/two"
    assert "".join(delta.content for delta in deltas[: marks[0]])
    assert "".join(delta.content for delta in deltas[marks[0] :]) == ANSWER.text


def test_a_tool_call_waits_where_answers_may_restart() -> None:
    """A call that broke off is never seen: nobody could take it back."""
    stage = Stage(Fault("reset", after=4, answer=PAYING), PAYING)
    deltas = [*stage.client(policy=RESTART).stream(HELLO)]
    assert not any(isinstance(delta, Restart) for delta in deltas)
    assert "".join(piece.arguments for delta in deltas for piece in delta.tool_calls) == '{"amount": 1000}'


def test_nothing_is_sent_before_the_first_delta() -> None:
    """A stream that nobody reads costs nothing; one left early says that it was cancelled, and closes."""
    stage, told = Stage(), list[Attempt]()
    stream = stage.client(on_attempt=told.append).stream(HELLO)
    assert stage.asked == []
    next(stream)
    stream.close()
    assert stage.asked == ["acme/one"]
    assert stage.transport.open_replies == 0
    assert brief(told) == [("acme/one", "cancelled", None)]


def test_every_attempt_is_told_as_it_ends() -> None:
    """In order, with those that were skipped; the failure of all lists the same."""
    stage, told = Stage("cold", "capacity"), list[Attempt]()
    client = stage.client(
        [*TWO, "acme/three"], on_attempt=told.append, policy={"ignore": ["acme/three"], "max_attempts": 2}
    )
    with pytest.raises(FallbackError) as caught:
        client.chat(HELLO)
    assert brief(told) == [
        ("acme/three", "skipped", None), ("acme/one", "failed", Kind.COLD), ("acme/two", "failed", Kind.CAPACITY),
    ]  # fmt: skip
    assert tuple(told) == caught.value.attempts


def test_a_member_of_ones_own() -> None:
    """A mapping has what is that member's own; what it does not say it shares with the others."""
    stage = Stage("capacity")
    own = {"model": "other/three", "api_key": "cpk_other", "base_url": "https://other.test/v1", "temperature": 0.5}
    client = stage.client(["acme/one", own], default_headers={"X-Title": "me"})
    client.chat(HELLO, max_tokens=5)
    first, second = stage.transport.requests
    assert (first.url, second.url) == (
        "https://llm.chutes.ai/v1/chat/completions",
        "https://other.test/v1/chat/completions",
    )
    assert (first.body.get("temperature"), second.body["temperature"]) == (None, 0.5)
    assert second.headers["x-title"] == "me"
    accounts = [seat.member.account for seat in client._sit()]
    assert accounts[0] != accounts[1]
    assert "cpk" not in repr(client) + repr(accounts)


def test_a_call_has_the_last_word_on_a_parameter() -> None:
    """A member's own parameters are its defaults."""
    stage = Stage()
    stage.client([{"model": "acme/one", "temperature": 0.5}]).chat(HELLO, temperature=0.1)
    assert stage.transport.requests[0].body["temperature"] == 0.1


def test_an_account_in_trouble_is_asked_once() -> None:
    """Members listed by name share a key, and with it its failures."""
    stage = Stage("auth", "auth")
    with pytest.raises(FallbackError):
        stage.client().chat(HELLO)
    assert stage.asked == ["acme/one"]
    other = Stage("auth")
    assert other.client([*TWO, {"model": "acme/two", "api_key": "cpk_other"}]).chat(HELLO).content == ANSWER.text


def test_members_without_a_key_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has no key is passed over; if nobody has one, that is the error."""
    stage = Stage()
    http = httpx.Client(transport=stage.transport)
    members = ["acme/one", {"model": "acme/two", "api_key": "cpk_test"}]
    reply = FallbackClient(members, http_client=http, clock=stage.clock).chat(HELLO)
    assert [each.outcome for each in reply.attempts] == ["skipped", "answered"]
    with pytest.raises(MissingKeyError):
        FallbackClient(TWO, http_client=http, clock=stage.clock).chat(HELLO)


def test_the_shortest_limit_holds() -> None:
    """The policy's, the member's and the call's limits: whichever is the shortest."""
    stage = Stage("hang")
    stage.client(policy={"first_token": 8}).chat(HELLO, timeout=TimeLimits(first_token=3))
    assert stage.clock.now() == pytest.approx(3)
    stage = Stage("hang")
    stage.client([{"model": "acme/one", "timeout": TimeLimits(first_token=2)}, "acme/two"]).chat(HELLO)
    assert stage.clock.now() == pytest.approx(2)


def test_over_a_client_that_is_there() -> None:
    """Its connections and settings are used; its own retries are not, and it stays open."""
    stage = Stage("capacity")
    own = ChutesClient(
        "cpk_test", http_client=httpx.Client(transport=stage.transport), clock=stage.clock, default_headers={"X-A": "b"}
    )
    with FallbackClient.over(own, TWO, policy=FallbackPolicy(confidential=None)) as client:
        assert client.chat(HELLO).model == "acme/two"
    assert stage.asked == TWO
    assert stage.transport.requests[0].headers["x-a"] == "b"
    assert client.ledger is own.ledger
    assert own.max_retries == 2
    assert own.chat(HELLO, model="acme/one").content == ANSWER.text


def test_confidential_members_are_asked_with_the_header() -> None:
    """The service is told too."""
    stage = Stage()
    policy = FallbackPolicy(confidential=True, trusted=("acme/one",))
    stage.client(["acme/one"], policy=policy).chat(HELLO)
    assert stage.transport.requests[0].headers["x-tee-only"] == "true"


def test_health_may_be_shared() -> None:
    """What one fallback learned, another one knows."""
    health = Health(now=VirtualClock().now)
    Stage("cold").client(health=health).chat(HELLO)
    stage = Stage()
    assert stage.client(health=health).chat(HELLO).model == "acme/two"
    assert stage.asked == ["acme/two"]


def test_a_newer_catalogue_is_used() -> None:
    """What a client has learned of the models since counts from the next call on."""
    stage = Stage()
    client = stage.client()
    assert client._sit() is client._sit()
    asked = client._seats[0].client
    row = {"id": "acme/one", "max_model_len": 10}
    asked._catalog = asked.catalog.updated([row], fetched_at=1.0)
    reply = client.chat([{"role": "user", "content": "word " * 100}])
    assert brief(reply.attempts) == [("acme/one", "skipped", None), ("acme/two", "answered", None)]


def test_several_in_one_request() -> None:
    """The service works through a list; the answer says who it was."""
    models = [info.id for info in Catalog.bundled() if info.price_out is not None][:2]
    stage = Stage()
    reply = stage.client(models, policy=FallbackPolicy(first_hop="server", confidential=False)).chat(HELLO)
    assert stage.asked == [",".join(models)]
    assert reply.first_hop == "server"


@pytest.mark.parametrize(
    ("members", "options", "said"),
    [
        ("acme/one", {}, "A fallback takes a list"),
        ([], {}, "at least one model"),
        ({"model": "acme/one"}, {}, "A fallback takes a list"),
        ([1], {}, "not a int"),
        ([{"name": "acme/one"}], {}, "needs the name of its model"),
        ([{"model": "acme/one", "temprature": 1}], {}, "A member has no 'temprature'"),
        (TWO, {"max_retries": 3}, "does its own retries"),
        (TWO, {"policy": {"deadlin": 3}}, "has no 'deadlin'. Did you mean 'deadline'?"),
    ],
)
def test_what_cannot_be_a_fallback(members: Any, options: dict[str, Any], said: str) -> None:
    """It is refused at the door, with what to do."""
    with pytest.raises(ConfigurationError, match=said):
        Stage().client(members, **options)


def test_the_same_model_twice() -> None:
    """With another key or other parameters it is one more chance; with the same in everything it adds nothing."""
    stage = Stage("capacity", "capacity")
    members = ["acme/one", {"model": "acme/one", "temperature": 0.5}, {"model": "acme/one", "api_key": "cpk_other"}]
    assert [each.model for each in stage.client(members).chat(HELLO).attempts] == ["acme/one"] * 3
    with pytest.raises(ConfigurationError, match="twice"):
        stage.client(["acme/one", "acme/one"]).chat(HELLO)


def test_one_answer_only() -> None:
    """Several answers of several models would be a guess at what is wanted."""
    stage = Stage()
    with pytest.raises(RequestRefusedError, match="one answer"):
        stage.client().chat(HELLO, n=2)
    with pytest.raises(RequestRefusedError, match="one answer"):
        stage.client(["acme/one", {"model": "acme/two", "n": 2}])
    assert stage.asked == []


def test_concurrent_calls_are_apart() -> None:
    """Many calls of one client at once: each has its own attempts and its own answer."""

    async def main() -> list[FallbackReply]:
        client = Stage("capacity").async_client()
        return await asyncio.gather(*(client.chat(HELLO) for _ in range(20)))

    replies = asyncio.run(main())
    assert {reply.content for reply in replies} == {ANSWER.text}
    assert sorted(len(reply.attempts) for reply in replies) == [1] * 19 + [2]


def test_what_a_reader_needs_is_in_a_delta() -> None:
    """A restart is a delta without text, so that code that only adds up text need not know it."""
    mark = Restart(model="acme/two")
    assert (mark.content, mark.reasoning, [*mark.tool_calls]) == ("", "", [])
    assert isinstance(mark, Delta)
