"""Disks: files that fail, fill up and lose, at a power cut, what was never made durable.

The files are real SQLite files. At a power cut a connection that does not sync before each commit returns loses its
last commits: the write-ahead log is cut back to an earlier one. With `synchronous = FULL` nothing is lost.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from .process import LIFE, Life

_FULL: Final = 2
_WAL_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_UNLIMITED: Final = 1 << 30

committed: list[Callable[[str], None]] = []
"""The last of these is told of each commit, by the file's path."""


class SimulatedConnection(sqlite3.Connection):
    """A connection of a simulated process; it dies with it, and its disk is the process's."""

    def __init__(self, path: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(path, *args, **kwargs)
        self.path = str(path)
        self.life = LIFE.get()
        if self.life is not None:
            self.life.connections.append(self)

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        """Execute a statement, unless the disk fails."""
        if self.life is not None:
            error = self.life.disk.fails(sql)
            if error is not None:
                raise error
        cursor = super().execute(sql, *args)
        if sql == "COMMIT" and committed:
            committed[-1](self.path)
        return cursor

    def close(self) -> None:
        """Close the connection."""
        if self.life is not None and self in self.life.connections:
            self.life.connections.remove(self)
        super().close()


def fill(life: Life, *, full: bool) -> None:
    """Let no file of a process grow any more, or again."""
    for connection in life.connections:
        [(pages,)] = sqlite3.Connection.execute(connection, "PRAGMA page_count").fetchall()
        limit = pages if full else _UNLIMITED
        sqlite3.Connection.execute(connection, f"PRAGMA max_page_count = {limit}").fetchall()


def cut_power(lives: Sequence[Life], keep: Callable[[int], int]) -> list[str]:
    """Cut the power of a machine; `keep` says how many of so many commits in a log survive that were never synced.

    Returns:
        The files that lost something: none, where every commit was durable before it returned.
    """
    unsafe: dict[str, tuple[bytes, bytes]] = {}
    for life in lives:
        for connection in life.connections:
            path = connection.path if isinstance(connection, SimulatedConnection) else ""
            [(level,)] = sqlite3.Connection.execute(connection, "PRAGMA synchronous").fetchall()
            if level < _FULL and path not in unsafe:
                wal = Path(f"{path}-wal")
                unsafe[path] = Path(path).read_bytes(), wal.read_bytes() if wal.exists() else b""
    for life in lives:
        life.kill("at a power cut")
    for path, (main, log) in unsafe.items():
        for suffix, data in {"": main, "-wal": cut_back(log, keep), "-shm": None}.items():
            file = Path(f"{path}{suffix}")
            file.unlink(missing_ok=True)  # whoever has the file open to look at it sees that this is another one
            if data is not None:
                file.write_bytes(data)
    return sorted(unsafe)


def cut_back(log: bytes, keep: Callable[[int], int]) -> bytes:
    """Cut a write-ahead log back to an earlier commit."""
    if len(log) <= _WAL_HEADER:
        return log
    frame = _FRAME_HEADER + int.from_bytes(log[8:12], "big")
    ends = [
        end
        for end in range(_WAL_HEADER + frame, len(log) + 1, frame)
        if any(log[end - frame + 4 : end - frame + 8])  # a commit says how large the database is then
    ]
    kept = keep(len(ends))
    return log[: ends[kept - 1] if kept else _WAL_HEADER]
