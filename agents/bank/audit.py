"""The audit: from the tables alone, was money made or lost? A pure function over one snapshot of the books.

Every fact stands in the books twice or more: a coin in its list and as value in a ledger, a deposit in the journal and
under the bank's own signature. The audit compares them, and names each row that does not fit, with its amount.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from protocol.bank.ledger import CASH, CLEARING, COMMISSION
from protocol.exchange import REFUND

from .arranged import COINS, CUSTOMERS, Arranged
from .audit_operations import OPERATIONS
from .audit_signatures import spend_faults, verdict_faults
from .facts import Snapshot
from .seal import UNSEALED, seal_of
from .store import FUNDING, PAYOUT_RETURN, SETTLEMENT

_LIABILITIES: Final = (CUSTOMERS, CLEARING, COINS, COMMISSION)


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The balance sheet of one currency, in minor units.

    `cash` = -(`accounts` + `clearing` + `commission` + `outstanding`). `minted` is the value of all coins ever issued,
    `deposited` that of all on the spent list: deposited, exchanged or redeemed.
    """

    cash: int
    accounts: int
    clearing: int
    commission: int
    outstanding: int
    minted: int
    deposited: int

    @property
    def owed(self) -> int:
        """All that the bank owes and has earned."""
        return self.accounts + self.clearing + self.commission + self.outstanding


class Report(msgspec.Struct, frozen=True):
    """What an audit found: totals by currency, and a sentence for each fault.

    `verdicts` and `spendings` tell how many of the stored signatures were verified, good or bad.
    """

    totals: dict[str, Totals]
    faults: list[str]
    verdicts: int = 0
    spendings: int = 0

    @property
    def ok(self) -> bool:
        """Whether money was neither made nor lost."""
        return not self.faults


def audit(
    snapshot: Snapshot,
    denominations: Mapping[bytes, tuple[int, str]],
    *,
    identity: bytes = b"",
    sample: int = 0,
    seed: int = 0,
) -> Report:
    """Check the books' facts against each other, and stored signatures.

    Args:
        snapshot: the facts.
        denominations: of all keysets ever announced: value in minor units, and currency, by denomination id.
        identity: the bank's 32-byte public key, by which verdicts are verified.
        sample: how many verdicts, and how many coins' spend signatures, are verified at most; 0 for none.
        seed: not negative; chooses which. Audits with consecutive seeds verify all of them in the end.
    """
    books = Arranged(snapshot, denominations)
    faults = [fault for check in (*_BOOKKEEPING, *OPERATIONS, _sheet_faults) for fault in check(books)]
    verdicts, bad_verdicts = verdict_faults(books, identity, sample, seed)
    spendings, bad_spendings = spend_faults(books, sample, seed)
    return Report(_totals(books), [*faults, *bad_verdicts, *bad_spendings], verdicts, spendings)


def _totals(books: Arranged) -> dict[str, Totals]:
    sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for ledger, amount in books.ledgers.items():
        sums[books.currency(ledger)][ledger.partition("/")[0]] += amount
    for key, (value, currency) in books.denominations.items():
        sums[currency]["minted"] += value * books.issued[key]
        sums[currency]["deposited"] += value * books.spent[key]
    return totals_of(sums)


def totals_of(sums: Mapping[str, Counter[str]]) -> dict[str, Totals]:
    """Return each currency's totals from the sums of its ledgers, by kind, and of `minted` and `deposited` coins."""
    return {
        currency: Totals(
            cash=of[CASH],
            accounts=of[CUSTOMERS],
            clearing=of[CLEARING],
            commission=of[COMMISSION],
            outstanding=of[COINS],
            minted=of["minted"],
            deposited=of["deposited"],
        )
        for currency, of in sorted(sums.items())
        if currency
    }


def _damage_faults(books: Arranged) -> Iterator[str]:
    """The file is sound."""
    yield from books.facts.damage


def _journal_faults(books: Arranged) -> Iterator[str]:
    """Ids have no gap, and no row speaks of a posting that is not in the journal."""
    before = 0
    for number in sorted(books.journal):
        if number != before + 1:
            yield f"journal {before + 1} to {number - 1}: missing"
        before = number
    facts = books.facts
    lists = (facts.entries, facts.issued, facts.spent, facts.payments, facts.answers, facts.fundings)
    operations = (facts.withdrawals, facts.redemptions, facts.transfers)
    named = {row.journal for rows in (*lists, *operations) for row in rows}
    named |= {number for row in facts.transfers for number in (row.settled, row.returned) if number}
    yield from (f"journal {number}: missing, but other rows name it" for number in sorted(named - set(books.journal)))


def _seal_faults(books: Arranged) -> Iterator[str]:
    """A posting's rows are those that were sealed, and no posting was taken out or put in between."""
    seals = {row.journal: row.digest for row in books.facts.seals}
    for number in sorted(seals.keys() | books.facts.rows.keys()):
        row = books.journal.get(number)
        told = f"a {row.kind}{books.summed(row)}" if row else "no posting"
        if number not in seals:
            yield f"journal {number}: has no seal: {told}"
        elif seals[number] != seal_of(seals.get(number - 1, UNSEALED), books.facts.rows.get(number, b"")):
            yield f"journal {number}: the rows are not those that were sealed: {told}"


def _answer_faults(books: Arranged) -> Iterator[str]:
    """Every posting has its answer, a refund its ticket's too, or is the operator's; every answer has its posting."""
    answered: defaultdict[int, list[bytes]] = defaultdict(list)
    for answer in books.facts.answers:
        answered[answer.journal].append(answer.request_id)
        row = books.journal.get(answer.journal)
        if row is None or (row.request_id != answer.request_id and row.kind != REFUND):
            yield f"answer {answer.request_id.hex()}: journal {answer.journal} is not of this request"
    operators = {
        FUNDING: (Counter(row.journal for row in books.facts.fundings), "references"),
        SETTLEMENT: (Counter(row.settled for row in books.facts.transfers), "payouts"),
        PAYOUT_RETURN: (Counter(row.returned for row in books.facts.transfers), "payouts"),
    }
    for row in books.facts.journal:
        if row.kind in operators:
            rows, what = operators[row.kind]
            if row.request_id is not None or rows[row.id] != 1:
                yield f"journal {row.id}: a {row.kind} with {rows[row.id]} {what}{books.told(row)}"
        elif answered[row.id].count(row.request_id or b"") != 1:
            yield f"journal {row.id}: a {row.kind} without its answer{books.told(row)}"
        elif len(answered[row.id]) != 1 + (row.kind == REFUND):
            yield f"journal {row.id}: a {row.kind} with {len(answered[row.id])} answers{books.told(row)}"


def _entry_faults(books: Arranged) -> Iterator[str]:
    """The entries of a posting sum to zero, in each currency for itself."""
    for number, moved in sorted(books.moves.items()):
        sums: Counter[str] = Counter()
        for ledger, amount in moved.items():
            currency = books.currency(ledger)
            sums[currency] += amount
            if not currency:
                yield f"journal {number}: {amount:+d} in ledger {ledger}, which the bank does not have"
        for currency, amount in sorted(sums.items()):
            if amount:
                yield f"journal {number}: the entries sum to {amount} {currency}, not 0"


def _cause_faults(books: Arranged) -> Iterator[str]:
    """Money moves for what stands in another table; nobody is given a commission."""
    causes = books.causes()
    for number, moved in sorted(books.moves.items()):
        for ledger, amount in sorted(moved.items()):
            kind = ledger.partition("/")[0]
            if kind == COMMISSION and amount < 0:
                yield f"journal {number}: {amount:+d} in {ledger}, a commission that was given"
            if kind != COINS and ledger not in causes.get(number, ()):
                yield f"journal {number}: {amount:+d} in {ledger} without a cause"


def _folded_faults(books: Arranged) -> Iterator[str]:
    """A folded balance is the sum of the entries that it stands for."""
    through = {row.ledger: row.through for row in books.facts.folded}
    sums = Counter[str]()
    for entry in books.facts.entries:
        if entry.journal <= through.get(entry.ledger, 0):
            sums[entry.ledger] += entry.amount
    for row in books.facts.folded:
        if row.amount != sums[row.ledger]:
            yield f"folded balance of {row.ledger}: {row.amount}, but the entries sum to {sums[row.ledger]}"
        if row.through not in books.journal:
            yield f"folded balance of {row.ledger}: {row.amount} through journal {row.through}, which is missing"


def _account_faults(books: Arranged) -> Iterator[str]:
    """Nobody owes the bank, and the bank has taken no negative commission."""
    for ledger, amount in sorted(books.ledgers.items()):
        if amount < 0 and ledger.partition("/")[0] in _LIABILITIES:
            yield f"ledger {ledger}: the balance is {amount}"


def _sheet_faults(books: Arranged) -> Iterator[str]:
    """All that the bank owes and has earned is there in cash."""
    for currency, of in _totals(books).items():
        if of.cash != -of.owed:
            yield f"{currency}: {-of.cash} in cash, but accounts, clearing, commission and e-cash sum to {of.owed}"


_BOOKKEEPING: Final = (
    _damage_faults,
    _journal_faults,
    _seal_faults,
    _answer_faults,
    _entry_faults,
    _cause_faults,
    _folded_faults,
    _account_faults,
)
