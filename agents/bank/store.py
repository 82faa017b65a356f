"""The `Books` port: where the bank's accounts, ledger, spent list and answers are kept."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from protocol.bank.desk import Account
from protocol.bank.ledger import Conflict, Outcome, Payment, Posting, Repeated
from protocol.coins import Evidence

from .facts import Snapshot

FUNDING: Final = "funding"
"""The journal's kind for money that the operator has received."""
SETTLEMENT: Final = "settlement"
"""The journal's kind for a payout that has left the bank."""
PAYOUT_RETURN: Final = "payout_return"
"""The journal's kind for a payout that came back. The kinds beside these three are those of requests."""


MOST_PAYOUTS: Final = 10_000
MOST_IN_SUM: Final = 999_999_999_999
"""What one ACH file holds: so many transfers here, and a sum of twelve digits."""


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


class TooMany(BooksError):
    """There is more to tell than fits in one answer."""


class WrongState(BooksError):
    """The payout is not in the state that this needs; the text says in which it is."""


class StoredRow(NamedTuple):
    """An answer as it was given, and the hash of the request that it answers."""

    request_id: bytes
    request_hash: bytes
    answer: bytes


class Kept(NamedTuple):
    """Answers to withdrawals, the oldest first; of `total` that are kept; the number to go on from, 0 at the end."""

    withdrawals: list[StoredRow]
    total: int
    next: int


class DestinationRow(NamedTuple):
    """Where an account's payouts go: ABA routing number, account number, `checking` or `savings`, holder."""

    routing: str
    number: str
    kind: str
    holder: str


class PayoutRow(NamedTuple):
    """A payout. `state` is queued, exported, settled or returned; `file` numbers the ACH file, 0 before the export.

    `destination` is what it was when the payout was exported, or is, before.
    """

    number: int
    account: int
    currency: str
    amount: int
    commission: int
    state: str
    reason: str
    file: int
    at: int
    destination: DestinationRow


class MintedRow(NamedTuple):
    """How many coins of a denomination were signed and how many are on the spent list."""

    denomination: bytes
    minted: int
    spent: int


class CommissionRow(NamedTuple):
    """What so many postings of one kind have earned in a currency, in minor units."""

    kind: str
    currency: str
    postings: int
    amount: int


class ChangeRow(NamedTuple):
    """How many coins of a denomination were signed, and how many came back, in the step of this number (from 0)."""

    denomination: bytes
    step: int
    minted: int
    spent: int


class Business(NamedTuple):
    """The books at the time `at`, through journal entry `journal`: balances and account currencies by ledger.

    Time is divided into steps, each `step` milliseconds long, the first of which begins at `begin`.
    """

    at: int
    journal: int
    balances: dict[str, int]
    currencies: dict[str, str]
    commissions: list[CommissionRow]
    begin: int
    step: int
    changes: list[ChangeRow]


class StatementRow(NamedTuple):
    """A posting that moved an account; `reference` is that of a funding."""

    journal: int
    kind: str
    at: int
    amount: int
    reference: str


class AchFileRow(NamedTuple):
    """An ACH file: when it was written, how many payouts are in it, and their sum in minor units."""

    number: int
    at: int
    payouts: int
    amount: int


class Books(Protocol):
    """The bank's books. All that returns is durable; every method may raise `BooksUnavailable`.

    Usable in `async with` only, and from one event loop.
    """

    async def __aenter__(self) -> Self:
        """Open the books; make them if there are none.

        Raises:
            NewerSchema: a later release has written them; they are left untouched.
            OlderSchema: an earlier release has written them; they are left untouched.
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
        3. the account is not at the generation, or (`taken_over`) not at the one before: `SUPERSEDED`;
        4. the payment has its verdict: no refusal, but that verdict;
        5. the verdict accepts, and another payment of this id was accepted for the account: `ALREADY_PAID`;
        6. coins are on the spent list: `ALREADY_SPENT`, with evidence for each of them, in the order of the posting;
        7. the claimed account has a key: `INVALID_INVITATION`; the key has an account: `ACCOUNT_EXISTS`;
        8. a blinded value was signed under its denomination: `BLINDED_VALUE_REUSED`;
        9. the request of `reply` has an answer: `REQUEST_ID_REUSED`;
        10. the account would have redeemed more than it has withdrawn, or more revoked coins than are left of what it
            withdrew before the revocation: `REDEMPTION_CAPPED`;
        11. no destination is known for the account's payout: `NO_DESTINATION`;
        12. more coins of a denomination would have come back than were signed, by value: `KEY_OVERDRAWN`, with the
            denomination;
        13. a customer's ledger would fall below zero: `INSUFFICIENT_FUNDS`;
        14. `Posted`.

        Raises:
            OurError: the posting contradicts itself: its entries do not sum to zero, a coin stands twice, coins
                are spent on nothing or on another digest than the payment's, an account does not exist, a field has
                an impossible size.
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

    async def withdrawals(self, account: int, start: int) -> Kept:
        """Return answers to the account's withdrawals that recovery serves, from number `start` on.

        These are its last `KEPT_WITHDRAWALS` and all older ones that are not settled. At most that many are returned
        at once, and no more than fit in an answer: 250,000 bytes (an answer is
        padded to a power of two), but at least one. Numbers count an account's
        withdrawals from 1.
        """
        ...

    async def fetch(self, request_id: bytes) -> StoredRow | None:
        """Return the answer to the request with this id, whoever asked it."""
        ...

    async def spendings(self, denomination: bytes, prefix: str) -> list[Evidence]:
        """Return all spent coins of a denomination whose serial numbers begin with these hexadecimal digits.

        Raises:
            TooMany: they are more than `MAX_SPENDINGS`.
        """
        ...

    async def spent(self, coins: Sequence[tuple[bytes, bytes]]) -> tuple[Evidence, ...]:
        """Return evidence for those of these coins (denomination, serial) that are spent, in their order."""
        ...

    async def payments(self, payment_id: bytes) -> list[Payment]:
        """Return the accepted payments of this id, at most one for each merchant's account."""
        ...

    async def set_destination(self, account: int, destination: DestinationRow) -> None:
        """Enter where a merchant's payouts go; those not exported yet follow.

        Raises:
            NoSuchAccount: there is no merchant's account of this number.
        """
        ...

    async def payouts(self, account: int = 0, state: str = "", limit: int = 1000) -> list[PayoutRow]:
        """Return payouts, the newest first: of one account (0: of all), in one state ("": in any)."""
        ...

    async def export_payouts(self, write: Callable[[int, int, Sequence[PayoutRow]], bytes]) -> tuple[int, bytes] | None:
        """Put queued payouts into a new ACH file, in one transaction: they are exported then, and never again.

        These are the first ones, as many as one file holds: `MOST_PAYOUTS`, worth at most `MOST_IN_SUM`.

        Args:
            write: given the file's number (from 1), the time in milliseconds and the payouts by number, returns the
                file. It runs in the writer's thread.

        Returns:
            The file's number and bytes; None, if nothing is queued.
        """
        ...

    async def ach_file(self, number: int = 0) -> tuple[int, bytes] | None:
        """Return a file as it was written, with its number; the last one for 0; None if there is none."""
        ...

    async def settle_payout(self, number: int, amount: int) -> bool:
        """Book that an exported payout has left the bank; return False if that was booked before.

        Raises:
            WrongState: there is no such payout, it has another amount, was not exported, or was returned.
        """
        ...

    async def return_payout(self, number: int, amount: int, reason: str) -> bool:
        """Credit the account with a payout that came back, for a reason; return False if that was booked before.

        Raises:
            WrongState: there is no such payout, it has another amount, or was not exported.
        """
        ...

    async def last_entry(self) -> int:
        """Return the number of the last journal entry, 0 in new books."""
        ...

    async def minted(self) -> tuple[int, list[MintedRow]]:
        """Return the number of the last journal entry and what was minted and spent until then, by denomination.

        All coins are counted, so it may take long: ask `last_entry` first.
        """
        ...

    async def business(self) -> Business:
        """Return what the operator wants to see of the books, all from one moment, in at most 60 steps of time.

        All coins are counted, so it may take long: ask `last_entry` first.
        """
        ...

    async def statement(self, account: int, limit: int) -> list[StatementRow]:
        """Return the last postings that moved an account, the newest first."""
        ...

    async def ach_files(self) -> list[AchFileRow]:
        """Return the ACH files, the newest first."""
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
