"""Payment, the wallet's side: coins, sealed for the bank, against the merchant's receipt.

No payment is ever stuck: coins never leave the wallet's books on silence and never come back while they could still
be deposited. After the payment's deposit-before the wallet asks the bank, anonymously, for its verdict, and the
verdict ends the payment.
"""

from typing import Final, TypeAlias

import msgspec

from ..codec import Bytes32
from ..errors import IllegalTransition
from ..machine import STAY, Effect, Event, Jitter, Overdue, Send, State, WakeAt, arrows, backoff
from ..refusals import Refusal
from .purse import ReleaseCoins, ReserveCoins, SetCoinsAside, SpendCoins, VoidDigest

PAY: Final = "pay"
INQUIRE: Final = "verdict"
RECEIPT_PATIENCE_MS: Final = 7 * 86_400_000
"""How long after deposit-before a merchant is asked for the receipt of a payment that the bank has accepted."""


class Payment(msgspec.Struct, frozen=True, array_like=True):
    """What a payment consists of: written and sealed before anything is sent (see `protocol.wallet.paying`).

    `serials` are the coins'. `pay` and `inquiry` are the envelopes for merchant and bank, each with its request id.
    """

    digest: Bytes32
    merchant: str
    bank: str
    serials: tuple[Bytes32, ...]
    deposit_before: int
    pay_id: bytes
    pay: bytes
    inquiry_id: bytes
    inquiry: bytes


class New(State, frozen=True):
    """Nothing was paid yet."""


class Paying(State, frozen=True):
    """The payment is on its way to the merchant, or the receipt is on its way back."""

    payment: Payment
    attempts: int


class Waiting(State, frozen=True):
    """The merchant has refused, but could still deposit: the coins wait for deposit-before."""

    payment: Payment
    refusal: str
    detail: str


class Asking(State, frozen=True):
    """The time to deposit is over without a receipt: the bank is asked for its verdict."""

    payment: Payment
    attempts: int


class Unreceipted(State, frozen=True):
    """The bank has accepted, but no receipt has come: the merchant is asked on for receipt and goods."""

    payment: Payment
    verdict: bytes
    attempts: int


class Paid(State, frozen=True):
    """The bank has accepted. `receipt` is the merchant's `Signed` receipt, empty if it never came."""

    digest: Bytes32
    verdict: bytes
    receipt: bytes


class Refused(State, frozen=True):
    """The bank has refused; coins not proven spent are free again. `spent` counts those that were."""

    digest: Bytes32
    verdict: bytes
    refusal: str
    spent: int


class Released(State, frozen=True):
    """The payment came to nothing: nobody deposited in time, and all its coins are free again."""

    digest: Bytes32
    verdict: bytes


class Disputed(State, frozen=True):
    """The bank says that coins were spent without valid evidence, or gives no verdict: the coins are set aside.

    What it said is kept: its `verdict`, or else its sealed `answer` to the inquiry, which refuses for the reason in
    `detail`.
    """

    payment: Payment
    verdict: bytes
    answer: bytes = b""
    detail: str = ""


class Begin(Event, frozen=True):
    """The wallet has assembled the amount and sealed the payment."""

    payment: Payment
    now: int
    jitter: Jitter


class ReceiptArrived(Event, frozen=True):
    """The bank's accepting verdict has arrived and verified; `receipt` is the merchant's, empty if none came."""

    verdict: bytes
    receipt: bytes


class RefusalByBank(Event, frozen=True):
    """The bank's refusing verdict has arrived and verified.

    `spent` are the serial numbers whose earlier spending is proven by evidence; `proven` tells whether the evidence
    supports the refusal (always, if the refusal needs none).
    """

    verdict: bytes
    refusal: str
    spent: tuple[bytes, ...]
    proven: bool


class RefusalByMerchant(Event, frozen=True):
    """The merchant says that it did not deposit. It could be lying."""

    refusal: str
    detail: str


class InquiryRefused(Event, frozen=True):
    """The bank refuses for good to say what became of the payment; `answer` is its sealed answer."""

    answer: bytes
    refusal: str
    detail: str


PaymentState: TypeAlias = New | Paying | Waiting | Asking | Unreceipted | Paid | Refused | Released | Disputed
PaymentEvent: TypeAlias = Begin | Overdue | ReceiptArrived | RefusalByBank | RefusalByMerchant | InquiryRefused
Effects: TypeAlias = tuple[Effect, ...]

TRANSITIONS: Final = arrows(
    ([New], [Begin], [Paying]),
    ([Paying], [Overdue], [Paying, Asking]),
    ([Waiting], [Overdue], [Waiting, Asking]),
    ([Asking], [Overdue], STAY),
    ([Paying], [RefusalByMerchant], [Waiting]),
    ([Waiting, Asking], [RefusalByMerchant], STAY),
    ([Paying, Waiting, Asking], [ReceiptArrived], [Paid, Unreceipted]),
    ([Unreceipted], [Overdue, ReceiptArrived], [Unreceipted, Paid]),
    ([Unreceipted], [RefusalByBank, RefusalByMerchant, InquiryRefused], STAY),
    ([Paying, Waiting, Asking], [RefusalByBank], [Refused, Released, Disputed]),
    ([Asking], [InquiryRefused], [Disputed]),
    (
        [Paid, Refused, Released, Disputed],
        [Overdue, ReceiptArrived, RefusalByBank, RefusalByMerchant, InquiryRefused],
        STAY,
    ),
)


def step(state: PaymentState, event: PaymentEvent) -> tuple[PaymentState, Effects]:
    """Return the next state and what must happen outside.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), Begin():
            paying, effects = _pay(Paying(event.payment, attempts=0), event.now, event.jitter)
            return paying, (ReserveCoins(event.payment.serials), *effects)
        case Paying(), Overdue() if event.now < state.payment.deposit_before:
            return _pay(state, event.now, event.jitter)
        case Waiting(), Overdue() if event.now < state.payment.deposit_before:
            return state, (WakeAt(state.payment.deposit_before),)
        case ((Paying() | Waiting()), Overdue()):
            return _ask(Asking(state.payment, attempts=0), event.now, event.jitter)
        case Asking(), Overdue():
            return _ask(state, event.now, event.jitter)
        case ((Paying() | Waiting() | Asking()), ReceiptArrived()):
            spend = SpendCoins(state.payment.serials)
            if event.receipt:
                return Paid(state.payment.digest, event.verdict, event.receipt), (spend,)
            # The bank has told, or a merchant that keeps the receipt back: it is asked once more, at once.
            return Unreceipted(state.payment, event.verdict, attempts=0), (spend, WakeAt(0))
        case Unreceipted(), ReceiptArrived() if event.receipt:
            return Paid(state.payment.digest, event.verdict, event.receipt), ()
        case Unreceipted(), Overdue():
            return _ask_for_receipt(state, event.now, event.jitter)
        case Unreceipted(), (ReceiptArrived() | RefusalByBank() | RefusalByMerchant() | InquiryRefused()):
            return state, ()  # paid is paid, whatever the merchant says
        case ((Paying() | Waiting() | Asking()), RefusalByBank()):
            return _refused(state.payment, event)
        case Asking(), InquiryRefused(answer=answer):
            detail = event.detail or event.refusal
            return Disputed(state.payment, b"", answer, detail), (SetCoinsAside(state.payment.serials),)
        case Paying(), RefusalByMerchant():
            waiting = Waiting(state.payment, event.refusal, event.detail)
            return waiting, (WakeAt(state.payment.deposit_before),)
        case ((Waiting() | Asking()), RefusalByMerchant()):
            return state, ()  # the same once more
        case (
            (Paid() | Refused() | Released() | Disputed()),
            (Overdue() | ReceiptArrived() | RefusalByBank() | RefusalByMerchant() | InquiryRefused()),
        ):
            return state, ()  # a duplicate, or a late timer
        case _:
            raise IllegalTransition(state, event)


def _pay(state: Paying, now: int, jitter: int) -> tuple[Paying, Effects]:
    payment = state.payment
    send = Send(payment.merchant, PAY, payment.pay_id, payment.pay, state.attempts)
    wake = WakeAt(min(now + backoff(state.attempts, jitter), payment.deposit_before))
    return Paying(payment, state.attempts + 1), (send, wake)


def _ask(state: Asking, now: int, jitter: int) -> tuple[Asking, Effects]:
    payment = state.payment
    send = Send(payment.bank, INQUIRE, payment.inquiry_id, payment.inquiry, state.attempts)
    return Asking(payment, state.attempts + 1), (send, WakeAt(now + backoff(state.attempts, jitter)))


def _ask_for_receipt(state: Unreceipted, now: int, jitter: int) -> tuple[PaymentState, Effects]:
    payment = state.payment
    if now >= payment.deposit_before + RECEIPT_PATIENCE_MS:
        return Paid(payment.digest, state.verdict, b""), ()
    send = Send(payment.merchant, PAY, payment.pay_id, payment.pay, state.attempts)
    asked = Unreceipted(payment, state.verdict, state.attempts + 1)
    return asked, (send, WakeAt(now + backoff(state.attempts, jitter)))


def _refused(payment: Payment, event: RefusalByBank) -> tuple[PaymentState, Effects]:
    if not event.proven:
        return Disputed(payment, event.verdict), (SetCoinsAside(payment.serials),)
    void = VoidDigest(payment.digest)
    if event.refusal == Refusal.PAYMENT_EXPIRED:
        return Released(payment.digest, event.verdict), (ReleaseCoins(payment.serials), void)
    spent = tuple(serial for serial in payment.serials if serial in event.spent)
    free = tuple(serial for serial in payment.serials if serial not in event.spent)
    refused = Refused(payment.digest, event.verdict, event.refusal, len(spent))
    return refused, (SpendCoins(spent), ReleaseCoins(free), void)
