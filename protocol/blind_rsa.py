"""RSA blind signatures, RFC 9474, with SHA-384 and MGF1-SHA-384.

The four variants of RFC 9474 section 5 differ in two things, both of them arguments here: how a message is
prepared (`prepare_identity` for *Deterministic*, `prepare_randomize` for *Randomized*) and the length of the
salt (48 for *PSS*, 0 for *PSSZERO*). Coins are signed with RSABSSA-SHA384-PSS-Deterministic.

    wallet                                     bank
    blind            -- blinded message -->    blind_sign
    finalize         <-- blind signature --

CPython's big integers are not constant-time: what is secret here (r and its inverse) belongs to a wallet that
works on its owner's machine. The bank's private key never comes here; it lies behind a `RawOperation`.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from .errors import OurError, PeerError
from .refusals import Refusal

PUBLIC_EXPONENT: Final = 65537
SALT_LENGTH: Final = 48  # of the PSS variants: as long as the hash
PREFIX_LENGTH: Final = 32  # RFC 9474 section 4.1

_SHA384: Final = hashes.SHA384()
_HASH_LENGTH: Final = 48
_MAX_SPKI_LENGTH: Final = 1024  # a 4096-bit key takes 550 bytes
_MAX_ATTEMPTS: Final = 128  # each succeeds with a probability over one half

RawOperation = Callable[[bytes], bytes]
"""Raw RSA, without padding, on big-endian blocks of the modulus's length."""


class WeakKey(PeerError):
    """The public key is not one whose signatures may be worth money."""

    def __init__(self, detail: str) -> None:
        super().__init__(Refusal.UNKNOWN_DENOMINATION, detail)


class SharedFactor(PeerError):
    """A blinded message shares a factor with the modulus: whoever made it can compute the private key."""

    def __init__(self) -> None:
        super().__init__(Refusal.BAD_BLINDED_VALUE, "shares a factor with the modulus")


class BadBlindingFactor(OurError):
    """The blinding factor has no inverse modulo n; draw another one."""


class UnblindableMessage(OurError):
    """The encoded message shares a factor with n; take another salt or message."""


class SignerFault(OurError):
    """The private operation failed or gave a wrong result: one that must not leave, for it may betray the key."""


@dataclass(frozen=True)
class PublicKey:
    """An RSA public key; says nothing of its strength, see `check_strength`.

    Attributes:
        n: the modulus.
        e: the public exponent.
    """

    n: int
    e: int

    @classmethod
    def from_numbers(cls, n: int, e: int) -> Self:
        """The key of two numbers from outside; raises `WeakKey` when no RSA key can have them."""
        key = cls(n, e)
        _ = key.cryptography_key
        return key

    @classmethod
    def from_der(cls, spki: bytes) -> Self:
        """The key in a DER SubjectPublicKeyInfo (RFC 5280 section 4.1) with the OID rsaEncryption.

        Raises:
            WeakKey: the bytes are no such key, or not its one DER encoding.
        """
        if len(spki) > _MAX_SPKI_LENGTH:
            raise WeakKey("the public key is too long")
        try:
            loaded = load_der_public_key(spki)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise WeakKey("not a DER public key") from error
        if not isinstance(loaded, rsa.RSAPublicKey):
            raise WeakKey("not an RSA key")
        numbers = loaded.public_numbers()
        key = cls(numbers.n, numbers.e)
        if key.to_der() != spki:
            raise WeakKey("not the DER encoding of its key")
        return key

    def to_der(self) -> bytes:
        """The DER SubjectPublicKeyInfo: 294 bytes for 2048 bits and e = 65537."""
        return self.cryptography_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def modulus_bytes(self) -> int:
        """Length of the modulus, and so of every blinded message and signature: 256 for 2048 bits."""
        return (self.n.bit_length() + 7) // 8

    @cached_property
    def cryptography_key(self) -> rsa.RSAPublicKey:
        """The same key as `cryptography` holds it; raises `WeakKey` when it takes no such numbers."""
        try:
            return rsa.RSAPublicNumbers(self.e, self.n).public_key()
        except (ValueError, OverflowError) as error:
            raise WeakKey("no RSA key has these numbers") from error

    def public_operation(self, block: bytes) -> bytes:
        """RSAVP1 (RFC 8017 section 5.2.2): block ** e mod n, as long as the modulus."""
        return pow(int.from_bytes(block), self.e, self.n).to_bytes(self.modulus_bytes)


@cache
def _small_primes_product() -> int:
    """The product of the 6542 primes below 2**16."""
    limit = 1 << 16
    prime = bytearray([1]) * limit
    for i in range(2, math.isqrt(limit) + 1):
        prime[i * i :: i] = bytes(len(range(i * i, limit, i)))
    return math.prod(i for i in range(2, limit) if prime[i])


def check_strength(key: PublicKey, bits: int = 2048) -> None:
    """Refuse every key but a plain RSA key of the size asked for. Our policy: RFC 9474 leaves it to the caller.

    It cannot prove a key good, but finds the carelessly or wilfully bad: anyone who factors n makes coins.

    Raises:
        WeakKey: n does not have exactly `bits` bits, e is not 65537, or n is even, has a prime factor below
            2**16, is a perfect square or a prime.
    """
    n = key.n
    if n.bit_length() != bits or n < 0:
        raise WeakKey(f"the modulus has {n.bit_length()} bits instead of {bits}")
    if key.e != PUBLIC_EXPONENT:
        raise WeakKey(f"the public exponent is not {PUBLIC_EXPONENT}")
    if math.gcd(n, _small_primes_product()) != 1:
        raise WeakKey("the modulus has a small factor")
    if math.isqrt(n) ** 2 == n:
        raise WeakKey("the modulus is a square")
    # Fermat's test to base 2: every odd prime passes; a product of two large random primes never does.
    if pow(2, n - 1, n) == 1:
        raise WeakKey("the modulus is prime")


def prepare_identity(message: bytes) -> bytes:
    """PrepareIdentity (RFC 9474 section 4.1), for messages that are hard to guess by themselves."""
    return message


def prepare_randomize(message: bytes, prefix: bytes) -> bytes:
    """PrepareRandomize (RFC 9474 section 4.1): 32 random bytes, which the verifier must see, go in front.

    Raises:
        OurError: the prefix does not have 32 bytes.
    """
    if len(prefix) != PREFIX_LENGTH:
        raise OurError(f"a message prefix has {PREFIX_LENGTH} bytes")
    return prefix + message


def _mgf1(seed: bytes, length: int) -> bytes:
    """The mask generation function MGF1 with SHA-384 (RFC 8017 appendix B.2.1)."""
    blocks = range(-(-length // _HASH_LENGTH))
    return b"".join(hashlib.sha384(seed + i.to_bytes(4)).digest() for i in blocks)[:length]


def emsa_pss_encode(prepared_message: bytes, em_bits: int, salt: bytes) -> bytes:
    """EMSA-PSS-ENCODE (RFC 8017 section 9.1.1) with SHA-384.

    Args:
        prepared_message: of any length.
        em_bits: bits of the encoded message, one less than the modulus has.
        salt: 48 bytes for the PSS variants, none for PSSZERO.

    Returns:
        The encoded message, em_bits rounded up to whole bytes.

    Raises:
        OurError: the encoded message has no room for hash and salt.
    """
    em_length = (em_bits + 7) // 8
    padding_length = em_length - _HASH_LENGTH - len(salt) - 2
    if padding_length < 0:
        raise OurError(f"{em_bits} bits cannot hold a hash and a salt of {len(salt)} bytes")
    message_hash = hashlib.sha384(prepared_message).digest()
    salted_hash = hashlib.sha384(bytes(8) + message_hash + salt).digest()
    data_block = bytes(padding_length) + b"\x01" + salt
    mask = _mgf1(salted_hash, len(data_block))
    masked = int.from_bytes(data_block) ^ int.from_bytes(mask)
    masked &= (1 << em_bits - 8 * (_HASH_LENGTH + 1)) - 1
    return masked.to_bytes(len(data_block)) + salted_hash + b"\xbc"


def blind(public_key: PublicKey, prepared_message: bytes, *, salt: bytes, r: int) -> tuple[bytes, int]:
    """Blind (RFC 9474 section 4.2).

    Args:
        public_key: the signer's.
        prepared_message: what `prepare_identity` or `prepare_randomize` gave.
        salt: 48 random bytes, or none for PSSZERO.
        r: the blinding factor, uniform between 1 and n - 1 and never used twice; see `blinding_factor`.

    Returns:
        The blinded message, as long as the modulus, for the signer, and the inverse of r modulo n, a secret
        that `finalize` needs.

    Raises:
        BadBlindingFactor: r is out of range or has no inverse.
        UnblindableMessage: the encoded message shares a factor with n.
        OurError: the modulus is too short for the salt.
    """
    n = public_key.n
    if not 0 < r < n or math.gcd(r, n) != 1:
        raise BadBlindingFactor("the blinding factor is not invertible modulo n")
    m = int.from_bytes(emsa_pss_encode(prepared_message, n.bit_length() - 1, salt))
    if math.gcd(m, n) != 1:
        raise UnblindableMessage("the encoded message shares a factor with the modulus")
    blinded = m * pow(r, public_key.e, n) % n
    return blinded.to_bytes(public_key.modulus_bytes), pow(r, -1, n)


def check_blinded(public_key: PublicKey, blinded: bytes) -> None:
    """Refuse a blinded message that no honest wallet sends. Costs a greatest common divisor, 15 us.

    Raises:
        PeerError: BAD_BLINDED_VALUE: it is not as long as the modulus, or it is 0, 1, n - 1, n or more.
        SharedFactor: BAD_BLINDED_VALUE, too, and a cause for alarm: it shares a factor with n.
    """
    if len(blinded) != public_key.modulus_bytes:
        raise PeerError(Refusal.BAD_BLINDED_VALUE, f"has {len(blinded)} bytes")
    # 0, 1 and n - 1 are their own signatures.
    if not 1 < (value := int.from_bytes(blinded)) < public_key.n - 1:
        raise PeerError(Refusal.BAD_BLINDED_VALUE, "out of range")
    if math.gcd(value, public_key.n) != 1:
        raise SharedFactor


def blind_sign(public_key: PublicKey, private_operation: RawOperation, blinded: bytes) -> bytes:
    """BlindSign (RFC 9474 section 4.3), the plain form.

    The result is checked here by CPython's arithmetic (170 us for 2048 bits). A signer that has a faster public
    operation does the same three steps by itself: `check_blinded`, private operation, comparison.

    Returns:
        The blind signature, as long as the modulus.

    Raises:
        PeerError: BAD_BLINDED_VALUE, see `check_blinded`.
        SignerFault: the result is not the e-th root of the blinded message.
    """
    check_blinded(public_key, blinded)
    signature = private_operation(blinded)
    if len(signature) != len(blinded) or public_key.public_operation(signature) != blinded:
        raise SignerFault("the private operation gave a wrong result")
    return signature


def finalize(
    public_key: PublicKey,
    prepared_message: bytes,
    blind_signature: bytes,
    inverse: int,
    *,
    salt_length: int = SALT_LENGTH,
) -> bytes:
    """Finalize (RFC 9474 section 4.4): unblind, and verify.

    Args:
        public_key: the signer's.
        prepared_message: the one that was blinded.
        blind_signature: the signer's answer, hostile.
        inverse: what `blind` gave.
        salt_length: the length of the salt that was given to `blind`.

    Returns:
        The signature, as long as the modulus.

    Raises:
        PeerError: BAD_COIN: the answer has another length, or the signature does not verify.
    """
    if len(blind_signature) != public_key.modulus_bytes:
        raise PeerError(Refusal.BAD_COIN, f"the blind signature has {len(blind_signature)} bytes")
    signature = int.from_bytes(blind_signature) * inverse % public_key.n
    octets = signature.to_bytes(public_key.modulus_bytes)
    verify(public_key, prepared_message, octets, salt_length=salt_length)
    return octets


def verify(public_key: PublicKey, prepared_message: bytes, signature: bytes, *, salt_length: int = SALT_LENGTH) -> None:
    """RSASSA-PSS-VERIFY (RFC 8017 section 8.1.2) with SHA-384 and a salt of exactly the given length.

    Raises:
        PeerError: BAD_COIN: the signature is not as long as the modulus, is n or more, or does not verify.
        WeakKey: the public key is none; `check_strength` before it is used for the first time.
    """
    key = public_key.cryptography_key
    if len(signature) != public_key.modulus_bytes or int.from_bytes(signature) >= public_key.n:
        raise PeerError(Refusal.BAD_COIN, "the signature is out of range")
    scheme = padding.PSS(mgf=padding.MGF1(_SHA384), salt_length=salt_length)
    try:
        key.verify(signature, prepared_message, scheme, _SHA384)
    except InvalidSignature as error:
        raise PeerError(Refusal.BAD_COIN, "the signature does not verify") from error


def blinding_factor(public_key: PublicKey, expand: Callable[[int, int], bytes]) -> int:
    """Draw r, uniform among the invertible numbers modulo n, by rejection (random_integer_uniform of RFC 9474).

    Args:
        public_key: the signer's.
        expand: `expand(attempt, length)` gives `length` random bytes, others for each attempt from 0 on.

    Raises:
        OurError: `expand` gave another length, or 128 attempts gave nothing (its bytes are not random).
    """
    n = public_key.n
    mask = (1 << n.bit_length()) - 1
    for attempt in range(_MAX_ATTEMPTS):
        octets = expand(attempt, public_key.modulus_bytes)
        if len(octets) != public_key.modulus_bytes:
            raise OurError(f"asked for {public_key.modulus_bytes} bytes, got {len(octets)}")
        r = int.from_bytes(octets) & mask
        if r < n and math.gcd(r, n) == 1:  # gcd(0, n) is n
            return r
    raise OurError(f"{_MAX_ATTEMPTS} attempts gave no blinding factor")
