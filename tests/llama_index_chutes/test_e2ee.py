"""Encryption and confidential compute in LlamaIndex: what is refused, what travels, and what a fallback keeps to.

That a sealed call comes to the same as a plain one is in tests/parity.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms import MockLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.types import PydanticProgramMode

from chutes_core import E2EE, APIError, AttestationError, ConfigurationError, Kind
from chutes_core.e2ee import seal
from chutes_local import LocalChutes
from chutes_local.e2ee.proof import LIES
from llama_index_chutes import Chutes, ChutesEmbedding, ChutesFallback, FallbackError, FallbackPolicy
from tests.parity.sealed import MENDED, MODEL, OTHER, PLAIN, connection, running, server

from .rigs import CHAT_STYLES, Outcome, ask, text_of

__all__ = ["running", "server"]

KEY = "cpk_0123"
POLICY = FallbackPolicy(max_attempts=2, backoff=0)
OFF = E2EE(verify="off")
SECRET = [ChatMessage("My walrus is called Waldemar.")]


def invoked(server: LocalChutes) -> list[str | None]:
    """Which models were asked sealed, one after the other."""
    return [entry.model for entry in server.journal.to("/e2e/invoke")]


def tried(outcome: Outcome) -> list[tuple[str, str | None]]:
    assert outcome.error is None
    return [(row["model"], row["kind"]) for row in outcome.last.raw["chutes_attempts"]]


# ------------------------------------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": f"{MODEL},{OTHER}"}, "cannot choose among models"),
        ({"model": f"{MODEL}:latency"}, "cannot choose among models"),
        ({"model": "my-alias"}, "an alias of yours cannot be resolved"),
        ({"model": PLAIN}, None),
        ({"default_headers": {"X-Enable-Thinking": "true"}}, "reasoning=True"),
        ({"e2ee": "full"}, "e2ee must be"),
        ({"e2ee": {"verfy": "off"}}, "E2EE has no 'verfy'"),
        ({"e2ee": {"verify": "some"}}, "verify must be one of"),
        ({"e2ee": E2EE(verify="full")}, "pip install dcap-qvl"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(
    wrong: dict[str, Any], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason; a name that today's list may have is not."""
    monkeypatch.setitem(sys.modules, "dcap_qvl", None)
    given = {"model": MODEL, "e2ee": True, "api_key": KEY, **wrong}
    for make in (Chutes, ChutesEmbedding):
        if said is None:
            assert make(**given).e2ee is True
            continue
        with pytest.raises(ConfigurationError, match=said):
            make(**given)


@pytest.mark.filterwarnings("ignore:The catalogue does not know the context window")
@pytest.mark.parametrize("model", [f"{OTHER},{MODEL}", f"{OTHER}:throughput", "my-alias", "acme/unheard-of"])
@pytest.mark.parametrize("style", CHAT_STYLES)
def test_what_cannot_work_is_refused_at_the_call(server: LocalChutes, model: str, style: str) -> None:
    """Before anything is sent, whatever became of the settings since."""
    llm = Chutes(model=MODEL, **connection(server))
    llm.model = model
    outcome = ask(llm, style)
    assert isinstance(outcome.error, ConfigurationError)
    assert "Under e2ee" in str(outcome.error)
    assert [entry for entry in server.journal.entries if entry.method == "POST"] == []


def test_encryption_is_no_argument_of_a_call(server: LocalChutes) -> None:
    """It would be too late to find out that it was not taken."""
    outcome = ask(Chutes(model=MODEL, **connection(server, e2ee=False)), "chat", e2ee=True)
    assert "e2ee" in str(outcome.error)
    assert len(server.journal) == 0


@pytest.fixture
def _without_cryptography(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mlkem", None)
    seal.require_crypto.cache_clear()
    yield
    seal.require_crypto.cache_clear()


@pytest.mark.usefixtures("_without_cryptography")
def test_without_the_extra_it_is_named() -> None:
    """When the model is made, not when it is called."""
    makers: list[Callable[[], object]] = [
        lambda: Chutes(model=MODEL, e2ee=True, api_key=KEY),
        lambda: ChutesEmbedding(e2ee=True, api_key=KEY),
        lambda: ChutesFallback([MODEL], e2ee=True, api_key=KEY),
        lambda: ChutesFallback([Chutes(model=MODEL, api_key=KEY)], e2ee=True),
    ]
    for make in makers:
        with pytest.raises(ConfigurationError, match=r"pip install 'chutes-connect\[e2ee\]'"):
            make()


# ------------------------------------------------------------------------------------------------ what travels


@pytest.mark.parametrize(("wish", "shown"), [(True, "e2ee=True"), (OFF, "verify='off'"), ({"verify": "off"}, "'off'")])
def test_the_wish_is_shown_and_travels_without_keys(wish: Any, shown: str) -> None:
    """In repr, pickles, dicts, JSON and copies."""
    for made in (Chutes(model=MODEL, e2ee=wish, api_key=KEY), ChutesEmbedding(e2ee=wish, api_key=KEY)):
        assert shown in repr(made)
        packed = pickle.dumps(made)
        assert KEY not in repr(made) + repr(packed) + made.to_json() + repr(made.to_dict())
        for back in (
            pickle.loads(packed),
            type(made).from_dict(made.to_dict()),
            type(made).from_json(made.to_json()),
            copy.deepcopy(made),
        ):
            assert back.e2ee == made.e2ee
            assert back._client()._sealed is not None


def test_a_fallback_keeps_it_too() -> None:
    """In repr, pickles and dicts."""
    made = ChutesFallback([MODEL, OTHER], e2ee=True, api_key=KEY)
    assert "e2ee=True" in repr(made)
    for back in (pickle.loads(pickle.dumps(made)), ChutesFallback.from_dict(made.to_dict())):
        assert [member.e2ee for member in back.members] == [True, True]
    assert "e2ee" not in repr(ChutesFallback([MODEL, OTHER], api_key=KEY))


def test_a_wish_that_comes_late_is_kept(server: LocalChutes) -> None:
    """A client that was made without encryption is not used any more."""
    llm = Chutes(model=MODEL, **connection(server, e2ee=False))
    llm.complete("Hi")
    llm.e2ee = True
    llm.complete("Hi")
    assert (len(server.journal.to("/chat/completions")), len(invoked(server))) == (1, 1)


class Strict(BaseModel):
    """A form that no echo has."""

    number: int


@pytest.mark.parametrize("style", CHAT_STYLES)
@pytest.mark.parametrize("fault", ["", "no_finish", "sealed_flip", "error_line", "overflow"])
def test_your_words_are_in_no_log_error_or_pickle(
    server: LocalChutes, fault: str, style: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever comes of the call, and whatever level the logs have."""
    caplog.set_level(logging.DEBUG)
    llm = Chutes(model=MODEL, max_retries=0, **connection(server))
    fallback = ChutesFallback([llm], policy=POLICY)
    if fault:
        server.faults.parse(f"{MODEL}={fault}")
    shown = ""
    for each in (llm, fallback):
        error = ask(each, style, SECRET).error
        assert (error is not None) is bool(fault)
        shown += f"{error} {error!r} {getattr(error, 'attempts', '')} {pickle.dumps(error)!r}"
    shown += caplog.text + repr(llm) + repr(fallback) + repr(pickle.dumps(llm)) + repr(pickle.dumps(fallback))
    shown += llm.to_json() + fallback.to_json()
    assert "walrus" not in shown
    assert "Waldemar" not in shown


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("invalid", [False, True])
def test_what_is_said_instead_of_a_tool_call_is_not_quoted(server: LocalChutes, invalid: bool, sealed: bool) -> None:
    """Nor what is wrong with a call that is not valid, which may have words of the model's."""
    call = {"id": "1", "function": {"name": "walrus", "arguments": "{"}, "error": "the key 'walrus' comes twice"}
    told = {"additional_kwargs": {"invalid_tool_calls": [call]}} if invalid else {"content": "I am a walrus."}
    given = ChatResponse(message=ChatMessage(role="assistant", **told))
    llm = Chutes(model=MODEL, **connection(server, e2ee=sealed))
    for asked in (llm, ChutesFallback([llm])):
        with pytest.raises((ValueError, APIError)) as caught:
            asked.get_tool_calls_from_response(given)
        assert ("walrus" not in f"{caught.value} {caught.value!r}") is sealed


def test_an_answer_without_its_form_is_not_quoted(server: LocalChutes) -> None:
    """Neither by a model nor in the attempts of a fallback."""
    llm = Chutes(model=MODEL, pydantic_program_mode=PydanticProgramMode.LLM, **connection(server))
    prompt = PromptTemplate("My walrus is called Waldemar.")
    with pytest.raises(APIError) as alone:
        llm.structured_predict(Strict, prompt)
    with pytest.raises(FallbackError) as caught:
        ChutesFallback([llm], policy=POLICY).structured_predict(Strict, prompt)
    for error in (alone.value, *caught.value.exceptions):
        assert isinstance(error, APIError)
        assert error.kind is Kind.MALFORMED
        assert error.__cause__ is None
        assert error.__context__ is None
        assert "echo" in error.partial, "whoever asked may read it"
        assert "echo" not in f"{error.partial_reply!r} {pickle.loads(pickle.dumps(error)).partial}"
    told = f"{alone.value} {caught.value} {caught.value.attempts} {caught.value.exceptions!r}"
    assert "it is not a Strict" in told
    assert "walrus" not in told


# ------------------------------------------------------------------------------------------------ fallback


@pytest.mark.parametrize("style", CHAT_STYLES)
@pytest.mark.parametrize("fault", MENDED)
def test_the_next_takes_over(server: LocalChutes, fault: str, style: str) -> None:
    """Sealed like the first; what failed stands in the attempts."""
    server.faults.parse(f"{MODEL}={fault}")
    outcome = ask(ChutesFallback([MODEL, OTHER], policy=POLICY, **connection(server)), style)
    assert tried(outcome) == [(MODEL, MENDED[fault].value), (OTHER, None)]
    assert "Say hello" in text_of(outcome.last)
    assert len(server.journal.to("/e2e/invoke")) == 2
    assert not server.journal.to("/chat/completions")


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_a_model_without_machines_is_passed_over(server: LocalChutes, style: str) -> None:
    """It is cold, and nothing was sealed for it."""
    server.change(MODEL, machines=0)
    outcome = ask(ChutesFallback([MODEL, OTHER], policy=POLICY, **connection(server)), style)
    assert tried(outcome) == [(MODEL, "cold"), (OTHER, None)]
    assert invoked(server) == [OTHER]


@pytest.mark.parametrize("style", CHAT_STYLES)
@pytest.mark.parametrize("lie", LIES)
def test_who_proves_nothing_gets_nothing(server: LocalChutes, lie: str, style: str) -> None:
    """Not a byte of the prompt, not from anybody; the attempts say so."""
    server.world.sealed.lies.add(lie)
    error = ask(ChutesFallback([MODEL, OTHER], policy=POLICY, **connection(server)), style).error
    assert isinstance(error, FallbackError)
    assert all(isinstance(each, AttestationError) for each in error.exceptions)
    kinds = [(attempt.model, attempt.kind) for attempt in error.attempts]
    assert kinds == [(MODEL, Kind.ATTESTATION), (OTHER, Kind.ATTESTATION)]
    assert not server.journal.to("/e2e/invoke")
    assert not server.journal.to("/chat/completions")


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_a_member_that_is_trusted_takes_over_from_one_that_proved_nothing(server: LocalChutes, style: str) -> None:
    """Each member is checked as it was asked to be."""
    server.world.sealed.lies.add("debug")
    strict = Chutes(model=MODEL, **connection(server))
    trusting = Chutes(model=OTHER, **connection(server, e2ee=OFF))
    outcome = ask(ChutesFallback([strict, trusting], policy=POLICY), style)
    assert tried(outcome) == [(MODEL, "attestation"), (OTHER, None)]
    assert invoked(server) == [OTHER]


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_from_sealed_to_plain_only_where_it_was_said(server: LocalChutes, style: str) -> None:
    """The next one that is not sealed is left out, and is asked with confidential=False."""
    members = [Chutes(model=MODEL, **connection(server)), Chutes(model=OTHER, **connection(server, e2ee=False))]
    server.faults.parse(f"{MODEL}=cold")
    error = ask(ChutesFallback(members, policy=POLICY), style).error
    assert isinstance(error, FallbackError)
    skipped = next(attempt for attempt in error.attempts if attempt.outcome == "skipped")
    assert (skipped.model, skipped.detail) == (OTHER, "not sealed, which the members before it are")
    assert not server.journal.to("/chat/completions")
    allowed = FallbackPolicy(max_attempts=2, confidential=False)
    assert tried(ask(ChutesFallback(members, policy=allowed), style))[-1] == (OTHER, None)


def test_every_member_is_sealed_or_refused() -> None:
    """Those by name, those that were made before, tables of a route, and no other provider's."""
    mine, private = Chutes(model=OTHER, api_key=KEY), Chutes(model="zai-org/GLM-5.1-TEE", api_key=KEY, e2ee=OFF)
    table = {"model": "zai-org/GLM-5.2-TEE", "e2ee": False}
    made = ChutesFallback([MODEL, mine, private, table], e2ee=True, api_key=KEY)
    assert [member.e2ee for member in made.members] == [True, True, OFF, True]
    assert mine.e2ee is False
    with pytest.raises(ConfigurationError, match="MockLLM cannot be asked sealed"), _quiet():
        ChutesFallback([MODEL, MockLLM()], e2ee=True, api_key=KEY)


def test_the_server_is_not_asked_to_choose(server: LocalChutes) -> None:
    """The reason is with the answer."""
    policy = FallbackPolicy(first_hop="server")
    outcome = ask(ChutesFallback([MODEL, OTHER], policy=policy, **connection(server)), "chat")
    assert outcome.last.raw["chutes_first_hop"] == (
        f"member: {MODEL!r} is asked with sealed requests, each for one machine, which the service cannot pass on"
    )
    plain = Chutes(model=MODEL, **connection(server, e2ee=False))
    mixed = ChutesFallback([plain, Chutes(model=OTHER, **connection(server))], policy=policy)
    assert "the next is asked with sealed requests" in ask(mixed, "chat").last.raw["chutes_first_hop"]


# ------------------------------------------------------------------------------------------------ confidential


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_confidential_only_is_said_to_the_service(server: LocalChutes, style: str) -> None:
    """With each request, over all members, beside the headers of their own; the members stay as they are."""
    server.faults.parse(f"{MODEL}=cold")
    policy = FallbackPolicy(confidential=True, max_attempts=2)
    given = connection(server, e2ee=False, default_headers={"X-Title": "me"})
    llm = ChutesFallback([MODEL, OTHER], policy=policy, **given)
    assert tried(ask(llm, style)) == [(MODEL, "cold"), (OTHER, None)]
    sent = [entry.headers for entry in server.journal.to("/chat/completions")]
    assert [(headers.get("x-tee-only"), headers.get("x-title")) for headers in sent] == [("true", "me")] * 2
    assert llm.members[0].default_headers == {"X-Title": "me"}


def test_without_it_nothing_is_said(server: LocalChutes) -> None:
    """Also after the policy was changed."""
    llm = ChutesFallback([MODEL], **connection(server, e2ee=False))
    for confidential in (None, True, False):
        llm.policy = FallbackPolicy(confidential=confidential)
        assert ask(llm, "chat").error is None
    said = [entry.headers.get("x-tee-only") for entry in server.journal.to("/chat/completions")]
    assert said == [None, "true", None]


def test_a_model_that_lost_it_is_passed_over(server: LocalChutes) -> None:
    """The catalogue was wrong; the service refuses, and the next is asked."""
    server.faults.parse(f"{MODEL}=not_tee")
    policy = FallbackPolicy(confidential=True, max_attempts=2)
    outcome = ask(ChutesFallback([MODEL, OTHER], policy=policy, **connection(server, e2ee=False)), "chat")
    assert tried(outcome) == [(MODEL, "not_confidential"), (OTHER, None)]


def test_strangers_are_left_out_unless_you_say_so(server: LocalChutes) -> None:
    """With the reason."""
    server.faults.parse(f"{MODEL}=cold")
    members = [Chutes(model=MODEL, **connection(server, e2ee=False)), MockLLM()]
    trusting = FallbackPolicy(confidential=True, trusted=("MockLLM",), max_attempts=2)
    with _quiet():
        strict = ChutesFallback(members, policy=FallbackPolicy(confidential=True, max_attempts=1))
        allowed = ChutesFallback(members, policy=trusting)
    error = ask(strict, "chat").error
    assert isinstance(error, FallbackError)
    assert "a model of another provider, which is not known" in str(error.attempts[0].detail)
    outcome = ask(allowed, "chat")
    assert outcome.error is None
    assert outcome.last.raw["model_name"] == "MockLLM"


async def test_many_at_once_keep_apart(server: LocalChutes) -> None:
    """Each gets the answer to its own question."""
    llm = ChutesFallback([MODEL], **connection(server))
    answers = await asyncio.gather(*(llm.acomplete(f"number {number}.") for number in range(20)))
    assert all(f"number {number}." in answer.text for number, answer in enumerate(answers))


def _quiet() -> Any:
    """Without the warning that a stranger's own retries cannot be turned off."""
    return warnings.catch_warnings(action="ignore")
