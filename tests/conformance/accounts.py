"""What every implementation of the `Books` port must do with accounts, fundings and keysets."""

import asyncio

import pytest

from agents.bank.store import AccountNameTaken, Books, KeyHasAccount, NoSuchAccount, ReferenceReused, StatementRow
from protocol.bank.desk import Account
from protocol.bank.ledger import Claim
from protocol.errors import OurError
from protocol.refusals import Refusal
from tests.conformance.bookkeeping import (
    BooksFixtures,
    ManualClock,
    faults,
    h,
    refusal_of,
    request,
    rich_client,
    shop_of,
    withdrawal,
)


class AccountsConformance(BooksFixtures):
    async def test_accounts_are_numbered_and_found(self, books: Books) -> None:
        alice = await books.open_account("client", "alice", "Alice", "EUR", h("a"), b"")
        bob = await books.open_account("client", "bob", "Bob", "USD", b"", h("invitation"))
        assert alice == Account(1001, "client", "alice", "Alice", "EUR", h("a"))
        assert bob == Account(1002, "client", "bob", "Bob", "USD", b"")
        assert await books.account_by_key(h("a")) == alice
        assert await books.account_by_key(b"") is None
        assert await books.account_by_invitation(h("invitation")) == bob
        assert await books.account_by_invitation(b"") is None
        assert await books.accounts() == [(alice, 0), (bob, 0)]

    async def test_an_invitation_is_used_once(self, books: Books) -> None:
        bob = await books.open_account("client", "bob", "Bob", "EUR", b"", h("invitation"))
        claims = [request(claim=Claim(bob.number, h(f"key {i}"))) for i in range(10)]
        outcomes = await asyncio.gather(*map(books.post, claims))
        assert list(map(refusal_of, outcomes)) == ["Posted"] + [Refusal.INVALID_INVITATION] * 9
        assert await books.account_by_invitation(h("invitation")) is None
        held = await books.account_by_key(h("key 0"))
        assert held is not None
        assert held.number == bob.number

    async def test_a_key_claims_one_account(self, books: Books) -> None:
        opened = [await books.open_account("client", f"c{i}", "C", "EUR", b"", h(f"i{i}")) for i in range(5)]
        claims = [request(claim=Claim(account.number, h("key"))) for account in opened]
        outcomes = await asyncio.gather(*map(books.post, claims))
        assert list(map(refusal_of, outcomes)) == ["Posted"] + [Refusal.ACCOUNT_EXISTS] * 4
        assert await books.account_by_invitation(h("i1")) == opened[1]

    async def test_a_claim_with_no_key_is_the_callers_fault(self, books: Books) -> None:
        bob = await books.open_account("client", "bob", "Bob", "EUR", b"", h("invitation"))
        with pytest.raises(OurError):
            await books.post(request(claim=Claim(bob.number, b"short")))
        assert await books.account_by_invitation(h("invitation")) == bob

    async def test_a_name_is_given_once_for_each_kind(self, books: Books) -> None:
        await books.open_account("client", "x", "X", "EUR", h("1"), b"")
        await books.open_account("merchant", "x", "X", "EUR", h("2"), b"")
        with pytest.raises(AccountNameTaken):
            await books.open_account("client", "x", "X", "EUR", h("3"), b"")

    async def test_a_key_holds_one_account(self, books: Books) -> None:
        await books.open_account("client", "x", "X", "EUR", h("1"), b"")
        with pytest.raises(KeyHasAccount):
            await books.open_account("client", "y", "Y", "EUR", h("1"), b"")

    @pytest.mark.parametrize(
        ("kind", "key", "invitation"),
        [("client", b"", b""), ("owner", h("1"), b""), ("client", b"short", b""), ("client", b"", h("taken"))],
    )
    async def test_an_account_that_cannot_be_is_the_callers_fault(
        self, books: Books, kind: str, key: bytes, invitation: bytes
    ) -> None:
        await books.open_account("client", "x", "X", "EUR", b"", h("taken"))
        with pytest.raises(OurError):
            await books.open_account(kind, "y", "Y", "EUR", key, invitation)
        assert len(await books.accounts()) == 1

    async def test_an_unknown_account_has_no_balance(self, books: Books) -> None:
        with pytest.raises(NoSuchAccount):
            await books.balance(1001)

    async def test_money_received_is_booked_once_for_each_reference(self, books: Books) -> None:
        client, shop = await rich_client(books, 100), await shop_of(books)
        booked = await asyncio.gather(*(books.credit(client.number, 30, "bank statement 7") for _ in range(10)))
        assert sorted(booked) == [False] * 9 + [True]
        assert await books.accounts() == [(client, 130), (shop, 0)]
        for account, amount in ((client.number, 31), (shop.number, 30)):
            with pytest.raises(ReferenceReused):
                await books.credit(account, amount, "bank statement 7")
        assert not await faults(books)

    async def test_a_statement_tells_what_moved_an_account_the_newest_first(
        self, books: Books, clock: ManualClock
    ) -> None:
        client = await rich_client(books, 100)
        clock.now += 7
        await books.post(withdrawal(client.number, "a", "b", commission=2))
        cash = StatementRow(1, "funding", clock.now - 7, 100, f"cash of {client.number}")
        drawn = StatementRow(2, "withdraw", clock.now, -18, "")
        assert await books.statement(client.number, 10) == [drawn, cash]
        assert await books.statement(client.number, 1) == [drawn]
        assert await books.statement(4711, 10) == []

    @pytest.mark.parametrize("amount", [0, -1, 2**53])
    async def test_no_amount_is_booked_that_is_none(self, books: Books, amount: int) -> None:
        client = await rich_client(books)
        with pytest.raises(OurError):
            await books.credit(client.number, amount, "x")

    async def test_an_unknown_account_is_not_credited(self, books: Books) -> None:
        with pytest.raises(NoSuchAccount):
            await books.credit(1001, 5, "x")
        assert not await faults(books)

    async def test_keysets_are_kept_by_number(self, books: Books) -> None:
        for number, data in ((1, b"one"), (0, b"zero"), (1, b"one")):
            await books.add_keyset(number, data)
        with pytest.raises(OurError):
            await books.add_keyset(1, b"another")
        assert await books.keysets() == [b"zero", b"one"]
