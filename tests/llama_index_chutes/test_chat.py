"""The eight ways to ask: text, reasoning, tool calls, parameters, images, and what the framework adds."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock, ThinkingBlock
from llama_index.core.prompts import PromptTemplate

from chutes_core import RequestRefusedError
from chutes_core.testing import Answer, Fault

from .rigs import CHAT_STYLES, ECHOING, HELLO, STREAMS, STYLES, ask, rig, text_of

PIXEL = "data:image/png;base64,iVBORw0KGgo="
ANSWER = Answer("Hello there, friend.", pieces=5)
THOUGHT = Answer("Yes.", reasoning="Let me think.", pieces=4)


@pytest.mark.parametrize("style", STYLES)
def test_text(style: str) -> None:
    """The answer, whole or in pieces, with its usage once."""
    made = rig([ANSWER])
    outcome = ask(made.llm, style)
    assert text_of(outcome.last) == ANSWER.text
    assert [chunk.raw["usage"] for chunk in outcome.chunks if chunk.raw.usage] == [
        {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
    ]
    counts = {name: outcome.last.additional_kwargs[name] for name in ("prompt_tokens", "total_tokens")}
    assert counts == {"prompt_tokens": 11, "total_tokens": 16}  # where other providers' models have them
    assert made.llm.ledger.totals().usage.total_tokens == 16
    assert made.bodies[0]["messages"] == [{"role": "user", "content": "Say hello."}]


@pytest.mark.parametrize("style", STREAMS)
def test_a_stream_has_each_delta_and_the_text_so_far(style: str) -> None:
    """Each chunk adds its delta to the text before; the last chunk adds nothing and has all."""
    outcome = ask(rig([ANSWER]).llm, style)
    so_far = ""
    for chunk in outcome.chunks:
        so_far += chunk.delta
        assert text_of(chunk) == so_far
    assert (outcome.last.delta, so_far) == ("", ANSWER.text)
    assert len(outcome.chunks) == 6


@pytest.mark.parametrize("style", STREAMS)
def test_chunks_stay_what_they_were(style: str) -> None:
    """A chunk that somebody keeps is not changed by those that follow."""
    outcome = ask(rig([Answer("abcd", reasoning="wxyz", pieces=4)]).llm, style)
    assert [text_of(chunk) for chunk in outcome.chunks] == ["", "", "", "", "a", "ab", "abc", "abcd", "abcd"]


@pytest.mark.parametrize("style", CHAT_STYLES)
@pytest.mark.parametrize("form", ["reasoning_content", "reasoning", "think"])
def test_reasoning(form: str, style: str) -> None:
    """Reasoning is a ThinkingBlock before the text, and in streams a thinking_delta from the first chunk on."""
    answer = Answer("Yes.", reasoning="Let me think.", reasoning_field=form, pieces=9)
    outcome = ask(rig([answer]).llm, style)
    assert [type(block) for block in outcome.last.message.blocks] == [ThinkingBlock, TextBlock]
    assert outcome.last.message.blocks[0].content == "Let me think."
    assert outcome.last.message.content == "Yes."
    if style in STREAMS:
        deltas = [chunk.additional_kwargs.get("thinking_delta", "") for chunk in outcome.chunks]
        assert "".join(deltas) == "Let me think."
        assert deltas[0] != ""


@pytest.mark.parametrize("style", CHAT_STYLES)
@pytest.mark.parametrize(("model", "echoed"), [(ECHOING, True), ("Qwen/Qwen3-32B-TEE", False)])
def test_reasoning_goes_back_by_the_catalogues_word(model: str, echoed: bool, style: str) -> None:
    """The answer of one turn is the history of the next: with its reasoning, where the model needs it."""
    made = rig([THOUGHT, ANSWER], model=model)
    first = ask(made.llm, style).last.message
    ask(made.llm, style, [*HELLO, first, ChatMessage("And?")])
    history = made.bodies[1]["messages"][1]
    assert history["content"] == "Yes."
    assert history.get("reasoning_content") == ("Let me think." if echoed else None)


@pytest.mark.parametrize("style", STYLES)
def test_unset_means_not_sent(style: str) -> None:
    """Nothing is invented: no temperature, no limit, no choice of reasoning."""
    made = rig([ANSWER])
    ask(made.llm, style)
    assert set(made.bodies[0]) - {"stream_options"} == {"model", "messages", "stream"}


@pytest.mark.parametrize("style", STYLES)
def test_parameters_of_model_and_call(style: str) -> None:
    """The call's own win over additional_kwargs, those over the fields; None takes a field back; zero is a value."""
    made = rig(
        [ANSWER],
        temperature=0.0,
        max_tokens=50,
        top_p=0.5,
        reasoning="low",
        additional_kwargs={"seed": 1, "top_p": 0.9, "extra_body": {"a": 1}},
    )
    ask(made.llm, style, seed=2, max_tokens=None, reasoning_effort="none", extra_body={"b": 2})
    body = made.bodies[0]
    assert (body["temperature"], body["top_p"], body["seed"], body["a"], body["b"]) == (0.0, 0.9, 2, 1, 2)
    assert "max_tokens" not in body
    assert body["chat_template_kwargs"] == {"thinking": False, "enable_thinking": False}


@pytest.mark.parametrize("style", STYLES)
def test_unknown_keywords_are_refused_before_anything_is_sent(style: str) -> None:
    """A slip of the pen is an error that names what was meant, at the call and not at the first chunk."""
    made = rig([ANSWER])
    method = getattr(made.llm, style)
    question: Any = "Hi" if "complete" in style else HELLO

    async def awaited() -> None:
        await method(question, temperatur=1)

    with pytest.raises(RequestRefusedError, match="Did you mean 'temperature'"):
        asyncio.run(awaited()) if style.startswith("a") else method(question, temperatur=1)
    assert made.transport.requests == []


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_images(style: str) -> None:
    """An image goes along."""
    made = rig([ANSWER], model="google/gemma-4-31B-turbo-TEE")
    ask(made.llm, style, [ChatMessage([TextBlock(text="What?"), ImageBlock(url=PIXEL)])])
    assert made.bodies[0]["messages"][0]["content"][1] == {"type": "image_url", "image_url": {"url": PIXEL}}


@pytest.mark.parametrize("style", STYLES)
def test_the_system_prompt_is_there_once(style: str) -> None:
    """A model's system prompt comes first, also where the framework forgets it, and never twice."""
    made = rig([ANSWER, ANSWER], system_prompt="Be brief.")
    ask(made.llm, style)
    assert made.bodies[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    if "chat" in style:
        ask(made.llm, style, [ChatMessage(role=MessageRole.SYSTEM, content="Be brief."), *HELLO])
        assert [message["role"] for message in made.bodies[1]["messages"]] == ["system", "user"]


@pytest.mark.parametrize("method", ["predict", "stream", "apredict", "astream"])
def test_prompts(method: str) -> None:
    """The framework's own predict and stream, with the system prompt."""
    made = rig([ANSWER], system_prompt="Be brief.")
    prompt = PromptTemplate("Greet {name}.")

    async def awaited() -> str:
        result = await getattr(made.llm, method)(prompt, name="Ada")
        return result if method == "apredict" else "".join([token async for token in result])

    whole = method.startswith("a")
    assert (asyncio.run(awaited()) if whole else "".join(getattr(made.llm, method)(prompt, name="Ada"))) == ANSWER.text
    assert [message["content"] for message in made.bodies[0]["messages"]] == ["Be brief.", "Greet Ada."]


@pytest.mark.parametrize("style", ["complete", "acomplete"])
def test_a_prompt_is_formatted_unless_it_was(style: str) -> None:
    """`completion_to_prompt` is applied once."""
    made = rig([ANSWER, ANSWER], completion_to_prompt=lambda prompt: f"<{prompt}>")
    ask(made.llm, style)
    ask(made.llm, style, formatted=True)
    assert [body["messages"][0]["content"] for body in made.bodies] == ["<Say hello.>", "Say hello."]


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_the_callers_messages_are_not_changed(style: str) -> None:
    """A list of messages is read and nothing else, also with a system prompt and tools."""
    messages = [ChatMessage("Hi"), ChatMessage("there")]
    before = copy.deepcopy(messages)
    ask(rig([ANSWER], system_prompt="Be brief.").llm, style, messages)
    assert messages == before


def test_async_streams_are_coroutines_that_return_async_generators() -> None:
    """`await llm.astream_chat(...)` gives an async generator, as the framework's contract says."""
    made = rig([ANSWER])

    async def look() -> None:
        coroutine = made.llm.astream_chat(HELLO)
        assert inspect.iscoroutine(coroutine)
        stream = await coroutine
        assert inspect.isasyncgen(stream)
        await stream.aclose()

    asyncio.run(look())
    assert inspect.isgenerator(made.llm.stream_chat(HELLO))


@pytest.mark.parametrize("how", ["closed", "dropped"])
@pytest.mark.parametrize("style", STREAMS)
def test_a_stream_that_is_left_gives_its_connection_back(style: str, how: str) -> None:
    """Closing a stream after its first chunk, or forgetting it, leaves nothing open."""
    made = rig([Answer("a b c d e f", pieces=6)])
    question: Any = "Hi" if "complete" in style else HELLO

    async def leave() -> None:
        stream = await getattr(made.llm, style)(question)
        await anext(stream)
        assert made.transport.open_replies == 1
        if how == "closed":
            await stream.aclose()
        del stream
        gc.collect()
        for _ in range(5):  # an async generator is closed by the loop, in turns of its own
            await asyncio.sleep(0)
        assert made.transport.open_replies == 0

    if style.startswith("a"):
        asyncio.run(leave())
        return
    stream = getattr(made.llm, style)(question)
    next(stream)
    assert made.transport.open_replies == 1
    if how == "closed":
        stream.close()
    del stream
    gc.collect()
    assert made.transport.open_replies == 0


def test_one_model_in_several_event_loops() -> None:
    """The same object works in one loop after the other."""
    made = rig([ANSWER] * 3)
    for style in ("achat", "astream_chat", "acomplete"):
        assert text_of(ask(made.llm, style).last) == ANSWER.text


def test_an_error_of_a_stream_can_be_pickled() -> None:
    """Errors travel between processes with what arrived."""
    error = ask(rig([Fault("error_line", answer=ANSWER)]).llm, "stream_chat").error
    assert pickle.loads(pickle.dumps(error)).partial == ANSWER.text[:8]
