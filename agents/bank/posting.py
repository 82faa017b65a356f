"""One posting in SQLite: write it all, let the unique indexes judge, and explain what they say.

These functions run in the writer thread, under a savepoint and SQLite's write lock: nothing changes between a failed
insertion and the questions that explain it.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from protocol.bank.ledger import Claim, Conflict, Entry, Outcome, Payment, Posted, Posting, Repeated
from protocol.coins import Evidence
from protocol.errors import OurError
from protocol.refusals import Refusal

from .group_commit import undo

FOLD_AFTER: Final = 1000
"""A balance is folded when it was the sum of more entries than this."""
_CUSTOMERS: Final = "account/"


class Overdrawn(Exception):
    """A customer's ledger would fall below zero."""


class Sum(NamedTuple):
    """A ledger's balance through the journal id `through`; `unfolded` entries had to be read for it."""

    through: int
    amount: int
    unfolded: int


def post(posting: Posting, db: sqlite3.Connection, now: int) -> Outcome:
    """Do what `Books.post` says, all but the commit. `now` is the time in milliseconds."""
    known = said_before(db, posting.request_id, posting.request_hash)
    if known is not None:
        return known
    if posting.not_after and now >= posting.not_after:
        return Conflict(Refusal.PAYMENT_EXPIRED if posting.payment else Refusal.REQUEST_EXPIRED)
    try:
        _write(db, posting, now)
    except Overdrawn:
        undo(db)
        return Conflict(Refusal.INSUFFICIENT_FUNDS)
    except sqlite3.IntegrityError as error:
        undo(db)
        conflict = _explain(db, posting)
        if conflict is None:
            raise OurError(f"the posting contradicts itself: {error}") from error
        return conflict
    return Posted(posting.answer)


def said_before(db: sqlite3.Connection, request_id: bytes, request_hash: bytes) -> Repeated | Conflict | None:
    """Return the answer to a request that was answered before, or that its id was another request's."""
    query = "SELECT request_hash, answer FROM answer WHERE request_id = ?"
    row = db.execute(query, (request_id,)).fetchone()
    if row is None:
        return None
    return Repeated(row[1]) if row[0] == request_hash else Conflict(Refusal.REQUEST_ID_REUSED)


def find_payment(db: sqlite3.Connection, digest: bytes) -> Payment | None:
    """Return a payment that has its verdict."""
    query = "SELECT account, payment_id, accepted, verdict, info, commission FROM payment WHERE digest = ?"
    row = db.execute(query, (digest,)).fetchone()
    return Payment(digest, row[0], row[1], bool(row[2]), *row[3:]) if row else None


def find_spending(db: sqlite3.Connection, denomination: bytes, serial: bytes) -> tuple[bytes, bytes] | None:
    """Return the digest that a coin was spent on, and the signature that spent it."""
    query = "SELECT digest, spend FROM spent WHERE denomination = ? AND serial = ?"
    row = db.execute(query, (denomination, serial)).fetchone()
    return (row[0], row[1]) if row else None


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


def _write(db: sqlite3.Connection, posting: Posting, now: int) -> None:
    journal = add_journal(db, posting.kind, posting.request_id, now)
    answer = (posting.request_id, posting.request_hash, posting.answer, journal)
    db.execute("INSERT INTO answer VALUES (?, ?, ?, ?)", answer)
    payment = posting.payment
    if payment is not None:
        row = (*msgspec.structs.astuple(payment), journal)
        db.execute("INSERT INTO payment VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    if posting.spent:
        if payment is None or not payment.accepted:
            raise OurError("coins are spent on an accepted payment, or not at all")
        coins = [(coin.denomination, coin.serial, payment.digest, coin.spend, journal) for coin in posting.spent]
        db.executemany("INSERT INTO spent VALUES (?, ?, ?, ?, ?)", coins)
    if posting.claim is not None:
        _claim(db, posting.claim)
    db.executemany("INSERT INTO issued VALUES (?, ?, ?)", [(*value, journal) for value in posting.issued])
    add_entries(db, journal, posting.entries)
    for entry in posting.entries:
        if entry.amount < 0 and entry.ledger.startswith(_CUSTOMERS) and fold(db, entry.ledger) < 0:
            raise Overdrawn


def _claim(db: sqlite3.Connection, claim: Claim) -> None:
    claimed = db.execute("UPDATE account SET key = ? WHERE number = ? AND key IS NULL", (claim.key, claim.account))
    if claimed.rowcount != 1:
        raise sqlite3.IntegrityError("the account was claimed before")


def _explain(db: sqlite3.Connection, posting: Posting) -> Conflict | None:
    """Return why a posting was rejected, in the order of `Books.post`; None if the books are not why."""
    if posting.payment is not None:
        judged = find_payment(db, posting.payment.digest)
        if judged is not None:
            return Conflict("", verdict=judged.verdict, commission=judged.commission)
        if posting.payment.accepted and _paid(db, posting.payment):
            return Conflict(Refusal.ALREADY_PAID)
    evidence = tuple(
        Evidence(coin.denomination, coin.serial, *spending)
        for coin in posting.spent
        if (spending := find_spending(db, coin.denomination, coin.serial))
    )
    if evidence:
        return Conflict(Refusal.ALREADY_SPENT, evidence=evidence)
    if posting.claim is not None:
        if not _unclaimed(db, posting.claim):
            return Conflict(Refusal.INVALID_INVITATION)
        if db.execute("SELECT 1 FROM account WHERE key = ?", (posting.claim.key,)).fetchone():
            return Conflict(Refusal.ACCOUNT_EXISTS)
    query = "SELECT 1 FROM issued WHERE denomination = ? AND blinded_hash = ?"
    if any(db.execute(query, value).fetchone() for value in posting.issued):
        return Conflict(Refusal.BLINDED_VALUE_REUSED)
    return None


def _paid(db: sqlite3.Connection, payment: Payment) -> bool:
    query = "SELECT 1 FROM payment WHERE account = ? AND payment_id = ? AND accepted"
    return db.execute(query, (payment.account, payment.payment_id)).fetchone() is not None


def _unclaimed(db: sqlite3.Connection, claim: Claim) -> bool:
    query = "SELECT 1 FROM account WHERE number = ? AND key IS NULL"
    return db.execute(query, (claim.account,)).fetchone() is not None
