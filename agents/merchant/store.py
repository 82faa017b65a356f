"""The merchant's books: sales, deposits, and who asked to pay what and was told what."""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from protocol.merchant import deposit, sale

from ..database import Database

SCHEMA: Final = """
CREATE TABLE sale (
    payment_id BLOB PRIMARY KEY, state BLOB NOT NULL, open INTEGER NOT NULL, wake_at INTEGER NOT NULL,
    begun_at INTEGER NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL, title TEXT NOT NULL,
    goods TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE deposit (
    digest BLOB PRIMARY KEY, payment_id BLOB NOT NULL REFERENCES sale, state BLOB NOT NULL, open INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE asked (
    request_id BLOB PRIMARY KEY, request_hash BLOB NOT NULL, answer_key BLOB NOT NULL, topic TEXT NOT NULL,
    digest BLOB NOT NULL, answer BLOB
) WITHOUT ROWID;
CREATE INDEX asked_by_digest ON asked (digest) WHERE answer IS NULL;
"""
_VERSION: Final = 1
_SALE: Final = msgspec.msgpack.Decoder(sale.SaleState)
_DEPOSIT: Final = msgspec.msgpack.Decoder(deposit.DepositState)
_OPEN_SALES: Final = (sale.Offered, sale.Depositing, sale.Declined)


class SaleRow(NamedTuple):
    """A sale as it is stored; `goods` goes to the buyer with the receipt."""

    payment_id: bytes
    state: sale.SaleState
    wake_at: int
    begun_at: int
    amount: int
    currency: str
    title: str
    goods: str

    @property
    def open(self) -> bool:
        """Whether something can still happen."""
        return isinstance(self.state, _OPEN_SALES)


class DepositRow(NamedTuple):
    """A deposit as it is stored."""

    digest: bytes
    payment_id: bytes
    state: deposit.DepositState

    @property
    def open(self) -> bool:
        """Whether the bank has yet to decide."""
        return isinstance(self.state, deposit.Requested)


class Asked(NamedTuple):
    """A request that was taken in. `digest` is empty but for `pay`; `answer` is None until it is decided."""

    request_id: bytes
    request_hash: bytes
    answer_key: bytes
    topic: str
    digest: bytes
    answer: bytes | None


class Change(NamedTuple):
    """What one step changes, in one transaction."""

    sales: Sequence[SaleRow] = ()
    deposits: Sequence[DepositRow] = ()
    asked: Sequence[Asked] = ()


class MerchantStore(Database):
    """The merchant's file; see the module."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA, _VERSION)

    async def sale(self, payment_id: bytes) -> SaleRow | None:
        """Return a sale."""
        rows = await self._sales("WHERE payment_id = ?", (payment_id,))
        return rows[0] if rows else None

    async def sales(self, *, only_open: bool = False) -> list[SaleRow]:
        """Return sales, the oldest first."""
        return await self._sales("WHERE open >= ? ORDER BY begun_at, payment_id", (int(only_open),))

    async def _sales(self, where: str, values: tuple[bytes | int, ...]) -> list[SaleRow]:
        columns = "payment_id, state, wake_at, begun_at, amount, currency, title, goods"
        query = f"SELECT {columns} FROM sale {where}"  # noqa: S608 - both callers are above
        rows = await self.read(lambda db: db.execute(query, values).fetchall())
        return [SaleRow(row[0], _SALE.decode(row[1]), *row[2:]) for row in rows]

    async def deposit(self, digest: bytes) -> DepositRow | None:
        """Return a deposit."""
        rows = await self._deposits("WHERE digest = ?", (digest,))
        return rows[0] if rows else None

    async def deposits(self, *, only_open: bool = False) -> list[DepositRow]:
        """Return deposits."""
        return await self._deposits("WHERE open >= ?", (int(only_open),))

    async def _deposits(self, where: str, values: tuple[bytes | int, ...]) -> list[DepositRow]:
        query = f"SELECT digest, payment_id, state FROM deposit {where}"  # noqa: S608 - both callers are above
        rows = await self.read(lambda db: db.execute(query, values).fetchall())
        return [DepositRow(row[0], row[1], _DEPOSIT.decode(row[2])) for row in rows]

    async def asked(self, request_id: bytes) -> Asked | None:
        """Return a request that was taken in."""
        row = await self.read(
            lambda db: db.execute("SELECT * FROM asked WHERE request_id = ?", (request_id,)).fetchone()
        )
        return None if row is None else Asked(*row)

    async def waiting(self, digest: bytes) -> list[Asked]:
        """Return who asked to pay with this digest and has no answer yet."""
        query = "SELECT * FROM asked WHERE digest = ? AND answer IS NULL"
        rows = await self.read(lambda db: db.execute(query, (digest,)).fetchall())
        return [Asked(*row) for row in rows]

    async def save(self, change: Change) -> None:
        """Make a step durable."""

        def write(db: sqlite3.Connection) -> None:
            _replace(db, "sale", (_sale(row) for row in change.sales))
            _replace(db, "deposit", (_deposit(row) for row in change.deposits))
            _replace(db, "asked", change.asked)

        await self.write(write)


def _sale(row: SaleRow) -> tuple[object, ...]:
    return (row.payment_id, msgspec.msgpack.encode(row.state), row.open, *row[2:])


def _deposit(row: DepositRow) -> tuple[object, ...]:
    return (row.digest, row.payment_id, msgspec.msgpack.encode(row.state), row.open)


def _replace(db: sqlite3.Connection, table: str, rows: Iterable[tuple[object, ...]]) -> None:
    for row in rows:
        marks = ", ".join("?" * len(row))
        db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608 - names are ours
