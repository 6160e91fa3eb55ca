"""The echo backend: the same bytes every time, and never mistaken for a model."""

from __future__ import annotations

import math

from chutes_local.backends.backend import EMBEDDING_DIMENSIONS, ChatRequest, EngineDelta
from chutes_local.backends.echo import EchoBackend, trigram_vector

PLACES_OF_A = [158, 220]


async def reply(**settings: object) -> list[EngineDelta]:
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "one two"})
    return [delta async for delta in EchoBackend().chat(ChatRequest(messages, **settings))]  # type: ignore[arg-type]


def text(deltas: list[EngineDelta]) -> str:
    return "".join(delta.content for delta in deltas)


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


async def test_the_answer_says_that_it_is_no_model() -> None:
    """The text names what it comes from, and repeats the last user message."""
    deltas = await reply()
    assert text(deltas) == "This is the echo backend, not a model. You said: one two"
    assert not EchoBackend.is_model


async def test_usage_counts_words() -> None:
    """Counts are cumulative, and the last delta has the reason and the totals."""
    deltas = await reply()
    assert [delta.completion_tokens for delta in deltas] == [*range(1, 13), 12]
    assert {delta.prompt_tokens for delta in deltas} == {4}
    assert [delta.finish_reason for delta in deltas] == [None] * 12 + ["stop"]


async def test_max_tokens_cuts_and_says_so() -> None:
    """A cut answer ends for its length."""
    deltas = await reply(max_tokens=2)
    assert text(deltas) == "This is"
    assert deltas[-1] == EngineDelta("", "length", 4, 2)


async def test_stop_ends_before_the_first_match() -> None:
    """The earliest stop text counts, and an empty one does not."""
    assert text(await reply(stop=["model", "not", ""])) == "This is the echo backend, "


async def test_a_schema_is_honoured() -> None:
    """The answer is the smallest valid instance."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert text(await reply(json_schema=schema)) == '{"n": 0}'


async def test_a_script_is_continued_where_its_beginning_ends() -> None:
    """Another answer can be given, and what was said of it is counted as prompt and not said again."""
    said = ({"role": "user", "content": "Count."}, {"role": "assistant", "content": "1, 2,"})
    backend = EchoBackend(lambda request: "1, 2, 3, 4")
    deltas = [delta async for delta in backend.chat(ChatRequest(said, continued=True))]
    assert text(deltas) == " 3, 4"
    assert deltas[-1] == EngineDelta("", "stop", 3, 2)


async def test_similar_texts_are_near() -> None:
    """Vectors are unit vectors of the promised length, and likeness in letters is nearness."""
    result = await EchoBackend().embed(["a black cat", "two black cats", "stock market", ""])
    assert [len(vector) for vector in result.vectors] == [EMBEDDING_DIMENSIONS] * 4
    assert all(math.isclose(math.hypot(*vector), 1.0) for vector in result.vectors)
    cat, cats, stock, _ = result.vectors
    assert dot(cat, cats) > dot(cat, stock)
    assert result.prompt_tokens == 8


def test_a_vector_is_the_same_in_every_process() -> None:
    """Places do not depend on the process's hash seed: a change would break stored vectors."""
    assert [place for place, value in enumerate(trigram_vector("a")) if value] == PLACES_OF_A
