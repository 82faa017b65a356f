"""Coins at the bank's desk: the checks of blinded coins that shall be signed, and of coins that come back.

Withdrawal, exchange and refund mint; deposit, exchange and redemption take coins. What the checks return is kept apart
from what was only claimed.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import msgspec

from ..blind_rsa import check_blinded
from ..coins import SpentCoin, check_coin, check_distinct, check_spend
from ..errors import PeerError
from ..keyset import Denomination, KeyRing
from ..messages import BlindedCoin, BlindSignature
from ..refusals import Refusal
from .ledger import Spending

Lookup: TypeAlias = Callable[[bytes], Denomination]
"""Returns the denomination of an id if its coins may be used as is asked; raises PeerError if they may not."""


class Minting(msgspec.Struct, frozen=True):
    """Blinded coins that may be signed, and their value by denomination id."""

    coins: tuple[BlindedCoin, ...]
    totals: dict[bytes, int]

    @property
    def amount(self) -> int:
        """What all of them are worth, in minor units."""
        return sum(self.totals.values())

    @property
    def issued(self) -> tuple[tuple[bytes, bytes], ...]:
        """The rows for the list of signed values."""
        return tuple((coin.denomination, hashlib.sha256(coin.blinded).digest()) for coin in self.coins)

    def signed(self, signatures: Sequence[bytes]) -> tuple[BlindSignature, ...]:
        """Return what goes to who asked: the signer's answer, in the order asked."""
        pairs = zip(self.coins, signatures, strict=True)
        return tuple(BlindSignature(coin.denomination, signature) for coin, signature in pairs)


class Taken(msgspec.Struct, frozen=True):
    """Coins that are good, as far as that needs no books, and their value by denomination id."""

    coins: tuple[SpentCoin, ...]
    totals: dict[bytes, int]

    @property
    def amount(self) -> int:
        """What all of them are worth, in minor units."""
        return sum(self.totals.values())

    @property
    def spendings(self) -> tuple[Spending, ...]:
        """The rows for the spent list."""
        return tuple(Spending(one.coin.denomination, one.coin.serial, one.spend) for one in self.coins)


def check_minting(coins: tuple[BlindedCoin, ...], currency: str, ring: KeyRing, now: int) -> Minting:
    """Check blinded coins that shall be signed now.

    Raises:
        PeerError: in this order, `MALFORMED` if they are more than the bank takes at once; `UNKNOWN_DENOMINATION`,
            `KEY_REVOKED`, `DENOMINATION_CLOSED` or `WRONG_CURRENCY` of the first coin that has a fault;
            `BAD_BLINDED_VALUE`; `BLINDED_VALUE_REUSED` if one stands twice.
    """
    check_number(coins, ring)
    totals = _totals((coin.denomination for coin in coins), currency, lambda key: ring.mintable(key, now))
    for coin in coins:
        check_blinded(ring.key(coin.denomination), coin.blinded)
    if len({coin.blinded for coin in coins}) != len(coins):
        raise PeerError(Refusal.BLINDED_VALUE_REUSED, "a blinded value stands twice in the request")
    return Minting(coins, totals)


def check_number(coins: Sequence[object], ring: KeyRing) -> None:
    """Raise PeerError (`MALFORMED`) if these are more coins than the bank takes at once."""
    limit = ring.keyset.limits.max_coins
    if len(coins) > limit:
        raise PeerError(Refusal.MALFORMED, f"more than {limit} coins in one request")


def value_of(coins: tuple[SpentCoin, ...], currency: str, lookup: Lookup) -> Taken:
    """Check of what kind coins are; `check_taken` must follow.

    Raises:
        PeerError: what `lookup` raises, or `WRONG_CURRENCY`, of the first coin that has a fault; `DUPLICATE_COIN`.
    """
    totals = _totals((one.coin.denomination for one in coins), currency, lookup)
    check_distinct(one.coin for one in coins)
    return Taken(coins, totals)


def check_taken(taken: Taken, digest: bytes, ring: KeyRing) -> None:
    """Check the signatures on coins: the bank's, then their holders' over this 32-byte digest. This is the dear part.

    Raises:
        PeerError: `BAD_COIN`, `BAD_SPEND_SIGNATURE`.
    """
    for one in taken.coins:
        check_coin(ring.key(one.coin.denomination), one.coin)
    for one in taken.coins:
        check_spend(one, digest)


def _totals(keys: Iterable[bytes], currency: str, lookup: Lookup) -> dict[bytes, int]:
    totals: defaultdict[bytes, int] = defaultdict(int)
    known: dict[bytes, Denomination] = {}
    for key in keys:
        denomination = known.get(key) or lookup(key)
        known[key] = denomination
        if denomination.currency != currency:
            raise PeerError(Refusal.WRONG_CURRENCY, f"a coin is in {denomination.currency}")
        totals[key] += denomination.value
    return dict(totals)


def currency_of(coins: Iterable[SpentCoin], ring: KeyRing) -> str:
    """Return the currency of the first coin.

    Raises:
        PeerError: `UNKNOWN_DENOMINATION`.
    """
    first = next(iter(coins))
    return ring.denomination(first.coin.denomination).currency
