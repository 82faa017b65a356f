from typing import Any

import pytest

from protocol.machine import Overdue, State, WakeAt
from protocol.merchant.sale import (
    TRANSITIONS,
    Accepted,
    Declined,
    Depositing,
    Effects,
    GiveReceipt,
    Lapsed,
    New,
    Offer,
    Offered,
    Ordered,
    PassVerdict,
    PaymentArrived,
    Refused,
    RefusePayment,
    SaleEvent,
    SaleState,
    Sold,
    StartDeposit,
    agrees,
    step,
)
from protocol.messages import PaymentInfo, Payreq
from protocol.refusals import Refusal
from tests.conformance.machine import StoredMachineConformance
from tests.world import HOUR, NOW, World, alter, seed

FIRST, SECOND = seed("first payment"), seed("second payment")
OFFER = Offer(b"s" * 16, b"payreq", NOW + HOUR)
IN_TIME, TOO_LATE = NOW + HOUR - 1, NOW + HOUR
PAYS = PaymentArrived(FIRST, b"info", b"parcel", IN_TIME)
PAYS_OTHERWISE = PaymentArrived(SECOND, b"other info", b"other parcel", IN_TIME)


class TestSaleMachine(StoredMachineConformance):
    table = TRANSITIONS
    state_union = SaleState
    event_union = SaleEvent
    states = (
        New(),
        Offered(OFFER),
        Depositing(OFFER, FIRST),
        Sold(OFFER, FIRST, b"receipt"),
        Declined(OFFER, FIRST, b"verdict"),
        Declined(OFFER, FIRST, b""),
        Lapsed(OFFER),
    )
    events = (
        Ordered(OFFER),
        PAYS,
        PAYS_OTHERWISE,
        PaymentArrived(FIRST, b"info", b"parcel", TOO_LATE),
        PaymentArrived(SECOND, b"other info", b"other parcel", TOO_LATE),
        Accepted(FIRST, b"receipt"),
        Refused(FIRST, b"verdict"),
        Overdue(IN_TIME, 0),
        Overdue(TOO_LATE, 0),
    )
    repeated = (GiveReceipt, RefusePayment)

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event)


def test_an_order_becomes_an_offer_that_lapses() -> None:
    offered, effects = step(New(), Ordered(OFFER))
    assert (offered, effects) == (Offered(OFFER), (WakeAt(OFFER.expires),))
    assert step(offered, Overdue(IN_TIME, 0)) == (offered, (WakeAt(OFFER.expires),))
    assert step(offered, Overdue(TOO_LATE, 0)) == (Lapsed(OFFER), ())


def test_a_payment_is_deposited_and_its_payer_gets_the_receipt_as_often_as_asked() -> None:
    depositing, effects = step(Offered(OFFER), PAYS)
    assert (depositing, effects) == (Depositing(OFFER, FIRST), (StartDeposit(FIRST, b"info", b"parcel"),))
    assert step(depositing, PAYS) == (depositing, ())
    sold, effects = step(depositing, Accepted(FIRST, b"receipt"))
    assert (sold, effects) == (Sold(OFFER, FIRST, b"receipt"), (GiveReceipt(FIRST, b"receipt"),))
    for now in (IN_TIME, TOO_LATE):
        assert step(sold, PaymentArrived(FIRST, b"", b"", now)) == (sold, (GiveReceipt(FIRST, b"receipt"),))


def test_another_payment_waits_while_the_first_is_deposited_and_is_refused_once_the_sale_is_paid() -> None:
    depositing = Depositing(OFFER, FIRST)
    assert step(depositing, PAYS_OTHERWISE) == (depositing, (RefusePayment(SECOND, Refusal.PENDING),))
    sold = Sold(OFFER, FIRST, b"receipt")
    assert step(sold, PAYS_OTHERWISE) == (sold, (RefusePayment(SECOND, Refusal.ALREADY_PAID),))


def test_after_a_refusal_the_offer_stands_for_another_payment_but_not_for_the_same() -> None:
    declined, effects = step(Depositing(OFFER, FIRST), Refused(FIRST, b"verdict"))
    assert declined == Declined(OFFER, FIRST, b"verdict")
    assert effects == (PassVerdict(FIRST, b"verdict"), WakeAt(OFFER.expires))
    assert step(declined, PAYS) == (declined, (PassVerdict(FIRST, b"verdict"),))
    again, effects = step(declined, PAYS_OTHERWISE)
    assert again == Depositing(OFFER, SECOND)
    assert effects == (StartDeposit(SECOND, b"other info", b"other parcel"),)


@pytest.mark.parametrize("state", [Offered(OFFER), Declined(OFFER, FIRST, b"verdict"), Lapsed(OFFER)], ids=repr)
def test_a_new_payment_is_too_late_from_expires_on(state: SaleState) -> None:
    late = PaymentArrived(SECOND, b"info", b"parcel", TOO_LATE)
    assert step(state, late) == (Lapsed(OFFER), (RefusePayment(SECOND, Refusal.SALE_EXPIRED),))


def test_a_deposit_in_progress_outlives_the_offer() -> None:
    depositing = Depositing(OFFER, FIRST)
    assert step(depositing, Overdue(TOO_LATE, 0)) == (depositing, ())
    declined, _ = step(depositing, Refused(FIRST, b"verdict"))
    assert step(declined, Overdue(TOO_LATE, 0)) == (Lapsed(OFFER), ())


def test_payment_information_agrees_with_its_own_payment_request(world: World) -> None:
    assert agrees(world.info, world.payreq)


PAYERS_OWN = {"payer_function", "payer_digest", "parcel"}


@pytest.mark.parametrize("field", PaymentInfo.__struct_fields__)
def test_altered_payment_information_disagrees_in_every_field_but_the_payers_own(world: World, field: str) -> None:
    assert agrees(alter(world.info, field), world.payreq) == (field in PAYERS_OWN)


@pytest.mark.parametrize("field", sorted(set(Payreq.__struct_fields__) - {"expires", "keyset"}))
def test_payment_information_disagrees_with_an_altered_payment_request(world: World, field: str) -> None:
    assert not agrees(world.info, alter(world.payreq, field))
