import asyncio
from collections.abc import Callable

import pytest

from agents.client import pay as paying
from agents.client.resume import resume
from agents.client.store import ExchangeRow
from agents.client.wallet import Wallet
from agents.client.withdraw import withdraw
from broker.port import LinkDown, Outgoing
from protocol.machine import WakeAt
from protocol.money import Amount
from protocol.wallet import payment, withdrawal
from tests.agents.world import SHOP, Town, cash, states
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network


def nothing(message: Outgoing) -> bool:
    return False


def requests(message: Outgoing) -> bool:
    return "/pay/" in message.topic or "/withdraw/" in message.topic


def answers(message: Outgoing) -> bool:
    """What the wallet should hear; the shop hears its bank."""
    return message.topic.startswith("ecash/v1/reply/") and "/bookshop-presence/" not in message.topic


async def interrupted_withdrawal(
    town: Town, network: Network, wallet: Wallet, loses: Callable[[Outgoing], bool]
) -> ExchangeRow:
    network.loses = loses
    row = await withdraw(wallet, wallet.bank(), Amount(8, "USD"), patience_ms=0)
    network.loses = nothing
    assert isinstance(row.state, withdrawal.Requested)
    return row


async def interrupted_payment(
    town: Town, network: Network, wallet: Wallet, loses: Callable[[Outgoing], bool]
) -> ExchangeRow:
    async with wallet.presence(town.address.broker) as requester:
        quote = await town.order(wallet, requester)
        network.loses = loses
        row = await paying.pay(wallet, quote, requester, patience_ms=0)
        if loses is answers:
            await network.wait_for(2, f"ecash/v1/reply/+/{SHOP}")
        network.loses = nothing
        assert isinstance(row.state, payment.Paying)
        return row


@pytest.mark.parametrize("loses", [requests, answers])
async def test_a_withdrawal_goes_on_and_is_debited_once(
    town: Town, network: Network, loses: Callable[[Outgoing], bool]
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await interrupted_withdrawal(town, network, alice, loses)
    async with town.open_wallet("alice") as alice:
        (row,) = await resume(alice)
        assert isinstance(row.state, withdrawal.Issued)
        assert await states(alice) == {"free": 8}
        assert await resume(alice) == []
    assert await town.books.balance(1002) == 92 - town.keyset.tariff.withdrawal.charge(8)


@pytest.mark.parametrize("loses", [requests, answers])
async def test_a_payment_goes_on_and_is_paid_once(
    town: Town, network: Network, loses: Callable[[Outgoing], bool]
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        await interrupted_payment(town, network, alice, loses)
        assert await states(alice) == {"free": 7, "reserved": 13}
    async with town.open_wallet("alice") as alice:
        (row,) = await resume(alice)
        assert isinstance(row.state, payment.Paid)
        assert row.state.receipt
        assert await states(alice) == {"free": 7}
    assert await town.books.balance(town.shop_number) == 12
    assert await town.faults() == []


@pytest.mark.parametrize(("loses", "ending"), [(requests, payment.Released), (answers, payment.Paid)])
async def test_a_payment_that_is_resumed_too_late_ends_by_the_banks_verdict(
    town: Town, network: Network, clock: VirtualClock, loses: Callable[[Outgoing], bool], ending: type
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        await interrupted_payment(town, network, alice, loses)
        clock.advance(HOUR_MS)
    async with town.open_wallet("alice") as alice:
        (row,) = await resume(alice)
        assert isinstance(row.state, ending)


async def test_while_nobody_answers_everything_stays_open_and_the_bank_is_asked_in_the_end(
    town: Town, network: Network, clock: VirtualClock
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        await interrupted_withdrawal(town, network, alice, requests)
        await interrupted_payment(town, network, alice, requests)
    await town.stop_shop()
    await town.stop_bank()
    for kind in (payment.Paying, payment.Asking):
        async with town.open_wallet("alice") as alice:
            heard = len(network.published)
            task = asyncio.create_task(resume(alice))
            for sent in (1, 2):  # one after the other, the withdrawal first
                await network.wait_for(heard + sent)
                clock.advance(5_000)
            rows = await task
            assert [type(row.state) for row in rows] == [withdrawal.Requested, kind]
            assert all(row.open for row in rows)
        clock.advance(HOUR_MS)
    await town.open_books()
    await town.start_bank()
    async with town.open_wallet("alice") as alice:
        rows = await resume(alice)
        assert [type(row.state) for row in rows] == [withdrawal.Issued, payment.Released]
        assert await states(alice) == {"free": 28}


async def test_a_refused_payment_waits_for_its_last_moment_over_a_restart(
    town: Town, network: Network, clock: VirtualClock
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        row = await interrupted_payment(town, network, alice, requests)
        assert isinstance(row.state, payment.Paying)
        waiting = payment.Waiting(row.state.payment, "unknown_sale", "")
        await alice.store.save(row._replace(state=waiting), [WakeAt(row.state.payment.deposit_before)], {})
    async with town.open_wallet("alice") as alice:
        before = len(network.published)
        (row,) = await resume(alice)
        assert isinstance(row.state, payment.Waiting)
        assert len(network.published) == before, "nobody is told that somebody waits"
        clock.advance(HOUR_MS)
        (row,) = await resume(alice)
        assert isinstance(row.state, payment.Released)


async def test_without_a_broker_everything_stays_open(
    town: Town, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await interrupted_withdrawal(town, network, alice, requests)

        def down(*_: object) -> None:
            raise LinkDown("no broker")

        alice._link = down  # type: ignore[assignment]
        (row,) = await resume(alice)
        assert row.open
        assert "stays open: no broker" in caplog.text
