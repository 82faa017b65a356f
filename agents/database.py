"""An agent's SQLite file: one connection, in a thread of its own, every transaction durable when it returns."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

_T = TypeVar("_T")
_BUSY_MS: Final = 10_000
CONNECTIONS: Final[list[type[sqlite3.Connection]]] = [sqlite3.Connection]
"""The last of these is what `connect` makes; the simulator adds its own, whose disk fails."""
_SETTINGS: Final = "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;\n"


class NewerSchema(Exception):
    """The file was written by a later release; it is left untouched."""


class OlderSchema(Exception):
    """The file was written by an earlier release, and there is no way from its tables to ours; it is left untouched."""


def connect(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Open (or make) a database of this schema, in WAL mode with a sync before each commit returns.

    Raises:
        NewerSchema: if the file is of a later version.
        OlderSchema: if it is of an earlier one.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=CONNECTIONS[-1])
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("BEGIN IMMEDIATE")  # two processes may make the same file at once: one of them finds it made
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > version:
        connection.close()
        raise NewerSchema(f"{path} was written by a later release (schema {found}, this one knows {version})")
    if 0 < found < version:
        connection.close()
        raise OlderSchema(
            f"{path} was written by an earlier release (schema {found}, this one knows {version}), whose coins and "
            "accounts this one cannot read: use that release with it, and begin with a new folder here"
        )
    if found == 0:
        for statement in _statements(schema):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("COMMIT")
    return connection


def _statements(script: str) -> Iterator[str]:
    """Split a script into statements (`executescript` would end our transaction)."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise ValueError(f"the schema ends in the middle of a statement: {statement.strip()[:60]}")


class Database:
    """A database that is never touched on the event loop, with a table of settings beside its own.

    Args:
        path: the file; made, readable by its owner only, if it does not exist.
        schema: the statements that make the tables.
        version: of the schema.
    """

    def __init__(self, path: Path, schema: str, version: int) -> None:
        if not path.exists():
            path.touch(mode=0o600)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._connection = connect(path, _SETTINGS + schema, version)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish what is under way and close the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()

    async def read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `query` with the connection and return what it returns."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, query, self._connection)

    async def write(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `change` in one transaction; when this returns, it is on the disk, and if it raises, nothing is."""

        def transaction(connection: sqlite3.Connection) -> _T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = change(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        return await self.read(transaction)

    async def meta(self, name: str) -> bytes | None:
        """Return a stored setting."""
        row = await self.read(lambda db: db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone())
        return None if row is None else bytes(row[0])

    async def set_meta(self, name: str, value: bytes) -> None:
        """Store a setting."""
        await self.write(lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value)))
