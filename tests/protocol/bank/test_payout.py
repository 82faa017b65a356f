from itertools import combinations
from typing import Any

import msgspec
import pytest

from protocol.bank.desk import Committed, Contradicted, New, Post, Refused
from protocol.bank.ledger import Conflict, PayoutOrder, payout_entries
from protocol.bank.payout import TRANSITIONS, Asked, Effects, PayoutEvent, PayoutState, Posting, Queued, Shown, step
from protocol.commission import Commission
from protocol.machine import State
from protocol.payout import PayoutAnswer, PayoutRequest, PayoutStatus
from protocol.refusals import Refusal
from tests.conformance.machine import MachineConformance
from tests.world import ACCOUNT, NOW, TARIFF, alter
from tests.world import world as make_world

WORLD = make_world()
LAST = (PayoutStatus(8, 50, 5, "returned", "R02 Account closed", NOW - 1), PayoutStatus(3, 90, 5, "settled", "", 1))
ASKED = Asked(PayoutRequest(700, 5), WORLD.account, 705, (), TARIFF, NOW, NOW + 9)
LOOK = msgspec.structs.replace(ASKED, request=PayoutRequest(0, 0), balance=12, payouts=LAST)
POOR = alter(ASKED, "balance", 704)


class TestPayoutMachine(MachineConformance):
    table = TRANSITIONS
    state_union = PayoutState
    event_union = PayoutEvent
    states = (New(), Posting(), Queued(), Shown(b"body"), Refused(Refusal.UNKNOWN_ACCOUNT, ""))
    events = (ASKED, LOOK, POOR, Committed(), Contradicted(Conflict(Refusal.NO_DESTINATION), NOW))

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event)


def test_a_payout_debits_amount_and_commission_and_is_queued() -> None:
    state, (post,) = step(New(), ASKED)
    assert state == Posting()
    assert post == Post(
        body=PayoutAnswer(0, (PayoutStatus(0, 700, 5, "queued", "", NOW),)).encode(),
        entries=payout_entries(ACCOUNT, "USD", 700, 5),
        payout=PayoutOrder(ACCOUNT, 700, 5),
        not_after=NOW + 9,
    )
    assert step(Posting(), Committed()) == (Queued(), ())


def test_the_answer_tells_what_is_left() -> None:
    _, (post,) = step(New(), alter(ASKED, "balance", 1000))
    assert PayoutAnswer.decode(post.body).balance == 1000 - 705


def test_to_look_tells_balance_and_payouts_and_changes_nothing() -> None:
    assert step(New(), LOOK) == (Shown(PayoutAnswer(12, LAST).encode()), ())


def test_to_look_is_free_whatever_a_payout_costs() -> None:
    dear = msgspec.structs.replace(TARIFF, payout=Commission(10, 5000, 20, 0))
    assert isinstance(step(New(), alter(LOOK, "tariff", dear))[0], Shown)


@pytest.mark.parametrize("refusal", [Refusal.NO_DESTINATION, Refusal.INSUFFICIENT_FUNDS, Refusal.REQUEST_EXPIRED])
def test_the_books_may_refuse(refusal: Refusal) -> None:
    state, effects = step(Posting(), Contradicted(Conflict(refusal), NOW))
    assert isinstance(state, Refused)
    assert (state.refusal, effects) == (refusal, ())
    assert state.detail


# ---------------------------------------------------------------- refusals, in order of precedence

FAULTS: dict[str, tuple[dict[str, Any], Refusal]] = {
    "no account": ({"account": None}, Refusal.UNKNOWN_ACCOUNT),
    "a client's account": ({"account": WORLD.client}, Refusal.WRONG_MERCHANT),
    "a lower commission": ({"request": PayoutRequest(700, 4)}, Refusal.COMMISSION_CHANGED),
    "a higher commission": ({"request": PayoutRequest(700, 6)}, Refusal.COMMISSION_CHANGED),
    "a commission for looking": ({"request": PayoutRequest(0, 5)}, Refusal.COMMISSION_CHANGED),
    "one minor unit too little": ({"balance": 704}, Refusal.INSUFFICIENT_FUNDS),
    "nothing": ({"balance": 0}, Refusal.INSUFFICIENT_FUNDS),
}
PAIRS = [pair for pair in combinations(FAULTS, 2) if not FAULTS[pair[0]][0].keys() & FAULTS[pair[1]][0].keys()]


def refusal_of(event: Asked) -> str:
    state, effects = step(New(), event)
    assert isinstance(state, Refused)
    assert effects == ()
    return state.refusal


@pytest.mark.parametrize(("fields", "refusal"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_refused(fields: dict[str, Any], refusal: Refusal) -> None:
    assert refusal_of(msgspec.structs.replace(ASKED, **fields)) == refusal


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{first}, {second}" for first, second in PAIRS])
def test_of_two_faults_the_one_that_precedes_in_the_table_is_told(first: str, second: str) -> None:
    both = msgspec.structs.replace(ASKED, **FAULTS[first][0], **FAULTS[second][0])
    assert refusal_of(both) == min(FAULTS[first][1], FAULTS[second][1], key=list(Refusal).index)
