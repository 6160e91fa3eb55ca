"""Any one value of any reply may become any JSON value: the answer is whole and right, or the error is one of ours.

What the reply then says is read a second time here, naively and by the protocol alone; an answer that comes out must be
that. Whatever is refused must be refused as one of our own exceptions, on every surface.
"""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, AIMessageChunk
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock

from chutes_core import ChutesClient, ChutesError, ChutesWarning, openai_client
from chutes_core.testing import Answer
from chutes_core.wire.pools import http_package
from langchain_chutes import ChatChutes, ChutesEmbeddings
from llama_index_chutes import Chutes, ChutesEmbedding

EXAMPLES = int(os.environ.get("ANY_VALUE_EXAMPLES", "40"))
KEY, MODEL = "cpk_test", "acme/one"
HOLE = "@@the value that is replaced@@"
HELLO = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "pay", "parameters": {"type": "object", "properties": {}}}}

ANSWERS = [
    Answer("Three green bottles.", pieces=3),
    Answer("Yes.", reasoning="Let me see.", pieces=2),
    Answer("", tool_calls=[("pay", {"amount": 1250, "to": "Ada"})]),
    Answer("One moment.", tool_calls=[("pay", {"amount": 1}), ("pay", {"amount": 2})], pieces=2),
]
LOGPROBS = {
    "content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -2}]}]
}

# JSON as it may come over a wire, as text: also what no library of ours would write.
ODD = ["null", "true", "false", "0", "-1", "1", "1.0", "1.5", "1e999", "-0.0", "NaN", "-Infinity"]
ODD += ['""', '"0"', '"stop"', '"length"', '"tool_calls"', '"content_filter"', '"abort"', '"\\ud83d"', '"\\u0000"']
ODD += ['"é"', "[]", "{}", "[[]]", "[{}]", '[{"a": 1}]', '{"a": null}']
HUGE = ["9" * 400, "9" * 5000, "[" * 500 + "]" * 500, '{"a":' * 90 + "1" + "}" * 90, "[" * 5000 + "]" * 5000]
VALUES = st.sampled_from([*ODD, *HUGE]) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
).map(json.dumps)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values inside a value."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from paths(inner, (*path, key))


def replaced(value: Any, path: Sequence[Any], text: str) -> str:
    """The JSON of a value with other JSON in one place."""
    made = copy.deepcopy(value)
    holder = made
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = HOLE
    return json.dumps(made).replace(json.dumps(HOLE), text)


@st.composite
def spoiled(draw: st.DrawFn, values: Sequence[Any]) -> str:
    """The JSON of one of the values with a place replaced; of a list, an item a line."""
    value = draw(st.sampled_from(list(values)))
    path, text = draw(st.sampled_from(list(paths(value)))), draw(VALUES)
    if not isinstance(value, list):
        return replaced(value, path, text)
    rows = [json.dumps(each) for each in value]
    rows[path[0]] = replaced(value[path[0]], path[1:], text) if path[1:] else text
    return "\n".join(rows)


def plain(text: str) -> Any:
    """What a plain reader takes JSON for; None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


# --- what a reply says -------------------------------------------------------------------------------


class Unreadable(Exception):
    """No plain reader can say what this is."""


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise Unreadable
    return value or ""


def said(deltas: Sequence[Any], finish: Any) -> tuple[str, list[Any]]:
    """The text and the calls of the pieces of one answer."""
    if not isinstance(finish, str) or finish in ("", "abort", "error", "content_filter"):
        raise Unreadable
    text, calls = "", {}
    for delta in deltas:
        text += _text(delta.get("content"))
        for piece in delta.get("tool_calls") or []:
            index = piece.get("index")
            if index is None:  # an engine that leaves it out goes on with the last call, or opens one by its id
                index = max(calls, default=-1) + (1 if piece.get("id") or not calls else 0)
            call = calls.setdefault(index, ["", ""])
            call[0] = call[0] or _text(piece["function"].get("name"))
            arguments = piece["function"].get("arguments")
            call[1] += json.dumps(arguments) if isinstance(arguments, dict) else _text(arguments)
    return text, [(name, json.loads(arguments or "{}")) for name, arguments in calls.values()]


def read(document: Any) -> tuple[str, list[Any]]:
    """The text and the calls of a reply, whole or as a list of chunks."""
    try:
        if isinstance(document, list):
            deltas, finish = [], None
            for chunk in document:
                if finish is not None and not (isinstance(chunk, dict) and isinstance(chunk.get("choices"), list)):
                    break  # what comes after the end of an answer is no matter
                for choice in chunk["choices"]:
                    if finish is not None and not isinstance(choice, dict):
                        break
                    deltas.append(choice["delta"])
                    finish = finish or choice["finish_reason"]
            return said(deltas, finish)
        (choice,) = document["choices"]
        message = choice["message"]
        calls = [{**call, "index": place} for place, call in enumerate(message.get("tool_calls") or [])]
        return said([{**message, "tool_calls": calls}], choice["finish_reason"])
    except (LookupError, TypeError, ValueError, AttributeError) as problem:
        raise Unreadable from problem


# --- the surfaces ------------------------------------------------------------------------------------

sent: list[tuple[str, bytes]] = [("application/json", b"")]


def reply(request: Any) -> Any:
    kind, content = sent[0]
    return http_package().Response(200, headers={"content-type": kind}, content=content)


@cache
def http() -> Any:
    return http_package().Client(transport=http_package().MockTransport(reply))


@cache
def core() -> ChutesClient:
    return ChutesClient(KEY, http_client=http(), max_retries=0)


@cache
def sdk() -> openai.OpenAI:
    return openai_client(KEY, http_client=http(), max_retries=0)


@cache
def langchain() -> ChatChutes:
    return ChatChutes(model=MODEL, api_key=KEY, http_client=http(), max_retries=0)


@cache
def llama() -> Chutes:
    return Chutes(model=MODEL, api_key=KEY, http_client=http(), max_retries=0, context_window=8192)


def core_whole() -> Any:
    made = core().chat(HELLO, model=MODEL)
    json.dumps(made.extra, allow_nan=False).encode()
    return made.content, [(call.name, call.args) for call in made.tool_calls], len(made.invalid_tool_calls)


def core_stream() -> Any:
    with core().stream(HELLO, model=MODEL) as deltas:
        text = "".join(delta.content for delta in deltas)
        made = deltas.reply
    assert text == made.content
    return made.content, [(call.name, call.args) for call in made.tool_calls], len(made.invalid_tool_calls)


def _of_message(message: AIMessage) -> Any:
    dumps(message)
    message.model_dump_json()
    assert isinstance(message.content_blocks, list)
    return message.text, [(call["name"], call["args"]) for call in message.tool_calls], len(message.invalid_tool_calls)


def langchain_whole() -> Any:
    return _of_message(langchain().invoke("Hi"))


def langchain_stream() -> Any:
    chunks = list(langchain().stream("Hi"))
    message = chunks[0]
    for chunk in chunks[1:]:
        message += chunk
    assert isinstance(message, AIMessageChunk)
    return _of_message(message)


def _of_response(response: Any) -> Any:
    response.model_dump_json()
    blocks = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
    calls = [(block.tool_name, _object(block.tool_kwargs)) for block in blocks]
    return response.message.content or "", calls, len(response.message.additional_kwargs.get("invalid_tool_calls", ()))


def _object(kwargs: Any) -> Any:
    return json.loads(kwargs) if isinstance(kwargs, str) else kwargs


def llama_whole() -> Any:
    return _of_response(llama().chat([ChatMessage(content="Hi")]))


def llama_stream() -> Any:
    *_, last = llama().stream_chat([ChatMessage(content="Hi")])
    return _of_response(last)


def _openai_calls(calls: Sequence[Any]) -> tuple[list[Any], int]:
    read, broken = [], 0
    for name, arguments in calls:
        try:
            found = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
        except ValueError:
            found = None
        valid = bool(name) and isinstance(found, dict)
        read += [(name, found)] if valid else []
        broken += not valid
    return read, broken


def openai_whole() -> Any:
    message = sdk().chat.completions.create(messages=HELLO, model=MODEL).choices[0].message  # type: ignore[arg-type]
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or ()]  # type: ignore[union-attr]
    return message.content or "", *_openai_calls(calls)


def openai_stream() -> Any:
    text, calls = "", {}
    for chunk in sdk().chat.completions.create(messages=HELLO, model=MODEL, stream=True):  # type: ignore[arg-type]
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for piece in choice.delta.tool_calls or ():
                call = calls.setdefault(piece.index, ["", ""])
                call[0] = call[0] or (piece.function and piece.function.name) or ""
                arguments = piece.function.arguments if piece.function else ""
                call[1] += json.dumps(arguments) if isinstance(arguments, dict) else arguments or ""
    return text, *_openai_calls(list(calls.values()))


WHOLE = [core_whole, langchain_whole, llama_whole, openai_whole]
STREAMED = [core_stream, langchain_stream, llama_stream, openai_stream]


def check(ask: Callable[[], Any], document: Any) -> None:
    """An answer is what the document says; everything else is an error of ours."""
    try:
        text, calls, invalid = ask()
    except ChutesError:
        return
    except openai.OpenAIError:
        assert ask in (openai_whole, openai_stream)
        return
    try:
        expected = read(document)
    except Unreadable:
        # A call whose arguments are not JSON is given out as one that cannot be run.
        assert invalid, (text, calls)
        return
    if invalid:
        return
    assert text.strip() or calls
    # What was inside tags is reasoning; no value that is tried here opens one.
    assert (text, calls) == expected


REPLIES = [answer.body(MODEL) for answer in ANSWERS]
CHUNKS = [list(answer.chunks(MODEL)) for answer in ANSWERS]
for each in (REPLIES[0]["choices"][0], CHUNKS[0][1]["choices"][0]):  # type: ignore[index]
    each["logprobs"] = LOGPROBS
quick = settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("ask", WHOLE)
@quick
@given(case=spoiled(REPLIES))
def test_any_value_of_a_whole_reply(ask: Callable[[], Any], case: str) -> None:
    """Unstreamed, on every surface."""
    sent[0] = ("application/json", case.encode())
    check(ask, plain(case))


@pytest.mark.parametrize("ask", STREAMED)
@quick
@given(case=spoiled(CHUNKS))
def test_any_value_of_a_stream(ask: Callable[[], Any], case: str) -> None:
    """In any chunk, on every surface."""
    rows = case.splitlines()
    sent[0] = ("text/event-stream", b"".join(f"data: {row}\n\n".encode() for row in rows) + b"data: [DONE]\n\n")
    check(ask, [plain(row) for row in rows])


# --- embeddings, errors and lists --------------------------------------------------------------------

VECTORS = {
    "object": "list",
    "model": MODEL,
    "data": [{"object": "embedding", "index": place, "embedding": [0.5, float(place), -1]} for place in (1, 0, 2)],
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}
TEXTS = ["a", "b", "c"]


@cache
def embedders() -> tuple[ChutesEmbeddings, ChutesEmbedding]:
    return (
        ChutesEmbeddings(model=MODEL, api_key=KEY, http_client=http(), max_retries=0),
        ChutesEmbedding(model_name=MODEL, api_key=KEY, http_client=http(), max_retries=0),
    )


EMBED: dict[str, Callable[[], Any]] = {
    "core": lambda: core().embed(TEXTS, model=MODEL).vectors,
    "langchain": lambda: embedders()[0].embed_documents(TEXTS),
    "llama": lambda: embedders()[1].get_text_embedding_batch(TEXTS),
    "openai": lambda: [
        row.embedding
        for row in sorted(
            sdk().embeddings.create(input=TEXTS, model=MODEL, encoding_format="float").data, key=lambda row: row.index
        )
    ],
}


@pytest.mark.parametrize("surface", EMBED)
@quick
@given(case=spoiled([VECTORS]))
def test_any_value_of_embeddings(surface: str, case: str) -> None:
    """Every vector is at its index, of one width, of numbers; or there is none."""
    document = plain(case)
    sent[0] = ("application/json", case.encode())
    try:
        vectors = EMBED[surface]()
    except ChutesError:
        return
    except openai.OpenAIError:
        assert surface == "openai"
        return
    by_index = {row["index"]: row["embedding"] for row in document["data"]}
    assert vectors == [by_index[place] for place in range(3)]
    assert all(type(number) in (int, float) for vector in by_index.values() for number in vector)
    assert len({len(vector) for vector in vectors}) == 1


ERRORS: list[Any] = [
    {"detail": "No instances available (yet)"},
    {"detail": {"message": "Quota exceeded", "quota_reset_timestamp": "2026-08-23T00:00:00+00:00"}},
    {"detail": [{"loc": ["body", "alias"], "msg": "field required", "type": "missing"}]},
    {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400},
    {"error": {"message": "the engine died", "code": 500}},
]


@pytest.mark.parametrize("status", [200, 400, 402, 404, 429, 500, 503])
@quick
@given(case=spoiled(ERRORS))
def test_any_value_of_an_error_body(status: int, case: str) -> None:
    """A refusal stays a refusal of ours, with words in it, whatever its body is."""
    package = http_package()
    answer = package.Response(status, headers={"content-type": "application/json"}, content=case.encode())
    made = ChutesClient(
        KEY, http_client=package.Client(transport=package.MockTransport(lambda request: answer)), max_retries=0
    )
    with pytest.raises(ChutesError) as caught:
        made.chat(HELLO, model=MODEL)
    error: Any = caught.value
    assert str(error)
    assert error.status_code in (status, None, 400, 500)
    if hasattr(error, "quota_reset_at"):
        assert error.quota_reset_at is None or error.quota_reset_timestamp


ROWS = {
    "object": "list",
    "data": [
        {"id": "acme/one", "object": "model", "created": 1, "owned_by": "sglang", "max_model_len": 8192,
         "context_length": 8192, "chute_id": "c-1", "pricing": {"prompt": 0.1, "completion": 0.4},
         "price": {"input": {"usd": 0.1}}, "supported_features": ["tools"], "input_modalities": ["text"],
         "confidential_compute": True, "quantization": "fp8", "root": "acme/one"},
        {"id": "acme/two", "context_length": 4096},
    ],
}  # fmt: skip


@quick
@given(case=spoiled([ROWS]))
def test_any_value_of_a_list_of_models(case: str) -> None:
    """A fact that cannot be read is unknown; a list that cannot be read is an error of ours."""
    package = http_package()
    answer = package.Response(200, headers={"content-type": "application/json"}, content=case.encode())
    made = ChutesClient(
        KEY,
        base_url="http://127.0.0.1/v1",
        http_client=package.Client(transport=package.MockTransport(lambda request: answer)),
        max_retries=0,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ChutesWarning)  # a row without a name is left out, and says so
            found = made.models()
    except ChutesError:
        return
    for info in found:
        json.dumps(info.to_dict(), allow_nan=False).encode()
        json.dumps(info.to_openrouter(), allow_nan=False).encode()
        assert repr(info)
