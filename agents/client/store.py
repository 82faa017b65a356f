"""The wallet's file: banks, coins without their keys, exchanges with their states.

`wallet.db` holds nothing that spends: a coin's key derives from the seed, and the seed is sealed.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec

from protocol.coins import Coin
from protocol.machine import Effect, WakeAt
from protocol.wallet import payment, withdrawal
from protocol.wallet.payment import ReleaseCoins, ReserveCoins, SetCoinsAside, SpendCoins
from protocol.wallet.withdrawal import KeepCoins

from ..database import Database

FREE: Final = "free"
RESERVED: Final = "reserved"
SPENT: Final = "spent"
ASIDE: Final = "aside"

SCHEMA: Final = """
CREATE TABLE bank (
    name TEXT PRIMARY KEY, address TEXT NOT NULL, keyset BLOB NOT NULL,
    account INTEGER, currency TEXT, title TEXT
) WITHOUT ROWID;
CREATE TABLE coin (
    serial BLOB PRIMARY KEY, bank TEXT NOT NULL REFERENCES bank, denomination BLOB NOT NULL,
    currency TEXT NOT NULL, value INTEGER NOT NULL, signature BLOB NOT NULL,
    request_id BLOB NOT NULL, position INTEGER NOT NULL, state TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX coin_by_state ON coin (state, bank, value);
CREATE TABLE exchange (
    id BLOB PRIMARY KEY, kind TEXT NOT NULL, bank TEXT NOT NULL REFERENCES bank, state BLOB NOT NULL,
    open INTEGER NOT NULL, wake_at INTEGER NOT NULL, begun_at INTEGER NOT NULL, note BLOB NOT NULL
) WITHOUT ROWID;
"""
_VERSION: Final = 1

ExchangeState: TypeAlias = withdrawal.WithdrawalState | payment.PaymentState
_OPEN: Final = (withdrawal.Requested, payment.Paying, payment.Waiting, payment.Asking, payment.Unreceipted)
_STATES: Final = {
    "withdraw": msgspec.msgpack.Decoder(withdrawal.WithdrawalState),
    "pay": msgspec.msgpack.Decoder(payment.PaymentState),
}


class Note(msgspec.Struct, frozen=True):
    """What the owner wants to know of an exchange, and what a payment is proven with.

    `info` is the encoded payment information, `salt` the order's, `code` the payer code, sealed under the exchange's
    note key; it is empty if the code is the derived one. `merchant_key` is the one that the bank has certified.
    """

    amount: int
    currency: str
    commission: int = 0
    merchant: str = ""
    title: str = ""
    order: tuple[str, ...] = ()
    info: bytes = b""
    salt: bytes = b""
    code: bytes = b""
    payer_function: str = ""
    merchant_key: bytes = b""


class BankRow(NamedTuple):
    """A bank the wallet knows: `keyset` is its newest signed announcement; account fields are None at first."""

    name: str
    address: str
    keyset: bytes
    account: int | None
    currency: str | None
    title: str | None


class HeldCoin(NamedTuple):
    """A coin in hand and where its key derives from."""

    coin: Coin
    value: int
    request_id: bytes
    position: int


class ExchangeRow(NamedTuple):
    """An exchange as it is stored."""

    id: bytes
    kind: str
    bank: str
    state: ExchangeState
    open: bool
    wake_at: int
    begun_at: int
    note: Note


class WalletStore(Database):
    """The wallet's file; see the module."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA, _VERSION)

    async def banks(self) -> list[BankRow]:
        """Return all banks, by name."""
        rows = await self.read(lambda db: db.execute("SELECT * FROM bank ORDER BY name").fetchall())
        return [BankRow(*row) for row in rows]

    async def save_bank(self, bank: BankRow) -> None:
        """Enter a bank, or what is new of it."""
        statement = (
            "INSERT INTO bank VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
            "address = excluded.address, keyset = excluded.keyset, account = excluded.account, "
            "currency = excluded.currency, title = excluded.title"
        )
        await self.write(lambda db: db.execute(statement, bank))

    async def free_coins(self, bank: str, currency: str) -> list[HeldCoin]:
        """Return the coins of a bank that are free to spend."""
        query = (
            "SELECT denomination, serial, signature, value, request_id, position FROM coin "
            "WHERE state = ? AND bank = ? AND currency = ? ORDER BY value, serial"
        )
        rows = await self.read(lambda db: db.execute(query, (FREE, bank, currency)).fetchall())
        return [HeldCoin(Coin(*row[:3]), *row[3:]) for row in rows]

    async def holdings(self) -> list[tuple[str, str, str, int, int]]:
        """Return (bank, currency, state, value, count) of all coins not spent."""
        query = (
            "SELECT bank, currency, state, value, count(*) FROM coin WHERE state <> ? "
            "GROUP BY bank, currency, state, value ORDER BY bank, currency, state, value DESC"
        )
        return await self.read(lambda db: db.execute(query, (SPENT,)).fetchall())

    async def exchanges(self, *, only_open: bool = False) -> list[ExchangeRow]:
        """Return exchanges, the oldest first."""
        query = "SELECT * FROM exchange WHERE open >= ? ORDER BY begun_at, id"
        rows = await self.read(lambda db: db.execute(query, (int(only_open),)).fetchall())
        return [_exchange(row) for row in rows]

    async def refused_digests(self) -> set[bytes]:
        """Return the digests of all payments that a bank has refused under its signature."""
        rows = await self.exchanges()
        return {row.state.digest for row in rows if isinstance(row.state, payment.Refused | payment.Released)}

    async def exchange(self, exchange_id: bytes) -> ExchangeRow:
        """Return one exchange; raise KeyError if there is none."""
        row = await self.read(lambda db: db.execute("SELECT * FROM exchange WHERE id = ?", (exchange_id,)).fetchone())
        if row is None:
            raise KeyError(exchange_id.hex())
        return _exchange(row)

    async def save(
        self, row: ExchangeRow, effects: Iterable[Effect], values: dict[bytes, tuple[str, int]]
    ) -> ExchangeRow:
        """Make a step of an exchange durable: its state and what the step does to coins, in one transaction.

        Args:
            row: the exchange with its new state.
            effects: the step's; `WakeAt` is stored with the exchange.
            values: currency and value by denomination, for coins that are new.

        Returns:
            The row as stored.

        Raises:
            CoinsTaken: if a coin to be reserved is not free; nothing was changed.
        """
        wake_at = next((effect.at for effect in effects if isinstance(effect, WakeAt)), row.wake_at)
        stored = row._replace(open=isinstance(row.state, _OPEN), wake_at=wake_at)

        def change(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR REPLACE INTO exchange VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    stored.id,
                    stored.kind,
                    stored.bank,
                    msgspec.msgpack.encode(stored.state),
                    stored.open,
                    stored.wake_at,
                    stored.begun_at,
                    msgspec.msgpack.encode(stored.note),
                ),
            )
            for effect in effects:
                _apply(db, stored.bank, effect, values)

        await self.write(change)
        return stored


class CoinsTaken(Exception):
    """A coin was spoken for meanwhile."""


def _exchange(row: tuple[bytes, str, str, bytes, int, int, int, bytes]) -> ExchangeRow:
    exchange_id, kind, bank, state, is_open, wake_at, begun_at, note = row
    decoded = _STATES[kind].decode(state)
    return ExchangeRow(
        exchange_id, kind, bank, decoded, bool(is_open), wake_at, begun_at, msgspec.msgpack.decode(note, type=Note)
    )


def _apply(db: sqlite3.Connection, bank: str, effect: Effect, values: dict[bytes, tuple[str, int]]) -> None:
    match effect:
        case KeepCoins():
            db.executemany(
                "INSERT INTO coin VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (c.serial, bank, c.denomination, *values[c.denomination], c.signature, effect.request_id, i, FREE)
                    for i, c in effect.coins
                ),
            )
        case ReserveCoins():
            _move(db, effect.serials, FREE, RESERVED)
        case SpendCoins():
            _move(db, effect.serials, RESERVED, SPENT)
        case ReleaseCoins():
            _move(db, effect.serials, RESERVED, FREE)
        case SetCoinsAside():
            _move(db, effect.serials, RESERVED, ASIDE)
        case _:
            pass  # what is sent or slept on is not for the store


def _move(db: sqlite3.Connection, serials: tuple[bytes, ...], old: str, new: str) -> None:
    for serial in serials:
        moved = db.execute("UPDATE coin SET state = ? WHERE serial = ? AND state = ?", (new, serial, old))
        if moved.rowcount != 1:
            raise CoinsTaken(f"a coin is not {old}")
