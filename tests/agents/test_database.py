import sqlite3
from pathlib import Path

import pytest

from agents.database import Database, NewerSchema, OlderSchema

SCHEMA = "CREATE TABLE thing (name TEXT PRIMARY KEY);"


def count(db: sqlite3.Connection) -> int:
    (number,) = db.execute("SELECT count(*) FROM thing").fetchone()
    return int(number)


async def test_what_was_written_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    for expected in (1, 2):
        async with Database(path, SCHEMA, 1) as database:
            await database.write(lambda db: db.execute("INSERT INTO thing SELECT count(*) FROM thing"))
            assert await database.read(count) == expected
    assert path.stat().st_mode & 0o077 == 0


async def test_every_commit_waits_for_the_disk(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", SCHEMA, 1) as database:
        assert await database.read(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (2,)
        assert await database.read(lambda db: db.execute("PRAGMA journal_mode").fetchone()) == ("wal",)


async def test_a_change_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO thing VALUES ('a')")
        raise KeyError

    async with Database(tmp_path / "a.db", SCHEMA, 1) as database:
        with pytest.raises(KeyError):
            await database.write(fail)
        assert await database.read(count) == 0
        await database.write(lambda db: db.execute("INSERT INTO thing VALUES ('a')"))
        assert await database.read(count) == 1


async def test_a_file_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", SCHEMA, 2):
        pass
    with pytest.raises(NewerSchema, match="later release"):
        Database(tmp_path / "a.db", SCHEMA, 1)


async def test_a_file_of_an_earlier_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with Database(path, SCHEMA, 1) as database:
        await database.set_meta("name", b"value")
    before = path.read_bytes()
    with pytest.raises(OlderSchema, match="earlier release"):
        Database(path, SCHEMA, 2)
    assert path.read_bytes() == before
    async with Database(path, SCHEMA, 1) as database:
        assert await database.meta("name") == b"value"
