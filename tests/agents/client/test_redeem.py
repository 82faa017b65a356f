from collections.abc import Sequence
from typing import Any

import pytest

from agents.client.exchange import Inputs, exchange
from agents.client.recover import put_back, redeem_revoked
from agents.client.redeem import redeem
from agents.client.resume import resume
from agents.client.store import FREE, SPENT, HeldCoin
from agents.client.wallet import Bank, Wallet, WalletError
from protocol.coins import Evidence, spend
from protocol.keyset import KeyRing
from protocol.messages import Exhibits
from protocol.money import Amount
from protocol.recovery import RedeemAnswer
from protocol.refusals import Refusal
from protocol.wallet import redemption
from tests.agents.world import Town, cash, states
from tests.simulation.network import Network


async def held(wallet: Wallet, state: str = FREE) -> list[HeldCoin]:
    return await wallet.store.coins("north", "USD", state)


def lost(wallet: Wallet, bank: Bank, coins: Sequence[HeldCoin]) -> Any:
    """A redemption of which nothing arrives in time."""
    return redeem(wallet, bank, coins, unverified=False, patience_ms=0)


async def test_coins_are_redeemed_into_the_account(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        bank = await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        row = await redeem(alice, bank, await held(alice), unverified=False)
        assert row.state == redemption.Redeemed(20, 0)
        assert await states(alice) == {}
        assert await town.books.balance(1002) == 98
        assert await town.faults() == []


@pytest.mark.parametrize("path", ["/redeem/", "ecash/v1/reply/"])
async def test_a_redemption_goes_on_and_is_credited_once(town: Town, network: Network, path: str) -> None:
    async with town.open_wallet("alice") as alice:
        bank = await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        network.loses = lambda message: path in message.topic
        row = await lost(alice, bank, await held(alice))
        network.loses = lambda _: False
        assert isinstance(row.state, redemption.Requested)
        assert await states(alice) == {"reserved": 20}
    async with town.open_wallet("alice") as alice:
        (row,) = await resume(alice)
        assert row.state == redemption.Redeemed(20, 0)
        assert await states(alice) == {}
    assert await town.books.balance(1002) == 98
    assert await town.faults() == []


async def test_coins_that_a_copy_has_spent_are_proven_spent_and_the_others_come_back(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        bank = await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        coins = await held(alice)
        await redeem(alice, bank, coins[:2], unverified=False)
        await alice.store.move([one.coin.serial for one in coins[:2]], SPENT, FREE)
        row = await redeem(alice, bank, await held(alice), unverified=False)
        assert isinstance(row.state, redemption.Refused)
        assert (row.state.refusal, row.state.spent) == (Refusal.ALREADY_SPENT, 2)
        assert await held(alice) == coins[2:]


async def test_without_an_account_nothing_is_redeemed(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        async with alice.presence(town.address.broker) as requester:
            bank = await alice.refresh(town.address, requester)
        with pytest.raises(WalletError, match="no account"):
            await redeem(alice, bank, [], unverified=False)
        with pytest.raises(WalletError, match="no account"):
            await put_back(alice, bank, None)


class TestALyingBank:
    @pytest.fixture
    async def wrongly(self, town: Town, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Redeem at a bank that says something else; return the coins and how it ended."""

        async def do(wallet: Wallet, **changes: Any) -> redemption.RedemptionState:
            bank = await town.customer(wallet, "alice", 100)
            await cash(wallet, 20)
            truth = Wallet.open_from_bank

            def lie(self: Wallet, *args: Any) -> Any:
                answer = truth(self, *args)
                return type(answer)(**({k: getattr(answer, k) for k in answer.__struct_fields__} | changes))

            monkeypatch.setattr(Wallet, "open_from_bank", lie)
            row = await redeem(wallet, bank, await held(wallet), unverified=False)
            state: redemption.RedemptionState = row.state  # type: ignore[assignment]
            return state

        return do

    @pytest.mark.parametrize("body", [RedeemAnswer(19, 0).encode(), RedeemAnswer(20, 1).encode(), b"nonsense"])
    async def test_another_sum_is_disputed(self, town: Town, wrongly: Any, body: bytes) -> None:
        async with town.open_wallet("alice") as alice:
            assert isinstance(await wrongly(alice, body=body), redemption.Disputed)
            assert await states(alice) == {"aside": 20}

    @pytest.mark.parametrize("body", [b"", b"nonsense", Exhibits(()).encode()])
    async def test_without_evidence_nothing_is_spent(self, town: Town, wrongly: Any, body: bytes) -> None:
        async with town.open_wallet("alice") as alice:
            assert isinstance(await wrongly(alice, body=body, refusal="already_spent"), redemption.Disputed)
            assert await states(alice) == {"aside": 20}

    async def test_evidence_about_something_that_the_bank_has_refused_is_none(
        self, town: Town, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with town.open_wallet("alice") as alice:
            await town.customer(alice, "alice", 100)
            await cash(alice, 1)
            (one,) = await held(alice)
            void = bytes(32)
            await alice.store.write(lambda db: db.execute("INSERT INTO void VALUES (?)", (void,)))
            signed = spend(one.coin, alice.root.coin(one.request_id, one.position), void)
            forged = Exhibits((Evidence(one.coin.denomination, one.coin.serial, void, signed.spend),)).encode()
            bank = alice.bank()
            truth = alice.open_from_bank

            def lie(*args: Any) -> Any:
                answer = truth(*args)
                return type(answer)(answer.at, "already_spent", "", forged)

            monkeypatch.setattr(alice, "open_from_bank", lie)
            row = await redeem(alice, bank, [one], unverified=False)
            assert isinstance(row.state, redemption.Disputed)


class TestPutBack:
    async def test_an_exact_sum_or_everything_goes_back(self, town: Town) -> None:
        async with town.open_wallet("alice") as alice:
            bank = await town.customer(alice, "alice", 200)
            await cash(alice, 40)
            await cash(alice, 40)
            assert await put_back(alice, bank, Amount(13, "USD")) == ({"USD": 13}, ())
            assert await states(alice) == {"free": 67}
            assert await put_back(alice, bank, None) == ({"USD": 67}, ()), "that takes several requests"
            assert await town.books.balance(1002) == 192
            with pytest.raises(WalletError, match="cannot make"):
                await put_back(alice, bank, Amount(1, "USD"))

    async def test_more_than_was_ever_withdrawn_is_not_credited(self, town: Town) -> None:
        """What somebody gave is worth as much, but no account redeems more than it has withdrawn."""
        async with town.open_wallet("alice") as alice, town.open_wallet("bob") as bob:
            bank = await town.customer(alice, "alice", 100)
            bobs = await town.customer(bob, "bob", 100)
            await cash(alice, 12)
            await cash(bob, 5)
            given = [(one.coin, alice.root.coin(one.request_id, one.position)) for one in await held(alice)]
            outputs = [one.coin.denomination for one in await held(alice)]
            await exchange(bob, bank, Inputs(given=given), outputs, 0, "receive")
            credited, (note,) = await put_back(bob, bobs, None)
            assert 0 < credited["USD"] <= 5, "as much as may be goes back"
            assert "never withdrew as much" in note
            assert await states(bob) == {"free": 17 - credited["USD"]}
            assert await town.faults() == []


class TestARevokedKey:
    @pytest.fixture
    def revoked(self, town: Town) -> Any:
        """Let wallet and bank see a denomination revoked."""

        def revoke(bank: Bank, value: int) -> Bank:
            (key,) = (key for key, one in bank.ring.items() if one.value == value)
            keyset = type(town.keyset)(
                **{k: getattr(town.keyset, k) for k in town.keyset.__struct_fields__}
                | {"revoked": (key,), "issued_at": town.clock.now() + 1}
            )
            town.bank._desk.ring = KeyRing(keyset)
            return bank._replace(ring=KeyRing(keyset))

        return revoke

    async def test_its_coins_are_redeemed_at_once_and_no_others(self, town: Town, revoked: Any) -> None:
        async with town.open_wallet("alice") as alice:
            bank = await town.customer(alice, "alice", 100)
            await cash(alice, 20)
            worth = sum(one.value for one in await held(alice) if one.value == 4)
            assert worth
            assert await redeem_revoked(alice, revoked(bank, 4)) == ({"USD": worth}, ())
            assert await states(alice) == {"free": 20 - worth}
            assert await town.books.balance(1002) == 78 + worth

    async def test_without_an_account_the_owner_is_told(self, town: Town, revoked: Any) -> None:
        async with town.open_wallet("alice") as alice:
            bank = await town.customer(alice, "alice", 100)
            await cash(alice, 20)
            nobody = revoked(bank, 4)
            credited, (note,) = await redeem_revoked(alice, nobody._replace(row=bank.row._replace(account=None)))
            assert not credited
            assert "can only be redeemed" in note
