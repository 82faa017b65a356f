"""What disturbs a process from outside: a disk that is full, a file that somebody else holds, a pause, an old file."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

_BLOCK: Final = bytes(4096)


@contextmanager
def small_disk(home: Path, size: str = "2m") -> Iterator[None]:
    """Let a home be on a small disk of its own while the context is open; skip the test where that is not allowed."""
    kept = home.with_name(f"{home.name}-on-the-large-disk")
    home.rename(kept)
    home.mkdir(mode=0o700)
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(home)]
    mounted = subprocess.run(mounting, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        shutil.copytree(kept, home, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


def fill(home: Path) -> Path:
    """Use up the disk of a home; return the file to remove for there to be space again."""
    filler = home / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(_BLOCK) == len(_BLOCK):
            pass
    assert shutil.disk_usage(home).free == 0
    return filler


@contextmanager
def held(database: Path) -> Iterator[None]:
    """Hold a database so that nobody else can write, while the context is open."""
    with closing(sqlite3.connect(database, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")


def is_sound(database: Path) -> bool:
    """Return whether SQLite finds nothing wrong with a file; nobody may be using it."""
    with closing(sqlite3.connect(database)) as db:
        return bool(db.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


def writing_nowhere(*command: str) -> list[str]:
    """Return the command with its log on a disk that is always full."""
    assert os.path.exists("/dev/full")
    return ["sh", "-c", 'exec "$@" 2>/dev/full', "sh", *command]
