"""Seal requests and open replies: ML-KEM-768 for the secret, HKDF-SHA256 for the key, ChaCha20-Poly1305 to encrypt.

Every request has its own key pair, whose private half opens the one reply to it. The cryptography itself is in the
package ``cryptography``, which is imported on first use: without it this module still imports, and says what to install
when needed. Nothing here puts plain text that was or will be sealed into a message or a ``repr``.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import os
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from chutes_core.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

__all__ = ["FrameKey", "ReplyKey", "SealBrokenError", "SealedRequest", "from_base64", "require_crypto", "seal"]

CIPHERTEXT, NONCE, TAG = 1088, 12, 16
MAX_PLAIN = 256 * 1024 * 1024
"""The largest decompressed reply: far above any answer, far below what fills memory."""

_LARGE = 1024 * 1024
_REQUEST, _REPLY, _STREAM = b"e2e-req-v1", b"e2e-resp-v1", b"e2e-stream-v1"
_MISSING = (
    "The encrypted path needs the package 'cryptography' in version 48 or later{why}. "
    "Install it with: pip install 'chutes-connect[e2ee]'"
)


class SealBrokenError(Exception):
    """Sealed data cannot be opened: it was altered, truncated, or encrypted with another key."""


@lru_cache(maxsize=1)
def require_crypto() -> None:
    """Check that the cryptography is available, before anything depends on it.

    Raises:
        ConfigurationError: It is not, or is too old; the message says what to install.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
    except ImportError as problem:
        raise ConfigurationError(_MISSING.format(why=f" ({problem})")) from None
    try:
        MLKEM768PrivateKey.generate()
    except UnsupportedAlgorithm:
        raise ConfigurationError(_MISSING.format(why=" with an OpenSSL that supports ML-KEM")) from None


def from_base64(text: object) -> bytes:
    """Decode base64, accepting only its canonical form.

    >>> from_base64(b"aGk=")
    b'hi'
    """
    given = text.encode("ascii", "replace") if isinstance(text, str) else text
    if not isinstance(given, bytes):
        raise SealBrokenError("a base64 value is not text")
    try:
        found = binascii.a2b_base64(given, strict_mode=True)
    except binascii.Error:
        raise SealBrokenError("a base64 value is not valid") from None
    if binascii.b2a_base64(found, newline=False) != given:
        raise SealBrokenError("a base64 value is not canonical")
    return found


def _key(secret: bytes, ciphertext: bytes, purpose: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=32, salt=ciphertext[:16], info=purpose).derive(secret)


class FrameKey:
    """Opens the frames of one streamed reply."""

    __slots__ = ("_decrypt", "_invalid")

    def __init__(self, key: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        self._decrypt, self._invalid = ChaCha20Poly1305(key).decrypt, InvalidTag

    def open(self, frame: bytes) -> bytes:
        """Decrypt ``nonce ‖ ciphertext ‖ tag``.

        Raises:
            SealBrokenError: It is not what the machine encrypted.
        """
        if len(frame) < NONCE + TAG:
            raise SealBrokenError("a sealed part is too short")
        try:
            return self._decrypt(frame[:NONCE], frame[NONCE:], None)
        except self._invalid:
            raise SealBrokenError("a sealed part was altered in transit, or encrypted with another key") from None


class ReplyKey:
    """Opens the reply to one request, whole or streamed."""

    __slots__ = ("_private",)

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

        self._private: MLKEM768PrivateKey = MLKEM768PrivateKey.generate()

    @property
    def public(self) -> bytes:
        """The public half, with which the machine encrypts."""
        return self._private.public_key().public_bytes_raw()

    def frames(self, ciphertext: bytes) -> FrameKey:
        """Derive the key of a stream."""
        return FrameKey(self._agree(ciphertext, _STREAM))

    def whole(self, blob: bytes, limit: int = MAX_PLAIN) -> bytes:
        """Decrypt a reply that was not streamed, and decompress it.

        Raises:
            SealBrokenError: It was altered or truncated, or decompresses to more than ``limit``.
        """
        ciphertext, locked = blob[:CIPHERTEXT], blob[CIPHERTEXT:]
        return _unpacked(FrameKey(self._agree(ciphertext, _REPLY)).open(locked), limit)

    def _agree(self, ciphertext: bytes, purpose: bytes) -> bytes:
        if len(ciphertext) != CIPHERTEXT:
            raise SealBrokenError("a sealed reply is too short to derive a key from")
        # An altered ciphertext of the right length yields another secret, with which decryption fails.
        return _key(self._private.decapsulate(ciphertext), ciphertext, purpose)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("The key of a reply cannot be pickled: it belongs to one call.")


class SealedRequest(NamedTuple):
    """A request for one machine, and the key of its reply."""

    blob: bytes
    key: ReplyKey


def seal(public_key: str, body: bytes) -> SealedRequest:
    """Encrypt the JSON of a request for the machine with this key.

    Raises:
        SealBrokenError: The key is invalid.
    """
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    key = ReplyKey()
    secret, ciphertext = _machine_key(public_key).encapsulate()
    spoken = base64.b64encode(key.public)
    # The machine finds the key for its reply in the body. Splicing it into the finished JSON avoids a second encoding.
    comma = b"" if body == b"{}" else b","
    whole = body[:-1] + comma + b'"e2e_response_pk":"' + spoken + b'"}'
    nonce = os.urandom(NONCE)
    # Images are compressed already: trying again would block the event loop for nothing.
    packed = gzip.compress(whole, 1 if len(whole) < _LARGE else 0, mtime=0)
    locked = ChaCha20Poly1305(_key(secret, ciphertext, _REQUEST)).encrypt(nonce, packed, None)
    return SealedRequest(ciphertext + nonce + locked, key)


@lru_cache(maxsize=64)
def _machine_key(public_key: str) -> MLKEM768PublicKey:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

    raw = from_base64(public_key)
    try:
        return MLKEM768PublicKey.from_public_bytes(raw)
    except ValueError:
        raise SealBrokenError("a machine's key is not an ML-KEM-768 key") from None


def _unpacked(packed: bytes, limit: int) -> bytes:
    """Decompress gzip, up to ``limit`` bytes."""
    unpacking = zlib.decompressobj(wbits=31)
    try:
        plain = unpacking.decompress(packed, limit)
    except zlib.error:
        raise SealBrokenError("a decrypted reply is not valid gzip") from None
    if unpacking.unconsumed_tail:
        raise SealBrokenError(f"a decrypted reply decompresses to more than {limit:,} bytes")
    if not unpacking.eof or unpacking.unused_data:
        raise SealBrokenError("a decrypted reply is not valid gzip")
    return plain
