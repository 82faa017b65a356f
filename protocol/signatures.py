"""Ed25519 signatures (RFC 8032), each under a domain of its own, over the bytes as sent.

Everywhere in this project Ed25519 is libsodium's, through PyNaCl: it refuses small-order and non-canonical public
keys, and two libraries that disagree on edge cases would make two opinions of one payment.
"""

from enum import StrEnum

from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from .errors import PeerError
from .refusals import Refusal


class Domain(StrEnum):
    """What a signature is for; the first bytes of what is signed."""

    KEYSET = "keyset"
    CERTIFICATE = "certificate"
    CATALOG = "catalog"
    REQUEST = "request"
    ANSWER = "answer"
    PAYREQ = "payreq"
    SPEND = "spend"
    INQUIRY = "inquiry"
    VERDICT = "verdict"
    RECEIPT = "receipt"
    PROOF = "proof"
    TOTALS = "totals"


def _signed_bytes(domain: Domain, parts: tuple[bytes, ...]) -> bytes:
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return b"ecash/v1 " + domain.encode() + b"\0" + framed


def public_key(seed: bytes) -> bytes:
    """Return the 32-byte public key of the private key whose seed (RFC 8032, 5.1.5) is the 32-byte `seed`."""
    return bytes(SigningKey(seed).verify_key)


def sign(seed: bytes, domain: Domain, *parts: bytes) -> bytes:
    """Return the 64-byte signature over `parts`, each framed by its length (4 bytes, big-endian)."""
    return SigningKey(seed).sign(_signed_bytes(domain, parts)).signature


def verify(key: bytes, signature: bytes, domain: Domain, *parts: bytes) -> None:
    """Check a signature by the 32-byte public `key`.

    Raises:
        PeerError: `BAD_SIGNATURE`, also for a key or signature of wrong length and a key of small order.
    """
    try:
        VerifyKey(key).verify(_signed_bytes(domain, parts), signature)
    except (BadSignatureError, ValueError, TypeError) as error:
        raise PeerError(Refusal.BAD_SIGNATURE, f"the {domain} signature does not verify") from error


def check_public_key(key: bytes) -> None:
    """Refuse a key under which anybody could sign, before it is registered.

    Raises:
        PeerError: `BAD_SIGNATURE`, for a key that is not 32 bytes, not canonical, of small order, or outside the
            prime-order subgroup.
    """
    if len(key) != 32 or not crypto_core_ed25519_is_valid_point(key):
        raise PeerError(Refusal.BAD_SIGNATURE, "the public key is not a point of prime order")
