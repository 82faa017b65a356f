"""Answers: signed by who gives them, sealed under the one-time key that came inside the request.

    version (1) | request id (16) | nonce (12) | ciphertext

AES-256-GCM; the associated data binds version, request id and the hash of the request. The nonce is derived from
key and plaintext, so the same answer has the same bytes and two different ones never share a nonce.
"""

import hashlib
import hmac
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .codec import MAX_MESSAGE, Bytes64, Message, Time
from .envelope import VERSION, pad, unpad
from .errors import PeerError
from .refusals import Refusal
from .signatures import Domain, sign, verify

HEADER_BYTES: Final = 17
MAX_RETRY_AFTER: Final = 30_000
"""The longest pause in milliseconds that an answer can ask for; half of the longest wait between two sendings."""
_NONCE: Final = 12


def seal_secret(key: bytes, context: bytes, plaintext: bytes) -> bytes:
    """Pad and seal under a one-time 32-byte key, bound to `context`: a nonce of 12 bytes, then the ciphertext."""
    padded = pad(plaintext)
    nonce = hmac.digest(key, context + padded, hashlib.sha256)[:_NONCE]
    return nonce + AESGCM(key).encrypt(nonce, padded, context)


def open_secret(key: bytes, context: bytes, sealed: bytes) -> bytes:
    """Return what `seal_secret` was given.

    Raises:
        PeerError: `MALFORMED`, for another key, another context, or bytes that were altered.
    """
    try:
        return unpad(AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], context))
    except (InvalidTag, ValueError) as error:
        raise PeerError(Refusal.MALFORMED, "what was sealed does not open") from error


class Answer(Message, frozen=True):
    """What was answered, and when. A refusal has its code in `refusal`, a sentence in `detail`; else both are ""."""

    at: Time
    refusal: Annotated[str, msgspec.Meta(max_length=40)]
    detail: Annotated[str, msgspec.Meta(max_length=500)]
    body: bytes

    def check(self) -> bytes:
        """Return the body.

        Raises:
            PeerError: if this is a refusal, with its code (`MALFORMED` if the code is not in the table).
        """
        if self.refusal:
            code = Refusal(self.refusal) if self.refusal in set(Refusal) else Refusal.MALFORMED
            raise PeerError(code, self.detail)
        return self.body

    @property
    def retry_after(self) -> int:
        """How many milliseconds the signer wants to pass before the request is sent again.

        0 unless it is `OVERLOADED`, and 0, too, if its body is no `Pause`: who is overloaded need not say for how long.
        """
        if self.refusal != Refusal.OVERLOADED:
            return 0
        try:
            return Pause.decode(self.body).retry_after
        except PeerError:
            return 0


class Pause(Message, frozen=True):
    """The body of a refusal as `overloaded`: the same bytes are welcome again after so many milliseconds."""

    retry_after: Annotated[int, msgspec.Meta(ge=0, le=MAX_RETRY_AFTER)]


class _SignedAnswer(Message, frozen=True):
    answer: bytes
    signature: Bytes64


def refuse(at: int, error: PeerError) -> Answer:
    """Return the answer that tells of `error`."""
    return Answer(at, error.refusal.value, error.detail[:500], b"")


def overloaded(at: int, retry_after: int) -> Answer:
    """Return the answer of who has too much work now; a pause (in ms) outside 0 … `MAX_RETRY_AFTER` is cut to it."""
    pause = Pause(min(max(retry_after, 0), MAX_RETRY_AFTER))
    return Answer(at, Refusal.OVERLOADED.value, "try again later", pause.encode())


def seal_answer(signer_seed: bytes, answer_key: bytes, request_id: bytes, hashed: bytes, answer: Answer) -> bytes:
    """Sign and seal an answer to the request with this id and `request_hash`; the same input, the same bytes."""
    encoded = answer.encode()
    signature = sign(signer_seed, Domain.ANSWER, hashed, encoded)
    header = bytes([VERSION]) + request_id
    return header + seal_secret(answer_key, header + hashed, _SignedAnswer(encoded, signature).encode())


def request_id_of(sealed: bytes) -> bytes:
    """Return the id of the request that a sealed answer claims to be for.

    Raises:
        PeerError: `MALFORMED` or `UNKNOWN_VERSION`.
    """
    if not HEADER_BYTES + _NONCE < len(sealed) <= MAX_MESSAGE:
        raise PeerError(Refusal.MALFORMED, f"an answer has no {len(sealed)} bytes")
    if sealed[0] != VERSION:
        raise PeerError(Refusal.UNKNOWN_VERSION, f"version {sealed[0]}")
    return sealed[1:HEADER_BYTES]


def open_answer(signer: bytes, answer_key: bytes, hashed: bytes, sealed: bytes) -> Answer:
    """Open an answer to the request with this `request_hash` and check that `signer` (32 bytes) gave it.

    Raises:
        PeerError: `MALFORMED`, `UNKNOWN_VERSION`, or `BAD_SIGNATURE`. A refusal inside is not raised: see
            `Answer.check`.
    """
    header = bytes([VERSION]) + request_id_of(sealed)
    signed = _SignedAnswer.decode(open_secret(answer_key, header + hashed, sealed[HEADER_BYTES:]))
    verify(signer, signed.signature, Domain.ANSWER, hashed, signed.answer)
    return Answer.decode(signed.answer)
