"""The wallet's file: banks, coins without their keys, exchanges with their states.

`wallet.db` holds nothing that spends: a coin's key derives from the seed, and the seed is sealed.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from protocol.coins import Coin
from protocol.machine import Effect, State, WakeAt
from protocol.messages import PaymentInfo
from protocol.wallet.purse import KeepCoins, ReleaseCoins, ReserveCoins, SetCoinsAside, SpendCoins, VoidDigest

from ..database import Database
from .machines import MACHINES

FREE: Final = "free"
RESERVED: Final = "reserved"
SPENT: Final = "spent"
ASIDE: Final = "aside"
UNVERIFIED: Final = "unverified"

SCHEMA: Final = """
CREATE TABLE bank (
    name TEXT PRIMARY KEY, address TEXT NOT NULL, keyset BLOB NOT NULL,
    account INTEGER, currency TEXT, title TEXT,
    generation INTEGER NOT NULL DEFAULT 0, counter INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE coin (
    serial BLOB PRIMARY KEY, bank TEXT NOT NULL REFERENCES bank, denomination BLOB NOT NULL,
    currency TEXT NOT NULL, value INTEGER NOT NULL, signature BLOB NOT NULL,
    request_id BLOB NOT NULL, position INTEGER NOT NULL, state TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX coin_by_state ON coin (state, bank, value);
CREATE INDEX coin_by_request ON coin (request_id);
CREATE TABLE exchange (
    id BLOB PRIMARY KEY, kind TEXT NOT NULL, bank TEXT NOT NULL REFERENCES bank, state BLOB NOT NULL,
    open INTEGER NOT NULL, wake_at INTEGER NOT NULL, begun_at INTEGER NOT NULL, note BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE void (digest BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE settled (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE doubt (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE inbox (id BLOB PRIMARY KEY, request BLOB NOT NULL, token BLOB NOT NULL) WITHOUT ROWID;
"""
_VERSION: Final = 2


class Note(msgspec.Struct, frozen=True):
    """What the owner wants to know of an exchange, and what a payment is proven with.

    `purpose` says why coins were exchanged; `settled` are withdrawals that a withdrawal names as settled,
    `used_up` those of which it was the first to find that no coin is left: they are named later. Of a payment,
    `info` is the encoded payment information, `salt` the order's, `code` the payer code, sealed under the exchange's
    note key; it is empty if the code is the derived one. `merchant_key` is the one that the bank has certified. `token`
    is the hash of the token whose coins were exchanged.
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
    purpose: str = ""
    settled: tuple[bytes, ...] = ()
    used_up: tuple[bytes, ...] = ()
    token: bytes = b""


class BankRow(NamedTuple):
    """A bank the wallet knows: `keyset` is its newest signed announcement; account fields are None at first.

    `generation` is the number under which the bank serves this device, 0 without an account; `counter` numbers the
    next exchange.
    """

    name: str
    address: str
    keyset: bytes
    account: int | None
    currency: str | None
    title: str | None
    generation: int = 0
    counter: int = 0


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
    state: State
    open: bool
    wake_at: int
    begun_at: int
    note: Note

    @property
    def number(self) -> str:
        """What its owner knows it by, in hexadecimal: a payment by its own id, the merchant's number of the sale."""
        return (PaymentInfo.decode(self.note.info).payment_id if self.note.info else self.id).hex()


class WalletStore(Database):
    """The wallet's file; see the module."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA, _VERSION)

    async def banks(self) -> list[BankRow]:
        """Return all banks, by name."""
        rows = await self.read(lambda db: db.execute("SELECT * FROM bank ORDER BY name").fetchall())
        return [BankRow(*row) for row in rows]

    async def save_bank(self, bank: BankRow) -> None:
        """Enter a bank, or what is new of it; its counter never runs back within a generation."""
        statement = (
            "INSERT INTO bank VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
            "address = excluded.address, keyset = excluded.keyset, account = excluded.account, "
            "currency = excluded.currency, title = excluded.title, generation = excluded.generation, "
            "counter = CASE WHEN generation = excluded.generation THEN max(counter, excluded.counter) ELSE 0 END"
        )
        await self.write(lambda db: db.execute(statement, bank))

    async def next_counter(self, bank: str) -> tuple[int, int]:
        """Return the device's generation at a bank and the number of its next exchange, which is used up by that."""
        statement = "UPDATE bank SET counter = counter + 1 WHERE name = ? RETURNING generation, counter - 1"
        [(generation, counter)] = await self.write(lambda db: db.execute(statement, (bank,)).fetchall())
        return int(generation), int(counter)

    async def coins(self, bank: str, currency: str, state: str = FREE) -> list[HeldCoin]:
        """Return the coins of a bank that are in this state: free to spend, unless another one is named."""
        query = (
            "SELECT denomination, serial, signature, value, request_id, position FROM coin "
            "WHERE state = ? AND bank = ? AND currency = ? ORDER BY value, serial"
        )
        rows = await self.read(lambda db: db.execute(query, (state, bank, currency)).fetchall())
        return [HeldCoin(Coin(*row[:3]), *row[3:]) for row in rows]

    async def used_up(self, bank: str, keep: int) -> list[bytes]:
        """Return withdrawals older than the last `keep` of which no coin is left, and the bank was not told so yet."""
        query = (
            "SELECT id FROM (SELECT * FROM exchange WHERE kind = 'withdraw' AND bank = ? AND NOT open "
            "ORDER BY begun_at DESC, id LIMIT -1 OFFSET ?) AS past "
            "WHERE NOT EXISTS (SELECT 1 FROM settled WHERE settled.id = past.id) "
            "AND NOT EXISTS (SELECT 1 FROM coin WHERE coin.request_id = past.id AND coin.state <> 'spent')"
        )
        return await self.read(lambda db: [row[0] for row in db.execute(query, (bank, keep))])

    async def settle(self, ids: Iterable[bytes]) -> None:
        """Remember that the bank was told that these withdrawals are settled."""
        rows = [(one,) for one in ids]
        await self.write(lambda db: db.executemany("INSERT OR IGNORE INTO settled VALUES (?)", rows))

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

    async def received(self, token: bytes) -> ExchangeRow | None:
        """Return the newest exchange of the coins of the token with this hash; None if there is none."""
        rows = await self.exchanges()
        return next((row for row in reversed(rows) if row.note.token == token), None)

    async def payments(self, payment_id: bytes) -> list[ExchangeRow]:
        """Return the payments for the sale that its merchant knows by this id (16 bytes), the newest first."""
        query = "SELECT * FROM exchange WHERE kind = 'pay' AND instr(note, ?) ORDER BY begun_at DESC, open DESC, id"
        rows = await self.read(lambda db: db.execute(query, (payment_id,)).fetchall())
        return [row for row in map(_exchange, rows) if row.number == payment_id.hex()]

    async def inbox(self) -> list[tuple[bytes, bytes, bytes]]:
        """Return the requests that wait: id, encoded request, hash of the token last taken up for it (or nothing)."""
        return await self.read(lambda db: db.execute("SELECT id, request, token FROM inbox ORDER BY id").fetchall())

    async def save_request(self, request_id: bytes, request: bytes, token: bytes = b"") -> None:
        """Enter a request that waits, or the token that was taken up for it."""
        row = (request_id, request, token)
        await self.write(lambda db: db.execute("INSERT OR REPLACE INTO inbox VALUES (?, ?, ?)", row))

    async def close_request(self, request_id: bytes) -> None:
        """Wait for this request no more."""
        await self.write(lambda db: db.execute("DELETE FROM inbox WHERE id = ?", (request_id,)))

    async def refused_digests(self) -> set[bytes]:
        """Return the digests of all payments and exchanges that a bank has refused under its signature."""
        return await self.read(lambda db: {row[0] for row in db.execute("SELECT digest FROM void")})

    async def exchange(self, exchange_id: bytes) -> ExchangeRow:
        """Return one exchange; raise KeyError if there is none."""
        row = await self.read(lambda db: db.execute("SELECT * FROM exchange WHERE id = ?", (exchange_id,)).fetchone())
        if row is None:
            raise KeyError(exchange_id.hex())
        return _exchange(row)

    async def find(self, text: str) -> ExchangeRow:
        """Return the exchange whose id, or a payment's number at the merchant, begins with these hexadecimal digits.

        Raises:
            NoSuchExchange: if there is none, or several.
        """
        digits = text.lower()
        rows = await self.exchanges()
        found = [row for row in rows if digits and (row.id.hex().startswith(digits) or row.number.startswith(digits))]
        if len(found) != 1:
            several = f"{len(found)} begin so: type more digits" if found else "`ecash wallet history` lists them"
            raise NoSuchExchange(f"there is no one exchange {text!r}: {several}")
        return found[0]

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
        stored = row._replace(open=isinstance(row.state, MACHINES[row.kind].open), wake_at=wake_at)

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
            db.execute(_DOUBTED)

        await self.write(change)
        return stored

    async def recovered(self, bank: str, keep: KeepCoins, values: dict[bytes, tuple[str, int]]) -> int:
        """Enter coins that recovery has found, outside of any exchange; return how many were new."""

        def change(db: sqlite3.Connection) -> int:
            before = db.total_changes
            _apply(db, bank, keep, values)
            return db.total_changes - before

        return await self.write(change)

    async def move(self, serials: Iterable[bytes], old: str, new: str) -> None:
        """Move coins from one state to another, outside of any exchange.

        Raises:
            CoinsTaken: if one is not in the old state; nothing was changed.
        """
        await self.write(lambda db: _move(db, tuple(serials), old, new))

    async def restored(self, device: bytes) -> None:
        """Make the file, a copy from earlier, that of a new device: no coin in it counts before the bank has spoken.

        Free coins are unverified. What an open exchange sets free or brings in will be: it may have ended on the
        device that was copied, and the coins may have been spent there. No bank serves the new device yet; what it
        exchanges meanwhile is counted from 0, where a recovery begins, but never from a number used before.
        """

        def change(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('device', ?)", (device,))
            db.execute("UPDATE bank SET generation = 0, counter = CASE generation WHEN 0 THEN counter ELSE 0 END")
            db.execute("INSERT OR IGNORE INTO doubt SELECT serial FROM coin WHERE state IN (?, ?)", (FREE, RESERVED))
            db.execute("INSERT OR IGNORE INTO doubt SELECT id FROM exchange WHERE open")
            db.execute(_DOUBTED)

        await self.write(change)


_DOUBTED: Final = """
UPDATE coin SET state = 'unverified'
WHERE state = 'free' AND (serial IN (SELECT id FROM doubt) OR request_id IN (SELECT id FROM doubt))
"""


class NoSuchExchange(Exception):
    """No exchange, or more than one, has an id that begins so."""


class CoinsTaken(Exception):
    """A coin was spoken for meanwhile."""


def _exchange(row: tuple[bytes, str, str, bytes, int, int, int, bytes]) -> ExchangeRow:
    exchange_id, kind, bank, state, is_open, wake_at, begun_at, note = row
    decoded = MACHINES[kind].states.decode(state)
    return ExchangeRow(
        exchange_id, kind, bank, decoded, bool(is_open), wake_at, begun_at, msgspec.msgpack.decode(note, type=Note)
    )


def _apply(db: sqlite3.Connection, bank: str, effect: Effect, values: dict[bytes, tuple[str, int]]) -> None:
    match effect:
        case KeepCoins(request_id=request_id, coins=coins):
            state = UNVERIFIED if effect.unverified else FREE
            db.executemany(
                "INSERT INTO coin VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (serial) DO NOTHING",
                (
                    (c.serial, bank, c.denomination, *values[c.denomination], c.signature, request_id, i, state)
                    for i, c in coins
                ),
            )
        case ReserveCoins():
            _move(db, effect.serials, UNVERIFIED if effect.unverified else FREE, RESERVED)
        case SpendCoins():
            _move(db, effect.serials, RESERVED, SPENT)
        case ReleaseCoins():
            _move(db, effect.serials, RESERVED, UNVERIFIED if effect.unverified else FREE)
        case SetCoinsAside():
            _move(db, effect.serials, RESERVED, ASIDE)
        case VoidDigest(digest=digest):
            db.execute("INSERT OR IGNORE INTO void VALUES (?)", (digest,))
        case _:
            pass  # what is sent or slept on is not for the store


def _move(db: sqlite3.Connection, serials: tuple[bytes, ...], old: str, new: str) -> None:
    for serial in serials:
        moved = db.execute("UPDATE coin SET state = ? WHERE serial = ? AND state = ?", (new, serial, old))
        if moved.rowcount != 1:
            raise CoinsTaken(f"a coin is not {old}")
