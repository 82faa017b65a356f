"""Payout, the merchant's side: the same signed request to the bank until it has decided.

The bank's decision is stored under the request's id, so a payout that was asked for is asked for again after a crash
and never made twice. What becomes of the transfer afterwards is looked up (`protocol.payout`).
"""

from typing import Final, TypeAlias

import msgspec

from ..errors import IllegalTransition
from ..machine import STAY, Effect, Event, Jitter, Overdue, Send, State, WakeAt, arrows, backoff
from ..payout import PAYOUT


class New(State, frozen=True):
    """Nothing was sent yet."""


class Requested(State, frozen=True):
    """The request is on its way to the bank, or the answer back; the account may be debited already."""

    bank: str
    request_id: bytes
    envelope: bytes
    attempts: int


class Queued(State, frozen=True):
    """The account is debited and holds `balance`; the bank will transfer the amount."""

    balance: int


class Refused(State, frozen=True):
    """The bank has refused; nothing was debited."""

    refusal: str
    detail: str


class Begin(Event, frozen=True):
    """The merchant wants money, by this sealed request."""

    bank: str
    request_id: bytes
    envelope: bytes
    now: int
    jitter: Jitter


class PayoutQueued(Event, frozen=True):
    """The bank has debited the account."""

    balance: int


class RefusalArrived(Event, frozen=True):
    """The bank has refused for good."""

    refusal: str
    detail: str


PayoutState: TypeAlias = New | Requested | Queued | Refused
PayoutEvent: TypeAlias = Begin | Overdue | PayoutQueued | RefusalArrived
Effects: TypeAlias = tuple[Effect, ...]

TRANSITIONS: Final = arrows(
    ([New], [Begin], [Requested]),
    ([Requested], [Overdue], STAY),
    ([Requested], [PayoutQueued], [Queued]),
    ([Requested], [RefusalArrived], [Refused]),
    ([Queued, Refused], [Overdue, PayoutQueued, RefusalArrived], STAY),
)


def step(state: PayoutState, event: PayoutEvent) -> tuple[PayoutState, Effects]:
    """Return the next state and what must happen outside.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), Begin():
            return _send(Requested(event.bank, event.request_id, event.envelope, attempts=0), event.now, event.jitter)
        case Requested(), Overdue():
            return _send(state, event.now, event.jitter)
        case Requested(), PayoutQueued(balance=balance):
            return Queued(balance), ()
        case Requested(), RefusalArrived(refusal=refusal, detail=detail):
            return Refused(refusal, detail), ()
        case ((Queued() | Refused()), (Overdue() | PayoutQueued() | RefusalArrived())):
            return state, ()  # a duplicate, or a late timer
        case _:
            raise IllegalTransition(state, event)


def _send(state: Requested, now: int, jitter: int) -> tuple[Requested, Effects]:
    send = Send(state.bank, PAYOUT, state.request_id, state.envelope, state.attempts)
    wake = WakeAt(now + backoff(state.attempts, jitter))
    return msgspec.structs.replace(state, attempts=state.attempts + 1), (send, wake)
