"""A visit to a shop: its catalogue, orders, payments, and the bank behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from protocol import topics
from protocol.answer import Answer
from protocol.coins import Coin
from protocol.errors import PeerError
from protocol.messages import (
    Item,
    OrderLine,
    OrderRequest,
    PayAnswer,
    PaymentInfo,
    Payreq,
    PayRequest,
    Receipt,
    Signed,
    Verdict,
    commit_to_coins,
    open_verdict,
)
from protocol.refusals import Refusal
from protocol.signatures import Domain, public_key
from protocol.wallet.paying import Payer, Shop, open_catalog, open_payreq, payment_info

from ...requester import NobodyAnswers
from ...world import Clock, Entropy
from ..bank.visit import Purse, Visit, code_of, visiting
from ..case import Notes
from ..played import Stage, playing
from ..voice import Asking, Receiver, Voice

MONEY: Final = 2**40
"""What the suite's buyer has in its account, in minor units: enough for any price."""


class Wish(NamedTuple):
    """What the operator says: whom to visit, what to buy (a sku, or ""), and how long to wait, in seconds.

    `grant` is a command that grants a refund, with `{payment_id}` and `{amount}`; "" if there is none.
    """

    merchant: str
    sku: str = ""
    grant: str = ""
    wait_s: float = 0
    patience_s: float = 60


class Offer(NamedTuple):
    """A payment request, checked, and the item that was ordered."""

    payreq: Payreq
    item: Item


class Paying(NamedTuple):
    """A payment as the buyer has written it."""

    info: PaymentInfo
    purse: Purse
    evidence_key: bytes
    body: PayRequest


class ShopVisit:
    """A shop that is visited.

    Args:
        stage: the bank that is played.
        buyer: at that bank; its stranger is who orders and pays.
        shop: what the merchant announces, checked.
        item: what is bought.
        wish: the operator's.

    Attributes:
        late: an offer that is let expire, if that is soon enough.
        sold: a payment that has its receipt.
    """

    def __init__(self, stage: Stage, buyer: Visit, shop: Shop, item: Item, wish: Wish) -> None:
        self.stage = stage
        self.buyer = buyer
        self.shop = shop
        self.item = item
        self.wish = wish
        self.late: Offer | None = None
        self.sold: tuple[Paying, Offer] | None = None
        self.receiver = Receiver(shop.certificate.merchant, 0, shop.envelope_key, shop.certificate.key)

    @property
    def notes(self) -> Notes:
        """Of the case that runs."""
        return self.buyer.notes

    @property
    def voice(self) -> Voice:
        """Who orders and pays, anonymously."""
        return self.buyer.stranger

    @property
    def clock(self) -> Clock:
        """The suite's."""
        return self.buyer.clock

    @property
    def entropy(self) -> Entropy:
        """The suite's."""
        return self.buyer.entropy

    # ---------------------------------------------------------------- orders

    def wanted(self, quantity: int = 1, **changes: Any) -> OrderRequest:
        """Return an order of the item, true but for the `changes`."""
        request = OrderRequest(self.stage.address.bank, (OrderLine(self.item.sku, quantity),))
        return msgspec.structs.replace(request, **changes)

    async def order(self, quantity: int = 1) -> Offer:
        """Order the item, and check the payment request as a wallet does (§10.3)."""
        body = await self.voice.granted(
            self.receiver, "order", self.wanted(quantity), what=f"{quantity} × {self.item.sku}"
        )
        try:
            payreq = open_payreq(Signed.decode(body), self.shop, self.stage.keyset, self.clock.now())
        except PeerError as error:
            self.notes.fail("a payment request that passes all checks (§10.3)", code_of(error))
        self.notes.same("the amount", self.item.price * quantity, payreq.amount)
        return Offer(payreq, self.item)

    # ---------------------------------------------------------------- payments

    async def coins(self, amount: int) -> Purse:
        """Withdraw coins that make an amount."""
        values = [self.buyer.ring.denomination(one).value for one in await self.buyer.outputs(amount)]
        return await self.buyer.withdraw(*values)

    def forged(self) -> Purse:
        """Return a coin that nobody has signed."""
        seed = self.entropy.bytes(32)
        denomination = next(iter(self.buyer.ring.ids))
        return Purse((Coin(denomination, public_key(seed), bytes(256)),), (seed,))

    def paying(self, offer: Offer, purse: Purse, **changes: Any) -> Paying:
        """Write a payment of an offer, true but for the `changes` in its payment information."""
        evidence_key = self.entropy.bytes(32)
        payer = Payer("sha-256", self.entropy.bytes(16), "the buyer's code")
        info = payment_info(offer.payreq, payer, commit_to_coins(evidence_key, purse.coins))
        info = msgspec.structs.replace(info, **changes)
        parcel = self.buyer.sealed_parcel(info.digest, evidence_key, purse.spent_on(info.digest))
        return Paying(info, purse, evidence_key, PayRequest(info.encode(), parcel, offer.payreq.salt))

    def asking(self, offer: Offer, paying: Paying) -> Asking:
        """Seal a payment for the merchant, with its deposit-before as the deadline."""
        return self.voice.write(self.receiver, "pay", paying.body, deadline=offer.payreq.deposit_before)

    async def pay(self, offer: Offer, paying: Paying, what: str = "a payment") -> Answer:
        """Pay, and return the merchant's answer."""
        self.notes.tell(f"pay: {what}")
        asking = self.asking(offer, paying)
        return asking.open(await self.voice.send(asking))

    async def refused(self, code: Refusal, offer: Offer, paying: Paying, what: str) -> None:
        """Pay, and check that the merchant refuses."""
        self.notes.same("the refusal", code.value, (await self.pay(offer, paying, what)).refusal)

    def receipt(self, paying: Paying, answer: Answer) -> Receipt:
        """Check that an answer to a payment is a receipt with the bank's accepting verdict (§11.5), and return it."""
        body = PayAnswer.decode(self.voice.accepted("pay", answer))
        if body.verdict or not body.receipt:
            self.notes.fail("a receipt, and no verdict beside it", self._verdict_of(paying, body))
        try:
            receipt = Receipt.decode(Signed.decode(body.receipt).check(self.receiver.identity, Domain.RECEIPT))
            verdict = open_verdict(Signed.decode(receipt.verdict), self.stage.keyset.identity, paying.info.digest)
        except PeerError as error:
            self.notes.fail("a receipt and a verdict that verify", code_of(error))
        self.notes.same("the receipt's digest:", paying.info.digest, receipt.digest)
        self.notes.same("the verdict's refusal", "", verdict.refusal)
        return receipt

    def _verdict_of(self, paying: Paying, body: PayAnswer) -> str:
        return f"a verdict: {self.verdict(paying, body).refusal}" if body.verdict else "neither"

    def verdict(self, paying: Paying, body: PayAnswer) -> Verdict:
        """Return the verdict in an answer, checked to be the bank's."""
        return open_verdict(Signed.decode(body.verdict), self.stage.keyset.identity, paying.info.digest)

    async def bought(self) -> tuple[Paying, Offer]:
        """Return a payment that has its receipt: the first that was made, or one that is made now."""
        if self.sold is None:
            offer = await self.order()
            paying = self.paying(offer, await self.coins(offer.payreq.amount))
            self.receipt(paying, await self.pay(offer, paying))
            self.sold = paying, offer
        return self.sold


@asynccontextmanager
async def visiting_shop(
    home: Path, wish: Wish, notes: Notes, clock: Clock, entropy: Entropy, ready: Callable[[], None] = lambda: None
) -> AsyncIterator[ShopVisit]:
    """Play the bank of this home, wait for the merchant to come, and visit it.

    Args:
        home: the bank's.
        wish: the operator's.
        notes: of the case that runs.
        clock: the world's time.
        entropy: its randomness.
        ready: is called when the bank is open, so that the merchant may come.

    Raises:
        HomeError: if this is no home that `init` made.
        LinkError: if the broker is not there, or refuses.
        NobodyAnswers: if the merchant announces no catalogue with a certificate of the bank in time, or sells nothing.
    """
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(playing(home, clock))
        ready()
        secret = await stage.customer(f"buyer {entropy.bytes(4).hex()}", MONEY, _currency(stage), entropy)
        invitations = (secret, bytes(16))
        buyer = await stack.enter_async_context(visiting(stage.address, invitations, notes, clock, entropy))
        shop = await _catalogue(stage, buyer.stranger, wish)
        yield ShopVisit(stage, buyer, shop, _item(shop, wish.sku), wish)


def _currency(stage: Stage) -> str:
    return stage.keyset.denominations[0].currency


async def _catalogue(stage: Stage, voice: Voice, wish: Wish) -> Shop:
    """Return the merchant's shop as soon as a catalogue is announced that this bank has certified."""
    news: asyncio.Queue[bytes] = asyncio.Queue()
    await voice.requester.follow(topics.catalog(wish.merchant), news.put)
    trouble = "nothing was announced"
    try:
        async with asyncio.timeout(wish.patience_s):
            while True:
                try:
                    return open_catalog(wish.merchant, await news.get(), stage.keyset)
                except PeerError as error:
                    trouble = code_of(error)
    except TimeoutError:
        text = f"merchant {wish.merchant} has no catalogue with a certificate of this bank ({trouble}): is it running?"
        raise NobodyAnswers(text) from None


def _item(shop: Shop, sku: str) -> Item:
    items = [one for one in shop.catalog.items if one.currency == shop.certificate.currency and sku in ("", one.sku)]
    if not items:
        raise NobodyAnswers(f"the catalogue has no item {sku or 'at all'} for {shop.certificate.currency}")
    return min(items, key=lambda one: one.price)
