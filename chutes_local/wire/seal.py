"""The machine's side of the encrypted path: its key, opening requests, sealing replies.

The client's protocol, implemented a second time and independently, so that each verifies the other. The
package ``cryptography`` is imported on first use; without it no machine of this server supports encryption.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import zlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from chutes_local.wire.read import read_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

CIPHERTEXT = 1088
NONCE = 12
MOST_UNPACKED = 100 * 2**20
UNREADABLE = "E2E decryption failed"


class SealError(ValueError):
    """A request that this machine cannot open."""


def possible() -> bool:
    """Return whether this Python has the cryptography needed."""
    try:
        return find_spec("cryptography.hazmat.primitives.asymmetric.mlkem") is not None
    except ModuleNotFoundError:
        return False


class ReplySeal:
    """Encrypts the reply to one request with the key sent in it."""

    def __init__(self, public_key: bytes) -> None:
        """Encrypt for the holder of the private half."""
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

        self._public = MLKEM768PublicKey.from_public_bytes(public_key)
        self._frames: ChaCha20Poly1305 | None = None

    def whole(self, plain: bytes) -> bytes:
        """Encrypt a complete reply."""
        secret, ciphertext = self._public.encapsulate()
        return ciphertext + _locked(_cipher(secret, ciphertext, b"e2e-resp-v1"), gzip.compress(plain))

    def begin(self) -> bytes:
        """Return the first event of a stream."""
        secret, ciphertext = self._public.encapsulate()
        self._frames = _cipher(secret, ciphertext, b"e2e-stream-v1")
        return event({"e2e_init": base64.b64encode(ciphertext).decode()})

    def frame(self, plain: bytes) -> bytes:
        """Return one encrypted event of a stream."""
        assert self._frames is not None, "call begin() first"
        return event({"e2e": base64.b64encode(_locked(self._frames, plain)).decode()})


class MachineKey:
    """The key pair of one machine.

    >>> len(base64.b64decode(MachineKey().public))
    1184
    """

    def __init__(self) -> None:
        """Generate a new key pair."""
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

        self._private = MLKEM768PrivateKey.generate()
        self.public = base64.b64encode(self._private.public_key().public_bytes_raw()).decode()

    def open(self, blob: bytes) -> tuple[dict[str, object], ReplySeal]:
        """Decrypt a request; return its body and the seal for its reply."""
        from cryptography.exceptions import InvalidTag

        ciphertext, locked = blob[:CIPHERTEXT], blob[CIPHERTEXT:]
        try:
            cipher = _cipher(self._private.decapsulate(ciphertext), ciphertext, b"e2e-req-v1")
            body = cast("dict[str, object]", read_json(_unpacked(cipher.decrypt(locked[:NONCE], locked[NONCE:], None))))
            key = base64.b64decode(cast(str, body.pop("e2e_response_pk")))
            return body, ReplySeal(key)
        except (InvalidTag, ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, zlib.error):
            raise SealError(UNREADABLE) from None


def event(content: dict[str, object]) -> bytes:
    r"""Return one event in a machine's format, without spaces.

    >>> event({"e2e": "aGk="})
    b'data: {"e2e":"aGk="}\n\n'
    """
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


def _unpacked(packed: bytes) -> bytes:
    """Unpack a request, which may not become larger than one in the clear."""
    unpacker = zlib.decompressobj(wbits=31)
    plain = unpacker.decompress(packed, MOST_UNPACKED)
    if not unpacker.eof:
        raise SealError(UNREADABLE)
    return plain


def _cipher(secret: bytes, ciphertext: bytes, purpose: bytes) -> ChaCha20Poly1305:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return ChaCha20Poly1305(HKDF(SHA256(), 32, ciphertext[:16], purpose).derive(secret))


def _locked(cipher: ChaCha20Poly1305, plain: bytes) -> bytes:
    nonce = os.urandom(NONCE)
    return nonce + cipher.encrypt(nonce, plain, None)
