"""The journal and its ledgers in SQLite."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

from protocol.bank.ledger import Entry
from protocol.errors import OurError

FOLD_AFTER: Final = 1000
"""A balance is folded when it was the sum of more entries than this."""


class Sum(NamedTuple):
    """A ledger's balance through the journal id `through`; `unfolded` entries had to be read for it."""

    through: int
    amount: int
    unfolded: int


def add_journal(db: sqlite3.Connection, kind: str, request_id: bytes | None, now: int) -> int:
    """Begin a posting in the journal and return its id: one more than the last one."""
    insert = "INSERT INTO journal (kind, request_id, at) VALUES (?, ?, ?) RETURNING id"
    [(number,)] = db.execute(insert, (kind, request_id, now)).fetchall()
    return int(number)


def add_entries(db: sqlite3.Connection, journal: int, entries: Iterable[Entry]) -> None:
    """Enter amounts in their ledgers, one row for each ledger."""
    totals: defaultdict[str, int] = defaultdict(int)
    for entry in entries:
        totals[entry.ledger] += entry.amount
    if sum(totals.values()) != 0:
        raise OurError("the entries of the posting do not sum to zero")
    rows = [(ledger, journal, amount) for ledger, amount in totals.items()]
    db.executemany("INSERT INTO entry VALUES (?, ?, ?)", rows)


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
