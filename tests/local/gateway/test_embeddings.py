"""Embeddings over HTTP: hosts, formats, dimensions."""

from __future__ import annotations

import base64
import math
import struct

import httpx
import pytest

from chutes_local import LocalChutes
from tests.local.conftest import EMBEDDER, MODEL

PATH = "/embed/v1/embeddings"


def post(http: httpx.Client, path: str = PATH, headers: dict[str, str] | None = None, **body: object) -> httpx.Response:
    return http.post(path, json={"model": EMBEDDER, "input": ["a", "b"], **body}, headers=headers)


def test_each_way_to_the_model(http: httpx.Client, server: LocalChutes) -> None:
    """By path, by Host header, and on the model's own host under both labels, the vectors are the same."""
    own = server.chute_url(EMBEDDER).removeprefix(server.url) + "/embeddings"
    old = own.replace("-tee/", "/")
    ways = [
        post(http),
        post(http, model="Qwen/Qwen3-Embedding-8B"),
        post(http, "/v1/embeddings", {"Host": "embed.chutes.localhost"}),
        post(http, "/v1/embeddings", {"Host": "chutes-qwen-qwen3-embedding-8b-tee.chutes.localhost"}),
        post(http, own),
        post(http, old),
    ]
    assert [way.status_code for way in ways] == [200] * len(ways)
    assert len({way.text.split('"data"')[1] for way in ways}) == 1


def test_the_shape_of_a_reply(http: httpx.Client) -> None:
    """Rows have an index and a vector, the usage counts no answer."""
    reply = post(http).json()
    assert (reply["object"], reply["model"]) == ("list", EMBEDDER)
    assert [row["index"] for row in reply["data"]] == [0, 1]
    assert len(reply["data"][0]["embedding"]) == 384
    assert reply["usage"]["completion_tokens"] == 0
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"]


def test_base64_holds_the_same_numbers(http: httpx.Client) -> None:
    """base64 is little-endian 32-bit floats of the very vector."""
    plain = post(http).json()["data"][0]["embedding"]
    packed = base64.b64decode(post(http, encoding_format="base64").json()["data"][0]["embedding"])
    assert list(struct.unpack("<384f", packed)) == pytest.approx(plain, rel=1e-6)


def test_dimensions_are_honoured(http: httpx.Client) -> None:
    """Shorter vectors are the heads of the long ones, at length one."""
    text = "The quick brown fox jumps over the lazy dog. " * 3
    short = post(http, input=text, dimensions=64).json()["data"][0]["embedding"]
    assert len(short) == 64
    assert math.sqrt(sum(number**2 for number in short)) == pytest.approx(1.0)


@pytest.mark.parametrize(("policy", "status"), [("refuse_400", 400), ("refuse_422", 422), ("refuse_500", 500)])
def test_dimensions_are_refused_on_demand(http: httpx.Client, server: LocalChutes, policy: str, status: int) -> None:
    """By header or on the model, dimensions are refused in each observed way; without them all is well."""
    assert post(http, dimensions=64, headers={"X-Local-Dimensions": policy}).status_code == status
    server.change(EMBEDDER, dimensions=policy)
    assert post(http, dimensions=64).status_code == status
    assert post(http).status_code == 200


@pytest.mark.parametrize(
    "body", [{"input": []}, {"input": None}, {"encoding_format": "int8"}, {"dimensions": 0}, {"dimensions": 9999}]
)
def test_what_the_engine_refuses(http: httpx.Client, body: dict[str, object]) -> None:
    """Empty input, unknown formats and impossible sizes are 400."""
    assert post(http, **body).status_code == 400


@pytest.mark.parametrize("value", ["one", ["one"], [1, 2], [[1, 2]]])
def test_forms_of_input(http: httpx.Client, value: object) -> None:
    """One text, several, or token ids."""
    assert len(post(http, input=value).json()["data"]) == 1


def test_where_embeddings_are_not(http: httpx.Client, server: LocalChutes) -> None:
    """Not on the LLM gateway, not under a chat model, and a wrong name on the own host is a failing machine."""
    assert post(http, "/v1/embeddings").json() == {"detail": f"model not found: {EMBEDDER}"}
    assert post(http, "/v1/embeddings", model=MODEL).json() == {"detail": "No matching cord found!"}
    assert post(http, model=MODEL).json() == {"detail": f"model not found: {MODEL}"}
    own = server.chute_url(EMBEDDER).removeprefix(server.url) + "/embeddings"
    wrong = post(http, own, model="Qwen/Qwen3-Embedding-8B")
    assert (wrong.status_code, wrong.json()["detail"]) == (500, "exhausted all available targets to no avail")


def test_faults_of_embeddings(http: httpx.Client, server: LocalChutes) -> None:
    """Capacity, rows out of order and missing rows can be rehearsed."""
    server.faults.script(EMBEDDER, ["capacity", "shuffled", "short", "malformed"])
    assert post(http).status_code == 429
    assert [row["index"] for row in post(http).json()["data"]] == [1, 0]
    assert len(post(http).json()["data"]) == 1
    with pytest.raises(ValueError, match=r"\w"):
        post(http).json()
