"""The bank's books in one SQLite file (WAL, synchronous=FULL).

All changes go through one writer thread that commits groups; reads run beside it, in a thread of their own. Other
processes may read and change the same file at the same time: every change is made, and checked, under SQLite's lock.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from protocol.bank.desk import Account
from protocol.bank.ledger import Conflict, Outcome, Payment, Posting, Repeated, account_ledger, funding_entries
from protocol.coins import Evidence
from protocol.errors import OurError

from ..database import connect
from . import lookup, overview, payouts
from .damage import SCHEMA, damage
from .facts import Snapshot
from .group_commit import GroupWriter
from .journal import FOLD_AFTER, Record, fold, sum_entries
from .posting import post
from .snapshot import ACCOUNT, read_snapshot
from .store import (
    FUNDING,
    AccountNameTaken,
    AchFileRow,
    BooksUnavailable,
    Business,
    DestinationRow,
    Kept,
    KeyHasAccount,
    MintedRow,
    NoSuchAccount,
    PayoutRow,
    ReferenceReused,
    StatementRow,
    StoredRow,
)

SCHEMA_VERSION: Final = 3
MAX_AMOUNT: Final = 2**53 - 1

_T = TypeVar("_T")


class SqliteBooks:
    """The `Books` in a SQLite file. See there for what each method does.

    Args:
        path: the file; made, readable by its owner only, if it does not exist.
        clock: the time in milliseconds since 1970.
    """

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        self._path = path
        self._clock = clock
        self._open = False
        self._writer: GroupWriter
        self._reader: ThreadPoolExecutor
        self._connection: sqlite3.Connection

    async def __aenter__(self) -> Self:
        writing = await asyncio.to_thread(self._connect)
        self._connection = await asyncio.to_thread(self._connect)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="books-reader")
        self._writer = GroupWriter(writing, self._clock)
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """See `Books.close`."""
        if self._open:
            self._open = False
            await self._writer.close()
            await asyncio.get_running_loop().run_in_executor(self._reader, self._connection.close)
            self._reader.shutdown()

    def _connect(self) -> sqlite3.Connection:
        try:
            self._path.touch(mode=0o600)
            connection = connect(self._path, SCHEMA, SCHEMA_VERSION)
            # Savepoints copy each page before they change it; in memory that costs a deposit a quarter less.
            connection.execute("PRAGMA temp_store = MEMORY")
            return connection
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last: SQLite quotes a damaged schema
            raise BooksUnavailable(f"{self._path}: {error}") from error

    async def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        if not self._open:
            raise BooksUnavailable("the books are closed")
        return await asyncio.get_running_loop().run_in_executor(self._reader, _at_one_moment, self._connection, query)

    async def _read_aside(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """Read over a connection of its own, for it may take long."""
        if not self._open:
            raise BooksUnavailable("the books are closed")

        def read() -> _T:
            with closing(self._connect()) as db:
                return _at_one_moment(db, query)

        return await asyncio.to_thread(read)

    async def _write(self, work: Callable[[sqlite3.Connection, int], _T]) -> _T:
        if not self._open:
            raise BooksUnavailable("the books are closed")
        return await self._writer.do(work)

    async def post(self, posting: Posting) -> Outcome:
        """See `Books.post`."""
        return await self._write(partial(post, posting))

    async def stored_answer(self, request_id: bytes, request_hash: bytes) -> Repeated | Conflict | None:
        """See `Books.stored_answer`."""
        return await self._read(lambda db: lookup.said_before(db, request_id, request_hash))

    async def inquiry(self, digest: bytes, denomination: bytes, serial: bytes) -> tuple[Payment | None, bytes, int]:
        """See `Books.inquiry`."""

        def inquire(db: sqlite3.Connection, now: int) -> tuple[Payment | None, bytes, int]:
            spending = lookup.find_spending(db, denomination, serial)
            return lookup.find_payment(db, digest), spending[0] if spending else b"", now

        return await self._write(inquire)

    async def withdrawals(self, account: int, start: int) -> Kept:
        """See `Books.withdrawals`."""
        return await self._read(lambda db: lookup.kept_withdrawals(db, account, start))

    async def fetch(self, request_id: bytes) -> StoredRow | None:
        """See `Books.fetch`."""
        return await self._read(lambda db: lookup.fetch(db, request_id))

    async def spendings(self, denomination: bytes, prefix: str) -> list[Evidence]:
        """See `Books.spendings`."""
        return await self._read(lambda db: lookup.spendings(db, denomination, prefix))

    async def spent(self, coins: Sequence[tuple[bytes, bytes]]) -> tuple[Evidence, ...]:
        """See `Books.spent`."""
        return await self._read(lambda db: lookup.spent(db, coins))

    async def payments(self, payment_id: bytes) -> list[Payment]:
        """See `Books.payments`."""
        return await self._read(lambda db: lookup.accepted_payments(db, payment_id))

    async def set_destination(self, account: int, destination: DestinationRow) -> None:
        """See `Books.set_destination`."""
        await self._write(lambda db, _: payouts.set_destination(db, account, destination))

    async def payouts(self, account: int = 0, state: str = "", limit: int = 1000) -> list[PayoutRow]:
        """See `Books.payouts`."""
        return await self._read(lambda db: payouts.payouts(db, account, state, limit))

    async def export_payouts(self, write: Callable[[int, int, Sequence[PayoutRow]], bytes]) -> tuple[int, bytes] | None:
        """See `Books.export_payouts`."""
        return await self._write(lambda db, now: payouts.export_payouts(db, now, write))

    async def ach_file(self, number: int = 0) -> tuple[int, bytes] | None:
        """See `Books.ach_file`."""
        return await self._read(lambda db: payouts.ach_file(db, number))

    async def settle_payout(self, number: int, amount: int) -> bool:
        """See `Books.settle_payout`."""
        return await self._write(lambda db, now: payouts.settle_payout(db, now, number, amount))

    async def return_payout(self, number: int, amount: int, reason: str) -> bool:
        """See `Books.return_payout`."""
        return await self._write(lambda db, now: payouts.return_payout(db, now, number, amount, reason))

    async def last_entry(self) -> int:
        """See `Books.last_entry`."""
        return await self._read(lookup.last_entry)

    async def minted(self) -> tuple[int, list[MintedRow]]:
        """See `Books.minted`."""
        return await self._read_aside(lookup.minted)

    async def business(self) -> Business:
        """See `Books.business`."""
        return await self._read_aside(lambda db: overview.business(db, self._clock()))

    async def statement(self, account: int, limit: int) -> list[StatementRow]:
        """See `Books.statement`."""
        return await self._read(lambda db: overview.statement(db, account, limit))

    async def ach_files(self) -> list[AchFileRow]:
        """See `Books.ach_files`."""
        return await self._read(overview.ach_files)

    async def open_account(
        self, kind: str, name: str, title: str, currency: str, key: bytes, invitation_hash: bytes
    ) -> Account:
        """See `Books.open_account`."""

        def insert(db: sqlite3.Connection, _: int) -> Account:
            if db.execute("SELECT 1 FROM account WHERE kind = ? AND name = ?", (kind, name)).fetchone():
                raise AccountNameTaken(f"there is a {kind} named {name!r} already")
            if db.execute("SELECT 1 FROM account WHERE key = ?", (key,)).fetchone():
                raise KeyHasAccount("the key has an account already")
            (number,) = db.execute("SELECT coalesce(max(number), 1000) + 1 FROM account").fetchone()
            row = (number, kind, name, title, currency, key or None, invitation_hash or None)
            db.execute("INSERT INTO account VALUES (?, ?, ?, ?, ?, ?, ?, 0)", row)
            return Account(number, kind, name, title, currency, key)

        return await self._write(insert)

    async def account_by_key(self, key: bytes) -> Account | None:
        """See `Books.account_by_key`."""
        return await self._account("key = ?", key)

    async def account_by_invitation(self, invitation_hash: bytes) -> Account | None:
        """See `Books.account_by_invitation`."""
        return await self._account("invitation = ? AND key IS NULL", invitation_hash)

    async def _account(self, condition: str, value: bytes) -> Account | None:
        row = await self._read(lambda db: db.execute(f"{ACCOUNT} WHERE {condition}", (value,)).fetchone())
        return Account(*row) if row else None

    async def accounts(self) -> list[tuple[Account, int]]:
        """See `Books.accounts`."""

        def read(db: sqlite3.Connection) -> list[tuple[Account, int]]:
            found = [Account(*row) for row in db.execute(f"{ACCOUNT} ORDER BY number")]
            return [(account, sum_entries(db, account_ledger(account.number)).amount) for account in found]

        return await self._read(read)

    async def balance(self, number: int) -> int:
        """See `Books.balance`."""
        ledger = account_ledger(number)

        def read(db: sqlite3.Connection) -> tuple[int, int]:
            if not db.execute("SELECT 1 FROM account WHERE number = ?", (number,)).fetchone():
                raise NoSuchAccount(f"there is no account {number}")
            _, amount, unfolded = sum_entries(db, ledger)
            return amount, unfolded

        amount, unfolded = await self._read(read)
        if unfolded > FOLD_AFTER:
            with suppress(BooksUnavailable):
                await self._write(lambda db, _: fold(db, ledger))
        return amount

    async def credit(self, account: int, amount: int, reference: str) -> bool:
        """See `Books.credit`."""
        if not 0 < amount <= MAX_AMOUNT:
            raise OurError(f"{amount} is no amount to book")

        def book(db: sqlite3.Connection, now: int) -> bool:
            before = db.execute("SELECT account, amount FROM funding WHERE reference = ?", (reference,)).fetchone()
            if before:
                if before != (account, amount):
                    raise ReferenceReused(f"{reference!r} was booked as {before[1]} for account {before[0]}")
                return False
            row = db.execute("SELECT currency FROM account WHERE number = ?", (account,)).fetchone()
            if not row:
                raise NoSuchAccount(f"there is no account {account}")
            record = Record(db, FUNDING, None, now)
            record.enter(funding_entries(account, row[0], amount))
            record.insert("funding", (reference, account, amount, record.journal))
            record.seal()
            return True

        return await self._write(book)

    async def keysets(self) -> list[bytes]:
        """See `Books.keysets`."""
        return await self._read(lambda db: [data for (data,) in db.execute("SELECT data FROM keyset ORDER BY number")])

    async def add_keyset(self, number: int, data: bytes) -> None:
        """See `Books.add_keyset`."""

        def add(db: sqlite3.Connection, _: int) -> None:
            if db.execute("SELECT data FROM keyset WHERE number = ?", (number,)).fetchone() != (data,):
                db.execute("INSERT INTO keyset VALUES (?, ?)", (number, data))

        await self._write(add)

    async def snapshot(self) -> Snapshot:
        """See `Books.snapshot`."""
        return await self._read_aside(read_snapshot)

    async def damage(self) -> tuple[str, ...]:
        """Return what SQLite finds wrong with the structure of the file, in sentences; nothing if it is sound."""
        return await self._read_aside(partial(damage, quick=True))


def _at_one_moment(db: sqlite3.Connection, query: Callable[[sqlite3.Connection], _T]) -> _T:
    try:
        db.execute("BEGIN")
        try:
            return query(db)
        finally:
            db.execute("ROLLBACK")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise BooksUnavailable(str(error)) from error
