"""Everything secret in a wallet derives from one seed: HKDF (RFC 5869) with SHA-256.

    root             = HKDF-Extract(salt = "ecash/v1 wallet", IKM = BIP 39 seed, 64 bytes)
    secret of a name = HKDF-Expand(root, info = name || 0x00 || parts, each behind its length (2 bytes))

A request id is 16 bytes, different on each device and in each request, so nothing derived repeats. Whoever has the
seed and a request id has the coins of that request: this is how lost coins are found again.
"""

import hashlib
import hmac
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

_EXTRACT_SALT: Final = b"ecash/v1 wallet"


class Root:
    """The root of one wallet's secrets, from the 64-byte seed of its BIP 39 words."""

    def __init__(self, seed: bytes) -> None:
        self._key = hmac.digest(_EXTRACT_SALT, seed, hashlib.sha256)

    def _expand(self, length: int, name: str, *parts: bytes) -> bytes:
        framed = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        info = name.encode() + b"\0" + framed
        return HKDFExpand(SHA256(), length, info).derive(self._key)

    def account(self, bank_identity: bytes) -> bytes:
        """The Ed25519 seed (32 bytes) of the account key at the bank with this identity key."""
        return self._expand(32, "account", bank_identity)

    def coin(self, request_id: bytes, index: int) -> bytes:
        """The Ed25519 seed (32 bytes) of the coin at `index` of a request."""
        return self._expand(32, "coin", request_id, index.to_bytes(4, "big"))

    def pss_salt(self, request_id: bytes, index: int) -> bytes:
        """The PSS salt (48 bytes) with which that coin's message is encoded (RFC 9474, 4.2)."""
        return self._expand(48, "pss salt", request_id, index.to_bytes(4, "big"))

    def blinding(self, request_id: bytes, index: int, attempt: int, length: int) -> bytes:
        """Candidate bytes of that coin's blinding factor r, a fresh string for each attempt."""
        counters = index.to_bytes(4, "big") + attempt.to_bytes(4, "big")
        return self._expand(length, "blinding", request_id, counters)

    def answer_key(self, request_id: bytes) -> bytes:
        """The one-time key (32 bytes) of the answer to a request."""
        return self._expand(32, "answer key", request_id)

    def exchange_id(self, bank_identity: bytes, generation: int, counter: int) -> bytes:
        """The request id (16 bytes) of exchange or ticket number `counter` at a bank, of one generation of device.

        Counted, so that who has only the seed can ask the bank for each of them again.
        """
        counters = generation.to_bytes(4, "big") + counter.to_bytes(8, "big")
        return self._expand(16, "exchange id", bank_identity, counters)

    def evidence_key(self, request_id: bytes) -> bytes:
        """The one-time key (32 bytes) under which the bank seals evidence for the payer of a payment."""
        return self._expand(32, "evidence key", request_id)

    def refresh_jitter(self, denomination: bytes) -> int:
        """Thousandths (0 … 1000) that say when this wallet refreshes its coins of a denomination (its id, 32 bytes)."""
        return int.from_bytes(self._expand(8, "refresh jitter", denomination)) % 1001

    def settling_jitter(self, request_id: bytes) -> int:
        """Thousandths (0 … 1000) that say when this wallet names a withdrawal, by its request id, as settled."""
        return int.from_bytes(self._expand(8, "settling jitter", request_id)) % 1001

    def decoy(self, denomination: bytes, number: int) -> bytes:
        """A made-up place (16 bytes) among the serial numbers of a denomination, to hide true ones among (`number`)."""
        return self._expand(16, "decoy", denomination, number.to_bytes(4, "big"))

    def note_key(self, request_id: bytes) -> bytes:
        """The key (32 bytes) under which the wallet's own secret note on a request is sealed in its file."""
        return self._expand(32, "note key", request_id)

    def payer_salt(self, request_id: bytes) -> bytes:
        """The salt (16 bytes) of the payer code of a payment."""
        return self._expand(16, "payer salt", request_id)

    def payer_code(self, request_id: bytes) -> str:
        """A payer code of 80 bits, as 20 hexadecimal digits in groups of five, for who chooses none."""
        digits = self._expand(10, "payer code", request_id).hex()
        return "-".join(digits[i : i + 5] for i in range(0, 20, 5))


def new_request_id(device: bytes, entropy: bytes) -> bytes:
    """Return a request id (16 bytes) from a device's own 16 bytes and 32 fresh random ones.

    The device's part keeps two copies of one machine apart even when their random generators agree.
    """
    return hashlib.sha256(b"ecash/v1 request id\0" + device + entropy).digest()[:16]
