import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import msgspec
import pytest

from agents.bank import home as bank_home
from agents.bank.signer import SoftwareSigner
from agents.client import pay as paying
from agents.client.store import WalletStore
from agents.client.tending import REST_MS, Keeper, tend
from agents.client.wallet import Wallet
from agents.home import HomeError
from agents.requester import NobodyAnswers
from protocol.wallet import exchange, payment
from protocol.wallet.stock import refresh_at
from tests.agents.world import SETTINGS, START, Mint, Town, cash, mint, running, simulated, states
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.entropy import SeededEntropy
from tests.simulation.network import Network

from .purses import EXCHANGES, answers, cash_as, counts, nothing

DAY_MS = 24 * HOUR_MS
SECOND_EPOCH = START + 10 * DAY_MS


@cache
def two_epochs() -> Mint:
    """The bank of the tests, with denominations of two epochs: the second begins when the first is minted no more."""
    folder, first = Path(mkdtemp(prefix="ecash-epochs-")), mint()
    settings = msgspec.structs.replace(SETTINGS, mint_days=10, spend_days=50, redeem_days=80)
    later = msgspec.structs.replace(SETTINGS, mint_days=100, spend_days=200, redeem_days=300)
    denominations = (
        *bank_home.new_denominations(folder, settings, START),
        *bank_home.new_denominations(folder, later, SECOND_EPOCH),
    )
    keyset = msgspec.structs.replace(first.keyset, denominations=denominations)
    private = {path: path.read_bytes() for path in (folder / "keys/denomination").iterdir()}
    keys = msgspec.structs.replace(
        first.keys, denominations={bytes.fromhex(path.name): key for path, key in private.items()}
    )
    announcement = bank_home.sign_keyset(keys.identity, keyset)
    return Mint(folder, keyset, keys, announcement, SoftwareSigner(keys.denominations, threads=1))


@pytest.fixture
async def long_lived(
    tmp_path: Path, network: Network, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Town]:
    """A town whose bank changes its keys."""
    monkeypatch.setattr("tests.agents.world.mint", two_epochs)
    town = Town(tmp_path, simulated(network), clock)
    await town.found()
    await town.start_bank()
    await town.start_shop()
    yield town
    await town.close()


def due_at(town: Town, wallet: Wallet) -> dict[int, int]:
    """When this wallet refreshes its coins of the first epoch, by value."""
    return {
        one.value: refresh_at(one.spend_until, one.mint_until, wallet.root.refresh_jitter(key))
        for key, one in town.ring.items()
        if one.mint_from == START
    }


async def epochs(town: Town, wallet: Wallet) -> dict[int, int]:
    """What the free coins are worth, by their spend-until in days."""
    worth: dict[int, int] = {}
    for held in await wallet.store.coins("north", "USD"):
        days = (town.ring.denomination(held.coin.denomination).spend_until - START) // DAY_MS
        worth[days] = worth.get(days, 0) + held.value
    return worth


async def test_coins_are_refreshed_before_their_last_day_and_each_value_at_its_own_time(
    long_lived: Town, clock: VirtualClock
) -> None:
    town = long_lived
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        held = await counts(alice)
        times = sorted(at for value, at in due_at(town, alice).items() if value in held)
        assert len(set(times)) == len(held) > 2
        clock.advance(times[0] - clock.now() - 1)
        assert await tend(alice, alice.bank(), up_to=0) == []
        for due in times:
            clock.advance(due - clock.now())
            assert [row.note.purpose for row in await tend(alice, alice.bank(), up_to=0)] == ["refresh"]
        assert await epochs(town, alice) == {210: 20}
        assert clock.now() < START + 50 * DAY_MS
        assert await tend(alice, alice.bank(), up_to=0) == []
    assert await town.faults() == []


async def test_a_payment_refreshes_coins_that_would_not_last(long_lived: Town, clock: VirtualClock) -> None:
    async with long_lived.open_wallet("alice") as alice:
        await long_lived.customer(alice, "alice", 100)
        await cash(alice, 20)
        clock.advance(49 * DAY_MS)
        assert isinstance((await long_lived.buy(alice)).state, payment.Paid)
        assert await states(alice) == {"free": 7}
        assert sorted(row.kind for row in await alice.store.exchanges()) == ["exchange", "pay", "withdraw"]
    assert await long_lived.faults() == []


async def test_a_purse_with_a_hole_gets_small_change_and_then_rests(
    town: Town, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash_as(monkeypatch, alice, 4, 4)
        rows = await tend(alice, alice.bank())
        assert [(row.note.purpose, row.state) for row in rows] == [("stock", exchange.Exchanged(4))]
        assert await states(alice) == {"free": 8}
        before = len(network.heard(EXCHANGES))
        assert await tend(alice, alice.bank()) == []
        assert len(network.heard(EXCHANGES)) == before
    assert await town.faults() == []


async def test_too_many_small_coins_become_fewer(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash_as(monkeypatch, alice, *[1] * 12)
        rows = await tend(alice, alice.bank())
        assert [row.note.purpose for row in rows] == ["tidy"]
        assert sum((await counts(alice)).values()) < 12
        assert await states(alice) == {"free": 12}
        assert await tend(alice, alice.bank()) == []


async def test_nothing_is_changed_below_what_should_be_payable(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash_as(monkeypatch, alice, 4, 4)
        assert await tend(alice, alice.bank(), up_to=0) == []


async def test_a_pass_whose_answer_is_lost_is_finished_by_the_next_one(
    town: Town, network: Network, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash_as(monkeypatch, alice, 4, 4)
        network.loses = answers
        task = asyncio.create_task(tend(alice, alice.bank()))
        await network.wait_for(1, EXCHANGES)
        clock.advance(60_000)
        (row,) = await task
        assert row.open
        network.loses = nothing
        (row,) = await tend(alice, alice.bank())
        assert row.state == exchange.Exchanged(4)
        assert await states(alice) == {"free": 8}
    assert await town.faults() == []


class House:
    """A wallet's home that others use as well, and the clock of who keeps it."""

    def __init__(self, town: Town, clock: VirtualClock) -> None:
        self.town, self.clock = town, clock
        self.busy = False
        self.passes: list[int] = []
        self.resting = asyncio.Event()

    def now(self) -> int:
        return self.clock.now()

    async def sleep_until(self, at: int) -> None:
        self.resting.set()
        await self.clock.sleep_until(at)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Wallet]:
        if self.busy:
            raise HomeError("in use by another process")
        async with self.town.open_wallet("alice") as wallet:
            self.busy = True
            yield wallet
        self.busy = False
        self.passes.append(self.clock.now())

    @asynccontextmanager
    async def look(self) -> AsyncIterator[WalletStore]:
        async with WalletStore(self.town.folder / "alice.db") as store:
            yield store

    def keeper(self) -> Keeper:
        return Keeper(self.open, self.look, self, SeededEntropy("keeper"))

    async def until(self, passes: int) -> None:
        """Let time pass, a minute whenever there is nothing to do, until so many passes were made."""
        while True:
            await asyncio.wait_for(self.resting.wait(), 120)
            if len(self.passes) >= passes:
                return
            self.resting.clear()
            self.clock.advance(REST_MS)


async def test_the_wallet_is_tended_at_once_and_then_at_random_times_and_is_free_in_between(
    town: Town, clock: VirtualClock
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
    house = House(town, clock)
    async with running(house.keeper().run()):
        await house.until(3)
        assert not house.busy
    first, second, third = house.passes
    assert first == START
    for waited in (second - first, third - second):
        assert HOUR_MS <= waited <= 12 * HOUR_MS + REST_MS
    assert second - first != third - second


async def test_a_payment_ends_on_its_own_time_while_the_wallet_rests(
    town: Town, network: Network, clock: VirtualClock
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        async with alice.presence(town.address.broker) as requester:
            quote = await town.order(alice, requester)
    house = House(town, clock)
    async with running(house.keeper().run()):
        await house.until(1)
        async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
            network.loses = lambda message: "/pay/" in message.topic
            row = await paying.pay(alice, quote, requester, patience_ms=0)
            waiting = payment.Waiting(row.state.payment, "unknown_sale", "")  # type: ignore[attr-defined]
            await alice.store.save(row._replace(state=waiting, wake_at=quote.payreq.deposit_before), [], {})
        await house.until(2)
        (at,) = house.passes[1:]
        assert quote.payreq.deposit_before <= at <= quote.payreq.deposit_before + REST_MS
        assert at < START + HOUR_MS
    async with town.open_wallet("alice") as alice:
        assert await states(alice) == {"free": 20}


async def test_a_wallet_in_use_is_tended_a_little_later(town: Town, clock: VirtualClock) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
    house = House(town, clock)
    house.busy = True
    async with running(house.keeper().run()):
        await house.resting.wait()
        house.busy = False
        await house.until(1)
    assert house.passes == [START + REST_MS]


async def test_a_bank_that_is_away_is_tried_another_time(
    town: Town, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(*_: object) -> None:
        raise NobodyAnswers("nothing is announced")

    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
    monkeypatch.setattr("agents.client.wallet.Wallet.refresh", away)
    house = House(town, clock)
    async with running(house.keeper().run()):
        await house.until(2)
    assert "the coins of north were not looked after: nothing is announced" in caplog.text


async def test_coins_whose_verification_broke_off_are_verified(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 7)
        bank = alice.bank()
        before = {held.coin.serial for held in await alice.store.coins(bank.row.name, "USD")}
        await alice.store.move(before, "free", "unverified")
        rows = await tend(alice, bank)
        assert await states(alice) == {"free": 7}
        assert before.isdisjoint(held.coin.serial for held in await alice.store.coins(bank.row.name, "USD"))
        assert not [row for row in rows if row.open]
        assert await town.faults() == []
