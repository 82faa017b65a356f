"""Every column of the books is tampered with; the list is made from the schema, so that none is forgotten.

Nobody renews the seals here; `test_audit` and `test_audit_operations` are about a tamperer who does.
"""

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from agents.bank.audit import audit
from agents.bank.damage import SCHEMA
from agents.bank.seal import SEALED
from agents.bank.snapshot import read_snapshot
from tests.agents.bank.audited import unguard
from tests.conformance.bookkeeping import DENOMINATIONS

Values = dict[str, Any]
ABSENT: Final = 999
"""No journal id."""

with closing(sqlite3.connect(":memory:")) as _db:
    _db.executescript(SCHEMA)
    TABLES: Final = {
        table: [name for _, name, *_ in _db.execute(f"PRAGMA table_info({table})")]
        for (table,) in _db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
    }

NOT_MONEY: Final = {
    "account": {"number", "kind", "name", "title", "key", "invitation", "generation"},
    "ach_file": {"number", "data", "at"},
    "destination": {"account", "routing", "number", "kind", "holder"},
    "export": {"payout", "file", "routing", "number", "kind", "holder"},
    "keyset": {"number", "data"},
    "lease": {"only", "until"},
    "withdrawal": {"settled"},
}
"""What no posting has written: the seals do not cover it, and the audit sees only changes that contradict postings.

Keysets are signed, and read before the audit; a file that was sent stands at the acquirer bank, too; keys, generations,
destinations and marks of settled withdrawals are what the bank changes itself.
"""
COLUMNS: Final = [
    (table, column)
    for table, columns in TABLES.items()
    for column in columns
    if column not in NOT_MONEY.get(table, set())
]
IDS: Final = [".".join(pair) for pair in COLUMNS]
MONEY: Final = sorted({table for table, _ in COLUMNS})


def test_what_is_sealed_is_all_that_a_posting_writes() -> None:
    named = {table for table, columns in TABLES.items() if "journal" in columns}
    assert named | {"journal"} == SEALED.keys() | {"seal"}
    for table, columns in SEALED.items():
        assert sorted(columns) == sorted(set(TABLES[table]) - {"settled"}), table


@pytest.fixture
def db(finished: Path) -> Iterator[sqlite3.Connection]:
    """The finished books, in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        with closing(sqlite3.connect(finished)) as original:
            original.backup(copy)
        unguard(copy)
        yield copy


def faults(db: sqlite3.Connection) -> list[str]:
    return audit(read_snapshot(db), DENOMINATIONS).faults


def rows_of(db: sqlite3.Connection, table: str) -> list[Values]:
    return [dict(zip(TABLES[table], row, strict=True)) for row in db.execute(f"SELECT * FROM {table}")]


def remove(db: sqlite3.Connection, table: str, row: Values) -> None:
    where = " AND ".join(f"{column} IS ?" for column in row)
    assert db.execute(f"DELETE FROM {table} WHERE {where}", tuple(row.values())).rowcount == 1


def enter(db: sqlite3.Connection, table: str, row: Values) -> None:
    db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", tuple(row.values()))


def other(value: Any) -> Any:
    """Another value of the same type."""
    match value:
        case int():
            return value + ABSENT
        case str():
            return value + "x"
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:] if value else b"x"
        case _:
            return bytes(16)


def doubled(db: sqlite3.Connection, table: str, row: Values) -> Values:
    """Enter a row a second time, with as many columns changed as its keys demand; return the new row."""
    again = row
    for column in sorted(row, key=lambda name: name == "journal"):
        again |= {column: other(row[column])}
        try:
            enter(db, table, again)
        except sqlite3.IntegrityError:
            continue
        return again
    raise AssertionError(f"no row of {table} can be doubled")


def exchanged(db: sqlite3.Connection, table: str, column: str) -> tuple[Values, Values] | None:
    """Let two rows swap their values of a column; return what they were, or None if no two allow it."""
    rows = rows_of(db, table)
    for one, two in itertools.combinations(rows, 2):
        swapped = (one | {column: two[column]}, two | {column: one[column]})
        if all(row in (one, two) for row in swapped):
            continue
        db.execute("SAVEPOINT swap")
        try:
            for row in (one, two):
                remove(db, table, row)
            for row in swapped:
                enter(db, table, row)
        except sqlite3.IntegrityError:
            db.execute("ROLLBACK TO swap")
            continue
        return one, two
    return None


def check_named(table: str, found: list[str], row: Values) -> None:
    """A fault names the row's posting, or that a ledger's balance or an account's currency does not fit."""
    match table:
        case "balance":
            assert any(fault.startswith("folded balance of ") for fault in found), found
        case "account":
            assert any(fault.startswith("journal ") and "EUR" in fault for fault in found), found
        case _:
            begin = f"journal {row['id' if table == 'journal' else 'journal']}: "
            assert any(fault.startswith(begin) and "seal" in fault for fault in found), found


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=IDS)
def test_a_value_that_was_changed_is_named(db: sqlite3.Connection, table: str, column: str) -> None:
    row = rows_of(db, table)[0]
    remove(db, table, row)
    enter(db, table, changed := row | {column: other(row[column])})
    check_named(table, faults(db), changed)


@pytest.mark.parametrize("table", MONEY)
def test_a_row_that_was_deleted_is_named(db: sqlite3.Connection, table: str) -> None:
    rows = rows_of(db, table)
    remove(db, table, rows[0])
    if table == "balance":  # it only saves reading the entries
        assert faults(db) == []
    else:
        check_named(table, faults(db), rows[0])


@pytest.mark.parametrize("table", MONEY)
def test_a_row_that_was_doubled_is_named(db: sqlite3.Connection, table: str) -> None:
    row = doubled(db, table, rows_of(db, table)[0])
    found = faults(db)
    if table == "account":  # one more, without a balance, is no fault
        assert found == []
    else:
        check_named(table, found, row)


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=IDS)
def test_two_values_that_were_swapped_are_named(db: sqlite3.Connection, table: str, column: str) -> None:
    rows = exchanged(db, table, column)
    if rows is None:
        pytest.skip("no two rows can swap it")
    found = faults(db)
    for row in rows:
        check_named(table, found, row)


def test_a_broken_seal_is_told_with_what_the_posting_moved(db: sqlite3.Connection) -> None:
    db.execute("UPDATE answer SET answer = zeroblob(9) WHERE journal = 4")
    (fault,) = faults(db)
    moved = "account/1002 +9; coins -10; commission/EUR +1"
    assert fault == f"journal 4: the rows are not those that were sealed: a deposit ({moved})"


def test_a_posting_that_was_taken_out_whole_breaks_the_next_seal(db: sqlite3.Connection) -> None:
    for table in SEALED:
        db.execute(f"DELETE FROM {table} WHERE {'id' if table == 'journal' else 'journal'} = 7")
    db.execute("DELETE FROM seal WHERE journal = 7")
    found = faults(db)
    assert "journal 7 to 7: missing" in found
    assert any(fault.startswith("journal 8: the rows are not those that were sealed: a funding (") for fault in found)
