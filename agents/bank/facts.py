"""What an audit reads: rows of the books, as they are."""

from typing import NamedTuple

import msgspec

from protocol.bank.desk import Account


class JournalRow(NamedTuple):
    """One posting. Ids count from 1 without a gap; `request_id` is None if the operator asked."""

    id: int
    kind: str
    request_id: bytes | None
    at: int


class SealRow(NamedTuple):
    """The seal of a posting, as it was stored."""

    journal: int
    digest: bytes


class EntryRow(NamedTuple):
    """What a posting did to a ledger, in signed minor units."""

    journal: int
    ledger: str
    amount: int


class FoldedRow(NamedTuple):
    """The sum of a ledger's entries through a journal id."""

    ledger: str
    through: int
    amount: int


class IssuedRow(NamedTuple):
    """A blinded value that was signed."""

    denomination: bytes
    blinded_hash: bytes
    journal: int


class SpentRow(NamedTuple):
    """A coin on the spent list, the digest that it was spent on, and its holder's signature over that."""

    denomination: bytes
    serial: bytes
    digest: bytes
    spend: bytes
    journal: int


class PaymentRow(NamedTuple):
    """A verdict; `accepted` is 0 or 1."""

    digest: bytes
    account: int
    payment_id: bytes
    accepted: int
    verdict: bytes
    journal: int


class AnswerRow(NamedTuple):
    """Which posting a request was answered with."""

    request_id: bytes
    journal: int


class FundingRow(NamedTuple):
    """Money that the operator has received for an account."""

    reference: str
    account: int
    amount: int
    journal: int


class WithdrawalRow(NamedTuple):
    """A withdrawal, by its number in the account, with what its coins are worth."""

    account: int
    number: int
    request_id: bytes
    amount: int
    journal: int


class RedemptionRow(NamedTuple):
    """Coins that went back into an account, and what they were worth."""

    account: int
    amount: int
    journal: int


class TransferRow(NamedTuple):
    """A payout: the posting that queued it, its ACH file, its settlement and its return; 0 for what has not been."""

    number: int
    account: int
    amount: int
    commission: int
    journal: int
    file: int
    settled: int
    returned: int


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All facts in the books at one moment, as far as they concern money.

    `damage` is what the database says of its own file, a sentence for each fault; `rows` is the hash of each posting's
    rows, by journal id.
    """

    damage: tuple[str, ...]
    accounts: tuple[Account, ...]
    journal: tuple[JournalRow, ...]
    seals: tuple[SealRow, ...]
    rows: dict[int, bytes]
    entries: tuple[EntryRow, ...]
    folded: tuple[FoldedRow, ...]
    issued: tuple[IssuedRow, ...]
    spent: tuple[SpentRow, ...]
    payments: tuple[PaymentRow, ...]
    answers: tuple[AnswerRow, ...]
    fundings: tuple[FundingRow, ...]
    withdrawals: tuple[WithdrawalRow, ...]
    redemptions: tuple[RedemptionRow, ...]
    transfers: tuple[TransferRow, ...]
