"""The process of the operator's pages: books, site and server, put together."""

import asyncio
import logging
from pathlib import Path

from ...web.listen import Listen
from ...web.server import served
from ...world import Clock, Entropy
from ..home import settings_of
from ..service import announcements_in, open_books
from .health import asks_broker
from .site import bank_site

_log = logging.getLogger("ecash.bank")


async def serve_pages(home: Path, listen: Listen, clock: Clock, entropy: Entropy) -> None:
    """Serve the operator's pages until cancelled.

    Raises:
        HomeError: if this is no bank's home, or it cannot listen there.
    """
    ask = asks_broker(settings_of(home), entropy)
    async with open_books(home, clock) as books:
        await announcements_in(home, books)
        app, guarded, auditor = bank_site(home, books, listen, clock, entropy, ask)
        try:
            async with served(app, guarded, listen) as where:
                _log.info("the bank's site is open at http://bank.localhost:%d/", where.port)
                await asyncio.Event().wait()
        finally:
            await auditor.close()
