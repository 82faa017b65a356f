"""Postings, a clock and the fixtures with which the suites of the `Books` port are written."""

import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest

from agents.bank.audit import audit
from agents.bank.store import Books
from protocol.bank.desk import Account
from protocol.bank.ledger import Conflict, Outcome, Payment, Posting, Spending, deposit_entries, withdrawal_entries
from protocol.messages import Signed, Verdict
from protocol.signatures import Domain

IDENTITY: Final = bytes(32)
VALUES: Final = {8: hashlib.sha256(b"eight").digest(), 2: hashlib.sha256(b"two").digest()}
DENOMINATIONS: Final = {key: (value, "EUR") for value, key in VALUES.items()}
_fresh = itertools.count()


class ManualClock:
    """A clock that a test sets, in milliseconds."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


OpenBooks = Callable[[], Books]


def h(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def coin(name: str, value: int = 8) -> Spending:
    return Spending(VALUES[value], h(name), h(name) * 2)


def request(kind: str = "account", name: str = "", **parts: Any) -> Posting:
    """A posting under a request id of its own, or that of `name`."""
    name = name or f"request {next(_fresh)}"
    fields = {"request_hash": h(name), "answer": name.encode()} | parts
    return Posting(kind=kind, request_id=h(name)[:16], **fields)


def withdrawal(account: int, *blinded: str, value: int = 8, commission: int = 1, **parts: Any) -> Posting:
    return request(
        "withdraw",
        entries=withdrawal_entries(account, "EUR", {VALUES[value]: value * len(blinded)}, commission),
        issued=tuple((VALUES[value], h(text)) for text in blinded),
        **parts,
    )


def payment(account: int, name: str, amount: int, refusal: str = "", payment_id: str = "") -> Payment:
    payment_id_bytes = h(payment_id or name)[:16]
    verdict = Verdict("bank", h(name), payment_id_bytes, account, "EUR", amount, refusal, 7, b"")
    signed = Signed.make(IDENTITY, Domain.VERDICT, verdict).encode()
    return Payment(h(name), account, payment_id_bytes, accepted=not refusal, verdict=signed)


def deposit(account: int, name: str, /, *coins: Spending, payment_id: str = "", **parts: Any) -> Posting:
    totals: dict[bytes, int] = {}
    for spending in coins:
        totals[spending.denomination] = totals.get(spending.denomination, 0) + DENOMINATIONS[spending.denomination][0]
    return request(
        "deposit",
        entries=deposit_entries(account, "EUR", totals, 1),
        spent=coins,
        payment=payment(account, name, sum(totals.values()), payment_id=payment_id),
        **parts,
    )


def refusal_of(outcome: Outcome) -> str:
    return outcome.refusal if isinstance(outcome, Conflict) else type(outcome).__name__


async def faults(books: Books) -> list[str]:
    return audit(await books.snapshot(), DENOMINATIONS).faults


async def shop_of(books: Books) -> Account:
    return await books.open_account("merchant", "shop", "The Shop", "EUR", h("shop's key"), b"")


async def rich_client(books: Books, amount: int = 100) -> Account:
    client = await books.open_account("client", "alice", "Alice", "EUR", h("alice's key"), b"")
    await books.credit(client.number, amount, f"cash of {client.number}")
    return client


class BooksFixtures:
    """The fixture `open_books` is for a subclass to give."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def open_books(self, clock: ManualClock) -> OpenBooks:
        raise NotImplementedError

    @pytest.fixture
    async def books(self, open_books: OpenBooks) -> AsyncIterator[Books]:
        async with open_books() as books:
            yield books

    @pytest.fixture
    async def shop(self, books: Books) -> int:
        """A merchant's account; coins worth 160 are in circulation, so that they can be deposited."""
        shop = await shop_of(books)
        client = await rich_client(books, 1000)
        await books.post(withdrawal(client.number, *(f"in circulation {i}" for i in range(20))))
        return shop.number
