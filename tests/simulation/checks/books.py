"""What must be true of a bank's books after every commit: money is neither made nor lost, and nothing is undone."""

import re
import sqlite3
from collections import Counter, defaultdict
from typing import Any, Final

from agents.bank.audit import audit
from agents.bank.snapshot import read_snapshot
from broker.port import Outgoing
from protocol.keyset import KeyRing

from ..houses import BankHouse
from ..world import World
from .knowledge import is_reply_of

_REQUEST: Final = re.compile(r"ecash/v1/([^/]+)/\d+/([^/]+)/[^/]+")
_CHANGES: Final = frozenset({"withdraw", "deposit", "exchange", "refund", "redeem"})
"""The kinds of request whose every success changes the books."""
_THOROUGH_EVERY: Final = 25
_LIABILITIES: Final = frozenset({"account", "clearing", "commission", "coins"})
_KEPT: Final = ("journal", "entry", "issued", "spent", "payment", "answer", "funding", "payout")


class BooksWatch:
    """Looks at a bank's file.

    Attributes:
        replies: what the bank has answered since the last look.
        answers: the stored answer by request id, with the hash of the request.
        spent: the coins that came back.
    """

    def __init__(self, world: World, house: BankHouse) -> None:
        self._world = world
        self._house = house
        self._last = 0
        self._looks = 0
        self._ledgers: Counter[str] = Counter()
        self._issued: Counter[bytes] = Counter()
        self._spent: Counter[bytes] = Counter()
        self._rows: dict[str, set[tuple[Any, ...]]] = {}
        self._last_answer = 0
        self.spent: set[bytes] = set()
        self.answers: dict[bytes, tuple[bytes, bytes]] = {}
        self.replies: list[Outgoing] = []
        self._kinds: dict[bytes, str] = {}
        self._is_reply = is_reply_of(house.name)
        world.listeners.append(self._heard)

    def _heard(self, message: Outgoing) -> None:
        if self._is_reply(message.topic):
            self.replies.append(message)
        elif message.correlation and (asked := _REQUEST.fullmatch(message.topic)) and asked[1] == self._house.name:
            self._kinds[message.correlation] = asked[2]

    def look_at_answers(self) -> None:
        """Look at what was answered, when what was committed with it is known."""
        for message in self.replies:
            changes = self._kinds.get(message.correlation or b"") in _CHANGES
            self._world.knowledge.check_answer(message, self.answers, changes=changes)
        self.replies.clear()

    def look(self, *, thoroughly: bool = False) -> None:
        """Look at what is new, and from time to time at everything."""
        path = str(self._house.path)
        if path not in self._world.dirty and not thoroughly:
            return
        self._looks += 1
        db = self._world.readers.read(self._house.path)
        self._look_at_news(db)
        if thoroughly or self._looks % _THOROUGH_EVERY == 0:
            self._look_at_all(db)

    def _fail(self, what: str) -> None:
        self._world.fail(f"bank {self._house.name}: {what}")

    def _look_at_news(self, db: sqlite3.Connection) -> None:
        moved: defaultdict[int, int] = defaultdict(int)
        for ledger, journal, amount in db.execute(
            "SELECT ledger, journal, amount FROM entry WHERE journal > ?", [self._last]
        ):
            moved[journal] += amount
            self._ledgers[ledger] += amount
        for journal, total in moved.items():
            if total:
                self._fail(f"E4: the entries of journal {journal} sum to {total}")
        self._coins(db)
        for ledger, amount in self._ledgers.items():
            if amount < 0 and ledger.partition("/")[0] in _LIABILITIES:
                self._fail(f"E3: ledger {ledger} is {amount}")
        query = "SELECT rowid, request_id, request_hash, answer FROM answer WHERE rowid > ?"
        for number, request_id, hashed, answer in db.execute(query, [self._last_answer]):
            self._last_answer = max(number, self._last_answer)
            self.answers[request_id] = hashed, answer
        [(last,)] = db.execute("SELECT coalesce(max(id), 0) FROM journal").fetchall()
        if last < self._last:
            self._fail(f"E12: the journal ends at {last}, and it ended at {self._last} before")
        self._last = last

    def _coins(self, db: sqlite3.Connection) -> None:
        for (denomination,) in db.execute("SELECT denomination FROM issued WHERE journal > ?", [self._last]):
            self._issued[denomination] += 1
        query = "SELECT denomination, serial FROM spent WHERE journal > ?"
        for denomination, serial in db.execute(query, [self._last]):
            if serial in self.spent:
                self._fail(f"E2: coin {serial.hex()[:8]} was credited twice")
            self.spent.add(serial)
            self._spent[denomination] += 1
        values = {d.id: d.value for keyset in self._house.keysets for d in keyset.denominations}
        for denomination, issued in self._issued.items():
            open_coins = issued - self._spent[denomination]
            if open_coins < 0:
                self._fail(f"E2: more coins of {denomination.hex()[:8]} came back than were signed")
            booked = self._ledgers[f"coins/{denomination.hex()}"]
            if booked != open_coins * values.get(denomination, 0):
                self._fail(f"E2: {open_coins} open coins of {denomination.hex()[:8]} are booked as {booked}")

    def _look_at_all(self, db: sqlite3.Connection) -> None:
        rings = [KeyRing(keyset) for keyset in self._house.keysets]
        denominations = {key: (d.value, d.currency) for ring in rings for key, d in ring.items()}
        db.execute("BEGIN")
        for fault in audit(read_snapshot(db), denominations).faults:
            self._fail(f"audit: {fault}")
        for table in _KEPT:
            rows = set(db.execute(f"SELECT * FROM {table}"))
            for row in self._rows.get(table, set()) - rows:
                self._fail(f"E12: a row of {table} is gone or changed: {str(row)[:100]}")
            self._rows[table] = rows
        db.execute("ROLLBACK")
