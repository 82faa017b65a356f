"""The shop as targets: raw on its topics, inside good letters, and inside the answers of its banks."""

import itertools
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from agents.merchant.banks import Banks
from agents.merchant.desk import Request
from agents.merchant.office import Office
from broker.port import Incoming
from protocol import topics
from protocol.answer import Answer, seal_answer
from protocol.codec import Message
from protocol.envelope import Letter, request_hash
from protocol.errors import PeerError
from protocol.exchange import RefundOrderAnswer, RefundRequest
from protocol.merchant import deposit, payout, refund
from protocol.messages import (
    AccountAnswer,
    Certificate,
    DepositAnswer,
    OrderLine,
    OrderRequest,
    Payreq,
    PayRequest,
    Signed,
    Verdict,
)
from protocol.payout import PayoutAnswer
from protocol.signatures import Domain
from protocol.wallet.paying import Payer, payment_info
from tests.agents.byhand import Caller
from tests.agents.world import BANK, SHOP, START, Town
from tests.simulation.clock import HOUR_MS
from tests.world import seed

from .forms import RAW
from .target import DROPPED, INSIDE, REFUSED, TAKEN, Run, Target, checked

_ids: Final = itertools.count(1 << 90)


class Counter:
    """Who brings requests to the shop: sealed, or opened to its clerks."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.buyer = Caller(town, "buyer")

    def at(self, topic: str) -> Run:
        """Return a run of bytes as they arrive on a topic."""

        async def run(data: bytes) -> str:
            return DROPPED if await self.town.shop.handle(Incoming(topic, data)) is None else TAKEN

        return run

    def sealed(self, kind: str) -> Run:
        """Return a run of bytes as the body of a sealed request."""
        keys = self.town.shop.desk.keys

        async def run(data: bytes) -> str:
            asking = self.buyer.seal(kind, data[:INSIDE], to=keys.envelope.public)
            answer = await self.buyer.send_to_shop(asking)
            if answer is None:
                return TAKEN  # it waits for the bank
            return REFUSED if self.buyer.open(asking, answer, keys.public).refusal else TAKEN

        return run

    def opened(self, kind: str) -> Run:
        """Return a run of bytes as the body of a request that was opened."""
        clerk = self.town.shop._clerk(kind)

        async def run(data: bytes) -> str:
            number = next(_ids).to_bytes(16)
            letter = Letter(kind, number, START + 10 * HOUR_MS, bytes(32), b"", data[:INSIDE])
            try:
                await clerk.take(Request(letter, number * 2, "ecash/v1/reply/buyer/bookshop"))
            except PeerError as error:
                self.town.shop.desk.refusal(Request(letter, number * 2, "ecash/v1/reply/buyer/bookshop"), error)
                return REFUSED
            return TAKEN

        return run


class Sold(NamedTuple):
    """A sale that was paid: its digest, and the salt that only buyer and merchant know."""

    digest: bytes
    salt: bytes


async def shop_targets(town: Town, sold: Sold) -> list[Target]:
    """The targets; the shop is open, and a refund of what is `sold` is granted."""
    counter = Counter(town)
    order = OrderRequest(BANK, (OrderLine("novel", 1),)).encode()
    bodies = {
        "order": [order],
        "pay": [await _payment(counter)],
        "refund": [RefundRequest(*sold, b"").encode(), RefundRequest(*sold, b"a ticket").encode()],
    }
    envelope = counter.buyer.seal("order", order, to=town.shop.desk.keys.envelope.public).envelope
    reply = topics.reply_to(topics.BankRequest(BANK, 0, "deposit", "bookshop-presence"), BANK)
    return [
        Target("shop: envelope", [envelope], counter.at(topics.merchant_request(SHOP, "order", "x")), RAW),
        *(Target(f"shop: {kind}", good, counter.sealed(kind)) for kind, good in bodies.items()),
        *(Target(f"till: {kind}", good, counter.opened(kind)) for kind, good in bodies.items()),
        Target("shop: answer", [b"\1" + bytes(100)], counter.at(reply), RAW),
        Target("shop: keyset", [town.mint.announcement], counter.at(topics.keys(BANK))),
        *_answers(town),
    ]


async def _payment(counter: Counter) -> bytes:
    """Order, and return a payment for it that is right but for its coins."""
    keys = counter.town.shop.desk.keys
    asking = counter.buyer.seal("order", OrderRequest(BANK, (OrderLine("novel", 1),)), to=keys.envelope.public)
    sealed = await counter.buyer.send_to_shop(asking)
    assert sealed is not None
    payreq = Payreq.decode(Signed.decode(counter.buyer.open(asking, sealed, keys.public).check()).statement)
    info = payment_info(payreq, Payer("sha-256", bytes(16), "the code"), bytes(32))
    return PayRequest(info.encode(), b"parcel", payreq.salt).encode()


def _answers(town: Town) -> Iterator[Target]:
    """What the shop's banks answer under their signature."""
    identity, desk, envelope, number = town.mint.keys.identity, town.shop.desk, b"sealed", bytes(16)
    key, hashed, digest = desk.keys.root.answer_key(number), request_hash(envelope), seed("digest")
    till, refunds = town.shop._till, town.shop._refunds
    office, banks = Office(desk, town.connect), Banks(desk, town.shop._requester, {})  # type: ignore[arg-type]
    deposited = deposit.Requested(BANK, digest, number, envelope, 1)
    ordered = refund.Requested(BANK, number, envelope, 1)
    asked = payout.Requested(BANK, number, envelope, 1)
    verdict = Signed.make(identity, Domain.VERDICT, Verdict(BANK, digest, number, 1001, "USD", 8, "", START, b""))
    certificate = Certificate(BANK, 1001, "USD", SHOP, "The Bookshop", desk.keys.public, START)
    signed = Signed.make(identity, Domain.CERTIFICATE, certificate).encode()
    account = AccountAnswer(1001, "merchant", "The Bookshop", "USD", 5, signed, 0)

    def certified(sealed: bytes) -> None:
        answer = desk.open(town.ring, number, envelope, sealed)
        banks._trust(town.ring, AccountAnswer.decode(answer.check()).certificate)

    samples: dict[str, tuple[Message, Callable[[bytes], object]]] = {
        "deposit": (DepositAnswer(verdict.encode(), 0), lambda sealed: till._read_answer(deposited, sealed)),
        "refund": (RefundOrderAnswer(b"issue"), lambda sealed: refunds._read_answer(ordered, sealed)),
        "payout": (PayoutAnswer(5, ()), lambda sealed: office._read(asked, town.ring, sealed)),
        "account": (account, certified),
    }

    def answered(read: Callable[[bytes], object]) -> Run:
        def check(data: bytes) -> None:
            read(seal_answer(identity, key, number, hashed, Answer(START, "", "", data[:INSIDE])))

        return checked(check, PeerError)

    for kind, (sample, read) in samples.items():
        yield Target(f"shop: {kind} answered", [sample.encode()], answered(read))
