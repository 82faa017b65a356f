"""What every implementation of the `Books` port must do with payouts."""

import asyncio
from collections.abc import Sequence
from typing import Final

import pytest

from agents.bank.store import MOST_IN_SUM, AchFileRow, Books, DestinationRow, NoSuchAccount, PayoutRow, WrongState
from protocol.bank.ledger import Conflict, Posted
from protocol.errors import OurError
from protocol.refusals import Refusal
from tests.conformance.bookkeeping import (
    DESTINATION,
    BooksFixtures,
    ManualClock,
    OpenBooks,
    faults,
    h,
    payout,
    refusal_of,
    shop_of,
)

ELSEWHERE: Final = DestinationRow("011000015", "999", "savings", "The Shop Ltd")


def _write(number: int, now: int, payouts: Sequence[PayoutRow]) -> bytes:
    return f"file {number} at {now}: {' '.join(f'{row.number}={row.amount}' for row in payouts)}".encode()


def _unwritten(number: int, now: int, payouts: Sequence[PayoutRow]) -> bytes:
    raise ValueError("the payouts do not fit in a file")


class PayoutsConformance(BooksFixtures):
    @pytest.fixture
    async def seller(self, books: Books) -> int:
        """A merchant's account with 100 and a destination."""
        seller = (await shop_of(books)).number
        await books.credit(seller, 100, "sales")
        await books.set_destination(seller, DESTINATION)
        return seller

    @pytest.fixture
    async def exported(self, books: Books, seller: int) -> int:
        """The number of a payout of 30 that is in a file; the account holds 69."""
        await books.post(payout(seller, 30))
        assert await books.export_payouts(_write) is not None
        return 1

    async def _clearing(self, books: Books) -> int:
        assert not await faults(books)
        return sum(row.amount for row in (await books.snapshot()).entries if row.ledger == "clearing/EUR")

    # ------------------------------------------------------------ queued

    async def test_a_payout_needs_a_destination(self, books: Books) -> None:
        shop = (await shop_of(books)).number
        await books.credit(shop, 100, "sales")
        assert await books.post(payout(shop, 30)) == Conflict(Refusal.NO_DESTINATION)
        assert await books.payouts() == []
        assert await books.balance(shop) == 100

    async def test_a_payout_debits_the_account_and_is_queued(
        self, books: Books, clock: ManualClock, seller: int
    ) -> None:
        assert await books.post(payout(seller, 30, name="p")) == Posted(b"p")
        assert await books.balance(seller) == 69
        assert await books.payouts() == [
            PayoutRow(1, seller, "EUR", 30, 1, "queued", "", 0, clock.now, DESTINATION),
        ]
        assert await self._clearing(books) == 30

    async def test_payouts_at_once_cannot_exceed_the_balance_together(self, books: Books, seller: int) -> None:
        outcomes = await asyncio.gather(*(books.post(payout(seller, 30)) for _ in range(10)))
        assert list(map(refusal_of, outcomes)) == ["Posted"] * 3 + [Refusal.INSUFFICIENT_FUNDS] * 7
        assert [row.number for row in await books.payouts()] == [3, 2, 1]
        assert await self._clearing(books) == 90

    async def test_payouts_are_listed_the_newest_first_by_account_and_state(self, books: Books, seller: int) -> None:
        other = (await books.open_account("merchant", "other", "Other", "EUR", h("other"), b"")).number
        await books.credit(other, 100, "other sales")
        await books.set_destination(other, ELSEWHERE)
        for account in (seller, other):
            await books.post(payout(account, 10))
        await books.export_payouts(_write)
        for account in (seller, other, seller):
            await books.post(payout(account, 10))

        async def listed(account: int = 0, state: str = "", limit: int = 1000) -> list[int]:
            return [row.number for row in await books.payouts(account, state, limit)]

        assert await listed() == [5, 4, 3, 2, 1]
        assert await listed(limit=2) == [5, 4]
        assert await listed(seller) == [5, 3, 1]
        assert await listed(state="exported") == [2, 1]
        assert await listed(other, "queued") == [4]
        assert await listed(other, "settled") == []

    async def test_a_destination_is_a_merchants(self, books: Books) -> None:
        client = await books.open_account("client", "alice", "Alice", "EUR", h("alice"), b"")
        for number in (client.number, 9999):
            with pytest.raises(NoSuchAccount):
                await books.set_destination(number, DESTINATION)

    async def test_a_destination_of_an_unknown_kind_is_the_callers_fault(self, books: Books, seller: int) -> None:
        with pytest.raises(OurError):
            await books.set_destination(seller, DESTINATION._replace(kind="mattress"))

    async def test_a_new_destination_is_that_of_payouts_not_exported_yet(self, books: Books, exported: int) -> None:
        (row,) = await books.payouts()
        await books.post(payout(row.account, 10))
        await books.set_destination(row.account, ELSEWHERE)
        assert [row.destination for row in await books.payouts()] == [ELSEWHERE, DESTINATION]

    # ------------------------------------------------------------ exported

    async def test_a_file_holds_no_more_than_its_sum_has_digits(self, books: Books, clock: ManualClock) -> None:
        shop, half = (await shop_of(books)).number, MOST_IN_SUM // 2 + 1
        await books.credit(shop, 3 * half, "sales of a century")
        await books.set_destination(shop, DESTINATION)
        for _ in range(2):
            await books.post(payout(shop, half))
        first, second = [await books.export_payouts(_write) for _ in range(2)]
        assert first == (1, b"file 1 at %d: 1=%d" % (clock.now, half))
        assert second == (2, b"file 2 at %d: 2=%d" % (clock.now, half))

    async def test_all_queued_payouts_are_exported_once(self, books: Books, clock: ManualClock, seller: int) -> None:
        assert await books.export_payouts(_write) is None
        await books.post(payout(seller, 10))
        await books.post(payout(seller, 20))
        assert await books.export_payouts(_write) == (1, b"file 1 at %d: 1=10 2=20" % clock.now)
        assert await books.export_payouts(_write) is None
        await books.post(payout(seller, 30))
        assert await books.export_payouts(_write) == (2, b"file 2 at %d: 3=30" % clock.now)
        assert [(row.number, row.state, row.file) for row in await books.payouts()] == [
            (3, "exported", 2),
            (2, "exported", 1),
            (1, "exported", 1),
        ]
        assert await self._clearing(books) == 60

    async def test_what_is_written_are_the_queued_payouts(self, books: Books, seller: int) -> None:
        await books.post(payout(seller, 10))
        queued = await books.payouts()
        seen: list[PayoutRow] = []

        def write(number: int, now: int, payouts: Sequence[PayoutRow]) -> bytes:
            seen.extend(payouts)
            return b"file"

        await books.export_payouts(write)
        assert seen == queued

    async def test_a_file_is_there_as_it_was_written(self, open_books: OpenBooks) -> None:
        async with open_books() as books:
            seller = (await shop_of(books)).number
            await books.credit(seller, 100, "sales")
            await books.set_destination(seller, DESTINATION)
            assert await books.ach_file() is None
            written = []
            for amount in (10, 20):
                await books.post(payout(seller, amount))
                written.append(await books.export_payouts(_write))
        async with open_books() as books:
            assert [await books.ach_file(number) for number in (1, 2)] == written
            assert await books.ach_file() == written[-1]
            assert await books.ach_file(3) is None

    async def test_a_payout_is_in_one_of_two_files_that_are_made_at_once(self, books: Books, seller: int) -> None:
        await books.post(payout(seller, 10))
        files = await asyncio.gather(*(books.export_payouts(_write) for _ in range(5)))
        assert [file is None for file in files] == [False] + [True] * 4

    async def test_an_export_that_fails_leaves_everything_queued(self, books: Books, seller: int) -> None:
        await books.post(payout(seller, 10))
        before = await books.payouts()
        with pytest.raises(ValueError, match="do not fit"):
            await books.export_payouts(_unwritten)
        assert await books.payouts() == before
        assert await books.ach_file() is None
        assert await books.export_payouts(_write) == await books.ach_file(1)

    # ------------------------------------------------------------ settled and returned

    async def test_a_payout_is_settled_once(self, books: Books, exported: int) -> None:
        assert await asyncio.gather(*(books.settle_payout(exported, 30) for _ in range(3))) == [True, False, False]
        (row,) = await books.payouts()
        assert (row.state, row.file) == ("settled", 1)
        assert await books.balance(row.account) == 69
        assert await self._clearing(books) == 0

    async def test_a_payout_is_returned_once(self, books: Books, exported: int) -> None:
        returns = await asyncio.gather(*(books.return_payout(exported, 30, f"R0{i}") for i in range(3)))
        assert returns == [True, False, False]
        (row,) = await books.payouts()
        assert (row.state, row.reason) == ("returned", "R00")
        assert await books.balance(row.account) == 99
        assert await self._clearing(books) == 0

    async def test_files_are_listed_with_what_is_in_them(self, books: Books, clock: ManualClock, exported: int) -> None:
        assert exported == 1
        first = AchFileRow(1, clock.now, 1, 30)
        assert await books.ach_files() == [first]
        clock.now += 5
        await books.post(payout((await books.payouts())[0].account, 10))
        await books.post(payout((await books.payouts())[0].account, 20))
        await books.export_payouts(_write)
        assert await books.ach_files() == [AchFileRow(2, clock.now, 2, 30), first]

    async def test_a_settled_payout_may_come_back(self, books: Books, exported: int) -> None:
        await books.settle_payout(exported, 30)
        assert await books.return_payout(exported, 30, "R02 Account closed")
        (row,) = await books.payouts()
        assert (row.state, row.reason) == ("returned", "R02 Account closed")
        assert await books.balance(row.account) == 99
        assert not await books.settle_payout(exported, 30)
        assert not await books.return_payout(exported, 30, "R02 Account closed")
        assert await self._clearing(books) == 0

    async def test_a_returned_payout_is_not_settled(self, books: Books, exported: int) -> None:
        await books.return_payout(exported, 30, "R01")
        with pytest.raises(WrongState, match="payout 1 is returned"):
            await books.settle_payout(exported, 30)
        assert await self._clearing(books) == 0

    async def test_a_queued_payout_is_neither_settled_nor_returned(self, books: Books, seller: int) -> None:
        await books.post(payout(seller, 30))
        with pytest.raises(WrongState, match="payout 1 is queued"):
            await books.settle_payout(1, 30)
        with pytest.raises(WrongState, match="payout 1 is queued"):
            await books.return_payout(1, 30, "R01")
        assert await self._clearing(books) == 30

    @pytest.mark.parametrize(("number", "amount", "why"), [(1, 31, "payout 1 is one of 30, not 31"), (2, 30, "no")])
    async def test_another_payout_is_not_meant(
        self, books: Books, exported: int, number: int, amount: int, why: str
    ) -> None:
        with pytest.raises(WrongState, match=why):
            await books.settle_payout(number, amount)
        with pytest.raises(WrongState, match=why):
            await books.return_payout(number, amount, "R01")
        assert await self._clearing(books) == 30
