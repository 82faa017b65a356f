"""Deposits at the bank's desk, and inquiries about them."""

import asyncio

import msgspec
import pytest

from protocol.answer import open_secret
from protocol.errors import PeerError
from protocol.messages import (
    DepositRequest,
    Exhibits,
    InquiryAnswer,
    Verdict,
)
from protocol.refusals import Refusal
from tests.agents.byhand import Caller, Purse
from tests.agents.world import BANK
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.world import alter, seed

DAY_MS = 24 * HOUR_MS


# ---------------------------------------------------------------- deposit


async def test_a_deposit_credits_the_amount_less_the_commission(keeper: Caller, purse: Purse) -> None:
    info = keeper.info(13, purse)
    verdict = await keeper.verdict(keeper.deposit(info, purse))
    assert verdict == Verdict(
        BANK, info.digest, info.payment_id, info.account, "USD", 13, "", keeper.town.clock.now(), b""
    )
    assert await keeper.town.books.balance(info.account) == 12
    assert await keeper.town.faults() == []


async def test_a_coin_spent_twice_is_refused_with_evidence_that_the_payer_alone_can_open(
    keeper: Caller, purse: Purse
) -> None:
    one = Purse(purse.coins[:1], purse.seeds[:1])
    first, second = keeper.info(8, one), keeper.info(13, purse)
    assert (await keeper.verdict(keeper.deposit(first, one))).refusal == ""
    verdict = await keeper.verdict(keeper.deposit(second, purse))
    assert verdict.refusal == Refusal.ALREADY_SPENT
    (evidence,) = Exhibits.decode(open_secret(seed("evidence"), second.digest, verdict.evidence)).exhibits
    evidence.check()
    assert (evidence.serial, evidence.digest) == (one.coins[0].serial, first.digest)
    assert one.coins[0].serial not in verdict.evidence
    for guess in (keeper.root.answer_key(bytes(16)), bytes(32), second.digest):
        with pytest.raises(PeerError):
            open_secret(guess, second.digest, verdict.evidence)
    assert await keeper.town.books.balance(first.account) == 7
    assert await keeper.town.faults() == []


async def test_one_coin_in_many_deposits_at_once_is_accepted_once(keeper: Caller, alice: Caller) -> None:
    purse = await alice.withdraw(8)
    deposits = [keeper.paying(8, purse) for _ in range(8)]
    verdicts = await asyncio.gather(*map(keeper.verdict, deposits))
    assert sorted(verdict.refusal for verdict in verdicts) == [""] + [Refusal.ALREADY_SPENT] * 7
    assert await keeper.town.faults() == []


@pytest.mark.parametrize(
    ("field", "refusal"),
    [
        ("currency", Refusal.WRONG_CURRENCY),
        ("amount", Refusal.PAYMENT_ALTERED),
        ("timestamp", Refusal.PAYMENT_ALTERED),
        ("bank", Refusal.WRONG_BANK),
        ("account", Refusal.WRONG_MERCHANT),
        ("order_function", Refusal.MALFORMED),
        ("order_digest", Refusal.PAYMENT_ALTERED),
        ("payer_function", Refusal.MALFORMED),
        ("payer_digest", Refusal.PAYMENT_ALTERED),
        ("payment_id", Refusal.PAYMENT_ALTERED),
        ("parcel", Refusal.PAYMENT_ALTERED),
        ("deposit_before", Refusal.PAYMENT_ALTERED),
    ],
)
async def test_a_payment_that_the_merchant_altered_is_refused(
    keeper: Caller, purse: Purse, field: str, refusal: Refusal
) -> None:
    info = keeper.info(13, purse)
    altered = DepositRequest(alter(info, field).encode(), keeper.parcel(info, purse))
    answer = await keeper.ask("deposit", altered)
    told = answer.refusal or keeper.read(msgspec.msgpack.decode(answer.body)[0]).refusal
    assert told == refusal
    assert (await keeper.verdict(keeper.deposit(info, purse))).refusal == ""


async def test_coins_spent_on_one_payment_pay_no_other(keeper: Caller, purse: Purse) -> None:
    mine, other = keeper.info(13, purse), keeper.info(13, purse)
    swapped = DepositRequest(mine.encode(), keeper.parcel(other, purse))
    assert (await keeper.verdict(swapped)).refusal == Refusal.PAYMENT_ALTERED
    again = keeper.info(13, purse)
    forged = keeper.parcel(again, Purse(purse.coins, purse.seeds[::-1]))
    assert (await keeper.verdict(DepositRequest(again.encode(), forged))).refusal == Refusal.BAD_SPEND_SIGNATURE


@pytest.mark.parametrize("parcel", [b"", b"\1\2", bytes(2000)])
async def test_a_parcel_that_does_not_open_is_refused(keeper: Caller, parcel: bytes) -> None:
    assert (await keeper.verdict(DepositRequest(keeper.info(1).encode(), parcel))).refusal == Refusal.BAD_PARCEL


async def test_an_envelope_of_another_kind_is_no_parcel(keeper: Caller, purse: Purse) -> None:
    info = keeper.info(13, purse)
    letter = keeper.seal("deposit", keeper.deposit(info, purse)).envelope
    assert (await keeper.verdict(DepositRequest(info.encode(), letter))).refusal == Refusal.BAD_PARCEL


async def test_coins_must_be_good_distinct_and_sum_to_the_amount(keeper: Caller, purse: Purse) -> None:
    for amount in (12, 14):
        verdict = await keeper.verdict(keeper.paying(amount, purse))
        assert verdict.refusal == Refusal.AMOUNT_MISMATCH
    twice = Purse(purse.coins[:1] * 2, purse.seeds[:1] * 2)
    assert (await keeper.verdict(keeper.paying(16, twice))).refusal == Refusal.DUPLICATE_COIN
    bad = Purse((alter(purse.coins[0], "signature"),), purse.seeds[:1])
    assert (await keeper.verdict(keeper.paying(8, bad))).refusal == Refusal.BAD_COIN
    dearer = msgspec.structs.replace(purse.coins[2], denomination=purse.coins[0].denomination)
    raised = Purse((dearer,), purse.seeds[2:])
    assert (await keeper.verdict(keeper.paying(8, raised))).refusal == Refusal.BAD_COIN
    assert (await keeper.verdict(keeper.paying(13, purse))).refusal == ""


async def test_a_client_deposits_nothing(alice: Caller, keeper: Caller, purse: Purse) -> None:
    number = 1002
    info = alice.info(13, purse, account=number)
    assert await alice.refusal("deposit", alice.deposit(info, purse)) == Refusal.WRONG_MERCHANT


async def test_a_deposit_must_come_before_the_date_that_was_agreed_on(
    keeper: Caller, purse: Purse, clock: VirtualClock
) -> None:
    info = keeper.info(13, purse)
    request = keeper.deposit(info, purse)
    clock.advance(HOUR_MS)
    verdict = await keeper.verdict(request)
    assert (verdict.refusal, verdict.at) == (Refusal.PAYMENT_EXPIRED, info.deposit_before)
    assert (await keeper.verdict(keeper.paying(13, purse))).refusal == ""


async def test_a_sale_is_paid_once(keeper: Caller, alice: Caller) -> None:
    one, purse = await alice.withdraw(8), await alice.withdraw(8)
    info = keeper.info(8, one)
    second = keeper.info(8, purse, payment_id=info.payment_id)
    assert (await keeper.verdict(keeper.deposit(info, one))).refusal == ""
    refused = keeper.deposit(second, purse)
    assert (await keeper.verdict(refused)).refusal == Refusal.ALREADY_PAID
    assert (await keeper.verdict(keeper.paying(8, purse))).refusal == ""


async def test_a_payment_has_one_verdict_under_whatever_request(
    keeper: Caller, purse: Purse, clock: VirtualClock
) -> None:
    info = keeper.info(13, purse)
    request = keeper.deposit(info, purse)
    first = await keeper.verdict(request)
    clock.advance(2 * HOUR_MS)
    assert await keeper.verdict(request) == first
    assert await keeper.verdict(keeper.deposit(info, purse)) == first
    assert await keeper.town.books.balance(info.account) == 12
    assert await keeper.town.faults() == []


async def test_a_bearer_of_the_parcels_key_cannot_put_other_coins_in_their_place(
    keeper: Caller, alice: Caller, purse: Purse
) -> None:
    info = keeper.info(13, purse)
    others = await alice.withdraw(8, 4, 1)
    swapped = DepositRequest(info.encode(), keeper.parcel(info, others))
    assert (await keeper.verdict(swapped)).refusal == Refusal.PAYMENT_ALTERED


async def test_what_was_refused_stays_refused(keeper: Caller, purse: Purse) -> None:
    info = keeper.info(13, purse)
    broken = DepositRequest(info.encode(), b"no parcel")
    first = await keeper.verdict(broken)
    assert await keeper.verdict(keeper.deposit(info, purse)) == first
    assert await keeper.town.books.balance(info.account) == 0


# ---------------------------------------------------------------- inquiry


async def ask_verdict(caller: Caller, info: object, purse: Purse, index: int = 0) -> Verdict | str:
    request_id, body = caller.inquiry(info, purse, index)  # type: ignore[arg-type]
    answer = await Caller(caller.town, "nobody").ask("verdict", body, request_id=request_id)
    return answer.refusal or caller.read(InquiryAnswer.decode(answer.body).verdict)


async def test_an_unknown_payment_is_pending_and_then_expired_for_ever(
    keeper: Caller, purse: Purse, clock: VirtualClock
) -> None:
    info = keeper.info(13, purse)
    clock.advance(HOUR_MS - 1)
    assert await ask_verdict(keeper, info, purse) == Refusal.PENDING
    clock.advance(1)
    expired = await ask_verdict(keeper, info, purse)
    assert isinstance(expired, Verdict)
    assert expired.refusal == Refusal.PAYMENT_EXPIRED
    assert (await keeper.verdict(keeper.deposit(info, purse))).refusal == Refusal.PAYMENT_EXPIRED
    clock.advance(DAY_MS)
    assert await ask_verdict(keeper, info, purse) == expired


@pytest.mark.parametrize("amount", [13, 12])
@pytest.mark.parametrize("later", [0, 2 * HOUR_MS])
async def test_a_decided_payment_has_its_verdict_before_and_after_its_date(
    keeper: Caller, purse: Purse, clock: VirtualClock, amount: int, later: int
) -> None:
    info = keeper.info(amount, purse)
    decided = await keeper.verdict(keeper.deposit(info, purse))
    clock.advance(later)
    assert await ask_verdict(keeper, info, purse, index=2) == decided


async def test_only_a_coin_of_the_payment_may_ask_about_it(keeper: Caller, alice: Caller, purse: Purse) -> None:
    info = keeper.info(13, purse)
    await keeper.verdict(keeper.deposit(info, purse))
    foreign = await alice.withdraw(8)
    assert await ask_verdict(keeper, info, foreign) == Refusal.BAD_SPEND_SIGNATURE
    borrowed = Purse(purse.coins, foreign.seeds * 3)
    assert await ask_verdict(keeper, info, borrowed) == Refusal.BAD_SIGNATURE
    request_id, body = keeper.inquiry(info, purse)
    assert await keeper.refusal("verdict", body) == Refusal.BAD_SIGNATURE
    assert await keeper.refusal("verdict", body, request_id=request_id) == ""


async def test_another_banks_payment_is_not_ours_to_judge(keeper: Caller, purse: Purse) -> None:
    assert await ask_verdict(keeper, keeper.info(13, bank="south"), purse) == Refusal.WRONG_BANK
