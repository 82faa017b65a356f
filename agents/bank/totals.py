"""Totals: what the bank has minted and taken back, made from the books and signed."""

from collections.abc import Sequence
from typing import NamedTuple

from protocol.keyset import Keyset
from protocol.messages import Signed
from protocol.signatures import Domain
from protocol.totals import DenominationTotal, Totals

from ..world import Clock
from .store import Books, MintedRow


class Counted(NamedTuple):
    """What the books say through entry `journal`, read at `at`, which took `took` (both in milliseconds)."""

    journal: int
    rows: Sequence[MintedRow]
    at: int
    took: int


async def count(books: Books, clock: Clock) -> Counted:
    """Count all coins in the books; raise BooksUnavailable if they cannot be read now."""
    began = clock.now()
    journal, rows = await books.minted()
    return Counted(journal, rows, began, clock.now() - began)


def sign_totals(counted: Counted, keyset: Keyset, identity_seed: bytes) -> Signed:
    """Return the bank's statement of its e-cash at one moment.

    Args:
        counted: what the books say.
        keyset: the one that the bank announces now; what was minted under denominations that it no longer holds is
            worth nothing any more and is left out.
        identity_seed: 32 bytes, what the bank signs with.
    """
    held = {denomination.id for denomination in keyset.denominations}
    rows = sorted(row for row in counted.rows if row.denomination in held)
    told = tuple(DenominationTotal(*row) for row in rows)
    totals = Totals(keyset.bank, keyset.hash, counted.journal, counted.at, told)
    return Signed.make(identity_seed, Domain.TOTALS, totals)
