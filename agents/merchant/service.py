"""The merchant's process: its home, books and presence, put together."""

import asyncio
import logging
import math
from collections.abc import Mapping
from pathlib import Path

from broker.address import BrokerUrl
from broker.mqtt import MqttLink
from broker.port import Outgoing
from protocol import topics
from protocol.messages import Status

from ..home import locked
from ..world import Clock, Entropy
from .agent import MerchantAgent
from .home import catalog_of, keys_of, settings_of
from .store import MerchantStore

_log = logging.getLogger("ecash.merchant")


async def serve(home: Path, clock: Clock, entropy: Entropy, invitations: Mapping[str, bytes]) -> None:
    """Run the merchant of this home until cancelled. Invitations, by bank, claim accounts at the first start.

    Raises:
        HomeError: if this is no merchant's home, another process runs it, or settings or catalogue are wrong.
        NotAuthorized: if the broker refuses the log-in.
        NobodyAnswers, PeerError: as `MerchantAgent.run`.
    """
    settings, keys, catalog = settings_of(home), keys_of(home), catalog_of(home)
    broker = BrokerUrl.parse(settings.broker)
    client_id = topics.agent_client(settings.name, settings.presence)
    will = Outgoing(topics.status(settings.name), Status(open=False, lanes=0).encode(), retain=True)
    with locked(home):
        async with (
            MerchantStore(home / "sales.db") as store,
            MqttLink(broker, client_id, persistent=True, will=will, patience_s=math.inf) as link,
        ):
            agent = MerchantAgent(settings, keys, catalog, store, link, clock, entropy, invitations)
            opened = asyncio.create_task(_tell(agent))
            try:
                await agent.run()
            finally:
                opened.cancel()


async def _tell(agent: MerchantAgent) -> None:
    await agent.ready.wait()
    _log.info("merchant %s is open", agent.name)
