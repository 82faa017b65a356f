"""Refunds at the bank's desk: the merchant pays, the buyer stays unknown."""

import asyncio
from typing import NamedTuple

import msgspec
import pytest

from protocol.answer import Answer, open_answer
from protocol.codec import Message
from protocol.commission import parse_commission
from protocol.envelope import EnvelopePrivateKey, Suite, request_hash
from protocol.exchange import TICKET, Issue, RefundOrder, RefundOrderAnswer, Ticket
from protocol.keyset import KeyRing
from protocol.refusals import Refusal
from protocol.wallet.outputs import blind_outputs, unblind_outputs
from tests.agents.byhand import Asking, Caller, Purse
from tests.agents.world import Town
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.world import alter, altered, seed


@pytest.fixture
def buyer(founded: Town) -> Caller:
    """Somebody who has no account and signs nothing."""
    return Caller(founded, "buyer")


@pytest.fixture
async def shop(keeper: Caller) -> Caller:
    """The merchant, with 50 in its account."""
    await keeper.town.books.credit(keeper.town.shop_number, 50, "takings")
    return keeper


def ticket_of(buyer: Caller, name: str, *values: int, deadline: int = 0) -> Asking:
    """Write a ticket with an id of this name for coins of these values."""
    request_id = seed(name)[:16]
    ids = buyer.town.ring.current("USD", buyer.town.clock.now())
    outputs = blind_outputs(buyer.root, buyer.town.ring, request_id, [ids[value] for value in values])
    return buyer.seal(TICKET, Ticket(outputs), request_id=request_id, deadline=deadline)


class Paid(NamedTuple):
    """What a merchant is answered, and the answer for the buyer."""

    answer: Answer
    issue: bytes


async def pay(shop: Caller, ticket: bytes, amount: int, *, commission: int = 0, **parts: int) -> Paid:
    answer = await shop.ask("refund", RefundOrder(amount, commission, ticket), **parts)
    return Paid(answer, b"" if answer.refusal else RefundOrderAnswer.decode(answer.body).issue)


async def refusal(shop: Caller, ticket: bytes, amount: int, *, commission: int = 0, **parts: int) -> str:
    return (await pay(shop, ticket, amount, commission=commission, **parts)).answer.refusal


def coins_of(buyer: Caller, ticket: Asking, issue: bytes) -> Purse:
    """Open the answer to a ticket, as its writer alone can."""
    answer = open_answer(buyer.town.keyset.identity, ticket.answer_key, request_hash(ticket.envelope), issue)
    issued = Issue.decode(answer.check()).coins
    denominations = [one.denomination for one in issued]
    found, wrong = unblind_outputs(buyer.root, buyer.town.ring, ticket.request_id, denominations, issued)
    assert wrong == ""
    return Purse(tuple(coin for _, coin in found), tuple(buyer.root.coin(ticket.request_id, i) for i, _ in found))


async def balance(shop: Caller) -> int:
    return await shop.town.books.balance(shop.town.shop_number)


# ---------------------------------------------------------------- what is granted


async def test_a_buyer_whom_nobody_knows_gets_coins_and_the_merchant_pays(shop: Caller, buyer: Caller) -> None:
    ticket = ticket_of(buyer, "mine", 8, 4, 1)
    paid = await pay(shop, ticket.envelope, 13)
    coins = coins_of(buyer, ticket, paid.issue)
    assert await balance(shop) == 50 - 13
    assert (await shop.verdict(shop.paying(13, coins))).refusal == ""
    assert await shop.town.faults() == []


async def test_the_merchant_pays_the_commission_on_top(founded: Town, shop: Caller, buyer: Caller) -> None:
    tariff = alter(founded.keyset.tariff, "refund", parse_commission("0.02", "USD"))
    founded.bank._desk.ring = KeyRing(msgspec.structs.replace(founded.keyset, tariff=tariff))
    ticket = ticket_of(buyer, "dear", 8)
    for wrong in (0, 1, 3):
        assert await refusal(shop, ticket.envelope, 8, commission=wrong) == Refusal.COMMISSION_CHANGED
    assert await refusal(shop, ticket.envelope, 8, commission=2) == ""
    assert await balance(shop) == 50 - 8 - 2
    assert await founded.faults() == []


async def test_the_answer_to_the_ticket_lies_in_the_books_for_the_buyer_to_fetch(
    founded: Town, shop: Caller, buyer: Caller
) -> None:
    ticket = ticket_of(buyer, "lost", 8)
    paid = await pay(shop, ticket.envelope, 8)
    await founded.stop_bank()
    await founded.open_books()
    row = await founded.books.fetch(ticket.request_id)
    assert row is not None
    assert (row.answer, row.request_hash) == (paid.issue, request_hash(ticket.envelope))


async def test_the_same_order_has_the_same_answer_byte_for_byte_even_after_a_restart(
    founded: Town, clock: VirtualClock, shop: Caller, buyer: Caller
) -> None:
    asking = shop.seal("refund", RefundOrder(8, 0, ticket_of(buyer, "again", 8).envelope))
    answers = set(await asyncio.gather(*(shop.send(asking) for _ in range(5))))
    clock.advance(400 * 24 * HOUR_MS)
    await founded.stop_bank()
    await founded.open_books()
    answers.add(await shop.send(asking))
    assert len(answers) == 1
    assert await balance(shop) == 50 - 8
    assert await founded.faults() == []


async def test_a_ticket_is_paid_for_once(shop: Caller, buyer: Caller) -> None:
    ticket = ticket_of(buyer, "once", 8)
    told = await asyncio.gather(*(refusal(shop, ticket.envelope, 8) for _ in range(4)))
    assert sorted(told) == ["", *[Refusal.BLINDED_VALUE_REUSED] * 3]
    assert await balance(shop) == 50 - 8
    assert await shop.town.faults() == []


async def test_two_tickets_with_one_id_are_not_both_paid_for(shop: Caller, buyer: Caller) -> None:
    first, second = ticket_of(buyer, "one id", 8), ticket_of(Caller(shop.town, "other"), "one id", 8)
    assert await refusal(shop, first.envelope, 8) == ""
    assert await refusal(shop, second.envelope, 8) == Refusal.REQUEST_ID_REUSED
    assert await balance(shop) == 50 - 8


# ---------------------------------------------------------------- what is refused


class Unread(Message, frozen=True):
    """No ticket."""

    nothing: bytes


async def test_what_is_no_anonymous_ticket_for_this_bank_is_bad(founded: Town, shop: Caller, buyer: Caller) -> None:
    good = ticket_of(buyer, "good", 8)
    ids = founded.ring.current("USD", founded.clock.now())
    body = Ticket(blind_outputs(buyer.root, founded.ring, bytes(16), [ids[8]]))
    elsewhere = EnvelopePrivateKey(Suite.X25519, seed("another bank")).public
    bad = {
        "nothing": b"",
        "short": b"\1\2",
        "zeros": bytes(2000),
        "altered": altered(good.envelope),
        "for another bank": buyer.seal(TICKET, body, to=elsewhere).envelope,
        "another kind": buyer.seal("exchange", body).envelope,
        "signed": shop.seal(TICKET, body).envelope,
        "no ticket": buyer.seal(TICKET, Unread(b"")).envelope,
        "no coins": buyer.seal(TICKET, Ticket(())).envelope,
        "too many coins": ticket_of(buyer, "many", *[1] * 13).envelope,
    }
    told = {name: await refusal(shop, ticket, 13 if name == "too many coins" else 8) for name, ticket in bad.items()}
    assert told == dict.fromkeys(bad, Refusal.BAD_TICKET)
    assert await refusal(shop, good.envelope, 8) == ""


async def test_a_ticket_under_the_orders_own_id_is_refused(shop: Caller, buyer: Caller) -> None:
    ticket = ticket_of(buyer, "twin", 8)
    order = RefundOrder(8, 0, ticket.envelope)
    assert await shop.refusal("refund", order, request_id=ticket.request_id) == Refusal.BAD_TICKET
    assert await balance(shop) == 50


async def test_a_ticket_is_worth_exactly_what_is_paid(shop: Caller, buyer: Caller) -> None:
    for values in ((8,), (8, 2), (4, 4, 1, 1)):
        assert await refusal(shop, ticket_of(buyer, str(values), *values).envelope, 9) == Refusal.AMOUNT_MISMATCH
    assert await refusal(shop, ticket_of(buyer, "right", 8, 1).envelope, 9) == ""


async def test_only_a_merchant_refunds(alice: Caller, shop: Caller, buyer: Caller) -> None:
    ticket = ticket_of(buyer, "whose", 8).envelope
    assert await refusal(alice, ticket, 8) == Refusal.WRONG_MERCHANT
    assert await refusal(Caller(shop.town, "stranger", seed("stranger")), ticket, 8) == Refusal.UNKNOWN_ACCOUNT
    assert await refusal(buyer, ticket, 8) == Refusal.BAD_SIGNATURE
    assert await refusal(shop, ticket, 8) == ""


async def test_a_merchant_refunds_what_it_has_and_no_more(shop: Caller, buyer: Caller) -> None:
    assert await refusal(shop, ticket_of(buyer, "much", 16, 16, 16, 2, 1).envelope, 51) == Refusal.INSUFFICIENT_FUNDS
    assert await refusal(shop, ticket_of(buyer, "all", 16, 16, 16, 2).envelope, 50) == ""
    assert await balance(shop) == 0


async def test_of_orders_that_together_exceed_the_account_only_some_are_served(shop: Caller, buyer: Caller) -> None:
    tickets = [ticket_of(buyer, f"race {number}", 16).envelope for number in range(5)]
    told = await asyncio.gather(*(refusal(shop, ticket, 16) for ticket in tickets))
    assert sorted(told) == [""] * 3 + [Refusal.INSUFFICIENT_FUNDS] * 2
    assert await balance(shop) == 50 - 48
    assert await shop.town.faults() == []


async def test_neither_order_nor_ticket_is_served_after_its_deadline(
    clock: VirtualClock, shop: Caller, buyer: Caller
) -> None:
    soon, later = clock.now() + HOUR_MS, clock.now() + 2 * HOUR_MS
    clock.advance(HOUR_MS)
    stale, fresh = ticket_of(buyer, "stale", 8, deadline=soon), ticket_of(buyer, "fresh", 8, deadline=later)
    assert await refusal(shop, stale.envelope, 8, deadline=later) == Refusal.REQUEST_EXPIRED
    assert await refusal(shop, fresh.envelope, 8, deadline=soon) == Refusal.REQUEST_EXPIRED
    assert await refusal(shop, fresh.envelope, 8, deadline=later) == ""


async def test_a_refused_order_stays_refused_and_the_ticket_can_be_served_by_another(
    founded: Town, shop: Caller, buyer: Caller
) -> None:
    ticket = ticket_of(buyer, "short of money", 16, 16, 16, 8).envelope
    asking = shop.seal("refund", RefundOrder(56, 0, ticket))
    sent = await shop.send(asking)
    assert shop.open(asking, sent).refusal == Refusal.INSUFFICIENT_FUNDS
    await founded.books.credit(founded.shop_number, 10, "more takings")
    assert await shop.send(asking) == sent
    assert await refusal(shop, ticket, 56) == ""


async def test_a_revoked_key_signs_nothing_for_a_ticket(founded: Town, shop: Caller, buyer: Caller) -> None:
    ticket = ticket_of(buyer, "revoked", 8)
    ids = founded.ring.current("USD", founded.clock.now())
    founded.bank._desk.ring = KeyRing(msgspec.structs.replace(founded.keyset, revoked=(ids[8],)))
    assert await refusal(shop, ticket.envelope, 8) == Refusal.KEY_REVOKED


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x90", b"\x93\x00\x00\xc0"])
async def test_what_is_no_order_is_malformed(shop: Caller, body: bytes) -> None:
    assert await shop.refusal("refund", body) == Refusal.MALFORMED
