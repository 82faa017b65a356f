"""Reads the facts for an audit from SQLite."""

import sqlite3
from typing import Final

from protocol.bank.desk import Account

from .damage import damage
from .facts import (
    AnswerRow,
    EntryRow,
    FoldedRow,
    FundingRow,
    IssuedRow,
    JournalRow,
    PaymentRow,
    RedemptionRow,
    SealRow,
    Snapshot,
    SpentRow,
    TransferRow,
    WithdrawalRow,
)
from .seal import hashes_of_rows

ACCOUNT: Final = "SELECT number, kind, name, title, currency, coalesce(key, x''), generation FROM account"
_TRANSFERS: Final = """
SELECT
    payout.number, account, amount, commission, payout.journal,
    coalesce(export.file, 0), coalesce(settlement.journal, 0), coalesce(payout_return.journal, 0)
FROM payout
LEFT JOIN export ON export.payout = payout.number
LEFT JOIN settlement ON settlement.payout = payout.number
LEFT JOIN payout_return ON payout_return.payout = payout.number
"""


def read_snapshot(db: sqlite3.Connection) -> Snapshot:
    """Return all facts. Call it in a transaction, so that they are of one moment."""
    select = db.execute
    return Snapshot(
        damage=damage(db),
        accounts=tuple(Account(*row) for row in select(f"{ACCOUNT} ORDER BY number")),
        journal=tuple(map(JournalRow._make, select("SELECT id, kind, request_id, at FROM journal ORDER BY id"))),
        seals=tuple(map(SealRow._make, select("SELECT journal, digest FROM seal"))),
        rows=hashes_of_rows(db),
        entries=tuple(map(EntryRow._make, select("SELECT journal, ledger, amount FROM entry"))),
        folded=tuple(map(FoldedRow._make, select("SELECT ledger, through, amount FROM balance"))),
        issued=tuple(map(IssuedRow._make, select("SELECT denomination, blinded_hash, journal FROM issued"))),
        spent=tuple(map(SpentRow._make, select("SELECT denomination, serial, digest, spend, journal FROM spent"))),
        payments=tuple(
            map(PaymentRow._make, select("SELECT digest, account, payment_id, accepted, verdict, journal FROM payment"))
        ),
        answers=tuple(map(AnswerRow._make, select("SELECT request_id, journal FROM answer"))),
        fundings=tuple(map(FundingRow._make, select("SELECT reference, account, amount, journal FROM funding"))),
        withdrawals=tuple(
            map(WithdrawalRow._make, select("SELECT account, number, request_id, amount, journal FROM withdrawal"))
        ),
        redemptions=tuple(map(RedemptionRow._make, select("SELECT account, amount, journal FROM redemption"))),
        transfers=tuple(map(TransferRow._make, select(_TRANSFERS))),
    )
