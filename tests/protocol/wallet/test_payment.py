from typing import Any

import pytest

from protocol.machine import Overdue, Send, State, WakeAt
from protocol.refusals import Refusal
from protocol.wallet.payment import (
    INQUIRE,
    PAY,
    RECEIPT_PATIENCE_MS,
    TRANSITIONS,
    Asking,
    Begin,
    Disputed,
    Effects,
    InquiryRefused,
    New,
    Paid,
    Paying,
    Payment,
    PaymentEvent,
    PaymentState,
    ReceiptArrived,
    RefusalByBank,
    RefusalByMerchant,
    Refused,
    Released,
    Unreceipted,
    Waiting,
    step,
)
from protocol.wallet.purse import ReleaseCoins, ReserveCoins, SetCoinsAside, SpendCoins, VoidDigest
from tests.conformance.machine import StoredMachineConformance
from tests.world import BANK, DAY, HOUR, NOW, SHOP, seed

ONE, TWO, THREE = seed("one"), seed("two"), seed("three")
BEFORE = NOW + DAY
PAYMENT = Payment(seed("digest"), SHOP, BANK, (ONE, TWO, THREE), BEFORE, b"p" * 16, b"pay", b"i" * 16, b"inquiry")
ACCEPTED = ReceiptArrived(b"verdict", b"receipt")
BANK_ALONE = ReceiptArrived(b"verdict", b"")
PATIENCE_ENDS = BEFORE + RECEIPT_PATIENCE_MS
SPENT = RefusalByBank(b"verdict", Refusal.ALREADY_SPENT, (TWO,), proven=True)
EXPIRED = RefusalByBank(b"verdict", Refusal.PAYMENT_EXPIRED, (), proven=True)
UNANSWERED = InquiryRefused(b"answer", Refusal.BAD_SPEND_SIGNATURE, "the coin was not spent on this payment")
UNPROVEN = RefusalByBank(b"verdict", Refusal.ALREADY_SPENT, (), proven=False)


class TestPaymentMachine(StoredMachineConformance):
    table = TRANSITIONS
    state_union = PaymentState
    event_union = PaymentEvent
    states = (
        New(),
        Paying(PAYMENT, 0),
        Paying(PAYMENT, 9),
        Waiting(PAYMENT, Refusal.SALE_EXPIRED, "too late"),
        Asking(PAYMENT, 1),
        Unreceipted(PAYMENT, b"verdict", 0),
        Paid(PAYMENT.digest, b"verdict", b"receipt"),
        Refused(PAYMENT.digest, b"verdict", Refusal.ALREADY_SPENT, 1),
        Released(PAYMENT.digest, b"verdict"),
        Disputed(PAYMENT, b"verdict"),
        Disputed(PAYMENT, b"", b"answer", "why"),
    )
    events = (
        Begin(PAYMENT, NOW, 0),
        Overdue(NOW, 500),
        Overdue(BEFORE, 1000),
        Overdue(PATIENCE_ENDS, 0),
        ACCEPTED,
        BANK_ALONE,
        SPENT,
        EXPIRED,
        UNPROVEN,
        RefusalByMerchant(Refusal.SALE_EXPIRED, "too late"),
        UNANSWERED,
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event)


OPEN = (Paying(PAYMENT, 1), Waiting(PAYMENT, "pending", ""), Asking(PAYMENT, 1))


def test_a_payment_begins_by_reserving_its_coins() -> None:
    state, effects = step(New(), Begin(PAYMENT, NOW, 1000))
    assert state == Paying(PAYMENT, 1)
    assert effects == (
        ReserveCoins((ONE, TWO, THREE)),
        Send(SHOP, PAY, PAYMENT.pay_id, b"pay", 0),
        WakeAt(NOW + 1000),
    )


def test_what_is_sent_again_is_the_same_but_for_the_attempt() -> None:
    state, effects = step(Paying(PAYMENT, 3), Overdue(NOW, 0))
    assert state == Paying(PAYMENT, 4)
    assert effects == (Send(SHOP, PAY, PAYMENT.pay_id, b"pay", 3), WakeAt(NOW + 4000))


def test_the_wallet_wakes_no_later_than_the_last_time_to_deposit() -> None:
    _, (_, wake) = step(Paying(PAYMENT, 9), Overdue(BEFORE - 10, 1000))
    assert wake == WakeAt(BEFORE)


@pytest.mark.parametrize("state", [Paying(PAYMENT, 5), Waiting(PAYMENT, "pending", "")], ids=repr)
def test_the_bank_is_asked_from_deposit_before_on_and_not_a_millisecond_sooner(state: Paying | Waiting) -> None:
    early, _ = step(state, Overdue(BEFORE - 1, 0))
    assert type(early) is type(state)
    late, effects = step(state, Overdue(BEFORE, 0))
    assert late == Asking(PAYMENT, 1)
    assert effects == (Send(BANK, INQUIRE, PAYMENT.inquiry_id, b"inquiry", 0), WakeAt(BEFORE + 500))


def test_the_bank_is_asked_until_it_answers() -> None:
    state, effects = step(Asking(PAYMENT, 7), Overdue(BEFORE + HOUR, 1000))
    assert state == Asking(PAYMENT, 8)
    assert effects == (Send(BANK, INQUIRE, PAYMENT.inquiry_id, b"inquiry", 7), WakeAt(BEFORE + HOUR + 60_000))


def test_a_merchant_that_refuses_is_not_believed_before_deposit_before() -> None:
    state, effects = step(Paying(PAYMENT, 1), RefusalByMerchant("unknown_sale", "no such sale"))
    assert state == Waiting(PAYMENT, "unknown_sale", "no such sale")
    assert effects == (WakeAt(BEFORE),)
    assert step(state, Overdue(NOW, 0)) == (state, (WakeAt(BEFORE),))


@pytest.mark.parametrize("state", OPEN, ids=repr)
class TestAVerdictEndsThePayment:
    def test_accepted(self, state: PaymentState) -> None:
        assert step(state, ACCEPTED) == (Paid(PAYMENT.digest, b"verdict", b"receipt"), (SpendCoins((ONE, TWO, THREE)),))

    def test_accepted_as_the_bank_alone_tells(self, state: PaymentState) -> None:
        told, effects = step(state, BANK_ALONE)
        assert told == Unreceipted(PAYMENT, b"verdict", 0)
        assert effects == (SpendCoins((ONE, TWO, THREE)), WakeAt(0))

    def test_refused_with_evidence_against_one_coin(self, state: PaymentState) -> None:
        refused, effects = step(state, SPENT)
        assert refused == Refused(PAYMENT.digest, b"verdict", Refusal.ALREADY_SPENT, 1)
        assert effects == (SpendCoins((TWO,)), ReleaseCoins((ONE, THREE)), VoidDigest(PAYMENT.digest))

    def test_never_deposited(self, state: PaymentState) -> None:
        released, effects = step(state, EXPIRED)
        assert released == Released(PAYMENT.digest, b"verdict")
        assert effects == (ReleaseCoins((ONE, TWO, THREE)), VoidDigest(PAYMENT.digest))

    def test_refused_without_evidence(self, state: PaymentState) -> None:
        assert step(state, UNPROVEN) == (Disputed(PAYMENT, b"verdict"), (SetCoinsAside((ONE, TWO, THREE)),))


@pytest.mark.parametrize(
    ("event", "detail"), [(UNANSWERED, UNANSWERED.detail), (InquiryRefused(b"answer", "malformed", ""), "malformed")]
)
def test_a_bank_that_refuses_its_verdict_for_good_is_in_dispute(event: InquiryRefused, detail: str) -> None:
    disputed, effects = step(Asking(PAYMENT, 3), event)
    assert disputed == Disputed(PAYMENT, b"", b"answer", detail)
    assert effects == (SetCoinsAside((ONE, TWO, THREE)),)


# ---------------------------------------------------------------- accepted, but without a receipt


UNRECEIPTED = Unreceipted(PAYMENT, b"verdict", 0)


def test_the_merchant_is_asked_on_for_the_receipt_with_the_same_bytes() -> None:
    state, effects = step(UNRECEIPTED, Overdue(BEFORE, 1000))
    assert state == Unreceipted(PAYMENT, b"verdict", 1)
    assert effects == (Send(SHOP, PAY, PAYMENT.pay_id, b"pay", 0), WakeAt(BEFORE + 1000))
    state, effects = step(Unreceipted(PAYMENT, b"verdict", 9), Overdue(PATIENCE_ENDS - 1, 0))
    assert state == Unreceipted(PAYMENT, b"verdict", 10)
    assert effects == (Send(SHOP, PAY, PAYMENT.pay_id, b"pay", 9), WakeAt(PATIENCE_ENDS - 1 + 30_000))


def test_the_receipt_ends_the_asking_and_no_coin_is_spent_twice() -> None:
    assert step(UNRECEIPTED, ReceiptArrived(b"verdict", b"receipt")) == (
        Paid(PAYMENT.digest, b"verdict", b"receipt"),
        (),
    )


@pytest.mark.parametrize("now", [PATIENCE_ENDS, PATIENCE_ENDS + DAY])
def test_patience_ends_and_the_banks_verdict_is_all_there_is(now: int) -> None:
    assert step(UNRECEIPTED, Overdue(now, 0)) == (Paid(PAYMENT.digest, b"verdict", b""), ())


@pytest.mark.parametrize(
    "event", [BANK_ALONE, SPENT, EXPIRED, UNPROVEN, UNANSWERED, RefusalByMerchant("sale_expired", "")], ids=repr
)
def test_what_the_bank_has_accepted_is_paid_whatever_is_said_later(event: PaymentEvent) -> None:
    assert step(UNRECEIPTED, event) == (UNRECEIPTED, ())
