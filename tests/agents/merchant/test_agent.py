import asyncio

import msgspec

from agents.bank.home import sign_keyset
from agents.client import pay as paying
from agents.merchant.agent import MerchantAgent
from agents.merchant.home import Stock
from agents.merchant.store import MerchantStore
from broker.port import Incoming, Outgoing
from protocol import topics
from protocol.merchant import sale
from protocol.messages import Catalog, Signed
from protocol.refusals import Refusal
from protocol.signatures import Domain
from protocol.wallet import payment
from protocol.wallet.paying import open_catalog
from tests.agents.world import BANK, SHOP, Town, cash
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network

DEPOSITS = f"ecash/v1/{BANK}/+/deposit/+"


async def test_an_open_shop_announces_its_catalogue_under_the_banks_certificate(town: Town, network: Network) -> None:
    (announced,) = network.heard(topics.catalog(SHOP))
    assert announced.retain
    catalog = Catalog.decode(Signed.decode(announced.payload).check(town.shop.desk.keys.public, Domain.CATALOG))
    assert [(item.sku, item.price) for item in catalog.items] == [("novel", 13), ("card", 5)]
    assert open_catalog(SHOP, announced.payload, town.keyset).certificate.account == town.shop_number
    await town.stop_shop()
    assert network.heard(topics.status(SHOP))[-1].payload == b"gone"


async def test_a_shop_that_opens_again_needs_no_invitation_and_keeps_its_certificate(
    town: Town, network: Network
) -> None:
    await town.stop_shop()
    await town.start_shop()
    assert len(network.heard(f"ecash/v1/{BANK}/+/account/+")) == 1


async def test_the_deposit_is_asked_for_until_the_bank_is_back(
    town: Town, network: Network, clock: VirtualClock
) -> None:
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        quote = await town.order(alice, requester)
        network.loses = lambda message: "/deposit/" in message.topic
        task = asyncio.create_task(paying.pay(alice, quote, requester, patience_ms=HOUR_MS))
        for sent in range(1, 5):
            await network.wait_for(sent, DEPOSITS)
            clock.advance(60_000)
        network.loses = lambda _: False
        assert isinstance((await task).state, payment.Paid)
        deposits = network.heard(DEPOSITS)
        assert len({message.payload for message in deposits}) == 1
        assert len({message.topic for message in deposits}) > 1
        assert await town.books.balance(town.shop_number) == 12


async def test_a_bank_that_is_away_for_hours_decides_when_it_is_back(
    town: Town, network: Network, clock: VirtualClock
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        async with alice.presence(town.address.broker) as requester:
            quote = await town.order(alice, requester)
            await town.stop_bank()
            row = await paying.pay(alice, quote, requester, patience_ms=0)
        await network.wait_for(1, DEPOSITS)
        for _ in range(5):
            clock.advance(HOUR_MS)
            await town.stop_shop()
            await town.start_shop()
        await town.open_books()
        await town.start_bank()
        await network.wait_for(1, f"ecash/v1/reply/bookshop-presence/{BANK}")
        while (await town.sales.deposits(only_open=True)) != []:
            clock.advance(60_000)
            await asyncio.sleep(0)
        (sold,) = await town.sales.sales()
        assert isinstance(sold.state, sale.Declined | sale.Lapsed)
        assert await town.books.balance(town.shop_number) == 0
        assert row.open


async def test_a_payment_is_taken_up_again_by_a_shop_that_restarts(
    town: Town, network: Network, clock: VirtualClock
) -> None:
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        quote = await town.order(alice, requester)
        network.loses = lambda message: "/deposit/" in message.topic
        task = asyncio.create_task(paying.pay(alice, quote, requester, patience_ms=HOUR_MS))
        await network.wait_for(1, DEPOSITS)
        await town.stop_shop()
        network.loses = lambda _: False
        await town.start_shop()
        assert isinstance((await task).state, payment.Paid)
        assert await town.books.balance(town.shop_number) == 12


async def test_a_new_keyset_is_taken_over_and_a_fork_is_not(town: Town, network: Network) -> None:
    identity = town.mint.keys.identity
    newer = msgspec.structs.replace(town.keyset, number=1, chain=(town.keyset.hash,))
    fork = msgspec.structs.replace(town.keyset, issued_at=1)
    topic = topics.keys(BANK)
    assert await town.shop.handle(Incoming(topic, sign_keyset(identity, fork))) is None
    assert town.shop.dropped.total() == 1
    assert town.shop.desk.banks[BANK].ring.keyset == town.keyset
    assert await town.shop.handle(Incoming(topic, sign_keyset(identity, newer))) is None
    assert town.shop.desk.banks[BANK].ring.keyset == newer
    await town.shop.handle(Incoming(topic, sign_keyset(identity, town.keyset)))
    assert town.shop.desk.banks[BANK].ring.keyset == newer


async def test_a_request_that_comes_before_the_shop_is_open_is_dropped(founded: Town, network: Network) -> None:
    await founded.start_bank()
    await founded.start_shop()
    settings, keys = founded.shop.desk.settings, founded.shop.desk.keys
    async with MerchantStore(founded.folder / "other.db") as store:
        link = network.link("other-presence", persistent=True)
        closed = MerchantAgent(settings, keys, Stock(), store, link, founded.clock, founded.entropy("other"))
        message = Incoming(topics.merchant_request(SHOP, "order", "x"), b"\1\2" + bytes(500))
        assert await closed.handle(message) is None
        assert closed.dropped == {Refusal.OVERLOADED: 1}


async def test_a_retained_request_is_none(town: Town) -> None:
    message = Outgoing(topics.merchant_request(SHOP, "order", "x"), bytes(100), retain=True)
    assert await town.shop.handle(Incoming(message.topic, message.payload, retained=True)) is None
    assert town.shop.dropped == {Refusal.WRONG_TYPE: 1}
