"""What the operator sees of the business: the balance sheet, what was earned, and e-cash outstanding over time.

The reading functions do what the `Books` methods of their names say, in one read transaction. The others are pure.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import accumulate
from typing import Final, NamedTuple

from protocol.bank.ledger import CASH, CLEARING, COMMISSION, account_ledger

from .arranged import COINS
from .audit import Totals, totals_of
from .lookup import last_entry
from .store import AchFileRow, Business, ChangeRow, CommissionRow, StatementRow

_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
STEPS: Final = (_MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 6 * _HOUR, _DAY, 7 * _DAY, 28 * _DAY, 364 * _DAY)
"""How long the steps are that time is divided into, in milliseconds."""
MOST_STEPS: Final = 60

_CHANGES: Final = """
SELECT denomination, at / :step - :first, sum(minted), sum(spent) FROM (
    SELECT denomination, journal, count(*) AS minted, 0 AS spent FROM issued GROUP BY denomination, journal
    UNION ALL
    SELECT denomination, journal, 0, count(*) FROM spent GROUP BY denomination, journal
) JOIN journal ON journal.id = journal
GROUP BY 1, 2
ORDER BY 1, 2
"""
_COMMISSIONS: Final = """
SELECT kind, substr(ledger, length(:prefix) + 1), count(*), sum(amount)
FROM entry JOIN journal ON journal.id = entry.journal
WHERE ledger BETWEEN :prefix AND :prefix || '~'
GROUP BY 1, 2
ORDER BY 1, 2
"""
_STATEMENT: Final = """
SELECT journal.id, kind, at, entry.amount, coalesce(reference, '')
FROM entry
JOIN journal ON journal.id = entry.journal
LEFT JOIN funding ON funding.journal = journal.id
WHERE ledger = ?
ORDER BY journal.id DESC
LIMIT ?
"""
_ACH_FILES: Final = """
SELECT ach_file.number, at, count(*), sum(amount)
FROM ach_file JOIN export ON export.file = ach_file.number JOIN payout ON payout.number = export.payout
GROUP BY ach_file.number
ORDER BY ach_file.number DESC
"""


def business(db: sqlite3.Connection, now: int) -> Business:
    """See `Books.business`."""
    first, last = db.execute("SELECT coalesce(min(at), ?), coalesce(max(at), 0) FROM journal", (now,)).fetchone()
    at = max(now, last)  # another process's clock may be ahead of ours
    step = next((one for one in STEPS if at // one - first // one < MOST_STEPS), STEPS[-1])
    changes = db.execute(_CHANGES, {"step": step, "first": first // step})
    accounts = db.execute("SELECT number, currency FROM account")
    return Business(
        at=at,
        journal=last_entry(db),
        balances=dict(db.execute("SELECT ledger, sum(amount) FROM entry GROUP BY ledger").fetchall()),
        currencies={account_ledger(number): currency for number, currency in accounts},
        commissions=[CommissionRow(*row) for row in db.execute(_COMMISSIONS, {"prefix": f"{COMMISSION}/"})],
        begin=first // step * step,
        step=step,
        changes=[ChangeRow(*row) for row in changes],
    )


def statement(db: sqlite3.Connection, account: int, limit: int) -> list[StatementRow]:
    """See `Books.statement`."""
    return [StatementRow(*row) for row in db.execute(_STATEMENT, (account_ledger(account), limit))]


def ach_files(db: sqlite3.Connection) -> list[AchFileRow]:
    """See `Books.ach_files`."""
    return [AchFileRow(*row) for row in db.execute(_ACH_FILES)]


def sheets(done: Business, denominations: Mapping[bytes, tuple[int, str]]) -> dict[str, Totals]:
    """Return the balance sheet of each currency: the figures that an audit of the same books finds.

    Args:
        done: the books at one moment.
        denominations: of all keysets ever announced: value in minor units, and currency, by denomination id.
    """
    currencies = done.currencies | {f"{COINS}/{key.hex()}": currency for key, (_, currency) in denominations.items()}
    sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for ledger, amount in done.balances.items():
        kind, _, rest = ledger.partition("/")
        own = kind in {CASH, CLEARING, COMMISSION}
        sums[rest if own else currencies.get(ledger, "")][kind] += amount
    for row in done.changes:
        value, currency = denominations.get(row.denomination, (0, ""))
        sums[currency]["minted"] += value * row.minted
        sums[currency]["deposited"] += value * row.spent
    return totals_of(sums)


class Series(NamedTuple):
    """E-cash outstanding in one currency.

    Attributes:
        begin: when the first step begins, in milliseconds since 1970; nothing was outstanding then.
        ends: when each step ends; the last one, now.
        coins: how many coins are out at each end, by their value in minor units, the largest first.
    """

    begin: int
    ends: tuple[int, ...]
    coins: dict[int, tuple[int, ...]]

    @property
    def worth(self) -> tuple[int, ...]:
        """What all of them are worth at each end, in minor units."""
        return tuple(sum(value * out[i] for value, out in self.coins.items()) for i in range(len(self.ends)))


def outstanding_over_time(done: Business, denominations: Mapping[bytes, tuple[int, str]], currency: str) -> Series:
    """Return how much e-cash was out at the end of each step; see `sheets` for the arguments."""
    count = (done.at - done.begin) // done.step + 1
    moved: defaultdict[int, list[int]] = defaultdict(lambda: [0] * count)
    for row in done.changes:
        value, of = denominations.get(row.denomination, (0, ""))
        if of == currency:
            moved[value][row.step] += row.minted - row.spent
    ends = tuple(min(done.begin + (i + 1) * done.step, done.at) for i in range(count))
    return Series(done.begin, ends, {value: tuple(accumulate(moved[value])) for value in sorted(moved, reverse=True)})
