"""Arithmetic that worlds do not do twice: what was sealed or signed here opens and verifies without being worked out.

What was altered on its way, or comes from elsewhere, is worked out by the production code's own means.
"""

import contextlib
import hashlib
from collections.abc import Callable
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hpke import Suite as HpkeSuite
from cryptography.hazmat.primitives.serialization import load_der_private_key
from nacl.signing import SigningKey, VerifyKey

import agents.bank.home
import agents.bank.signer
import protocol.signatures
from protocol.blind_rsa import PublicKey
from protocol.envelope import EnvelopeKey, Suite

_OVERHEAD: Final = {Suite.X25519: 32 + 16, Suite.MLKEM768_X25519: 1_120 + 16}
"""How much longer a ciphertext is: by the encapsulated key and the tag."""

_remembered: Final[dict[Callable[..., Any], Callable[..., Any]]] = {}


def remembering(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a pure function that works out nothing twice: worlds have their keys in common."""
    return _remembered.setdefault(function, lru_cache(4_096)(function))


def quickly(stack: contextlib.ExitStack) -> None:
    """Spare what runs until the stack is closed the arithmetic that is the same everywhere."""
    keyset, sealing, outputs = (import_module(f"protocol.{name}") for name in ("keyset", "envelope", "wallet.outputs"))
    known = Signatures()
    patch(stack, keyset, "check_strength", remembering(keyset.check_strength))
    for module in (agents.bank.home, agents.bank.signer):
        patch(stack, module, "public_key_of", public_key_of)
    patch(stack, outputs, "blind", remembering(outputs.blind))
    patch(stack, sealing, "_HPKE", {suite: Sealing(suite, real) for suite, real in sealing._HPKE.items()})
    patch(stack, EnvelopeKey, "_load", remembering(EnvelopeKey._load))
    patch(stack, protocol.signatures, "SigningKey", known.signing_key)
    patch(stack, protocol.signatures, "VerifyKey", known.verify_key)


def patch(stack: contextlib.ExitStack, owner: Any, name: str, value: Any) -> None:
    """Put something in the place of what is there, until the stack is closed."""
    usual = getattr(owner, name)
    setattr(owner, name, value)
    stack.callback(setattr, owner, name, usual)


@cache
def public_key_of(pkcs8: bytes) -> PublicKey:
    """Return the public half of one of our own keys, which need no proof that they are sound."""
    key = load_der_private_key(pkcs8, password=None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.public_key().public_numbers()
    return PublicKey(numbers.n, numbers.e)


class Sealing:
    """HPKE of one suite in one world: ciphertexts are as long as real ones, and the same in each run of a seed."""

    def __init__(self, suite: Suite, real: HpkeSuite) -> None:
        self._real = real
        self._overhead = _OVERHEAD[suite]
        self._sealed: dict[tuple[bytes, bytes], bytes] = {}

    def encrypt(self, plaintext: bytes, key: object, info: bytes) -> bytes:
        """Seal for the key that `info` names."""
        drawn = hashlib.shake_256(b"%d " % len(self._sealed) + info + plaintext)
        ciphertext = drawn.digest(len(plaintext) + self._overhead)
        self._sealed[ciphertext, info] = plaintext
        return ciphertext

    def decrypt(self, ciphertext: bytes, key: Any, info: bytes) -> bytes:
        """Open what was sealed here; raise what HPKE raises for all else."""
        plaintext = self._sealed.get((ciphertext, info))
        return self._real.decrypt(ciphertext, key, info) if plaintext is None else plaintext


class Signatures:
    """Ed25519 in one world; its methods stand for the classes of `nacl.signing`."""

    def __init__(self) -> None:
        self._signed: set[tuple[bytes, bytes, bytes]] = set()

    def signing_key(self, seed: bytes) -> "_Signing":
        return _Signing(_signing_key(seed), self._signed)

    def verify_key(self, key: bytes) -> "_Verifying":
        return _Verifying(key, self._signed)


class _Signing:
    def __init__(self, key: SigningKey, signed: set[tuple[bytes, bytes, bytes]]) -> None:
        self._key = key
        self._signed = signed
        self.verify_key = key.verify_key

    def sign(self, message: bytes) -> Any:
        signed = self._key.sign(message)
        self._signed.add((bytes(self.verify_key), message, signed.signature))
        return signed


class _Verifying:
    def __init__(self, key: bytes, signed: set[tuple[bytes, bytes, bytes]]) -> None:
        self._key = key
        self._signed = signed

    def verify(self, message: bytes, signature: bytes) -> None:
        if (self._key, message, signature) not in self._signed:
            VerifyKey(self._key).verify(message, signature)


@lru_cache(4_096)
def _signing_key(seed: bytes) -> SigningKey:
    return SigningKey(seed)
