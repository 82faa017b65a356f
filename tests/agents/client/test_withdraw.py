import asyncio
from collections.abc import Sequence

import pytest

from agents.client import withdraw as withdrawing
from agents.client.redeem import redeem
from agents.client.wallet import WalletError
from agents.client.withdraw import WEEK_MS, withdraw
from protocol.money import Amount
from protocol.refusals import Refusal
from protocol.wallet import withdrawal
from tests.agents.world import Town, cash, states
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network


async def test_a_withdrawal_gives_coins_worth_the_amount(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        row = await cash(alice, 40)
        assert row.state == withdrawal.Issued(40, 4)
        assert await states(alice) == {"free": 40}
        assert await town.books.balance(1002) == 56


async def test_the_banks_refusal_ends_a_withdrawal(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 40)
        row = await cash(alice, 40)
        assert isinstance(row.state, withdrawal.Refused)
        assert row.state.refusal == Refusal.INSUFFICIENT_FUNDS
        assert await states(alice) == {}
        assert await town.books.balance(1002) == 40


@pytest.mark.parametrize(
    ("amount", "message"),
    [(Amount(1, "EUR"), "in USD"), (Amount(1000, "USD"), "ask for less")],
)
async def test_what_cannot_be_asked_for_is_not(town: Town, amount: Amount, message: str) -> None:
    async with town.open_wallet("alice") as alice:
        bank = await town.customer(alice, "alice", 100)
        with pytest.raises(WalletError, match=message):
            await withdraw(alice, bank, amount)
        assert await alice.store.exchanges() == []


async def test_without_an_account_nothing_is_withdrawn(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        async with alice.presence(town.address.broker) as requester:
            bank = await alice.refresh(town.address, requester)
        with pytest.raises(WalletError, match="no account"):
            await withdraw(alice, bank, Amount(1, "USD"))


async def test_coins_that_the_bank_signed_wrongly_are_not_counted(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    async def sign(denomination: bytes, blinded: Sequence[bytes]) -> list[bytes]:
        return list(blinded)

    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        with monkeypatch.context() as patch:
            patch.setattr(town.bank._desk.signer, "blind_sign", sign)
            row = await cash(alice, 8)
        assert isinstance(row.state, withdrawal.Disputed)
        assert not row.open
        assert await states(alice) == {}


async def test_the_same_request_is_sent_until_it_is_answered_and_debited_once(
    town: Town, network: Network, clock: VirtualClock
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        network.loses = lambda message: message.topic.startswith("ecash/v1/reply/")
        task = asyncio.create_task(cash(alice, 8))
        for sent in range(1, 4):
            await network.wait_for(sent, "ecash/v1/north/+/withdraw/+")
            clock.advance(10_000)
        network.loses = lambda _: False
        assert (await network.wait_for(4, "ecash/v1/north/+/withdraw/+"))[0].payload
        row = await task
        assert isinstance(row.state, withdrawal.Issued)
        sent_bytes = {message.payload for message in network.heard("ecash/v1/north/+/withdraw/+")}
        lanes = {message.topic.split("/")[3] for message in network.heard("ecash/v1/north/+/withdraw/+")}
        assert len(sent_bytes) == 1
        assert len(lanes) >= 3
        assert await town.books.balance(1002) == 92 - town.keyset.tariff.withdrawal.charge(8)
        assert await town.faults() == []


async def test_that_a_withdrawal_is_used_up_is_told_only_weeks_later(
    town: Town, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told at once, it would date the payment that took its last coin."""
    monkeypatch.setattr(withdrawing, "KEPT_WITHDRAWALS", 0)
    async with town.open_wallet("alice") as alice:
        bank = await town.customer(alice, "alice", 100)
        first = await cash(alice, 4)
        await redeem(alice, bank, await alice.store.coins("north", "USD"), unverified=False)
        clock.advance(20 * WEEK_MS)
        finder = await cash(alice, 4)
        assert (finder.note.settled, finder.note.used_up) == ((), (first.id,)), "however long ago it was withdrawn"
        weeks = 2 + 6 * alice.root.settling_jitter(first.id) / 1000
        clock.advance(int(weeks * WEEK_MS) - 1000)
        early = await cash(alice, 4)
        assert (early.note.settled, early.note.used_up) == ((), ())
        clock.advance(2000)
        assert (await cash(alice, 4)).note.settled == (first.id,)
        assert (await cash(alice, 4)).note.settled == (), "once is enough"
