from typing import Any

from protocol.machine import Overdue, Send, State, WakeAt
from protocol.merchant.payout import (
    TRANSITIONS,
    Begin,
    Effects,
    New,
    PayoutEvent,
    PayoutQueued,
    PayoutState,
    Queued,
    RefusalArrived,
    Refused,
    Requested,
    step,
)
from protocol.payout import PAYOUT
from protocol.refusals import Refusal
from tests.conformance.machine import StoredMachineConformance
from tests.world import BANK, NOW

REQUEST_ID = b"r" * 16
REQUESTED = Requested(BANK, REQUEST_ID, b"sealed", attempts=1)


class TestPayoutMachine(StoredMachineConformance):
    table = TRANSITIONS
    state_union = PayoutState
    event_union = PayoutEvent
    states = (New(), REQUESTED, Queued(40), Refused(Refusal.NO_DESTINATION, "none is entered"))
    events = (
        Begin(BANK, REQUEST_ID, b"sealed", NOW, 0),
        Overdue(NOW, 500),
        PayoutQueued(40),
        RefusalArrived(Refusal.NO_DESTINATION, "none is entered"),
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event)


def test_the_same_request_is_sent_until_the_bank_has_decided() -> None:
    state, effects = step(New(), Begin(BANK, REQUEST_ID, b"sealed", NOW, 1000))
    assert state == REQUESTED
    assert effects == (Send(BANK, PAYOUT, REQUEST_ID, b"sealed", 0), WakeAt(NOW + 1000))
    state, effects = step(state, Overdue(NOW + 5, 0))
    assert state == Requested(BANK, REQUEST_ID, b"sealed", attempts=2)
    assert effects == (Send(BANK, PAYOUT, REQUEST_ID, b"sealed", 1), WakeAt(NOW + 5 + 1000))


def test_what_the_bank_decides_stands() -> None:
    assert step(REQUESTED, PayoutQueued(40)) == (Queued(40), ())
    refused = Refused(Refusal.NO_DESTINATION, "none is entered")
    assert step(REQUESTED, RefusalArrived(Refusal.NO_DESTINATION, "none is entered")) == (refused, ())
    assert step(Queued(40), RefusalArrived(Refusal.NO_DESTINATION, "")) == (Queued(40), ())
    assert step(refused, PayoutQueued(0)) == (refused, ())
