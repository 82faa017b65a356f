"""The bank's desks as targets, twice: with sealed requests that go through all of the bank, and with opened ones.

A digest that holds for one request id only would stop nearly all that is fuzzed at the coins' signatures: where the
bytes make a request at all, its coins are therefore good ones, spent anew on whatever it says.
"""

import itertools
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar

import msgspec

from agents.bank.desks import DESKS
from agents.bank.desks.desk import Desk, Request
from agents.bank.sqlite import SqliteBooks, _at_one_moment
from agents.bank.store import DestinationRow
from protocol.answer import Answer
from protocol.codec import Message
from protocol.coins import SpentCoin, spend
from protocol.envelope import Letter, seal, seal_letter
from protocol.errors import PeerError
from protocol.exchange import TICKET, ExchangeRequest, RefundOrder, Ticket, exchange_digest
from protocol.messages import (
    AccountRequest,
    BlindedCoin,
    DepositAnswer,
    DepositRequest,
    InquiryRequest,
    Parcel,
    PaymentInfo,
    Signed,
    Verdict,
    payer_digest,
)
from protocol.payout import PayoutRequest
from protocol.proof import ProofRequest
from protocol.recovery import CheckRequest, FetchRequest, RecoverRequest, RedeemRequest, redeem_digest
from protocol.signatures import Domain, sign
from protocol.wallet.outputs import blind_outputs
from tests.agents.byhand import Caller, Purse
from tests.agents.world import BANK, START, Town
from tests.simulation.clock import HOUR_MS
from tests.world import seed

from .target import INSIDE, REFUSED, TAKEN, Run, Target

_T = TypeVar("_T")
_ids: Final = itertools.count(1 << 100)

Ask = Callable[[Caller, str, bytes, bytes], Awaitable[Answer]]
"""Asks the bank: who, what kind, the body, and the request id (16 bytes, or none)."""


class BareBooks(SqliteBooks):
    """The bank's books, read without a change of threads."""

    async def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        return _at_one_moment(self._connection, query)


class BareDesk(Desk):
    """The bank's desk without threads, and without the seal on its answers."""

    async def check(self, work: Callable[[], _T]) -> _T:
        return work()

    def seal(self, request: Request, answer: Answer) -> bytes:
        return answer.encode()

    async def ask(self, caller: Caller, kind: str, body: bytes, request_id: bytes) -> Answer:
        """Have a request served as the agent does once it is opened."""
        number = request_id or next(_ids).to_bytes(16)
        deadline = self.clock.now() + HOUR_MS
        request = Request(Letter(kind, number, deadline, bytes(32), caller.key, body), number * 2)
        try:
            return Answer.decode(await DESKS[kind](self, request))
        except PeerError as error:
            return Answer.decode(await self.refuse(request, error))


async def sealed(caller: Caller, kind: str, body: bytes, request_id: bytes) -> Answer:
    """Ask as agents do."""
    return await caller.ask(kind, body, request_id=request_id)


class Sample(NamedTuple):
    """Who asks a desk for what; `resign` makes a body's signatures good, for a request id that follows from it."""

    caller: Caller
    body: Message
    resign: Callable[[bytes, bytes], bytes] | None = None


async def samples(town: Town, alice: Caller, keeper: Caller, name: str) -> dict[str, Sample]:
    """A request of each kind, and a deposit of coins that are spent.

    `alice` is a client with much money, `keeper` a merchant; `name` tells sets apart.
    """
    nobody, bob = Caller(town, "nobody"), Caller(town, f"bob-{name}", seed(f"bob at the {name}"))
    await bob.open_account()  # an account that is taken over time and again
    await town.books.credit(town.shop_number, 10**9, "cash of the keeper")
    await town.books.set_destination(town.shop_number, DestinationRow("021000021", "12345", "checking", "The Keeper"))
    swapped, redeemed, paid = await alice.withdraw(8), await alice.withdraw(8, 4, 2), await alice.withdraw(8)
    commission = town.keyset.tariff.exchange.charge(8)
    ones = _outputs(town, alice, seed(f"ones at the {name}")[:16], 8 - commission)
    ticket = Ticket(_outputs(town, alice, seed(f"ticket at the {name}")[:16], 1))
    info = keeper.info(8, paid)
    _, _, order = alice.order_coins(1)
    _, inquiry = keeper.inquiry(info, paid)
    letter = Letter(TICKET, seed(f"ticket at the {name}")[:16], START + HOUR_MS, bytes(32), b"", ticket.encode())
    told = seal_letter(town.keyset.envelope_key, letter, None)
    charge = town.keyset.tariff

    def exchanged(data: bytes, request_id: bytes) -> bytes:
        asked = ExchangeRequest.decode(data)
        digest = exchange_digest(BANK, request_id, asked.commission, asked.outputs)
        return msgspec.structs.replace(asked, coins=_spend(swapped, digest)).encode()

    def credited(data: bytes, request_id: bytes) -> bytes:
        coins = _spend(redeemed, redeem_digest(BANK, request_id, alice.key))
        return msgspec.structs.replace(RedeemRequest.decode(data), coins=coins).encode()

    def inquired(data: bytes, request_id: bytes) -> bytes:
        asked = InquiryRequest.decode(data)
        proof = sign(paid.seeds[0], Domain.INQUIRY, PaymentInfo.decode(asked.info).digest, request_id)
        return msgspec.structs.replace(asked, proof=proof).encode()

    exchange = ExchangeRequest(commission, _spend(swapped, bytes(32)), ones)
    redeem = RedeemRequest(0, charge.redemption.charge(14), _spend(redeemed, bytes(32)))
    return {
        "account": Sample(bob, AccountRequest(b"", 0)),
        "check": Sample(nobody, CheckRequest(ones[0].denomination, "")),
        "deposit": Sample(keeper, keeper.deposit(info, paid)),
        "exchange": Sample(nobody, exchange, exchanged),
        "fetch": Sample(nobody, FetchRequest(bytes(16))),
        "parcel": Sample(keeper, keeper.paying(4, await _spent(alice, keeper))),
        "payout": Sample(keeper, PayoutRequest(100, charge.payout.charge(100))),
        "proof": Sample(nobody, await _paid(alice, keeper, name)),
        "recover": Sample(alice, RecoverRequest(0, 0)),
        "redeem": Sample(alice, redeem, credited),
        "refund": Sample(keeper, RefundOrder(1, charge.refund.charge(1), told)),
        "verdict": Sample(nobody, inquiry, inquired),
        "withdraw": Sample(alice, order),
    }


def desk_targets(where: str, ask: Ask, kinds: dict[str, Sample]) -> list[Target]:
    """All of the bank's desks, and what is sealed for the bank inside requests to them."""
    keeper, order = kinds["refund"].caller, kinds["refund"].body
    assert isinstance(order, RefundOrder)
    town = keeper.town
    envelope = town.mint.keys.envelopes[town.keyset.envelope_key.key_id]
    signed = envelope.open(order.ticket, TICKET)
    ticket = _outputs(town, keeper, seed(f"a ticket at the {where}")[:16], 1)
    return [
        *(
            Target(f"{where}: {kind}", [sample.body.encode()], _asking(ask, kind, sample))
            for kind, sample in kinds.items()
            if kind in DESKS
        ),
        Target(f"{where}: parcel", [_parcel(kinds["parcel"])], _depositing(ask, kinds["parcel"])),
        Target(f"{where}: ticket", [Ticket(ticket).encode()], _refunding(ask, keeper, order, inside=True)),
        Target(f"{where}: ticket's letter", [signed], _refunding(ask, keeper, order, inside=False)),
    ]


def _asking(ask: Ask, kind: str, sample: Sample) -> Run:
    async def run(data: bytes) -> str:
        request_id, body = b"", data[:INSIDE]
        if sample.resign is not None:
            request_id = seed(f"{kind} {data.hex()}")[:16]
            with suppress(PeerError):  # which the desk shall say itself
                body = sample.resign(body, request_id)
        answer = await ask(sample.caller, kind, body, request_id)
        return REFUSED if answer.refusal or _declined(kind, answer) else TAKEN

    return run


def _declined(kind: str, answer: Answer) -> bool:
    """Tell whether an answer to a deposit is the bank's verdict against it."""
    if kind != "deposit":
        return False
    verdict = Signed.decode(DepositAnswer.decode(answer.body).verdict).statement
    return bool(Verdict.decode(verdict).refusal)


def _parcel(sample: Sample) -> bytes:
    assert isinstance(sample.body, DepositRequest)
    town = sample.caller.town
    key = town.mint.keys.envelopes[town.keyset.envelope_key.key_id]
    opened = key.open(sample.body.parcel, "parcel")
    Parcel.decode(opened)
    return opened


def _depositing(ask: Ask, sample: Sample) -> Run:
    """Bytes as the content of a deposit's parcel."""
    keeper, request = sample.caller, sample.body
    assert isinstance(request, DepositRequest)
    key = keeper.town.keyset.envelope_key

    async def run(data: bytes) -> str:
        body = msgspec.structs.replace(request, parcel=seal(key, "parcel", data[:INSIDE]))
        answer = await ask(keeper, "deposit", body.encode(), b"")
        return REFUSED if answer.refusal or _declined("deposit", answer) else TAKEN

    return run


def _refunding(ask: Ask, keeper: Caller, order: RefundOrder, *, inside: bool) -> Run:
    """Bytes as what a ticket's letter says (`inside`), or as the letter with its signature."""
    key = keeper.town.keyset.envelope_key

    async def run(data: bytes) -> str:
        letter = Letter(TICKET, seed(f"ticket {data.hex()}")[:16], START + HOUR_MS, bytes(32), b"", data[:INSIDE])
        ticket = seal_letter(key, letter, None) if inside else seal(key, TICKET, data[:INSIDE])
        answer = await ask(keeper, "refund", msgspec.structs.replace(order, ticket=ticket).encode(), b"")
        return REFUSED if answer.refusal else TAKEN

    return run


def _outputs(town: Town, caller: Caller, request_id: bytes, count: int) -> tuple[BlindedCoin, ...]:
    """Blinded coins of the smallest value."""
    smallest = town.ring.current("USD", START)[1]
    return blind_outputs(caller.root, town.ring, request_id, [smallest] * count)


async def _spent(alice: Caller, keeper: Caller) -> Purse:
    """Make a payment and return its coins."""
    purse = await alice.withdraw(4)
    await keeper.verdict(keeper.paying(4, purse))
    return purse


async def _paid(alice: Caller, keeper: Caller, name: str) -> ProofRequest:
    """Make a payment and return what proves it."""
    purse, salt, payment_id = await alice.withdraw(4), seed("salt")[:16], seed(f"payment at the {name}")[:16]
    digest = payer_digest("sha-256", salt, payment_id, "the code")
    info = keeper.info(4, purse, payment_id=payment_id, payer_digest=digest)
    await keeper.verdict(keeper.deposit(info, purse))
    return ProofRequest(payment_id, salt, "the code")


def _spend(purse: Purse, digest: bytes) -> tuple[SpentCoin, ...]:
    return tuple(spend(coin, key, digest) for coin, key in zip(purse.coins, purse.seeds, strict=True))
