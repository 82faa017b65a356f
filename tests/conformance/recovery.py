"""What every implementation of the `Books` port must do for devices that come and go, and for coins that were lost."""

import asyncio

import pytest

from agents.bank.store import Books, Kept, StoredRow, TooMany
from protocol.bank.ledger import Claim, Conflict, Generation, Posted, Repeated
from protocol.coins import Evidence
from protocol.errors import OurError
from protocol.recovery import KEPT_WITHDRAWALS, MAX_SPENDINGS
from protocol.refusals import Refusal
from tests.conformance.bookkeeping import (
    VALUES,
    BooksFixtures,
    ManualClock,
    coin,
    deposit,
    exchange,
    faults,
    h,
    payment,
    redemption,
    refund,
    refusal_of,
    request,
    rich_client,
    spent_coin,
    withdrawal,
)


def stored(name: str, answer: bytes = b"") -> StoredRow:
    return StoredRow(h(name)[:16], h(name), answer or name.encode())


async def _alice(books: Books) -> int:
    held = await books.account_by_key(h("alice's key"))
    assert held is not None
    return held.number


class RecoveryConformance(BooksFixtures):
    # ------------------------------------------------------------ generations

    async def test_an_account_is_at_generation_1_when_it_is_claimed(self, books: Books) -> None:
        opened = await books.open_account("client", "bob", "Bob", "EUR", b"", h("invitation"))
        assert opened.generation == 0
        await books.post(request(claim=Claim(opened.number, h("key"))))
        held = await books.account_by_key(h("key"))
        assert held is not None
        assert held.generation == 1

    async def test_a_device_takes_over_and_the_one_before_is_superseded(self, books: Books) -> None:
        number = (await rich_client(books)).number
        taking = request(name="take", generation=Generation(number, 1, taken_over=True))
        assert refusal_of(await books.post(withdrawal(number, "a", generation=Generation(number, 0)))) == "Posted"
        assert await books.post(taking) == Posted(b"take")
        assert await books.post(withdrawal(number, "b", generation=Generation(number, 0))) == Conflict(
            Refusal.SUPERSEDED
        )
        assert refusal_of(await books.post(withdrawal(number, "b", generation=Generation(number, 1)))) == "Posted"
        assert await books.post(taking) == Repeated(b"take")
        held = await books.account_by_key(h("alice's key"))
        assert held is not None
        assert held.generation == 1
        assert not await faults(books)

    @pytest.mark.parametrize("generation", [0, 1, 3])
    async def test_no_generation_is_left_out_or_comes_again(self, books: Books, generation: int) -> None:
        number = (await rich_client(books)).number
        await books.post(request(generation=Generation(number, 1, taken_over=True)))
        taking = request(generation=Generation(number, generation, taken_over=True))
        assert await books.post(taking) == Conflict(Refusal.SUPERSEDED)

    async def test_of_devices_that_take_over_at_once_one_is_served(self, books: Books) -> None:
        number = (await rich_client(books)).number
        taking = [request(generation=Generation(number, 1, taken_over=True)) for _ in range(10)]
        outcomes = await asyncio.gather(*map(books.post, taking))
        assert list(map(refusal_of, outcomes)) == ["Posted"] + [Refusal.SUPERSEDED] * 9

    async def test_a_takeover_that_is_refused_changes_no_generation(self, books: Books) -> None:
        number = (await rich_client(books, 5)).number
        refused = withdrawal(number, "a", generation=Generation(number, 1, taken_over=True))
        assert await books.post(refused) == Conflict(Refusal.INSUFFICIENT_FUNDS)
        held = await books.account_by_key(h("alice's key"))
        assert held is not None
        assert held.generation == 0

    # ------------------------------------------------------------ withdrawals, once more

    async def test_an_account_without_withdrawals_has_none_to_recover(self, books: Books) -> None:
        assert await books.withdrawals((await rich_client(books)).number, 0) == Kept([], 0, 0)
        assert await books.withdrawals(9999, 0) == Kept([], 0, 0)

    async def test_an_accounts_withdrawals_are_its_own_the_oldest_first(self, books: Books, shop: int) -> None:
        number = (await books.open_account("client", "bob", "Bob", "EUR", h("bob's key"), b"")).number
        await books.credit(number, 100, "bob's")
        for name in "ab":
            await books.post(withdrawal(number, f"bob's {name}", name=name))
        assert await books.withdrawals(number, 0) == Kept([stored("a"), stored("b")], 2, 0)
        assert await books.withdrawals(number, 2) == Kept([stored("b")], 2, 0)
        assert await books.withdrawals(number, 3) == Kept([], 2, 0)

    async def test_the_last_ones_are_kept_and_older_ones_that_are_not_settled(self, books: Books) -> None:
        number = (await rich_client(books, 1000)).number
        count = KEPT_WITHDRAWALS + 4
        for i in range(1, count):
            await books.post(withdrawal(number, f"b{i}", name=f"w{i}"))
        await books.post(withdrawal(number, "last", name=f"w{count}", settled=("w1", "w3", "w9", "nobody's")))
        kept = [2, 4, *range(count - KEPT_WITHDRAWALS + 1, count + 1)]
        first = await books.withdrawals(number, 0)
        assert first == Kept([stored(f"w{i}") for i in kept[:KEPT_WITHDRAWALS]], len(kept), kept[KEPT_WITHDRAWALS])
        rest = await books.withdrawals(number, first.next)
        assert rest == Kept([stored(f"w{i}") for i in kept[KEPT_WITHDRAWALS:]], len(kept), 0)
        assert not await faults(books)

    async def test_nobody_settles_withdrawals_of_another_account(self, books: Books, shop: int) -> None:
        alice = await _alice(books)
        await books.credit(shop, 100, "for the shop")
        await books.post(withdrawal(alice, "old", name="old"))
        await books.post(withdrawal(shop, "the shop's", settled=("old",)))
        for i in range(KEPT_WITHDRAWALS):
            await books.post(withdrawal(alice, f"b{i}", name=f"w{i}"))
        assert stored("old") in (await books.withdrawals(alice, 0)).withdrawals

    async def test_a_refused_withdrawal_settles_nothing(self, books: Books) -> None:
        number = (await rich_client(books, 9 * (KEPT_WITHDRAWALS + 1))).number
        for i in range(KEPT_WITHDRAWALS + 1):
            await books.post(withdrawal(number, f"b{i}", name=f"w{i}"))
        refused = withdrawal(number, "x", settled=("w0",))
        assert await books.post(refused) == Conflict(Refusal.INSUFFICIENT_FUNDS)
        assert (await books.withdrawals(number, 0)).total == KEPT_WITHDRAWALS + 1

    async def test_no_more_is_told_at_once_than_fits_in_an_answer(self, books: Books) -> None:
        number = (await rich_client(books)).number
        sizes = {"a": 100_000, "b": 100_000, "c": 50_000, "d": 1, "e": 250_001, "f": 250_000, "g": 1}
        for name, size in sizes.items():
            await books.post(withdrawal(number, name, name=name, answer=name.encode() * size))
        pages: list[str] = []
        start = 0
        while start or not pages:
            kept = await books.withdrawals(number, start)
            assert kept.total == len(sizes)
            pages.append("".join(row.answer[:1].decode() for row in kept.withdrawals))
            start = kept.next
        assert pages == ["abc", "d", "e", "f", "g"]

    # ------------------------------------------------------------ answers and payments by their ids

    async def test_an_answer_is_fetched_by_its_requests_id(self, books: Books) -> None:
        await books.post(request(name="a", answer=b"the answer"))
        assert await books.fetch(h("a")[:16]) == stored("a", b"the answer")
        assert await books.fetch(bytes(16)) is None

    async def test_a_refund_answers_the_ticket_too(self, books: Books, shop: int) -> None:
        await books.credit(shop, 100, "for the shop")
        assert await books.post(refund(shop, "u", ticket="t", name="order")) == Posted(b"order")
        assert await books.fetch(h("t")[:16]) == stored("t")
        assert await books.stored_answer(h("t")[:16], h("t")) == Repeated(b"t")
        assert await books.fetch(h("order")[:16]) == stored("order")
        assert await books.balance(shop) == 91
        assert not await faults(books)

    async def test_a_ticket_is_served_once(self, books: Books, shop: int) -> None:
        await books.credit(shop, 100, "for the shop")
        orders = [refund(shop, f"u{i}", ticket="t") for i in range(10)]
        outcomes = await asyncio.gather(*map(books.post, orders))
        assert list(map(refusal_of, outcomes)) == ["Posted"] + [Refusal.REQUEST_ID_REUSED] * 9
        assert await books.balance(shop) == 91
        assert not await faults(books)

    async def test_payments_of_one_id_are_found_for_each_merchant(self, books: Books, shop: int) -> None:
        other = await books.open_account("merchant", "other", "The Other Shop", "EUR", h("other's key"), b"")
        paid = [
            deposit(account, f"p{account}", coin(f"c{account}"), payment_id="sale") for account in (shop, other.number)
        ]
        for posting in paid:
            assert refusal_of(await books.post(posting)) == "Posted"
        await books.post(request(payment=payment(shop, "refused", 8, Refusal.BAD_COIN, payment_id="sale")))
        await books.post(request(payment=payment(shop, "alone", 8, Refusal.BAD_COIN)))
        assert await books.payments(h("sale")[:16]) == [posting.payment for posting in paid]
        assert await books.payments(h("alone")[:16]) == []

    # ------------------------------------------------------------ what is spent

    async def test_spendings_are_found_by_the_first_digits_of_serial_numbers(self, books: Books, shop: int) -> None:
        serials = [bytes.fromhex(digits.ljust(64, fill)) for digits, fill in (("ab", "0"), ("ab", "f"), ("ac", "0"))]
        coins = [spent_coin(serial) for serial in (*serials, bytes(32), b"\xff" * 32)]
        await books.post(withdrawal(await _alice(books), "a two", value=2))
        await books.post(exchange(*coins, spent_coin(serials[0], 2)))
        found = {
            prefix: [evidence.serial for evidence in await books.spendings(VALUES[8], prefix)]
            for prefix in ("ab", "a", "abf", "aba", "", "f" * 16, "0" * 15)
        }
        assert found == {
            "ab": serials[:2],
            "a": serials,
            "abf": serials[1:2],
            "aba": [],
            "": [bytes(32), *serials, b"\xff" * 32],
            "f" * 16: [b"\xff" * 32],
            "0" * 15: [bytes(32)],
        }
        (evidence,) = await books.spendings(VALUES[2], "")
        assert evidence == Evidence(VALUES[2], serials[0], h("e"), serials[0] * 2)
        assert await books.spendings(bytes(32), "") == []

    async def test_too_many_spendings_are_not_told(self, books: Books) -> None:
        number = (await rich_client(books, 10_000)).number
        await books.post(withdrawal(number, *(f"b{i}" for i in range(MAX_SPENDINGS + 1))))
        serials = [i.to_bytes(2) + bytes(30) for i in range(MAX_SPENDINGS + 1)]
        await books.post(exchange(*map(spent_coin, serials[:-1]), on="first"))
        assert len(await books.spendings(VALUES[8], "")) == MAX_SPENDINGS
        await books.post(exchange(spent_coin(serials[-1]), on="second"))
        with pytest.raises(TooMany):
            await books.spendings(VALUES[8], "")
        assert len(await books.spendings(VALUES[8], "000")) == 16

    # ------------------------------------------------------------ redemptions

    async def test_coins_are_redeemed_into_the_account_less_commission(self, books: Books, shop: int) -> None:
        alice = await _alice(books)
        balance = await books.balance(alice)
        assert refusal_of(await books.post(redemption(alice, coin("a"), coin("b")))) == "Posted"
        assert await books.balance(alice) == balance + 15
        outcome = await books.post(redemption(alice, coin("b"), on="again"))
        assert outcome == Conflict(Refusal.ALREADY_SPENT, (Evidence(VALUES[8], h("b"), h("r"), h("b") * 2),))
        assert not await faults(books)

    async def test_nobody_redeems_more_than_was_withdrawn(self, books: Books, shop: int) -> None:
        assert await books.post(redemption(shop, coin("a"))) == Conflict(Refusal.REDEMPTION_CAPPED)
        assert await books.balance(shop) == 0
        await books.credit(shop, 100, "for the shop")
        await books.post(withdrawal(shop, "u", "v"))
        assert refusal_of(await books.post(redemption(shop, coin("a"), coin("b")))) == "Posted"
        assert await books.post(redemption(shop, coin("c", 2), on="s")) == Conflict(Refusal.REDEMPTION_CAPPED)
        assert refusal_of(await books.post(deposit(shop, "p", coin("c")))) == "Posted"
        assert not await faults(books)

    async def test_redemptions_at_once_cannot_exceed_the_cap_together(self, books: Books, shop: int) -> None:
        await books.credit(shop, 100, "for the shop")
        await books.post(withdrawal(shop, "u", "v", commission=0))
        redeemed = [redemption(shop, coin(f"c{i}"), on=f"r{i}") for i in range(10)]
        outcomes = await asyncio.gather(*map(books.post, redeemed))
        assert list(map(refusal_of, outcomes)) == ["Posted"] * 2 + [Refusal.REDEMPTION_CAPPED] * 8
        assert await books.balance(shop) == 100 - 2 * 8 + 2 * 7
        assert not await faults(books)

    async def test_revoked_coins_are_redeemed_against_what_was_withdrawn_before_the_revocation(
        self, books: Books, clock: ManualClock, shop: int
    ) -> None:
        capped = Conflict(Refusal.REDEMPTION_CAPPED)
        await books.credit(shop, 100, "for the shop")
        await books.post(withdrawal(shop, "u", "v"))
        clock.now += 1
        before = clock.now
        await books.post(withdrawal(shop, "w", "x", "y"))
        three = [coin("a"), coin("b"), coin("c")]
        assert await books.post(redemption(shop, *three, revoked=24, before=before)) == capped
        assert refusal_of(await books.post(redemption(shop, *three[:2], revoked=8, before=before))) == "Posted"
        assert await books.post(redemption(shop, coin("c"), on="s", revoked=8, before=before)) == capped
        assert refusal_of(await books.post(redemption(shop, coin("c"), on="s"))) == "Posted"
        assert not await faults(books)

    async def test_withdrawals_after_the_revocation_do_not_raise_the_cap_of_revoked_coins(
        self, books: Books, clock: ManualClock, shop: int
    ) -> None:
        await books.credit(shop, 100, "for the shop")
        for turn in range(5):
            await books.post(withdrawal(shop, f"good {turn}"))
            forged = redemption(shop, coin(f"forged {turn}"), on=f"turn {turn}", revoked=8, before=clock.now)
            assert await books.post(forged) == Conflict(Refusal.REDEMPTION_CAPPED)
        assert await books.balance(shop) == 100 - 5 * 9
        assert not await faults(books)

    async def test_a_withdrawal_is_of_a_request_and_an_amount(self, books: Books) -> None:
        number = (await rich_client(books)).number
        with pytest.raises(OurError):
            await books.post(withdrawal(number))
