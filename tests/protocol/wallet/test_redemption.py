from typing import Any

from protocol.machine import Overdue, Send, State, WakeAt
from protocol.recovery import REDEEM
from protocol.refusals import Refusal
from protocol.wallet.purse import ReleaseCoins, ReserveCoins, SetCoinsAside, SpendCoins, VoidDigest
from protocol.wallet.redemption import (
    TRANSITIONS,
    AnswerWrong,
    Begin,
    Credited,
    Disputed,
    Effects,
    New,
    Redeemed,
    Redemption,
    RedemptionEvent,
    RedemptionState,
    RefusalArrived,
    Refused,
    Requested,
    step,
)
from tests.conformance.machine import StoredMachineConformance
from tests.world import BANK, NOW, seed

REQUEST_ID = b"r" * 16
FIRST, SECOND = SERIALS = (seed("first"), seed("second"))
DIGEST = seed("digest")
REDEMPTION = Redemption(BANK, REQUEST_ID, DIGEST, b"sealed", SERIALS, unverified=True, amount=300, commission=4)
REQUESTED = Requested(REDEMPTION, attempts=0)


class TestRedemptionMachine(StoredMachineConformance):
    table = TRANSITIONS
    state_union = RedemptionState
    event_union = RedemptionEvent
    states = (
        New(),
        REQUESTED,
        Redeemed(300, 4),
        Refused(Refusal.ALREADY_SPENT, "one of them", 1),
        Disputed(b"sealed", b"answer", "it is for another sum"),
    )
    events = (
        Begin(REDEMPTION, NOW, 0),
        Overdue(NOW, 500),
        Credited(),
        AnswerWrong(b"answer", "it is for another sum"),
        RefusalArrived(Refusal.ALREADY_SPENT, "one of them", (FIRST,)),
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event)


def test_coins_are_reserved_and_the_request_is_repeated_as_it_is_until_it_is_answered() -> None:
    state, effects = step(New(), Begin(REDEMPTION, NOW, 1000))
    assert state == Requested(REDEMPTION, 1)
    sent = Send(BANK, REDEEM, REQUEST_ID, b"sealed", 0)
    assert effects == (ReserveCoins(SERIALS, unverified=True), sent, WakeAt(NOW + 1000))
    state, effects = step(state, Overdue(NOW + 1000, 0))
    assert state == Requested(REDEMPTION, 2)
    assert effects == (Send(BANK, REDEEM, REQUEST_ID, b"sealed", 1), WakeAt(NOW + 2000))


def test_coins_that_were_credited_are_spent() -> None:
    assert step(REQUESTED, Credited()) == (Redeemed(300, 4), (SpendCoins(SERIALS),))


def test_after_a_refusal_what_is_proven_spent_is_spent_and_the_rest_is_as_it_was() -> None:
    """Evidence about coins that are not ours changes nothing."""
    state, effects = step(REQUESTED, RefusalArrived("already_spent", "one", (seed("foreign"), FIRST)))
    assert state == Refused("already_spent", "one", 1)
    assert effects == (SpendCoins((FIRST,)), ReleaseCoins((SECOND,), unverified=True), VoidDigest(DIGEST))


def test_a_wrong_answer_is_kept_as_evidence_and_the_coins_stay_aside() -> None:
    disputed = Disputed(b"sealed", b"answer", "why")
    assert step(REQUESTED, AnswerWrong(b"answer", "why")) == (disputed, (SetCoinsAside(SERIALS),))
    assert step(disputed, Credited()) == (disputed, ())
