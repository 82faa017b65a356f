"""How many orders may be open at once: each of them is a row that anybody can have made."""

import sqlite3
from typing import Final

from ..desk import Desk

MAX_OPEN_OF_BUYER: Final = 20
MAX_OPEN: Final = 5_000
_MINUTE_MS: Final = 60_000
_COUNT: Final = """
SELECT count(*), coalesce(sum(buyer = ?), 0) FROM web_order JOIN sale USING (payment_id)
WHERE created_at > ? AND open
"""


class Crowded(Exception):
    """A browser cannot order now; the text says why, in sentences for the buyer."""


async def admit(desk: Desk, buyer: bytes) -> None:
    """Let a browser order now. Only while the desk's step is held, nobody else is let in at the same moment.

    Args:
        desk: the shop's.
        buyer: SHA-256 of the browser's cookie.

    Raises:
        Crowded: if too many orders are open.
    """
    since = desk.clock.now() - int(desk.settings.offer_minutes * _MINUTE_MS)

    def read(db: sqlite3.Connection) -> tuple[int, int]:
        of_all, of_buyer = db.execute(_COUNT, (buyer, since)).fetchone()
        return of_all, of_buyer

    of_all, of_buyer = await desk.store.read(read)
    if of_buyer >= MAX_OPEN_OF_BUYER:
        raise Crowded(
            f"You have {of_buyer} orders that are not paid. Pay one of them, or wait until their time is over."
        )
    if of_all >= MAX_OPEN:
        raise Crowded(
            "More orders are open than this shop takes at once. Nothing was ordered: try again in some minutes."
        )
