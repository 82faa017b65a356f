"""Who is asked to come back later does, with the same bytes, and nobody can put it off without end."""

import asyncio

import pytest

from agents.admission import Told, Verdict
from agents.bank.agent import BankAgent
from agents.bank.desks.desk import Request
from agents.merchant.office import Office
from broker.address import BrokerUrl
from broker.port import Link, Outgoing
from protocol.merchant import payout
from protocol.wallet import payment, withdrawal
from tests.agents.world import Town, cash
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network

PAUSE = 20_000
WITHDRAWALS = "ecash/v1/north/+/withdraw/+"
DEPOSITS = "ecash/v1/north/+/deposit/+"


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Tells for which kinds the bank has no time; it asks for a pause then."""
    kinds: dict[str, bool] = {}
    usual = BankAgent._decide

    async def answer(bank: BankAgent, kind: str, request: Request) -> bytes:
        if kinds.get(kind):
            return bank._busy(request, Told(Verdict.REFUSED, PAUSE))
        return await usual(bank, kind, request)

    monkeypatch.setattr(BankAgent, "_decide", answer)
    return kinds


async def settle() -> None:
    """Let everybody do what is to be done at this time."""
    for _ in range(50):
        await asyncio.sleep(0)


async def answered(network: Network, request: Outgoing) -> Outgoing:
    """Wait for the answer to a request, and until it was read."""
    replies = "ecash/v1/reply/+/north"
    while True:
        for reply in network.heard(replies):
            if reply.correlation == request.correlation:
                await settle()
                return reply
        await network.wait_for(len(network.heard(replies)) + 1, replies)


async def sent_again(network: Network, clock: VirtualClock, topic: str) -> Outgoing:
    """Let time pass until a request is sent once more."""
    while len(network.heard(topic)) < 2:
        clock.advance(1_000)
        await settle()
    return network.heard(topic)[1]


async def test_a_wallet_keeps_the_pause_and_then_sends_the_same_bytes(
    town: Town, network: Network, clock: VirtualClock, busy: dict[str, bool]
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        busy["withdraw"] = True
        task = asyncio.create_task(cash(alice, 8))
        [first] = await network.wait_for(1, WITHDRAWALS)
        await answered(network, first)
        busy.clear()
        clock.advance(PAUSE - 1)
        await settle()
        assert len(network.heard(WITHDRAWALS)) == 1
        again = await sent_again(network, clock, WITHDRAWALS)
        assert again.payload == first.payload
        assert isinstance((await task).state, withdrawal.Issued)
        assert await town.faults() == []


async def test_who_asks_for_one_pause_after_the_other_is_asked_again_all_the_same(
    town: Town, network: Network, clock: VirtualClock, busy: dict[str, bool]
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        busy["withdraw"] = True
        task = asyncio.create_task(cash(alice, 8))
        [first] = await network.wait_for(1, WITHDRAWALS)
        reply = await answered(network, first)
        busy.clear()
        for _ in range(4):
            network.inject(reply.topic, reply.payload)
            await settle()
            clock.advance(PAUSE // 2)
        await sent_again(network, clock, WITHDRAWALS)
        assert isinstance((await task).state, withdrawal.Issued)


async def test_a_shop_keeps_the_pause_and_deposits_then(
    town: Town, network: Network, clock: VirtualClock, busy: dict[str, bool]
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 16)
        busy["deposit"] = True
        task = asyncio.create_task(town.buy(alice, "card", patience_ms=600_000))
        [first] = await network.wait_for(1, DEPOSITS)
        reply = await answered(network, first)
        while not town.shop._put_off:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
        clock.advance(PAUSE // 2)
        network.inject(reply.topic, reply.payload)
        await settle()
        clock.advance(PAUSE // 2 - 1)
        await settle()
        assert len(network.heard(DEPOSITS)) == 1
        busy.clear()
        again = await sent_again(network, clock, DEPOSITS)
        assert again.payload == first.payload
        assert isinstance((await task).state, payment.Paid)
        assert await town.faults() == []


async def test_a_payout_keeps_the_pause(
    town: Town, network: Network, clock: VirtualClock, busy: dict[str, bool]
) -> None:
    def connect(_: BrokerUrl, client: str) -> Link:
        return network.link(client, persistent=False)

    await town.books.credit(town.shop_number, 50, "takings")
    office, payouts = Office(town.shop.desk, connect), "ecash/v1/north/+/payout/+"
    busy["payout"] = True
    task = asyncio.create_task(office.pay_out("north", "0.20", patience_ms=600_000))
    [first] = await network.wait_for(1, payouts)
    reply = await answered(network, first)
    network.inject(reply.topic, reply.payload)
    await settle()
    busy.clear()
    clock.advance(PAUSE - 1)
    await settle()
    assert len(network.heard(payouts)) == 1
    assert (await sent_again(network, clock, payouts)).payload == first.payload
    assert isinstance((await task).state, payout.Refused), "decided: the shop has no account to pay out to"
