"""The audit: from the tables alone, was money made or lost? A pure function over one snapshot of the books.

Every fact stands in the books twice or more: a coin in its list and as value in a ledger, a deposit in the journal and
under the bank's own signature. The audit compares them, and names each row that does not fit, with its amount.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from protocol.bank.ledger import CASH, COMMISSION, account_ledger, coins_ledger, funding_entries
from protocol.errors import PeerError
from protocol.messages import Signed, Verdict

from .store import FUNDING, JournalRow, PaymentRow, Snapshot

_LIABILITIES: Final = ("account", "coins", COMMISSION)


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The balance sheet of one currency, in minor units: `cash` = -(`accounts` + `commission` + `outstanding`).

    `minted` is the value of all coins ever issued, `deposited` that of all on the spent list.
    """

    cash: int
    accounts: int
    commission: int
    outstanding: int
    minted: int
    deposited: int


class Report(msgspec.Struct, frozen=True):
    """What an audit found: totals by currency, and a sentence for each fault."""

    totals: dict[str, Totals]
    faults: list[str]

    @property
    def ok(self) -> bool:
        """Whether money was neither made nor lost."""
        return not self.faults


def audit(snapshot: Snapshot, denominations: Mapping[bytes, tuple[int, str]]) -> Report:
    """Check the books' facts against each other.

    Args:
        snapshot: the facts.
        denominations: of all keysets ever announced: value in minor units, and currency, by denomination id.
    """
    facts = _Facts(snapshot, denominations)
    checks = (
        facts.journal_faults,
        facts.answer_faults,
        facts.entry_faults,
        facts.cause_faults,
        facts.folded_faults,
        facts.account_faults,
        facts.coin_faults,
        facts.denomination_faults,
        facts.funding_faults,
        facts.payment_faults,
        facts.sheet_faults,
    )
    return Report(facts.totals(), [fault for check in checks for fault in check()])


class _Facts:
    """The facts, arranged for look-up. Each `…_faults` method tells what is wrong with one kind of row."""

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

    def currency(self, ledger: str) -> str:
        """Return the currency of a ledger, or "" if the bank has no such ledger."""
        kind, _, rest = ledger.partition("/")
        return rest if kind in {CASH, COMMISSION} else self.currencies.get(ledger, "")

    def totals(self) -> dict[str, Totals]:
        """Return the balance sheet of each currency."""
        sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for ledger, amount in self.ledgers.items():
            sums[self.currency(ledger)][ledger.partition("/")[0]] += amount
        for key, (value, currency) in self.denominations.items():
            sums[currency]["minted"] += value * self.issued[key]
            sums[currency]["deposited"] += value * self.spent[key]
        return {
            currency: Totals(
                cash=of[CASH],
                accounts=of["account"],
                commission=of[COMMISSION],
                outstanding=of["coins"],
                minted=of["minted"],
                deposited=of["deposited"],
            )
            for currency, of in sorted(sums.items())
            if currency
        }

    def journal_faults(self) -> Iterator[str]:
        """Ids have no gap, and no row speaks of a posting that is not in the journal."""
        before = 0
        for number in sorted(self.journal):
            if number != before + 1:
                yield f"journal {before + 1} to {number - 1}: missing"
            before = number
        facts = self.facts
        tables = (facts.entries, facts.issued, facts.spent, facts.payments, facts.answers, facts.fundings)
        named = {row.journal for table in tables for row in table}
        yield from (
            f"journal {number}: missing, but other rows name it" for number in sorted(named - set(self.journal))
        )

    def answer_faults(self) -> Iterator[str]:
        """Every posting has its answer, or is a funding; every answer has its posting."""
        answered: defaultdict[int, list[bytes]] = defaultdict(list)
        for answer in self.facts.answers:
            answered[answer.journal].append(answer.request_id)
            if answer.journal not in self.journal or self.journal[answer.journal].request_id != answer.request_id:
                yield f"answer {answer.request_id.hex()}: journal {answer.journal} is not of this request"
        fundings = Counter(row.journal for row in self.facts.fundings)
        for row in self.facts.journal:
            if row.kind == FUNDING:
                if row.request_id is not None or fundings[row.id] != 1:
                    yield f"journal {row.id}: a funding with {fundings[row.id]} references{self._amounts(row)}"
            elif row.request_id is None or answered[row.id] != [row.request_id]:
                yield f"journal {row.id}: a {row.kind} without its answer{self._amounts(row)}"

    def _amounts(self, row: JournalRow) -> str:
        moved = "; ".join(f"{ledger} {amount:+d}" for ledger, amount in sorted(self.moves[row.id].items()))
        return f" ({moved})" if moved else ""

    def entry_faults(self) -> Iterator[str]:
        """The entries of a posting sum to zero, in each currency for itself."""
        for number, moved in sorted(self.moves.items()):
            sums: Counter[str] = Counter()
            for ledger, amount in moved.items():
                currency = self.currency(ledger)
                sums[currency] += amount
                if not currency:
                    yield f"journal {number}: {amount:+d} in ledger {ledger}, which the bank does not have"
            for currency, amount in sorted(sums.items()):
                if amount:
                    yield f"journal {number}: the entries sum to {amount} {currency}, not 0"

    def cause_faults(self) -> Iterator[str]:
        """Money moves for coins or for a funding, and cash for a funding alone."""
        funded = {row.journal for row in self.facts.fundings}
        coined = {row.journal for row in self.facts.issued} | {row.journal for row in self.facts.spent}
        for number, moved in sorted(self.moves.items()):
            for ledger, amount in sorted(moved.items()):
                if number not in funded and (number not in coined or ledger.partition("/")[0] == CASH):
                    yield f"journal {number}: {amount:+d} in {ledger} without a cause"

    def folded_faults(self) -> Iterator[str]:
        """A folded balance is the sum of the entries that it stands for."""
        through = {row.ledger: row.through for row in self.facts.folded}
        sums = Counter[str]()
        for entry in self.facts.entries:
            if entry.journal <= through.get(entry.ledger, 0):
                sums[entry.ledger] += entry.amount
        for row in self.facts.folded:
            if row.amount != sums[row.ledger]:
                yield f"folded balance of {row.ledger}: {row.amount}, but the entries sum to {sums[row.ledger]}"
            if row.through not in self.journal:
                yield f"folded balance of {row.ledger}: {row.amount} through journal {row.through}, which is missing"

    def account_faults(self) -> Iterator[str]:
        """Nobody owes the bank, and the bank has taken no negative commission."""
        for ledger, amount in sorted(self.ledgers.items()):
            if amount < 0 and ledger.partition("/")[0] in _LIABILITIES:
                yield f"ledger {ledger}: the balance is {amount}"

    def coin_faults(self) -> Iterator[str]:
        """In each posting, the ledgers of e-cash move by the value of its coins: issued less spent."""
        counted: defaultdict[int, Counter[bytes]] = defaultdict(Counter)
        for issued in self.facts.issued:
            counted[issued.journal][issued.denomination] += 1
        for spent in self.facts.spent:
            counted[spent.journal][spent.denomination] -= 1
        worth = {coins_ledger(key): value for key, (value, _) in self.denominations.items()}
        for number in sorted(self.moves.keys() | counted.keys()):
            coins = {coins_ledger(key): count for key, count in counted[number].items()}
            moved = {ledger: amount for ledger, amount in self.moves[number].items() if ledger.startswith("coins/")}
            for ledger in sorted(coins.keys() | moved.keys()):
                amount, value = moved.get(ledger, 0), coins.get(ledger, 0) * worth.get(ledger, 0)
                if amount != value:
                    yield f"journal {number}: {ledger} moves by {amount}, the coins are worth {value}"

    def denomination_faults(self) -> Iterator[str]:
        """E-cash outstanding is what was issued and not spent; no more is spent than was issued."""
        for key in sorted(self.issued.keys() | self.spent.keys() | self.denominations.keys()):
            name, issued, spent = f"denomination {key.hex()}", self.issued[key], self.spent[key]
            if key not in self.denominations:
                yield f"{name}: unknown, but {issued} coins were issued and {spent} spent"
                continue
            value, currency = self.denominations[key]
            if spent > issued:
                yield f"{name}: {spent} coins spent of {issued} issued, {value * (spent - issued)} {currency} too much"
            outstanding = self.ledgers[coins_ledger(key)]
            if outstanding != value * (issued - spent):
                yield f"{name}: {outstanding} {currency} outstanding, the coins say {value * (issued - spent)}"

    def funding_faults(self) -> Iterator[str]:
        """A funding moves its amount from cash to its account, and nothing else."""
        for row in self.facts.fundings:
            name = f"funding {row.reference!r}: {row.amount} for account {row.account}"
            account = self.accounts.get(row.account)
            if account is None:
                yield f"{name}, which does not exist"
                continue
            entries = funding_entries(row.account, account.currency, row.amount)
            if self.moves[row.journal] != {entry.ledger: entry.amount for entry in entries}:
                yield f"{name}, but journal {row.journal} says otherwise"
            if row.journal in self.journal and self.journal[row.journal].kind != FUNDING:
                yield f"{name}, but journal {row.journal} is a {self.journal[row.journal].kind}"

    def payment_faults(self) -> Iterator[str]:
        """Each verdict says what its row says; what it accepted was paid in coins and credited."""
        coins: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
        accepted = {row.digest for row in self.facts.payments if row.accepted}
        for spent in self.facts.spent:
            value = self.denominations.get(spent.denomination, (0, ""))[0]
            coins[spent.digest][spent.journal] += value
            if spent.digest not in accepted:
                yield f"coin {spent.serial.hex()} of {value}: spent on no accepted payment ({spent.digest.hex()})"
        for row in self.facts.payments:
            name = f"payment {row.digest.hex()}"
            try:
                verdict = Verdict.decode(Signed.decode(row.verdict).statement)
            except PeerError as error:
                yield f"{name}: the verdict cannot be read: {error}"
                continue
            said = (verdict.digest, verdict.account, verdict.payment_id, verdict.refusal == "")
            if said != (row.digest, row.account, row.payment_id, bool(row.accepted)):
                yield f"{name}: the row differs from its verdict on {verdict.amount} for account {verdict.account}"
            if row.accepted:
                yield from self._deposit_faults(name, row, verdict, coins[row.digest])

    def _deposit_faults(self, name: str, row: PaymentRow, verdict: Verdict, coins: Counter[int]) -> Iterator[str]:
        if coins != {row.journal: verdict.amount}:
            paid = ", ".join(f"{value} in journal {number}" for number, value in sorted(coins.items())) or "nothing"
            yield f"{name}: the verdict accepts {verdict.amount} in journal {row.journal}, the coins pay {paid}"
        moved = self.moves[row.journal]
        credited, commission = moved[account_ledger(row.account)], moved[f"{COMMISSION}/{verdict.currency}"]
        if credited + commission != verdict.amount or credited < 0 or commission < 0:
            yield f"{name}: of {verdict.amount}, {credited} were credited to account {row.account}, {commission} kept"

    def sheet_faults(self) -> Iterator[str]:
        """All that the bank owes and has earned is there in cash."""
        for currency, of in self.totals().items():
            owed = of.accounts + of.commission + of.outstanding
            if of.cash != -owed:
                yield f"{currency}: {-of.cash} in cash, but accounts, commission and e-cash sum to {owed}"
