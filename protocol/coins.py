"""Coins with one-time keys.

A coin is a one-time Ed25519 key pair that the bank has signed blindly. Its serial number is the public half; its
value is that of the denomination key which verifies it, never a field. To spend it is to sign the digest of what it
is spent on, so only its holder can, and a bank that says "spent before" can show the signature that spent it.
"""

from collections.abc import Iterable
from typing import Final

from .blind_rsa import PublicKey, verify
from .codec import Bytes32, Bytes64, Bytes256, Message
from .errors import PeerError
from .refusals import Refusal
from .signatures import Domain
from .signatures import sign as sign_ed25519
from .signatures import verify as verify_ed25519

SALT_BYTES: Final = 48
"""RSABSSA-SHA384-PSS-Deterministic (RFC 9474, 5): a salt as long as the hash, the message as it is."""
MAX_COINS: Final = 200
"""The most coins of one withdrawal or one payment."""


class Coin(Message, frozen=True):
    """What the bank signed: denomination id, serial number, and its 256-byte RSA signature over both."""

    denomination: Bytes32
    serial: Bytes32
    signature: Bytes256


class SpentCoin(Message, frozen=True):
    """A coin and the holder's signature over the digest of what it is spent on."""

    coin: Coin
    spend: Bytes64


class Evidence(Message, frozen=True):
    """Why a coin is refused as spent: its holder's earlier signature, over another digest."""

    denomination: Bytes32
    serial: Bytes32
    digest: Bytes32
    spend: Bytes64

    def check(self) -> None:
        """Raise PeerError (`BAD_SIGNATURE`) unless the coin's own key signed that digest."""
        verify_ed25519(self.serial, self.spend, Domain.SPEND, self.denomination, self.digest)


def message_of(denomination: bytes, serial: bytes) -> bytes:
    """Return the prepared message (RFC 9474, 4.1) that makes a coin when the bank signs it."""
    return b"ecash/v1 coin\0" + denomination + serial


def check_coin(key: PublicKey, coin: Coin) -> None:
    """Raise PeerError (`BAD_COIN`) unless the denomination's key signed this coin."""
    verify(key, message_of(coin.denomination, coin.serial), coin.signature, salt_length=SALT_BYTES)


def spend(coin: Coin, coin_seed: bytes, digest: bytes) -> SpentCoin:
    """Spend a coin on what has this 32-byte digest, with the 32-byte seed of its key."""
    return SpentCoin(coin, sign_ed25519(coin_seed, Domain.SPEND, coin.denomination, digest))


def check_spend(spent: SpentCoin, digest: bytes) -> None:
    """Raise PeerError (`BAD_SPEND_SIGNATURE`) unless the coin's holder spent it on this digest."""
    try:
        verify_ed25519(spent.coin.serial, spent.spend, Domain.SPEND, spent.coin.denomination, digest)
    except PeerError as error:
        raise PeerError(Refusal.BAD_SPEND_SIGNATURE, "a coin was not spent on this payment") from error


def check_distinct(coins: Iterable[Coin]) -> None:
    """Raise PeerError (`DUPLICATE_COIN`) if two coins have one serial number."""
    serials = [coin.serial for coin in coins]
    if len(set(serials)) != len(serials):
        raise PeerError(Refusal.DUPLICATE_COIN, "the same serial number stands twice")
