from typing import Any

from protocol.exchange import REFUND
from protocol.machine import Overdue, Send, State, WakeAt
from protocol.merchant.refund import (
    TRANSITIONS,
    Begin,
    Effects,
    IssueArrived,
    New,
    PassIssue,
    PassRefusal,
    Refunded,
    RefundEvent,
    RefundState,
    RefusalArrived,
    Refused,
    Requested,
    step,
)
from protocol.refusals import Refusal
from tests.conformance.machine import StoredMachineConformance
from tests.world import BANK, NOW

REQUEST_ID = b"r" * 16
REQUESTED = Requested(BANK, REQUEST_ID, b"sealed", attempts=1)


class TestRefundMachine(StoredMachineConformance):
    table = TRANSITIONS
    state_union = RefundState
    event_union = RefundEvent
    states = (New(), REQUESTED, Refunded(b"issue"), Refused(Refusal.BAD_TICKET, "it does not open"))
    events = (
        Begin(BANK, REQUEST_ID, b"sealed", NOW, 0),
        Overdue(NOW, 500),
        IssueArrived(b"issue"),
        RefusalArrived(Refusal.BAD_TICKET, "it does not open"),
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event)


def test_the_same_order_is_sent_until_the_bank_has_decided() -> None:
    state, effects = step(New(), Begin(BANK, REQUEST_ID, b"sealed", NOW, 1000))
    assert state == REQUESTED
    assert effects == (Send(BANK, REFUND, REQUEST_ID, b"sealed", 0), WakeAt(NOW + 1000))
    state, effects = step(state, Overdue(NOW + 5, 0))
    assert state == Requested(BANK, REQUEST_ID, b"sealed", attempts=2)
    assert effects == (Send(BANK, REFUND, REQUEST_ID, b"sealed", 1), WakeAt(NOW + 5 + 1000))


def test_what_the_bank_says_is_passed_on_once() -> None:
    assert step(REQUESTED, IssueArrived(b"issue")) == (Refunded(b"issue"), (PassIssue(b"issue"),))
    refusal = Refusal.INSUFFICIENT_FUNDS
    refused = Refused(refusal, "too little")
    assert step(REQUESTED, RefusalArrived(refusal, "too little")) == (refused, (PassRefusal(refusal, "too little"),))
    assert step(Refunded(b"issue"), IssueArrived(b"another")) == (Refunded(b"issue"), ())
    assert step(refused, IssueArrived(b"late")) == (refused, ())
