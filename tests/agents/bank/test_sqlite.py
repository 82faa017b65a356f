import asyncio
import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.bank.sqlite import SqliteBooks
from agents.bank.store import Books, BooksUnavailable
from agents.database import NewerSchema, OlderSchema
from protocol.bank.ledger import Conflict, Generation, Posted, Posting, Repeated
from protocol.refusals import Refusal
from tests.conformance.accounts import AccountsConformance
from tests.conformance.bookkeeping import (
    VALUES,
    ManualClock,
    OpenBooks,
    coin,
    deposit,
    exchange,
    faults,
    h,
    payment,
    redemption,
    refusal_of,
    request,
    rich_client,
    shop_of,
    withdrawal,
)
from tests.conformance.books import BooksConformance
from tests.conformance.payouts import PayoutsConformance
from tests.conformance.recovery import RecoveryConformance


class TestSqliteBooks(BooksConformance, AccountsConformance, RecoveryConformance, PayoutsConformance):
    @pytest.fixture
    def open_books(self, clock: ManualClock, tmp_path: Path) -> OpenBooks:
        return lambda: SqliteBooks(tmp_path / "books.db", clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "books.db"


# ---------------------------------------------------------------- the file


def open_and_close(path: Path) -> None:
    async def run() -> None:
        async with SqliteBooks(path, ManualClock()):
            pass

    asyncio.run(run())


def test_books_of_a_later_release_are_refused_and_left_untouched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(NewerSchema, match="later release"):
        open_and_close(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


def test_books_of_an_earlier_release_are_refused_and_left_untouched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 1")
    with pytest.raises(OlderSchema, match="use that release"):
        open_and_close(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
        assert db.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_file_that_is_no_database_is_unavailable(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(BooksUnavailable):
        open_and_close(path)


def test_a_folder_that_does_not_exist_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(BooksUnavailable):
        open_and_close(tmp_path / "nowhere" / "books.db")


def test_only_the_owner_reads_the_books(path: Path) -> None:
    open_and_close(path)
    assert path.stat().st_mode & 0o777 == 0o600


async def test_every_commit_is_synced(path: Path) -> None:
    async with SqliteBooks(path, ManualClock()) as books:

        def pragmas(db: sqlite3.Connection, now: int) -> list[object]:
            names = ("journal_mode", "synchronous", "foreign_keys")
            return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        assert await books._writer.do(pragmas) == ["wal", 2, 1]


# ---------------------------------------------------------------- faults of the disk


async def test_a_read_that_fails_is_told_and_passes(path: Path) -> None:
    async with SqliteBooks(path, ManualClock()) as books:
        with pytest.raises(BooksUnavailable, match="no such table"):
            await books._read(lambda db: db.execute("SELECT 1 FROM nowhere").fetchall())
        assert await books.accounts() == []


async def test_a_full_disk_is_told_leaves_no_half_state_and_passes(path: Path) -> None:
    async with SqliteBooks(path, ManualClock()) as books:
        client = await rich_client(books, 10_000)

        async def limit(pages: int) -> None:
            await books._writer.do(lambda db, now: db.execute(f"PRAGMA max_page_count = {pages}").fetchone())

        (pages,) = await books._writer.do(lambda db, now: db.execute("PRAGMA page_count").fetchone())
        await limit(pages + 30)
        postings = [withdrawal(client.number, f"w{i}", answer=bytes(2000)) for i in range(300)]
        outcomes = [await books.post(posting) for posting in postings[:5]]
        results = await asyncio.gather(*map(books.post, postings[5:]), return_exceptions=True)
        fits = [not isinstance(result, BooksUnavailable) for result in results]  # a first small group, perhaps
        assert not all(fits)
        stored = [await books.stored_answer(each.request_id, each.request_hash) for each in postings]
        assert stored == [Repeated(bytes(2000))] * 5 + [Repeated(bytes(2000)) if fit else None for fit in fits]
        assert await books.balance(client.number) == 10_000 - 9 * (5 + sum(fits))
        assert not await faults(books)
        await limit(2**30)
        outcomes += [result for result in results if not isinstance(result, BaseException)]
        left = (each for each, fit in zip(postings[5:], fits, strict=True) if not fit)
        outcomes += await asyncio.gather(*map(books.post, left))
        assert outcomes == [Posted(bytes(2000))] * 300
        assert await books.balance(client.number) == 10_000 - 9 * 300
        assert not await faults(books)


# ---------------------------------------------------------------- several processes

OTHER = """
import asyncio, sys, time
from pathlib import Path
from agents.bank.sqlite import SqliteBooks
from tests.conformance.bookkeeping import request

async def main():
    async with SqliteBooks(Path(sys.argv[1]), lambda: 1) as books:
        {body}

asyncio.run(main())
"""


async def run_other(path: Path, body: str, **environment: str) -> int:
    """Use the same books from another process, and return its exit status."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OTHER.format(body=body), str(path)), env={**os.environ, **environment}
    )
    return await process.wait()


async def test_another_process_may_change_the_books_meanwhile(path: Path) -> None:
    async with SqliteBooks(path, ManualClock()) as books:
        client = await rich_client(books, 1_000_000)
        body = f"""
        for i in range(20):
            assert await books.credit({client.number}, 1, f"statement {{i}}")
            await books.open_account("client", f"other{{i}}", "Other", "EUR", b"", i.to_bytes(32))
        assert len(await books.accounts()) >= 21
        """
        other = asyncio.ensure_future(run_other(path, body))
        posted = 0
        while not other.done():
            assert refusal_of(await books.post(withdrawal(client.number, f"w{posted}", commission=0))) == "Posted"
            await books.open_account("client", f"ours{posted}", "Ours", "EUR", h(f"ours{posted}"), b"")
            posted += 1
            assert not posted % 50 or not await faults(books)
        assert other.result() == 0
        assert await books.balance(client.number) == 1_000_020 - 8 * posted
        assert len(await books.accounts()) == 21 + posted
        assert not await faults(books)


@pytest.mark.parametrize(("crash", "stored"), [("before_commit", None), ("committed", Repeated(b"last"))])
async def test_a_killed_bank_has_all_of_a_posting_or_nothing(path: Path, crash: str, stored: Repeated | None) -> None:
    body = 'await books.post(request(name="first")); await books.post(request(name="last"))'
    killed = await run_other(path, body, ECASH_CRASH_AT=f"bank.books.{crash}:2")
    assert killed == -signal.SIGKILL
    async with SqliteBooks(path, ManualClock()) as books:
        assert await books.stored_answer(h("first")[:16], h("first")) == Repeated(b"first")
        assert await books.stored_answer(h("last")[:16], h("last")) == stored
        assert not await faults(books)


# ---------------------------------------------------------------- any business at all, beside a model in dictionaries


class Model:
    """What the books should say, in dictionaries."""

    def __init__(self, client: int, shop: int) -> None:
        self.balances = {client: 60, shop: 0}
        self.left = {client: 4 * 8, shop: 0}  # to redeem
        self.generations = {client: 0, shop: 0}
        self.answers: dict[bytes, bytes] = {}
        self.verdicts: dict[bytes, bytes] = {}
        self.sales: set[bytes] = set()
        self.spent: dict[tuple[bytes, bytes], bytes] = {}
        self.issued: set[tuple[bytes, bytes]] = set()

    def post(self, posting: Posting) -> str:
        refusal = self._refusal(posting)
        if refusal is None:
            self.answers[posting.request_id] = posting.request_hash
            self.issued.update(posting.issued)
            self.spent |= {(each.denomination, each.serial): posting.spent_on for each in posting.spent}
            if (device := posting.generation) is not None:
                self.generations[device.account] = device.number
            if (withdrawn := posting.withdrawal) is not None:
                self.left[withdrawn.account] += withdrawn.amount
            if (redeemed := posting.redemption) is not None:
                self.left[redeemed.account] -= redeemed.amount
            for entry in posting.entries:
                kind, _, number = entry.ledger.partition("/")
                if kind == "account":
                    self.balances[int(number)] += entry.amount
            if (paid := posting.payment) is not None:
                self.verdicts[paid.digest] = paid.verdict
                self.sales |= {paid.payment_id} if paid.accepted else set()
        return "Posted" if refusal is None else refusal

    def _refusal(self, posting: Posting) -> str | None:
        if (known := self.answers.get(posting.request_id)) is not None:
            return "Repeated" if known == posting.request_hash else Refusal.REQUEST_ID_REUSED
        device = posting.generation
        if device is not None and self.generations[device.account] != device.number - device.taken_over:
            return Refusal.SUPERSEDED
        if (paid := posting.payment) is not None:
            if paid.digest in self.verdicts:
                return ""
            if paid.accepted and paid.payment_id in self.sales:
                return Refusal.ALREADY_PAID
        if any((each.denomination, each.serial) in self.spent for each in posting.spent):
            return Refusal.ALREADY_SPENT
        if self.issued & set(posting.issued):
            return Refusal.BLINDED_VALUE_REUSED
        if (redeemed := posting.redemption) is not None and self.left[redeemed.account] < redeemed.amount:
            return Refusal.REDEMPTION_CAPPED
        debits = [(int(e.ledger[8:]), e.amount) for e in posting.entries if e.ledger.startswith("account/")]
        return Refusal.INSUFFICIENT_FUNDS if any(self.balances[n] + amount < 0 for n, amount in debits) else None


CLIENT, SHOP = 1001, 1002
_few = st.sampled_from
_request_parts: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}), st.fixed_dictionaries({"name": _few("AB"), "request_hash": _few([h("A"), h("B")])})
)
_postings: st.SearchStrategy[Callable[[], Posting]] = st.one_of(
    st.builds(
        lambda blinded, device, parts: lambda: withdrawal(CLIENT, *blinded, generation=device, **parts),
        st.sets(_few("uvwxyz"), min_size=1, max_size=3).map(sorted),
        st.builds(Generation, st.just(CLIENT), _few((0, 0, 1)), taken_over=st.booleans()),
        _request_parts,
    ),
    st.builds(
        lambda coins, blinded, on: lambda: exchange(*map(coin, coins), into=blinded, value=8, on=on),
        st.sets(_few("abcd"), min_size=3, max_size=4).map(sorted),
        st.sets(_few("uvwxyz"), min_size=1, max_size=3).map(sorted).map(tuple),
        _few("ef"),
    ),
    st.builds(
        lambda account, coins, on: lambda: redemption(account, *map(coin, coins), on=on),
        _few((CLIENT, CLIENT, SHOP)),
        st.sets(_few("abcd"), min_size=1, max_size=2).map(sorted),
        _few("gh"),
    ),
    st.builds(
        lambda name, sale, coins, parts: lambda: deposit(SHOP, name, *map(coin, coins), payment_id=sale, **parts),
        _few("pqrs"),
        _few("12"),
        st.sets(_few("abcd"), min_size=1, max_size=3).map(sorted),
        _request_parts,
    ),
    st.builds(
        lambda name, sale: lambda: request("deposit", payment=payment(SHOP, name, 8, Refusal.BAD_COIN, sale)),
        _few("pqrs"),
        _few("12"),
    ),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(_postings, min_size=1, max_size=6), min_size=1, max_size=4))
def test_any_business_at_once_is_what_the_model_says(batches: list[list[Callable[[], Posting]]]) -> None:
    async def run(books: Books) -> None:
        await rich_client(books, 60 + 4 * 8)
        await shop_of(books)
        for name in "abcd":
            await books.post(withdrawal(CLIENT, f"coin {name}", commission=0))
        model = Model(CLIENT, SHOP)
        for batch in batches:
            postings = [make() for make in batch]
            outcomes = await asyncio.gather(*map(books.post, postings))
            assert list(map(refusal_of, outcomes)) == list(map(model.post, postings))
            assert {account.number: amount for account, amount in await books.accounts()} == model.balances
            assert not await faults(books)
            _check_evidence(postings, outcomes, model)

    async def fresh() -> None:
        with tempfile.TemporaryDirectory() as home:
            async with SqliteBooks(Path(home) / "books.db", ManualClock()) as books:
                await run(books)

    asyncio.run(fresh())


def _check_evidence(postings: list[Posting], outcomes: list[Any], model: Model) -> None:
    for posting, outcome in zip(postings, outcomes, strict=True):
        if isinstance(outcome, Conflict) and outcome.evidence:
            spent = {(each.denomination, each.serial) for each in posting.spent}
            for exhibit in outcome.evidence:
                assert (exhibit.denomination, exhibit.serial) in spent
                assert model.spent[VALUES[8], exhibit.serial] == exhibit.digest
        if isinstance(outcome, Conflict) and outcome.verdict:
            assert posting.payment is not None
            assert outcome.verdict == model.verdicts[posting.payment.digest]
