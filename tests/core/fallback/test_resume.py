"""Answers that are gone on with: whole and exact where models continue, and an error or a restart where they do not."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chutes_core import (
    APIError,
    AsyncFallbackClient,
    Budget,
    Catalog,
    ChutesError,
    ConfigurationError,
    Delta,
    FallbackClient,
    Kind,
    Restart,
)
from chutes_core.catalog.model_info import ModelInfo, Traits
from chutes_core.fallback import FallbackPolicy
from chutes_core.fallback.resume import Resume, Seam, Words, continued
from chutes_core.testing import VirtualClock

ANSWER = (
    "The sky is blue, since light of short waves is scattered most by the air.\n\nAt dusk it is red: its way is longer."
)
OTHER = "Because of the air, which takes the blue out of the light of the sun and sends it to us from everywhere."
HELLO = [{"role": "user", "content": "Why is the sky blue?"}]
SHAPES = ["honoured", "closed", "as_user", "in_think", "crash", "echo", "stripped", "dropped"]


class Service:
    """Machines that die after so many characters, and models that continue, each in its own way.

    Args:
        deaths: After how many characters each request dies, in order; None is a whole answer.
        shapes: What each model makes of an assistant's message that is not finished.
        size: How many characters a chunk has.
        reasoning: What is thought before an answer.
    """

    def __init__(self, deaths: list[int | None], shapes: dict[str, str], size: int = 5, reasoning: str = "") -> None:
        self.deaths = deaths
        self.shapes = shapes
        self.size = size
        self.reasoning = reasoning
        self.asked: list[dict[str, Any]] = []
        self.paid = 0
        self.gone: set[str] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.asked.append(body)
        death = self.deaths[len(self.asked) - 1] if len(self.asked) <= len(self.deaths) else None
        prefix = body["messages"][-1]["content"] if body.get("continue_final_message") else ""
        shape = self.shapes.get(body["model"], "honoured")
        if body["model"] in self.gone:
            return httpx.Response(404, json={"detail": f"model not found: {body['model']}"})
        if prefix and shape == "crash":
            return httpx.Response(500, json={"detail": "Internal server error"})
        text, thought = self.said(prefix, shape)
        prompt = 600 + len(prefix) // 4 if shape != "dropped" or not prefix else 20
        return httpx.Response(
            200,
            headers={"content-type": "text/event-stream"},
            content=self.stream(body["model"], text, thought, death, prompt),
        )

    def said(self, prefix: str, shape: str) -> tuple[str, str]:
        """The text and the reasoning of an answer."""
        if not prefix:
            return ANSWER, self.reasoning
        rest = ANSWER[len(prefix) :] if ANSWER.startswith(prefix) else " and so on."
        told = {
            "honoured": rest, "closed": ANSWER, "as_user": OTHER, "in_think": "", "echo": prefix + rest,
            "stripped": rest.lstrip(" "), "dropped": OTHER,
        }[shape]  # fmt: skip
        return told, rest if shape == "in_think" else ""

    def stream(self, model: str, text: str, thought: str, death: int | None, prompt: int) -> bytes:
        chunks: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": ""}}]
        chunks += [{"delta": {"reasoning_content": thought}}] if thought else []
        cut = text if death is None else text[:death]
        chunks += [{"delta": {"content": cut[at : at + self.size]}} for at in range(0, len(cut), self.size)]
        chunks += [{"delta": {}, "finish_reason": "stop"}] if death is None else []
        lines, tokens = b"", 0
        for chunk in chunks:
            tokens += len(chunk["delta"].get("content", "")) // 4
            usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
            told = {
                "id": f"chat-{len(self.asked)}",
                "model": model,
                "usage": usage,
                "choices": [{"index": 0, "finish_reason": None, **chunk}],
            }
            lines += b"data: " + json.dumps(told).encode() + b"\n\n"
        self.paid += prompt + tokens
        return lines + (b"data: [DONE]\n\n" if death is None else b"")


def catalog(names: list[str], prefill: Any = "as_is") -> Catalog:
    models = [
        ModelInfo(id=name, features=frozenset({"tools"}), price_in=1.0, price_out=2.0, traits=Traits(prefill=prefill))
        for name in names
    ]
    return Catalog(models, source="here", fetched_at=0.0, snapshot_date="2026-01-01")


class Reader:
    """A reader of a fallback's stream, who keeps what a screen would show."""

    def __init__(
        self,
        service: Service,
        policy: Any,
        style: str,
        names: Any = ("a/one", "b/two"),
        prefill: Any = "as_is",
        **params: Any,
    ) -> None:
        rules = policy if isinstance(policy, FallbackPolicy) else FallbackPolicy(after_commit=policy)
        self.shown, self.markers, self.steps = "", 0, []
        self.error: ChutesError | None = None
        shared: Any = {"policy": rules, "clock": VirtualClock(), "catalog": catalog(list(names), prefill)}
        shared |= {name: params.pop(name) for name in ("ledger", "health") if name in params}
        handler = httpx.MockTransport(service)
        try:
            if style == "blocking":
                client = FallbackClient(list(names), "cpk_test", http_client=httpx.Client(transport=handler), **shared)
                with client.stream(HELLO, **params) as stream:
                    for delta in stream:
                        self.take(delta)
                    self.reply = stream.reply
            else:
                waiting = AsyncFallbackClient(
                    list(names), "cpk_test", http_client=httpx.AsyncClient(transport=handler), **shared
                )
                asyncio.run(self.wait(waiting.stream(HELLO, **params)))
        except ChutesError as error:
            self.error = error

    async def wait(self, stream: Any) -> None:
        async with stream:
            async for delta in stream:
                self.take(delta)
            self.reply = stream.reply

    def take(self, delta: Delta) -> None:
        if isinstance(delta, Restart):
            self.markers += 1
            self.shown = ""
        self.steps.append(delta)
        self.shown += delta.content


STYLES = pytest.mark.parametrize("style", ["blocking", "async"])


@settings(max_examples=150)
@given(
    st.lists(st.integers(1, len(ANSWER) - 1), min_size=1, max_size=2), st.integers(1, 40),
    st.sampled_from(["honoured", "echo"]), st.sampled_from(["as_is", "thinking_off"]), st.booleans(),
)  # fmt: skip
def test_where_models_continue_every_word_comes_once(
    deaths: list[int | None], size: int, shape: str, prefill: str, thinks: bool
) -> None:
    """Wherever it broke off, once or twice: the text is the uncut answer's, and the reply says how it came about."""
    service = Service(deaths, {"a/one": shape, "b/two": shape}, size, "Hm, light." if thinks else "")
    for style in ("blocking", "async"):
        service.asked.clear()
        service.paid = 0
        made = Reader(service, "resume", style, prefill=prefill)
        if made.error is not None:  # it died before a word was out, and the next one began: then that died, twice more
            assert isinstance(made.error, APIError)
            continue
        assert (made.shown, made.reply.content, made.markers) == (ANSWER, ANSWER, 0 if not thinks else made.markers)
        assert made.reply.finish_reason == "stop"
        assert sum(each.usage.total_tokens for each in made.reply.attempts if each.usage) == service.paid
        links: Any = made.reply.extra.get("chutes_resumed", [])
        went_on = [each for each in made.reply.attempts if each.resumed_at is not None and each.delivered]
        assert [(each.resumed_at, each.model) for each in went_on] == [(link["at"], link["to"]) for link in links]
        begun = max(at for at, each in enumerate(made.reply.attempts) if each.resumed_at is None)
        parts = [each.usage.total_tokens for each in made.reply.attempts[begun:] if each.usage]
        assert made.reply.usage is not None
        assert made.reply.usage.total_tokens == sum(parts)
        assert made.reply.cost is not None


@settings(max_examples=300)
@given(
    st.integers(1, len(ANSWER) - 1), st.integers(1, 40), st.sampled_from(SHAPES), st.sampled_from(SHAPES),
    st.sampled_from(["resume", "resume_or_restart", "resume_or_hold"]),
)  # fmt: skip
def test_whatever_models_make_of_it_nothing_is_silently_wrong(
    cut: int, size: int, one: str, two: str, mode: str
) -> None:
    """A whole answer of one, a continuation that is one, or an error; a prefix that was ignored is never glued on."""
    service = Service([cut], {"a/one": one, "b/two": two}, size)
    made = Reader(service, mode, "blocking")
    if made.error is not None:
        assert mode != "resume_or_restart"
        assert isinstance(made.error, APIError)
        assert ANSWER.startswith(made.shown)
        assert made.error.partial.startswith(made.shown)
        return
    answers = {ANSWER}
    if "stripped" in (one, two):  # a space that its template lost is not seen from outside
        answers |= {ANSWER[:at] + ANSWER[at:].lstrip(" ") for at in range(len(ANSWER))}
    fooled = {"as_user", "dropped"} & {one, two}
    if made.shown not in answers:
        assert fooled, (one, two, made.shown)
        assert made.shown in {ANSWER[:at] + OTHER for at in range(len(ANSWER))}


@STYLES
def test_what_is_sent(style: str) -> None:
    """The beginning as the assistant's, both flags, and what is left of the tokens."""
    service = Service([30], {}, reasoning="Hm.")
    made = Reader(service, "resume", style, max_tokens=100, temperature=0.5)
    assert made.shown == ANSWER
    first, second = service.asked
    given_out = "The sky is blue, since light"
    assert second["messages"] == [*HELLO, {"role": "assistant", "content": given_out, "reasoning_content": "Hm."}]
    assert (second["continue_final_message"], second["add_generation_prompt"]) == (True, False)
    assert (second["max_tokens"], second["temperature"], second["model"]) == (100 - 30 // 5, 0.5, first["model"])
    assert made.reply.extra["chutes_resumed"] == [
        {"at": len(given_out), "from": "a/one", "to": "a/one", "how": "prefill"}
    ]
    assert made.reply.id == "chat-1"
    assert made.reply.reasoning == "Hm."


@STYLES
def test_thinking_is_switched_off_where_that_is_needed(style: str) -> None:
    """Or the text would go on inside a thought."""
    service = Service([30], {})
    assert Reader(service, "resume", style, prefill="thinking_off", reasoning=True).shown == ANSWER
    assert service.asked[1]["chat_template_kwargs"] == {"thinking": False, "enable_thinking": False}
    assert service.asked[0]["chat_template_kwargs"] == {"thinking": True, "enable_thinking": True}


@STYLES
@pytest.mark.parametrize(
    ("deaths", "shapes", "asked"),
    [
        ([30], {}, ["a/one", "a/one"]),
        ([30], {"a/one": "crash"}, ["a/one", "a/one", "b/two"]),
        ([30, 30], {}, ["a/one", "a/one", "b/two"]),
        ([30, 0], {}, ["a/one", "a/one", "b/two"]),
        ([30], {"a/one": "in_think"}, ["a/one", "a/one", "b/two"]),
        ([30], {"a/one": "dropped"}, ["a/one", "a/one", "b/two"]),
        ([30], {"a/one": "closed"}, ["a/one", "a/one"]),  # all that was given out comes again
    ],
)
def test_who_goes_on(style: str, deaths: Any, shapes: Any, asked: Any) -> None:
    """The same model once, whose words fit exactly, and then the others."""
    service = Service(deaths, shapes)
    made = Reader(service, "resume", style)
    assert (made.error, made.shown) == (None, ANSWER)
    assert [body["model"] for body in service.asked] == asked


@STYLES
def test_who_did_not_continue_is_not_asked_to_again(style: str) -> None:
    """The fallback remembers it, and it counts against nobody's health otherwise."""
    from chutes_core.fallback import Health

    health, shapes = Health(), {"a/one": "in_think"}
    client = FallbackClient(
        ["a/one", "b/two"], "cpk_test", policy=FallbackPolicy(after_commit="resume"), health=health,
        http_client=httpx.Client(transport=httpx.MockTransport(service := Service([30], shapes))),
        catalog=catalog(["a/one", "b/two"]), clock=VirtualClock(),
    )  # fmt: skip
    assert client.stream(HELLO).read().content == ANSWER
    assert health.lacks("|a/one") == {"prefill"}
    assert health.vitals("|a/one").failures == 1, "the death alone"
    service.asked, service.deaths = [], [30]
    assert client.stream(HELLO).read().content == ANSWER
    assert len(service.asked) <= 3
    assert not any(body.get("continue_final_message") and body["model"] == "a/one" for body in service.asked)


@STYLES
@pytest.mark.parametrize("mode", ["resume", "resume_or_restart", "resume_or_hold"])
def test_where_nobody_continues(style: str, mode: str) -> None:
    """The first failure with all that was given out, another answer, or nothing that could break off."""
    service = Service([30], {})
    made = Reader(service, mode, style, prefill=None)
    if mode == "resume":
        assert isinstance(made.error, APIError)
        assert (made.error.kind, made.error.partial) == (Kind.TRUNCATED, made.shown)
        assert [each.outcome for each in made.error.attempts] == ["failed"]
        return
    assert (made.error, made.shown, made.markers) == (None, ANSWER, mode == "resume_or_restart")


@pytest.mark.filterwarnings("ignore:The gateway omits logprobs")
@STYLES
@pytest.mark.parametrize(
    "params",
    [
        {"response_format": {"type": "json_object"}},
        {"logprobs": True},
        {"guided_choice": ["a"]},
        {"tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}], "tool_choice": "required"},
        {"extra_body": {"echo": True}},
        {"stop": ["light of"]},
        {"max_tokens": 6},
    ],
)
def test_requests_that_cannot_be_gone_on_with(style: str, params: Any) -> None:
    """The failure is raised, with the part; nobody is asked to continue."""
    service = Service([31], {})
    made = Reader(service, "resume", style, **params)
    assert made.error is not None
    assert not any(body.get("continue_final_message") for body in service.asked)


def test_with_tools_only_the_same_model_goes_on() -> None:
    """Another one might have called."""
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    service = Service([30], {})
    assert Reader(service, "resume", "blocking", tools=tools).shown == ANSWER
    service = Service([30], {"a/one": "crash"})
    made = Reader(service, "resume", "blocking", tools=tools)
    assert made.error is not None
    assert {body["model"] for body in service.asked} == {"a/one"}


def test_when_attempts_are_used_up() -> None:
    """The first failure, with everything that was given out, and every attempt."""
    service = Service([30, 30, 30, 30], {})
    made = Reader(service, FallbackPolicy(after_commit="resume", resume_attempts=2), "blocking")
    assert isinstance(made.error, APIError)
    assert len(service.asked) == len(made.error.attempts) == 3
    assert made.error.partial == made.shown
    assert ANSWER.startswith(made.shown)
    assert [each.resumed_at is not None for each in made.error.attempts] == [False, True, True]


@given(st.text(alphabet="ab \n\t中文é", max_size=80), st.integers(1, 9))
def test_words_lose_nothing(text: str, size: int) -> None:
    """What is given out and what is held back are the text, and what is given out ends where a word does."""
    words, shown = Words(), ""
    for at in range(0, len(text), size):
        shown += words.take(text[at : at + size])
        assert shown == shown.rstrip() or not shown.strip()
        assert text.startswith(shown)
    assert shown + words.rest() == text


def test_a_seam_waits_until_it_is_certain() -> None:
    """For more than a few letters, and as long as it may be the same answer."""
    seam = Seam("The sky is blue, since", "a/one")
    assert [seam.take(text) for text in (" light", " of short", " waves is")] == ["", "", " light of short waves is"]
    seam = Seam("Yes", "a/one")
    assert seam.take("Yes, it is.", ends=True) == ", it is."
    assert Seam("The sky is blue", "a/one").take(".", ends=True) == "."
    for text in ("The sky is blue, as light is", "</think> light of", "<|im_start|>"):
        with pytest.raises(APIError) as caught:
            Seam("The sky is blue, since", "a/one").take(text, ends=True)
        assert caught.value.kind is Kind.NOT_RESUMED


def test_a_conversation_that_ends_with_an_answer_is_not_gone_on_with() -> None:
    """Somebody continues something there already."""
    asked = {"messages": [*HELLO, {"role": "assistant", "content": "The"}]}
    with pytest.raises(ConfigurationError, match="ends with an assistant's message"):
        continued(asked, Resume("sky"))


def test_few_words_are_not_given_out_at_all() -> None:
    """A beginning that many answers have says nothing of what comes: another member takes over unnoticed."""
    for cut in range(1, 16):
        service = Service([cut], {"b/two": "closed"})
        made = Reader(service, "resume", "blocking")
        assert (made.error, made.shown, made.markers) == (None, ANSWER, 0)
        assert not any(body.get("continue_final_message") for body in service.asked)


def test_blanks_before_an_answer_hide_no_second_beginning() -> None:
    """Many answers begin with empty lines."""
    for again in ("\n\nThe sky is blue, as light of", "\n\nThe sky is blue, since light"):
        with pytest.raises(APIError) as caught:
            Seam("\n\nThe sky is blue, since", "a/one").take(again, ends=True)
        assert caught.value.kind is Kind.NOT_RESUMED


@pytest.mark.filterwarnings("ignore:The gateway omits logprobs")
@STYLES
@pytest.mark.parametrize("params", [{"logprobs": True}, {"max_tokens": 6}, {"stop": ["light of"]}])
def test_what_cannot_be_gone_on_with_begins_anew(style: str, params: Any) -> None:
    """By any member, also the one that broke off."""
    service = Service([31], {})
    made = Reader(service, "resume_or_restart", style, **params)
    assert (made.error, made.shown, made.markers) == (None, ANSWER, 1)
    service = Service([31, 31], {})
    made = Reader(service, "resume_or_restart", style, **params)
    assert (made.error, made.shown, made.markers) == (None, ANSWER, 2)


@pytest.mark.filterwarnings("ignore:The gateway omits logprobs")
@STYLES
@pytest.mark.parametrize(
    "params", [{"logprobs": True}, {"extra_body": {"echo": True}}, {"response_format": {"type": "json_object"}}]
)
def test_what_cannot_be_gone_on_with_is_held(style: str, params: Any) -> None:
    """From the start, since afterwards it is too late."""
    service = Service([31], {})
    made = Reader(service, "resume_or_hold", style, **params)
    if "response_format" in params:
        assert made.shown == "", "the answer is no JSON, and nobody has seen it"
        return
    assert (made.error, made.shown, made.markers) == (None, ANSWER, 0)
    assert not any(body.get("continue_final_message") for body in service.asked)


def test_a_member_may_be_spelled_otherwise() -> None:
    """The service answers with its own name for it."""
    service = Service([40], {})
    catalog_names = ["a/one", "b/two"]
    client = FallbackClient(
        ["A/One:latency", "b/two"], "cpk_test", policy=FallbackPolicy(after_commit="resume"), clock=VirtualClock(),
        http_client=httpx.Client(transport=httpx.MockTransport(service)), catalog=catalog(catalog_names),
    )  # fmt: skip
    assert client.stream(HELLO).read().content == ANSWER


def test_limits_in_extra_body_shrink_too() -> None:
    """Wherever they were given."""
    service = Service([60], {})
    made = Reader(service, "resume", "blocking", prefill="thinking_off", extra_body={"max_tokens": 100, "seed": 1})
    assert made.shown == ANSWER
    assert service.asked[1]["max_tokens"] == 100 - 60 // 5
    assert (service.asked[1]["seed"], service.asked[1]["chat_template_kwargs"]["thinking"]) == (1, False)


def test_members_that_are_gone_use_up_no_attempt() -> None:
    """Who cannot answer cannot go on either."""
    service = Service([None, 40, 0, None], {"b/two": "crash"})
    service.gone = {"a/one"}
    made = Reader(service, "resume", "blocking", names=("a/one", "b/two", "c/three"))
    assert (made.error, made.shown) == (None, ANSWER)
    assert [body["model"] for body in service.asked] == ["a/one", "b/two", "b/two", "c/three"]


def test_a_budget_that_is_spent_leaves_the_failure() -> None:
    """With what was given out, and not an error of this side in its place."""
    service = Service([40], {})
    made = Reader(service, "resume", "blocking", ledger=Budget(tokens=800), max_tokens=300)
    assert isinstance(made.error, APIError)
    assert (made.error.kind, made.error.partial) == (Kind.TRUNCATED, made.shown)
    assert made.shown


def test_an_answer_without_its_end_counts_against_nobody() -> None:
    """There is nothing to go on with, which is right."""
    from chutes_core.fallback import Health

    health = Health()
    service = Service([len(ANSWER)], {})
    Reader(service, "resume", "blocking", health=health)
    assert [health.vitals(f"|{name}").failures for name in ("a/one", "b/two")] == [1, 0]


def test_after_a_restart_the_new_answer_is_gone_on_with() -> None:
    """The first failure is forgotten with its answer."""
    service = Service([40, 40], {"a/one": "crash"})
    rules = FallbackPolicy(after_commit="resume_or_restart", resume_attempts=4)
    made = Reader(service, rules, "blocking", prefill="as_is")
    assert (made.error, made.shown) == (None, ANSWER)
