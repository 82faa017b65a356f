import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from agents.bank.group_commit import GROUP, LEASE_MS, GroupWriter
from agents.bank.store import BooksLost, BooksUnavailable, NoSuchAccount
from protocol.errors import OurError


class Watched:
    """A connection that lets a test see each statement before it is executed, and break it."""

    def __init__(self, path: Path) -> None:
        self.real = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.real.execute("CREATE TABLE IF NOT EXISTS t (x INTEGER PRIMARY KEY)")
        self.real.execute("CREATE TABLE IF NOT EXISTS lease (until INTEGER NOT NULL)")
        if not self.real.execute("SELECT 1 FROM lease").fetchall():
            self.real.execute("INSERT INTO lease VALUES (0)")
        self.watch: Callable[[str], None] = lambda statement: None
        self.seen: list[str] = []

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        self.seen.append(statement)
        self.watch(statement)
        return self.real.execute(statement, *values)

    def break_once(self, broken: str, code: int) -> None:
        def watch(statement: str) -> None:
            if statement == broken:
                self.watch = lambda statement: None
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = code
                raise error

        self.watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "test.db")


@pytest.fixture
async def writer(watched: Watched) -> AsyncIterator[GroupWriter]:
    writer = GroupWriter(cast("sqlite3.Connection", watched), lambda: 7)
    yield writer
    await writer.close()


def insert(x: int) -> Callable[[sqlite3.Connection, int], int]:
    def work(db: sqlite3.Connection, now: int) -> int:
        db.execute("INSERT INTO t VALUES (?)", (x,))
        return x

    return work


def rows(db: sqlite3.Connection, now: int) -> list[int]:
    return [x for (x,) in db.execute("SELECT x FROM t ORDER BY x")]


async def gather_behind_a_gate(
    writer: GroupWriter, *work: Callable[[sqlite3.Connection, int], Any]
) -> list[Any | BaseException]:
    """Let work pile up while the writer is busy, so that it makes one group (or few)."""
    entered, gate = threading.Event(), threading.Event()

    def busy(db: sqlite3.Connection, now: int) -> bool:
        entered.set()
        return gate.wait()

    first = asyncio.ensure_future(writer.do(busy))
    await asyncio.to_thread(entered.wait)
    waiting = [asyncio.ensure_future(writer.do(each)) for each in work]
    await asyncio.sleep(0)
    gate.set()
    assert await first
    return await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_waits_is_committed_in_groups(writer: GroupWriter, watched: Watched) -> None:
    results = await gather_behind_a_gate(writer, *(insert(x) for x in range(GROUP + 10)))
    assert results == list(range(GROUP + 10))
    assert watched.seen.count("COMMIT") == 3


async def test_nothing_is_told_before_the_commit(writer: GroupWriter, watched: Watched) -> None:
    told: list[bool] = []
    futures: list[asyncio.Future[int]] = []
    watched.watch = lambda statement: told.extend(f.done() for f in futures) if statement == "COMMIT" else None
    futures += [asyncio.ensure_future(writer.do(insert(x))) for x in range(3)]
    assert await asyncio.gather(*futures) == [0, 1, 2]
    assert told
    assert not any(told)


async def test_the_trace_points_stand_around_the_commit(
    writer: GroupWriter, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.bank.group_commit.point", watched.seen.append)
    await writer.do(insert(1))
    assert watched.seen[-3:] == ["bank.books.before_commit", "COMMIT", "bank.books.committed"]


async def test_work_that_is_refused_undoes_itself_alone(writer: GroupWriter) -> None:
    def refused(db: sqlite3.Connection, now: int) -> None:
        insert(5)(db, now)
        raise NoSuchAccount("none")

    results = await gather_behind_a_gate(writer, insert(1), refused, insert(1), insert(2))
    assert [type(result) for result in results] == [int, NoSuchAccount, OurError, int]
    assert await writer.do(rows) == [1, 2]


@pytest.mark.parametrize("broken", ["BEGIN IMMEDIATE", "INSERT INTO t VALUES (?)", "COMMIT"])
@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_BUSY])
async def test_a_failure_of_the_database_fails_the_group_and_is_over(
    writer: GroupWriter, watched: Watched, broken: str, code: int
) -> None:
    await writer.do(insert(0))
    watched.break_once(broken, code)
    with pytest.raises(BooksUnavailable, match="disk I/O error"):
        await writer.do(insert(1))
    assert await writer.do(insert(2)) == 2
    assert await writer.do(rows) == [0, 2]


async def test_all_of_a_group_fail_together(writer: GroupWriter, watched: Watched) -> None:
    def fail(db: sqlite3.Connection, now: int) -> None:
        watched.break_once("COMMIT", sqlite3.SQLITE_FULL)

    results = await gather_behind_a_gate(writer, insert(1), rows, fail, insert(2))
    assert [type(result) for result in results] == [BooksUnavailable] * 4
    assert await writer.do(rows) == []


async def test_a_failed_sync_stops_the_writer_for_good(writer: GroupWriter, watched: Watched) -> None:
    watched.break_once("COMMIT", sqlite3.SQLITE_IOERR_FSYNC)
    for x in range(3):
        with pytest.raises(BooksUnavailable):
            await writer.do(insert(x))
    assert watched.seen.count("COMMIT") == 1


async def test_a_transaction_that_cannot_be_undone_stops_the_writer(writer: GroupWriter, watched: Watched) -> None:
    def fail(statement: str) -> None:
        if statement in {"COMMIT", "ROLLBACK"}:
            raise sqlite3.OperationalError("the disk is gone")

    watched.watch = fail
    with pytest.raises(BooksUnavailable):
        await writer.do(insert(1))
    watched.watch = lambda statement: None
    with pytest.raises(BooksUnavailable, match="could not be undone"):
        await writer.do(insert(2))


async def test_a_bug_in_one_piece_of_work_is_its_own(writer: GroupWriter, watched: Watched) -> None:
    def bug(db: sqlite3.Connection, now: int) -> None:
        db.execute("INSERT INTO t VALUES (77)")
        raise ZeroDivisionError

    results = await gather_behind_a_gate(writer, insert(1), bug, insert(2))
    assert [type(result) for result in results if isinstance(result, Exception)] == [ZeroDivisionError]
    assert 77 not in await writer.do(rows)
    await writer.do(insert(3))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_bug_in_the_writer_itself_fails_all_who_wait(writer: GroupWriter, watched: Watched) -> None:
    def watch(statement: str) -> None:
        if statement == "RELEASE work":
            raise ZeroDivisionError

    watched.watch = watch
    waiting = [writer.do(insert(x)) for x in range(400)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {BooksLost}
    with pytest.raises(BooksUnavailable):
        await writer.do(insert(2))


async def test_work_that_was_asked_for_is_finished_before_the_end(writer: GroupWriter, tmp_path: Path) -> None:
    waiting = [asyncio.ensure_future(writer.do(insert(x))) for x in range(5)]
    await asyncio.sleep(0)
    await writer.close()
    assert await asyncio.gather(*waiting) == [0, 1, 2, 3, 4]
    with pytest.raises(BooksUnavailable):
        await writer.do(insert(9))
    with sqlite3.connect(tmp_path / "test.db") as db:
        assert rows(db, 0) == [0, 1, 2, 3, 4]
    db.close()


async def test_time_does_not_run_back_over_a_restart_with_a_clock_that_is_behind(tmp_path: Path) -> None:
    async def time_of(now: int, *, killed: bool = False) -> int:
        writer = GroupWriter(Watched(tmp_path / "lease.db"), lambda: now)  # type: ignore[arg-type]
        try:
            return await writer.do(lambda db, at: at)
        finally:
            if killed:
                writer._give_back_lease = lambda: None  # type: ignore[method-assign]
            await writer.close()

    assert await time_of(5_000_000) == 5_000_000
    assert await time_of(1_000) == 5_000_000, "who ends well gives back what is left of the lease"
    assert await time_of(1_000, killed=True) == 5_000_000
    assert await time_of(1_000) == 5_000_000 + LEASE_MS
    assert await time_of(9_000_000) == 9_000_000


async def test_many_commands_one_after_the_other_do_not_push_the_time_ahead(tmp_path: Path) -> None:
    for _ in range(20):
        writer = GroupWriter(Watched(tmp_path / "lease.db"), lambda: 5_000_000)  # type: ignore[arg-type]
        assert await writer.do(lambda db, at: at) == 5_000_000
        await writer.close()
