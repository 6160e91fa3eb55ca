"""Sealing and opening: what comes back is what went in, and anything else is an error."""

from __future__ import annotations

import base64
import builtins
import gzip
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.e2ee import seal as module
from chutes_core.e2ee.seal import FrameKey, ReplyKey, SealBrokenError, from_base64, require_crypto, seal
from chutes_core.errors import ConfigurationError

from .machine import asked, machine

BODY = b'{"model":"m","messages":[{"role":"user","content":"a walrus"}]}'


def test_a_machine_opens_what_was_sealed_for_it() -> None:
    """The body arrives as it was, without the key for the reply, which locks the reply."""
    sealed = seal(machine().public, BODY)
    body, reply = machine().open(sealed.blob)
    assert body == {"model": "m", "messages": [{"role": "user", "content": "a walrus"}]}
    assert sealed.key.whole(reply.whole(b'{"answer": 1}')) == b'{"answer": 1}'


def test_an_empty_body_is_sealed_too() -> None:
    """The key for the reply is put into an object without a field as well."""
    assert machine().open(seal(machine().public, b"{}").blob)[0] == {}


def test_nothing_sealed_shows_and_nothing_repeats() -> None:
    """The words are not in the blob, and the same request is never the same bytes."""
    blobs = [seal(machine().public, BODY).blob for _ in range(3)]
    assert len(set(blobs)) == 3
    assert not any(b"walrus" in blob for blob in blobs)


@given(st.data())
def test_a_changed_byte_of_a_whole_reply_is_an_error(data: st.DataObject) -> None:
    """Wherever it is."""
    key, reply = asked()
    blob = bytearray(reply.whole(b'{"choices": []}'))
    place = data.draw(st.integers(0, len(blob) - 1))
    blob[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealBrokenError):
        key.whole(bytes(blob))


@given(st.data())
def test_a_whole_reply_that_was_cut_or_added_to_is_an_error(data: st.DataObject) -> None:
    """Anywhere, by any number of bytes."""
    key, reply = asked()
    blob = reply.whole(b'{"choices": []}')
    with pytest.raises(SealBrokenError):
        key.whole(blob[: data.draw(st.integers(0, len(blob) - 1))])
    with pytest.raises(SealBrokenError):
        key.whole(blob + data.draw(st.binary(min_size=1, max_size=9)))


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_of_a_request_is_an_error_at_the_machine(spot: int, flip: int) -> None:
    """The other side sees it too."""
    blob = bytearray(seal(machine().public, BODY).blob)
    blob[spot % len(blob)] ^= flip
    with pytest.raises(ValueError, match="E2E decryption failed"):
        machine().open(bytes(blob))


def test_a_reply_to_another_request_does_not_open() -> None:
    """Each request has its own key."""
    (key, _), (_, other) = asked(), asked()
    with pytest.raises(SealBrokenError):
        key.whole(other.whole(b"{}"))


def test_a_reply_that_unpacks_to_too_much_is_an_error() -> None:
    """A small bomb does not fill the memory."""
    key, reply = asked()
    blob = reply.whole(b"0" * 2_000_000)
    assert len(blob) < 10_000
    with pytest.raises(SealBrokenError, match="more than 1,000,000 bytes"):
        key.whole(blob, limit=1_000_000)


@pytest.mark.parametrize(
    "packed",
    [b"{}", gzip.compress(b"{}")[:-3], gzip.compress(b"{}") + b"more", b""],
    ids=["not valid gzip", "cut", "with more behind", "empty"],  # not the bytes, which have the time in them
)
def test_a_reply_that_is_not_one_packed_piece_is_an_error(packed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the machine itself sealed it."""
    key, reply = asked()
    monkeypatch.setattr("chutes_local.wire.seal.gzip.compress", lambda plain: packed)
    blob = reply.whole(b"{}")
    monkeypatch.undo()
    with pytest.raises(SealBrokenError, match="not valid gzip"):
        key.whole(blob)


@pytest.mark.parametrize("public_key", ["", "no base64!", "AAAA", base64.b64encode(b"\xff" * 1184).decode()])
def test_what_is_no_key_is_refused(public_key: str) -> None:
    """Too short, not base64, or numbers that no key has."""
    with pytest.raises(SealBrokenError):
        seal(public_key, BODY)


@pytest.mark.parametrize("text", [None, 1, "a", "aGk", "aGl=", "aG k=", "aGk=\n", "aGké"])
def test_base64_has_one_spelling(text: Any) -> None:
    """A spelling that decodes to the same bytes is still a changed text."""
    with pytest.raises(SealBrokenError):
        from_base64(text)


def test_a_frame_shorter_than_its_own_parts_is_an_error() -> None:
    """Not an index error from somewhere below."""
    with pytest.raises(SealBrokenError, match="too short"):
        FrameKey(b"0" * 32).open(b"short")


def test_a_key_neither_shows_itself_nor_travels() -> None:
    """No repr with bytes in it, no pickle."""
    key, _ = asked()
    assert repr(key).startswith("<chutes_core.e2ee.seal.ReplyKey object")
    with pytest.raises(TypeError, match="belongs to one call"):
        pickle.dumps(key)
    assert key.public != ReplyKey().public


def test_the_cryptography_is_loaded_only_when_it_is_used() -> None:
    """Whoever does not encrypt neither needs nor loads it."""
    code = "import sys, chutes_core, chutes_core.e2ee; print('cryptography' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_without_the_cryptography_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says how to install it."""
    true_import = builtins.__import__

    def missing(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("cryptography"):
            raise ModuleNotFoundError("No module named 'cryptography'")
        return true_import(name, *arguments, **more)

    module.require_crypto.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigurationError, match=r"pip install 'chutes-connect\[e2ee\]'"):
        require_crypto()


def test_a_cryptography_without_ml_kem_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that has the class and a library below it that does not."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import mlkem

    class Unable:
        @staticmethod
        def generate() -> None:
            raise UnsupportedAlgorithm("ML-KEM")

    module.require_crypto.cache_clear()
    monkeypatch.setattr(mlkem, "MLKEM768PrivateKey", Unable)
    with pytest.raises(ConfigurationError, match="OpenSSL that supports ML-KEM"):
        require_crypto()


def test_a_large_request_arrives_too() -> None:
    """It is packed without being made smaller."""
    body = b'{"image":"' + b"A" * 2_000_000 + b'"}'
    sealed = seal(machine().public, body)
    assert len(sealed.blob) > len(body)
    assert machine().open(sealed.blob)[0] == {"image": "A" * 2_000_000}
