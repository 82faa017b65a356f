"""Runs a bank whose commits do not wait for the disk: what `test_sync_before_reply` must catch.

Usage: python careless.py OFF|NORMAL <arguments of `python -m agents.bank`>
"""

import sqlite3
import sys
from pathlib import Path

from agents import database
from agents.bank import sqlite
from agents.bank.cli import app

_SYNCHRONOUS = sys.argv.pop(1)


def _connect(path: Path, schema: str, version: int) -> sqlite3.Connection:
    connection = database.connect(path, schema, version)
    connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS}")
    return connection


sqlite.connect = _connect  # type: ignore[attr-defined]
app()
