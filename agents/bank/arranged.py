"""The facts of a snapshot, arranged for the look-ups of an audit."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from protocol.bank.ledger import CASH, CLEARING, COMMISSION, account_ledger, coins_ledger
from protocol.exchange import EXCHANGE, REFUND

from .facts import IssuedRow, JournalRow, PaymentRow, RedemptionRow, Snapshot, SpentRow, WithdrawalRow

CUSTOMERS: Final = "account"
COINS: Final = "coins"


class Arranged:
    """Facts by journal id and by ledger.

    Args:
        snapshot: the facts.
        denominations: of all keysets ever announced: value in minor units, and currency, by denomination id.
    """

    def __init__(self, snapshot: Snapshot, denominations: Mapping[bytes, tuple[int, str]]) -> None:
        self.facts = snapshot
        self.denominations = denominations
        self.journal = {row.id: row for row in snapshot.journal}
        self.accounts = {account.number: account for account in snapshot.accounts}
        self.currencies = {account_ledger(a.number): a.currency for a in snapshot.accounts}
        self.currencies |= {coins_ledger(key): currency for key, (_, currency) in denominations.items()}
        self.moves: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self.ledgers: Counter[str] = Counter()
        for entry in snapshot.entries:
            self.moves[entry.journal][entry.ledger] += entry.amount
            self.ledgers[entry.ledger] += entry.amount
        self.issued = Counter(row.denomination for row in snapshot.issued)
        self.spent = Counter(row.denomination for row in snapshot.spent)
        self.minted = _by_journal(snapshot.issued)
        self.taken = _by_journal(snapshot.spent)

    def currency(self, ledger: str) -> str:
        """Return the currency of a ledger, or "" if the bank has no such ledger."""
        kind, _, rest = ledger.partition("/")
        return rest if kind in {CASH, CLEARING, COMMISSION} else self.currencies.get(ledger, "")

    def kind(self, journal: int) -> str:
        """Return the kind of a posting, or "" if there is none of this id."""
        row = self.journal.get(journal)
        return row.kind if row else ""

    def worth(self, coins: Counter[bytes]) -> int:
        """Return what so many coins of each denomination are worth; those of an unknown one are worth nothing."""
        return sum(self.denominations.get(key, (0, ""))[0] * count for key, count in coins.items())

    def told(self, row: JournalRow) -> str:
        """Return what a posting moved, for a sentence."""
        moved = "; ".join(f"{ledger} {amount:+d}" for ledger, amount in sorted(self.moves[row.id].items()))
        return f" ({moved})" if moved else ""

    def summed(self, row: JournalRow) -> str:
        """Return what a posting moved, as `told` does, but for all its coins together."""
        sums: Counter[str] = Counter()
        for ledger, amount in self.moves[row.id].items():
            sums[COINS if ledger.startswith(f"{COINS}/") else ledger] += amount
        moved = "; ".join(f"{ledger} {amount:+d}" for ledger, amount in sorted(sums.items()))
        return f" ({moved})" if moved else ""

    def causes(self) -> dict[int, set[str]]:
        """Return which ledgers, beside those of coins, each posting may move, as its rows in other tables say."""
        may: defaultdict[int, set[str]] = defaultdict(set)
        for funding in self.facts.fundings:
            may[funding.journal] |= self._of(funding.account, CASH)
        accepted = (row for row in self.facts.payments if row.accepted)
        coined: list[WithdrawalRow | RedemptionRow | PaymentRow]
        coined = [*self.facts.withdrawals, *self.facts.redemptions, *accepted]
        for row in coined:
            may[row.journal] |= self._of(row.account, COMMISSION)
        for transfer in self.facts.transfers:
            may[transfer.journal] |= self._of(transfer.account, CLEARING, COMMISSION)
            may[transfer.settled] |= self._of(transfer.account, CLEARING, CASH)
            may[transfer.returned] |= self._of(transfer.account, CASH if transfer.settled else CLEARING)
        for number in self.minted:
            if self.kind(number) in {EXCHANGE, REFUND}:
                may[number] |= {f"{COMMISSION}/{currency}" for _, currency in self.denominations.values()}
            if self.kind(number) == REFUND:
                payers = [ledger for ledger in self.moves[number] if ledger.partition("/")[0] == CUSTOMERS]
                may[number] |= set(payers) if len(payers) == 1 else set()
        return may

    def _of(self, account: int, *kinds: str) -> set[str]:
        """Return an account's ledger, and the bank's own ones of these kinds in its currency."""
        ledger = account_ledger(account)
        return {ledger, *(f"{kind}/{self.currency(ledger)}" for kind in kinds)}


def _by_journal(rows: Iterable[IssuedRow | SpentRow]) -> defaultdict[int, Counter[bytes]]:
    counted: defaultdict[int, Counter[bytes]] = defaultdict(Counter)
    for row in rows:
        counted[row.journal][row.denomination] += 1
    return counted
