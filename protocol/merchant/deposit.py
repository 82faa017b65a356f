"""Deposit, the merchant's side: the same bytes to the bank until it has decided.

The bank's decision does not depend on when it is asked, but for the payment's deposit-before; so the merchant asks on,
over crashes and days, and in the end both know.
"""

from typing import Final, TypeAlias

import msgspec

from ..codec import Bytes32
from ..errors import IllegalTransition
from ..machine import STAY, Effect, Event, Jitter, Overdue, Send, State, WakeAt, arrows, backoff

KIND: Final = "deposit"


class New(State, frozen=True):
    """Nothing was sent yet."""


class Requested(State, frozen=True):
    """The deposit is on its way to the bank, or the answer back."""

    bank: str
    digest: Bytes32
    request_id: bytes
    envelope: bytes
    attempts: int


class Credited(State, frozen=True):
    """The bank has credited the amount less this commission; its `Signed` verdict says so."""

    digest: Bytes32
    verdict: bytes
    commission: int


class Refused(State, frozen=True):
    """The bank has refused. `verdict` is its `Signed` verdict, empty if it could not even judge the payment."""

    digest: Bytes32
    verdict: bytes
    refusal: str


class Begin(Event, frozen=True):
    """A payment is to be deposited, by this sealed request."""

    bank: str
    digest: Bytes32
    request_id: bytes
    envelope: bytes
    now: int
    jitter: Jitter


class VerdictArrived(Event, frozen=True):
    """The bank's verdict, verified. `refusal` is "" if it accepts."""

    verdict: bytes
    refusal: str
    commission: int


class RefusalArrived(Event, frozen=True):
    """The bank has refused the request for good, without a verdict on the payment."""

    refusal: str


class Settle(Effect, frozen=True):
    """Tell the sale of this payment what the bank decided. `refusal` is "" if it accepted."""

    digest: bytes
    verdict: bytes
    refusal: str


DepositState: TypeAlias = New | Requested | Credited | Refused
DepositEvent: TypeAlias = Begin | Overdue | VerdictArrived | RefusalArrived
Effects: TypeAlias = tuple[Effect, ...]

TRANSITIONS: Final = arrows(
    ([New], [Begin], [Requested]),
    ([Requested], [Overdue], STAY),
    ([Requested], [VerdictArrived], [Credited, Refused]),
    ([Requested], [RefusalArrived], [Refused]),
    ([Credited, Refused], [Overdue, VerdictArrived, RefusalArrived], STAY),
)


def step(state: DepositState, event: DepositEvent) -> tuple[DepositState, Effects]:
    """Return the next state and what must happen outside.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), Begin():
            requested = Requested(event.bank, event.digest, event.request_id, event.envelope, attempts=0)
            return _send(requested, event.now, event.jitter)
        case Requested(), Overdue():
            return _send(state, event.now, event.jitter)
        case Requested(), VerdictArrived():
            settle = Settle(state.digest, event.verdict, event.refusal)
            if event.refusal:
                return Refused(state.digest, event.verdict, event.refusal), (settle,)
            return Credited(state.digest, event.verdict, event.commission), (settle,)
        case Requested(), RefusalArrived():
            return Refused(state.digest, b"", event.refusal), (Settle(state.digest, b"", event.refusal),)
        case ((Credited() | Refused()), (Overdue() | VerdictArrived() | RefusalArrived())):
            return state, ()  # a duplicate, or a late timer
        case _:
            raise IllegalTransition(state, event)


def _send(state: Requested, now: int, jitter: int) -> tuple[Requested, Effects]:
    send = Send(state.bank, KIND, state.request_id, state.envelope, state.attempts)
    wake = WakeAt(now + backoff(state.attempts, jitter))
    return msgspec.structs.replace(state, attempts=state.attempts + 1), (send, wake)
