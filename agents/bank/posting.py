"""One posting in SQLite: write it all, let the unique indexes judge, and explain what they say.

These functions run in the writer thread, under a savepoint and SQLite's write lock: nothing changes between a failed
insertion and the questions that explain it.
"""

import sqlite3
from collections.abc import Iterator
from typing import Final

import msgspec

from protocol.bank.ledger import (
    Claim,
    Conflict,
    Generation,
    Outcome,
    Payment,
    PayoutOrder,
    Posted,
    Posting,
    Redemption,
    Withdrawal,
)
from protocol.errors import OurError
from protocol.refusals import Refusal

from .group_commit import undo
from .journal import Record, fold, sum_entries
from .lookup import fetch, find_payment, said_before, spent

_CUSTOMERS: Final = "account/"
_COINS: Final = "coins/"
_FOLD_COINS_AFTER: Final = 50


class _Refused(Exception):
    """What was written breaks a rule that no index judges."""

    def __init__(self, refusal: Refusal, overdrawn: bytes = b"") -> None:
        super().__init__(refusal)
        self.conflict = Conflict(refusal, overdrawn=overdrawn)


def post(posting: Posting, db: sqlite3.Connection, now: int) -> Outcome:
    """Do what `Books.post` says, all but the commit. `now` is the time in milliseconds."""
    known = said_before(db, posting.request_id, posting.request_hash)
    if known is not None:
        return known
    if posting.not_after and now >= posting.not_after:
        return Conflict(Refusal.PAYMENT_EXPIRED if posting.payment else Refusal.REQUEST_EXPIRED)
    if posting.generation is not None and not _served(db, posting.generation):
        return Conflict(Refusal.SUPERSEDED)
    try:
        _write(db, posting, now)
    except _Refused as error:
        undo(db)
        return error.conflict
    except sqlite3.IntegrityError as error:
        undo(db)
        conflict = _explain(db, posting)
        if conflict is None:
            raise OurError(f"the posting contradicts itself: {error}") from error
        return conflict
    return Posted(posting.answer)


def _served(db: sqlite3.Connection, generation: Generation) -> bool:
    row = db.execute("SELECT generation FROM account WHERE number = ?", (generation.account,)).fetchone()
    if row is None:
        raise OurError(f"there is no account {generation.account}")
    return bool(row[0] == generation.number - generation.taken_over)


def _write(db: sqlite3.Connection, posting: Posting, now: int) -> None:
    """Write all of a posting; at last what is judged by sums, in the order of `Books.post`."""
    record = Record(db, posting.kind, posting.request_id, now)
    _answer(record, posting)
    _take(record, posting)
    if posting.claim is not None:
        _claim(db, posting.claim)
    if posting.generation is not None and posting.generation.taken_over:
        row = (posting.generation.number, posting.generation.account)
        db.execute("UPDATE account SET generation = ? WHERE number = ?", row)
    record.insert("issued", *((*value, record.journal) for value in posting.issued))
    if posting.withdrawal is not None:
        _withdraw(record, posting.withdrawal, posting.request_id)
    record.enter(posting.entries)
    if posting.redemption is not None:
        _redeem(record, posting.redemption)
    if posting.payout is not None:
        _queue(record, posting.payout)
    record.seal()
    for ledger in _below_zero(db, posting, _COINS):
        raise _Refused(Refusal.KEY_OVERDRAWN, bytes.fromhex(ledger.removeprefix(_COINS)))
    for _ in _below_zero(db, posting, _CUSTOMERS):
        raise _Refused(Refusal.INSUFFICIENT_FUNDS)


def _below_zero(db: sqlite3.Connection, posting: Posting, ledgers: str) -> Iterator[str]:
    """Of the ledgers whose names begin so, those that the posting has debited and that are below zero now."""
    debited = (entry.ledger for entry in posting.entries if entry.amount < 0 and entry.ledger.startswith(ledgers))
    balance = _outstanding if ledgers == _COINS else fold
    return (ledger for ledger in debited if balance(db, ledger) < 0)


def _outstanding(db: sqlite3.Connection, ledger: str) -> int:
    """As `fold`, but sooner: a deposit asks for one balance for each denomination, not for one."""
    through, amount, unfolded = sum_entries(db, ledger)
    if unfolded > _FOLD_COINS_AFTER:
        db.execute("INSERT OR REPLACE INTO balance VALUES (?, ?, ?)", (ledger, through, amount))
    return amount


def _answer(record: Record, posting: Posting) -> None:
    for said in (posting, posting.reply):
        if said is not None:
            record.insert("answer", (said.request_id, said.request_hash, said.answer, record.journal))


def _take(record: Record, posting: Posting) -> None:
    """Store the verdict, and coins as spent."""
    payment = posting.payment
    if payment is not None:
        digest, account, payment_id, accepted, *rest = msgspec.structs.astuple(payment)
        record.insert("payment", (digest, account, payment_id, int(accepted), *rest, record.journal))
    if not posting.spent:
        return
    if not posting.spent_on:
        raise OurError("the coins are spent on nothing")
    if payment is not None and (not payment.accepted or payment.digest != posting.spent_on):
        raise OurError("the coins are not spent on the posting's payment, or that is refused")
    coins = ((coin.denomination, coin.serial, posting.spent_on, coin.spend, record.journal) for coin in posting.spent)
    record.insert("spent", *coins)


def _claim(db: sqlite3.Connection, claim: Claim) -> None:
    update = "UPDATE account SET key = ?, generation = 1 WHERE number = ? AND key IS NULL"
    if db.execute(update, (claim.key, claim.account)).rowcount != 1:
        raise sqlite3.IntegrityError("the account was claimed before")


def _withdraw(record: Record, withdrawal: Withdrawal, request_id: bytes) -> None:
    settle = "UPDATE withdrawal SET settled = 1 WHERE account = ? AND request_id = ? AND NOT settled"
    record.db.executemany(settle, [(withdrawal.account, settled) for settled in withdrawal.settled])
    query = "SELECT coalesce(max(number), 0) + 1 FROM withdrawal WHERE account = ?"
    (number,) = record.db.execute(query, (withdrawal.account,)).fetchone()
    record.insert("withdrawal", (withdrawal.account, number, request_id, withdrawal.amount, record.journal))


def _redeem(record: Record, redemption: Redemption) -> None:
    db, journal = record.db, record.journal
    record.insert("redemption", (journal, redemption.account, redemption.amount))
    query = (
        "SELECT coalesce((SELECT sum(amount) FROM redemption WHERE account = ?1), 0) "
        "> coalesce((SELECT sum(amount) FROM withdrawal WHERE account = ?1), 0)"
    )
    (capped,) = db.execute(query, (redemption.account,)).fetchone()
    if capped or (redemption.revoked and _left_before(db, redemption, journal) < redemption.revoked):
        raise _Refused(Refusal.REDEMPTION_CAPPED)


def _left_before(db: sqlite3.Connection, redemption: Redemption, journal: int) -> int:
    """What the account had withdrawn before its coins were revoked, less all that it redeemed until this posting."""
    withdrawn = (
        "SELECT coalesce(sum(amount), 0) FROM withdrawal JOIN journal ON journal.id = withdrawal.journal "
        "WHERE account = ? AND at < ?"
    )
    redeemed = "SELECT coalesce(sum(amount), 0) FROM redemption WHERE account = ? AND journal < ?"
    (most,) = db.execute(withdrawn, (redemption.account, redemption.before)).fetchone()
    (had,) = db.execute(redeemed, (redemption.account, journal)).fetchone()
    return int(most - had)


def _queue(record: Record, payout: PayoutOrder) -> None:
    (number,) = record.db.execute("SELECT coalesce(max(number), 0) + 1 FROM payout").fetchone()
    record.insert("payout", (number, payout.account, payout.amount, payout.commission, record.journal))
    if not record.db.execute("SELECT 1 FROM destination WHERE account = ?", (payout.account,)).fetchone():
        raise _Refused(Refusal.NO_DESTINATION)


def _explain(db: sqlite3.Connection, posting: Posting) -> Conflict | None:
    """Return why a posting was rejected, in the order of `Books.post`; None if the books are not why."""
    if posting.payment is not None:
        judged = find_payment(db, posting.payment.digest)
        if judged is not None:
            return Conflict("", verdict=judged.verdict, commission=judged.commission)
        if posting.payment.accepted and _paid(db, posting.payment):
            return Conflict(Refusal.ALREADY_PAID)
    evidence = spent(db, ((coin.denomination, coin.serial) for coin in posting.spent))
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
    if posting.reply is not None and fetch(db, posting.reply.request_id):
        return Conflict(Refusal.REQUEST_ID_REUSED)
    return None


def _paid(db: sqlite3.Connection, payment: Payment) -> bool:
    query = "SELECT 1 FROM payment WHERE account = ? AND payment_id = ? AND accepted"
    return db.execute(query, (payment.account, payment.payment_id)).fetchone() is not None


def _unclaimed(db: sqlite3.Connection, claim: Claim) -> bool:
    query = "SELECT 1 FROM account WHERE number = ? AND key IS NULL"
    return db.execute(query, (claim.account,)).fetchone() is not None
