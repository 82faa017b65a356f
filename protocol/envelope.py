"""The secure envelope: a letter is signed, then sealed for its recipient (HPKE, RFC 9180).

An envelope is

    version (1) | suite (1) | recipient key id (16) | encapsulated key | ciphertext

and its HPKE `info` binds version, suite, recipient key id and the kind of the message, so that an envelope opens
only as what it was sealed as. The plaintext is padded to a size class, so that lengths tell little. An answer is
sealed under a one-time key that came inside the request (see `protocol.answer`).
"""

import hashlib
from enum import IntEnum
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
)
from cryptography.hazmat.primitives.hpke import Suite as HpkeSuite

from .codec import MAX_MESSAGE, Bytes16, Bytes32, Message, Name, Small
from .errors import OurError, PeerError
from .refusals import Refusal
from .signatures import Domain, public_key, sign, verify

VERSION: Final = 1
HEADER_BYTES: Final = 18
_MIN_CLASS: Final = 512


class Suite(IntEnum):
    """How envelopes are sealed; both with HKDF-SHA256 and AES-256-GCM."""

    X25519 = 1
    MLKEM768_X25519 = 2


_HPKE: Final = {
    Suite.X25519: HpkeSuite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    Suite.MLKEM768_X25519: HpkeSuite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
}
_MLKEM_PUBLIC: Final = 1184
_PUBLIC_BYTES: Final = {Suite.X25519: 32, Suite.MLKEM768_X25519: _MLKEM_PUBLIC + 32}
PRIVATE_BYTES: Final = {Suite.X25519: 32, Suite.MLKEM768_X25519: 64 + 32}
"""Size of a private key: the X25519 scalar, preceded by the ML-KEM seed (FIPS 203) in the hybrid."""


class EnvelopeKey(Message, frozen=True):
    """A public key that envelopes are sealed for: 32 bytes, or 1,216 for the hybrid (ML-KEM-768 then X25519)."""

    suite: Annotated[int, msgspec.Meta(ge=0, le=255)]
    public: Small

    @property
    def key_id(self) -> bytes:
        """The first 16 bytes of SHA-256 over suite and key."""
        return hashlib.sha256(bytes([self.suite]) + self.public).digest()[:16]

    def _load(self) -> X25519PublicKey | MLKEM768X25519PublicKey:
        if self.suite not in _PUBLIC_BYTES or len(self.public) != _PUBLIC_BYTES[Suite(self.suite)]:
            raise PeerError(Refusal.MALFORMED, "the envelope key has a wrong size or an unknown suite")
        if self.suite == Suite.X25519:
            return X25519PublicKey.from_public_bytes(self.public)
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.public[:_MLKEM_PUBLIC]),
            X25519PublicKey.from_public_bytes(self.public[_MLKEM_PUBLIC:]),
        )


class EnvelopePrivateKey:
    """The private half of an `EnvelopeKey`, made from `PRIVATE_BYTES[suite]` random bytes.

    Raises:
        OurError: for a wrong number of bytes.
    """

    def __init__(self, suite: Suite, secret: bytes) -> None:
        if len(secret) != PRIVATE_BYTES[suite]:
            raise OurError(f"an envelope key of suite {suite} takes {PRIVATE_BYTES[suite]} bytes")
        self.suite = suite
        x25519 = X25519PrivateKey.from_private_bytes(secret[-32:])
        public = x25519.public_key().public_bytes_raw()
        self._key: X25519PrivateKey | MLKEM768X25519PrivateKey = x25519
        if suite == Suite.MLKEM768_X25519:
            mlkem = MLKEM768PrivateKey.from_seed_bytes(secret[:64])
            public = mlkem.public_key().public_bytes_raw() + public
            self._key = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public = EnvelopeKey(suite, public)
        self.key_id = self.public.key_id

    def open(self, envelope: bytes, kind: str) -> bytes:
        """Return the plaintext of an envelope of this kind.

        Raises:
            PeerError: `UNKNOWN_VERSION` for another version or suite; `MALFORMED` for anything cut, flipped,
                sealed for another key, or of another kind.
        """
        header = _header_of(envelope)
        if header[2:] != self.key_id:
            raise PeerError(Refusal.MALFORMED, "the envelope is for another key")
        if header[1] != self.suite:
            raise PeerError(Refusal.UNKNOWN_VERSION, "the envelope's suite is not that of its key")
        try:
            padded = _HPKE[self.suite].decrypt(envelope[HEADER_BYTES:], self._key, _info(header, kind))
        except (InvalidTag, ValueError) as error:
            raise PeerError(Refusal.MALFORMED, f"the envelope does not open as {kind}") from error
        return unpad(padded)


def _header_of(envelope: bytes) -> bytes:
    if not HEADER_BYTES < len(envelope) <= MAX_MESSAGE:
        raise PeerError(Refusal.MALFORMED, f"an envelope has no {len(envelope)} bytes")
    if envelope[0] != VERSION or envelope[1] not in _PUBLIC_BYTES:
        raise PeerError(Refusal.UNKNOWN_VERSION, f"version {envelope[0]}, suite {envelope[1]}")
    return envelope[:HEADER_BYTES]


def recipient_of(envelope: bytes) -> bytes:
    """Return the 16-byte key id that an envelope is sealed for.

    Raises:
        PeerError: as `EnvelopePrivateKey.open` does for a bad header.
    """
    return _header_of(envelope)[2:]


def _info(header: bytes, kind: str) -> bytes:
    return b"ecash/v1 envelope\0" + header + kind.encode()


def pad(plaintext: bytes) -> bytes:
    """Return `plaintext` behind its length (4 bytes), zero-filled to 512 bytes or the next power of two."""
    needed = 4 + len(plaintext)
    size = max(_MIN_CLASS, 1 << (needed - 1).bit_length())
    return len(plaintext).to_bytes(4, "big") + plaintext.ljust(size - 4, b"\0")


def unpad(padded: bytes) -> bytes:
    """Return what `pad` was given.

    Raises:
        PeerError: `MALFORMED`, if these are not exactly the bytes that `pad` makes.
    """
    plaintext = padded[4 : 4 + int.from_bytes(padded[:4], "big")]
    if pad(plaintext) != padded:
        raise PeerError(Refusal.MALFORMED, "the padding is wrong")
    return plaintext


def seal(key: EnvelopeKey, kind: str, plaintext: bytes) -> bytes:
    """Seal `plaintext` for `key` as a message of this kind.

    HPKE draws a fresh ephemeral key for each envelope itself: the one place where `protocol` meets randomness.

    Raises:
        PeerError: `MALFORMED`, for a public key that cannot be used.
        OurError: if the envelope would be longer than `MAX_MESSAGE`.
    """
    header = bytes([VERSION, key.suite]) + key.key_id
    padded = pad(plaintext)
    if HEADER_BYTES + len(padded) + _PUBLIC_BYTES[Suite.MLKEM768_X25519] > MAX_MESSAGE:
        raise OurError(f"{len(plaintext)} bytes do not fit in an envelope")
    try:
        return header + _HPKE[Suite(key.suite)].encrypt(padded, key._load(), _info(header, kind))
    except ValueError as error:
        raise PeerError(Refusal.MALFORMED, "the envelope key cannot be sealed for") from error


class Letter(Message, frozen=True):
    """What a request says. `sender` is empty in an anonymous letter."""

    kind: Name
    request_id: Bytes16
    deadline: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    answer_key: Bytes32
    sender: Small
    body: bytes


class _SignedLetter(Message, frozen=True):
    letter: bytes
    signature: Small


def seal_letter(key: EnvelopeKey, letter: Letter, sender_seed: bytes | None) -> bytes:
    """Sign the letter (unless it is anonymous), then seal it.

    Raises:
        OurError: if `letter.sender` is not the public key of `sender_seed`, or the letter is too long.
        PeerError: `MALFORMED`, for a public key that cannot be used.
    """
    encoded = letter.encode()
    if letter.sender != (b"" if sender_seed is None else public_key(sender_seed)):
        raise OurError("the letter names another sender than the one who signs it")
    signature = b"" if sender_seed is None else sign(sender_seed, Domain.REQUEST, key.key_id, encoded)
    return seal(key, letter.kind, _SignedLetter(encoded, signature).encode())


def open_letter(key: EnvelopePrivateKey, envelope: bytes, kind: str) -> Letter:
    """Open an envelope and check the letter inside.

    Returns:
        The letter. If `sender` is not empty, it signed the letter for this recipient.

    Raises:
        PeerError: as `EnvelopePrivateKey.open`; `WRONG_TYPE` if the letter is of another kind than it was sealed
            as; `BAD_SIGNATURE`.
    """
    signed = _SignedLetter.decode(key.open(envelope, kind))
    letter = Letter.decode(signed.letter)
    if letter.kind != kind:
        raise PeerError(Refusal.WRONG_TYPE, f"a {letter.kind} letter in a {kind} envelope")
    if letter.sender:
        verify(letter.sender, signed.signature, Domain.REQUEST, key.key_id, signed.letter)
    elif signed.signature:
        raise PeerError(Refusal.BAD_SIGNATURE, "an anonymous letter is signed")
    return letter


def request_hash(envelope: bytes) -> bytes:
    """Return the 32 bytes by which a request is told from another one: SHA-256 over the envelope as sent."""
    return hashlib.sha256(envelope).digest()
