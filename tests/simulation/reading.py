"""Connections that look at the inhabitants' files, and stay open as long as these are the same files."""

import sqlite3
from pathlib import Path


class Readers:
    """The connections of those who watch a world; they change nothing."""

    def __init__(self) -> None:
        self._open: dict[Path, tuple[int, sqlite3.Connection]] = {}

    def read(self, path: Path) -> sqlite3.Connection:
        """Return a connection to the file that has this name now."""
        inode = path.stat().st_ino
        known = self._open.get(path)
        if known is not None and known[0] == inode:
            return known[1]
        if known is not None:
            known[1].close()
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
        self._open[path] = inode, connection
        return connection

    def close(self) -> None:
        """Close them all."""
        for _, connection in self._open.values():
            connection.close()
        self._open.clear()
