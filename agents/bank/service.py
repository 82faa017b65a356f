"""The bank's process: its home, books, signer and presence, put together."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from broker.address import BrokerUrl
from broker.mqtt import MqttLink
from broker.port import Link, LinkError, Outgoing
from protocol import topics
from protocol.keyset import read_keyset
from protocol.messages import Status

from ..address import BankAddress
from ..home import HomeError, locked
from ..trace import point
from ..world import Clock, SystemEntropy
from .agent import BankAgent
from .home import address_of, keys_of, settings_of
from .signer import SoftwareSigner
from .sqlite import SqliteBooks
from .store import Books, BooksUnavailable
from .totals import count, sign_totals
from .witness import check_file, check_history

_log = logging.getLogger("ecash.bank")
LOOK_MS: Final = 1_000
"""How often the bank looks for a new keyset in its books."""
TOTALS_MS: Final = 60_000
"""How often the bank counts all coins for its totals, at the most."""
SLOW_MS: Final = 1_000
"""The count is slow if it took longer than this."""
SLOW_TOTALS_MS: Final = 600_000
"""How often the bank counts, at the most, when the last count was slow."""


@asynccontextmanager
async def open_books(home: Path, clock: Clock) -> AsyncIterator[SqliteBooks]:
    """Open the books of the bank in this home.

    Raises:
        HomeError: if this is no bank's home.
    """
    settings_of(home)
    async with SqliteBooks(home / "books.db", clock.now) as books:
        yield books


async def serve(home: Path, clock: Clock, *, despite_loss: bool = False) -> None:
    """Run the bank of this home until cancelled.

    Args:
        home: the bank's.
        clock: the bank's time.
        despite_loss: go on, too, if the books are behind what the bank has announced.

    Raises:
        HomeError: if this is no bank's home, another process runs it, or its books are damaged or have lost something.
        NotAuthorized: if the broker refuses the log-in.
    """
    settings = settings_of(home)
    broker = BrokerUrl.parse(settings.broker)
    client_id = topics.agent_client(settings.name, settings.presence)
    will = Outgoing(topics.status(settings.name), Status(open=False, lanes=0).encode(), retain=True)
    with locked(home):
        async with open_books(home, clock) as books:
            await check_file(books)
            announcement = (await announcements_in(home, books))[-1]
            keyset, keys = read_keyset(announcement), keys_of(home)  # in this order: keys are written before a keyset
            signer = SoftwareSigner(keys.denominations)
            agent = BankAgent(keyset, announcement, keys, books, signer, clock, settings.bounds())
            try:
                async with MqttLink(broker, client_id, persistent=True, will=will, patience_s=math.inf) as link:
                    aside = MqttLink(broker, SystemEntropy().bytes(16).hex(), persistent=False)
                    await check_history(books, keyset, keys.identity, clock, link, aside, despite_loss=despite_loss)
                    await _run(
                        agent.run(link),
                        _tell(agent, address_of(settings, keys.identity)),
                        follow_keysets(agent, home, books, signer, clock, link),
                        publish_totals(agent, books, keys.identity, clock, link),
                    )
            finally:
                signer.close()


async def announcements_in(home: Path, books: Books) -> list[bytes]:
    """Return all keysets that the bank has announced, signed, the newest last.

    Raises:
        HomeError: if there is none.
    """
    announcements = await books.keysets()
    if not announcements:
        raise HomeError(f"{home} has no keyset: `ecash bank init` did not finish; remove it and init again")
    return announcements


async def _run(work: Coroutine[Any, Any, None], *beside: Coroutine[Any, Any, None]) -> None:
    """Do some work and other things beside it, for as long as it lasts; what fails ends everything."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in beside]
        try:
            await work
        finally:
            for task in tasks:
                task.cancel()


async def follow_keysets(
    agent: BankAgent, home: Path, books: Books, signer: SoftwareSigner, clock: Clock, link: Link
) -> None:
    """Adopt each keyset that `ecash bank rotate` or `revoke` enters in the books, within a second, until cancelled."""
    await agent.ready.wait()
    adopted = agent.keyset.number
    while True:
        await clock.sleep_until(clock.now() + LOOK_MS)
        try:
            announcements = await books.keysets()
            if len(announcements) - 1 <= adopted:
                continue
            keyset, keys = read_keyset(announcements[-1]), await asyncio.to_thread(keys_of, home)
            await asyncio.to_thread(signer.add, keys.denominations)
            point("bank.keyset.adopting")
            await agent.adopt(keyset, announcements[-1], keys, link)
            point("bank.keyset.adopted")
            adopted = keyset.number
            _log.info("keyset %d is announced", keyset.number)
        except (BooksUnavailable, OSError, LinkError) as error:
            _log.warning("a new keyset could not be adopted now: %s", error)


async def publish_totals(agent: BankAgent, books: Books, identity_seed: bytes, clock: Clock, link: Link) -> None:
    """Announce what was minted and taken back, signed, until cancelled.

    At once, whenever it has changed, and with each new keyset: totals must not name what is announced no more. All
    coins are counted for it, once for each change and no more often than `TOTALS_MS` and `SLOW_TOTALS_MS` say.
    """
    counted, published, due = None, (-1, -1), 0
    await agent.ready.wait()
    while True:
        keyset = agent.keyset
        try:
            if clock.now() >= due:
                due = clock.now() + TOTALS_MS
                if counted is None or await books.last_entry() != counted.journal:
                    counted = await count(books, clock)
                    due = clock.now() + (SLOW_TOTALS_MS if counted.took > SLOW_MS else TOTALS_MS)
            if counted is not None and (counted.journal, keyset.number) != published:
                totals = sign_totals(counted, keyset, identity_seed)
                await link.announce(Outgoing(topics.totals(agent.name), totals.encode(), retain=True))
                published = (counted.journal, keyset.number)
        except (BooksUnavailable, LinkError) as error:
            _log.warning("the totals could not be announced now: %s", error)
        await clock.sleep_until(clock.now() + LOOK_MS)


async def _tell(agent: BankAgent, address: BankAddress) -> None:
    await agent.ready.wait()
    _log.info("bank %s is open at %s", agent.name, address)
