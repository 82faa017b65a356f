"""The journal and its ledgers in SQLite."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

from protocol.bank.ledger import Entry
from protocol.errors import OurError

from .seal import INSERTS, UNSEALED, Row, row_hash, rows_hash, seal_of

FOLD_AFTER: Final = 1000
"""A balance is folded when it was the sum of more entries than this."""


class Sum(NamedTuple):
    """A ledger's balance through the journal id `through`; `unfolded` entries had to be read for it."""

    through: int
    amount: int
    unfolded: int


class Record:
    """A posting as it is written: row after row, and at last the seal over all of them.

    Begin it in a transaction; `journal` is its id then, one more than the last one.
    """

    def __init__(self, db: sqlite3.Connection, kind: str, request_id: bytes | None, now: int) -> None:
        self.db = db
        insert = "INSERT INTO journal (kind, request_id, at) VALUES (?, ?, ?) RETURNING id"
        [(self.journal,)] = db.execute(insert, (kind, request_id, now)).fetchall()
        self._hashes = [row_hash("journal", (self.journal, kind, request_id, now))]

    def insert(self, table: str, *rows: Row) -> None:
        """Write rows of a sealed table, their columns in the order of `SEALED`."""
        self.db.executemany(INSERTS[table], rows)
        self._hashes += [row_hash(table, row) for row in rows]

    def enter(self, entries: Iterable[Entry]) -> None:
        """Enter amounts in their ledgers, one row for each ledger."""
        totals: defaultdict[str, int] = defaultdict(int)
        for entry in entries:
            totals[entry.ledger] += entry.amount
        if sum(totals.values()) != 0:
            raise OurError("the entries of the posting do not sum to zero")
        self.insert("entry", *((ledger, self.journal, amount) for ledger, amount in totals.items()))

    def seal(self) -> None:
        """Seal what was written; nothing may be written after that."""
        query = "SELECT digest FROM seal WHERE journal = ?"
        (before,) = self.db.execute(query, (self.journal - 1,)).fetchone() or (UNSEALED,)
        digest = seal_of(before, rows_hash(self._hashes))
        self.db.execute("INSERT INTO seal VALUES (?, ?)", (self.journal, digest))


def sum_entries(db: sqlite3.Connection, ledger: str) -> Sum:
    """Return the balance of a ledger: what was folded, and the entries since."""
    folded = db.execute("SELECT through, amount FROM balance WHERE ledger = ?", (ledger,)).fetchone() or (0, 0)
    query = "SELECT max(journal), sum(amount), count(*) FROM entry WHERE ledger = ? AND journal > ?"
    last, amount, count = db.execute(query, (ledger, folded[0])).fetchone()
    return Sum(last or folded[0], folded[1] + (amount or 0), count)


def fold(db: sqlite3.Connection, ledger: str) -> int:
    """Return the balance of a ledger, and keep it if it was the sum of many entries."""
    through, amount, unfolded = sum_entries(db, ledger)
    if unfolded > FOLD_AFTER:
        db.execute("INSERT OR REPLACE INTO balance VALUES (?, ?, ?)", (ledger, through, amount))
    return amount
