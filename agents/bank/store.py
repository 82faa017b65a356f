"""The `Books` port: where the bank's accounts, ledger, spent list and answers are kept; and what an audit reads."""

from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

import msgspec

from protocol.bank.desk import Account
from protocol.bank.ledger import Conflict, Outcome, Payment, Posting, Repeated

FUNDING: Final = "funding"
"""The journal's kind for money that the operator has received; every other kind is one of a request."""


class BooksError(Exception):
    """Base of the errors of the books; never raised itself."""


class BooksUnavailable(BooksError):
    """The books cannot be read or written now, and nothing was told; ask again, with the same request id."""


class BooksLost(BooksUnavailable):
    """The books have stopped for good, and so must the process: a new one sees what is on the disk."""


class AccountNameTaken(BooksError):
    """There is an account of this kind and name."""


class KeyHasAccount(BooksError):
    """The key holds an account already."""


class NoSuchAccount(BooksError):
    """There is no account of this number."""


class ReferenceReused(BooksError):
    """The reference was booked for another account or amount."""


class JournalRow(NamedTuple):
    """One posting. Ids count from 1 without a gap; `request_id` is None if nobody asked (funding)."""

    id: int
    kind: str
    request_id: bytes | None
    at: int


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
    """A coin on the spent list, and the digest of the payment that it was spent on."""

    denomination: bytes
    serial: bytes
    digest: bytes
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


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All facts in the books at one moment, as far as they concern money."""

    accounts: tuple[Account, ...]
    journal: tuple[JournalRow, ...]
    entries: tuple[EntryRow, ...]
    folded: tuple[FoldedRow, ...]
    issued: tuple[IssuedRow, ...]
    spent: tuple[SpentRow, ...]
    payments: tuple[PaymentRow, ...]
    answers: tuple[AnswerRow, ...]
    fundings: tuple[FundingRow, ...]


class Books(Protocol):
    """The bank's books. All that returns is durable; every method may raise `BooksUnavailable`.

    Usable in `async with` only, and from one event loop.
    """

    async def __aenter__(self) -> Self:
        """Open the books; make them if there are none.

        Raises:
            NewerSchema: a later release has written them; they are left untouched.
        """
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the books."""
        ...

    async def close(self) -> None:
        """Finish what was asked for before, and close; whatever is asked later raises `BooksUnavailable`."""
        ...

    async def post(self, posting: Posting) -> Outcome:
        """Make everything in a posting durable, or nothing.

        The first of these that applies is the outcome:

        1. the request was answered before: `Repeated`, or `Conflict` with `REQUEST_ID_REUSED` if its hash differs;
        2. the books' time has reached `not_after`: `PAYMENT_EXPIRED` for an accepting verdict, else `REQUEST_EXPIRED`;
        3. the payment has its verdict: no refusal, but that verdict;
        4. the verdict accepts, and another payment of this id was accepted for the account: `ALREADY_PAID`;
        5. coins are on the spent list: `ALREADY_SPENT`, with evidence for each of them, in the order of the posting;
        6. the claimed account has a key: `INVALID_INVITATION`; the key has an account: `ACCOUNT_EXISTS`;
        7. a blinded value was signed under its denomination: `BLINDED_VALUE_REUSED`;
        8. a customer's ledger would fall below zero: `INSUFFICIENT_FUNDS`;
        9. `Posted`.

        Raises:
            OurError: the posting contradicts itself: its entries do not sum to zero, a coin stands twice, coins
                are spent on no payment, a field has an impossible size.
        """
        ...

    async def stored_answer(self, request_id: bytes, request_hash: bytes) -> Repeated | Conflict | None:
        """Return what `post` would return for a request that was answered before; None if it was not."""
        ...

    async def inquiry(self, digest: bytes, denomination: bytes, serial: bytes) -> tuple[Payment | None, bytes, int]:
        """Tell what became of a payment, after all postings that were asked for before.

        Returns:
            The payment, if it has a verdict; the digest that the coin was spent on, or b""; the books' time in
            milliseconds. No posting whose `not_after` is that time or earlier can still be made.
        """
        ...

    async def open_account(
        self, kind: str, name: str, title: str, currency: str, key: bytes, invitation_hash: bytes
    ) -> Account:
        """Open an account for a 32-byte key, or (key b"") for whoever shows the invitation with this SHA-256.

        Numbers count from 1001.

        Raises:
            AccountNameTaken: there is an account of this kind and name.
            KeyHasAccount: the key holds an account already.
            OurError: neither key nor invitation, an unknown kind, a wrong size, or an invitation given before.
        """
        ...

    async def account_by_key(self, key: bytes) -> Account | None:
        """Return the account that the key holds."""
        ...

    async def account_by_invitation(self, invitation_hash: bytes) -> Account | None:
        """Return the account that waits for the invitation with this SHA-256; None once it is claimed."""
        ...

    async def accounts(self) -> list[tuple[Account, int]]:
        """Return all accounts with their balances, by number."""
        ...

    async def balance(self, number: int) -> int:
        """Return an account's balance in minor units; raise `NoSuchAccount` if there is none of this number."""
        ...

    async def credit(self, account: int, amount: int, reference: str) -> bool:
        """Book money that the operator has received for an account, once for each reference.

        Returns:
            False, without effect, if the same was booked before.

        Raises:
            NoSuchAccount: there is no account of this number.
            ReferenceReused: the reference was booked for another account or amount.
            OurError: the amount is not in 1 … 2**53 - 1.
        """
        ...

    async def keysets(self) -> list[bytes]:
        """Return the keysets that were added, by number."""
        ...

    async def add_keyset(self, number: int, data: bytes) -> None:
        """Keep a keyset; raise OurError if another one has this number."""
        ...

    async def snapshot(self) -> Snapshot:
        """Return what an audit needs, all from one moment between two postings."""
        ...
