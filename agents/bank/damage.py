"""Is the file of the books whole? What SQLite can tell of it, and whether its tables are those that we made."""

import sqlite3
from contextlib import closing
from functools import cache
from importlib.resources import files
from typing import Final

SCHEMA: Final = files(__package__).joinpath("schema.sql").read_text()
_MOST: Final = 100
_OBJECTS: Final = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT GLOB 'sqlite_stat*' ORDER BY name"
"""All but the statistics that `ANALYZE` leaves, which change no answer."""


def damage(db: sqlite3.Connection, *, quick: bool = False) -> tuple[str, ...]:
    """Return what is wrong with the file and its indexes, some 200 sentences at the most; nothing if it is sound.

    It does not see values that are wrong but possible: for these there are seals.

    Args:
        db: the books.
        quick: only look at the structure of each page, not whether indexes and references agree with their tables.
    """
    found = [str(row[0]) for row in db.execute("PRAGMA quick_check" if quick else "PRAGMA integrity_check")]
    if not quick:
        strays = db.execute("PRAGMA foreign_key_check").fetchmany(_MOST)
        found += [f"{table}: a row names one of {parent} that is not there" for table, _, parent, _ in strays]
    ours, theirs = _objects(), set(db.execute(_OBJECTS))
    found += sorted(f"{kind} {name} is not as we made it" for kind, name, *_ in ours ^ theirs)
    return tuple(f"the file: {' '.join(sentence.split())}" for sentence in found if sentence != "ok")


@cache
def _objects() -> frozenset[tuple[object, ...]]:
    """Return the tables and indexes of new books."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        return frozenset(db.execute(_OBJECTS))
