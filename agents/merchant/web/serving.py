"""The shop's site as it is served beside the agent."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ...web.listen import Listen
from ...web.server import served
from ...world import Clock, Entropy
from ..agent import MerchantAgent
from .address import names_of
from .site import shop_site

_log = logging.getLogger("ecash.merchant")


@asynccontextmanager
async def open_pages(
    agent: MerchantAgent, home: Path, clock: Clock, entropy: Entropy, listen: Listen, public_url: str
) -> AsyncIterator[None]:
    """Serve the pages of a shop that is open for as long as the context lasts, and say where they are.

    Raises:
        HomeError: if they cannot be served there, or as `names_of`.
        ValueError: as `names_of`.
    """
    app, guarded = shop_site(agent, home, clock, entropy, listen, public_url)
    url = names_of(listen, public_url).url
    async with served(app, guarded, listen):
        _log.info("the shop's pages: %s/", url)
        _log.info("for the shopkeeper: %s/office (`ecash merchant web` prints its key)", url)
        yield
