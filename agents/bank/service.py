"""The bank's process: its home, books, signer and presence, put together."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from broker.address import BrokerUrl
from broker.mqtt import MqttLink
from broker.port import Outgoing
from protocol import topics
from protocol.keyset import read_keyset
from protocol.messages import Status

from ..address import BankAddress
from ..home import HomeError, locked
from ..world import Clock
from .agent import BankAgent
from .home import address_of, keys_of, settings_of
from .signer import SoftwareSigner
from .sqlite import SqliteBooks

_log = logging.getLogger("ecash.bank")


@asynccontextmanager
async def open_books(home: Path, clock: Clock) -> AsyncIterator[SqliteBooks]:
    """Open the books of the bank in this home.

    Raises:
        HomeError: if this is no bank's home.
    """
    settings_of(home)
    async with SqliteBooks(home / "books.db", clock.now) as books:
        yield books


async def serve(home: Path, clock: Clock) -> None:
    """Run the bank of this home until cancelled.

    Raises:
        HomeError: if this is no bank's home, or another process runs it.
        NotAuthorized: if the broker refuses the log-in.
    """
    settings, keys = settings_of(home), keys_of(home)
    broker = BrokerUrl.parse(settings.broker)
    client_id = topics.agent_client(settings.name, settings.presence)
    will = Outgoing(topics.status(settings.name), Status(open=False, lanes=0).encode(), retain=True)
    with locked(home):
        async with open_books(home, clock) as books:
            announcements = await books.keysets()
            if not announcements:
                raise HomeError(f"{home} has no keyset: `ecash bank init` did not finish; remove it and init again")
            keyset = read_keyset(announcements[-1])
            signer = SoftwareSigner(keys.denominations)
            agent = BankAgent(keyset, announcements[-1], keys, books, signer, clock)
            try:
                async with MqttLink(broker, client_id, persistent=True, will=will, patience_s=math.inf) as link:
                    opened = asyncio.create_task(_tell(agent, address_of(settings, keys.identity)))
                    try:
                        await agent.run(link)
                    finally:
                        opened.cancel()
            finally:
                signer.close()


async def _tell(agent: BankAgent, address: BankAddress) -> None:
    await agent.ready.wait()
    _log.info("bank %s is open at %s", agent.name, address)
