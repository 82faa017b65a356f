"""The part of the audit that checks each operation: coins, fundings, deposits, withdrawals, redemptions, payouts."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from protocol.bank.ledger import (
    CLEARING,
    COMMISSION,
    Entry,
    account_ledger,
    coins_ledger,
    funding_entries,
    payout_entries,
    return_entries,
    settlement_entries,
)
from protocol.errors import PeerError
from protocol.exchange import EXCHANGE, REFUND
from protocol.messages import Signed, Verdict
from protocol.payout import PAYOUT
from protocol.recovery import REDEEM

from .arranged import COINS, Arranged
from .facts import PaymentRow, TransferRow
from .store import FUNDING, PAYOUT_RETURN, SETTLEMENT

_WITHDRAW: Final = "withdraw"


def _coin_faults(books: Arranged) -> Iterator[str]:
    """In each posting, the ledgers of e-cash move by the value of its coins: issued less spent."""
    worth = {coins_ledger(key): value for key, (value, _) in books.denominations.items()}
    for number in sorted(books.moves.keys() | books.minted.keys() | books.taken.keys()):
        counted = Counter(books.minted.get(number, {}))
        counted.subtract(books.taken.get(number, {}))
        coins = {coins_ledger(key): count for key, count in counted.items()}
        moves = books.moves.get(number, Counter[str]())
        moved = {ledger: amount for ledger, amount in moves.items() if ledger.startswith(f"{COINS}/")}
        for ledger in sorted(coins.keys() | moved.keys()):
            amount, value = moved.get(ledger, 0), coins.get(ledger, 0) * worth.get(ledger, 0)
            if amount != value:
                yield f"journal {number}: {ledger} moves by {amount}, the coins are worth {value}"


def _denomination_faults(books: Arranged) -> Iterator[str]:
    """E-cash outstanding is what was issued and not spent; no more is spent than was issued."""
    for key in sorted(books.issued.keys() | books.spent.keys() | books.denominations.keys()):
        name, issued, spent = f"denomination {key.hex()}", books.issued[key], books.spent[key]
        if key not in books.denominations:
            yield f"{name}: unknown, but {issued} coins were issued and {spent} spent"
            continue
        value, currency = books.denominations[key]
        if spent > issued:
            yield f"{name}: {spent} coins spent of {issued} issued, {value * (spent - issued)} {currency} too much"
        outstanding = books.ledgers[coins_ledger(key)]
        if outstanding != value * (issued - spent):
            yield f"{name}: {outstanding} {currency} outstanding, the coins say {value * (issued - spent)}"


def _minting_faults(books: Arranged) -> Iterator[str]:
    """Coins are issued to a withdrawal, a refund's ticket, or for the coins of an exchange."""
    for number, coins in sorted(books.minted.items()):
        if books.kind(number) not in {_WITHDRAW, EXCHANGE, REFUND}:
            yield f"journal {number}: coins worth {books.worth(coins)} issued by a {books.kind(number)}"
    for number in sorted(books.minted.keys() | books.taken.keys()):
        minted, taken = (books.worth(coins.get(number, Counter())) for coins in (books.minted, books.taken))
        if books.kind(number) == EXCHANGE and not 0 < minted <= taken:
            yield f"journal {number}: an exchange of coins worth {taken} for {minted}"


def _spent_faults(books: Arranged) -> Iterator[str]:
    """A coin is spent on an accepted payment, or by an exchange or a redemption, all of its coins on one digest."""
    accepted = {row.digest for row in books.facts.payments if row.accepted}
    digests: dict[int, bytes] = {}
    for row in books.facts.spent:
        value = books.denominations.get(row.denomination, (0, ""))[0]
        name = f"coin {row.serial.hex()} of {value}"
        if row.digest in accepted:
            continue
        if books.kind(row.journal) not in {EXCHANGE, REDEEM}:
            yield f"{name}: spent on no accepted payment ({row.digest.hex()})"
        elif digests.setdefault(row.journal, row.digest) != row.digest:
            yield f"{name}: not spent on what the other coins of journal {row.journal} were ({row.digest.hex()})"


def _funding_faults(books: Arranged) -> Iterator[str]:
    """A funding moves its amount from cash to its account, and nothing else."""
    for row in books.facts.fundings:
        name = f"funding {row.reference!r}: {row.amount} for account {row.account}"
        account = books.accounts.get(row.account)
        if account is None:
            yield f"{name}, which does not exist"
            continue
        entries = funding_entries(row.account, account.currency, row.amount)
        yield from _posting_faults(books, name, row.journal, FUNDING, entries)


def _posting_faults(books: Arranged, name: str, journal: int, kind: str, entries: Iterable[Entry]) -> Iterator[str]:
    if books.moves.get(journal, {}) != {entry.ledger: entry.amount for entry in entries}:
        yield f"{name}, but journal {journal} says otherwise"
    if books.kind(journal) not in {kind, ""}:
        yield f"{name}, but journal {journal} is a {books.kind(journal)}"


def _payment_faults(books: Arranged) -> Iterator[str]:
    """Each verdict says what its row says; what it accepted was paid in coins and credited."""
    coins: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
    for spent in books.facts.spent:
        coins[spent.digest][spent.journal] += books.denominations.get(spent.denomination, (0, ""))[0]
    for row in books.facts.payments:
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
            yield from _deposit_faults(books, name, row, verdict, coins[row.digest])


def _deposit_faults(
    books: Arranged, name: str, row: PaymentRow, verdict: Verdict, coins: Counter[int]
) -> Iterator[str]:
    if coins != {row.journal: verdict.amount}:
        paid = ", ".join(f"{value} in journal {number}" for number, value in sorted(coins.items())) or "nothing"
        yield f"{name}: the verdict accepts {verdict.amount} in journal {row.journal}, the coins pay {paid}"
    yield from _credit_faults(books, f"{name}: of {verdict.amount}", row.journal, row.account, verdict.amount)


def _credit_faults(books: Arranged, name: str, journal: int, account: int, amount: int) -> Iterator[str]:
    """What coins were worth is credited, less a commission."""
    moved, ledger = books.moves.get(journal, Counter[str]()), account_ledger(account)
    credited, commission = moved[ledger], moved[f"{COMMISSION}/{books.currency(ledger)}"]
    if credited + commission != amount or credited < 0 or commission < 0:
        yield f"{name}, {credited} were credited to account {account}, {commission} kept"


def _withdrawal_faults(books: Arranged) -> Iterator[str]:
    """Each withdrawal has its row, numbered from 1 in its account, with the value of the coins that were issued."""
    numbers: defaultdict[int, list[int]] = defaultdict(list)
    rows: Counter[int] = Counter()
    for row in books.facts.withdrawals:
        numbers[row.account].append(row.number)
        rows[row.journal] += 1
        name = f"withdrawal {row.number} of account {row.account}"
        posting = books.journal.get(row.journal)
        if posting and (posting.kind, posting.request_id) != (_WITHDRAW, row.request_id):
            yield f"{name}: {row.amount}, but journal {row.journal} is of another request, a {posting.kind}"
        issued = books.worth(books.minted.get(row.journal, Counter()))
        if issued != row.amount:
            yield f"{name}: {row.amount}, but coins worth {issued} were issued in journal {row.journal}"
    for account, found in sorted(numbers.items()):
        if sorted(found) != list(range(1, len(found) + 1)):
            yield f"account {account}: has {len(found)} withdrawals, but the last one is number {max(found)}"
    for number, coins in sorted(books.minted.items()):
        if books.kind(number) == _WITHDRAW and rows[number] != 1:
            yield f"journal {number}: coins worth {books.worth(coins)} withdrawn, with {rows[number]} withdrawals"


def _redemption_faults(books: Arranged) -> Iterator[str]:
    """Each redemption credits what its coins were worth; at no time more was redeemed than had been withdrawn."""
    for row in books.facts.redemptions:
        name = f"redemption of {row.amount} for account {row.account}"
        if books.kind(row.journal) not in {REDEEM, ""}:
            yield f"{name}: journal {row.journal} is a {books.kind(row.journal)}"
        spent = books.worth(books.taken.get(row.journal, Counter()))
        if spent != row.amount:
            yield f"{name}: coins worth {spent} were spent in journal {row.journal}"
        yield from _credit_faults(books, name, row.journal, row.account, row.amount)
    changes = [(row.journal, row.account, row.amount) for row in books.facts.withdrawals]
    changes += [(row.journal, row.account, -row.amount) for row in books.facts.redemptions]
    left: Counter[int] = Counter()
    for journal, account, amount in sorted(changes):
        left[account] += amount
        if left[account] < 0:
            yield f"journal {journal}: account {account} has redeemed {-left[account]} more than it had withdrawn"


def _transfer_faults(books: Arranged) -> Iterator[str]:
    """A payout is queued, exported, and then settled or returned, and each step moves its amount."""
    clearing: Counter[str] = Counter()
    for row in books.facts.transfers:
        name = f"payout {row.number}: {row.amount} for account {row.account}"
        account = books.accounts.get(row.account)
        if account is None:
            yield f"{name}, which does not exist"
            continue
        if not row.settled and not row.returned:
            clearing[account.currency] += row.amount
        if not row.file and (row.settled or row.returned):
            yield f"{name}, settled or returned, but never exported"
        if row.settled > row.returned > 0:
            yield f"{name}, settled in journal {row.settled}, after it was returned"
        yield from _step_faults(books, name, account.currency, row)
    ledgers = (ledger for ledger in books.ledgers if ledger.partition("/")[0] == CLEARING)
    for currency in sorted({books.currency(ledger) for ledger in ledgers} | clearing.keys()):
        balance = books.ledgers[f"{CLEARING}/{currency}"]
        if balance != clearing[currency]:
            yield f"ledger {CLEARING}/{currency}: {balance}, but payouts on their way sum to {clearing[currency]}"


def _step_faults(books: Arranged, name: str, currency: str, row: TransferRow) -> Iterator[str]:
    queued = payout_entries(row.account, currency, row.amount, row.commission)
    yield from _posting_faults(books, name, row.journal, PAYOUT, queued)
    if row.settled:
        left = settlement_entries(currency, row.amount)
        yield from _posting_faults(books, f"{name}, settled", row.settled, SETTLEMENT, left)
    if row.returned:
        came_back = return_entries(row.account, currency, row.amount, settled=bool(row.settled))
        yield from _posting_faults(books, f"{name}, returned", row.returned, PAYOUT_RETURN, came_back)


OPERATIONS: Final = (
    _coin_faults,
    _denomination_faults,
    _minting_faults,
    _spent_faults,
    _funding_faults,
    _payment_faults,
    _withdrawal_faults,
    _redemption_faults,
    _transfer_faults,
)
"""All checks; each yields a sentence for each fault."""
