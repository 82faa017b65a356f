"""The disaster drill, as `ecash demo --drill` plays it, and what the bank's books tell about the buyer afterwards."""

import json
import re
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest_asyncio

from agents.client.seed import entropy_of, root_of
from protocol.answer import open_answer
from protocol.bank.ledger import account_ledger
from protocol.derivation import Root
from protocol.keyset import KeyRing, Keyset, read_keyset
from protocol.messages import WithdrawAnswer
from protocol.signatures import public_key
from protocol.wallet.outputs import unblind_outputs

from .process import ecash, processes

STEPS: Final = ["broker", "bank_made", "accounts", "bank_open", "shop_open", "wallet", "withdraw"]
STEPS_OF_THE_DRILL: Final = [*STEPS, "pay", "disaster", "restore", "again", "stop"]
ALICE: Final = 1001
WORDS: Final = re.compile(r"bring it back: ((?:[a-z]+ ){11}[a-z]+)")

Value = bytes | int | str | None


class Row(NamedTuple):
    """A row of the bank's books."""

    table: str
    values: dict[str, Value]

    @property
    def blobs(self) -> set[bytes]:
        """Return what in it could be a key, an id, a number of a coin."""
        return {value for value in self.values.values() if isinstance(value, bytes)}


class Played(NamedTuple):
    """The drill's report, its bank's books, and the wallet's words."""

    report: dict[str, Any]
    rows: list[Row]
    root: Root


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played(tmp_path_factory: Any) -> Played:
    folder = tmp_path_factory.mktemp("drill")
    report, homes = folder / "report.json", folder / "homes"
    async with processes() as started:
        drill = await started.start(ecash("demo", "--drill", "--report", report, "--keep", homes))
        assert await drill.ended(within_s=300) == 0, drill.log
    found = WORDS.search(re.sub(r"\s+", " ", " ".join(drill.said)))
    assert found, drill.said
    return Played(json.loads(report.read_text()), rows_in(homes / "bank/books.db"), root_of(entropy_of(found[1])))


def rows_in(path: Path) -> list[Row]:
    """Return all rows of all tables."""
    found = []
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            found += [Row(table, dict(row)) for row in db.execute(f"SELECT * FROM {table}")]
    return found


def of_table(played: Played, table: str) -> list[dict[str, Any]]:
    return [row.values for row in played.rows if row.table == table]


def journals_of_alice(played: Played) -> set[Value]:
    """Return the postings that changed Alice's account."""
    ledger = account_ledger(ALICE)
    return {row["journal"] for row in of_table(played, "entry") if row["ledger"] == ledger}


def under_the_account(played: Played) -> list[Row]:
    """Return every row that names Alice's account, or a posting that changed it."""
    journals = journals_of_alice(played)
    return [
        row
        for row in played.rows
        if row.values.get("account") == ALICE
        or row.values.get("journal") in journals
        or (row.table == "journal" and row.values["id"] in journals)
        or (row.table == "account" and row.values["number"] == ALICE)
    ]


def spent_anonymously(played: Played) -> list[dict[str, Any]]:
    journals = journals_of_alice(played)
    return [row for row in of_table(played, "spent") if row["journal"] not in journals]


def newest_keyset(played: Played) -> Keyset:
    return read_keyset(of_table(played, "keyset")[-1]["data"])


def withdrawn_by(played: Played) -> dict[bytes, bytes]:
    """Return which coin (its serial number) came from which withdrawal: Alice alone, with her words, can tell."""
    keyset, answers = newest_keyset(played), {row["request_id"]: row for row in of_table(played, "answer")}
    found = dict[bytes, bytes]()
    for withdrawal in of_table(played, "withdrawal"):
        request_id = withdrawal["request_id"]
        stored = answers[request_id]
        key = played.root.answer_key(request_id)
        answer = open_answer(keyset.identity, key, stored["request_hash"], stored["answer"])
        signatures = WithdrawAnswer.decode(answer.check()).coins
        denominations = [one.denomination for one in signatures]
        coins, wrong = unblind_outputs(played.root, KeyRing(keyset), request_id, denominations, signatures)
        assert not wrong
        found |= {coin.serial: request_id for _, coin in coins}
    return found


async def test_the_drill_ends_well_and_to_the_cent(played: Played) -> None:
    steps = [(step["name"], step["ok"]) for step in played.report["steps"]]
    assert steps == [(name, True) for name in STEPS_OF_THE_DRILL]
    books = played.report["conservation"]
    assert books["ok"] is True
    assert books["minted"] == books["deposited"] + books["held"]
    assert books["accounts"] + books["commission"] + books["held"] == 50_00


async def test_only_redeemed_coins_are_known_to_be_alices(played: Played) -> None:
    kinds = {row["id"]: row["kind"] for row in of_table(played, "journal")}
    by_kind = defaultdict[str, set[bytes]](set)
    for row in of_table(played, "spent"):
        by_kind[kinds[row["journal"]]].add(row["serial"])
    assert {"deposit", "redeem"} <= by_kind.keys() <= {"deposit", "exchange", "redeem"}
    known = {row["serial"] for row in of_table(played, "spent") if row["journal"] in journals_of_alice(played)}
    assert known == by_kind["redeem"]


async def test_nothing_under_the_account_speaks_of_a_coin_that_was_spent_elsewhere(played: Played) -> None:
    anonymous = spent_anonymously(played)
    assert anonymous
    for row in under_the_account(played):
        for blob in row.blobs:
            for coin in anonymous:
                for name in ("serial", "digest", "spend"):
                    assert coin[name] not in blob, f"{row.table} has the {name} of a coin"


async def test_nothing_that_an_anonymous_posting_left_speaks_of_alice(played: Played) -> None:
    key = public_key(played.root.account(newest_keyset(played).identity))
    assert any(key in row.blobs for row in under_the_account(played))
    anonymous = {row["journal"] for row in spent_anonymously(played)}
    for row in played.rows:
        if row.values.get("journal") in anonymous:
            assert all(key not in blob for blob in row.blobs), row.table


async def test_no_column_joins_a_coin_with_its_withdrawal(played: Played) -> None:
    """With Alice's words it is known which coins were withdrawn when; without, the books do not tell."""
    origin = withdrawn_by(played)
    withdrawals = {row["request_id"]: row["journal"] for row in of_table(played, "withdrawal")}
    denominations = {denomination.id for denomination in newest_keyset(played).denominations}
    blobs = defaultdict[Value, set[bytes]](set)
    for row in played.rows:
        if row.table == "journal":
            blobs[row.values["id"]] |= row.blobs
        elif "journal" in row.values:
            blobs[row.values["journal"]] |= row.blobs
    followed = [coin for coin in spent_anonymously(played) if coin["serial"] in origin]
    assert followed
    for coin in followed:
        withdrawal = withdrawals[origin[coin["serial"]]]
        assert withdrawal != coin["journal"]
        assert blobs[withdrawal] & blobs[coin["journal"]] <= denominations
