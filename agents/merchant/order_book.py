"""Web orders in the merchant's file: which sale has which page, and whose browser it belongs to."""

import re
import sqlite3
from typing import Final, NamedTuple

import msgspec

from ..database import Database

ORDER_SCHEMA: Final = """
CREATE TABLE web_order (
    id TEXT PRIMARY KEY, payment_id BLOB NOT NULL UNIQUE REFERENCES sale, buyer BLOB NOT NULL,
    reference TEXT NOT NULL, return_url TEXT NOT NULL, created_at INTEGER NOT NULL, delivered_at INTEGER NOT NULL,
    files TEXT NOT NULL, idempotency_key TEXT NOT NULL, content BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX web_order_by_time ON web_order (created_at);
CREATE UNIQUE INDEX web_order_by_key ON web_order (idempotency_key) WHERE idempotency_key <> '';
"""
_COLUMNS: Final = "id, payment_id, buyer, reference, return_url, created_at, delivered_at, files"
_ID: Final = re.compile(r"[0-9a-f]{32}")
_FILES: Final = msgspec.json.Decoder(tuple[str, ...])


class Order(NamedTuple):
    """A sale that was ordered on the web.

    `id` (32 hexadecimal digits) is the address of its page, and nobody can guess it: not even the bank, which knows
    the payment id. `buyer` is the SHA-256 of a cookie, or empty until a browser has claimed the order. `reference` is
    the shop system's own number; `return_url` is where the page sends the buyer afterwards. `delivered_at` is 0 until
    the goods were shown; `files` are names in the home's folder of goods.
    """

    id: str
    payment_id: bytes
    buyer: bytes
    reference: str
    return_url: str
    created_at: int
    delivered_at: int
    files: tuple[str, ...]


class Placed(NamedTuple):
    """An order that is to be saved, the shop system's key for it (or none), and the hash of what it asked for."""

    order: Order
    idempotency_key: str = ""
    content: bytes = b""


class OrderBook:
    """The web orders of a merchant's file."""

    def __init__(self, file: Database) -> None:
        self._file = file

    async def order(self, order_id: str) -> Order | None:
        """Return an order by the address of its page; None for whatever is no such address."""
        return await self._one("WHERE id = ?", order_id) if _ID.fullmatch(order_id) else None

    async def of_sale(self, payment_id: bytes) -> Order | None:
        """Return the order of a sale."""
        return await self._one("WHERE payment_id = ?", payment_id)

    async def _one(self, where: str, value: str | bytes) -> Order | None:
        found = await self._orders(where, (value,))
        return found[0] if found else None

    async def _orders(self, where: str, values: tuple[str | bytes | int, ...]) -> list[Order]:
        query = f"SELECT {_COLUMNS} FROM web_order {where}"  # noqa: S608 - all callers are here
        rows = await self._file.read(lambda db: db.execute(query, values).fetchall())
        return [Order(row[0], row[1], row[2], row[3], row[4], row[5], row[6], _FILES.decode(row[7])) for row in rows]

    async def newest(self, limit: int, before: int) -> list[Order]:
        """Return the newest orders that were made before this time, the newest first."""
        return await self._orders("WHERE created_at < ? ORDER BY created_at DESC, id LIMIT ?", (before, limit))

    async def with_key(self, idempotency_key: str) -> tuple[Order, bytes] | None:
        """Return the order that was placed with this key, and the hash of what was asked for then."""
        order = await self._one("WHERE idempotency_key = ?", idempotency_key)
        if order is None:
            return None
        query = "SELECT content FROM web_order WHERE id = ?"
        [(content,)] = await self._file.read(lambda db: db.execute(query, (order.id,)).fetchall())
        return order, content

    async def claim(self, order_id: str, buyer: bytes) -> None:
        """Let an order that nobody has claimed belong to this browser."""
        await self._set("buyer = ? WHERE buyer = x'' AND id = ?", (buyer, order_id))

    async def delivered(self, order_id: str, at: int) -> None:
        """Note when the goods were shown, the first time."""
        await self._set("delivered_at = ? WHERE delivered_at = 0 AND id = ?", (at, order_id))

    async def _set(self, change: str, values: tuple[str | bytes | int, ...]) -> None:
        statement = f"UPDATE web_order SET {change}"  # noqa: S608 - both callers are above
        await self._file.write(lambda db: db.execute(statement, values))


def insert_order(db: sqlite3.Connection, placed: Placed) -> None:
    """Enter an order, in the transaction of its sale."""
    files = msgspec.json.encode(placed.order.files).decode()
    values = (*placed.order[:7], files, placed.idempotency_key, placed.content)
    db.execute("INSERT INTO web_order VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
