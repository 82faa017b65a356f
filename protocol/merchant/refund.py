"""Refund, the merchant's side: a buyer's ticket to the bank, paid for by the merchant, and the bank's answer back.

The order is the same bytes until the bank has decided, over crashes and days; what is not granted by the bank leaves
the merchant's account untouched, and what the merchant has granted stays open for another ticket.
"""

from typing import Final, TypeAlias

import msgspec

from ..errors import IllegalTransition
from ..exchange import REFUND
from ..machine import STAY, Effect, Event, Jitter, Overdue, Send, State, WakeAt, arrows, backoff


class New(State, frozen=True):
    """Nothing was sent yet."""


class Requested(State, frozen=True):
    """The order is on its way to the bank, or the answer back."""

    bank: str
    request_id: bytes
    envelope: bytes
    attempts: int


class Refunded(State, frozen=True):
    """The account is debited; `issue` is the bank's sealed answer to the ticket, for the buyer."""

    issue: bytes


class Refused(State, frozen=True):
    """The bank has refused, and nothing was debited: what was granted is open again."""

    refusal: str
    detail: str


class Begin(Event, frozen=True):
    """A buyer has shown a ticket, which goes to this bank in this sealed order."""

    bank: str
    request_id: bytes
    envelope: bytes
    now: int
    jitter: Jitter


class IssueArrived(Event, frozen=True):
    """The bank has served the ticket."""

    issue: bytes


class RefusalArrived(Event, frozen=True):
    """The bank has refused the order for good."""

    refusal: str
    detail: str


class PassIssue(Effect, frozen=True):
    """Answer everybody who showed this ticket with the bank's answer to it."""

    issue: bytes


class PassRefusal(Effect, frozen=True):
    """Answer everybody who showed this ticket with what the bank says."""

    refusal: str
    detail: str


RefundState: TypeAlias = New | Requested | Refunded | Refused
RefundEvent: TypeAlias = Begin | Overdue | IssueArrived | RefusalArrived
Effects: TypeAlias = tuple[Effect, ...]

TRANSITIONS: Final = arrows(
    ([New], [Begin], [Requested]),
    ([Requested], [Overdue], STAY),
    ([Requested], [IssueArrived], [Refunded]),
    ([Requested], [RefusalArrived], [Refused]),
    ([Refunded, Refused], [Overdue, IssueArrived, RefusalArrived], STAY),
)


def step(state: RefundState, event: RefundEvent) -> tuple[RefundState, Effects]:
    """Return the next state and what must happen outside.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), Begin():
            return _send(Requested(event.bank, event.request_id, event.envelope, attempts=0), event.now, event.jitter)
        case Requested(), Overdue():
            return _send(state, event.now, event.jitter)
        case Requested(), IssueArrived(issue=issue):
            return Refunded(issue), (PassIssue(issue),)
        case Requested(), RefusalArrived(refusal=refusal, detail=detail):
            return Refused(refusal, detail), (PassRefusal(refusal, detail),)
        case ((Refunded() | Refused()), (Overdue() | IssueArrived() | RefusalArrived())):
            return state, ()  # a duplicate, or a late timer
        case _:
            raise IllegalTransition(state, event)


def _send(state: Requested, now: int, jitter: int) -> tuple[Requested, Effects]:
    send = Send(state.bank, REFUND, state.request_id, state.envelope, state.attempts)
    wake = WakeAt(now + backoff(state.attempts, jitter))
    return msgspec.structs.replace(state, attempts=state.attempts + 1), (send, wake)
