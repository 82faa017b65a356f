"""What disks do to the books: write-ahead logs that are cut, torn or lost, and bits that flip.

After each the bank must refuse the file, or find in the log a prefix of what was committed; a value that has changed
must be named by the audit.
"""

import hashlib
import random
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from agents.bank.audit import audit
from agents.bank.damage import SCHEMA, damage
from agents.bank.snapshot import read_snapshot
from agents.bank.sqlite import SCHEMA_VERSION, SqliteBooks
from agents.database import connect
from tests.agents.bank.audited import do_business
from tests.conformance.bookkeeping import DENOMINATIONS, ManualClock, rich_client, withdrawal

SECTOR: Final = 512
COMMITS: Final = 40
REFUSED: Final = "refused"
NOT_MONEY: Final = re.compile(r'INSERT INTO "(account|ach_file|destination|export|keyset|lease|withdrawal)"')
"""Rows that are not sealed, or not whole; of the withdrawals it is the mark `settled` that the audit does not see."""


class Worn(NamedTuple):
    """Books after a run, as a power cut leaves them: the files, an old index, and the state after each commit."""

    database: bytes
    log: bytes
    old_index: bytes
    states: list[str]


async def run_postings(folder: Path) -> Worn:
    """Post one thing after the other, each in a commit of its own; only the first ones are in the database itself."""
    path, states = folder / "run.db", list[str]()
    async with SqliteBooks(path, ManualClock()) as books:
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("PRAGMA wal_autocheckpoint = 0")
            client = await rich_client(books, 10_000)
            early = _beside(path, "-shm").read_bytes()
            for i in range(COMMITS):
                await books.post(withdrawal(client.number, f"coin {i}", f"more {i}", answer=bytes(3000)))
                if i == COMMITS // 4:
                    reader.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    states.clear()
                states.append(_state(reader))
            return Worn(path.read_bytes(), _beside(path, "-wal").read_bytes(), early, states)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _state(db: sqlite3.Connection) -> str:
    rows = "\n".join(line for line in db.iterdump() if '"lease"' not in line)
    return hashlib.sha256(rows.encode()).hexdigest()


Wear = Callable[[random.Random, bytes], bytes]


def cut(chance: random.Random, log: bytes) -> bytes:
    """Cut the log at any byte."""
    return log[: chance.randrange(len(log))]


def tear(chance: random.Random, log: bytes) -> bytes:
    """Let one sector hold zeros, noise, or what stood elsewhere in the log; it may be the last that was written."""
    at = chance.randrange(len(log) // SECTOR) * SECTOR
    elsewhere = chance.randrange(len(log) - SECTOR)
    sector = chance.choice((bytes(SECTOR), chance.randbytes(SECTOR), log[elsewhere : elsewhere + SECTOR]))
    rest = chance.choice((log[at + SECTOR :], b""))
    return log[:at] + sector + rest


def shuffle(chance: random.Random, log: bytes) -> bytes:
    """Let sectors be written in another order, the power going away in between: some of the end is missing."""
    start = chance.randrange(len(log) // SECTOR) * SECTOR
    worn = bytearray(log)
    for at in range(start, len(log), SECTOR):
        if chance.random() < 0.3:
            worn[at : at + SECTOR] = bytes(len(worn[at : at + SECTOR]))
    return bytes(worn)


WEARS: Final[Sequence[Wear]] = (cut, tear, shuffle)


def open_worn(folder: Path, worn: Worn, log: bytes | None, index: bytes | None = None) -> str:
    """Return the state that the bank finds, or that it refuses the file."""
    path = folder / "books.db"
    for suffix, data in (("", worn.database), ("-wal", log), ("-shm", index)):
        _beside(path, suffix).unlink(missing_ok=True)
        if data is not None:
            _beside(path, suffix).write_bytes(data)
    try:
        with closing(connect(path, SCHEMA, SCHEMA_VERSION)) as db:
            return REFUSED if damage(db) else _state(db)
    except (sqlite3.Error, UnicodeDecodeError):  # as in `SqliteBooks`
        return REFUSED


async def tear_logs(folder: Path, times: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Wear the log so often; return how often what came of it, and a sentence for each fault."""
    chance, found, faults = random.Random(seed), Counter[str](), []
    worn = await run_postings(folder)
    cases: list[tuple[str, bytes | None, bytes | None]] = [
        ("whole", worn.log, None),
        ("without its log", None, None),
        ("with an empty log", b"", None),
        ("with an old index", worn.log, worn.old_index),
        ("with an index of noise", worn.log, chance.randbytes(32768)),
    ]
    for i in range(times):
        wear = WEARS[i % len(WEARS)]
        cases.append((f"{wear.__name__} {i}", wear(chance, worn.log), chance.choice((None, worn.old_index))))
    for name, log, index in cases:
        state = open_worn(folder, worn, log, index)
        if state == REFUSED:
            found["refused"] += 1
        elif state in worn.states:
            found["all commits" if state == worn.states[-1] else "a prefix of the commits"] += 1
        else:
            faults.append(f"the books {name} are what they never were (seed {seed})")
    if open_worn(folder, worn, worn.log) != worn.states[-1]:
        faults.append("a whole log is not read to its end")
    return found, faults


# ---------------------------------------------------------------- bits that flip


async def flip_bits(folder: Path, times: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Flip one bit of a finished file so often; return how often what came of it, and a sentence for each fault."""
    chance, found, faults = random.Random(seed), Counter[str](), []
    path = folder / "finished.db"
    async with SqliteBooks(path, ManualClock()) as books:
        await do_business(books)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in ("journal_mode = DELETE", f"page_size = {SECTOR}"):  # little room for bits that mean nothing
            db.execute(f"PRAGMA {statement}")
        db.execute("VACUUM")
        sound = set(db.iterdump())
    data = path.read_bytes()
    for _ in range(times):
        at, bit = chance.randrange(len(data)), chance.randrange(8)
        flipped = bytearray(data)
        flipped[at] ^= 1 << bit
        result = _judge(folder, bytes(flipped), sound)
        found[result] += 1
        if result == "unnoticed":
            faults.append(f"bit {bit} of byte {at} was flipped, and nobody noticed")
    return found, faults


def _judge(folder: Path, data: bytes, sound: set[str]) -> str:
    path = folder / "flipped.db"
    for suffix in ("-wal", "-shm"):
        _beside(path, suffix).unlink(missing_ok=True)
    path.write_bytes(data)
    try:
        with closing(connect(path, SCHEMA, SCHEMA_VERSION)) as db:
            if damage(db, quick=True):
                return "refused at the start"
            db.execute("BEGIN")
            if audit(read_snapshot(db), DENOMINATIONS).faults:
                return "named by the audit"
            changed = sound ^ set(db.iterdump())
    except (sqlite3.Error, UnicodeDecodeError):  # as in `SqliteBooks`
        return "refused"
    if not changed:
        return "without effect"
    return "beside the money" if all(map(NOT_MONEY.match, changed)) else "unnoticed"
