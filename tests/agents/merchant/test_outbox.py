from collections.abc import AsyncIterator

import msgspec
import pytest

from agents.client.refund import collect
from agents.client.wallet import Wallet
from agents.merchant.orders import Line
from agents.merchant.outbox import Notice, Outbox
from protocol.messages import PayAnswer
from protocol.payment_link import PaymentLink
from tests.agents.byhand import client
from tests.agents.merchant.test_till import Buyer
from tests.agents.merchant.web_shop import choose, pay_by_link, seen, until
from tests.agents.world import BANK, Town, cash
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network

URL = "https://shop.example/ecash"
PAGES = "https://shop.example"


@pytest.fixture
async def told(founded: Town) -> Town:
    """A town whose shop has a system that wants to be told."""
    await founded.start_bank()
    await founded.start_shop(webhook=URL, public_url=f"{PAGES}/")
    return founded


@pytest.fixture
async def alice(told: Town) -> AsyncIterator[Wallet]:
    async with told.open_wallet("alice") as wallet:
        await told.customer(wallet, "alice", 100)
        await cash(wallet, 40)
        yield wallet


async def kinds(town: Town) -> list[str]:
    """The kinds of the notices, the oldest first."""
    return [notice.kind for notice in reversed(await town.shop.outbox.notices())]


async def test_what_was_paid_and_refunded_is_told_as_the_api_tells_it(told: Town, alice: Wallet) -> None:
    orders = told.shop.orders
    sight, _ = await orders.place(BANK, "USD", [Line("A song", 6, 2)], reference="A-17")
    assert await told.shop.outbox.notices() == []
    paid = await pay_by_link(alice, sight)
    await told.books.credit(told.shop_number, 100, "the shopkeeper's own")
    await orders.grant(sight.order.id, 5)
    await collect(alice, paid)
    later, first = await told.shop.outbox.notices()
    assert msgspec.json.decode(first.body) == {
        "type": "order.paid",
        "timestamp": "2023-11-14T22:13:20.000Z",
        "data": {
            "id": sight.order.id,
            "state": "accepted",
            "amount": 12,
            "currency": "USD",
            "lines": ["2 × A song"],
            "reference": "A-17",
            "created_at": "2023-11-14T22:13:20.000Z",
            "expires_at": "2023-11-14T22:28:20.000Z",
            "page": f"{PAGES}/orders/{sight.order.id}",
            "link": "",
            "refunded": 0,
            "paid_at": "2023-11-14T22:13:20.000Z",
        },
    }
    assert (first.state, first.order_id, first.kind) == ("waiting", sight.order.id, "order.paid")
    assert first.id.startswith("msg_")
    assert first.id != later.id
    told_later = msgspec.json.decode(later.body)
    assert (told_later["type"], told_later["data"]["refunded"]) == ("order.refunded", 5)
    assert (await seen(orders, sight)).refundable == (5, 5, 0)


async def test_each_refusal_of_the_bank_is_told_and_the_order_can_still_be_paid(
    told: Town, alice: Wallet, network: Network
) -> None:
    sight = await choose(told.shop.orders, "card")
    buyer, payreq = Buyer(told, "buyer"), PaymentLink.parse(sight.link).unverified
    _, short = buyer.payment(payreq, await (await client(told)).withdraw(4))
    refused: PayAnswer = await buyer.pay(network, short)
    assert not refused.receipt
    assert await buyer.pay(network, short) == refused  # once more, of which there is nothing to tell
    assert (await seen(told.shop.orders, sight)).stage == "declined"
    [notice] = await told.shop.outbox.notices()
    data = msgspec.json.decode(notice.body)["data"]
    assert (notice.kind, data["state"], data["paid_at"]) == ("order.declined", "declined", None)
    assert data["link"] == sight.link
    await pay_by_link(alice, sight)
    assert await kinds(told) == ["order.declined", "order.paid"]


async def test_an_order_that_expires_is_told_of_once(told: Town, clock: VirtualClock) -> None:
    sight = await choose(told.shop.orders)
    clock.advance(15 * 60_000)
    await until(told.shop.orders, sight, "expired")
    await told.stop_shop()
    await told.start_shop(webhook=URL)
    assert await kinds(told) == ["order.expired"]


async def test_of_sales_without_a_page_nothing_is_told(told: Town, alice: Wallet) -> None:
    await told.buy(alice)
    assert await told.shop.outbox.notices() == []


async def test_without_a_webhook_nothing_is_entered(town: Town, clock: VirtualClock) -> None:
    sight = await choose(town.shop.orders)
    clock.advance(15 * 60_000)
    await until(town.shop.orders, sight, "expired")
    assert await town.shop.outbox.notices() == []
    assert await town.shop.outbox.next() is None


async def expired(town: Town, clock: VirtualClock) -> Notice:
    """Let an order expire and return the notice of it."""
    sight = await choose(town.shop.orders)
    clock.advance(15 * 60_000)
    await until(town.shop.orders, sight, "expired")
    return (await town.shop.outbox.notices(1))[0]


async def test_a_notice_is_entered_with_its_step_or_not_at_all(
    told: Town, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sight = await choose(told.shop.orders)
    await told.stop_shop()
    monkeypatch.setattr("agents.merchant.store.insert_notice", _full)
    await told.start_shop(webhook=URL)
    clock.advance(15 * 60_000)
    while clock.now() not in {at - 60_000 for at, *_ in clock._sleepers}:  # the agent tries again in a minute
        assert (await seen(told.shop.orders, sight)).stage == "waiting"
    monkeypatch.undo()
    assert await told.shop.outbox.notices() == []
    clock.advance(60_000)
    await until(told.shop.orders, sight, "expired")
    assert await kinds(told) == ["order.expired"]


def _full(*_: object) -> None:
    raise OSError("no space left on device")


async def test_sent_by_hand_it_is_sent_like_a_new_one(told: Town, clock: VirtualClock) -> None:
    outbox, notice = told.shop.outbox, await expired(told, clock)
    await outbox.record(notice._replace(next_at=0, attempts=9, error="answered 500"))
    assert await outbox.next() is None
    [failed] = await outbox.notices()
    assert (failed.state, failed.error) == ("failed", "answered 500")
    outbox.bell.clear()
    assert await outbox.again(notice.number)
    assert outbox.bell.is_set()
    assert await outbox.next() == notice._replace(next_at=clock.now())
    for wrong in (notice.number + 1, 0, -1, 1 << 70):
        assert not await outbox.again(wrong)


async def test_what_was_delivered_or_given_up_is_forgotten_with_its_order(told: Town, clock: VirtualClock) -> None:
    outbox = told.shop.outbox
    delivered, given_up, waiting = [await expired(told, clock) for _ in range(3)]
    await outbox.record(delivered._replace(next_at=0, delivered_at=1))
    await outbox.record(given_up._replace(next_at=0))
    assert [notice.state for notice in await outbox.notices()] == ["waiting", "failed", "delivered"]
    assert await told.sales.forget_lapsed(clock.now()) == 3
    assert await outbox.notices() == [waiting]
    assert await Outbox(told.sales, clock).next() == waiting
