"""Inquiry at the bank: what became of a payment, asked anonymously with the key of one of its coins.

Before deposit-before an unknown payment has no verdict yet. From then on nobody can deposit it any more, and the bank
says so under its signature: the coins are free again. Answers are not stored, for they do not change.
"""

from typing import Final, TypeAlias

from ..errors import IllegalTransition, PeerError
from ..machine import Effect, Event, State, arrows
from ..messages import InquiryRequest, PaymentInfo
from ..refusals import Refusal
from ..signatures import Domain, verify
from .deposit import Sign, expired_verdict
from .desk import New, Refused
from .ledger import Payment


class Told(State, frozen=True):
    """The bank's `Signed` verdict may leave."""

    verdict: bytes


class Asked(Event, frozen=True):
    """An inquiry that has passed `check_inquiry`, and what the books say at the books' time `now`.

    `spent_on` is the digest that the asking coin was spent on, empty if it was not.
    """

    info: PaymentInfo
    payment: Payment | None
    spent_on: bytes
    now: int


InquiryState: TypeAlias = New | Told | Refused

TRANSITIONS: Final = arrows(([New], [Asked], [Told, Refused]))


def step(state: InquiryState, event: Asked, sign: Sign) -> tuple[InquiryState, tuple[Effect, ...]]:
    """Return the next state; there are no effects. `sign` signs verdicts as the bank.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event.payment:
        case New(), None if event.now < event.info.deposit_before:
            return Refused(Refusal.PENDING, "the payment was not deposited, and still can be"), ()
        case New(), None:
            return Told(expired_verdict(event.info, sign).encode()), ()
        case New(), Payment(accepted=True) if event.spent_on != event.info.digest:
            return Refused(Refusal.BAD_SPEND_SIGNATURE, "the coin was not spent on this payment"), ()
        case New(), Payment(verdict=verdict):
            return Told(verdict), ()
        case _:
            raise IllegalTransition(state, event)


def check_inquiry(request: InquiryRequest, request_id: bytes, bank: str) -> PaymentInfo:
    """Return the payment that is asked about.

    Raises:
        PeerError: `MALFORMED`, `WRONG_BANK`, or `BAD_SIGNATURE` if the coin's key did not sign the question.
    """
    info = PaymentInfo.decode(request.info)
    if info.bank != bank:
        raise PeerError(Refusal.WRONG_BANK, f"the payment is for bank {info.bank}")
    verify(request.serial, request.proof, Domain.INQUIRY, info.digest, request_id)
    return info
