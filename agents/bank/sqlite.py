"""The bank's books in one SQLite file, with one writer that commits groups.

The writer is a thread with a connection of its own. It takes all that waits, up to a bound, does each piece of work
under a savepoint, commits (WAL, synchronous=FULL: one fsync for the whole group) and only then lets anybody know. So
the cost of the fsync is shared, the order is total, and nothing is told that is not on disk.
"""

import sqlite3
from collections.abc import Callable
from typing import Any, Final, TypeVar

SCHEMA_VERSION: Final = 1
GROUP: Final = 256
"""The most pieces of work in one transaction."""
FOLD_AFTER: Final = 1000
"""A balance is folded when it was the sum of more entries than this."""
MAX_AMOUNT: Final = 2**53 - 1
FIRST_NUMBER: Final = 1001

_Row = dict[str, Any]
_T = TypeVar("_T")
_Work = Callable[[sqlite3.Connection, int], object]

_ILLEGAL: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, OverflowError)
"""What SQLite raises for values that no caller should have given; everything else is a failure of the database."""

_LOST: Final = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC, sqlite3.SQLITE_CORRUPT)
"""After these nobody knows what is on disk, and a second fsync that succeeds proves nothing: the writer stops."""
