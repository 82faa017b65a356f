"""A running bank follows its books: new keysets and totals are announced, and everybody else follows."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.bank.home import sign_keyset
from agents.bank.rotation import rotate
from agents.bank.service import (
    LOOK_MS,
    SLOW_MS,
    SLOW_TOTALS_MS,
    TOTALS_MS,
    announcements_in,
    follow_keysets,
    publish_totals,
    serve,
)
from agents.client import pay as paying
from agents.client.wallet import Wallet
from agents.home import HomeError
from broker.port import Link, Outgoing
from protocol import topics
from protocol.coins import spend
from protocol.errors import PeerError
from protocol.exchange import ExchangeRequest, exchange_digest
from protocol.keyset import Keyset, read_keyset
from protocol.messages import Signed, Status
from protocol.recovery import RedeemAnswer, RedeemRequest, redeem_digest
from protocol.refusals import Refusal
from protocol.totals import Totals, open_totals
from protocol.wallet import payment, withdrawal
from tests.agents.byhand import Caller, Purse
from tests.agents.world import BANK, SETTINGS, Town, cash, running, states
from tests.simulation.clock import VirtualClock
from tests.simulation.entropy import SeededEntropy
from tests.simulation.network import Network

KEYS, TOTALS = topics.keys(BANK), topics.totals(BANK)
WITHDRAW = f"ecash/v1/{BANK}/+/withdraw/+"
FEW = msgspec.structs.replace(SETTINGS, largest_denomination=1)


class Office:
    """The bank's operator, and the bank's process."""

    def __init__(self, town: Town, link: Link, network: Network, clock: VirtualClock) -> None:
        self.town = town
        self.link = link
        self.home = town.folder / "bank"
        shutil.copytree(town.mint.folder, self.home)
        self.network = network
        self.clock = clock

    async def enter(self, keyset: Keyset) -> None:
        """Enter a keyset in the books, and let the bank see it."""
        await self.town.books.add_keyset(keyset.number, sign_keyset(self.town.mint.keys.identity, keyset))
        heard = len(self.network.heard(KEYS))
        self.clock.advance(LOOK_MS)
        await self.network.wait_for(heard + 1, KEYS)

    async def rotate(self, **how: Any) -> Keyset:
        """As `ecash bank rotate` does; the epoch is a second younger than the one before."""
        self.clock.advance(1000)
        known = self.town.bank.keyset
        keyset = await asyncio.to_thread(rotate, self.home, known, self.clock.now(), FEW, **how)
        await self.enter(keyset)
        return keyset

    async def until(self, happened: Callable[[], bool]) -> None:
        """Let everybody work until something has happened."""
        async with asyncio.timeout(120):
            while not happened():
                await asyncio.to_thread(int)

    def totals(self) -> Totals:
        """The totals that were announced last, checked against the keyset that was."""
        keyset = read_keyset(self.network.heard(KEYS)[-1].payload)
        return open_totals(Signed.decode(self.network.heard(TOTALS)[-1].payload), keyset)


@pytest.fixture
async def office(founded: Town, network: Network, clock: VirtualClock) -> AsyncIterator[Office]:
    """A bank that runs as its process does, but for its own place in the world."""
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(network.link("north-presence", persistent=True))
        made = Office(founded, link, network, clock)
        await stack.enter_async_context(running(founded.bank.run(link)))
        bank, books, signer = founded.bank, founded.books, founded.mint.signer
        await stack.enter_async_context(running(follow_keysets(bank, made.home, books, signer, clock, link)))
        identity = founded.mint.keys.identity
        await stack.enter_async_context(running(publish_totals(bank, books, identity, clock, link)))
        await network.wait_for(1, TOTALS)
        yield made


def next_of(keyset: Keyset, **changes: Any) -> Keyset:
    """A keyset that continues another one without new keys."""
    chain = (*keyset.chain, keyset.hash)
    return msgspec.structs.replace(keyset, number=keyset.number + 1, chain=chain, **changes)


# ---------------------------------------------------------------- adopting


async def test_a_running_bank_adopts_a_new_keyset_within_a_second(office: Office) -> None:
    keyset = await office.rotate()
    await office.until(lambda: office.town.bank.keyset == keyset)
    assert read_keyset(office.network.heard(KEYS)[-1].payload) == keyset
    new = keyset.denominations[-1].id
    assert new not in office.town.mint.keys.denominations
    blinded = bytes(255) + b"\2"
    (signature,) = await office.town.mint.signer.blind_sign(new, [blinded])
    assert len(signature) == 256


async def test_further_lanes_are_served_before_they_are_announced(office: Office) -> None:
    limits = msgspec.structs.replace(office.town.keyset.limits, lanes=9)
    await office.enter(next_of(office.town.keyset, limits=limits))
    status = await office.network.wait_for(2, topics.status(BANK))
    assert Status.decode(status[-1].payload).lanes == 9
    caller = Caller(office.town, "caller", b"k" * 32)
    asking = caller.seal("withdraw", b"")
    office.network.inject(topics.bank_request(BANK, 8, "withdraw", "caller"), asking.envelope)
    assert await office.network.wait_for(1, "ecash/v1/reply/caller/+")


async def test_a_keyset_that_could_not_be_announced_is_announced_later(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    adopt, calls = office.town.bank.adopt, 0

    async def failing(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("no room")
        await adopt(*args)

    monkeypatch.setattr(office.town.bank, "adopt", failing)
    keyset = next_of(office.town.keyset)
    await office.town.books.add_keyset(1, sign_keyset(office.town.mint.keys.identity, keyset))
    office.clock.advance(LOOK_MS)
    await office.until(lambda: "no room" in caplog.text)
    office.clock.advance(LOOK_MS)
    await office.network.wait_for(2, KEYS)
    assert office.town.bank.keyset == keyset


async def test_a_bank_without_a_keyset_does_not_open(office: Office) -> None:
    class Empty:
        async def keysets(self) -> list[bytes]:
            return []

    with pytest.raises(HomeError, match="has no keyset"):
        await announcements_in(office.home, Empty())  # type: ignore[arg-type]


async def test_a_folder_that_is_no_home_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="ecash bank init"):
        await serve(tmp_path, VirtualClock(0))


# ---------------------------------------------------------------- totals


async def test_totals_are_announced_when_they_have_changed(office: Office, keeper: Caller, purse: Purse) -> None:
    assert office.totals().denominations == ()
    office.clock.advance(TOTALS_MS)
    await office.network.wait_for(2, TOTALS)
    assert sum(one.minted for one in office.totals().denominations) == 3
    assert (await keeper.verdict(keeper.paying(13, purse))).refusal == ""
    office.clock.advance(TOTALS_MS)
    await office.network.wait_for(3, TOTALS)
    assert sum(one.spent for one in office.totals().denominations) == 3


async def test_totals_of_dropped_denominations_go_with_the_keyset_that_named_them(office: Office, purse: Purse) -> None:
    office.clock.advance(TOTALS_MS)
    await office.network.wait_for(2, TOTALS)
    left = office.town.keyset.denominations[:1]
    await office.enter(next_of(office.town.keyset, denominations=left))
    office.clock.advance(LOOK_MS)
    await office.network.wait_for(3, TOTALS)
    assert [one.denomination for one in office.totals().denominations] == [left[0].id]


@pytest.mark.parametrize(("takes", "pause"), [(SLOW_MS, TOTALS_MS), (SLOW_MS + 1, SLOW_TOTALS_MS)])
async def test_coins_are_counted_once_for_each_change_and_seldom_if_it_takes_long(
    office: Office, keeper: Caller, purse: Purse, monkeypatch: pytest.MonkeyPatch, takes: int, pause: int
) -> None:
    counts, looks = list[int](), list[int]()
    minted, last_entry = office.town.books.minted, office.town.books.last_entry

    async def slowly() -> Any:
        office.clock.advance(takes)
        counts.append(office.clock.now())
        return await minted()

    async def looking() -> int:
        looks.append(office.clock.now())
        return await last_entry()

    monkeypatch.setattr(office.town.books, "minted", slowly)
    monkeypatch.setattr(office.town.books, "last_entry", looking)
    office.clock.advance(TOTALS_MS)
    await office.network.wait_for(2, TOTALS)
    assert (await keeper.verdict(keeper.paying(13, purse))).refusal == ""
    while len(counts) < 2:
        office.clock.advance(LOOK_MS)
        await asyncio.to_thread(int)
    await office.network.wait_for(3, TOTALS)
    assert pause <= counts[1] - counts[0] - takes < 2 * pause, "no sooner; the clock here runs on while others work"
    seen = len(looks)
    for _ in range(2 * pause // LOOK_MS):
        office.clock.advance(LOOK_MS)
        await asyncio.to_thread(int)
    assert len(looks) > seen
    assert len(counts) == 2, "nothing has changed"


# ---------------------------------------------------------------- what is under way


async def test_requests_sealed_for_the_key_before_are_answered(office: Office) -> None:
    caller = Caller(office.town, "caller", b"k" * 32)
    old = caller.seal("withdraw", b"")
    await office.rotate(envelope=SeededEntropy("new"))
    await office.until(lambda: office.town.bank.keyset.number == 1)
    new = caller.seal("withdraw", b"", to=office.town.bank.keyset.envelope_key)
    for asking in (old, new):
        assert caller.open(asking, await caller.send(asking)).refusal == Refusal.MALFORMED


async def test_a_withdrawal_under_way_ends_under_the_keys_that_it_named(office: Office, clock: VirtualClock) -> None:
    async with office.town.open_wallet("alice") as wallet:
        await office.town.customer(wallet, "alice", 100)
        office.network.loses = lambda message: "/withdraw/" in message.topic
        task = asyncio.create_task(cash(wallet, 20))
        await office.network.wait_for(1, WITHDRAW)
        keyset = await office.rotate(envelope=SeededEntropy("new"))
        await office.until(lambda: office.town.bank.keyset == keyset)
        office.network.loses = lambda _: False
        clock.advance(10_000)
        assert isinstance((await task).state, withdrawal.Issued)
        old = {one.id for one in office.town.keyset.denominations}
        assert {held.coin.denomination for held in await wallet.store.coins(BANK, "USD")} <= old
        assert isinstance((await cash(wallet, 2)).state, withdrawal.Issued)
        assert wallet.bank().keyset == keyset
        news = {held.coin.denomination for held in await wallet.store.coins(BANK, "USD")} - old
        assert news
        assert news <= {one.id for one in keyset.denominations}


async def test_a_payment_goes_through_whichever_keyset_of_the_chain_the_shop_sees(office: Office) -> None:
    town = office.town
    await town.start_shop()
    async with town.open_wallet("alice") as wallet:
        await town.customer(wallet, "alice", 100)
        await cash(wallet, 13)
        async with wallet.presence(town.address.broker) as requester:
            quote = await town.order(wallet, requester)
            keyset = await office.rotate(envelope=SeededEntropy("new"))
            await office.until(lambda: town.shop.desk.banks[BANK].ring.keyset == keyset)  # newer than the wallet's
            row = await paying.pay(wallet, quote, requester)
            assert isinstance(row.state, payment.Paid)
        await cash(wallet, 13)
        assert wallet.bank().keyset == keyset
        trust = town.shop.desk.banks[BANK]
        town.shop.desk.banks[BANK] = trust._replace(ring=town.ring)  # older than the wallet's
        assert isinstance((await town.buy(wallet)).state, payment.Paid)


# ---------------------------------------------------------------- revocation


async def test_coins_under_a_revoked_key_are_redeemed_and_nothing_else(
    office: Office, alice: Caller, keeper: Caller, purse: Purse
) -> None:
    town = office.town
    stolen = purse.coins[0].denomination
    assert isinstance(town.clock, VirtualClock)
    town.clock.advance(1)
    await office.enter(next_of(town.keyset, issued_at=town.clock.now(), revoked=(stolen,)))
    await office.until(lambda: town.bank.keyset.number == 1)
    assert (await keeper.verdict(keeper.paying(13, purse))).refusal == Refusal.KEY_REVOKED
    request_id = b"exchange".ljust(16)
    spent = tuple(map(spend, purse.coins, purse.seeds, [exchange_digest(BANK, request_id, 0, ())] * 3))
    exchange = ExchangeRequest(0, spent, alice.order_coins(8, 4, 1)[2].coins)
    assert await alice.refusal("exchange", exchange, request_id=request_id) == Refusal.KEY_REVOKED
    assert await alice.refusal("withdraw", alice.order_coins(8)[2]) == Refusal.KEY_REVOKED
    request_id = b"redemption".ljust(16)
    spent = tuple(map(spend, purse.coins, purse.seeds, [redeem_digest(BANK, request_id, alice.key)] * 3))
    answer = await alice.ask("redeem", RedeemRequest(0, 0, spent), request_id=request_id)
    assert RedeemAnswer.decode(answer.check()).amount == 13


# ---------------------------------------------------------------- what nobody may believe


def lies(town: Town) -> dict[str, tuple[bytes, Refusal]]:
    """Announcements that contradict keyset 1, or that the bank has not signed."""
    identity, known = town.mint.keys.identity, next_of(town.keyset)
    other = next_of(town.keyset, issued_at=town.keyset.issued_at + 5)
    unsigned = msgspec.msgpack.encode([next_of(known).encode(), bytes(64)])
    return {
        "rolled back": (town.mint.announcement, Refusal.FOREIGN_KEYSET),
        "forked": (sign_keyset(identity, other), Refusal.FOREIGN_KEYSET),
        "forked before": (sign_keyset(identity, next_of(other)), Refusal.FOREIGN_KEYSET),
        "unsigned": (unsigned, Refusal.BAD_SIGNATURE),
        "wrongly signed": (sign_keyset(b"e" * 32, next_of(known)), Refusal.BAD_SIGNATURE),
        "no keyset": (b"hello", Refusal.MALFORMED),
    }


@pytest.fixture
async def rotated(office: Office) -> Office:
    """Keyset 1 is announced, and the shop has seen it."""
    await office.town.start_shop()
    await office.enter(next_of(office.town.keyset))
    await office.until(lambda: office.town.shop.desk.banks[BANK].ring.keyset.number == 1)
    return office


@pytest.mark.parametrize("lie", ["rolled back", "forked", "forked before", "unsigned", "wrongly signed", "no keyset"])
async def test_a_lie_is_refused_loudly_and_changes_nothing(
    rotated: Office, lie: str, caplog: pytest.LogCaptureFixture
) -> None:
    town = rotated.town
    announced, refusal = lies(town)[lie]

    async def customer(wallet: Wallet) -> None:
        async with wallet.presence(town.address.broker) as requester:
            await wallet.refresh(town.address, requester)

    async with town.open_wallet("alice") as wallet:
        await town.customer(wallet, "alice", 100)
        await cash(wallet, 13)
        known = wallet.bank().keyset
        caplog.clear()
        rotated.network.publish(Outgoing(KEYS, announced, retain=True))
        await rotated.until(lambda: "is refused" in caplog.text)  # by the shop
        assert town.shop.desk.banks[BANK].ring.keyset == known
        caplog.clear()
        with pytest.raises(PeerError, match=BANK) as caught:
            await customer(wallet)
        assert caught.value.refusal is refusal
        assert any(word in caught.value.detail for word in ("do no business", "compare the address"))
        assert [record.levelno for record in caplog.records if "is refused" in record.message] == [logging.ERROR]
        assert wallet.bank().keyset == known
        rotated.network.publish(Outgoing(KEYS, sign_keyset(town.mint.keys.identity, known), retain=True))
        assert isinstance((await town.buy(wallet)).state, payment.Paid)
        assert await states(wallet) == {}
