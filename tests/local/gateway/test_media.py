"""The chutes that draw and speak."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from typing import Any

import httpx
import pytest

from chutes_core import AsyncChutesClient, ChutesClient, ColdModelError
from chutes_local import LocalChutes
from chutes_local.gateway.media import drawing, spoken

PAINTER, SPEAKER = "chutes-local/painter", "chutes-local/speaker"
PATHS = {PAINTER: "/generate", SPEAKER: "/speak"}


def address(server: LocalChutes, model: str) -> str:
    return server.chute_url(model).removesuffix("/v1") + PATHS[model]


def size_of(png: bytes) -> tuple[int, int]:
    """The size that a PNG has by its header, if its pixels are that many and each part is as its sum says."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    parts, place = dict[bytes, bytes](), 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        name, data = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        assert struct.unpack(">I", png[place + 8 + length : place + 12 + length]) == (zlib.crc32(name + data),)
        parts[name], place = data, place + 12 + length
    width, height = struct.unpack(">II", parts[b"IHDR"][:8])
    assert len(zlib.decompress(parts[b"IDAT"])) == height * (3 * width + 1)
    assert list(parts) == [b"IHDR", b"IDAT", b"IEND"]
    return width, height


def test_a_picture_is_a_png_that_follows_from_the_prompt() -> None:
    """Its size is what was asked for, and another prompt is another picture."""
    assert size_of(drawing("a cat", 32, 16)) == (32, 16)
    assert drawing("a cat", 32, 16) == drawing("a cat", 32, 16) != drawing("a dog", 32, 16)


def test_speech_is_a_wav_as_long_as_its_text() -> None:
    """Each letter takes a twentieth of a second, and a long text is cut."""
    for text, seconds in (("hello", 0.25), ("x" * 1_000, 10.0)):
        with wave.open(io.BytesIO(spoken(text))) as sound:
            assert sound.getnframes() / sound.getframerate() == seconds
    assert spoken("hello") != spoken("jello")


@pytest.mark.parametrize(("model", "field", "kind"), [(PAINTER, "prompt", "image/png"), (SPEAKER, "text", "audio/wav")])
def test_each_answers_on_its_own_host_and_by_its_id(
    http: httpx.Client, server: LocalChutes, model: str, field: str, kind: str
) -> None:
    """Both addresses give the same file, with the service's headers; a GET finds nothing."""
    chute = server.fleet.find(model)
    assert chute is not None
    addresses = [address(server, model), f"{server.management_url}/chutes/{chute.chute_id}{PATHS[model]}"]
    replies = [http.post(each, json={field: "a red square"}) for each in addresses]
    assert [reply.headers["content-type"] for reply in replies] == [kind] * 2
    assert replies[0].content == replies[1].content
    assert "x-chutes-invocationid" in replies[0].headers
    assert http.get(addresses[0]).status_code == 404
    assert httpx.post(addresses[1], json={field: "x"}).status_code == 404  # without a key nothing is there


@pytest.mark.parametrize(
    "body", [{}, {"prompt": ""}, {"prompt": 5}, {"prompt": "x", "width": 9_999}, {"prompt": "x", "height": "tall"}]
)
def test_what_cannot_be_drawn_is_a_422(http: httpx.Client, server: LocalChutes, body: Any) -> None:
    """The field that is wrong is named."""
    reply = http.post(address(server, PAINTER), json=body)
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"][0] == "body"


def test_neither_is_a_chat_model(http: httpx.Client) -> None:
    """They are not in the gateway's list, and the gateway does not find them."""
    assert not {PAINTER, SPEAKER} & {row["id"] for row in http.get("/v1/models").json()["data"]}
    body = {"model": PAINTER, "messages": [{"role": "user", "content": "hi"}]}
    assert http.post("/v1/chat/completions", json=body).status_code == 404


@pytest.fixture
def options(server: LocalChutes) -> dict[str, Any]:
    return {"base_url": server.base_url, "management_url": server.management_url, "max_retries": 0}


def test_the_client_finds_them_by_kind_and_calls_them(server: LocalChutes, options: dict[str, Any]) -> None:
    """A refresh reads them from the public list, and call() brings the files."""
    with ChutesClient(server.api_key, **options) as client:
        client.refresh_catalog()
        (painter,), (speaker,) = client.catalog.select(kind="image"), client.catalog.select(kind="speech")
        assert (painter.id, speaker.id) == (PAINTER, SPEAKER)
        assert painter.paths == {"/generate"}
        assert size_of(client.call(PAINTER, "/generate", {"prompt": "a cat", "width": 20}).content) == (20, 64)
        server.change(PAINTER, machines=0)
        with pytest.raises(ColdModelError):
            client.call(PAINTER, "/generate", {"prompt": "a cat"})
        client.refresh_catalog()
        assert [info.id for info in client.catalog.select(kind=None, hot=False)] == [PAINTER]


async def test_the_async_client_calls_them_too(server: LocalChutes, options: dict[str, Any]) -> None:
    """The same on the event loop."""
    async with AsyncChutesClient(server.api_key, **options) as client:
        await client.refresh_catalog()
        reply = await client.call(SPEAKER, "/speak", {"text": "hello"})
        assert (reply.media_type, reply.content) == ("audio/wav", spoken("hello"))
