from typing import Any

import pytest

from protocol.machine import Overdue, Send, State, WakeAt
from protocol.merchant.deposit import (
    KIND,
    TRANSITIONS,
    Begin,
    Credited,
    DepositEvent,
    DepositState,
    Effects,
    New,
    RefusalArrived,
    Refused,
    Requested,
    Settle,
    VerdictArrived,
    step,
)
from protocol.refusals import Refusal
from tests.conformance.machine import StoredMachineConformance
from tests.world import BANK, NOW, seed

DIGEST, REQUEST_ID = seed("payment"), b"r" * 16
REQUESTED = Requested(BANK, DIGEST, REQUEST_ID, b"sealed", attempts=1)


class TestDepositMachine(StoredMachineConformance):
    table = TRANSITIONS
    state_union = DepositState
    event_union = DepositEvent
    states = (
        New(),
        REQUESTED,
        Credited(DIGEST, b"verdict", 5),
        Refused(DIGEST, b"verdict", Refusal.ALREADY_SPENT),
        Refused(DIGEST, b"", Refusal.UNKNOWN_ACCOUNT),
    )
    events = (
        Begin(BANK, DIGEST, REQUEST_ID, b"sealed", NOW, 0),
        Overdue(NOW, 500),
        VerdictArrived(b"verdict", "", 5),
        VerdictArrived(b"verdict", Refusal.ALREADY_SPENT, 0),
        RefusalArrived(Refusal.UNKNOWN_ACCOUNT),
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event)


def test_the_same_bytes_are_sent_until_the_bank_has_decided() -> None:
    state, effects = step(New(), Begin(BANK, DIGEST, REQUEST_ID, b"sealed", NOW, 1000))
    assert state == REQUESTED
    assert effects == (Send(BANK, KIND, REQUEST_ID, b"sealed", 0), WakeAt(NOW + 1000))
    state, effects = step(state, Overdue(NOW + 5, 0))
    assert state == Requested(BANK, DIGEST, REQUEST_ID, b"sealed", attempts=2)
    assert effects == (Send(BANK, KIND, REQUEST_ID, b"sealed", 1), WakeAt(NOW + 5 + 1000))


@pytest.mark.parametrize(
    ("event", "state", "settle"),
    [
        (VerdictArrived(b"v", "", 5), Credited(DIGEST, b"v", 5), Settle(DIGEST, b"v", "")),
        (VerdictArrived(b"v", "bad_coin", 0), Refused(DIGEST, b"v", "bad_coin"), Settle(DIGEST, b"v", "bad_coin")),
        (RefusalArrived("bad_parcel"), Refused(DIGEST, b"", "bad_parcel"), Settle(DIGEST, b"", "bad_parcel")),
    ],
    ids=["accepted", "refused", "not judged"],
)
def test_what_the_bank_decides_is_told_to_the_sale(event: DepositEvent, state: DepositState, settle: Settle) -> None:
    assert step(REQUESTED, event) == (state, (settle,))
