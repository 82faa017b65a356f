"""The outbox of webhooks: what the shop's own system is to be told, entered with the step that it tells of."""

import sqlite3
from typing import Final, NamedTuple

from ..database import Database
from ..world import Clock
from .changes import Bell

NOTICE_SCHEMA: Final = """
CREATE TABLE notice (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, order_id TEXT NOT NULL, kind TEXT NOT NULL,
    body BLOB NOT NULL, at INTEGER NOT NULL, next_at INTEGER NOT NULL, attempts INTEGER NOT NULL,
    delivered_at INTEGER NOT NULL, error TEXT NOT NULL
);
CREATE INDEX notice_to_send ON notice (order_id, number) WHERE next_at > 0;
CREATE INDEX notice_by_order ON notice (order_id);
"""
_MAX_NUMBER: Final = 2**53 - 1
_COLUMNS: Final = "number, id, order_id, kind, body, at, next_at, attempts, delivered_at, error"


class Notice(NamedTuple):
    """One message to the shop's system.

    `number` (0 before it is entered) gives the order; `id` (`msg_…`) is the same in every attempt; `kind` is such as
    `order.paid`; `body` is JSON. `next_at` is the time of the next attempt, 0 for none: it is delivered (then
    `delivered_at` says when) or given up. `error` is what went wrong in the last attempt.
    """

    number: int
    id: str
    order_id: str
    kind: str
    body: bytes
    at: int
    next_at: int
    attempts: int = 0
    delivered_at: int = 0
    error: str = ""

    @property
    def state(self) -> str:
        """Where it is: `delivered`, `waiting` for its next attempt, or `failed`, that is, given up."""
        if self.delivered_at:
            return "delivered"
        return "waiting" if self.next_at else "failed"


class Outbox:
    """The notices of a merchant's file.

    Args:
        file: the merchant's.
        clock: the world's.

    Attributes:
        bell: rings when there may be something to send.
    """

    def __init__(self, file: Database, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self.bell = Bell()

    async def notices(self, limit: int = 100) -> list[Notice]:
        """Return the newest notices, the newest first."""
        return await self._notices("ORDER BY number DESC LIMIT ?", limit)

    async def next(self) -> Notice | None:
        """Return the notice that is to be sent first; of each order only the oldest one that is still to be sent."""
        found = await self._notices(
            "WHERE next_at > 0 AND number IN (SELECT min(number) FROM notice WHERE next_at > 0 GROUP BY order_id) "
            "ORDER BY next_at, number LIMIT ?",
            1,
        )
        return found[0] if found else None

    async def _notices(self, where: str, limit: int) -> list[Notice]:
        query = f"SELECT {_COLUMNS} FROM notice {where}"  # noqa: S608 - both callers are above
        return [Notice(*row) for row in await self._file.read(lambda db: db.execute(query, (limit,)).fetchall())]

    async def record(self, notice: Notice) -> None:
        """Make the outcome of an attempt durable."""
        change = "UPDATE notice SET next_at = ?, attempts = ?, delivered_at = ?, error = ? WHERE number = ?"
        await self._file.write(lambda db: db.execute(change, (*notice[6:], notice.number)))

    async def again(self, number: int) -> bool:
        """Have a notice sent at once, and as often as a new one if need be; return whether there is one."""
        if not 0 < number <= _MAX_NUMBER:
            return False
        change = "UPDATE notice SET next_at = ?, attempts = 0, delivered_at = 0, error = '' WHERE number = ?"
        values = (self._clock.now(), number)
        changed = await self._file.write(lambda db: db.execute(change, values).rowcount)
        self.bell.set()
        return changed > 0


def insert_notice(db: sqlite3.Connection, notice: Notice) -> None:
    """Enter a notice, in the transaction of what it tells of."""
    db.execute("INSERT INTO notice VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", notice[1:])


def forget_notices(db: sqlite3.Connection, order_id: str) -> None:
    """Delete the notices of an order but those that are still to be sent."""
    db.execute("DELETE FROM notice WHERE order_id = ? AND next_at = 0", (order_id,))
