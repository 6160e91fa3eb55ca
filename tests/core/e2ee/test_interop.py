"""Both ways with the published client for the encrypted path: what it makes we read, and it reads what we make."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.e2ee.frames import FrameReader
from chutes_core.e2ee.seal import seal
from chutes_local import LocalChutes, serve

from .machine import WORDS, asked, machine, plain_events, sealed_lines, text_of

theirs = pytest.importorskip("chutes_e2ee.crypto", reason="the published client is not installed")
MODEL = "Qwen/Qwen3-32B-TEE"
ASKED: Any = [{"role": "user", "content": "Where do walruses sleep?"}]
BODIES = st.dictionaries(st.text(max_size=8), st.text() | st.integers() | st.booleans() | st.none(), max_size=5)


class TheirMachine:
    """A machine made of the published client's own functions."""

    def __init__(self) -> None:
        self.public, self.private = theirs.mlkem_generate_keypair()

    def open(self, blob: bytes) -> dict[str, Any]:
        """Read a request as that client reads a reply, with the key for requests."""
        import gzip

        secret = theirs.mlkem_decrypt(self.private, blob[: theirs.MLKEM_CT_SIZE])
        key = theirs.derive_key(secret, blob[: theirs.MLKEM_CT_SIZE], theirs.INFO_REQ)
        rest = blob[theirs.MLKEM_CT_SIZE :]
        return json.loads(gzip.decompress(theirs.chacha_decrypt(key, rest[:12], rest[12:-16], rest[-16:])))  # type: ignore[no-any-return]

    @staticmethod
    def whole(public: bytes, plain: bytes) -> bytes:
        import gzip

        ciphertext, secret = theirs.mlkem_encrypt(public)
        nonce = os.urandom(12)
        key = theirs.derive_key(secret, ciphertext, theirs.INFO_RESP)
        return bytes(ciphertext + nonce + b"".join(theirs.chacha_encrypt(key, nonce, gzip.compress(plain))))

    @staticmethod
    def stream(public: bytes, events: list[bytes]) -> Iterator[bytes]:
        ciphertext, secret = theirs.mlkem_encrypt(public)
        key = theirs.derive_key(secret, ciphertext, theirs.INFO_STREAM)
        yield b'data: {"e2e_init": "' + base64.b64encode(ciphertext) + b'"}\n\n'
        for plain in events:
            nonce = os.urandom(12)
            frame = base64.b64encode(nonce + b"".join(theirs.chacha_encrypt(key, nonce, plain)))
            yield b'data: {"e2e": "' + frame + b'"}\n\n'


@given(BODIES)
def test_their_functions_open_what_we_seal(body: dict[str, Any]) -> None:
    """Any request."""
    there = TheirMachine()
    sealed = seal(base64.b64encode(there.public).decode(), json.dumps(body).encode())
    opened = there.open(sealed.blob)
    assert base64.b64decode(opened.pop("e2e_response_pk")) == sealed.key.public
    assert opened == body


@given(st.binary(max_size=2000))
def test_we_open_what_their_functions_seal(plain: bytes) -> None:
    """Any reply in one piece."""
    key, _ = asked()
    assert key.whole(TheirMachine.whole(key.public, plain)) == plain


def test_we_read_a_stream_of_their_making() -> None:
    """Their beginning, their frames."""
    key, _ = asked()
    reader = FrameReader(key)
    plain = b"".join(reader.feed(block) for block in TheirMachine.stream(key.public, plain_events()))
    assert (text_of(plain), reader.done) == ("".join(WORDS), True)


def test_our_machine_opens_their_request_and_they_open_its_reply() -> None:
    """Whole and streamed."""
    made = theirs.build_e2ee_request(machine().public, {"model": "m", "stream": False})
    body, reply = machine().open(made.blob)
    assert body == {"model": "m", "stream": False}
    assert theirs.decrypt_response(reply.whole(b'{"a": 1}'), made.response_sk) == {"a": 1}
    events = [json.loads(line[6:]) for line in sealed_lines(reply)]
    key = theirs.decrypt_stream_init(made.response_sk, events[0]["e2e_init"])
    opened = [theirs.decrypt_stream_chunk(event["e2e"], key) for event in events if "e2e" in event]
    assert "".join(opened).encode() == b"".join(plain_events())


@pytest.fixture(scope="module")
def chutes() -> Iterator[LocalChutes]:
    with serve(backend="echo") as server:
        yield server


def test_their_transport_talks_to_our_gateway(chutes: LocalChutes) -> None:
    """Through the openai SDK, blocking, whole and streamed; all it sends is sealed."""
    from chutes_e2ee import ChutesE2EETransport

    transport = ChutesE2EETransport(chutes.api_key, api_base=chutes.url)
    http: Any = httpx.Client(transport=transport)
    with http:
        answers = []
        for stream in (False, True):
            reply = http.post(
                f"{chutes.base_url}/chat/completions", json={"model": MODEL, "messages": ASKED, "stream": stream}
            )
            answers.append(reply.text)
    assert json.loads(answers[0])["choices"][0]["message"]["content"].endswith("Where do walruses sleep?")
    streamed = text_of(answers[1].encode())
    assert streamed.endswith("Where do walruses sleep?")
    assert {entry.path for entry in chutes.journal if entry.method == "POST"} == {"/e2e/invoke"}


def test_their_async_transport_talks_to_our_gateway(chutes: LocalChutes) -> None:
    """The same on the event loop."""
    from chutes_e2ee import AsyncChutesE2EETransport

    async def talk() -> Any:
        transport = AsyncChutesE2EETransport(chutes.api_key, api_base=chutes.url)
        async with httpx.AsyncClient(transport=transport) as http:
            body = {"model": MODEL, "messages": ASKED}
            return (await http.post(f"{chutes.base_url}/chat/completions", json=body)).json()

    assert asyncio.run(talk())["choices"][0]["message"]["content"].endswith("Where do walruses sleep?")


@pytest.mark.skipif(
    openai.__version__.startswith("3"), reason="openai 3 is not built on the package of their transport"
)
def test_their_transport_under_the_sdk(chutes: LocalChutes) -> None:
    """As their page shows it."""
    from chutes_e2ee import ChutesE2EETransport

    transport = ChutesE2EETransport(chutes.api_key, api_base=chutes.url)
    with httpx.Client(transport=transport) as http:
        sdk: Any = openai.OpenAI(api_key=chutes.api_key, base_url=chutes.base_url, http_client=http)
        chunks = sdk.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.endswith("Where do walruses sleep?")
