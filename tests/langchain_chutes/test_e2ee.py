"""Encryption and confidential compute in LangChain: what is refused, what travels, and what a fallback keeps to.

That a sealed call comes to the same as a plain one is in tests/parity.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import FakeListChatModel
from langchain_core.load import dumps, loads
from pydantic import BaseModel, field_validator

from chutes_core import E2EE, APIError, AttestationError, ChutesError, ConfigurationError, Kind
from chutes_core.e2ee import seal
from chutes_local import LocalChutes
from chutes_local.e2ee.proof import LIES
from langchain_chutes import ChatChutes, ChutesEmbeddings, ChutesFallback, FallbackError, FallbackPolicy
from tests.parity.sealed import MENDED, MODEL, MODES, OTHER, PLAIN, connection, running, server
from tests.parity.test_langchain_sealed import ask

__all__ = ["running", "server"]

KEY: Any = "cpk_0123"
POLICY = FallbackPolicy(max_attempts=2, backoff=0)
OFF = E2EE(verify="off")


def invoked(server: LocalChutes) -> list[str | None]:
    """Which models were asked sealed, one after the other."""
    return [entry.model for entry in server.journal.to("/e2e/invoke")]


def tried(answer: Any) -> list[tuple[str, str | None]]:
    return [(row["model"], row["kind"]) for row in answer.response_metadata["chutes_attempts"]]


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
    for make in (ChatChutes, ChutesEmbeddings):
        if said is None:
            assert make(**given).e2ee is True
            continue
        with pytest.raises(ValueError, match=said):
            make(**given)


@pytest.mark.parametrize("model", [f"{OTHER},{MODEL}", f"{OTHER}:throughput", "my-alias", "acme/unheard-of"])
@pytest.mark.parametrize("mode", MODES)
def test_what_cannot_work_is_refused_in_a_call(server: LocalChutes, model: str, mode: str) -> None:
    """Before anything of it is sent; of a name that only the gateway may know, its list is asked for."""
    made = ChatChutes(model=MODEL, **connection(server))
    with pytest.raises(ConfigurationError, match="Under e2ee"):
        ask(mode, made.bind(model=model), "Hi")
    assert [entry for entry in server.journal.entries if entry.method == "POST"] == []


def test_encryption_is_no_argument_of_a_call(server: LocalChutes) -> None:
    """It would be too late to find out that it was not taken."""
    with pytest.raises(ConfigurationError, match="e2ee"):
        ChatChutes(model=MODEL, **connection(server, e2ee=False)).invoke("Hi", e2ee=True)
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
        lambda: ChatChutes(model=MODEL, e2ee=True, api_key=KEY),
        lambda: ChutesEmbeddings(e2ee=True, api_key=KEY),
        lambda: ChutesFallback([MODEL], e2ee=True, api_key=KEY),
        lambda: ChutesFallback([ChatChutes(model=MODEL, api_key=KEY)], e2ee=True),
    ]
    for make in makers:
        with pytest.raises(ValueError, match=r"pip install 'chutes-connect\[e2ee\]'"):
            make()


# ------------------------------------------------------------------------------------------------ what travels


def _loaded(text: str) -> Any:
    return loads(
        text,
        allowed_objects=[ChatChutes, ChutesFallback],
        valid_namespaces=["langchain_chutes"],
        secrets_map={"CHUTES_API_KEY": KEY},
    )


@pytest.mark.filterwarnings("ignore:The function `loads` is in beta")
@pytest.mark.parametrize(("wish", "shown"), [(True, "e2ee=True"), (OFF, "verify='off'"), ({"verify": "off"}, "'off'")])
def test_the_wish_is_shown_and_travels_without_keys(wish: Any, shown: str) -> None:
    """In repr, pickles, LangChain's own form, traces and copies."""
    chat = ChatChutes(model=MODEL, e2ee=wish, api_key=KEY)
    embeddings = ChutesEmbeddings(e2ee=wish, api_key=KEY)
    for made in (chat, embeddings):
        assert shown in repr(made)
        packed = pickle.dumps(made)
        assert pickle.loads(packed).e2ee == made.e2ee
        assert KEY.encode() not in packed
        assert KEY not in repr(made)
        assert made.model_copy(update={"timeout": 5}).client._sealed is not None
    text = dumps(chat)
    assert KEY not in text
    assert _loaded(text).e2ee == chat.e2ee
    assert chat._identifying_params["e2ee"] == (True if wish is True else {"verify": "off"})
    assert "e2ee" not in ChatChutes(model=MODEL, api_key=KEY)._identifying_params


@pytest.mark.filterwarnings("ignore:The function `loads` is in beta")
def test_a_fallback_keeps_it_too() -> None:
    """In repr, pickles and LangChain's own form."""
    made = ChutesFallback([MODEL, OTHER], e2ee=True, api_key=KEY)
    assert "e2ee=True" in repr(made)
    assert [member.e2ee for member in pickle.loads(pickle.dumps(made)).members] == [True, True]
    back = _loaded(dumps(made))
    assert [member.e2ee for member in back.members] == [True, True]
    assert "e2ee" not in repr(ChutesFallback([MODEL, OTHER], api_key=KEY))


def test_a_wish_that_comes_late_is_kept(server: LocalChutes) -> None:
    """A client that was made without encryption is not used any more."""
    model = ChatChutes(model=MODEL, **connection(server, e2ee=False))
    model.invoke("Hi")
    model.e2ee = True
    model.invoke("Hi")
    assert (len(server.journal.to("/chat/completions")), len(invoked(server))) == (1, 1)
    fallback = ChutesFallback(
        [ChatChutes(model=MODEL, **connection(server, e2ee=False))], policy=FallbackPolicy(confidential=True)
    )
    fallback.invoke("Hi")
    fallback.members[0].e2ee = True  # type: ignore[attr-defined]
    fallback.invoke("Hi")
    assert (len(server.journal.to("/chat/completions")), len(invoked(server))) == (2, 2)


class Impossible(BaseModel):
    """A form that no answer has."""

    value: int

    @field_validator("value")
    @classmethod
    def _never(cls, value: int) -> int:
        raise ValueError(f"walrus {value}")


class Strict(BaseModel):
    """A form that no echo has."""

    number: int


@pytest.mark.parametrize("fallback", [False, True], ids=["model", "fallback"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["json_mode", "json_schema", "function_calling"])
@pytest.mark.parametrize("params", [{}, {"max_tokens": 1}], ids=["whole", "cut"])
def test_an_answer_of_another_form_is_not_quoted(
    server: LocalChutes, params: dict[str, Any], method: Any, mode: str, fallback: bool
) -> None:
    """Neither in the error nor in what it came from; the answer itself is there with ``include_raw=True``."""
    model: Any = ChatChutes(model=MODEL, max_retries=0, **params, **connection(server))
    if fallback:
        model = ChutesFallback([model], policy=POLICY)
    with pytest.raises((OutputParserException, FallbackError)) as caught:
        ask(mode, model.with_structured_output(Impossible, method=method), "What is it?")
    error: BaseException | None = caught.value
    while error is not None:
        told = f"{error} {error!r} {vars(error)} {pickle.dumps(error)!r}" + "".join(traceback.format_exception(error))
        assert not any(word in told for word in ("walrus", "'echo'", '"echo"'))
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", ["", "no_finish", "sealed_flip", "error_line", "overflow"])
def test_your_words_are_in_no_log_error_or_pickle(
    server: LocalChutes, fault: str, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever comes of the call, and whatever level the logs have."""
    caplog.set_level(logging.DEBUG)
    model = ChatChutes(model=MODEL, max_retries=0, **connection(server))
    fallback = ChutesFallback([model], policy=POLICY)
    if fault:
        server.faults.parse(f"{MODEL}={fault}")
    shown = ""
    for each in (model, fallback):
        try:
            ask(mode, each, "My walrus is called Waldemar.")
        except ChutesError as error:
            shown += f"{error} {error!r} {getattr(error, 'attempts', '')} {pickle.dumps(error)!r}"
    assert bool(shown) == bool(fault)
    shown += caplog.text + repr(model) + repr(fallback) + repr(pickle.dumps(model)) + repr(pickle.dumps(fallback))
    assert "walrus" not in shown
    assert "Waldemar" not in shown


def test_an_answer_without_its_form_is_not_quoted(server: LocalChutes) -> None:
    """In the attempts of a fallback: they stand in the metadata of the next one's answer."""
    fallback = ChutesFallback([MODEL], policy=POLICY, **connection(server))
    with pytest.raises(FallbackError) as caught:
        fallback.with_structured_output(Strict, method="json_mode").invoke("My walrus is called Waldemar.")
    assert [each.kind for each in caught.value.exceptions if isinstance(each, APIError)] == [Kind.MALFORMED] * 2
    told = f"{caught.value} {caught.value.attempts} {caught.value.exceptions!r}"
    assert "form that was asked for" in told
    assert "walrus" not in told
    assert all(each.__cause__ is None and each.__context__ is None for each in caught.value.exceptions)


# ------------------------------------------------------------------------------------------------ fallback


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", MENDED)
def test_the_next_takes_over(server: LocalChutes, fault: str, mode: str) -> None:
    """Sealed like the first; what failed stands in the attempts."""
    server.faults.parse(f"{MODEL}={fault}")
    model = ChutesFallback([MODEL, OTHER], policy=POLICY, **connection(server))
    answer, _ = ask(mode, model, "Please say something.")
    assert "say something" in str(answer.content)
    assert tried(answer) == [(MODEL, MENDED[fault].value), (OTHER, None)]
    assert len(server.journal.to("/e2e/invoke")) == 2
    assert not server.journal.to("/chat/completions")


@pytest.mark.parametrize("mode", MODES)
def test_a_model_without_machines_is_passed_over(server: LocalChutes, mode: str) -> None:
    """It is cold, and nothing was sealed for it."""
    server.change(MODEL, machines=0)
    answer, _ = ask(mode, ChutesFallback([MODEL, OTHER], policy=POLICY, **connection(server)), "Hi")
    assert tried(answer) == [(MODEL, "cold"), (OTHER, None)]
    assert invoked(server) == [OTHER]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lie", LIES)
def test_who_proves_nothing_gets_nothing(server: LocalChutes, lie: str, mode: str) -> None:
    """Not a byte of the prompt, not from anybody; the attempts say so."""
    server.world.sealed.lies.add(lie)
    model = ChutesFallback([MODEL, OTHER], policy=POLICY, **connection(server))
    with pytest.raises(FallbackError) as caught:
        ask(mode, model, "Hi")
    assert all(isinstance(each, AttestationError) for each in caught.value.exceptions)
    kinds = [(attempt.model, attempt.kind) for attempt in caught.value.attempts]
    assert kinds == [(MODEL, Kind.ATTESTATION), (OTHER, Kind.ATTESTATION)]
    assert not server.journal.to("/e2e/invoke")
    assert not server.journal.to("/chat/completions")


@pytest.mark.parametrize("mode", MODES)
def test_a_member_that_is_trusted_takes_over_from_one_that_proved_nothing(server: LocalChutes, mode: str) -> None:
    """Each member is checked as it was asked to be."""
    server.world.sealed.lies.add("debug")
    strict = ChatChutes(model=MODEL, **connection(server))
    trusting = ChatChutes(model=OTHER, **connection(server, e2ee=OFF))
    answer, _ = ask(mode, ChutesFallback([strict, trusting], policy=POLICY), "Hi")
    assert tried(answer) == [(MODEL, "attestation"), (OTHER, None)]
    assert invoked(server) == [OTHER]


@pytest.mark.parametrize("mode", MODES)
def test_from_sealed_to_plain_only_where_it_was_said(server: LocalChutes, mode: str) -> None:
    """The next one that is not sealed is left out, and is asked with confidential=False."""
    members = [
        ChatChutes(model=MODEL, **connection(server)),
        ChatChutes(model=OTHER, **connection(server, e2ee=False)),
    ]
    server.faults.parse(f"{MODEL}=cold")
    with pytest.raises(FallbackError) as caught:
        ask(mode, ChutesFallback(members, policy=POLICY), "Hi")
    skipped = next(attempt for attempt in caught.value.attempts if attempt.outcome == "skipped")
    assert (skipped.model, skipped.detail) == (OTHER, "not sealed, which the members before it are")
    assert not server.journal.to("/chat/completions")
    allowed = FallbackPolicy(max_attempts=2, confidential=False)
    answer, _ = ask(mode, ChutesFallback(members, policy=allowed), "Hi")
    assert tried(answer)[-1] == (OTHER, None)


def test_every_member_is_sealed_or_refused() -> None:
    """Those by name, those that were made before, and no other provider's."""
    mine, private = ChatChutes(model=OTHER, api_key=KEY), ChatChutes(model="zai-org/GLM-5.1-TEE", api_key=KEY, e2ee=OFF)
    made = ChutesFallback([MODEL, mine, private], e2ee=True, api_key=KEY)
    assert [member.e2ee for member in made.members] == [True, True, OFF]  # type: ignore[attr-defined]
    assert mine.e2ee is False
    with pytest.raises(ConfigurationError, match="FakeListChatModel cannot be asked sealed"), _quiet():
        ChutesFallback([MODEL, FakeListChatModel(responses=["x"])], e2ee=True, api_key=KEY)


def test_the_server_is_not_asked_to_choose(server: LocalChutes) -> None:
    """The reason is with the answer."""
    policy = FallbackPolicy(first_hop="server")
    answer = ChutesFallback([MODEL, OTHER], policy=policy, **connection(server)).invoke("Hi")
    assert answer.response_metadata["chutes_first_hop"] == (
        f"member: {MODEL!r} is asked with sealed requests, each for one machine, which the service cannot pass on"
    )
    plain = ChatChutes(model=MODEL, **connection(server, e2ee=False))
    mixed = ChutesFallback([plain, ChatChutes(model=OTHER, **connection(server))], policy=policy)
    assert "the next is asked with sealed requests" in mixed.invoke("Hi").response_metadata["chutes_first_hop"]


# ------------------------------------------------------------------------------------------------ confidential


@pytest.mark.parametrize("mode", MODES)
def test_confidential_only_is_said_to_the_service(server: LocalChutes, mode: str) -> None:
    """With each request, over all members, beside the headers of their own; the members stay as they are."""
    server.faults.parse(f"{MODEL}=cold")
    policy = FallbackPolicy(confidential=True, max_attempts=2)
    model = ChutesFallback(
        [MODEL, OTHER], policy=policy, **connection(server, e2ee=False, default_headers={"X-Title": "me"})
    )
    answer, _ = ask(mode, model, "Hi")
    assert tried(answer) == [(MODEL, "cold"), (OTHER, None)]
    sent = [entry.headers for entry in server.journal.to("/chat/completions")]
    assert [(headers.get("x-tee-only"), headers.get("x-title")) for headers in sent] == [("true", "me")] * 2
    assert model.members[0].default_headers == {"X-Title": "me"}  # type: ignore[attr-defined]


def test_without_it_nothing_is_said(server: LocalChutes) -> None:
    """Also after the policy was changed."""
    model = ChutesFallback([MODEL], **connection(server, e2ee=False))
    for confidential in (None, True, False):
        model.policy = FallbackPolicy(confidential=confidential)
        model.invoke("Hi")
    said = [entry.headers.get("x-tee-only") for entry in server.journal.to("/chat/completions")]
    assert said == [None, "true", None]


def test_a_model_that_lost_it_is_passed_over(server: LocalChutes) -> None:
    """The catalogue was wrong; the service refuses, and the next is asked."""
    server.faults.parse(f"{MODEL}=not_tee")
    policy = FallbackPolicy(confidential=True, max_attempts=2)
    answer = ChutesFallback([MODEL, OTHER], policy=policy, **connection(server, e2ee=False)).invoke("Hi")
    assert tried(answer) == [(MODEL, "not_confidential"), (OTHER, None)]


def test_strangers_are_left_out_unless_you_say_so(server: LocalChutes) -> None:
    """With the reason."""
    server.faults.parse(f"{MODEL}=cold")
    stranger = FakeListChatModel(responses=["from elsewhere"])
    members = [ChatChutes(model=MODEL, **connection(server, e2ee=False)), stranger]
    with _quiet():
        strict = ChutesFallback(members, policy=FallbackPolicy(confidential=True, max_attempts=1))
        trusting = FallbackPolicy(confidential=True, trusted=("FakeListChatModel",), max_attempts=2)
        allowed = ChutesFallback(members, policy=trusting)
    with pytest.raises(FallbackError) as caught:
        strict.invoke("Hi")
    assert "a model of another provider, which is not known" in str(caught.value.attempts[0].detail)
    assert allowed.invoke("Hi").content == "from elsewhere"


async def test_many_at_once_keep_apart(server: LocalChutes) -> None:
    """Each gets the answer to its own question."""
    model = ChutesFallback([MODEL], **connection(server))
    answers = await asyncio.gather(*(model.ainvoke(f"number {number}.") for number in range(20)))
    assert all(f"number {number}." in str(answer.content) for number, answer in enumerate(answers))


def _quiet() -> Any:
    """Without the warning that a stranger's own retries cannot be turned off."""
    return warnings.catch_warnings(action="ignore")
