"""What is sealed and opened: ML-KEM-768 makes a secret, HKDF-SHA256 a key of it, ChaCha20-Poly1305 locks.

Every request has a key pair of its own, whose private half opens the one reply to it. All the mathematics is
in ``cryptography``, which is imported on first use: without it this module can be imported and says what to
install when it is needed. Nothing here puts a text that was or will be sealed into a message or a ``repr``.
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

CIPHERTEXT, NONCE, TAG, PUBLIC_KEY = 1088, 12, 16, 1184
MAX_PLAIN = 256 * 1024 * 1024
"""How large a reply may become when it is unpacked: far above any answer, far below what fills a machine."""

_LARGE = 1024 * 1024
_REQUEST, _REPLY, _STREAM = b"e2e-req-v1", b"e2e-resp-v1", b"e2e-stream-v1"
_MISSING = (
    "The encrypted path needs the package 'cryptography' in version 48 or later{why}. "
    "Install it with: pip install 'chutes-connect[e2ee]'"
)


class SealBrokenError(Exception):
    """Something sealed cannot be opened: it was changed, cut, or locked with another key."""


@lru_cache(maxsize=1)
def require_crypto() -> None:
    """Check that the cryptography is there, before anything depends on it.

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
        raise ConfigurationError(_MISSING.format(why=" with an OpenSSL that knows ML-KEM")) from None


def from_base64(text: object) -> bytes:
    """Read base64 that has one possible spelling only.

    >>> from_base64(b"aGk=")
    b'hi'
    """
    given = text.encode("ascii", "replace") if isinstance(text, str) else text
    if not isinstance(given, bytes):
        raise SealBrokenError("what should be base64 is no text")
    try:
        found = binascii.a2b_base64(given, strict_mode=True)
    except binascii.Error:
        raise SealBrokenError("what should be base64 is not") from None
    if binascii.b2a_base64(found, newline=False) != given:
        raise SealBrokenError("base64 in a spelling that nobody writes")
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
        """Open ``nonce ‖ ciphertext ‖ tag``.

        Raises:
            SealBrokenError: It is not what the machine locked.
        """
        if len(frame) < NONCE + TAG:
            raise SealBrokenError("a sealed part is too short to be one")
        try:
            return self._decrypt(frame[:NONCE], frame[NONCE:], None)
        except self._invalid:
            raise SealBrokenError("a sealed part was changed on its way, or locked with another key") from None


class ReplyKey:
    """Opens the reply to one request, whole or streamed."""

    __slots__ = ("_private",)

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

        self._private: MLKEM768PrivateKey = MLKEM768PrivateKey.generate()

    @property
    def public(self) -> bytes:
        """The half that the machine locks with."""
        return self._private.public_key().public_bytes_raw()

    def frames(self, ciphertext: bytes) -> FrameKey:
        """Agree on the key of a stream."""
        return FrameKey(self._agree(ciphertext, _STREAM))

    def whole(self, blob: bytes, limit: int = MAX_PLAIN) -> bytes:
        """Open a reply that came in one piece, and unpack it.

        Raises:
            SealBrokenError: It was changed or cut, or would unpack to more than ``limit``.
        """
        ciphertext, locked = blob[:CIPHERTEXT], blob[CIPHERTEXT:]
        return _unpacked(FrameKey(self._agree(ciphertext, _REPLY)).open(locked), limit)

    def _agree(self, ciphertext: bytes, purpose: bytes) -> bytes:
        if len(ciphertext) != CIPHERTEXT:
            raise SealBrokenError("a sealed reply begins with too few bytes to agree on a key")
        # A changed ciphertext of the right length gives another secret, and then nothing opens.
        return _key(self._private.decapsulate(ciphertext), ciphertext, purpose)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("The key to a reply is not pickled: it belongs to one call.")


class SealedRequest(NamedTuple):
    """A request for one machine, and the key to its reply."""

    blob: bytes
    key: ReplyKey


def seal(public_key: str, body: bytes) -> SealedRequest:
    """Seal the JSON of a request for the machine with this key.

    Raises:
        SealBrokenError: The key is none.
    """
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    key = ReplyKey()
    secret, ciphertext = _machine_key(public_key).encapsulate()
    spoken = base64.b64encode(key.public)
    # The machine finds the key for its reply in the body. Writing it into the finished JSON spares a second pass.
    comma = b"" if body == b"{}" else b","
    whole = body[:-1] + comma + b'"e2e_response_pk":"' + spoken + b'"}'
    nonce = os.urandom(NONCE)
    # Images are packed already: trying again would hold up an event loop for nothing.
    packed = gzip.compress(whole, 1 if len(whole) < _LARGE else 0, mtime=0)
    locked = ChaCha20Poly1305(_key(secret, ciphertext, _REQUEST)).encrypt(nonce, packed, None)
    return SealedRequest(ciphertext + nonce + locked, key)


@lru_cache(maxsize=64)
def _machine_key(public_key: str) -> MLKEM768PublicKey:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

    raw = from_base64(public_key)
    if len(raw) != PUBLIC_KEY:
        raise SealBrokenError("a machine's key is no ML-KEM-768 key")
    try:
        return MLKEM768PublicKey.from_public_bytes(raw)
    except ValueError:
        raise SealBrokenError("a machine's key is no ML-KEM-768 key") from None


def _unpacked(packed: bytes, limit: int) -> bytes:
    """Unpack gzip, but no more of it than an answer can be."""
    unpacking = zlib.decompressobj(wbits=31)
    try:
        plain = unpacking.decompress(packed, limit)
    except zlib.error:
        raise SealBrokenError("an opened reply is not packed as it should be") from None
    if unpacking.unconsumed_tail:
        raise SealBrokenError(f"an opened reply unpacks to more than {limit:,} bytes")
    if not unpacking.eof or unpacking.unused_data:
        raise SealBrokenError("an opened reply is not packed as it should be")
    return plain
