"""The audit of a home's books, with signatures chosen at random: nobody knows before which ones are verified."""

from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from protocol.keyset import read_keyset
from protocol.signatures import public_key

from ..world import SystemClock, SystemEntropy
from .audit import Report, audit
from .facts import Snapshot
from .home import keys_of
from .service import open_books

DEFAULT_SAMPLE: Final = 1000


class Read(NamedTuple):
    """What an audit judges: the facts, value and currency of each denomination ever announced, and the bank's key."""

    snapshot: Snapshot
    denominations: dict[bytes, tuple[int, str]]
    identity: bytes


class Coins(NamedTuple):
    """Coins of a denomination: `value` of each in minor units, and how many."""

    value: int
    currency: str
    minted: int
    spent: int
    outstanding: int


async def read_books(home: Path) -> Read:
    """Read the books of the bank in this home at one moment.

    Raises:
        HomeError: if this is no bank's home.
    """
    async with open_books(home, SystemClock()) as books:
        snapshot = await books.snapshot()  # first: a keyset announced meanwhile does no harm, one missed would
        announcements = await books.keysets()
    keysets = [read_keyset(data) for data in announcements]
    denominations = {d.id: (d.value, d.currency) for keyset in keysets for d in keyset.denominations}
    return Read(snapshot, denominations, public_key(keys_of(home).identity))


def judge(books: Read, sample: int = DEFAULT_SAMPLE) -> Report:
    """Audit the books; at most `sample` verdicts, and as many coins, have their signatures verified."""
    seed = int.from_bytes(SystemEntropy().bytes(4))
    return audit(books.snapshot, books.denominations, identity=books.identity, sample=sample, seed=seed)


async def audit_of(home: Path, sample: int = DEFAULT_SAMPLE) -> Report:
    """Audit the books of the bank in this home; see `judge`."""
    return judge(await read_books(home), sample)


def coins_of(books: Read) -> dict[bytes, Coins]:
    """Return what became of each denomination's coins, by its id; those that never had any are left out."""
    minted = Counter(row.denomination for row in books.snapshot.issued)
    spent = Counter(row.denomination for row in books.snapshot.spent)
    return {
        key: Coins(value, currency, minted[key], spent[key], minted[key] - spent[key])
        for key, (value, currency) in books.denominations.items()
        if minted[key] or spent[key]
    }
