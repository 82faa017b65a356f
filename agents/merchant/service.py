"""The merchant's process: its home, books, presence and pages, put together."""

import asyncio
import logging
import math
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec

from broker.address import BrokerUrl
from broker.mqtt import MqttLink
from broker.port import Outgoing
from protocol import topics
from protocol.messages import Status

from ..home import locked
from ..web.listen import Listen
from ..world import Clock, Entropy
from .agent import MerchantAgent
from .home import Settings, catalog_of, keys_of, settings_of, web_keys, webhook_secret
from .store import MerchantStore
from .web.address import names_of

_log = logging.getLogger("ecash.merchant")


class Web(NamedTuple):
    """Where the shop's pages are served, and the address at which buyers find them ("": what the settings say)."""

    listen: Listen
    public_url: str = ""


async def serve(
    home: Path, clock: Clock, entropy: Entropy, invitations: Mapping[str, bytes], web: Web | None = None
) -> None:
    """Run the merchant of this home until cancelled, and its pages, if it is said where.

    Invitations, by bank, claim accounts at the first start.

    Raises:
        HomeError: if this is no merchant's home, another process runs it, settings or catalogue are wrong, or the pages
            cannot be served there.
        ValueError: if the public address is none.
        NotAuthorized: if the broker refuses the log-in.
        NobodyAnswers, PeerError: as `MerchantAgent.run`.
    """
    settings, keys, catalog = settings_of(home), keys_of(home), catalog_of(home)
    if web is not None:
        web = web._replace(public_url=web.public_url or settings.public_url)
        # What tells of an order names its page: the address that is in use counts, not the one that is set.
        settings = msgspec.structs.replace(settings, public_url=names_of(web.listen, web.public_url).url)
    broker = BrokerUrl.parse(settings.broker)
    client_id = topics.agent_client(settings.name, settings.presence)
    will = Outgoing(topics.status(settings.name), Status(open=False, lanes=0).encode(), retain=True)
    with locked(home):
        async with (
            MerchantStore(home / "sales.db") as store,
            MqttLink(broker, client_id, persistent=True, will=will, patience_s=math.inf) as link,
            asyncio.TaskGroup() as group,
        ):
            bounds = settings.bounds()
            agent = MerchantAgent(settings, keys, catalog, store, link, clock, entropy, invitations, bounds)
            group.create_task(agent.run())
            await agent.ready.wait()
            if settings.webhook:
                group.create_task(_deliver(agent, home, settings, clock, entropy))
            async with AsyncExitStack() as pages:
                if web is not None:
                    await pages.enter_async_context(_pages(agent, home, clock, entropy, web))
                _log.info("merchant %s is open", agent.name)
                await asyncio.Event().wait()


def _pages(
    agent: MerchantAgent, home: Path, clock: Clock, entropy: Entropy, web: Web
) -> AbstractAsyncContextManager[None]:
    from .web.serving import open_pages  # noqa: PLC0415 - a shop without pages starts without their libraries

    return open_pages(agent, home, clock, entropy, *web)


async def _deliver(agent: MerchantAgent, home: Path, settings: Settings, clock: Clock, entropy: Entropy) -> None:
    """Deliver webhooks until cancelled."""
    import httpx  # noqa: PLC0415 - as above

    from .webhook import Courier  # noqa: PLC0415

    secret = webhook_secret(web_keys(home, entropy).webhook)
    async with httpx.AsyncClient() as client:
        await Courier(agent.outbox, settings.webhook, secret, client, clock, entropy).run()
