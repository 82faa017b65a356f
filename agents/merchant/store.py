"""The merchant's books: sales, deposits, refunds, payouts, web orders, and who asked for what and was told what.

The shop that is open and the merchant's commands use the file side by side; each transaction is whole.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from protocol.merchant import deposit, payout, refund, sale

from ..database import Database
from .order_book import ORDER_SCHEMA, Placed, insert_order
from .outbox import NOTICE_SCHEMA, Notice, forget_notices, insert_notice

_OWN_SCHEMA: Final = """
CREATE TABLE sale (
    payment_id BLOB PRIMARY KEY, state BLOB NOT NULL, open INTEGER NOT NULL, wake_at INTEGER NOT NULL,
    begun_at INTEGER NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL, title TEXT NOT NULL,
    goods TEXT NOT NULL, lapsed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX lapsed_sale ON sale (begun_at) WHERE lapsed;
CREATE TABLE deposit (
    digest BLOB PRIMARY KEY, payment_id BLOB NOT NULL REFERENCES sale, state BLOB NOT NULL, open INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX deposit_by_sale ON deposit (payment_id);
CREATE TABLE asked (
    request_id BLOB PRIMARY KEY, request_hash BLOB NOT NULL, answer_key BLOB NOT NULL, topic TEXT NOT NULL,
    payment_id BLOB NOT NULL, about BLOB NOT NULL, answer BLOB
) WITHOUT ROWID;
CREATE INDEX asked_and_waiting ON asked (about) WHERE answer IS NULL;
CREATE INDEX asked_by_sale ON asked (payment_id);
CREATE TABLE granted (
    number INTEGER PRIMARY KEY, payment_id BLOB NOT NULL REFERENCES sale, amount INTEGER NOT NULL, at INTEGER NOT NULL
);
CREATE INDEX granted_by_sale ON granted (payment_id);
CREATE TABLE refund (
    request_id BLOB PRIMARY KEY, payment_id BLOB NOT NULL REFERENCES sale, ticket BLOB NOT NULL,
    amount INTEGER NOT NULL, at INTEGER NOT NULL, state BLOB NOT NULL, open INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX refund_by_sale ON refund (payment_id);
CREATE TABLE payout (
    request_id BLOB PRIMARY KEY, bank TEXT NOT NULL, amount INTEGER NOT NULL, commission INTEGER NOT NULL,
    currency TEXT NOT NULL, at INTEGER NOT NULL, state BLOB NOT NULL, open INTEGER NOT NULL
) WITHOUT ROWID;
"""
SCHEMA: Final = _OWN_SCHEMA + ORDER_SCHEMA + NOTICE_SCHEMA
_VERSION: Final = 3
_SALE: Final = msgspec.msgpack.Decoder(sale.SaleState)
_DEPOSIT: Final = msgspec.msgpack.Decoder(deposit.DepositState)
_REFUND: Final = msgspec.msgpack.Decoder(refund.RefundState)
_PAYOUT: Final = msgspec.msgpack.Decoder(payout.PayoutState)
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


class RefundRow(NamedTuple):
    """A refund as it is stored: the order's request id at the bank, and the hash (32 bytes) of the buyer's ticket."""

    request_id: bytes
    payment_id: bytes
    ticket: bytes
    amount: int
    at: int
    state: refund.RefundState

    @property
    def open(self) -> bool:
        """Whether the bank has yet to decide."""
        return isinstance(self.state, refund.Requested)


class PayoutRow(NamedTuple):
    """A payout as it is stored."""

    request_id: bytes
    bank: str
    amount: int
    commission: int
    currency: str
    at: int
    state: payout.PayoutState

    @property
    def open(self) -> bool:
        """Whether the bank has yet to decide."""
        return isinstance(self.state, payout.Requested)


class Asked(NamedTuple):
    """A request that was taken in for a sale.

    `about` is what the answer waits for: a payment's digest, a ticket's hash, or nothing. `answer` is None until it is
    decided.
    """

    request_id: bytes
    request_hash: bytes
    answer_key: bytes
    topic: str
    payment_id: bytes
    about: bytes
    answer: bytes | None


class Refundable(NamedTuple):
    """What was granted of a sale in all, and what of it was collected or is on its way through the bank."""

    granted: int
    collected: int
    under_way: int

    @property
    def left(self) -> int:
        """What a ticket may still be worth."""
        return self.granted - self.collected - self.under_way


class Change(NamedTuple):
    """What one step changes, in one transaction."""

    sales: Sequence[SaleRow] = ()
    deposits: Sequence[DepositRow] = ()
    refunds: Sequence[RefundRow] = ()
    asked: Sequence[Asked] = ()
    orders: Sequence[Placed] = ()
    notices: Sequence[Notice] = ()


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

    async def sales_like(self, prefix: str) -> list[SaleRow]:
        """Return the sales whose number begins with these hexadecimal digits."""
        return await self._sales("WHERE substr(lower(hex(payment_id)), 1, length(?1)) = lower(?1)", (prefix,))

    async def sales_of(self, payment_ids: Sequence[bytes]) -> dict[bytes, SaleRow]:
        """Return these sales, as far as there are such."""
        marks = ", ".join("?" * len(payment_ids))
        rows = await self._sales(f"WHERE payment_id IN ({marks})", tuple(payment_ids))
        return {row.payment_id: row for row in rows}

    async def _sales(self, where: str, values: tuple[bytes | int | str, ...]) -> list[SaleRow]:
        columns = "payment_id, state, wake_at, begun_at, amount, currency, title, goods"
        query = f"SELECT {columns} FROM sale {where}"  # noqa: S608 - all callers are above
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

    async def refund(self, request_id: bytes) -> RefundRow | None:
        """Return a refund by its order's request id."""
        rows = await self._refunds("WHERE request_id = ?", (request_id,))
        return rows[0] if rows else None

    async def refunds(self, *, only_open: bool = False) -> list[RefundRow]:
        """Return refunds, the oldest first."""
        return await self._refunds("WHERE open >= ? ORDER BY at, request_id", (int(only_open),))

    async def refunds_of(self, payment_id: bytes) -> list[RefundRow]:
        """Return the refunds of one sale, the oldest first."""
        return await self._refunds("WHERE payment_id = ? ORDER BY at, request_id", (payment_id,))

    async def _refunds(self, where: str, values: tuple[bytes | int, ...]) -> list[RefundRow]:
        query = f"SELECT request_id, payment_id, ticket, amount, at, state FROM refund {where}"  # noqa: S608 - as above
        rows = await self.read(lambda db: db.execute(query, values).fetchall())
        return [RefundRow(row[0], row[1], row[2], row[3], row[4], _REFUND.decode(row[5])) for row in rows]

    async def grant(self, payment_id: bytes, amount: int, at: int) -> None:
        """Grant a refund of so much of a sale.

        Raises:
            ValueError: if that would be more than was paid in all.
        """

        def write(db: sqlite3.Connection) -> None:
            query = "SELECT amount - (SELECT coalesce(sum(amount), 0) FROM granted WHERE payment_id = ?1) FROM sale "
            [(left,)] = db.execute(query + "WHERE payment_id = ?1", (payment_id,)).fetchall()
            if amount > left:
                raise ValueError("that is more than was paid and not refunded yet")
            db.execute("INSERT INTO granted (payment_id, amount, at) VALUES (?, ?, ?)", (payment_id, amount, at))

        await self.write(write)

    async def refundable(self, payment_id: bytes) -> Refundable:
        """Return what was granted of a sale, and what became of it."""
        return (await self.refundables([payment_id]))[payment_id]

    async def refundables(self, payment_ids: Sequence[bytes]) -> dict[bytes, Refundable]:
        """Return the same of several sales."""

        def read(db: sqlite3.Connection) -> dict[bytes, Refundable]:
            return {payment_id: _refundable(db, payment_id) for payment_id in payment_ids}

        return await self.read(read)

    async def payouts(self, *, only_open: bool = False) -> list[PayoutRow]:
        """Return payouts, the oldest first."""
        query = (
            "SELECT request_id, bank, amount, commission, currency, at, state FROM payout "
            "WHERE open >= ? ORDER BY at, request_id"
        )
        rows = await self.read(lambda db: db.execute(query, (int(only_open),)).fetchall())
        return [PayoutRow(row[0], row[1], row[2], row[3], row[4], row[5], _PAYOUT.decode(row[6])) for row in rows]

    async def save_payout(self, row: PayoutRow) -> None:
        """Make a step of a payout durable."""
        values = (*row[:6], msgspec.msgpack.encode(row.state), row.open)
        await self.write(lambda db: _replace(db, "payout", [values]))

    async def asked(self, request_id: bytes) -> Asked | None:
        """Return a request that was taken in."""
        row = await self.read(
            lambda db: db.execute("SELECT * FROM asked WHERE request_id = ?", (request_id,)).fetchone()
        )
        return None if row is None else Asked(*row)

    async def waiting(self, about: bytes) -> list[Asked]:
        """Return who waits for what becomes of this payment or ticket."""
        query = "SELECT * FROM asked WHERE about = ? AND answer IS NULL"
        rows = await self.read(lambda db: db.execute(query, (about,)).fetchall())
        return [Asked(*row) for row in rows]

    async def refused_tickets(self, payment_id: bytes) -> int:
        """Return how many requests with a ticket for this sale were refused, and are stored."""
        query = (
            "SELECT about FROM asked WHERE payment_id = ?1 AND answer IS NOT NULL AND about <> x'' "
            "AND about NOT IN (SELECT digest FROM deposit WHERE payment_id = ?1)"
        )
        about = await self.read(lambda db: [row[0] for row in db.execute(query, (payment_id,))])
        served = {row.ticket for row in await self.refunds_of(payment_id) if not isinstance(row.state, refund.Refused)}
        return sum(one not in served for one in about)

    async def save(self, change: Change) -> None:
        """Make a step durable."""

        def write(db: sqlite3.Connection) -> None:
            _replace(db, "sale", (_sale(row) for row in change.sales))
            _replace(db, "deposit", (_deposit(row) for row in change.deposits))
            _replace(db, "refund", ((*row[:5], msgspec.msgpack.encode(row.state), row.open) for row in change.refunds))
            _replace(db, "asked", change.asked)
            for placed in change.orders:
                insert_order(db, placed)
            for notice in change.notices:
                insert_notice(db, notice)

        await self.write(write)

    async def forget_lapsed(self, before: int, limit: int = 500) -> int:
        """Delete at most so many lapsed sales that began before this time, with all about them; return their number.

        Nothing was sold in them, so nobody can need them; anybody can make them.
        """

        def write(db: sqlite3.Connection) -> int:
            query = "SELECT payment_id FROM sale WHERE lapsed AND begun_at < ? ORDER BY begun_at LIMIT ?"
            lapsed = db.execute(query, (before, limit)).fetchall()
            for (payment_id,) in lapsed:
                for (order_id,) in db.execute("SELECT id FROM web_order WHERE payment_id = ?", (payment_id,)):
                    forget_notices(db, order_id)
            for table in ("asked", "deposit", "web_order", "sale"):
                db.executemany(f"DELETE FROM {table} WHERE payment_id = ?", lapsed)  # noqa: S608 - names are ours
            return len(lapsed)

        return await self.write(write)


def _refundable(db: sqlite3.Connection, payment_id: bytes) -> Refundable:
    query = "SELECT coalesce(sum(amount), 0) FROM granted WHERE payment_id = ?"
    [(granted,)] = db.execute(query, (payment_id,)).fetchall()
    query = "SELECT amount, state, open FROM refund WHERE payment_id = ?"
    rows = [(row[0], _REFUND.decode(row[1]), row[2]) for row in db.execute(query, (payment_id,))]
    collected = sum(amount for amount, state, _ in rows if isinstance(state, refund.Refunded))
    return Refundable(granted, collected, sum(amount for amount, _, is_open in rows if is_open))


def _sale(row: SaleRow) -> tuple[object, ...]:
    return (row.payment_id, msgspec.msgpack.encode(row.state), row.open, *row[2:], isinstance(row.state, sale.Lapsed))


def _deposit(row: DepositRow) -> tuple[object, ...]:
    return (row.digest, row.payment_id, msgspec.msgpack.encode(row.state), row.open)


def _replace(db: sqlite3.Connection, table: str, rows: Iterable[tuple[object, ...]]) -> None:
    for row in rows:
        marks = ", ".join("?" * len(row))
        db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608 - names are ours
