"""The `Signer` port: who holds the denomination keys; and `SoftwareSigner`, which holds them in memory."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from protocol.blind_rsa import PUBLIC_EXPONENT, PublicKey, SignerFault, check_blinded
from protocol.errors import OurError, PeerError
from protocol.refusals import Refusal

from .openssl import RawRsaKey

KEY_BITS: Final = 2048


class Signer(Protocol):
    """Makes blind signatures with keys that it does not give away."""

    async def blind_sign(self, denomination: bytes, blinded: Sequence[bytes]) -> list[bytes]:
        """Sign all blinded messages with one denomination's key, or none of them (RFC 9474 section 4.3).

        Args:
            denomination: id of the denomination key.
            blinded: blinded messages, hostile; each must be as long as the key's modulus.

        Returns:
            The blind signatures, in the order of the blinded messages, each checked against its message.

        Raises:
            PeerError: UNKNOWN_DENOMINATION: there is no such key; BAD_BLINDED_VALUE: a value may not be signed
                (as `SharedFactor` when it shows that somebody knows the key).
            SignerFault: a result was wrong. No signature of the call leaves.
        """
        ...


def generate_rsa_key() -> bytes:
    """A new 2048-bit denomination key with e = 65537, as unencrypted DER PKCS#8."""
    key = rsa.generate_private_key(PUBLIC_EXPONENT, KEY_BITS)
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def public_key_of(pkcs8: bytes) -> PublicKey:
    """The public half of an unencrypted DER PKCS#8 key; raises OurError when that is no sound RSA key."""
    try:
        key = load_der_private_key(pkcs8, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OurError("not a private key in unencrypted DER PKCS#8") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise OurError("not an RSA key")
    numbers = key.public_key().public_numbers()
    return PublicKey(numbers.n, numbers.e)


class _Key(NamedTuple):
    public: PublicKey
    raw: RawRsaKey

    def sign(self, blinded: Sequence[bytes]) -> list[bytes]:
        return [self._sign(value) for value in blinded]

    def _sign(self, value: bytes) -> bytes:
        signature = self.raw.private_operation(value)
        # A fault in one half of the Chinese remainder theorem gives the key away: gcd(s ** e - m, n).
        if self.raw.public_operation(signature) != value:
            raise SignerFault("the private operation gave a wrong result")
        return signature


class SoftwareSigner:
    """A `Signer` with its keys in this process's memory, signing in OpenSSL on threads of its own."""

    def __init__(
        self,
        keys: Mapping[bytes, bytes],
        threads: int = os.cpu_count() or 1,
        *,
        load: Callable[[bytes, int], RawRsaKey] = RawRsaKey,
    ) -> None:
        """Load the keys.

        Args:
            keys: denomination id to unencrypted DER PKCS#8.
            threads: how many operations may run at once; one per core is all that helps.
            load: makes the raw key of a PKCS#8 key and the length of its modulus.

        Raises:
            OurError: something is no sound RSA key.
        """
        self._keys: dict[bytes, _Key] = {}
        self._load = load
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="signer")
        self.add(keys)

    def add(self, keys: Mapping[bytes, bytes]) -> None:
        """Load further keys, as in the constructor; those that are there already are left alone.

        Raises:
            OurError: something is no sound RSA key.
        """
        loaded = {}
        for denomination in keys.keys() - self._keys.keys():
            public = public_key_of(keys[denomination])
            loaded[denomination] = _Key(public, self._load(keys[denomination], public.modulus_bytes))
        self._keys = self._keys | loaded  # at once: this may run in a thread of its own

    async def blind_sign(self, denomination: bytes, blinded: Sequence[bytes]) -> list[bytes]:
        """See `Signer`; the work is split evenly over the threads."""
        key = self._keys.get(denomination)
        if key is None:
            raise PeerError(Refusal.UNKNOWN_DENOMINATION)
        for value in blinded:
            check_blinded(key.public, value)
        share = -(-len(blinded) // self._threads) or 1
        loop = asyncio.get_running_loop()
        shares = [
            loop.run_in_executor(self._pool, key.sign, blinded[start : start + share])
            for start in range(0, len(blinded), share)
        ]
        return [signature for signed in await asyncio.gather(*shares) for signature in signed]

    def close(self) -> None:
        """Wait for the operations under way (milliseconds), then free threads and keys."""
        self._pool.shutdown(cancel_futures=True)
        for key in self._keys.values():
            key.raw.close()
