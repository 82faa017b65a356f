"""Postings, a clock and the fixtures with which the suites of the `Books` port are written."""

import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest

from agents.bank.audit import audit
from agents.bank.store import Books, DestinationRow
from protocol.bank.desk import Account
from protocol.bank.ledger import (
    Conflict,
    Outcome,
    Payment,
    PayoutOrder,
    Posting,
    Redemption,
    Reply,
    Spending,
    Withdrawal,
    deposit_entries,
    exchange_entries,
    payout_entries,
    withdrawal_entries,
)
from protocol.messages import Signed, Verdict
from protocol.signatures import Domain

IDENTITY: Final = bytes(32)
"""The bank's private key."""
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
    return spent_coin(h(name), value)


def spent_coin(serial: bytes, value: int = 8) -> Spending:
    return Spending(VALUES[value], serial, serial * 2)


def request(kind: str = "account", name: str = "", **parts: Any) -> Posting:
    """A posting under a request id of its own, or that of `name`."""
    name = name or f"request {next(_fresh)}"
    fields = {"request_hash": h(name), "answer": name.encode()} | parts
    return Posting(kind=kind, request_id=h(name)[:16], **fields)


def withdrawal(
    account: int, *blinded: str, value: int = 8, commission: int = 1, settled: tuple[str, ...] = (), **parts: Any
) -> Posting:
    """A withdrawal of coins of one value; `settled` names requests."""
    amount = value * len(blinded)
    return request(
        "withdraw",
        entries=withdrawal_entries(account, "EUR", {VALUES[value]: amount}, commission),
        issued=tuple((VALUES[value], h(text)) for text in blinded),
        **{"withdrawal": Withdrawal(account, amount, tuple(h(name)[:16] for name in settled))} | parts,
    )


def exchange(*coins: Spending, into: tuple[str, ...] = (), value: int = 2, on: str = "e", **parts: Any) -> Posting:
    """Coins for blinded ones of one value; what these are worth less is the commission."""
    spent = _totals(coins)
    issued = {VALUES[value]: value * len(into)}
    commission = sum(spent.values()) - sum(issued.values())
    return request(
        "exchange",
        entries=exchange_entries("EUR", spent, issued, commission),
        issued=tuple((VALUES[value], h(text)) for text in into),
        spent=coins,
        spent_on=h(on),
        **parts,
    )


def refund(account: int, *blinded: str, ticket: str = "", **parts: Any) -> Posting:
    """An account pays for the blinded coins of a ticket, which gets its answer."""
    ticket = ticket or f"ticket {next(_fresh)}"
    reply = Reply(h(ticket)[:16], h(ticket), ticket.encode())
    issued = tuple((VALUES[8], h(text)) for text in blinded)
    entries = withdrawal_entries(account, "EUR", {VALUES[8]: 8 * len(blinded)}, 1)
    return request("refund", entries=entries, issued=issued, **{"reply": reply} | parts)


def redemption(
    account: int, *coins: Spending, on: str = "r", commission: int = 1, revoked: int = 0, before: int = 0, **parts: Any
) -> Posting:
    spent = _totals(coins)
    return request(
        "redeem",
        entries=deposit_entries(account, "EUR", spent, commission),
        spent=coins,
        spent_on=h(on),
        redemption=Redemption(account, sum(spent.values()), revoked, before),
        **parts,
    )


def payout(account: int, amount: int, commission: int = 1, **parts: Any) -> Posting:
    order = PayoutOrder(account, amount, commission)
    return request("payout", entries=payout_entries(account, "EUR", amount, commission), payout=order, **parts)


DESTINATION: Final = DestinationRow("021000021", "12345678", "checking", "The Shop")


def _totals(coins: tuple[Spending, ...]) -> dict[bytes, int]:
    totals: dict[bytes, int] = {}
    for spending in coins:
        totals[spending.denomination] = totals.get(spending.denomination, 0) + DENOMINATIONS[spending.denomination][0]
    return totals


def payment(account: int, name: str, amount: int, refusal: str = "", payment_id: str = "") -> Payment:
    payment_id_bytes = h(payment_id or name)[:16]
    verdict = Verdict("bank", h(name), payment_id_bytes, account, "EUR", amount, refusal, 7, b"")
    signed = Signed.make(IDENTITY, Domain.VERDICT, verdict).encode()
    return Payment(h(name), account, payment_id_bytes, accepted=not refusal, verdict=signed)


def deposit(account: int, name: str, /, *coins: Spending, payment_id: str = "", **parts: Any) -> Posting:
    totals = _totals(coins)
    return request(
        "deposit",
        entries=deposit_entries(account, "EUR", totals, 1),
        spent=coins,
        spent_on=h(name),
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
