"""The client with ``e2ee=True`` against the embedded Chutes on real sockets: every fault, every call, every refusal."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from chutes_core import (
    E2EE,
    APIError,
    AsyncChutesClient,
    AttestationError,
    Catalog,
    ChutesClient,
    ColdModelError,
    ConfigurationError,
    FallbackClient,
    FallbackError,
    FallbackPolicy,
    Kind,
    Reply,
    RequestRefusedError,
    TimeLimits,
    UnknownModelError,
)
from chutes_core.calls.clock import SystemClock
from chutes_local import LocalChutes, serve
from chutes_local.e2ee.proof import LIES
from chutes_local.faults.kinds import KINDS

MODEL = "Qwen/Qwen3-32B-TEE"
EMBEDDER = "Qwen/Qwen3-Embedding-8B-TEE"
HELLO: Any = [{"role": "user", "content": "Please say something of a few words."}]
MODES = ["sync-whole", "sync-stream", "async-whole", "async-stream"]
LATE = {Kind.FIRST_TOKEN_TIMEOUT, Kind.STALL, Kind.TOTAL_TIMEOUT}


class OwnClock(SystemClock):
    """The system's time, and machines that no other test knows."""


class Standing(SystemClock):
    """No time passes, however slow the machine is."""

    def now(self) -> float:
        """Say what it has always said."""
        return 0.0


class Hasty(SystemClock):
    """Does not wait between tries."""

    def sleep(self, seconds: float) -> None:
        """Go on."""

    async def asleep(self, seconds: float) -> None:
        """Go on, after a turn of the others."""
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def running() -> Iterator[LocalChutes]:
    with serve(backend="echo") as chutes:
        yield chutes


@pytest.fixture
def server(running: LocalChutes) -> LocalChutes:
    running.reset()
    return running


def options(server: LocalChutes, **more: Any) -> dict[str, Any]:
    return {
        "base_url": server.base_url,
        "embedding_base_url": server.embedding_base_url,
        "management_url": server.management_url,
        "e2ee": True,
        "clock": OwnClock(),
        **more,
    }


def ask(mode: str, server: LocalChutes, messages: Any = HELLO, *, params: Any = None, **more: Any) -> Reply:
    """Make one call in one of the four modes."""
    params = {"model": MODEL, **(params or {})}
    stream = mode.endswith("stream")
    key = more.pop("key", server.api_key)
    if mode.startswith("sync"):
        with ChutesClient(key, **options(server, **more)) as client:
            if not stream:
                return client.chat(messages, **params)
            with client.stream(messages, **params) as steps:
                assert "".join(delta.content for delta in steps) == steps.reply.content
                return steps.reply

    async def waiting() -> Reply:
        async with AsyncChutesClient(key, **options(server, **more)) as client:
            if not stream:
                return await client.chat(messages, **params)
            async with client.stream(messages, **params) as steps:
                assert "".join([delta.content async for delta in steps]) == steps.reply.content
                return steps.reply

    return asyncio.run(waiting())


def test_a_model_that_is_cold_is_asked_about_once_until_it_is_woken(server: LocalChutes) -> None:
    """The few questions of a minute are not spent on it; after a warm-up the next call asks at once."""
    server.change(MODEL, machines=0)
    with ChutesClient(server.api_key, **options(server, clock=Standing())) as client:
        for _ in range(3):
            with pytest.raises(APIError) as caught:
                client.chat(HELLO, model=MODEL)
            assert caught.value.kind is Kind.COLD
        assert sum("/e2e/instances" in entry.path for entry in server.journal.wait(1)) == 1
        for _ in client.warm_up(MODEL):
            pass
        assert client.chat(HELLO, model=MODEL).content


@pytest.mark.parametrize("mode", MODES)
def test_a_sealed_call_is_like_any_other(server: LocalChutes, mode: str) -> None:
    """The same answer, usage and quota as on the plain path; only the path is another, and no id is told."""
    plain = ask(mode, server, e2ee=False)
    sealed = ask(mode, server)
    assert (sealed.content, sealed.usage, sealed.model) == (plain.content, plain.usage, plain.model)
    assert (plain.meta.invocation_id is None, sealed.meta.invocation_id is None) == (False, True)
    assert sealed.meta.quota_used == 1
    paths = [entry.path for entry in server.journal.wait(6) if entry.method == "POST"]
    assert paths == ["/v1/chat/completions", "/api/e2e/invoke"]


# What each fault comes to: its kind in a stream and in a reply in one piece; None is a whole answer.
FAULTS: dict[str, tuple[Kind | None, Kind | None]] = {
    "capacity": (Kind.SEALED_BUSY, Kind.SEALED_BUSY),
    "retry_after": (Kind.CAPACITY, Kind.CAPACITY),
    "account_limit": (Kind.ACCOUNT_LIMIT, Kind.ACCOUNT_LIMIT),
    "rate_limit": (Kind.ENDPOINT_LIMIT, Kind.ENDPOINT_LIMIT),
    "keyless": (Kind.EDGE_LIMIT, Kind.EDGE_LIMIT),
    "cold": (Kind.COLD, Kind.COLD),
    "disabled": (Kind.DISABLED, Kind.DISABLED),
    # A machine's own words arrive as its status only.
    "exhausted": (Kind.UPSTREAM, Kind.UPSTREAM),
    "no_infrastructure": (Kind.UPSTREAM, Kind.UPSTREAM),
    "empty_500": (Kind.UPSTREAM, Kind.UPSTREAM),
    "bad_gateway": (Kind.BAD_GATEWAY, Kind.BAD_GATEWAY),
    "gateway_timeout": (Kind.GATEWAY_TIMEOUT, Kind.GATEWAY_TIMEOUT),
    "quota": (Kind.PAYMENT, Kind.PAYMENT),
    "subscription_cap": (Kind.PLAN_CAP, Kind.PLAN_CAP),
    "tee_balance": (Kind.TEE_PAYMENT, Kind.TEE_PAYMENT),
    "owner_balance": (Kind.OWNER_PAYMENT, Kind.OWNER_PAYMENT),
    "auth": (Kind.AUTHENTICATION, Kind.AUTHENTICATION),
    "forbidden": (Kind.PERMISSION, Kind.PERMISSION),
    "not_found": (Kind.MODEL_NOT_FOUND, Kind.MODEL_NOT_FOUND),
    "not_tee": (Kind.NOT_CONFIDENTIAL, Kind.NOT_CONFIDENTIAL),
    # A machine's reason for a 400 is locked for the service.
    "overflow": (Kind.BAD_REQUEST, Kind.BAD_REQUEST),
    "bad_request": (Kind.BAD_REQUEST, Kind.BAD_REQUEST),
    "too_large": (Kind.TOO_LARGE, Kind.TOO_LARGE),
    "garbage": (Kind.SEALED_REPLY, Kind.SEALED_REPLY),
    "hang": (Kind.FIRST_TOKEN_TIMEOUT, Kind.TOTAL_TIMEOUT),
    "slow_start(seconds=0.01)": (None, None),
    "hang_after_headers": (Kind.FIRST_TOKEN_TIMEOUT, Kind.TOTAL_TIMEOUT),
    "stall": (Kind.STALL, Kind.TOTAL_TIMEOUT),
    "reset": (Kind.RESET, Kind.RESET),
    "half_close": (Kind.RESET, Kind.RESET),
    "no_finish": (Kind.TRUNCATED, Kind.TRUNCATED),
    "error_line": (Kind.STREAM_ERROR, Kind.UPSTREAM),
    "error_event": (Kind.STREAM_ERROR, Kind.UPSTREAM),
    "restart": (Kind.RESTARTED, None),
    "malformed": (Kind.MALFORMED, Kind.MALFORMED),
    "empty": (Kind.EMPTY, Kind.MALFORMED),
    "role_only": (Kind.EMPTY, Kind.EMPTY),
    "reasoning_only": (Kind.EMPTY, Kind.EMPTY),
    "no_done": (None, None),
    "done_only": (Kind.TRUNCATED, None),
    "no_usage": (None, None),
    "cumulative_usage": (None, None),
    "final_usage": (None, None),
    "slow_drip(seconds=0.001)": (None, None),
    "sealed_nonce": (Kind.SEALED_NONCE, Kind.SEALED_NONCE),
    "sealed_unknown": (Kind.SEALED_INSTANCE, Kind.SEALED_INSTANCE),
    "sealed_gone": (Kind.SEALED_INSTANCE, Kind.SEALED_INSTANCE),
    "sealed_busy": (Kind.SEALED_BUSY, Kind.SEALED_BUSY),
    "sealed_exchange": (Kind.SEALED_INSTANCE, Kind.SEALED_INSTANCE),
    "sealed_flip": (Kind.SEALED_REPLY, Kind.SEALED_REPLY),
    "sealed_replay": (Kind.SEALED_REPLY, None),
    "sealed_swap(after=0)": (Kind.SEALED_REPLY, None),
    "sealed_clear": (Kind.SEALED_REPLY, Kind.SEALED_REPLY),
    "sealed_cut": (Kind.SEALED_REPLY, Kind.SEALED_REPLY),
    "sealed_error": (Kind.STREAM_ERROR, Kind.SEALED_REPLY),
    "sealed_no_init": (Kind.SEALED_REPLY, None),
}


def test_the_table_has_every_fault_of_the_server() -> None:
    """Except those of other calls, and the one that needs a server of its own."""
    others = {"refused", "stop_with_tools", "broken_arguments", "shuffled", "short"}
    assert {fault.partition("(")[0] for fault in FAULTS} == set(KINDS) - others


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_a_whole_answer_or_the_right_error(server: LocalChutes, fault: str, mode: str) -> None:
    """Inside the seal as outside: a whole answer, or an error with a true beginning of it and no word in its text."""
    truth = ask("sync-whole", server).content
    server.faults.parse(f"{MODEL}={fault}")
    kind = FAULTS[fault][0 if mode.endswith("stream") else 1]
    short = TimeLimits(connect=2, first_token=1.0, gap=0.3, total=5)
    limits = (short if mode.endswith("stream") else TimeLimits(total=1.0)) if kind in LATE else TimeLimits(total=60)
    if kind is None:
        reply = ask(mode, server, timeout=limits, max_retries=0)
        assert reply.content == truth
        return
    with pytest.raises(APIError) as caught:
        ask(mode, server, timeout=limits, max_retries=0)
    error = caught.value
    assert error.kind is kind
    assert truth.startswith(error.partial) or kind is Kind.EMPTY or not mode.endswith("stream")
    assert server.api_key not in str(error) + repr(error.body)
    assert "something of a few" not in str(error) + repr(error) + repr(error.body) + repr(error.partial_reply)


@pytest.mark.parametrize(
    ("whole", "policy", "streamed"),
    [
        (True, {}, False),
        (True, {"hedge": 0.001}, False),
        (False, {}, True),
        (False, {"after_commit": "restart"}, True),
        (False, {"after_commit": "resume"}, True),
        (False, {"after_commit": "hold"}, False),
    ],
    ids=str,
)
def test_a_fallback_streams_only_what_it_gives_out_as_it_comes(
    server: LocalChutes, whole: bool, policy: dict[str, Any], streamed: bool
) -> None:
    """Inside it reads streams; what nobody sees before the end is one seal all the same."""
    with FallbackClient([MODEL], server.api_key, policy=policy, **options(server)) as client:
        if whole:
            assert client.chat(HELLO).content
        else:
            with client.stream(HELLO) as stream:
                assert "".join(delta.content for delta in stream)
    (entry,) = server.journal.to("/e2e/invoke")
    assert entry.body is not None
    assert entry.body["stream"] is streamed


def test_a_model_with_a_pinned_chute_is_woken_by_that(server: LocalChutes) -> None:
    """As it is asked by that; that it was cold is forgotten then."""
    chute = Catalog.bundled().model(MODEL).chute_id
    assert chute is not None
    given = options(server, e2ee=E2EE(chutes={"me/mine": chute}), max_retries=0)
    with ChutesClient(server.api_key, **given) as client:
        server.change(MODEL, machines=0)
        with pytest.raises(ColdModelError):
            client.chat(HELLO, model="me/mine")
        assert [status.hot for status in client.warm_up("me/mine")][-1]
        server.change(MODEL, machines=2)
        with pytest.raises(APIError, match="was not asked"):  # its machine answers in the name that it has here
            client.chat(HELLO, model="me/mine")
    assert len(server.journal.to("/e2e/invoke")) == 1


@pytest.mark.filterwarnings("ignore:A 'pattern' in a JSON schema")
@pytest.mark.parametrize("sealed", [False, True])
def test_a_fallback_quotes_no_sealed_answer_of_another_form(
    server: LocalChutes, sealed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in its error and its log, nor in the error of the member, nor in a pickle of that."""
    schema = {"type": "object", "properties": {"word": {"type": "string", "pattern": "^walrus$"}}, "required": ["word"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    policy, given = FallbackPolicy(max_attempts=1), options(server, e2ee=sealed)
    client = FallbackClient([MODEL], server.api_key, policy=policy, **given)
    with client, pytest.raises(FallbackError) as caught:
        client.chat(HELLO, response_format=form)
    (error,) = caught.value.exceptions
    assert isinstance(error, APIError)
    shown = f"{caught.value} {error} {error.partial_reply!r} {pickle.dumps(error)!r} {caplog.text}"
    assert ('"word"' not in shown and "'word'" not in shown) is sealed
    assert error.partial.startswith('{"word"')


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", ["sealed_nonce", "sealed_gone", "sealed_unknown", "sealed_exchange", "sealed_flip"])
def test_what_another_machine_can_mend_is_mended(server: LocalChutes, fault: str, mode: str) -> None:
    """Without a word to the caller; no number is used twice."""
    server.faults.parse(f"{MODEL}={fault}(after=0) x1")
    assert ask(mode, server, clock=Hasty()).content
    sent = [entry.headers["x-e2e-nonce"] for entry in server.journal if entry.path.endswith("/invoke")]
    assert len(set(sent)) == len(sent) == 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lie", LIES)
def test_a_proof_that_does_not_hold_sends_nothing(server: LocalChutes, lie: str, mode: str) -> None:
    """The server never sees a sealed request."""
    server.world.sealed.lies.add(lie)
    with pytest.raises(AttestationError):
        ask(mode, server)
    assert not server.journal.to("/e2e/invoke")


def test_embeddings_are_sealed_too(server: LocalChutes) -> None:
    """A client that encrypts sends nothing in the clear."""
    texts = [f"text number {number}" for number in range(40)]
    with ChutesClient(server.api_key, **options(server, e2ee=False)) as client:
        plain = client.embed(texts, model=EMBEDDER).vectors
    with ChutesClient(server.api_key, **options(server)) as client:
        assert client.embed(texts, model=EMBEDDER).vectors == plain
        assert len(client.embed(texts, model=EMBEDDER, dimensions=200).vectors[0]) == 200
    clear = [entry for entry in server.journal.to("/embeddings") if entry.method == "POST"]
    assert len(clear) == 2  # two batches of the client without encryption


async def test_async_embeddings_are_sealed_too(server: LocalChutes) -> None:
    """The same on the event loop."""
    async with AsyncChutesClient(server.api_key, **options(server)) as client:
        assert len((await client.embed(["a", "b"], model=EMBEDDER)).vectors) == 2
    assert not server.journal.to("/embed/")


@pytest.mark.parametrize("model", [f"{MODEL},other/one", f"{MODEL}:latency", "my-alias"])
def test_what_the_gateway_would_have_to_do_is_refused(server: LocalChutes, model: str) -> None:
    """Before anything is sent."""
    with ChutesClient(server.api_key, **options(server)) as client:
        for refused in (
            lambda: client.chat(HELLO, model=model),
            lambda: client.stream(HELLO, model=model),
            lambda: client.embed(["a"], model=model),
        ):
            with pytest.raises((RequestRefusedError, UnknownModelError), match="Under e2ee"):
                refused()
    assert len(server.journal) == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"default_headers": {"X-Enable-Thinking": "true"}}, "reasoning=True"),
        ({"e2ee": "full"}, "e2ee must be"),
        ({"e2ee": None}, "e2ee must be"),
        ({"e2ee": E2EE(verify="full")}, "dcap-qvl"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(
    server: LocalChutes, wrong: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason, and what to do."""
    monkeypatch.setitem(sys.modules, "dcap_qvl", None)
    for kind in (ChutesClient, AsyncChutesClient):
        with pytest.raises(ConfigurationError, match=said):
            kind(server.api_key, **options(server, **wrong))


def test_names_thinking_and_images_are_done_on_this_side(server: LocalChutes) -> None:
    """The machine gets the exact name, the switch in the body, and no address to fetch."""
    with ChutesClient(server.api_key, **options(server)) as client:
        assert client.chat(HELLO, model="qwen/qwen3-32b:THINKING").reasoning
        server.journal.wait(5)
        seen = server.journal.to("/e2e/invoke")[-1].body
        assert seen is not None
        assert seen["model"] == MODEL
        assert seen["chat_template_kwargs"] == {"thinking": True, "enable_thinking": True}
        image = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/private.png"}}]
        with pytest.raises(RequestRefusedError, match="not at a public address"):
            client.chat([{"role": "user", "content": image}], model=MODEL)


def test_a_client_travels_without_its_machines(server: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """To another process go the settings; nothing of a prompt is in them."""
    monkeypatch.setenv("CHUTES_API_KEY", server.api_key)
    with ChutesClient(server.api_key, **options(server)) as client:
        client.chat(HELLO, model=MODEL)
        packed = pickle.dumps(client)
    assert b"few words" not in packed
    with pickle.loads(packed) as there:
        assert there.chat(HELLO, model=MODEL).content


def test_clients_made_for_each_request_ask_once(server: LocalChutes) -> None:
    """Machines are known to the process, not to a client."""
    for _ in range(12):
        with ChutesClient(server.api_key, **options(server, clock=None)) as client:
            client.chat(HELLO, model=MODEL)
    assert len(server.journal.to("/e2e/instances")) == 1


def test_both_clients_have_the_argument() -> None:
    """They are twins."""
    for kind in (ChutesClient, AsyncChutesClient):
        assert inspect.signature(kind).parameters["e2ee"].default is False


@pytest.mark.parametrize("listed", [True, False])
def test_the_chute_is_the_one_that_this_gateway_says(listed: bool) -> None:
    """From its list of models, else from its page of the model; never the service's, and only if it was named here."""
    own, paths = "0a0a0a0a-0000-4000-8000-000000000001", list[str]()

    def reply(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": MODEL, **({"chute_id": own} if listed else {})}]})
        if request.url.path == f"/chutes/{MODEL}":
            return httpx.Response(200, json={"chute_id": own, "name": MODEL, "user": {"username": "chutes"}})
        return httpx.Response(404, json={"detail": "not here"})

    there = {"base_url": "https://gateway.test/v1", "management_url": "https://gateway.test", "clock": OwnClock()}
    http = httpx.Client(transport=httpx.MockTransport(reply))
    client = ChutesClient("cpk_test", e2ee=True, http_client=http, **there)  # type: ignore[arg-type]
    with client, pytest.raises(RequestRefusedError, match="another chute"):
        client.chat(HELLO, model=MODEL)
    paths.clear()
    sealed = E2EE(chutes={MODEL: own})
    with ChutesClient("cpk_test", e2ee=sealed, max_retries=0, http_client=http, **there) as client:  # type: ignore[arg-type]
        for _ in range(2):
            with pytest.raises(APIError):
                client.chat(HELLO, model=MODEL)
    asked = ["/v1/models"] if listed else ["/v1/models", f"/chutes/{MODEL}"]
    assert paths[: len(asked)] == asked
    assert set(paths[len(asked) :]) == {f"/e2e/instances/{own}"}


def test_there_is_no_trace_of_an_encrypted_call(server: LocalChutes) -> None:
    """The gateway knows nothing of it, so asking is refused."""
    with ChutesClient(server.api_key, **options(server)) as client:
        with pytest.raises(RequestRefusedError, match="trace=True"):
            client.chat(HELLO, model=MODEL, trace=True)
        with pytest.raises(RequestRefusedError, match="trace=True"):
            client.stream(HELLO, model=MODEL, trace=True)


def test_a_transport_of_ones_own_sees_no_word(server: LocalChutes) -> None:
    """Whatever records the traffic, such as a cassette, records what is sealed."""
    seen: list[bytes] = []
    inner = httpx.HTTPTransport()

    class Recorder(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            reply = inner.handle_request(request)
            content = b"".join(reply.stream)  # type: ignore[arg-type]
            reply.close()
            seen.extend([request.content, content])
            return httpx.Response(reply.status_code, headers=reply.headers, content=content)

        def close(self) -> None:
            inner.close()

    http = httpx.Client(transport=Recorder())
    with http, ChutesClient(server.api_key, **options(server, http_client=http)) as client:
        assert "few words" in client.chat(HELLO, model=MODEL).content
        with client.stream(HELLO, model=MODEL) as steps:
            assert "few words" in "".join(delta.content for delta in steps)
    assert len(seen) == 12  # this gateway is asked for its list first
    assert not any(word in each for word in (b"few words", b"something") for each in seen)
