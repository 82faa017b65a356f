import pytest

from protocol.answer import Answer
from protocol.codec import Message
from protocol.coins import spend
from protocol.envelope import seal
from protocol.merchant import sale
from protocol.messages import (
    OrderLine,
    OrderRequest,
    Parcel,
    PayAnswer,
    PaymentInfo,
    Payreq,
    PayRequest,
    Receipt,
    Signed,
    Verdict,
    commit_to_coins,
)
from protocol.refusals import Refusal
from protocol.wallet.paying import Payer, payment_info
from tests.agents.byhand import EVIDENCE_KEY, Asking, Caller, Purse, client
from tests.agents.world import BANK, SHOP, Town
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network
from tests.world import alter, seed


class Buyer(Caller):
    """Who speaks to the shop by hand."""

    def to_shop(self, kind: str, body: Message | bytes, **parts: bytes | int) -> Asking:
        return self.seal(kind, body, to=self.town.shop.desk.keys.envelope.public, **parts)  # type: ignore[arg-type]

    def read_answer(self, asking: Asking, sealed: bytes | None) -> Answer:
        assert sealed is not None
        return self.open(asking, sealed, self.town.shop.desk.keys.public)

    async def order(self, *lines: OrderLine, bank: str = BANK) -> Answer:
        asking = self.to_shop("order", OrderRequest(bank, lines or (OrderLine("card", 1),)))
        return self.read_answer(asking, await self.send_to_shop(asking))

    async def offered(self) -> Payreq:
        return Payreq.decode(Signed.decode((await self.order()).check()).statement)

    def payment(self, payreq: Payreq, purse: Purse, code: str = "word") -> tuple[PaymentInfo, PayRequest]:
        payer = Payer("sha-256", seed("salt")[:16], code)
        info = payment_info(payreq, payer, commit_to_coins(EVIDENCE_KEY, purse.coins))
        spent = tuple(spend(coin, key, info.digest) for coin, key in zip(purse.coins, purse.seeds, strict=True))
        parcel = seal(self.town.keyset.envelope_key, "parcel", Parcel(info.digest, EVIDENCE_KEY, spent).encode())
        return info, PayRequest(info.encode(), parcel, payreq.salt)

    async def pay(self, network: Network, request: PayRequest) -> PayAnswer:
        """Pay and wait for the answer, which goes out over the network when the bank has decided."""
        asking = self.to_shop("pay", request)
        sealed = await self.send_to_shop(asking)
        if sealed is None:
            replies = await network.wait_for(1, f"ecash/v1/reply/{self.name}/{SHOP}")
            sealed = replies[-1].payload
        return PayAnswer.decode(self.read_answer(asking, sealed).check())

    async def refusal(self, kind: str, body: Message | bytes, **parts: bytes | int) -> str:
        asking = self.to_shop(kind, body, **parts)
        return self.read_answer(asking, await self.send_to_shop(asking)).refusal


@pytest.fixture
async def alice(town: Town) -> Caller:
    return await client(town)


@pytest.fixture
def buyer(town: Town) -> Buyer:
    return Buyer(town, "buyer")


async def test_an_order_is_offered_at_its_price_for_a_while(buyer: Buyer, clock: VirtualClock) -> None:
    answer = await buyer.order(OrderLine("novel", 2), OrderLine("card", 3))
    payreq = Payreq.decode(Signed.decode(answer.check()).statement)
    assert (payreq.amount, payreq.currency, payreq.account) == (41, "USD", buyer.town.shop_number)
    assert payreq.order == ("2 × A novel of manners", "3 × A postcard of the harbour")
    assert clock.now() < payreq.expires < payreq.deposit_before
    assert payreq.keyset == buyer.town.keyset.hash


async def test_the_same_order_twice_is_one_offer_byte_for_byte(buyer: Buyer) -> None:
    asking = buyer.to_shop("order", OrderRequest(BANK, (OrderLine("card", 1),)))
    first = await buyer.send_to_shop(asking)
    assert await buyer.send_to_shop(asking) == first
    await buyer.town.stop_shop()
    await buyer.town.start_shop()
    assert await buyer.send_to_shop(asking) == first
    assert len(await buyer.town.sales.sales()) == 1
    other = OrderRequest(BANK, (OrderLine("novel", 1),))
    assert await buyer.refusal("order", other, request_id=asking.request_id) == Refusal.REQUEST_ID_REUSED


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (OrderRequest(BANK, (OrderLine("unicorn", 1),)), Refusal.UNKNOWN_ITEM),
        (OrderRequest("south", (OrderLine("card", 1),)), Refusal.WRONG_BANK),
        (b"nonsense", Refusal.MALFORMED),
    ],
)
async def test_what_is_not_sold_is_refused(buyer: Buyer, body: OrderRequest | bytes, refusal: Refusal) -> None:
    assert await buyer.refusal("order", body) == refusal
    assert await buyer.town.sales.sales() == []


async def test_an_order_after_its_own_deadline_is_refused(buyer: Buyer, clock: VirtualClock) -> None:
    body = OrderRequest(BANK, (OrderLine("card", 1),))
    assert await buyer.refusal("order", body, deadline=clock.now() - 1) == Refusal.REQUEST_EXPIRED


async def test_paid_is_paid_once_and_the_receipt_is_the_same_each_time(
    buyer: Buyer, alice: Caller, network: Network
) -> None:
    payreq = await buyer.offered()
    info, request = buyer.payment(payreq, await alice.withdraw(4, 1))
    answer = await buyer.pay(network, request)
    receipt = Receipt.decode(Signed.decode(answer.receipt).statement)
    assert receipt.digest == info.digest
    assert Verdict.decode(Signed.decode(receipt.verdict).statement).refusal == ""
    again = await buyer.pay(network, request)
    assert again == answer
    assert await buyer.town.books.balance(buyer.town.shop_number) == 5 - buyer.town.keyset.tariff.deposit.charge(5)
    assert len(await buyer.town.sales.deposits()) == 1


async def test_a_second_payer_of_a_sale_is_refused_before_and_after_the_first_is_decided(
    buyer: Buyer, alice: Caller, network: Network
) -> None:
    payreq = await buyer.offered()
    _, first = buyer.payment(payreq, await alice.withdraw(4, 1))
    _, second = buyer.payment(payreq, await alice.withdraw(4, 1), "another word")
    network.loses = lambda message: "/deposit/" in message.topic
    asking = buyer.to_shop("pay", first)
    assert await buyer.send_to_shop(asking) is None
    assert await buyer.refusal("pay", second) == Refusal.PENDING
    network.loses = lambda _: False
    buyer.town.clock.advance(60_000)  # type: ignore[attr-defined]
    await network.wait_for(1, f"ecash/v1/reply/buyer/{SHOP}")
    assert await buyer.refusal("pay", second) == Refusal.ALREADY_PAID
    assert await buyer.town.faults() == []


async def test_coins_that_the_bank_refuses_leave_the_offer_open_for_good_ones(
    buyer: Buyer, alice: Caller, network: Network
) -> None:
    payreq = await buyer.offered()
    _, short = buyer.payment(payreq, await alice.withdraw(4))
    refused = await buyer.pay(network, short)
    assert not refused.receipt
    assert Verdict.decode(Signed.decode(refused.verdict).statement).refusal == Refusal.AMOUNT_MISMATCH
    assert await buyer.pay(network, short) == refused
    network.published.clear()
    _, good = buyer.payment(payreq, await alice.withdraw(4, 1), "another word")
    assert (await buyer.pay(network, good)).receipt
    (sold,) = await buyer.town.sales.sales()
    assert isinstance(sold.state, sale.Sold)


@pytest.mark.parametrize(
    "field",
    [name for name in PaymentInfo.__struct_fields__ if name not in ("payer_function", "payer_digest", "parcel")],
)
async def test_a_payment_that_is_not_what_was_offered_is_refused(buyer: Buyer, alice: Caller, field: str) -> None:
    info, request = buyer.payment(await buyer.offered(), await alice.withdraw(4, 1))
    altered = PayRequest(alter(info, field).encode(), request.parcel, request.salt)
    refusal = await buyer.refusal("pay", altered)
    assert refusal in (Refusal.PAYMENT_ALTERED, Refusal.UNKNOWN_SALE, Refusal.MALFORMED)
    assert await buyer.town.sales.deposits() == []


async def test_who_does_not_know_the_orders_salt_gets_nothing(buyer: Buyer, alice: Caller) -> None:
    _, request = buyer.payment(await buyer.offered(), await alice.withdraw(4, 1))
    assert await buyer.refusal("pay", alter(request, "salt")) == Refusal.UNKNOWN_SALE


async def test_a_sale_that_nobody_pays_lapses_and_takes_no_payment_any_more(
    buyer: Buyer, alice: Caller, clock: VirtualClock
) -> None:
    payreq = await buyer.offered()
    _, request = buyer.payment(payreq, await alice.withdraw(4, 1))
    clock.advance(HOUR_MS)
    assert await buyer.refusal("pay", request) == Refusal.SALE_EXPIRED
    (lapsed,) = await buyer.town.sales.sales()
    assert isinstance(lapsed.state, sale.Lapsed)
    assert not lapsed.open
