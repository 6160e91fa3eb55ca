"""What hooks are told of calls, and the log, which says the same."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from chutes_core import APIError, AsyncChutesClient, BudgetExceededError, ChutesClient, ConfigurationError, Kind, hooks
from chutes_core.hooks import Event, Hook
from chutes_core.spending.budget import Budget
from chutes_core.testing import Answer

from .clients import HELLO, KEY, MODES, call, scripted
from .listening import NAMES, listening, told


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert not any(getattr(hooks, f"on_{name}").active for name in NAMES)


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_is_retried(mode: str) -> None:
    with listening() as heard:
        outcome = call(mode, ["capacity", Answer("Hello!")])
    assert told(heard) == ["start", "attempt failed", "retry", "attempt answered", "end"]
    events = [event for _, event in heard]
    assert len({id(event.call) for event in events}) == 1
    assert all(event.operation == "chat" and event.model == "acme/one" and event.face is None for event in events)
    assert all(event.url.endswith("/chat/completions") for event in events)
    assert all(event.streamed == mode.endswith("stream") for event in events)
    start, failed, retry, answered, end = events
    assert start.request is not None
    assert start.request["messages"] == [{"role": "user", "content": "Say hello."}]
    assert failed.attempt is not None
    assert (failed.attempt.kind, failed.attempt.status_code) == (Kind.CAPACITY, 429)
    assert retry.wait is not None
    assert retry.wait > 0
    assert retry.attempt == failed.attempt
    assert outcome.reply is not None
    assert end.reply == outcome.reply
    assert answered.attempt is not None
    assert answered.attempt.usage == outcome.reply.usage
    assert (answered.attempt.served, answered.number, end.error) == ("acme/one", 2, None)
    assert (end.first is not None) == mode.endswith("stream")


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_fails_for_good(mode: str) -> None:
    with listening() as heard:
        outcome: Any = call(mode, ["capacity"] * 9)
    assert told(heard) == ["start", *["attempt failed", "retry"] * 2, "attempt failed", "give_up", "end"]
    assert heard[-1][1].error == "capacity"
    assert heard[-1][1].reply is None
    assert len(outcome.error.attempts) == outcome.attempts == 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", ["capacity", "gateway_timeout", "reset", "stall"])
def test_the_error_of_a_call_lists_its_attempts(mode: str, fault: str) -> None:
    """Also where nobody listens; and no attempt has any words of the service's."""
    error: Any = call(mode, [fault] * 5).error
    assert error.attempts[-1].kind is error.kind
    assert [attempt.outcome for attempt in error.attempts] == ["failed"] * len(error.attempts)
    assert all(attempt.detail == "" and attempt.model == "acme/one" for attempt in error.attempts)


def test_what_a_broken_answer_has_used_is_in_its_attempt() -> None:
    error: Any = call("sync-stream", ["reset", Answer("one two three four", pieces=4)], max_retries=0).error
    (attempt,) = error.attempts
    assert attempt.kind is Kind.RESET
    assert attempt.usage is not None
    assert attempt.usage == error.partial_reply.usage


def test_a_stream_that_is_left() -> None:
    with listening() as heard:
        outcome = scripted([Answer("one two three", pieces=3)])
        with outcome.client.stream([{"role": "user", "content": "Count."}], model="acme/one") as stream:
            next(stream)
    assert told(heard) == ["start", "attempt cancelled", "end"]
    assert heard[-1][1].error == "cancelled"


def test_a_call_that_does_not_fit_its_budget_was_not_an_attempt() -> None:
    with listening() as heard:
        outcome = call("sync-whole", [Answer("Hello!")], ledger=Budget(tokens=1))
    assert isinstance(outcome.error, BudgetExceededError)
    assert told(heard) == ["start", "end"]
    assert heard[-1][1].error == "BudgetExceededError"


def test_a_hook_that_fails_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Event] = []

    def fail(event: Event) -> None:
        raise ZeroDivisionError

    hooks.on_end.add(fail)
    hooks.on_end.add(heard.append)
    try:
        outcome = call("sync-whole", [Answer("Hello!")])
    finally:
        hooks.on_end.remove(fail)
        hooks.on_end.remove(heard.append)
    assert outcome.reply is not None
    assert len(heard) == 1
    assert "A hook failed, and the call goes on" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_log_handler_that_fails_breaks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ZeroDivisionError

    def fail(event: Event) -> None:
        raise KeyError

    log, handler = logging.getLogger("chutes_core"), Failing()
    log.addHandler(handler)
    hooks.on_end.add(fail)
    try:
        outcome = call("sync-whole", ["capacity", Answer("Hello!")])
    finally:
        hooks.on_end.remove(fail)
        log.removeHandler(handler)
    assert outcome.reply is not None
    shown = capsys.readouterr().err
    assert shown.count("Traceback") == 2  # of the retry, and of the hook
    assert "CapacityError" not in shown  # nor what it says


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_key_function_that_fails_is_no_cancelled_call(stream: bool, asynchronous: bool) -> None:
    def vault() -> str:
        raise LookupError

    async def waiting() -> None:
        async with AsyncChutesClient(vault) as client:
            if not stream:
                await client.chat(HELLO, model="acme/one")
            async for _ in client.stream(HELLO, model="acme/one"):
                pass

    def blocking() -> None:
        with ChutesClient(vault) as client:
            list(client.stream(HELLO, model="acme/one")) if stream else client.chat(HELLO, model="acme/one")

    with listening() as heard, pytest.raises(LookupError):
        asyncio.run(waiting()) if asynchronous else blocking()
    assert told(heard) == ["start", "end"]
    assert heard[-1][1].error == "LookupError"


@pytest.mark.parametrize("broken", [Answer(""), "reset"])
def test_only_what_has_arrived_has_a_first_part(broken: Any) -> None:
    """What an attempt that showed nothing had waited for is not the time of the call's first part."""
    with listening("end") as heard:
        call("sync-stream", [Answer(""), "auth"])
        call("sync-stream", [broken], max_retries=0)
    first = [event.first for _, event in heard]
    assert first[0] is None
    assert (first[1] is None) == isinstance(broken, Answer)


def test_what_ends_while_a_hook_runs_is_told_after_it() -> None:
    """A stream that is dropped may be collected inside a lock that a hook holds: told there, it would wait forever."""
    lock, order = threading.Lock(), list[str]()
    left = scripted([Answer("one two three", pieces=3)]).client.stream([{"role": "user", "content": "1"}], model="a/b")
    next(left)
    streams = [left]
    del left

    def hold(event: Event) -> None:
        with lock:
            order.append(f"begins {event.model}")
            streams.clear()  # it ends here
            order.append(f"done {event.model}")

    hooks.on_end.add(hold)
    try:
        call("sync-whole", [Answer("Hello!")])
    finally:
        hooks.on_end.remove(hold)
    assert order == ["begins acme/one", "done acme/one", "begins a/b", "done a/b"]


def test_every_error_has_attempts() -> None:
    for error in (ConfigurationError("no"), BudgetExceededError("no")):
        assert error.attempts == ()


def test_a_request_without_a_model_is_named_by_its_path(caplog: pytest.LogCaptureFixture) -> None:
    import httpx

    def serve(request: httpx.Request) -> httpx.Response:
        return httpx.Response(502, json={"detail": "no"})

    with httpx.Client(transport=httpx.MockTransport(serve)) as http, listening() as heard:
        client = ChutesClient(KEY, http_client=http, max_retries=0)
        with pytest.raises(APIError):
            client.stats("2026-08-01")
    assert {event.operation for _, event in heard} == {"request"}
    assert heard[0][1].model.startswith("GET /")


def test_a_hook_is_a_function() -> None:
    hook = Hook("end")

    async def later(event: Event) -> None: ...

    class Later:
        async def __call__(self, event: Event) -> None: ...

    for wrong in (None, "print", later, Later()):
        with pytest.raises(ConfigurationError, match="ordinary function"):
            hook.add(wrong)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match="no hook here"):
        hook.remove(print)
    assert hook.add(print) is print
    assert list(hook) == [print]
    assert repr(hook) == "Hook('end', 1 function)"


def test_hooks_are_added_and_removed_from_many_threads() -> None:
    hook, start = Hook("end"), threading.Barrier(8)
    event = Event(call=object(), operation="chat", model="a")

    def work() -> None:
        def hear(event: Event) -> None: ...

        start.wait()
        for _ in range(200):
            hook.add(hear)
            hook.tell(event)
            hook.remove(hear)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hook) == 0


# --- the log ------------------------------------------------------------------------------------------


def test_a_retry_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    call("sync-whole", ["capacity", Answer("Hello!")])
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("chutes_core", "WARNING")
    assert record.getMessage().startswith("acme/one: capacity 429 after 0.0 s; asked again in ")
    fields = {name: value for name, value in vars(record).items() if name.startswith("chutes_")}
    assert fields.pop("chutes_wait") > 0
    assert fields == {
        "chutes_model": "acme/one",
        "chutes_outcome": "failed",
        "chutes_kind": "capacity",
        "chutes_status": 429,
        "chutes_attempt": 1,
        "chutes_request_id": fields["chutes_request_id"],
    }


def test_no_key_prompt_or_answer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "chutes_core")
    secret, key = "the-patient-is-Ada", "cpk_" + "0123456789abcdef" * 2
    with listening() as heard:
        for fault in ("capacity", "cold", "bad_request", "error_event", "reset"):
            call("sync-stream", [fault, Answer(secret)], key=key, messages=[{"role": "user", "content": secret}])
    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert caplog.records
    assert secret not in logged
    assert key not in logged
    assert key not in repr(heard)
    assert key not in repr([event.request for _, event in heard])


def test_nothing_is_shown_before_a_program_sets_up_logging() -> None:
    code = (
        "from tests.core.clients import call\nfrom chutes_core.testing import Answer\n"
        "assert call('sync-whole', ['capacity', Answer('Hello!')]).reply.content == 'Hello!'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    assert done.stdout == ""


def test_embeddings_are_one_call_however_many_options_are_dropped() -> None:
    import httpx

    from tests.core.calls.test_embeddings import MODEL, machine

    answer = machine(base64_too=False)

    def serve(request: httpx.Request) -> httpx.Response:
        import json

        return answer(json.loads(request.content))

    with (
        listening() as heard,
        httpx.Client(transport=httpx.MockTransport(serve)) as http,
        ChutesClient(KEY, http_client=http) as client,
    ):
        client.embed(["a", "b"], model=MODEL)
    assert told(heard) == ["start", "attempt failed", "attempt answered", "end"]
    assert {event.operation for _, event in heard} == {"embeddings"}
    assert heard[0][1].request == {"model": MODEL, "input": ["a", "b"]}


@pytest.mark.parametrize("stream", [False, True])
def test_the_openai_client_tells_hooks_too(stream: bool) -> None:
    """A request is a call of one attempt: who retries it is the SDK."""
    openai = pytest.importorskip("openai")
    import httpx

    from chutes_core import openai_client
    from chutes_core.testing import FaultyTransport

    said: Any = [{"role": "user", "content": "Say hello."}]
    transport = FaultyTransport(["capacity", Answer("Hello!"), "reset"])
    client = openai_client(KEY, http_client=httpx.Client(transport=transport), max_retries=0)
    with listening() as heard:
        for _ in range(3):
            with contextlib.suppress(openai.OpenAIError):
                reply: Any = client.chat.completions.create(model="acme/one", messages=said, stream=stream)
                list(reply)
    failed = ["start", "attempt failed", "give_up", "end"]
    assert told(heard) == [*failed, "start", "attempt answered", "end", *failed]
    assert {event.face for _, event in heard} == {"openai"}
    answered = heard[5][1].attempt
    assert answered is not None
    assert answered.usage is not None
    assert answered.served == "acme/one"
    assert heard[6][1].reply is not None
