"""Seals: every posting has a hash over all that it wrote, chained to the hash of the posting before.

The seal of posting n is SHA-256(seal of posting n - 1, hash of its rows), with 32 zero bytes before the first one. So a
row that is changed, lost, added or moved after the commit is found without a key or a signature, in one pass.
"""

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

Row: TypeAlias = tuple[bytes | str | int | None, ...]

UNSEALED: Final = bytes(32)
"""Stands for the seal before the first one."""

SEALED: Final = {
    "journal": ("id", "kind", "request_id", "at"),
    "entry": ("ledger", "journal", "amount"),
    "issued": ("denomination", "blinded_hash", "journal"),
    "spent": ("denomination", "serial", "digest", "spend", "journal"),
    "payment": ("digest", "account", "payment_id", "accepted", "verdict", "info", "commission", "journal"),
    "answer": ("request_id", "request_hash", "answer", "journal"),
    "funding": ("reference", "account", "amount", "journal"),
    "withdrawal": ("account", "number", "request_id", "amount", "journal"),
    "redemption": ("journal", "account", "amount"),
    "payout": ("number", "account", "amount", "commission", "journal"),
    "settlement": ("payout", "journal"),
    "payout_return": ("payout", "reason", "journal"),
}
"""The tables whose rows belong to a posting, and their columns: all but those that change (`withdrawal.settled`)."""

INSERTS: Final = {
    table: f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - names of our own
    for table, columns in SEALED.items()
}


def row_hash(table: str, row: Row) -> bytes:
    """Return the 32-byte hash of a row, its columns in the order of `SEALED`."""
    return hashlib.sha256(msgspec.msgpack.encode((table, row))).digest()


def rows_hash(hashes: Iterable[bytes]) -> bytes:
    """Return the 32-byte hash of a posting's rows, in whatever order they were read."""
    return hashlib.sha256(b"".join(sorted(hashes))).digest()


def seal_of(before: bytes, rows: bytes) -> bytes:
    """Return the 32-byte seal of a posting from the one before and the hash of its rows."""
    return hashlib.sha256(before + rows).digest()


def hashes_of_rows(db: sqlite3.Connection) -> dict[int, bytes]:
    """Return, by journal id, the hash of all rows that say they are of that posting."""
    hashes: defaultdict[int, list[bytes]] = defaultdict(list)
    for table, columns in SEALED.items():
        at = columns.index("id" if table == "journal" else "journal")
        for row in db.execute(f"SELECT {', '.join(columns)} FROM {table}"):  # noqa: S608 - names of our own
            hashes[row[at]].append(row_hash(table, row))
    return {journal: rows_hash(found) for journal, found in hashes.items()}
