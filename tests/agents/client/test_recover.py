import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agents.client import pay as paying
from agents.client.exchange import Inputs, exchange
from agents.client.recover import Report, recover, restore, settle_in
from agents.client.redeem import redeem
from agents.client.resume import resume
from agents.client.store import FREE, SPENT, ExchangeRow, HeldCoin
from agents.client.wallet import InUse, Wallet
from agents.client.withdraw import withdraw
from broker.port import Outgoing
from protocol.errors import PeerError
from protocol.money import Amount
from protocol.recovery import FETCH, FetchRequest
from protocol.refusals import Refusal
from protocol.wallet import exchange as exchanging
from protocol.wallet import payment, withdrawal
from tests.agents.test_privacy import Ledger, all_facts, facts, ledger
from tests.agents.world import Town, cash, copy_file, states
from tests.simulation.entropy import SeededEntropy
from tests.simulation.network import Network

__all__ = ["ledger"]  # a fixture


async def held(wallet: Wallet, state: str = FREE) -> list[HeldCoin]:
    return await wallet.store.coins("north", "USD", state)


async def yes(question: str) -> bool:
    return True


async def no(question: str) -> bool:
    return False


async def swap(wallet: Wallet, count: int = 3, patience_ms: int = 20_000) -> ExchangeRow:
    """Exchange some coins for coins like them."""
    coins = (await held(wallet))[:count]
    outputs = [one.coin.denomination for one in coins]
    return await exchange(wallet, wallet.bank(), Inputs(coins), outputs, 0, "tidy", patience_ms)


@asynccontextmanager
async def new_device(town: Town, name: str = "second") -> AsyncIterator[Wallet]:
    """Alice's next device, made from her words alone, served by the bank."""
    async with town.open_wallet(name, seed="alice") as wallet:
        await settle_in(wallet, town.address, yes)
        yield wallet


async def restored(town: Town, *, keep: bool = False, gap: int = 3) -> Report:
    async with new_device(town) as wallet:
        return await recover(wallet, wallet.bank(), keep=keep, gap=gap)


async def audited(town: Town) -> int:
    """What is in Alice's account, after an audit."""
    assert await town.faults() == []
    return await town.books.balance(1002)


async def put_in(wallet: Wallet) -> ExchangeRow:
    """Redeem everything, and do not wait."""
    return await redeem(wallet, wallet.bank(), await held(wallet), unverified=False, patience_ms=0)


async def booked(town: Town, kind: str) -> None:
    """Wait until the bank has made a posting of this kind, as the last one."""
    while (await town.books.snapshot()).journal[-1].kind != kind:
        pass  # to read the books takes a moment


def nothing(message: Outgoing) -> bool:
    return False


def requests(kind: str) -> Callable[[Outgoing], bool]:
    return lambda message: f"/{kind}/" in message.topic


def answers(kind: str) -> Callable[[Outgoing], bool]:
    """What the wallet should hear; the shop hears its bank."""
    return lambda message: message.topic.startswith("ecash/v1/reply/") and "/bookshop-presence/" not in message.topic


@pytest.mark.parametrize("keep", [False, True])
async def test_from_the_words_alone_everything_is_found_to_the_cent(town: Town, keep: bool) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 40)
        await swap(alice)
        await town.buy(alice)
        await swap(alice)
        lost = (await states(alice))["free"]
        account = await town.books.balance(1002)
    async with new_device(town) as wallet:
        report = await recover(wallet, wallet.bank(), keep=keep, gap=3)
        assert report.withdrawals.answers == 1
        assert report.exchanges.answers == 2
        assert report.notes == ()
        assert report.spent["USD"] > 13, "what was exchanged is found twice"
        assert (report.kept if keep else report.credited) == {"USD": lost}
        assert await states(wallet) == ({"free": lost} if keep else {})
    assert await audited(town) == account + (0 if keep else lost)


@pytest.mark.parametrize("loses", [requests, answers])
@pytest.mark.parametrize("kind", ["withdraw", "exchange", "redeem", "pay"])
async def test_a_device_that_is_lost_in_the_middle_costs_nothing(
    town: Town, network: Network, kind: str, loses: Callable[[str], Callable[[Outgoing], bool]]
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        await swap(alice)
        async with alice.presence(town.address.broker) as requester:
            quote = await town.order(alice, requester)
            network.loses = loses(kind)
            begun = {
                "withdraw": lambda: withdraw(alice, alice.bank(), Amount(20, "USD"), patience_ms=0),
                "exchange": lambda: swap(alice, patience_ms=0),
                "redeem": lambda: put_in(alice),
                "pay": lambda: paying.pay(alice, quote, requester, patience_ms=0),
            }
            row = await begun[kind]()
            assert row.open
        if loses is answers:
            await booked(town, "deposit" if kind == "pay" else kind)
        network.loses = nothing
    await restored(town)
    paid = 13 if kind == "pay" and loses is answers else 0
    withdrawn = 2 if kind == "withdraw" and loses is answers else 0
    assert await audited(town) == 100 - 2 - withdrawn - paid


async def test_a_payment_that_is_deposited_while_the_wallet_is_restored_is_paid_or_comes_back(
    town: Town, network: Network
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        async with new_device(town) as second:
            report, row = await asyncio.gather(recover(second, second.bank(), gap=3), town.buy(alice))
    assert isinstance(row.state, payment.Paid | payment.Refused)
    paid = 13 if isinstance(row.state, payment.Paid) else 0
    assert report.credited["USD"] == 20 - paid
    assert await audited(town) == 98 - paid


async def test_without_an_account_what_is_anonymous_is_found_and_kept(town: Town) -> None:
    async with town.open_wallet("alice") as alice, town.open_wallet("bob") as bob:
        bank = await town.customer(alice, "alice", 100)
        await cash(alice, 12)
        given = [(one.coin, alice.root.coin(one.request_id, one.position)) for one in await held(alice)]
        assert await settle_in(bob, town.address, yes) is None
        outputs = [coin.denomination for coin, _ in given]
        await exchange(bob, bank, Inputs(given=given), outputs, 0, "receive")
    async with town.open_wallet("bob again", seed="bob") as again:
        await settle_in(again, town.address, yes)
        report = await recover(again, again.bank(), gap=3)
        assert report.kept == {"USD": 12}
        assert "without an account" in report.notes[0]
        row = await swap(again)
        assert isinstance(row.state, exchanging.Exchanged)
    assert await town.faults() == []


class TestTwoDevices:
    async def test_the_second_one_asks_before_it_takes_over_and_the_first_one_is_told(self, town: Town) -> None:
        async with town.open_wallet("alice") as alice, town.open_wallet("second", seed="alice") as second:
            bank = await town.customer(alice, "alice", 100)
            with pytest.raises(InUse, match="take-over"):
                await settle_in(second, town.address, no)
            told = await settle_in(second, town.address, yes)
            assert told is not None
            assert (told.account, told.generation) == (1002, 2)
            row = await cash(alice, 8)
            assert isinstance(row.state, withdrawal.Refused)
            assert row.state.refusal == Refusal.SUPERSEDED
            with pytest.raises(InUse, match="take-over"):
                await recover(alice, bank)

    async def test_a_folder_that_was_copied_spends_nothing_twice_silently(self, town: Town) -> None:
        """Both use the same ids: the one that comes later moves on."""
        async with town.open_wallet("alice") as alice:
            await town.customer(alice, "alice", 100)
            await cash(alice, 40)
        copy_file(town.folder / "alice.db", town.folder / "copy.db")
        async with town.open_wallet("alice") as alice, town.open_wallet("copy", seed="alice") as copy:
            await swap(alice, 2)
            await swap(alice, 2)
            coins = (await held(copy))[-3:]
            row = await exchange(copy, copy.bank(), Inputs(coins), [one.coin.denomination for one in coins], 0, "tidy")
            assert isinstance(row.state, exchanging.Exchanged)
            refused = [one.state for one in await copy.store.exchanges() if isinstance(one.state, exchanging.Refused)]
            assert [state.refusal for state in refused] == [Refusal.REQUEST_ID_REUSED] * 2
            report = await recover(copy, copy.bank(), gap=3)
            assert sum(report.credited.values()) <= 40
        assert await town.faults() == []

    async def test_what_a_copy_got_for_the_same_coins_under_the_same_id_is_taken_in_and_the_bank_is_believed(
        self, town: Town
    ) -> None:
        async with town.open_wallet("alice") as alice:
            await town.customer(alice, "alice", 100)
            await cash(alice, 40)
        copy_file(town.folder / "alice.db", town.folder / "copy.db")
        async with town.open_wallet("alice") as alice, town.open_wallet("copy", seed="alice") as copy:
            worth = sum(one.value for one in (await held(alice))[:2])
            await swap(alice, 2)
            row = await swap(copy, 2)
            assert isinstance(row.state, exchanging.Refused)
            assert (row.state.refusal, row.state.spent) == (Refusal.ALREADY_SPENT, 2)
            assert await states(copy) == {"free": 40 - worth, "unverified": worth}
            report = await recover(copy, copy.bank(), keep=True, gap=3)
            assert (report.kept, report.aside) == ({"USD": worth}, {})
            assert await states(copy) == {"free": 40}
        assert await town.faults() == []


async def test_holes_among_the_numbers_hide_no_more_than_were_found(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        bank = await town.customer(alice, "alice", 100)
        await cash(alice, 40)
        for used in range(4):
            await swap(alice, 1)
            for _ in range(used):
                await alice.new_exchange_id(bank)
    report = await restored(town, keep=True, gap=1)
    assert report.exchanges.answers == 4
    assert report.kept == {"USD": 40}


@asynccontextmanager
async def from_backup(town: Town) -> AsyncIterator[Wallet]:
    """A new device made of the copy of Alice's file, before it is restored."""
    async with town.open_wallet("backup", seed="alice") as wallet:
        await wallet.store.restored(b"new device".ljust(16))
        await wallet.start()
        await settle_in(wallet, town.address, yes)
        yield wallet


class TestAnOldBackup:
    async def test_what_was_spent_since_is_spent_and_what_came_since_is_found(self, town: Town) -> None:
        async with town.open_wallet("alice") as alice:
            await town.customer(alice, "alice", 100)
            await cash(alice, 20)
        copy_file(town.folder / "alice.db", town.folder / "backup.db")
        async with town.open_wallet("alice") as alice:
            await town.buy(alice)
            await swap(alice, 1)
            await cash(alice, 8)
            lost = (await states(alice))["free"]
        async with from_backup(town) as wallet:
            assert await states(wallet) == {"unverified": 20}
            report = await restore(wallet, wallet.bank(), keep=True, gap=3)
            assert report.kept == {"USD": lost}
            assert await states(wallet) == {"free": lost}
        assert await town.faults() == []

    async def test_what_was_open_then_goes_on_and_counts_only_once_it_is_verified(
        self, town: Town, network: Network
    ) -> None:
        """The exchange went on where the copy does not know, and what came of it was spent there."""
        async with town.open_wallet("alice") as alice:
            await town.customer(alice, "alice", 100)
            await cash(alice, 20)
            network.loses = answers("")
            row = await swap(alice, 3, patience_ms=0)
            network.loses = nothing
            assert row.open
        copy_file(town.folder / "alice.db", town.folder / "backup.db")
        async with town.open_wallet("alice") as alice:
            await resume(alice)
            fresh = [one for one in await held(alice) if one.request_id == row.id]
            await redeem(alice, alice.bank(), fresh, unverified=False)
            lost = (await states(alice))["free"]
        async with from_backup(town) as wallet:
            (resumed,) = await resume(wallet)
            assert isinstance(resumed.state, exchanging.Exchanged)
            assert await states(wallet) == {"unverified": 20}, "what it brings in counts as little as the rest"
            report = await restore(wallet, wallet.bank(), keep=True, gap=3)
            assert report.spent == {"USD": 20 - lost}
            assert await states(wallet) == {"free": lost}
        assert await town.faults() == []


@pytest.mark.parametrize("at", [1, 2, 4, 7, 9])
async def test_a_recovery_that_is_interrupted_is_run_again(town: Town, at: int) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 40)
        await swap(alice)
        account = await town.books.balance(1002)
    steps = 0

    def crash(what: str, done: int, total: int) -> None:
        nonlocal steps
        steps += 1
        if steps == at:
            raise asyncio.CancelledError

    async with new_device(town) as wallet:
        with pytest.raises(asyncio.CancelledError):
            await recover(wallet, wallet.bank(), gap=3, progress=crash)
    async with town.open_wallet("second", seed="alice") as wallet:
        wallet.entropy = SeededEntropy("another day")
        await restore(wallet, wallet.bank(), gap=3)
        assert await states(wallet) == {}
    assert await audited(town) == account + 40


async def test_a_recovery_changes_nothing_when_it_is_run_again(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        bank = await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        first = await recover(alice, bank, keep=True, gap=3)
        assert first.withdrawals.coins == first.withdrawals.known > 0
        assert (first.spent, first.credited, first.kept) == ({}, {}, {})
        assert await states(alice) == {"free": 20}
        assert await held(alice, SPENT) == []


async def test_a_withdrawal_that_is_open_is_left_to_its_machine(town: Town, network: Network) -> None:
    async with town.open_wallet("alice") as alice:
        bank = await town.customer(alice, "alice", 100)
        network.loses = answers("")
        await withdraw(alice, bank, Amount(8, "USD"), patience_ms=0)
        await booked(town, "withdraw")
        network.loses = nothing
        assert (await recover(alice, bank, gap=1)).withdrawals.answers == 0
        (row,) = await resume(alice)
        assert isinstance(row.state, withdrawal.Issued)
        assert await states(alice) == {"free": 8}


async def test_answers_that_are_not_the_banks_give_no_coins(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    def forged(*_: Any) -> Any:
        raise PeerError(Refusal.BAD_SIGNATURE, "forged")

    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        await swap(alice)
    monkeypatch.setattr("agents.client.stored.open_answer", forged)
    report = await restored(town)
    assert (report.withdrawals.bad, report.exchanges.bad, report.credited) == (1, 1, {})
    assert "not what was asked for" in report.notes[0]


async def test_what_the_bank_hears_in_a_recovery_connects_no_exchange_with_the_account(
    town: Town, network: Network, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        await swap(alice)
    await restored(town, keep=True)
    announced = set(facts(town.mint.announcement)) | {one.id for one in town.keyset.denominations}
    account = all_facts(ledger, "bank", "account", "withdraw", "recover")
    anonymous = all_facts(ledger, "bank", "check", "fetch", "exchange")
    assert len(ledger["bank", "fetch"]) >= 5
    assert len(ledger["bank", "check"]) >= 2
    assert account & anonymous - announced == set()
    kinds = {"check": 0, "fetch": 0}
    clients = [message.topic.split("/")[-2:] for message in network.published if not message.retain]
    for kind in kinds:
        asking = [client for one, client in clients if one == kind]
        assert len(set(asking)) == len(asking) > 1, "each question comes from a client of its own"
    spent = {row.serial for row in (await town.books.snapshot()).spent}
    assert spent.isdisjoint(account), "under the account no coin was named"


async def test_what_is_anonymous_is_asked_before_the_account_is_named_and_in_random_order(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[str, bytes]]()
    handle = town.bank._decide

    async def decide(kind: str, request: Any) -> bytes:
        asked.append((kind, FetchRequest.decode(request.letter.body).request_id if kind == FETCH else b""))
        return await handle(kind, request)

    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        await swap(alice)
    async with new_device(town) as wallet:
        monkeypatch.setattr(town.bank, "_decide", decide)
        await recover(wallet, wallet.bank(), gap=5)
        identity = wallet.bank().keyset.identity
        ids = [
            wallet.root.exchange_id(identity, generation, counter) for generation in range(3) for counter in range(6)
        ]
    kinds = [kind for kind, _ in asked]
    fetched = [ids.index(one) for kind, one in asked if kind == FETCH]
    assert kinds[: len(fetched)] == [FETCH] * len(fetched), "nothing else came between"
    assert kinds.index("recover") == len(fetched) == len(set(fetched)) == 16
    assert fetched[:15] != sorted(fetched[:15])
    assert {one // 6 for one in fetched[:5]} != {0}, "devices are mixed"
