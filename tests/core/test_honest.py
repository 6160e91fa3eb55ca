"""Corners where a client is easily dishonest: each was a defect once."""

from __future__ import annotations

import asyncio
import json
import socket
import traceback
from typing import Any

import httpx
import pytest

from chutes_core import (
    APIError,
    AsyncChutesClient,
    ChutesClient,
    ConfigurationError,
    Kind,
    Ledger,
    MalformedReplyError,
    StreamFailedError,
    StreamInterruptedError,
    TimeLimitError,
    TimeLimits,
)
from chutes_core.reply.assemble import parse_reply
from chutes_core.testing import Answer
from chutes_core.wire import pools as pools_module
from tests.core.reply.test_guard import chunk, failing, play, sse

from .clients import HELLO, MODEL, MODES, call, scripted
from .raw_server import DONE, END, HEAD, event, piece, raw_server, reply
from .test_client import KEY, answering, ask

# --- finish reasons that say "not finished" ----------------------------------------------------------


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_engine_that_gave_up_has_not_finished(reason: str) -> None:
    """A machine that is shut down ends its stream in good order, with a reason that is none."""
    tool = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "pay", "arguments": "{}"}}]}
    for delta in ({"content": "half"}, tool):
        deltas, error = failing(sse(chunk({"content": "a"}), chunk(delta, reason)))
        assert isinstance(error, StreamFailedError)
        assert error.partial == "".join(each.content for each in deltas)
        assert error.partial_reply is not None
        assert error.partial_reply.tool_calls == ()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reason", ["abort", "error"])
def test_the_same_through_the_client(reason: str, mode: str) -> None:
    """In one piece or streamed, it is a failure."""
    outcome = call(mode, [Answer("half", finish_reason=reason)], max_retries=0)
    expected = StreamFailedError if mode.endswith("stream") else StreamInterruptedError
    assert isinstance(outcome.error, expected)
    assert outcome.error.partial == "half"


# --- restarts that nobody saw ------------------------------------------------------------------------


def test_a_restart_before_the_first_word_is_silent() -> None:
    """When the first machine had shown nothing, the second one's answer is the answer."""
    opening = {"role": "assistant", "content": ""}
    data = sse(chunk(opening, id="c1"), chunk(opening, id="c2"), chunk({"content": "Hi"}, "stop", id="c2"))
    _, whole = play(data)
    assert (whole.id, whole.content) == ("c2", "Hi")


def test_text_held_back_of_the_first_machine_is_forgotten() -> None:
    """Half a tag of the dead machine does not come before the answer of the other."""
    _, whole = play(sse(chunk({"content": "<thi"}, id="c1"), chunk({"content": "Hi"}, "stop", id="c2")))
    assert (whole.content, whole.reasoning) == ("Hi", "")


# --- keys in foreign tracebacks ----------------------------------------------------------------------


class Interrupting(httpx.BaseTransport):
    """A transport in whose middle the user presses Ctrl-C."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt


def test_an_interrupt_shows_no_key() -> None:
    """No frame shows the header, also where an interrupt goes through the HTTP client's own, which are left out."""
    with httpx.Client(transport=Interrupting()) as http, ChutesClient(KEY, http_client=http) as client:
        with pytest.raises(KeyboardInterrupt) as caught:
            client.chat(HELLO, model=MODEL)
        assert caught.value.__traceback__ is not None
        inner = caught.value.with_traceback(caught.value.__traceback__.tb_next)
        shown = "".join(traceback.TracebackException.from_exception(inner, capture_locals=True).format())
    assert "sending.py" in shown
    assert "handle_request" not in shown
    assert KEY not in shown


# --- limits that hold from the first moment ----------------------------------------------------------


@pytest.mark.parametrize("limits", [TimeLimits(total=0.2), TimeLimits(first_token=0.2)])
def test_a_connection_that_does_not_come_about_meets_the_limit(limits: TimeLimits) -> None:
    """To connect may take no longer than what it is for."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        options: dict[str, Any] = {"base_url": f"http://127.0.0.1:{address[1]}/v1", "timeout": limits, "max_retries": 0}
        with ChutesClient(KEY, **options) as client, pytest.raises(TimeLimitError):
            list(client.stream(HELLO, model=MODEL))

        async def waiting() -> None:
            async with AsyncChutesClient(KEY, **options) as other:
                with pytest.raises(TimeLimitError):
                    await anext(other.stream(HELLO, model=MODEL))

        asyncio.run(waiting())
        for filler in fillers:
            filler.close()


def test_a_total_that_is_spent_before_sending_is_said_so() -> None:
    """A key function that takes all the time leads to a time limit, not to a broken connection."""
    outcome = scripted([Answer("Hi")], key=lambda: outcome.clock.advance(9) or "cpk_late", timeout=5)  # type: ignore[func-returns-value]
    with pytest.raises(TimeLimitError) as caught:
        outcome.client.chat(HELLO, model=MODEL)
    assert caught.value.kind is Kind.TOTAL_TIMEOUT
    assert outcome.attempts == 0


def test_what_follows_the_answer_is_waited_for_briefly() -> None:
    """A server that goes on with comments after [DONE] does not hold the answer up."""

    def drip(server: Any) -> None:
        server.over.wait(0.05)

    comments = [step for _ in range(200) for step in (drip, piece(b": still here\n\n"))]
    with raw_server(answering(HEAD, event({"content": "Hi"}, "stop"), DONE, *comments, END)) as server:
        with ask(server) as client:
            deltas = list(client.stream(HELLO, model=MODEL))
        assert server.wait_for_close()
    assert "".join(delta.content for delta in deltas) == "Hi"


def test_without_a_socket_of_its_own_the_http_client_keeps_the_limit() -> None:
    """Where the connection is not known (other transports), the client's read limit is kept up to date."""
    seen: list[object] = []

    class Body(httpx.SyncByteStream):
        def __init__(self, request: httpx.Request) -> None:
            self.limits = request.extensions["timeout"]

        def __iter__(self) -> Any:
            for data in (chunk({"content": "a"}), chunk({"content": "b"}, "stop")):
                seen.append(self.limits["read"])
                yield sse(data, done=False)

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Body(request))

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        client = ChutesClient(KEY, http_client=http, timeout=TimeLimits(first_token=50, gap=7))
        list(client.stream(HELLO, model=MODEL))
    assert 40 < float(str(seen[0])) <= 50
    assert 6 < float(str(seen[1])) <= 7


# --- loops that ended --------------------------------------------------------------------------------


def test_ended_loops_are_let_go_of() -> None:
    """After many asyncio.run calls at most the last loop's transport is remembered."""
    with raw_server(answering(reply("Hello"))) as server:
        client = AsyncChutesClient(KEY, base_url=server.base_url)
        for _ in range(5):
            asyncio.run(client.chat(HELLO, model=MODEL))
        assert len(pools_module.async_pools()._by_loop) <= 1


# --- an account of every attempt ---------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_every_attempt_is_accounted_for(mode: str) -> None:
    """Answers that were retried, and answers without usage, are in the ledger too."""
    ledger = Ledger()
    call(mode, ["role_only", "role_only", Answer("Hi")], ledger=ledger, max_retries=2)
    assert ledger.totals().calls == 3
    call(mode, ["no_usage"], ledger=ledger)
    assert ledger.totals().calls == 4


@pytest.mark.parametrize("sync", [True, False])
def test_a_stream_left_in_the_middle_is_accounted_for(sync: bool) -> None:
    """What a stream used until it was closed is billed, and in the ledger."""
    outcome = scripted([Answer("one two three four", pieces=4)], sync=sync)
    stream = outcome.client.stream(HELLO, model=MODEL)
    if sync:
        next(stream), next(stream)
        stream.close()
    else:

        async def leave() -> None:
            await anext(stream)
            await anext(stream)
            await stream.aclose()

        asyncio.run(leave())
    assert outcome.client.ledger.totals(MODEL).usage.completion_tokens == 2


def test_embeddings_of_a_failed_call_are_accounted_for() -> None:
    """The batches that succeeded before another failed were billed."""

    def embed(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if body["input"] == ["bad"]:
            return httpx.Response(401, json={"detail": "no"})
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return httpx.Response(200, json={"data": [{"index": 0, "embedding": [1.0]}], "usage": usage})

    client = ChutesClient(KEY, http_client=httpx.Client(transport=httpx.MockTransport(embed)))
    with pytest.raises(APIError):
        client.embed(["good", "bad"], model="acme/embed", batch_size=1, concurrency=1)
    assert client.ledger.totals("acme/embed").usage.prompt_tokens == 3


# --- bad input at the door ---------------------------------------------------------------------------

DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]
CIRCULAR: dict[str, Any] = {}
CIRCULAR["self"] = CIRCULAR


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "arguments",
    [
        {"model": None},
        {"model": ["a", "b"]},
        {"model": "  "},
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"params": {"extra_body": {"x": float("nan")}}},
        {"params": {"extra_body": CIRCULAR}},
        {"params": {"extra_body": {"x": DEEP}}},
    ],
    ids=["no model", "a list", "blanks", "surrogate", "nan", "circular", "deep"],
)
def test_what_cannot_be_sent_is_refused_by_name(arguments: dict[str, Any], mode: str) -> None:
    """Whatever JSON or the service cannot take is a ConfigurationError, and nothing is sent."""
    outcome = call(mode, [Answer("Hi")], **arguments)
    assert isinstance(outcome.error, ConfigurationError)
    assert outcome.attempts == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"default_headers": {"X": 5}}, "header 'X' must be text"),
        ({"default_headers": {"X": "a\nb"}}, "header 'X' has characters"),
        ({"default_headers": {"X": "ü"}}, "header 'X' has characters"),
        ({"default_headers": {"authorization": "Bearer x"}}, "api_key"),
        ({"catalog": {}}, "catalog must be a Catalog, not a dict"),
        ({"ledger": {}}, "ledger must be a Ledger"),
        ({"inline_images": "yes"}, "inline_images must be a bool or ImagePolicy"),
    ],
)
def test_mistaken_settings_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    """A client that could not work is not made."""
    with pytest.raises(ConfigurationError, match=message):
        ChutesClient(KEY, **options)


def test_a_strange_transports_own_mistake_is_not_called_ours() -> None:
    """A TypeError inside a user's transport is raised as it is."""

    def broken(request: httpx.Request) -> httpx.Response:
        raise TypeError("a mistake in the transport")

    with (
        httpx.Client(transport=httpx.MockTransport(broken)) as http,
        pytest.raises(TypeError, match="in the transport"),
    ):
        ChutesClient(KEY, http_client=http).chat(HELLO, model=MODEL)


@pytest.mark.parametrize("options", [{"batch_size": "x"}, {"concurrency": 0}, {"dimensions": "x"}, {"model": None}])
def test_mistaken_embedding_options_are_refused(options: dict[str, Any]) -> None:
    """Numbers that are none are named before anything is sent."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        ChutesClient(KEY).embed(["a"], **{"model": "acme/embed", **options})


# --- bad replies -------------------------------------------------------------------------------------


def test_a_reply_of_endless_depth_is_malformed() -> None:
    """JSON that would exhaust the stack is a failure by name."""
    assert failing(b"data: " + b"[" * 200_000 + b"\n\n")[1].kind is Kind.MALFORMED
    body = b"[" * 200_000
    raw = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with raw_server(answering(raw)) as server, ask(server) as client, pytest.raises(MalformedReplyError):
        client.chat(HELLO, model=MODEL)


def test_tool_calls_of_a_strange_form_are_not_valid() -> None:
    """An id, a name or arguments of another type do not come out as a call to run, and a number is no list of calls."""
    for change in ({"id": 5}, {"function": {"name": ["z"]}}, {"function": {"name": "z", "arguments": 7}}):
        call_ = {"index": 0, "id": "a", "function": {"name": "z", "arguments": "{}"}, **change}
        with pytest.raises(MalformedReplyError, match=r"(tool_calls|function)[^ ]+ is (a number|a list), not text"):
            play(sse(chunk({"tool_calls": [call_]}, "tool_calls")))
    number = {"choices": [{"message": {"content": None, "tool_calls": 5}, "finish_reason": "stop"}]}
    with pytest.raises(ValueError, match="tool_calls is a number, not a list"):
        parse_reply(number)


def test_parallel_calls_without_index_and_id_are_told_apart_by_name() -> None:
    """A piece that brings a name after one that had it opens another call."""
    pieces = [{"function": {"name": name, "arguments": "{}"}} for name in ("pay", "log", "log")]
    _, whole = play(sse(*(chunk({"tool_calls": [each]}) for each in pieces), chunk({}, "tool_calls")))
    assert [each.name for each in whole.tool_calls] == ["pay", "log", "log"]


# --- names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("qwen/qwen3-32b", "Qwen/Qwen3-32B-TEE"),
        ("Qwen/Qwen3-32B,zai-org/glm-5.2", "Qwen/Qwen3-32B-TEE,zai-org/GLM-5.2-TEE"),
        ("my-alias", "my-alias"),
        ("ac059e33-eb27-541c-b9a9-24b214036475", "ac059e33-eb27-541c-b9a9-24b214036475"),
    ],
)
def test_names_go_out_as_the_service_spells_them(given: str, sent: str) -> None:
    """Case and -TEE are put right for known models; aliases, ids and unknown names stay."""
    outcome = call("sync-whole", [Answer("Hi")], model=given)
    assert outcome.transport.requests[0].model == sent


def test_warnings_point_at_the_caller() -> None:
    """A note on a request names the line that made it."""
    outcome = scripted([Answer("Hi")])
    with pytest.warns(UserWarning, match="logprobs") as caught:
        outcome.client.chat(HELLO, model=MODEL, logprobs=True)
    assert caught[0].filename == __file__
