import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from agents.bank.home import sign_keyset
from agents.client.refund import collect
from agents.client.withdraw import withdraw
from agents.home import HomeError
from agents.merchant.agent import MerchantAgent
from agents.merchant.cli.shop import invitations_of
from agents.merchant.home import Settings, Stock, create
from agents.merchant.store import MerchantStore
from agents.requester import NobodyAnswers
from broker.port import Incoming
from protocol import topics
from protocol.errors import PeerError
from protocol.messages import Catalog, Signed
from protocol.money import Amount
from protocol.refusals import Refusal
from protocol.wallet import payment, refund
from tests.agents.merchant.south import SOUTH, South, buy_at
from tests.agents.world import BANK, SHOP, Town, cash
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network


@pytest.fixture
async def south(founded: Town) -> AsyncIterator[South]:
    """A town with a second bank, where nobody is running yet."""
    south = South(founded)
    await south.found()
    yield south
    await founded.stop_shop()
    await south.stop()


async def both_open(south: South) -> Town:
    await south.town.start_bank()
    await south.start()
    await south.town.start_shop()
    return south.town


def announced(network: Network) -> Catalog:
    return Catalog.decode(Signed.decode(network.heard(topics.catalog(SHOP))[-1].payload).statement)


async def test_one_shop_sells_for_two_currencies_to_one_wallet(south: South, network: Network) -> None:
    town = await both_open(south)
    catalog = announced(network)
    assert len(catalog.certificates) == 2
    assert {(item.sku, item.currency) for item in catalog.items} == {
        ("novel", "USD"),
        ("card", "USD"),
        ("verse", "EUR"),
    }
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await south.customer(alice, "alice", 100)
        await withdraw(alice, alice.bank(BANK), Amount(20, "USD"))
        await withdraw(alice, alice.bank(SOUTH), Amount(20, "EUR"))
        for bank, sku in ((BANK, "card"), (SOUTH, "verse")):
            assert isinstance((await buy_at(alice, bank, sku)).state, payment.Paid)
        with pytest.raises(PeerError, match=Refusal.UNKNOWN_ITEM):
            await buy_at(alice, BANK, "verse")
    assert await town.books.balance(town.shop_number) == 4
    assert await south.books.balance(south.shop_number) == 11
    assert await town.faults() == await south.faults() == []


async def test_a_refund_goes_through_the_bank_that_was_paid_with(south: South) -> None:
    town = await both_open(south)
    async with town.open_wallet("alice") as alice:
        await south.customer(alice, "alice", 100)
        await withdraw(alice, alice.bank(SOUTH), Amount(20, "EUR"))
        paid = await buy_at(alice, SOUTH, "verse")
        [sold] = await town.sales.sales()
        await town.sales.grant(sold.payment_id, 5, town.clock.now())
        assert (await collect(alice, paid)).state == refund.Collected(5)
    assert await south.books.balance(south.shop_number) == 11 - 5 - 1, "the bank's commission comes on top"
    assert await south.faults() == []


@pytest.mark.parametrize("away", [BANK, SOUTH])
async def test_a_bank_that_is_away_keeps_the_shop_open_for_the_other(
    south: South, network: Network, clock: VirtualClock, away: str
) -> None:
    town = await both_open(south)
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await south.customer(alice, "alice", 100)
        await withdraw(alice, alice.bank(BANK), Amount(20, "USD"))
        await withdraw(alice, alice.bank(SOUTH), Amount(20, "EUR"))
        await town.stop_shop()
        await (town.stop_bank() if away == BANK else south.stop())
        await town.start_shop()
        here, sku, there, late = (SOUTH, "verse", BANK, "card") if away == BANK else (BANK, "card", SOUTH, "verse")
        assert isinstance((await buy_at(alice, here, sku)).state, payment.Paid)
        async with alice.presence(alice.bank(there).address.broker):
            task = asyncio.create_task(buy_at(alice, there, late, patience_ms=HOUR_MS))
            await network.wait_for(1, f"ecash/v1/{there}/+/deposit/+")
        await (_back(town) if away == BANK else south.restart())
        clock.advance(60_000)
        assert isinstance((await task).state, payment.Paid)


async def _back(town: Town) -> None:
    await town.open_books()
    await town.start_bank()


async def test_a_bank_that_was_never_there_joins_when_it_comes(
    south: South, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.merchant.agent.GRACE_S", 0.2)
    town = south.town
    await town.start_bank()
    await town.start_shop()
    assert list(town.shop.desk.banks) == [BANK]
    assert len(announced(network).certificates) == 1
    await south.start()
    await network.wait_for(2, topics.catalog(SHOP))
    assert len(announced(network).certificates) == 2
    assert announced(network).items[-1].currency == "EUR"


async def test_a_shop_that_finds_no_bank_does_not_open(
    founded: Town, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.merchant.banks.PATIENCE_S", 0.1)
    monkeypatch.setattr("agents.merchant.agent.GRACE_S", 0.1)
    settings = Settings(SHOP, founded.shop_banks, "mqtt://127.0.0.1", "presence")
    keys = create(founded.folder / "shop", settings, founded.entropy("shop"))
    async with (
        MerchantStore(founded.folder / "sales.db") as store,
        network.link("bookshop-presence", persistent=True) as link,
    ):
        agent = MerchantAgent(settings, keys, Stock(), store, link, founded.clock, founded.entropy("till"))
        with pytest.raises(ExceptionGroup) as caught:
            await agent.run()
    assert caught.group_contains(NobodyAnswers)


async def test_each_bank_has_a_keyset_of_its_own_that_is_followed(south: South, network: Network) -> None:
    town = await both_open(south)
    newer = msgspec.structs.replace(south.mint.keyset, number=1, chain=(south.mint.keyset.hash,))
    message = Incoming(topics.keys(SOUTH), sign_keyset(south.mint.keys.identity, newer))
    assert await town.shop.handle(message) is None
    assert town.shop.desk.banks[SOUTH].ring.keyset == newer
    assert town.shop.desk.banks[BANK].ring.keyset == town.keyset
    forged = Incoming(topics.keys(BANK), message.payload)
    assert await town.shop.handle(forged) is None
    assert town.shop.desk.banks[BANK].ring.keyset == town.keyset


def test_the_settings_name_banks_at_one_broker_each_once() -> None:
    north = f"ecash://north@127.0.0.1:1883#{'0' * 64}"
    settings = Settings("shop", [north], "mqtt://127.0.0.1", "x")
    assert list(settings.addresses) == ["north"]
    for banks, reason in (
        ([], "1 to 16"),
        ([north, north], "each once"),
        ([north, f"ecash://south@example.org#{'0' * 64}"], "several brokers"),
        (["nonsense"], "no bank's address"),
    ):
        with pytest.raises(HomeError, match=reason):
            _ = msgspec.structs.replace(settings, banks=banks).addresses


def test_an_invitation_says_its_bank_where_there_are_several() -> None:
    text = "aaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aa"
    assert invitations_of([text], ["north"]) == {"north": bytes(16)}
    assert invitations_of([f"south={text}"], ["north", "south"]) == {"south": bytes(16)}
    for wrong in (text, f"west={text}"):
        with pytest.raises(ValueError, match="BANK="):
            invitations_of([wrong], ["north", "south"])


async def test_lapsed_sales_are_forgotten_in_time_and_sold_ones_are_not(town: Town, clock: VirtualClock) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        await town.buy(alice)
        async with alice.presence(town.address.broker) as requester:
            await town.order(alice, requester)
    assert len(await town.sales.sales()) == 2
    await town.stop_shop()
    clock.advance(HOUR_MS)
    await town.start_shop()
    while await town.sales.sales(only_open=True):
        pass
    asked = "SELECT count(*) FROM asked"
    assert await town.sales.read(lambda db: db.execute(asked).fetchone()) == (3,)
    assert await town.sales.forget_lapsed(clock.now() - HOUR_MS) == 0
    clock.advance(31 * 24 * HOUR_MS)
    while len(await town.sales.sales()) > 1:
        pass
    [kept] = await town.sales.sales()
    assert not kept.open
    assert await town.sales.read(lambda db: db.execute(asked).fetchone()) == (2,)
