import asyncio

import pytest

from agents.bank.store import DestinationRow
from agents.home import HomeError
from agents.merchant.desk import Desk
from agents.merchant.home import Stock
from agents.merchant.office import Office
from protocol.errors import PeerError
from protocol.merchant import payout
from protocol.refusals import Refusal
from tests.agents.merchant.south import SOUTH, South
from tests.agents.world import BANK, Town
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network, matches

ASKED = f"ecash/v1/{BANK}/+/payout/+"
ANSWERS = f"ecash/v1/reply/+/{BANK}"


@pytest.fixture
async def office(town: Town, network: Network) -> Office:
    """The office of an open shop whose account holds 100, to be paid out to where the bank knows."""
    await town.books.credit(town.shop_number, 100, "the shopkeeper's own")
    await town.books.set_destination(town.shop_number, DestinationRow("011000015", "42", "checking", "The Bookshop"))
    return office_of(town, network)


def office_of(town: Town, network: Network, use: str = "first") -> Office:
    open_shop = town.shop.desk
    desk = Desk(
        open_shop.settings, open_shop.keys, Stock(), town.sales, town.clock, town.entropy(f"{use} use of the office")
    )
    return Office(desk, lambda _, client: network.link(client, persistent=False))


async def test_the_account_is_looked_at_beside_the_open_shop(office: Office, town: Town, network: Network) -> None:
    account = await office.account(office.bank())
    assert (account.account, account.balance, account.currency) == (town.shop_number, 100, "USD")
    clients = {message.topic.split("/")[-1] for message in network.heard(f"ecash/v1/{BANK}/+/account/+")}
    assert len(clients - {"bookshop-presence"}) == 1


async def test_a_payout_is_debited_and_listed(office: Office, town: Town) -> None:
    row = await office.pay_out(BANK, "0.30")
    assert row.state == payout.Queued(70)
    assert await town.books.balance(town.shop_number) == 70
    told = await office.payouts(BANK)
    assert told.balance == 70
    assert [(one.amount, one.state) for one in told.payouts] == [(30, "queued")]
    assert await town.faults() == []


async def test_everything_is_paid_out_once(office: Office, town: Town) -> None:
    assert (await office.pay_out(BANK)).amount == 100
    assert await town.books.balance(town.shop_number) == 0
    with pytest.raises(ValueError, match="nothing to pay out"):
        await office.pay_out(BANK)


@pytest.mark.parametrize(("hop", "amount"), [(ASKED, "0.30"), (ANSWERS, "0.30"), (ANSWERS, "")])
async def test_a_command_that_is_repeated_after_a_crash_pays_out_once(
    office: Office, town: Town, network: Network, hop: str, amount: str
) -> None:
    def loses(message: object) -> bool:
        return bool(network.heard(ASKED)) and matches(hop, network.published[-1].topic)

    network.loses = loses
    row = await office.pay_out(BANK, amount, patience_ms=0)
    assert row.open
    await network.wait_for(1, ASKED)
    network.loses = lambda _: False
    again = await office_of(town, network, "second").pay_out(BANK, amount)
    assert again.request_id == row.request_id
    assert isinstance(again.state, payout.Queued)
    assert await town.books.balance(town.shop_number) == 100 - row.amount
    assert len({message.payload for message in network.heard(ASKED)}) == 1
    assert len((await office.payouts(BANK)).payouts) == 1
    assert await town.faults() == []


async def test_an_open_payout_of_another_amount_is_carried_on_first(
    office: Office, town: Town, network: Network
) -> None:
    network.loses = lambda message: matches(ASKED, message.topic)
    assert (await office.pay_out(BANK, "0.30", patience_ms=0)).open
    await network.wait_for(1, ASKED)
    network.loses = lambda _: False
    row = await office_of(town, network, "second").pay_out(BANK, "0.20")
    assert (row.amount, row.state) == (20, payout.Queued(50))
    assert not await town.sales.payouts(only_open=True)


async def test_the_same_bytes_are_sent_until_the_bank_answers(
    office: Office, town: Town, network: Network, clock: VirtualClock
) -> None:
    network.loses = lambda message: matches(ASKED, message.topic)
    task = asyncio.create_task(office.pay_out(BANK, "0.30", patience_ms=10_000_000))
    for count in (1, 2, 3):
        await network.wait_for(count, ASKED)
        clock.advance(60_000)
    network.loses = lambda _: False
    await network.wait_for(4, ASKED)
    clock.advance(60_000)
    assert (await task).state == payout.Queued(70)
    assert len({message.payload for message in network.heard(ASKED)}) == 1


async def test_a_payout_that_the_bank_refuses_changes_nothing(office: Office, town: Town) -> None:
    row = await office.pay_out(BANK, "1.01")
    assert isinstance(row.state, payout.Refused)
    assert row.state.refusal == Refusal.INSUFFICIENT_FUNDS
    assert await town.books.balance(town.shop_number) == 100
    for nothing in ("0.00", "100000000.00"):
        with pytest.raises(ValueError, match="at most"):
            await office.pay_out(BANK, nothing)


async def test_a_bank_is_named_where_there_are_several(founded: Town, network: Network) -> None:
    south = South(founded)
    await south.found()
    await founded.start_bank()
    await south.start()
    await founded.start_shop()
    office = office_of(founded, network)
    with pytest.raises(HomeError, match="--bank"):
        office.bank()
    with pytest.raises(HomeError, match="no account at west"):
        office.bank("west")
    await south.books.credit(south.shop_number, 1_000, "the shopkeeper's own")
    row = await office.pay_out(office.bank(SOUTH), "")
    assert isinstance(row.state, payout.Refused)
    assert row.state.refusal == Refusal.NO_DESTINATION
    assert (row.amount, row.commission) == (900, 100), "all there is, its commission included"
    await founded.stop_shop()
    await south.stop()


async def test_a_client_is_told_that_payouts_are_for_merchants(town: Town, network: Network) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        keys = town.shop.desk.keys._replace(identity=alice.root.account(town.keyset.identity))
        desk = Desk(town.shop.desk.settings, keys, Stock(), town.sales, town.clock, town.entropy("office"))
        office = Office(desk, lambda _, client: network.link(client, persistent=False))
        with pytest.raises(PeerError, match=Refusal.WRONG_MERCHANT):
            await office.payouts(BANK)
