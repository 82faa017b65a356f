"""Totals: what a bank has minted and taken back, under its signature, for anybody to check.

Retained on a topic. A bank that made coins beside its books would have to show more coins coming back than went out,
or another statement to others.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from .codec import Bytes32, Message, Minor, Name, Time
from .errors import PeerError
from .keyset import Keyset
from .messages import Signed
from .refusals import Refusal
from .signatures import Domain

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class DenominationTotal(Message, frozen=True):
    """How many coins of a denomination were minted, and how many are on the spent list."""

    denomination: Bytes32
    minted: Count
    spent: Count


class Totals(Message, frozen=True):
    """Signed by a bank: the state of its e-cash after its journal's entry numbered `journal`, at keyset `keyset`."""

    bank: Name
    keyset: Bytes32
    journal: Count
    at: Time
    denominations: Annotated[tuple[DenominationTotal, ...], msgspec.Meta(max_length=4096)]


class Outstanding(msgspec.Struct, frozen=True):
    """Sums of one currency, in minor units."""

    minted: Minor
    spent: Minor

    @property
    def outstanding(self) -> int:
        """The value of the coins that somebody holds."""
        return self.minted - self.spent


def open_totals(signed: Signed, keyset: Keyset) -> Totals:
    """Check a bank's totals against its keyset (of any number at or after the one that they were made at).

    Raises:
        PeerError: `MALFORMED`, `BAD_SIGNATURE`, `WRONG_BANK`, `FOREIGN_KEYSET` if they were made under a keyset that
            is not in the chain, `UNKNOWN_DENOMINATION` if one is none of the bank's or stands twice, or
            `AMOUNT_MISMATCH` if more coins came back than went out.
    """
    totals = Totals.decode(signed.check(keyset.identity, Domain.TOTALS))
    if totals.bank != keyset.bank:
        raise PeerError(Refusal.WRONG_BANK, f"the totals are those of bank {totals.bank}")
    if totals.keyset not in (keyset.hash, *keyset.chain):
        raise PeerError(Refusal.FOREIGN_KEYSET, "the totals were made under a keyset that others do not see")
    known = {denomination.id for denomination in keyset.denominations}
    named = [one.denomination for one in totals.denominations]
    if not known.issuperset(named) or len(set(named)) != len(named):
        raise PeerError(Refusal.UNKNOWN_DENOMINATION, "the totals name a denomination that is not the bank's, or twice")
    for one in totals.denominations:
        if one.spent > one.minted:
            raise PeerError(
                Refusal.AMOUNT_MISMATCH,
                f"denomination {one.denomination.hex()[:16]}: {one.spent} coins came back, {one.minted} went out",
            )
    return totals


def check_growth(before: Totals, after: Totals, keyset: Keyset) -> None:
    """Refuse totals in which something was undone: nothing minted or spent is ever taken back.

    Only a denomination that `keyset`, the one of `after`, does not hold any more may be missing. At one entry of the
    journal all counts are the same.

    Raises:
        PeerError: `AMOUNT_MISMATCH`.
    """
    if after.journal < before.journal:
        raise PeerError(Refusal.AMOUNT_MISMATCH, "the journal has become shorter")
    later = {one.denomination: one for one in after.denominations}
    living = {denomination.id for denomination in keyset.denominations}
    earlier = [one for one in before.denominations if one.denomination in living]
    if after.journal == before.journal and set(earlier) != set(after.denominations):
        raise PeerError(Refusal.AMOUNT_MISMATCH, f"there are two accounts of the journal through entry {after.journal}")
    for one in earlier:
        now = later.get(one.denomination)
        if now is None or now.minted < one.minted or now.spent < one.spent:
            name = one.denomination.hex()[:16]
            raise PeerError(Refusal.AMOUNT_MISMATCH, f"denomination {name}: the totals have become less")


def sums(totals: Totals, keyset: Keyset) -> Mapping[str, Outstanding]:
    """Return what was minted and spent, by currency."""
    denominations = {denomination.id: denomination for denomination in keyset.denominations}
    found: dict[str, Outstanding] = {}
    for one in totals.denominations:
        of = denominations[one.denomination]
        before = found.get(of.currency, Outstanding(0, 0))
        found[of.currency] = Outstanding(before.minted + of.value * one.minted, before.spent + of.value * one.spent)
    return found
