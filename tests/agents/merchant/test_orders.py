import asyncio
import sqlite3
from collections.abc import AsyncIterator

import pytest

from agents.client.refund import collect
from agents.client.wallet import Wallet
from agents.merchant import store
from agents.merchant.order_book import OrderBook
from agents.merchant.orders import Line, Orders
from protocol.errors import PeerError
from protocol.messages import OrderLine, Receipt, Signed
from protocol.payment_link import PaymentLink
from protocol.refusals import Refusal
from protocol.wallet import payment, refund
from tests.agents.byhand import client
from tests.agents.merchant.south import SOUTH
from tests.agents.merchant.test_till import Buyer
from tests.agents.merchant.web_shop import BROWSER, choose, pay_by_link, seen, until
from tests.agents.world import BANK, SHOP, Town, cash
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network, matches

DAY_MS = 24 * HOUR_MS
SONG = Line("A song", 11)


@pytest.fixture
def orders(town: Town) -> Orders:
    return town.shop.orders


@pytest.fixture
async def alice(town: Town) -> AsyncIterator[Wallet]:
    async with town.open_wallet("alice") as wallet:
        await town.customer(wallet, "alice", 100)
        await cash(wallet, 40)
        yield wallet


async def test_an_order_of_the_page_is_paid_by_its_link_and_seen_to_be_accepted(
    town: Town, orders: Orders, alice: Wallet
) -> None:
    sight = await choose(orders, "novel", "card")
    assert (sight.stage, sight.sale.amount, sight.order.buyer) == ("waiting", 18, BROWSER)
    link = PaymentLink.parse(sight.link)
    assert link == orders.link(sight.sale)
    assert (link.merchant, link.bank, link.fingerprint.hex()) == (SHOP, BANK, town.address.fingerprint)
    assert sight.order.payment_id not in bytes.fromhex(sight.order.id), "the bank will know the one, and not the other"
    watching = asyncio.create_task(until(orders, sight, "accepted"))
    paid = await pay_by_link(alice, sight)
    stages = await asyncio.wait_for(watching, 120)
    assert isinstance(paid.state, payment.Paid)
    assert (stages[0], stages[-1]) == ("waiting", "accepted")
    assert set(stages) <= {"waiting", "paid", "accepted"}
    assert (await seen(orders, sight)).link == "", "nobody pays twice"
    receipt = Receipt.decode(Signed.decode(paid.state.receipt).statement)
    assert receipt.goods == "https://shop.example/novel.epub"
    assert await town.faults() == []


async def test_a_payment_is_seen_before_the_bank_has_decided(
    orders: Orders, alice: Wallet, network: Network, clock: VirtualClock
) -> None:
    sight = await choose(orders)
    network.loses = lambda message: matches(f"ecash/v1/{BANK}/+/deposit/+", message.topic)
    watching = asyncio.create_task(until(orders, sight, "paid"))
    paying = asyncio.create_task(pay_by_link(alice, sight))
    assert (await asyncio.wait_for(watching, 120))[-1] == "paid"
    network.loses = lambda _: False
    clock.advance(1_500)
    await asyncio.wait_for(until(orders, sight, "accepted"), 120)
    assert isinstance((await paying).state, payment.Paid)


async def test_a_restart_loses_no_order_and_ends_it_in_time(town: Town, clock: VirtualClock) -> None:
    sight = await choose(town.shop.orders)
    await town.stop_shop()
    await town.start_shop()
    assert await town.shop.orders.find(sight.order.id) == sight
    watching = asyncio.create_task(until(town.shop.orders, sight, "expired"))
    clock.advance(15 * 60_000)
    assert (await asyncio.wait_for(watching, 120))[-1] == "expired"
    assert (await seen(town.shop.orders, sight)).link == ""


async def test_an_order_that_nobody_pays_expires_while_it_is_watched(orders: Orders, clock: VirtualClock) -> None:
    sight = await choose(orders)
    watching = asyncio.create_task(until(orders, sight, "expired"))
    clock.advance(15 * 60_000)
    assert (await asyncio.wait_for(watching, 120))[-1] == "expired"


async def test_what_breaks_while_an_order_is_saved_leaves_nothing_of_it(
    town: Town, orders: Orders, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store, "insert_order", full)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        await choose(orders)
    assert await town.sales.sales() == []
    clock.advance(HOUR_MS)
    monkeypatch.undo()
    assert (await choose(orders)).stage == "waiting", "the alarm that was set in vain harms nobody"


async def test_of_two_who_pay_one_order_the_second_is_told_so(town: Town, orders: Orders, alice: Wallet) -> None:
    sight = await choose(orders, "card")
    bob, payreq = Buyer(town, "bob"), PaymentLink.parse(sight.link).unverified
    _, second = bob.payment(payreq, await (await client(town)).withdraw(4, 1))
    assert isinstance((await pay_by_link(alice, sight)).state, payment.Paid)
    assert await bob.refusal("pay", second) == Refusal.ALREADY_PAID
    assert (await seen(orders, sight)).stage == "accepted"
    assert len(await town.sales.deposits()) == 1
    assert await town.faults() == []


# ---------------------------------------------------------------- by a browser, from the catalogue


@pytest.mark.parametrize(
    ("lines", "bank", "refusal"),
    [
        ([], BANK, Refusal.MALFORMED),
        ([OrderLine("card", 1)] * 51, BANK, Refusal.MALFORMED),
        ([OrderLine("card", 0)], BANK, Refusal.MALFORMED),
        ([OrderLine("card", -1)], BANK, Refusal.MALFORMED),
        ([OrderLine("card", 10_001)], BANK, Refusal.MALFORMED),
        ([OrderLine("\ud800", 1)], BANK, Refusal.MALFORMED),
        ([OrderLine("unicorn", 1)], BANK, Refusal.UNKNOWN_ITEM),
        ([OrderLine("card", 1), OrderLine("unicorn", 1)], BANK, Refusal.UNKNOWN_ITEM),
        ([OrderLine("card", 1)], SOUTH, Refusal.WRONG_BANK),
    ],
)
async def test_what_is_not_sold_cannot_be_chosen(
    town: Town, orders: Orders, lines: list[OrderLine], bank: str, refusal: Refusal
) -> None:
    with pytest.raises(PeerError, match=refusal):
        await orders.choose(bank, lines, BROWSER)
    assert await town.sales.sales() == []


async def test_an_order_belongs_to_the_browser_that_claims_it_first(orders: Orders) -> None:
    placed, _ = await orders.place(BANK, "USD", [SONG])
    assert not await orders.claim(placed.order.id, b"")
    assert await orders.claim(placed.order.id, BROWSER)
    assert await orders.claim(placed.order.id, BROWSER)
    assert not await orders.claim(placed.order.id, b"c" * 32)
    assert (await seen(orders, placed)).order.buyer == BROWSER
    for wrong in ("0" * 32, "", "\ud800", placed.order.id.upper() + "0"):
        assert not await orders.claim(wrong, BROWSER)
        assert await orders.find(wrong) is None


async def test_goods_count_as_delivered_when_they_are_first_shown_and_paid(
    orders: Orders, alice: Wallet, clock: VirtualClock
) -> None:
    sight = await choose(orders)
    await orders.delivered(sight.order.id)
    assert (await seen(orders, sight)).order.delivered_at == 0
    await pay_by_link(alice, sight)
    first = clock.now()
    await orders.delivered(sight.order.id)
    clock.advance(1_000)
    await orders.delivered(sight.order.id)
    await orders.delivered("0" * 32)
    assert (await seen(orders, sight)).order.delivered_at == first


async def test_the_newest_orders_come_first_and_page_by_page(
    town: Town, orders: Orders, alice: Wallet, clock: VirtualClock
) -> None:
    made = []
    for _ in range(3):
        made.append((await choose(orders)).order)
        clock.advance(1_000)
    await town.buy(alice)  # of which there is no page
    assert [sight.order for sight in await orders.recent()] == made[::-1]
    assert [sight.order for sight in await orders.recent(2)] == made[:0:-1]
    assert [sight.order for sight in await orders.recent(2, made[1].created_at)] == made[:1]
    assert await orders.recent(-1) == []
    assert len(await orders.recent(1 << 70, 1 << 70)) == 3


async def test_a_refund_is_granted_collected_and_seen(town: Town, orders: Orders, alice: Wallet) -> None:
    sight = await choose(orders)
    with pytest.raises(ValueError, match="not paid"):
        await orders.grant(sight.order.id, 5)
    with pytest.raises(ValueError, match="no such order"):
        await orders.grant("0" * 32, 5)
    paid = await pay_by_link(alice, sight)
    await town.books.credit(town.shop_number, 100, "the shopkeeper's own")
    for amount in (-1, 14, 1 << 70):
        with pytest.raises(ValueError, match=r"at most 0\.13 USD"):
            await orders.grant(sight.order.id, amount)
    with orders.watch(sight.order.payment_id) as changes:
        await anext(changes)
        assert (await orders.grant(sight.order.id, 5)).refundable == (5, 0, 0)
        await asyncio.wait_for(anext(changes), 120)
        assert (await collect(alice, paid)).state == refund.Collected(5)
        await asyncio.wait_for(anext(changes), 120)
    assert (await seen(orders, sight)).refundable == (5, 5, 0)
    assert (await orders.grant(sight.order.id, 0)).refundable == (13, 5, 0)
    with pytest.raises(ValueError, match="nothing is left"):
        await orders.grant(sight.order.id, 0)


# ---------------------------------------------------------------- watching and forgetting


async def test_rings_that_nobody_has_heard_are_one_and_who_leaves_is_forgotten(orders: Orders) -> None:
    sight = await choose(orders)
    changes = orders._journal.changes
    with orders.watch(sight.order.payment_id) as first, orders.watch(sight.order.payment_id) as second:
        for bell in (first, second):
            await anext(bell)
        for _ in range(3):
            changes.tell(sight.order.payment_id)
        await anext(first)
        assert (first.is_set(), second.is_set(), len(changes)) == (False, True, 1)
        changes.tell(b"another sale")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(first), 0.01)
        changes.tell(sight.order.payment_id)
        await asyncio.wait_for(anext(first), 120)
    assert len(changes) == 0


async def test_orders_that_lapsed_are_forgotten_with_their_sales(
    town: Town, orders: Orders, alice: Wallet, clock: VirtualClock
) -> None:
    kept, gone = await choose(orders), await choose(orders)
    await pay_by_link(alice, kept)
    watching = asyncio.create_task(until(orders, gone, "expired"))
    clock.advance(15 * 60_000)
    await asyncio.wait_for(watching, 120)
    assert await town.sales.forget_lapsed(clock.now()) == 1
    assert await orders.find(gone.order.id) is None
    assert await OrderBook(town.sales).of_sale(gone.order.payment_id) is None
    assert (await seen(orders, kept)).stage == "accepted"
