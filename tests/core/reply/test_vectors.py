"""What a reply of embeddings may hold: whatever else it is, each text gets its own vector or the call fails by name."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chutes_core import (
    APIError,
    AsyncChutesClient,
    Catalog,
    ChutesClient,
    MalformedReplyError,
    async_openai_client,
    openai_client,
)
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.reply.vectors import decode_vectors, fit_dimensions
from tests.core.clients import http_package
from tests.core.spoiled import TEXTS, VECTORS, assert_right, packed, replies, text_of, valid

MODEL = "acme/embed"
CATALOG = Catalog((ModelInfo(id=MODEL, price_in=0.1),), "live", 0.0, "2026-01-01", now=lambda: 0.0)  # its price is used


def rows(*embeddings: Any) -> dict[str, Any]:
    return {"data": [{"index": index, "embedding": embedding} for index, embedding in enumerate(embeddings)]}


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (True, "data[1].index is true, not a whole number"),
        ("1", "data[1].index is text, not a whole number"),
        (None, "data[1].index is missing"),
        (1.5, "data[1].index is a number, not a whole number"),
        (math.nan, "data[1].index is a number, not a whole number"),
        (math.inf, "data[1].index is a number, not a whole number"),
        ([1], "data[1].index is a list"),
        ({}, "data[1].index is an object"),
        (-1, "data[1].index is out of range"),
        (2, "data[1].index is 2, and the texts are 0 to 1"),
        (10**400, "data[1].index is out of range"),
        (0, "data[1].index is 0, and so is data[0].index"),
        (-0.0, "data[1].index is 0, and so is data[0].index"),
    ],
)
def test_an_index_is_a_whole_number_that_no_other_row_has(index: object, said: str) -> None:
    """The place of a row says nothing: it is never taken instead."""
    body = {"data": [{"index": 0, "embedding": [1.0]}, {"index": index, "embedding": [2.0]}]}
    with pytest.raises(ValueError, match=said.replace("[", r"\[").replace("]", r"\]")):
        decode_vectors(body, 2)


def test_an_index_that_is_missing_is_named() -> None:
    """And one that is a whole number in another form is one."""
    with pytest.raises(ValueError, match=r"data\[0\].index is missing"):
        decode_vectors({"data": [{"embedding": [1.0]}]}, 1)
    assert decode_vectors({"data": [{"index": 1.0, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]}, 2) == [
        [1.0],
        [2.0],
    ]


@pytest.mark.parametrize(
    ("embedding", "said"),
    [
        ([True, 1.0], r"\[0\] is true, not a number"),
        ([1.0, None], r"\[1\] is null, not a number"),
        ([1.0, "2"], r"\[1\] is text, not a number"),
        ([[1.0]], r"\[0\] is a list, not a number"),
        ([10**400], "too large"),
        ([1e39], "not finite, or too large"),
        ([1e308, 1e308], "not finite, or too large"),
        ([math.nan], "not finite"),
        ([math.inf, -math.inf], "not finite"),
        ([], "is empty"),
        ("", "is empty"),
        ("AAA=", "2 bytes in base64, which are no floats of 4"),
        ("AACAPwA=", "5 bytes in base64"),
        ("AACAPw==\n", "not valid base64"),
        ("AACA Pw==", "not valid base64"),
        ("ä", "not valid base64"),
        ("\ud800", "not valid base64"),
        (packed([math.nan]), "not finite"),
        (packed([math.inf]), "not finite"),
        (None, "is empty or missing"),
        (1.0, "is a number, not a list"),
        ({"0": 1.0}, "is an object, not a list"),
    ],
)
def test_a_vector_is_finite_numbers(embedding: object, said: str) -> None:
    """What else is there is named, with its place."""
    with pytest.raises(ValueError, match=rf"data\[0\].embedding.*{said}"):
        decode_vectors(rows(embedding), 1)


def test_whole_numbers_and_small_ones_are_numbers() -> None:
    """A vector of 0 and 1 has no decimal point in JSON."""
    assert decode_vectors(rows([0, 1, -3.4e38]), 1) == [[0.0, 1.0, -3.4e38]]


def test_vectors_of_another_width_are_named() -> None:
    """The most frequent width is taken for the right one, and the first few of the others are listed."""
    with pytest.raises(ValueError, match=r"2 have 2 numbers, and that of text 1 has 3$"):
        decode_vectors(rows([1.0, 2.0], [1.0, 2.0, 3.0], packed([1.0, 2.0])), 3)
    many = [[1.0]] * 20 + [[1.0, 2.0]] * 12
    with pytest.raises(ValueError, match="text 29 has 2, and 2 more differ"):
        decode_vectors(rows(*many), 32)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "data is missing"),
        ("x", "the reply is text, not an object"),
        ({}, "data is missing"),
        ({"data": None}, "data is missing"),
        ({"data": {"0": {}}}, "data is an object"),
        (rows([1.0]), "2 vectors were asked for and 1 came"),
        (rows([1.0], [1.0], [1.0]), "2 vectors were asked for and 3 came"),
        ({"data": [7, None]}, r"data\[0\] is a number, not an object"),
    ],
)
def test_a_reply_is_as_many_rows_as_texts(body: object, said: str) -> None:
    """Neither fewer nor more."""
    with pytest.raises(ValueError, match=said):
        decode_vectors(body, 2)


def test_a_vector_of_zeros_is_cut_to_zeros() -> None:
    """It has no length to divide by."""
    assert fit_dimensions([[0.0, 0.0, 0.0]], 2) == [[0.0, 0.0]]


# ------------------------------------------------------------------------------------- the clients


class Replies:
    """A service with one reply to everything."""

    def __init__(self, content: bytes) -> None:
        package = http_package()
        self.asked = 0

        def answer(request: Any) -> Any:
            self.asked += 1
            return package.Response(200, content=content, headers={"content-type": "application/json"})

        transport = package.MockTransport(answer)
        self.sync: Any = package.Client(transport=transport)
        self.waiting: Any = package.AsyncClient(transport=transport)


def ask(surface: str, service: Replies, **options: Any) -> list[list[float]]:
    """The vectors of TEXTS through one of the clients."""
    if surface == "sync":
        client = ChutesClient("cpk_test", http_client=service.sync, max_retries=0, catalog=CATALOG)
        return client.embed(TEXTS, model=MODEL, **options).vectors
    if surface == "async":
        waiting = AsyncChutesClient("cpk_test", http_client=service.waiting, max_retries=0, catalog=CATALOG)
        return asyncio.run(waiting.embed(TEXTS, model=MODEL, **options)).vectors
    if surface == "openai":
        sdk = openai_client("cpk_test", http_client=service.sync, max_retries=0, catalog=CATALOG)
        return [row.embedding for row in sdk.embeddings.create(model=MODEL, input=TEXTS, **options).data]
    sdk_too = async_openai_client("cpk_test", http_client=service.waiting, max_retries=0, catalog=CATALOG)
    made = asyncio.run(sdk_too.embeddings.create(model=MODEL, input=TEXTS, **options))
    return [row.embedding for row in made.data]


SURFACES = ["sync", "async", "openai", "async-openai"]


@pytest.mark.parametrize("surface", SURFACES)
@settings(max_examples=100, deadline=None)
@given(reply=replies(MODEL))
def test_one_value_replaced_gives_the_vectors_or_a_typed_failure(surface: str, reply: Any) -> None:
    """Never another's vector, never an exception of Python's."""
    try:
        vectors = ask(surface, Replies(text_of(reply)))
    except APIError:
        return
    assert_right(vectors, reply)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("coded", [True, False])
@given(order=st.permutations([0, 1, 2]))
@settings(max_examples=6, deadline=None)
def test_rows_in_any_order_are_put_in_that_of_the_texts(surface: str, coded: bool, order: list[int]) -> None:
    """Also for the SDK, whose users take the n-th row for the n-th text."""
    assert ask(surface, Replies(text_of(valid(MODEL, coded=coded, order=order)))) == VECTORS


@pytest.mark.parametrize("surface", ["openai", "async-openai"])
def test_the_sdk_gets_the_dimensions_and_the_form_that_were_asked_for(surface: str) -> None:
    """A vector cannot be cut for it, and it hands text on where numbers were asked for."""
    whole = text_of(valid(MODEL, coded=False, order=[0, 1, 2]))
    assert ask(surface, Replies(whole), dimensions=3) == VECTORS
    with pytest.raises(MalformedReplyError, match="2 dimensions were asked for and 3 came"):
        ask(surface, Replies(whole), dimensions=2)
    with pytest.raises(MalformedReplyError, match="embedding is text, not a list"):
        ask(surface, Replies(text_of(valid(MODEL, coded=True, order=[0, 1, 2]))), encoding_format="float")


@pytest.mark.parametrize("given_input", ["one", ["one"], [101, 7, 102], [[101, 7]]])
def test_the_sdk_may_ask_with_a_text_or_with_tokens(given_input: Any) -> None:
    """Each of which is one vector."""
    one, two = (text_of({"data": [{"index": n, "embedding": [1.0]} for n in range(size)]}) for size in (1, 2))
    sdk = openai_client("cpk_test", http_client=Replies(one).sync, max_retries=0)
    assert sdk.embeddings.create(model=MODEL, input=given_input).data[0].embedding == [1.0]
    sdk = openai_client("cpk_test", http_client=Replies(two).sync, max_retries=0)
    with pytest.raises(MalformedReplyError, match="1 vectors were asked for and 2 came"):
        sdk.embeddings.create(model=MODEL, input=given_input)
