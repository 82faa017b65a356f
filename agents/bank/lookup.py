"""Questions to the books in SQLite, of rows that answer a request. Each function reads from one moment."""

import sqlite3
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, Final

from protocol.bank.ledger import Conflict, Payment, Repeated
from protocol.coins import Evidence
from protocol.recovery import KEPT_WITHDRAWALS, MAX_SPENDINGS
from protocol.refusals import Refusal

from .store import Kept, MintedRow, StoredRow, TooMany

MAX_KEPT_BYTES: Final = 250_000
"""The most bytes of answers to withdrawals that are told at once; one answer is always told."""
_SERIAL_DIGITS: Final = 64
_PAYMENT: Final = "SELECT digest, account, payment_id, accepted, verdict, info, commission FROM payment"


def said_before(db: sqlite3.Connection, request_id: bytes, request_hash: bytes) -> Repeated | Conflict | None:
    """Return the answer to a request that was answered before, or that its id was another request's."""
    row = fetch(db, request_id)
    if row is None:
        return None
    return Repeated(row.answer) if row.request_hash == request_hash else Conflict(Refusal.REQUEST_ID_REUSED)


def fetch(db: sqlite3.Connection, request_id: bytes) -> StoredRow | None:
    """Return the answer to the request with this id."""
    query = "SELECT request_id, request_hash, answer FROM answer WHERE request_id = ?"
    row = db.execute(query, (request_id,)).fetchone()
    return StoredRow(*row) if row else None


def find_payment(db: sqlite3.Connection, digest: bytes) -> Payment | None:
    """Return a payment that has its verdict."""
    row = db.execute(f"{_PAYMENT} WHERE digest = ?", (digest,)).fetchone()
    return _payment(row) if row else None


def accepted_payments(db: sqlite3.Connection, payment_id: bytes) -> list[Payment]:
    """Return the accepted payments of this id, by account."""
    rows = db.execute(f"{_PAYMENT} WHERE payment_id = ? AND accepted ORDER BY account", (payment_id,))
    return [_payment(row) for row in rows]


def _payment(row: tuple[Any, ...]) -> Payment:
    digest, account, payment_id, accepted, *rest = row
    return Payment(digest, account, payment_id, bool(accepted), *rest)


def find_spending(db: sqlite3.Connection, denomination: bytes, serial: bytes) -> tuple[bytes, bytes] | None:
    """Return the digest that a coin was spent on, and the signature that spent it."""
    query = "SELECT digest, spend FROM spent WHERE denomination = ? AND serial = ?"
    row = db.execute(query, (denomination, serial)).fetchone()
    return (row[0], row[1]) if row else None


def spent(db: sqlite3.Connection, coins: Iterable[tuple[bytes, bytes]]) -> tuple[Evidence, ...]:
    """Return evidence for those of these coins (denomination, serial) that are spent, in their order."""
    found = ((coin, find_spending(db, *coin)) for coin in coins)
    return tuple(Evidence(*coin, *spending) for coin, spending in found if spending)


def spendings(db: sqlite3.Connection, denomination: bytes, prefix: str) -> list[Evidence]:
    """Return all spent coins whose serial numbers begin with these hexadecimal digits; raise `TooMany`."""
    query = (
        "SELECT denomination, serial, digest, spend FROM spent "
        "WHERE denomination = ? AND serial BETWEEN ? AND ? ORDER BY serial LIMIT ?"
    )
    lowest, highest = (bytes.fromhex(prefix.ljust(_SERIAL_DIGITS, digit)) for digit in "0f")
    rows = db.execute(query, (denomination, lowest, highest, MAX_SPENDINGS + 1)).fetchall()
    if len(rows) > MAX_SPENDINGS:
        raise TooMany(f"more than {MAX_SPENDINGS} spent coins have serial numbers that begin with {prefix!r}")
    return [Evidence(*row) for row in rows]


def kept_withdrawals(db: sqlite3.Connection, account: int, start: int) -> Kept:
    """Do what `Books.withdrawals` says."""
    (last,) = db.execute("SELECT coalesce(max(number), 0) FROM withdrawal WHERE account = ?", (account,)).fetchone()
    kept = "FROM withdrawal WHERE account = ? AND (NOT settled OR number > ?)"
    window = (account, last - KEPT_WITHDRAWALS)
    (total,) = db.execute(f"SELECT count(*) {kept}", window).fetchone()
    query = f"SELECT number, request_id {kept} AND number >= ? ORDER BY number LIMIT ?"
    listed = db.execute(query, (*window, start, KEPT_WITHDRAWALS + 1)).fetchall()
    rows = [row for _, request_id in listed[:KEPT_WITHDRAWALS] if (row := fetch(db, request_id))]
    fitting = sum(size <= MAX_KEPT_BYTES for size in accumulate(len(row.answer) for row in rows))
    told = rows[: max(fitting, 1)]
    return Kept(told, total, listed[len(told)][0] if len(told) < len(listed) else 0)


def last_entry(db: sqlite3.Connection) -> int:
    """Return the number of the last journal entry, 0 in new books."""
    (journal,) = db.execute("SELECT coalesce(max(id), 0) FROM journal").fetchone()
    return int(journal)


def minted(db: sqlite3.Connection) -> tuple[int, list[MintedRow]]:
    """Do what `Books.minted` says. It reads all coins, so it may take long."""
    journal = last_entry(db)
    issued = dict(db.execute("SELECT denomination, count(*) FROM issued GROUP BY denomination").fetchall())
    spent = dict(db.execute("SELECT denomination, count(*) FROM spent GROUP BY denomination").fetchall())
    return journal, [MintedRow(key, issued.get(key, 0), spent.get(key, 0)) for key in sorted(issued | spent)]
