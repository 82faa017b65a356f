"""The desk `payout`, asked by hand."""

import asyncio

import pytest

from agents.bank.store import DestinationRow
from protocol.messages import AccountRequest
from protocol.payout import PayoutAnswer, PayoutRequest, PayoutStatus
from protocol.refusals import Refusal
from tests.agents.byhand import Caller
from tests.simulation.clock import VirtualClock
from tests.world import alter

DESTINATION = DestinationRow("021000021", "12-345A", "checking", "The Bookshop")


@pytest.fixture
async def rich(keeper: Caller) -> Caller:
    """The keeper, with 100 in its account and a destination."""
    town = keeper.town
    await town.books.credit(town.shop_number, 100, "takings")
    await town.books.set_destination(town.shop_number, DESTINATION)
    return keeper


async def ask(caller: Caller, amount: int, commission: int = 0) -> PayoutAnswer:
    return PayoutAnswer.decode((await caller.ask("payout", PayoutRequest(amount, commission))).check())


async def test_a_payout_is_debited_at_once_and_listed_then(rich: Caller, clock: VirtualClock) -> None:
    answer = await ask(rich, 60)
    assert answer == PayoutAnswer(40, (PayoutStatus(0, 60, 0, "queued", "", clock.now()),))
    looked = await ask(rich, 0)
    assert looked.balance == 40
    assert [(one.amount, one.state) for one in looked.payouts] == [(60, "queued")]
    assert looked.payouts[0].number > 0
    assert await rich.town.books.balance(rich.town.shop_number) == 40
    assert await rich.town.faults() == []


async def test_payouts_are_listed_with_the_newest_first_and_what_became_of_them(rich: Caller) -> None:
    books = rich.town.books
    await ask(rich, 10)
    await ask(rich, 20)
    assert await books.export_payouts(lambda *_: b"file") == (1, b"file")
    second, first = (one.number for one in (await ask(rich, 0)).payouts)
    assert await books.settle_payout(first, 10)
    assert await books.return_payout(second, 20, "R02 Account closed")
    looked = await ask(rich, 0)
    assert looked.balance == 90
    assert [(one.number, one.amount, one.state, one.reason) for one in looked.payouts] == [
        (second, 20, "returned", "R02 Account closed"),
        (first, 10, "settled", ""),
    ]


async def test_the_same_request_is_paid_once(rich: Caller) -> None:
    asking = rich.seal("payout", PayoutRequest(60, 0))
    answers = set(await asyncio.gather(*(rich.send(asking) for _ in range(3))))
    assert len(answers) == 1
    assert (await ask(rich, 0)).balance == 40


async def test_to_look_shows_the_present_and_not_what_was_answered_before(rich: Caller) -> None:
    look = rich.seal("payout", PayoutRequest(0, 0))
    before = PayoutAnswer.decode(rich.open(look, await rich.send(look)).check())
    await ask(rich, 60)
    after = PayoutAnswer.decode(rich.open(look, await rich.send(look)).check())
    assert (before.balance, after.balance) == (100, 40)


async def test_payouts_at_once_never_take_more_than_there_is(rich: Caller) -> None:
    refusals = await asyncio.gather(*(rich.refusal("payout", PayoutRequest(40, 0)) for _ in range(5)))
    assert sorted(refusals) == ["", ""] + [Refusal.INSUFFICIENT_FUNDS] * 3
    assert await rich.town.faults() == []


async def test_a_payout_needs_a_destination_money_and_the_commission_as_announced(keeper: Caller) -> None:
    town = keeper.town
    await town.books.credit(town.shop_number, 100, "takings")
    assert await keeper.refusal("payout", PayoutRequest(1, 0)) == Refusal.NO_DESTINATION
    assert await keeper.refusal("payout", PayoutRequest(1, 1)) == Refusal.COMMISSION_CHANGED
    assert await keeper.refusal("payout", PayoutRequest(101, 0)) == Refusal.INSUFFICIENT_FUNDS
    assert (await ask(keeper, 0)).payouts == ()


async def test_only_merchants_are_paid_out_under_their_signature(rich: Caller, alice: Caller) -> None:
    assert await alice.refusal("payout", PayoutRequest(1, 0)) == Refusal.WRONG_MERCHANT
    assert await alice.refusal("payout", PayoutRequest(0, 0)) == Refusal.WRONG_MERCHANT
    nobody = Caller(rich.town, "nobody")
    assert await nobody.refusal("payout", PayoutRequest(0, 0)) == Refusal.BAD_SIGNATURE
    stranger = Caller(rich.town, "eve", bytes(32))
    assert await stranger.refusal("payout", PayoutRequest(0, 0)) == Refusal.UNKNOWN_ACCOUNT


async def test_a_payout_is_not_made_after_its_deadline(rich: Caller, clock: VirtualClock) -> None:
    asking = rich.seal("payout", PayoutRequest(60, 0), deadline=clock.now() + 1)
    clock.advance(1)
    assert rich.open(asking, await rich.send(asking)).refusal == Refusal.REQUEST_EXPIRED
    assert (await ask(rich, 0)).balance == 100


async def test_another_device_of_the_merchant_is_paid_out_too(rich: Caller) -> None:
    answer = await rich.ask("account", AccountRequest(b"", 1))
    assert answer.refusal == ""
    assert (await ask(rich, 60)).balance == 40


async def test_what_is_no_request_is_malformed(rich: Caller) -> None:
    assert await rich.refusal("payout", alter(PayoutRequest(1, 0), "amount", 10**10)) == Refusal.MALFORMED
