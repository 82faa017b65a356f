"""The bank's double-entry ledger: what a posting is, and the journal entries of each operation.

Amounts are signed minor units: positive credits a ledger account, negative debits it. The entries of one posting sum
to zero. Money outside the bank is an asset, so `cash/USD` runs negative; what the bank owes runs positive:
`account/1001` (a customer), `coins/<denomination id>` (e-cash outstanding), `clearing/USD` (on its way to acquirer
banks), `commission/USD` (earned).
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from ..coins import Evidence
from ..errors import OurError


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One line of a journal entry: `amount` is credited (positive) or debited (negative)."""

    ledger: str
    amount: int


class Spending(msgspec.Struct, frozen=True):
    """A coin to be entered in the spent list, under its denomination key and serial number (32 bytes each)."""

    denomination: bytes
    serial: bytes
    spend: bytes


class Payment(msgspec.Struct, frozen=True):
    """A payment's place in the bank's books: one verdict for each digest, one accepted payment for each sale.

    `verdict` is the bank's `Signed` verdict, `accepted` tells what it says, and `commission` what it cost. `info` is
    the encoded payment information, with the hashes of order and payer.
    """

    digest: bytes
    account: int
    payment_id: bytes
    accepted: bool
    verdict: bytes
    info: bytes = b""
    commission: int = 0


class Claim(msgspec.Struct, frozen=True):
    """An account that was opened by invitation gets its holder's key, once; its generation is 1 then."""

    account: int
    key: bytes


class Generation(msgspec.Struct, frozen=True):
    """An account is at this generation, or (`taken_over`) comes to it from the one before."""

    account: int
    number: int
    taken_over: bool = False


class Withdrawal(msgspec.Struct, frozen=True):
    """A withdrawal's place in the books, from which recovery finds its answer.

    `amount` is the value of its coins; `settled` are the request ids of earlier ones that need not be recovered.
    """

    account: int
    amount: int
    settled: tuple[bytes, ...] = ()


class Redemption(msgspec.Struct, frozen=True):
    """Coins worth `amount` go back into an account: never more, in all, than its withdrawals were worth.

    `revoked` of it is the value of coins of revoked denominations. For these only withdrawals count that came before
    the time `before` (milliseconds since 1970): else a thief of the key would withdraw good coins for forged ones,
    redeem those, and begin anew.
    """

    account: int
    amount: int
    revoked: int = 0
    before: int = 0


class PayoutOrder(msgspec.Struct, frozen=True):
    """Money that leaves an account for the one that its holder has at an acquirer bank."""

    account: int
    amount: int
    commission: int


class Reply(msgspec.Struct, frozen=True):
    """An answer to somebody else's request, stored beside the posting's own: that to a refund's ticket."""

    request_id: bytes
    request_hash: bytes
    answer: bytes


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one request changes, made durable in one transaction or not at all, with its answer.

    Attributes:
        kind: the kind of request, for the journal.
        request_id: 16 bytes; at most one posting for each.
        request_hash: 32 bytes; tells a repeated request from another one under the same id.
        answer: the sealed answer, byte for byte.
        entries: sum to zero; no `account/…` or `coins/…` ledger may fall below zero.
        issued: SHA-256 of each blinded value signed, under its denomination id; never the same twice.
        spent: coins for the spent list; never the same twice.
        spent_on: the 32-byte digest that all of them were spent on; that of `payment`, if there is one.
        payment: the verdict to store, if there is one.
        claim: an account's key, if this request claims one.
        generation: at which the account must be, or to which it comes.
        withdrawal, redemption, payout: what the operation is to the account, if it is one of these.
        reply: an answer to somebody else's request.
        not_after: if not 0, refuse unless the commit comes before this time (milliseconds since 1970).
    """

    kind: str
    request_id: bytes
    request_hash: bytes
    answer: bytes
    entries: tuple[Entry, ...] = ()
    issued: tuple[tuple[bytes, bytes], ...] = ()
    spent: tuple[Spending, ...] = ()
    spent_on: bytes = b""
    payment: Payment | None = None
    claim: Claim | None = None
    generation: Generation | None = None
    withdrawal: Withdrawal | None = None
    redemption: Redemption | None = None
    payout: PayoutOrder | None = None
    reply: Reply | None = None
    not_after: int = 0


class Posted(msgspec.Struct, frozen=True):
    """The posting is durable; `answer` may leave."""

    answer: bytes


class Repeated(msgspec.Struct, frozen=True):
    """The same request was answered before: this is that answer."""

    answer: bytes


class Conflict(msgspec.Struct, frozen=True):
    """Nothing was changed, because of what the books say: a refusal code, and what proves it.

    `verdict` and `commission` are set if the payment has its verdict already; then there is nothing left to decide.
    `overdrawn` is the id of a denomination of which more coins would have come back than were ever signed.
    """

    refusal: str
    evidence: tuple[Evidence, ...] = ()
    verdict: bytes = b""
    commission: int = 0
    overdrawn: bytes = b""


Outcome: TypeAlias = Posted | Repeated | Conflict

CASH: Final = "cash"
CLEARING: Final = "clearing"
COMMISSION: Final = "commission"


def account_ledger(account: int) -> str:
    """Return the ledger of a customer's account."""
    return f"account/{account}"


def coins_ledger(denomination: bytes) -> str:
    """Return the ledger of e-cash outstanding under a denomination key."""
    return f"coins/{denomination.hex()}"


def withdrawal_entries(account: int, currency: str, issued: Mapping[bytes, int], commission: int) -> tuple[Entry, ...]:
    """Return the entries of a withdrawal: `issued` maps denomination id to total value."""
    total = sum(issued.values())
    return _balanced(
        Entry(account_ledger(account), -total - commission),
        *(Entry(coins_ledger(denomination), value) for denomination, value in sorted(issued.items())),
        Entry(f"{COMMISSION}/{currency}", commission),
    )


def deposit_entries(account: int, currency: str, spent: Mapping[bytes, int], commission: int) -> tuple[Entry, ...]:
    """Return the entries of a deposit or a redemption: `spent` maps denomination id to total value."""
    total = sum(spent.values())
    return _balanced(
        *(Entry(coins_ledger(denomination), -value) for denomination, value in sorted(spent.items())),
        Entry(account_ledger(account), total - commission),
        Entry(f"{COMMISSION}/{currency}", commission),
    )


def exchange_entries(
    currency: str, spent: Mapping[bytes, int], issued: Mapping[bytes, int], commission: int
) -> tuple[Entry, ...]:
    """Return the entries of an exchange; both map denomination id to total value."""
    return _balanced(
        *(Entry(coins_ledger(denomination), -value) for denomination, value in sorted(spent.items())),
        *(Entry(coins_ledger(denomination), value) for denomination, value in sorted(issued.items())),
        Entry(f"{COMMISSION}/{currency}", commission),
    )


def payout_entries(account: int, currency: str, amount: int, commission: int) -> tuple[Entry, ...]:
    """Return the entries of a payout that is queued."""
    return _balanced(
        Entry(account_ledger(account), -amount - commission),
        Entry(f"{CLEARING}/{currency}", amount),
        Entry(f"{COMMISSION}/{currency}", commission),
    )


def settlement_entries(currency: str, amount: int) -> tuple[Entry, ...]:
    """Return the entries of a payout that has left the bank."""
    return _balanced(Entry(f"{CLEARING}/{currency}", -amount), Entry(f"{CASH}/{currency}", amount))


def return_entries(account: int, currency: str, amount: int, *, settled: bool) -> tuple[Entry, ...]:
    """Return the entries of a payout that came back, `settled` or still on its way: the account is credited."""
    source = f"{CASH if settled else CLEARING}/{currency}"
    return _balanced(Entry(source, -amount), Entry(account_ledger(account), amount))


def funding_entries(account: int, currency: str, amount: int) -> tuple[Entry, ...]:
    """Return the entries of money that the operator has received for an account."""
    return _balanced(Entry(f"{CASH}/{currency}", -amount), Entry(account_ledger(account), amount))


def _balanced(*entries: Entry) -> tuple[Entry, ...]:
    if sum(entry.amount for entry in entries) != 0:
        raise OurError("journal entries do not sum to zero")
    return tuple(entry for entry in entries if entry.amount)
