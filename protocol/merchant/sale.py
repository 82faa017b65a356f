"""Sale, the merchant's side of a purchase: from the order to goods, released once.

The merchant never sees a coin. It forwards the sealed parcel, and what the bank decides, it passes on.
"""

from typing import Final, TypeAlias

import msgspec

from ..codec import Bytes16, Bytes32
from ..errors import IllegalTransition
from ..machine import STAY, Effect, Event, Overdue, State, WakeAt, arrows
from ..messages import PaymentInfo, Payreq, order_digest
from ..refusals import Refusal

ORDER: Final = "order"
PAY: Final = "pay"


class Offer(msgspec.Struct, frozen=True, array_like=True):
    """What was offered: the payment request and its signed bytes, and until when it stands."""

    payment_id: Bytes16
    payreq: bytes
    expires: int


class New(State, frozen=True):
    """No order yet."""


class Offered(State, frozen=True):
    """The payment request is out."""

    offer: Offer


class Depositing(State, frozen=True):
    """A payment came and is being deposited. Whoever paid is not told anything before the bank has decided."""

    offer: Offer
    digest: Bytes32


class Sold(State, frozen=True):
    """The bank has accepted; the goods are released. `receipt` is the `Signed` receipt."""

    offer: Offer
    digest: Bytes32
    receipt: bytes


class Declined(State, frozen=True):
    """The bank has refused the last payment; the offer stands for another one."""

    offer: Offer
    digest: Bytes32
    verdict: bytes


class Lapsed(State, frozen=True):
    """Nobody paid in time."""

    offer: Offer


class Ordered(Event, frozen=True):
    """A buyer has ordered, and the merchant has signed this offer."""

    offer: Offer


class PaymentArrived(Event, frozen=True):
    """A payment for this sale has arrived and agrees with the offer (`agrees`)."""

    digest: bytes
    info: bytes
    parcel: bytes
    now: int


class Accepted(Event, frozen=True):
    """The bank has credited the payment; this is the signed receipt for it."""

    digest: bytes
    receipt: bytes


class Refused(Event, frozen=True):
    """The bank has refused the payment; this is its signed verdict."""

    digest: bytes
    verdict: bytes


class StartDeposit(Effect, frozen=True):
    """Begin the deposit of this payment."""

    digest: bytes
    info: bytes
    parcel: bytes


class GiveReceipt(Effect, frozen=True):
    """Answer everybody who asked to pay with this digest: paid."""

    digest: bytes
    receipt: bytes


class PassVerdict(Effect, frozen=True):
    """Answer everybody who asked to pay with this digest: the bank has refused, here is its verdict."""

    digest: bytes
    verdict: bytes


class RefusePayment(Effect, frozen=True):
    """Answer everybody who asked to pay with this digest: refused, and not deposited."""

    digest: bytes
    refusal: str


SaleState: TypeAlias = New | Offered | Depositing | Sold | Declined | Lapsed
SaleEvent: TypeAlias = Ordered | PaymentArrived | Accepted | Refused | Overdue
Effects: TypeAlias = tuple[Effect, ...]

TRANSITIONS: Final = arrows(
    ([New], [Ordered], [Offered]),
    ([Offered], [PaymentArrived], [Depositing, Lapsed]),
    ([Declined], [PaymentArrived], [Depositing, Declined, Lapsed]),
    ([Depositing, Sold, Lapsed], [PaymentArrived], STAY),
    ([Depositing], [Accepted], [Sold]),
    ([Depositing], [Refused], [Declined]),
    ([Offered], [Overdue], [Offered, Lapsed]),
    ([Declined], [Overdue], [Declined, Lapsed]),
    ([Depositing, Sold, Lapsed], [Overdue], STAY),
    ([Sold], [Accepted], STAY),
    ([Declined], [Refused], STAY),
)


def step(state: SaleState, event: SaleEvent) -> tuple[SaleState, Effects]:
    """Return the next state and what must happen outside.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), Ordered():
            return Offered(event.offer), (WakeAt(event.offer.expires),)
        case ((Offered() | Declined() | Depositing() | Sold() | Lapsed()), PaymentArrived()):
            return _payment(state, event)
        case Depositing(), Accepted():
            return Sold(state.offer, event.digest, event.receipt), (GiveReceipt(event.digest, event.receipt),)
        case Depositing(), Refused():
            declined = Declined(state.offer, event.digest, event.verdict)
            return declined, (PassVerdict(event.digest, event.verdict), WakeAt(state.offer.expires))
        case ((Offered() | Declined()), Overdue()):
            if event.now < state.offer.expires:
                return state, (WakeAt(state.offer.expires),)
            return Lapsed(state.offer), ()
        case ((Depositing() | Sold() | Lapsed()), Overdue()):
            return state, ()
        case (Sold(), Accepted()) | (Declined(), Refused()):
            return state, ()  # the bank's answer once more
        case _:
            raise IllegalTransition(state, event)


def _payment(
    state: Offered | Declined | Depositing | Sold | Lapsed, event: PaymentArrived
) -> tuple[SaleState, Effects]:
    match state:
        case Sold() if state.digest == event.digest:
            return state, (GiveReceipt(state.digest, state.receipt),)
        case Sold():
            return state, (RefusePayment(event.digest, Refusal.ALREADY_PAID),)
        case Declined() if state.digest == event.digest:
            return state, (PassVerdict(state.digest, state.verdict),)
        case Depositing() if state.digest == event.digest:
            return state, ()  # the payer repeats; the answer comes with the bank's
        case Depositing():
            return state, (RefusePayment(event.digest, Refusal.PENDING),)
        case Lapsed():
            return state, (RefusePayment(event.digest, Refusal.SALE_EXPIRED),)
    if event.now >= state.offer.expires:
        return Lapsed(state.offer), (RefusePayment(event.digest, Refusal.SALE_EXPIRED),)
    return Depositing(state.offer, event.digest), (StartDeposit(event.digest, event.info, event.parcel),)


def agrees(info: PaymentInfo, payreq: Payreq) -> bool:
    """Tell whether payment information is what the payment request asks for, in every field but the payer's own."""
    return (
        info.currency,
        info.amount,
        info.timestamp,
        info.bank,
        info.account,
        info.order_function,
        info.order_digest,
        info.payment_id,
        info.deposit_before,
    ) == (
        payreq.currency,
        payreq.amount,
        payreq.timestamp,
        payreq.bank,
        payreq.account,
        "sha-256",
        order_digest(payreq.salt, payreq.order),
        payreq.payment_id,
        payreq.deposit_before,
    )
