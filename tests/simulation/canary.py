"""Dead checkers: each canary is a world in which something is wrong, and a check that must notice it."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Final

import msgspec

from broker.port import Outgoing

from .founding import found
from .plan import Plan
from .run import run_plan
from .world import World

_CALM: Final = Plan(
    seed=0,
    banks=("north",),
    shops=("bookshop",),
    wallets=("alice", "bob"),
    tariff="free",
    epochs="long",
    shared_lanes=False,
    episodes=(),
    fault_rate=0.0,
    operations=6,
    restores=False,
    rotations=False,
    long_waits=False,
)


def _books(statement: str) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        path = world.folder / "north" / "books.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute(statement)
        world.dirty.add(str(path))

    return spoil


def _wallet(statement: str) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        with closing(sqlite3.connect(world.folder / "alice.db", isolation_level=None)) as db:
            db.execute(statement)

    return spoil


def _answer_twice(world: World) -> None:
    """Let a bank answer a request otherwise than it did before."""
    with closing(sqlite3.connect(world.folder / "north" / "books.db")) as db:
        [(request_id, hashed)] = db.execute("SELECT request_id, request_hash FROM answer LIMIT 1").fetchall()
    world.knowledge.said(b"another answer", request_id, hashed, "")
    world.network.publish(Outgoing("ecash/v1/reply/somebody/north", b"another answer", correlation=request_id))


def _recognise(world: World) -> None:
    """Let a bank see the same bytes at a withdrawal and at a deposit."""
    key_id = next(iter(found("north", _CALM.tariff, _CALM.epochs).keys.envelopes))
    for kind in ("withdraw", "parcel"):
        world.knowledge.opened(key_id, kind, msgspec.msgpack.encode([bytes(32)]))


def _free_again(world: World) -> None:
    """Let a wallet hold a coin as free that is spent."""
    _wallet("UPDATE coin SET state = 'free' WHERE serial = (SELECT serial FROM coin WHERE state = 'spent')")(world)
    world.dirty.add(str(world.folder / "alice.db"))


CANARIES: Final[dict[str, tuple[Callable[[World], None], str]]] = {
    "a cent was made in the books": (
        _books("UPDATE entry SET amount = amount + 1 WHERE (ledger, journal) = (SELECT ledger, journal FROM entry)"),
        "audit: journal",
    ),
    "an answer was changed": (_books("UPDATE answer SET answer = x'00' WHERE rowid = 1"), "E12"),
    "a spent coin was forgotten": (
        _books("DELETE FROM spent WHERE serial = (SELECT serial FROM spent LIMIT 1)"),
        "audit",
    ),
    "a wallet lost a coin": (
        _wallet("UPDATE coin SET state = 'spent' WHERE serial = (SELECT serial FROM coin WHERE state = 'free')"),
        "E9",
    ),
    "a wallet holds a spent coin as free": (_free_again, "E7"),
    "a bank answered otherwise before": (_answer_twice, "E6"),
    "a bank can tell who pays": (_recognise, "E11"),
}


def dead_checkers() -> list[str]:
    """Return the canaries that nobody has noticed: the checker that should have is dead."""
    return [name for name, (spoil, sign) in CANARIES.items() if not _noticed(spoil, sign)]


def _noticed(spoil: Callable[[World], None], sign: str) -> bool:
    return any(sign in failure for failure in run_plan(_CALM, spoil).failures)
