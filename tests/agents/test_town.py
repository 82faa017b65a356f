from protocol.wallet import payment, withdrawal

from .world import Town, cash, states


async def check_a_withdrawal_and_a_purchase(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        assert isinstance((await cash(alice, 20)).state, withdrawal.Issued)
        assert await states(alice) == {"free": 20}
        row = await town.buy(alice)
        assert isinstance(row.state, payment.Paid)
        assert row.state.receipt
        assert await states(alice) == {"free": 7}
    assert [balance for _, balance in await town.books.accounts()] == [12, 78]
    assert await town.faults() == []


async def test_a_withdrawal_and_a_purchase_over_a_simulated_network(town: Town) -> None:
    await check_a_withdrawal_and_a_purchase(town)


async def test_a_withdrawal_and_a_purchase_over_a_real_broker(real_town: Town) -> None:
    await check_a_withdrawal_and_a_purchase(real_town)
