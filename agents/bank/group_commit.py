"""One writer that commits groups: a thread with a connection of its own, through which every change goes, in order.

It takes all that waits, up to a bound, does each piece of work under a savepoint, commits (one fsync for the whole
group) and only then lets anybody know. So the cost of the fsync is shared, and nothing is told that is not on disk.
While a group is committed, the next one gathers.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar, cast

from protocol.errors import OurError

from ..trace import point
from .store import BooksError, BooksLost, BooksUnavailable

_log = logging.getLogger("ecash.bank")
GROUP: Final = 256
"""The most pieces of work in one transaction."""

LEASE_MS: Final = 2_000
"""How far ahead of the clock a process may begin after one that was killed; one that ends well gives the rest back."""

_T = TypeVar("_T")

_ILLEGAL: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, OverflowError)
"""What SQLite raises for values that no caller should give; its other errors are failures of the database."""

_LOST: Final = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)
"""After these, and any SQLITE_CORRUPT, nobody knows what is on disk, and a second fsync that succeeds proves nothing:
the writer stops."""


class _Job(NamedTuple):
    work: Callable[[sqlite3.Connection, int], object]
    future: asyncio.Future[Any]


class GroupWriter:
    """Does work in the writer thread.

    Args:
        connection: in autocommit mode, from now on the writer's own, which it closes in the end.
        clock: the time in milliseconds, read once for each group, inside its transaction. The writer's time never
            runs back, so what was once told to be too late stays too late: over a restart, too, for the writer
            leases its time ahead from the file, two seconds at once, and begins where the last lease ended.
    """

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], int]) -> None:
        self._connection = connection
        self._clock = clock
        self._now = self._lease = _leased_until(connection)
        self._closed = False
        self._lost = ""
        self._waiting: deque[_Job] = deque()
        self._group: list[_Job] = []
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="books-writer")
        self._awake = False
        self._ending: asyncio.Future[None] | None = None

    async def do(self, work: Callable[[sqlite3.Connection, int], _T]) -> _T:
        """Return what `work`, given the connection and the time, returns; its changes are durable then.

        If it raises, its changes are undone, and nobody else's.

        Raises:
            BooksUnavailable: the database failed, or the writer has ended; nothing of the whole group was told.
            OurError: the work broke a constraint of the database.
        """
        if self._closed:
            raise BooksLost(self._lost) if self._lost else BooksUnavailable("the books are closed")
        job = _Job(work, self._loop.create_future())
        self._waiting.append(job)
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._wake)  # not at once: what else is asked for in this turn joins the group
        return cast("_T", await job.future)

    async def close(self) -> None:
        """Finish what was asked for before, give back the lease and close the connection."""
        self._closed = True
        if self._ending is None:
            self._ending = self._loop.run_in_executor(self._thread, self._finish)
        await asyncio.shield(self._ending)
        self._thread.shutdown()

    def _wake(self) -> None:
        """Let the thread serve what waits, for as long as anything does."""
        self._awake = bool(self._waiting) and not self._closed
        if self._awake:
            self._loop.run_in_executor(self._thread, self._serve).add_done_callback(self._served)

    def _served(self, serving: asyncio.Future[None]) -> None:
        error = None if serving.cancelled() else serving.exception()
        if error is None:
            self._wake()
        else:
            self._abandon(error)

    def _serve(self) -> None:
        """Commit group after group until nothing waits. Runs in the thread, as all that follows."""
        while group := self._next_group():
            self._group = group
            results = self._commit(group)
            self._loop.call_soon_threadsafe(_tell, group, results)

    def _finish(self) -> None:
        try:
            self._serve()
            self._give_back_lease()
        except Exception as error:  # noqa: BLE001 - whoever waits is told, and nobody closes twice
            self._loop.call_soon_threadsafe(self._abandon, error)
        finally:
            self._connection.close()

    def _next_group(self) -> list[_Job]:
        """Return all that waits, up to a bound."""
        group: list[_Job] = []
        while self._waiting and len(group) < GROUP:
            group.append(self._waiting.popleft())
        return group

    def _commit(self, group: Sequence[_Job]) -> list[object]:
        if self._lost:
            return [BooksLost(self._lost) for _ in group]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._now = max(self._now, self._clock())
            lease = self._extend_lease()
            results = [self._attempt(job) for job in group]
            point("bank.books.before_commit")
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(error)
            return [BooksUnavailable(str(error)) for _ in group]
        self._lease = lease
        point("bank.books.committed")
        return results

    def _extend_lease(self) -> int:
        """Return until when time is leased, in this transaction if need be."""
        if self._now < self._lease:
            return self._lease
        until = self._now + LEASE_MS
        self._connection.execute("UPDATE lease SET until = max(until, ?)", [until])
        return until

    def _give_back_lease(self) -> None:
        """Let the next process begin where this one ends, unless another one has leased further meanwhile."""
        if self._lost:
            return
        with contextlib.suppress(sqlite3.Error):  # then the next process begins a little later
            self._connection.execute("UPDATE lease SET until = ? WHERE until = ?", [self._now, self._lease])

    def _attempt(self, job: _Job) -> object:
        self._connection.execute("SAVEPOINT work")
        try:
            result = job.work(self._connection, self._now)
        except (BooksError, OurError) as error:
            undo(self._connection)
            result = error
        except _ILLEGAL as error:
            undo(self._connection)
            result = OurError(f"the books do not take this: {error}")
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - a bug in one piece of work is its caller's, not the whole group's
            undo(self._connection)
            result = error
        self._connection.execute("RELEASE work")
        return result

    def _roll_back(self, error: sqlite3.Error) -> None:
        """Leave no half state. If even that fails, or what is on disk is unknown, do nothing any more."""
        code = getattr(error, "sqlite_errorcode", 0)
        if code in _LOST or code & 0xFF == sqlite3.SQLITE_CORRUPT:
            self._lost = f"the books have stopped, for what is on disk is unknown: {error}"
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as second:
            self._lost = f"the books have stopped, for a transaction could not be undone: {second}"

    def _abandon(self, error: BaseException) -> None:
        """Fail all that waits after a fault of the writer itself. Runs on the event loop, as `do` does."""
        _log.critical("the books have stopped", exc_info=error)
        self._closed = True
        self._lost = self._lost or "the books have stopped"
        group, self._waiting = [*self._group, *self._waiting], deque()
        _tell(group, [BooksLost(self._lost) for _ in group])


def _leased_until(connection: sqlite3.Connection) -> int:
    [(until,)] = connection.execute("SELECT until FROM lease").fetchall()
    return int(until)


def undo(connection: sqlite3.Connection) -> None:
    """Undo all that the work at hand has changed so far."""
    connection.execute("ROLLBACK TO work")


def _tell(group: Iterable[_Job], results: Iterable[object]) -> None:
    for job, result in zip(group, results, strict=True):
        if job.future.done():  # cancelled: whoever asked does not wait any more
            continue
        if isinstance(result, Exception):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)
