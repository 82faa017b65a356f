"""What every implementation of the `Books` port must do with postings and inquiries.

A test module makes a subclass whose name starts with `Test` and gives it the fixture `open_books`, which opens books
on the clock `clock`: the same ones each time, empty at first. So it does with `AccountsConformance`.
"""

import asyncio
import itertools
from typing import Any

import pytest

from agents.bank.store import Books, BooksUnavailable, MintedRow
from protocol.bank.ledger import (
    Claim,
    Conflict,
    Entry,
    Generation,
    PayoutOrder,
    Posted,
    Posting,
    Redemption,
    Repeated,
    Reply,
    Withdrawal,
    coins_ledger,
)
from protocol.coins import Evidence
from protocol.errors import OurError
from protocol.refusals import Refusal
from tests.conformance.bookkeeping import (
    VALUES,
    BooksFixtures,
    ManualClock,
    OpenBooks,
    coin,
    deposit,
    exchange,
    faults,
    h,
    payment,
    refusal_of,
    request,
    rich_client,
    withdrawal,
)


class BooksConformance(BooksFixtures):
    # ------------------------------------------------------------ requests

    async def test_a_posting_is_answered_once_and_repeated_byte_for_byte(self, books: Books) -> None:
        assert await books.post(request(name="a", answer=b"the answer")) == Posted(b"the answer")
        assert await books.post(request(name="a", answer=b"sealed again")) == Repeated(b"the answer")
        assert await books.stored_answer(h("a")[:16], h("a")) == Repeated(b"the answer")

    async def test_an_id_with_another_body_is_refused(self, books: Books) -> None:
        await books.post(request(name="a"))
        other = request(name="a", request_hash=h("b"))
        assert await books.post(other) == Conflict(Refusal.REQUEST_ID_REUSED)
        assert await books.stored_answer(other.request_id, other.request_hash) == Conflict(Refusal.REQUEST_ID_REUSED)

    async def test_an_unknown_request_has_no_stored_answer(self, books: Books) -> None:
        assert await books.stored_answer(bytes(16), bytes(32)) is None

    async def test_the_same_request_many_times_at_once_is_posted_once(self, books: Books) -> None:
        outcomes = await asyncio.gather(*(books.post(request(name="a")) for _ in range(100)))
        assert sorted(map(refusal_of, outcomes)) == ["Posted"] + ["Repeated"] * 99
        assert {outcome.answer for outcome in outcomes if not isinstance(outcome, Conflict)} == {b"a"}

    async def test_different_requests_under_one_id_at_once_leave_one(self, books: Books) -> None:
        postings = [request(name="a", request_hash=h(str(i)), answer=b"%d" % i) for i in range(100)]
        outcomes = await asyncio.gather(*map(books.post, postings))
        assert sorted(map(refusal_of, outcomes)) == ["Posted"] + [Refusal.REQUEST_ID_REUSED] * 99

    @pytest.mark.parametrize(("late", "outcome"), [(-1, "Posted"), (0, Refusal.REQUEST_EXPIRED)])
    async def test_a_posting_comes_before_its_deadline_or_not_at_all(
        self, books: Books, clock: ManualClock, late: int, outcome: str
    ) -> None:
        assert refusal_of(await books.post(request(not_after=clock.now - late))) == outcome

    async def test_a_repeated_request_is_answered_after_its_deadline(self, books: Books, clock: ManualClock) -> None:
        await books.post(request(name="a", not_after=clock.now + 1))
        clock.now += 2
        assert await books.post(request(name="a", not_after=clock.now - 1)) == Repeated(b"a")

    async def test_a_late_deposit_has_expired(self, books: Books, clock: ManualClock, shop: int) -> None:
        late = deposit(shop, "p", coin("a"), not_after=clock.now)
        assert await books.post(late) == Conflict(Refusal.PAYMENT_EXPIRED)
        assert await books.stored_answer(late.request_id, late.request_hash) is None

    async def test_time_in_the_books_never_runs_back(self, books: Books, clock: ManualClock, shop: int) -> None:
        deadline = clock.now
        assert await books.inquiry(h("p"), VALUES[8], h("a")) == (None, b"", deadline)
        clock.now -= 5000
        outcome = await books.post(deposit(shop, "p", coin("a"), not_after=deadline))
        assert outcome == Conflict(Refusal.PAYMENT_EXPIRED)

    @pytest.mark.parametrize(
        "posting",
        [
            request(entries=(Entry("commission/EUR", 5),)),
            request(entries=(Entry("commission/EUR", 5), Entry("cash/EUR", -4))),
            request(spent=(coin("a"),)),
            request(reply=Reply(h("itself")[:16], h("another"), b""), name="itself"),
            request(generation=Generation(9999, 0)),
            request(withdrawal=Withdrawal(9999, 8)),
            request(redemption=Redemption(9999, 8)),
            request(payout=PayoutOrder(9999, 8, 0)),
            request(issued=((VALUES[8], h("a")), (VALUES[8], h("a")))),
            request(payment=payment(9999, "p", 8)),
            request(entries=(Entry("commission/EUR", 2**70), Entry("cash/EUR", -(2**70)))),
            request(request_hash=b"short"),
        ],
        ids=[
            *("one-sided", "unbalanced", "spent on nothing", "answered twice", "nobody's generation"),
            *("nobody's withdrawal", "nobody's redemption", "nobody's payout"),
            *("issued twice", "no such account", "too large", "size"),
        ],
    )
    async def test_a_posting_that_contradicts_itself_is_the_callers_fault(self, books: Books, posting: Posting) -> None:
        good = request()
        bad, outcome = await asyncio.gather(books.post(posting), books.post(good), return_exceptions=True)
        assert isinstance(bad, OurError)
        assert outcome == Posted(good.answer)
        assert await books.stored_answer(posting.request_id, posting.request_hash) is None
        assert not await faults(books)

    async def test_the_same_coin_twice_in_one_deposit_is_the_callers_fault(self, books: Books, shop: int) -> None:
        with pytest.raises(OurError):
            await books.post(deposit(shop, "p", coin("a"), coin("a")))
        assert await books.balance(shop) == 0

    async def test_what_was_told_is_there_when_the_books_are_opened_again(self, open_books: OpenBooks) -> None:
        async with open_books() as books:
            client = await rich_client(books)
            await books.post(withdrawal(client.number, "a", name="w"))
            before = await books.snapshot()
        async with open_books() as books:
            assert await books.stored_answer(h("w")[:16], h("w")) == Repeated(b"w")
            assert await books.balance(client.number) == 91
            assert await books.snapshot() == before

    async def test_closed_books_are_unavailable(self, open_books: OpenBooks) -> None:
        async with open_books() as books:
            waiting = asyncio.ensure_future(books.post(request(name="a")))
            await asyncio.sleep(0)
        assert await waiting == Posted(b"a")
        await books.close()
        with pytest.raises(BooksUnavailable):
            await books.post(request())
        with pytest.raises(BooksUnavailable):
            await books.accounts()
        with pytest.raises(BooksUnavailable):
            await books.snapshot()

    async def test_a_cancelled_posting_does_not_disturb_the_others(self, books: Books) -> None:
        cancelled = asyncio.ensure_future(books.post(request()))
        other = asyncio.ensure_future(books.post(request(name="b")))
        await asyncio.sleep(0)
        cancelled.cancel()
        assert await other == Posted(b"b")

    # ------------------------------------------------------------ deposits

    async def test_a_deposit_credits_the_account_less_commission(self, books: Books, shop: int) -> None:
        assert refusal_of(await books.post(deposit(shop, "p", coin("a"), coin("b")))) == "Posted"
        assert await books.balance(shop) == 15
        assert not await faults(books)

    async def test_a_payment_has_one_verdict(self, books: Books, shop: int) -> None:
        first = deposit(shop, "p", coin("a"))
        await books.post(first)
        assert first.payment is not None
        for second in (deposit(shop, "p", coin("b")), request(payment=payment(shop, "p", 8, Refusal.BAD_COIN))):
            assert await books.post(second) == Conflict("", verdict=first.payment.verdict)
        assert await books.balance(shop) == 7

    async def test_a_refused_payment_stays_refused(self, books: Books, shop: int) -> None:
        refused = payment(shop, "p", 8, Refusal.BAD_COIN)
        await books.post(request(payment=refused))
        assert await books.post(deposit(shop, "p", coin("a"))) == Conflict("", verdict=refused.verdict)
        assert not await faults(books)

    async def test_a_sale_is_paid_once(self, books: Books, shop: int) -> None:
        await books.post(deposit(shop, "p", coin("a"), payment_id="sale"))
        assert await books.post(deposit(shop, "q", coin("b"), payment_id="sale")) == Conflict(Refusal.ALREADY_PAID)
        refused = payment(shop, "q", 8, Refusal.ALREADY_PAID, payment_id="sale")
        assert refusal_of(await books.post(request(payment=refused))) == "Posted"

    async def test_a_sale_that_was_refused_can_be_paid_with_other_coins(self, books: Books, shop: int) -> None:
        await books.post(request(payment=payment(shop, "p", 8, Refusal.BAD_COIN, payment_id="sale")))
        assert refusal_of(await books.post(deposit(shop, "q", coin("b"), payment_id="sale"))) == "Posted"

    async def test_a_refused_payment_of_a_sale_does_not_hide_that_a_coin_is_spent(
        self, books: Books, shop: int
    ) -> None:
        await books.post(deposit(shop, "p", coin("a")))
        await books.post(request(payment=payment(shop, "q", 8, Refusal.BAD_COIN, payment_id="sale")))
        outcome = await books.post(deposit(shop, "r", coin("a"), payment_id="sale"))
        assert refusal_of(outcome) == Refusal.ALREADY_SPENT

    async def test_spent_coins_are_refused_with_all_evidence(self, books: Books, shop: int) -> None:
        a, b, c, d = map(coin, "abcd")
        await books.post(deposit(shop, "p", a, b))
        await books.post(deposit(shop, "q", c))
        outcome = await books.post(deposit(shop, "r", d, c, a))
        exhibits = (Evidence(VALUES[8], c.serial, h("q"), c.spend), Evidence(VALUES[8], a.serial, h("p"), a.spend))
        assert outcome == Conflict(Refusal.ALREADY_SPENT, evidence=exhibits)
        assert refusal_of(await books.post(deposit(shop, "s", d))) == "Posted"
        assert not await faults(books)

    async def test_of_many_coins_the_spent_ones_are_told_with_evidence_in_their_order(
        self, books: Books, shop: int
    ) -> None:
        a, c = coin("a"), coin("c")
        await books.post(deposit(shop, "p", a))
        await books.post(deposit(shop, "q", c))
        asked = [(VALUES[8], h(name)) for name in "dcba"]
        exhibits = (Evidence(VALUES[8], c.serial, h("q"), c.spend), Evidence(VALUES[8], a.serial, h("p"), a.spend))
        assert await books.spent(asked) == exhibits
        assert await books.spent([(VALUES[2], h("a")), (VALUES[8], h("b"))]) == ()
        assert await books.spent([]) == ()

    async def test_one_serial_under_two_denominations_is_two_coins(self, books: Books, shop: int) -> None:
        client = await books.account_by_key(h("alice's key"))
        assert client is not None
        await books.post(withdrawal(client.number, "a two", value=2))
        assert refusal_of(await books.post(deposit(shop, "p", coin("a", 8), coin("a", 2)))) == "Posted"
        assert not await faults(books)

    async def test_of_many_deposits_of_one_coin_at_once_exactly_one_is_accepted(self, books: Books, shop: int) -> None:
        outcomes = await asyncio.gather(*(books.post(deposit(shop, f"p{i}", coin("a"))) for i in range(200)))
        assert sorted(map(refusal_of, outcomes)) == ["Posted"] + [Refusal.ALREADY_SPENT] * 199
        winner = next(i for i, outcome in enumerate(outcomes) if isinstance(outcome, Posted))
        exhibits = {outcome.evidence for outcome in outcomes if isinstance(outcome, Conflict)}
        assert exhibits == {(Evidence(VALUES[8], h("a"), h(f"p{winner}"), h("a") * 2),)}
        assert await books.balance(shop) == 7
        assert not await faults(books)

    async def test_no_list_of_overlapping_lists_is_half_spent(self, books: Books, shop: int) -> None:
        lists = list(itertools.combinations("abcdef", 3))
        outcomes = await asyncio.gather(
            *(books.post(deposit(shop, f"p{''.join(names)}", *map(coin, names))) for names in lists)
        )
        spent = [names for names, outcome in zip(lists, outcomes, strict=True) if isinstance(outcome, Posted)]
        assert spent == [("a", "b", "c"), ("d", "e", "f")]
        assert await books.balance(shop) == 2 * 23
        assert not await faults(books)

    async def test_two_deposits_of_one_sale_at_once_leave_one(self, books: Books, shop: int) -> None:
        postings = [deposit(shop, f"p{i}", coin(f"c{i}"), payment_id="sale") for i in range(10)]
        outcomes = await asyncio.gather(*map(books.post, postings))
        assert sorted(map(refusal_of, outcomes)) == ["Posted"] + [Refusal.ALREADY_PAID] * 9
        assert not await faults(books)

    # ------------------------------------------------------------ forged coins

    async def test_no_more_coins_of_a_denomination_come_back_than_were_signed(self, books: Books, shop: int) -> None:
        names = [f"genuine or not {i}" for i in range(19)]
        assert refusal_of(await books.post(deposit(shop, "p", *map(coin, names)))) == "Posted"
        overdrawn = Conflict(Refusal.KEY_OVERDRAWN, overdrawn=VALUES[8])
        assert await books.post(deposit(shop, "q", coin("a"), coin("b"))) == overdrawn
        assert await books.post(exchange(coin("a"), coin("b"), into=("u",))) == overdrawn
        assert refusal_of(await books.post(deposit(shop, "q", coin("a")))) == "Posted"
        assert await books.post(deposit(shop, "r", coin("c"))) == overdrawn
        assert await books.balance(shop) == 20 * 8 - 2
        assert not await faults(books)

    async def test_a_coin_that_was_never_signed_pays_nothing_beside_good_ones(self, books: Books, shop: int) -> None:
        outcome = await books.post(deposit(shop, "p", coin("a"), coin("b", 2)))
        assert outcome == Conflict(Refusal.KEY_OVERDRAWN, overdrawn=VALUES[2])
        assert await books.balance(shop) == 0
        assert not await faults(books)

    async def test_deposits_at_once_cannot_overdraw_a_key_together(self, books: Books, shop: int) -> None:
        outcomes = await asyncio.gather(*(books.post(deposit(shop, f"p{i}", coin(f"c{i}"))) for i in range(50)))
        assert sorted(map(refusal_of, outcomes)) == ["Posted"] * 20 + [Refusal.KEY_OVERDRAWN] * 30
        assert not await faults(books)

    # ------------------------------------------------------------ inquiries

    async def test_an_inquiry_finds_the_verdict_and_what_the_coin_was_spent_on(
        self, books: Books, clock: ManualClock, shop: int
    ) -> None:
        paid = deposit(shop, "p", coin("a"))
        refused = payment(shop, "q", 8, Refusal.BAD_COIN)
        await books.post(paid)
        await books.post(request(payment=refused))
        assert await books.inquiry(h("p"), VALUES[8], h("a")) == (paid.payment, h("p"), clock.now)
        assert await books.inquiry(h("q"), VALUES[8], h("a")) == (refused, h("p"), clock.now)
        assert await books.inquiry(h("r"), VALUES[2], h("a")) == (None, b"", clock.now)

    async def test_an_inquiry_sees_every_deposit_that_was_asked_for_before(
        self, books: Books, clock: ManualClock, shop: int
    ) -> None:
        for i in range(20):
            paid = deposit(shop, f"p{i}", coin(f"c{i}"), not_after=clock.now + 1)
            posted = asyncio.ensure_future(books.post(paid))
            await asyncio.sleep(0)
            assert (await books.inquiry(h(f"p{i}"), VALUES[8], h(f"c{i}")))[:2] == (paid.payment, h(f"p{i}"))
            assert posted.done()

    # ------------------------------------------------------------ withdrawals

    async def test_a_withdrawal_debits_the_account_with_commission(self, books: Books) -> None:
        client = await rich_client(books, 17)
        assert refusal_of(await books.post(withdrawal(client.number, "a", "b"))) == "Posted"
        assert await books.balance(client.number) == 0
        assert not await faults(books)

    async def test_a_withdrawal_of_more_than_the_balance_changes_nothing(self, books: Books) -> None:
        client = await rich_client(books, 16)
        assert await books.post(withdrawal(client.number, "a", "b")) == Conflict(Refusal.INSUFFICIENT_FUNDS)
        assert await books.balance(client.number) == 16
        assert refusal_of(await books.post(withdrawal(client.number, "a"))) == "Posted"

    async def test_a_blinded_value_is_signed_once(self, books: Books) -> None:
        client = await rich_client(books)
        await books.post(withdrawal(client.number, "a"))
        again = withdrawal(client.number, "b", "a")
        assert await books.post(again) == Conflict(Refusal.BLINDED_VALUE_REUSED)
        assert await books.balance(client.number) == 91
        assert not await faults(books)

    async def test_withdrawals_at_once_cannot_exceed_the_balance_together(self, books: Books) -> None:
        client = await rich_client(books, 9 * 7 + 8)
        outcomes = await asyncio.gather(*(books.post(withdrawal(client.number, f"w{i}")) for i in range(50)))
        assert sorted(map(refusal_of, outcomes)) == ["Posted"] * 7 + [Refusal.INSUFFICIENT_FUNDS] * 43
        assert await books.balance(client.number) == 8
        assert not await faults(books)

    async def test_an_account_with_thousands_of_entries_keeps_its_balance(self, books: Books, shop: int) -> None:
        client = await books.account_by_key(h("alice's key"))
        assert client is not None
        balance = await books.balance(client.number)
        for reference in ("first", "second"):
            booked = (books.credit(client.number, 1, f"{reference} {i}") for i in range(1100))
            assert all(await asyncio.gather(*booked))
            balance += 1100
            assert await books.balance(client.number) == balance
            assert await books.balance(client.number) == balance
        assert [row.ledger for row in (await books.snapshot()).folded] == [f"account/{client.number}"]
        await books.post(withdrawal(client.number, "after"))
        assert await books.balance(client.number) == balance - 9
        assert not await faults(books)

    # ------------------------------------------------------------ exchanges

    async def test_an_exchange_spends_and_issues_at_once(self, books: Books, shop: int) -> None:
        assert refusal_of(await books.post(exchange(coin("a"), into=("u", "v", "w")))) == "Posted"
        again = await books.post(deposit(shop, "p", coin("a")))
        assert again == Conflict(Refusal.ALREADY_SPENT, (Evidence(VALUES[8], h("a"), h("e"), h("a") * 2),))
        assert await books.post(exchange(coin("b"), into=("x", "w"))) == Conflict(Refusal.BLINDED_VALUE_REUSED)
        assert refusal_of(await books.post(deposit(shop, "p", coin("b")))) == "Posted"
        assert not await faults(books)

    async def test_coins_are_spent_on_the_payment_of_the_posting_or_on_none(self, books: Books, shop: int) -> None:
        for bad in (
            request(spent=(coin("a"),), spent_on=h("q"), payment=payment(shop, "p", 8)),
            request(spent=(coin("a"),), spent_on=h("p"), payment=payment(shop, "p", 8, Refusal.BAD_COIN)),
        ):
            with pytest.raises(OurError, match="not spent on the posting's payment"):
                await books.post(bad)

    async def test_what_was_minted_and_spent_is_counted(self, books: Books, shop: int) -> None:
        await books.post(exchange(coin("a"), coin("b"), into=("u", "v", "w")))
        await books.post(deposit(shop, "p", coin("c")))
        journal = max(row.id for row in (await books.snapshot()).journal)
        counted = sorted([MintedRow(VALUES[8], 20, 3), MintedRow(VALUES[2], 3, 0)])
        assert await books.minted() == (journal, counted)
        assert await books.last_entry() == journal

    async def test_nothing_is_minted_in_new_books(self, books: Books) -> None:
        assert await books.minted() == (0, [])
        assert await books.last_entry() == 0

    async def test_the_business_is_what_the_books_say_at_one_moment(
        self, books: Books, clock: ManualClock, shop: int
    ) -> None:
        begun = clock.now
        clock.now += 90_000
        await books.post(exchange(coin("a"), coin("b"), into=("u", "v", "w")))
        await books.post(deposit(shop, "p", coin("c")))
        done = await books.business()
        snapshot = await books.snapshot()
        ledgers: dict[str, int] = {}
        for entry in snapshot.entries:
            ledgers[entry.ledger] = ledgers.get(entry.ledger, 0) + entry.amount
        assert (done.at, done.journal) == (clock.now, await books.last_entry())
        assert done.balances == ledgers
        assert done.currencies == {f"account/{account.number}": "EUR" for account in snapshot.accounts}
        assert {row.kind: row.amount for row in done.commissions} == {"withdraw": 1, "exchange": 10, "deposit": 1}
        assert done.begin <= begun < done.begin + done.step
        last = (done.at - done.begin) // done.step
        assert last > 0
        changes = [(row.denomination, row.step, row.minted, row.spent) for row in done.changes]
        assert changes == sorted([(VALUES[8], 0, 20, 0), (VALUES[8], last, 0, 3), (VALUES[2], last, 3, 0)])

    async def test_new_books_have_no_business(self, books: Books, clock: ManualClock) -> None:
        done = await books.business()
        assert (done.at, done.journal, done.balances, done.changes) == (clock.now, 0, {}, [])

    # ------------------------------------------------------------ the order of the refusals

    async def test_of_two_conflicts_the_first_in_the_order_is_told(
        self, books: Books, clock: ManualClock, shop: int
    ) -> None:
        invited = await books.open_account("client", "bob", "Bob", "EUR", b"", h("bob's invitation"))
        unclaimed = await books.open_account("client", "carol", "Carol", "EUR", b"", h("carol's invitation"))
        await books.post(request(claim=Claim(invited.number, h("bob's key"))))
        await books.post(request(name="known"))
        paid = deposit(shop, "p", coin("a"), payment_id="sale")
        await books.post(paid)
        assert paid.payment is not None
        order: list[tuple[Conflict, dict[str, Any]]] = [
            (Conflict(Refusal.REQUEST_ID_REUSED), {"name": "known", "request_hash": h("another")}),
            (Conflict(Refusal.REQUEST_EXPIRED), {"not_after": clock.now}),
            (Conflict(Refusal.SUPERSEDED), {"generation": Generation(shop, 1)}),
            (Conflict("", verdict=paid.payment.verdict), {"payment": paid.payment, "spent_on": h("p")}),
            (Conflict(Refusal.ALREADY_PAID), {"payment": payment(shop, "q", 8, "", "sale"), "spent_on": h("q")}),
            (
                Conflict(Refusal.ALREADY_SPENT, (Evidence(VALUES[8], h("a"), h("p"), h("a") * 2),)),
                {"spent": (coin("a"),)},
            ),
            (Conflict(Refusal.INVALID_INVITATION), {"claim": Claim(invited.number, h("alice's key"))}),
            (Conflict(Refusal.ACCOUNT_EXISTS), {"claim": Claim(unclaimed.number, h("alice's key"))}),
            (Conflict(Refusal.BLINDED_VALUE_REUSED), {"issued": ((VALUES[8], h("in circulation 1")),)}),
            (Conflict(Refusal.REQUEST_ID_REUSED), {"reply": Reply(h("known")[:16], h("known"), b"")}),
            (Conflict(Refusal.REDEMPTION_CAPPED), {"redemption": Redemption(shop, 1)}),
            (Conflict(Refusal.NO_DESTINATION), {"payout": PayoutOrder(shop, 1, 0)}),
            (
                Conflict(Refusal.KEY_OVERDRAWN, overdrawn=VALUES[2]),
                {"entries": (Entry(f"account/{shop}", -98), Entry(coins_ledger(VALUES[2]), -1), Entry("cash/EUR", 99))},
            ),
            (Conflict(Refusal.INSUFFICIENT_FUNDS), {"entries": (Entry(f"account/{shop}", -99), Entry("cash/EUR", 99))}),
        ]
        for (conflict, bad), (_, worse) in itertools.combinations_with_replacement(order, 2):
            parts = {"spent_on": h("elsewhere")} | worse | bad
            late = "payment" in parts and conflict == Conflict(Refusal.REQUEST_EXPIRED)
            expected = Conflict(Refusal.PAYMENT_EXPIRED) if late else conflict
            assert await books.post(request("deposit", **parts)) == expected, (bad, worse)
