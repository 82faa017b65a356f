"""Payouts in SQLite: each function is the `Books` method of its name, to run in the writer's transaction or a read one.

A payout is queued until it is in a file (a row of `export`), and exported until it is settled or returned.
"""

import sqlite3
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

from protocol.bank.ledger import return_entries, settlement_entries

from .journal import Record
from .store import (
    MOST_IN_SUM,
    MOST_PAYOUTS,
    PAYOUT_RETURN,
    SETTLEMENT,
    DestinationRow,
    NoSuchAccount,
    PayoutRow,
    WrongState,
)

_PAYOUTS: Final = """
SELECT * FROM (
    SELECT
        payout.number AS number, payout.account AS account, currency, amount, commission,
        CASE
            WHEN payout_return.payout THEN 'returned'
            WHEN settlement.payout THEN 'settled'
            WHEN export.payout THEN 'exported'
            ELSE 'queued'
        END AS state,
        coalesce(reason, ''), coalesce(file, 0), journal.at,
        coalesce(export.routing, destination.routing), coalesce(export.number, destination.number),
        coalesce(export.kind, destination.kind), coalesce(export.holder, destination.holder)
    FROM payout
    JOIN account ON account.number = payout.account
    JOIN journal ON journal.id = payout.journal
    JOIN destination ON destination.account = payout.account
    LEFT JOIN export ON export.payout = payout.number
    LEFT JOIN settlement ON settlement.payout = payout.number
    LEFT JOIN payout_return ON payout_return.payout = payout.number
)
"""


def set_destination(db: sqlite3.Connection, account: int, destination: DestinationRow) -> None:
    """See `Books.set_destination`."""
    if not db.execute("SELECT 1 FROM account WHERE number = ? AND kind = 'merchant'", (account,)).fetchone():
        raise NoSuchAccount(f"there is no merchant's account {account}")
    insert = (
        "INSERT INTO destination VALUES (?, ?, ?, ?, ?) ON CONFLICT (account) DO UPDATE SET "
        "routing = excluded.routing, number = excluded.number, kind = excluded.kind, holder = excluded.holder"
    )
    db.execute(insert, (account, *destination))


def payouts(db: sqlite3.Connection, account: int, state: str, limit: int) -> list[PayoutRow]:
    """See `Books.payouts`."""
    conditions = {"account = ?": account, "state = ?": state}
    asked = {condition: value for condition, value in conditions.items() if value}
    where = f"WHERE {' AND '.join(asked)}" if asked else ""
    query = f"{_PAYOUTS} {where} ORDER BY number DESC LIMIT ?"
    return [_row(row) for row in db.execute(query, (*asked.values(), limit))]


def export_payouts(
    db: sqlite3.Connection, now: int, write: Callable[[int, int, Sequence[PayoutRow]], bytes]
) -> tuple[int, bytes] | None:
    """See `Books.export_payouts`."""
    query = f"{_PAYOUTS} WHERE state = 'queued' ORDER BY number LIMIT ?"
    queued = [_row(row) for row in db.execute(query, (MOST_PAYOUTS,))]
    if not queued:
        return None
    sums = accumulate(payout.amount for payout in queued)
    queued = [payout for payout, amount in zip(queued, sums, strict=True) if amount <= MOST_IN_SUM]
    (file,) = db.execute("SELECT coalesce(max(number), 0) + 1 FROM ach_file").fetchone()
    data = write(file, now, queued)
    db.execute("INSERT INTO ach_file VALUES (?, ?, ?)", (file, data, now))
    rows = [(payout.number, file, *payout.destination) for payout in queued]
    db.executemany("INSERT INTO export VALUES (?, ?, ?, ?, ?, ?)", rows)
    return file, data


def ach_file(db: sqlite3.Connection, number: int) -> tuple[int, bytes] | None:
    """See `Books.ach_file`."""
    query = "SELECT number, data FROM ach_file WHERE ? IN (0, number) ORDER BY number DESC LIMIT 1"
    row = db.execute(query, (number,)).fetchone()
    return (row[0], row[1]) if row else None


def settle_payout(db: sqlite3.Connection, now: int, number: int, amount: int) -> bool:
    """See `Books.settle_payout`."""
    payout = _find(db, number, amount)
    if db.execute("SELECT 1 FROM settlement WHERE payout = ?", (number,)).fetchone():
        return False
    if payout.state != "exported":
        raise WrongState(f"payout {number} is {payout.state}, not exported")
    record = Record(db, SETTLEMENT, None, now)
    record.enter(settlement_entries(payout.currency, amount))
    record.insert("settlement", (number, record.journal))
    record.seal()
    return True


def return_payout(db: sqlite3.Connection, now: int, number: int, amount: int, reason: str) -> bool:
    """See `Books.return_payout`."""
    payout = _find(db, number, amount)
    if payout.state == "returned":
        return False
    if payout.state == "queued":
        raise WrongState(f"payout {number} is queued: it was never exported")
    record = Record(db, PAYOUT_RETURN, None, now)
    settled = payout.state == "settled"
    record.enter(return_entries(payout.account, payout.currency, amount, settled=settled))
    record.insert("payout_return", (number, reason, record.journal))
    record.seal()
    return True


def _find(db: sqlite3.Connection, number: int, amount: int) -> PayoutRow:
    row = db.execute(f"{_PAYOUTS} WHERE number = ?", (number,)).fetchone()
    if row is None:
        raise WrongState(f"there is no payout {number}")
    payout = _row(row)
    if payout.amount != amount:
        raise WrongState(f"payout {number} is one of {payout.amount}, not {amount}")
    return payout


def _row(row: tuple[object, ...]) -> PayoutRow:
    return PayoutRow._make((*row[:9], DestinationRow._make(row[9:])))
