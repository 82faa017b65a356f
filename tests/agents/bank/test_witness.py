"""Books that are damaged, or older than what the bank has announced, are not served."""

import logging
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path

import msgspec
import pytest

from agents.bank.home import sign_keyset
from agents.bank.service import serve
from agents.bank.sqlite import SqliteBooks
from agents.bank.store import BooksUnavailable
from agents.bank.totals import count, sign_totals
from agents.bank.witness import check_file, check_history
from agents.home import HomeError
from broker.mqtt import MqttLink
from broker.port import Link, Outgoing
from protocol import topics
from protocol.messages import Signed
from protocol.totals import Totals
from tests.agents.bank.test_service import next_of
from tests.agents.byhand import Caller, client, shopkeeper
from tests.agents.world import BANK, Town
from tests.conftest import Rig
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network

TOTALS = topics.totals(BANK)


class Start:
    """A bank that is about to serve."""

    def __init__(self, town: Town, link: Link, network: Network) -> None:
        self.town = town
        self.link = link
        self.network = network

    async def totals(self) -> Signed:
        counted = await count(self.town.books, self.town.clock)
        return sign_totals(counted, self.town.keyset, self.town.mint.keys.identity)

    def announce(self, data: bytes) -> None:
        self.network.inject(TOTALS, data, retain=True)

    async def check(self, *, despite_loss: bool = False) -> None:
        town = self.town
        aside = self.network.link("aside", persistent=False)
        identity = town.mint.keys.identity
        await check_history(town.books, town.keyset, identity, town.clock, self.link, aside, despite_loss=despite_loss)


@pytest.fixture
async def start(founded: Town, network: Network) -> AsyncIterator[Start]:
    async with network.link("north-presence", persistent=True) as link:
        yield Start(founded, link, network)


async def restored(start: Start, backup: Path) -> None:
    """Stop, and begin again with an old copy of the books."""
    await start.town.stop_bank()
    shutil.copy(backup, start.town.folder / "books.db")
    await start.town.open_books()


def back_up(town: Town) -> Path:
    """Copy the books while they are open."""
    backup = town.folder / "backup.db"
    with closing(sqlite3.connect(town.folder / "books.db")) as books, closing(sqlite3.connect(backup)) as copy:
        books.backup(copy)
    return backup


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "ecash.bank")
    return caplog


async def test_a_new_bank_has_nothing_to_compare(start: Start, warned: pytest.LogCaptureFixture) -> None:
    await start.check()
    assert not warned.records


async def test_books_that_go_as_far_as_the_totals_or_further_are_served(
    start: Start, alice: Caller, warned: pytest.LogCaptureFixture
) -> None:
    await alice.withdraw(8, 1)
    start.announce((await start.totals()).encode())
    await start.check()
    await alice.withdraw(4)
    await start.check()
    assert not warned.records


@pytest.mark.parametrize("announced_after", range(1, 7))
async def test_books_from_an_old_backup_are_refused(start: Start, announced_after: int) -> None:
    alice, keeper = await client(start.town), await shopkeeper(start.town)
    backup = back_up(start.town)
    purse = await alice.withdraw(8, 4, 1)
    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: keeper.verdict(keeper.paying(13, purse)),
        lambda: alice.withdraw(1),
        lambda: start.town.books.credit(1003, 5, "cash"),
        lambda: alice.withdraw(2, 2),
        lambda: start.town.books.credit(1002, 5, "more"),
        lambda: alice.withdraw(4),
    ]
    for step in steps[:announced_after]:
        await step()
    start.announce((await start.totals()).encode())
    await restored(start, backup)
    with pytest.raises(HomeError, match=r"the books are behind .* the journal has become shorter.* --despite-loss"):
        await start.check()


async def test_books_that_went_on_after_an_old_backup_are_refused(start: Start, alice: Caller) -> None:
    """Their journal is longer, but coins that were minted are not in it."""
    backup = back_up(start.town)
    await alice.withdraw(8)
    start.announce((await start.totals()).encode())
    await restored(start, backup)
    for i in range(9):
        await start.town.books.credit(1002, 5, f"cash {i}")
    with pytest.raises(HomeError, match="the totals have become less"):
        await start.check()


async def test_books_that_do_not_know_the_last_keyset_are_refused(start: Start) -> None:
    later = next_of(start.town.keyset)
    counted = await count(start.town.books, start.town.clock)
    start.announce(sign_totals(counted, later, start.town.mint.keys.identity).encode())
    with pytest.raises(HomeError, match="under a keyset that others do not see"):
        await start.check()


async def test_totals_may_name_what_the_keyset_holds_no_more(
    start: Start, alice: Caller, warned: pytest.LogCaptureFixture
) -> None:
    """Keys were rotated while the bank was down, and the oldest ones had come to their end."""
    old, identity, books = start.town.keyset, start.town.mint.keys.identity, start.town.books
    await alice.withdraw(8, 4, 2, 1)
    start.announce((await start.totals()).encode())
    named = Totals.decode((await start.totals()).statement).denominations[0].denomination
    left = tuple(one for one in old.denominations if one.id != named)
    start.town.keyset = msgspec.structs.replace(next_of(old), denominations=left)
    await books.add_keyset(0, sign_keyset(identity, old))
    await books.add_keyset(1, sign_keyset(identity, start.town.keyset))
    await start.check()
    assert not warned.records


async def test_the_operator_may_go_on_with_what_is_left(
    start: Start, alice: Caller, warned: pytest.LogCaptureFixture
) -> None:
    backup = back_up(start.town)
    await alice.withdraw(8)
    start.announce((await start.totals()).encode())
    await restored(start, backup)
    await start.check(despite_loss=True)
    (record,) = warned.records
    assert record.levelno == logging.ERROR
    assert "behind what this bank has announced" in record.message


async def test_what_somebody_else_has_announced_keeps_no_bank_from_serving(
    start: Start, warned: pytest.LogCaptureFixture
) -> None:
    totals = Totals.decode((await start.totals()).statement)
    forged = Totals(BANK, totals.keyset, 10_000, totals.at, ())
    statement = forged.encode()
    for data in (b"no totals", Signed(statement, bytes(64)).encode()):
        warned.clear()
        start.announce(data)
        await start.check()
        assert "somebody else has announced totals" in warned.text


async def test_a_broker_that_keeps_nothing_is_told_of(
    start: Start, warned: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.bank.witness.PATIENCE_S", 0.01)
    start.network.loses = lambda _: True
    await start.check()
    assert "whether the books have lost something is unknown" in warned.text


async def test_real_brokers_tell_what_they_keep_and_that_they_keep_nothing(
    founded: Town,
    alice: Caller,
    rig: Rig,
    clock: VirtualClock,
    warned: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agents.bank.witness.PATIENCE_S", 60.0)
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(MqttLink(rig.log_in(BANK), "north-witnessed", persistent=True))

        async def check(name: str) -> None:
            aside, identity = MqttLink(rig.url, name, persistent=False), founded.mint.keys.identity
            await check_history(founded.books, founded.keyset, identity, clock, link, aside, despite_loss=False)

        await link.announce(Outgoing(TOTALS, b"", retain=True))
        await check("aside1")
        assert not warned.records
        backup = back_up(founded)
        await alice.withdraw(8)
        signed = sign_totals(await count(founded.books, clock), founded.keyset, founded.mint.keys.identity)
        await link.announce(Outgoing(TOTALS, signed.encode(), retain=True))
        await check("aside2")
        await founded.stop_bank()
        shutil.copy(backup, founded.folder / "books.db")
        await founded.open_books()
        with pytest.raises(HomeError, match="shorter"):
            await check("aside3")
        await link.announce(Outgoing(TOTALS, b"", retain=True))


# ---------------------------------------------------------------- damage


def tear(path: Path) -> None:
    """Overwrite one page of a file."""
    data = bytearray(path.read_bytes())
    data[3 * 4096 : 4 * 4096] = b"?" * 4096
    path.write_bytes(data)


async def test_a_damaged_file_is_refused_at_the_start(finished: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(finished, tmp_path))
    async with SqliteBooks(path, lambda: 1) as books:
        await check_file(books)
    tear(path)
    with pytest.raises((HomeError, BooksUnavailable)):
        async with SqliteBooks(path, lambda: 1) as books:
            await check_file(books)


async def test_a_bank_with_a_damaged_file_does_not_run(founded: Town, clock: VirtualClock, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(founded.mint.folder, home)
    async with SqliteBooks(home / "books.db", clock.now) as books:
        await books.add_keyset(0, sign_keyset(founded.mint.keys.identity, founded.keyset))
    tear(home / "books.db")
    with pytest.raises(HomeError, match=r"the books are damaged .* restore the last good copy"):
        await serve(home, clock)
