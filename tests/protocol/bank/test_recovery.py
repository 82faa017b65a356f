from typing import Any

import msgspec
import pytest

from protocol.bank.desk import New, Refused
from protocol.bank.recovery import (
    TRANSITIONS,
    AnswerAsked,
    RecoveryEvent,
    RecoveryState,
    SpendingsAsked,
    Told,
    WithdrawalsAsked,
    step,
)
from protocol.coins import Evidence
from protocol.machine import Effect, State
from protocol.recovery import (
    MAX_SPENDINGS,
    CheckAnswer,
    CheckRequest,
    FetchAnswer,
    RecoverAnswer,
    RecoverRequest,
    StoredAnswer,
    find_spending,
)
from protocol.refusals import Refusal
from tests.conformance.machine import MachineConformance
from tests.world import GENERATION, alter, seed
from tests.world import world as make_world

WORLD = make_world()
STORED = StoredAnswer(b"w" * 16, seed("request"), b"sealed as it was")
PAGE = RecoverAnswer((STORED, alter(STORED, "request_id")), 18, 3)
WITHDRAWALS = WithdrawalsAsked(RecoverRequest(GENERATION, 0), WORLD.client, PAGE)
DENOMINATION = WORLD.ids["USD", 100]
DIGEST = seed("what it was spent on")
SPENT = tuple(Evidence(one.coin.denomination, one.coin.serial, DIGEST, one.spend) for one in WORLD.purse.spend(DIGEST))
SPENDINGS = SpendingsAsked(CheckRequest(DENOMINATION, ""), SPENT, WORLD.ring)
FOREIGN = alter(SPENDINGS, "request", CheckRequest(bytes(32), ""))


class TestRecoveryMachine(MachineConformance):
    table = TRANSITIONS
    state_union = RecoveryState
    event_union = RecoveryEvent
    states = (New(), Told(b"body"), Refused(Refusal.SUPERSEDED, ""))
    events = (
        WITHDRAWALS,
        msgspec.structs.replace(WITHDRAWALS, account=None),
        AnswerAsked(STORED),
        AnswerAsked(None),
        SPENDINGS,
        FOREIGN,
    )

    def step(self, state: Any, event: Any) -> tuple[State, tuple[Effect, ...]]:
        return step(state, event)


def told(event: RecoveryEvent) -> bytes:
    state, effects = step(New(), event)
    assert effects == ()
    assert isinstance(state, Told)
    return state.body


def refusal_of(event: RecoveryEvent) -> str:
    state, effects = step(New(), event)
    assert effects == ()
    assert isinstance(state, Refused)
    assert not state.lasting
    return state.refusal


def test_the_served_device_gets_its_withdrawals_as_the_books_keep_them() -> None:
    assert RecoverAnswer.decode(told(WITHDRAWALS)) == PAGE


def test_who_has_no_account_recovers_nothing() -> None:
    assert refusal_of(msgspec.structs.replace(WITHDRAWALS, account=None)) == Refusal.UNKNOWN_ACCOUNT


@pytest.mark.parametrize("generation", [0, GENERATION - 1, GENERATION + 1])
def test_another_device_than_the_served_one_recovers_nothing(generation: int) -> None:
    assert refusal_of(alter(WITHDRAWALS, "request", RecoverRequest(generation, 0))) == Refusal.SUPERSEDED


def test_a_stored_answer_is_given_as_it_was_sealed() -> None:
    assert FetchAnswer.decode(told(AnswerAsked(STORED))) == FetchAnswer((STORED,))
    assert FetchAnswer.decode(told(AnswerAsked(None))) == FetchAnswer(())


def test_every_spending_is_told_to_who_knows_the_serial_number() -> None:
    answer = CheckAnswer.decode(told(SPENDINGS))
    assert answer.complete
    assert len(answer.spendings) == len(SPENT)
    for one in SPENT:
        assert find_spending(answer.spendings, one.denomination, one.serial) == one


def test_who_does_not_know_the_serial_number_reads_nothing_of_a_spending() -> None:
    body = told(SPENDINGS)
    for one in SPENT:
        for secret in (one.serial, one.digest, one.spend):
            assert secret not in body


def test_no_spending_is_a_complete_answer_and_too_many_are_none() -> None:
    assert CheckAnswer.decode(told(alter(SPENDINGS, "spendings", ()))) == CheckAnswer((), complete=True)
    many = msgspec.structs.replace(SPENDINGS, spendings=None)
    assert CheckAnswer.decode(told(many)) == CheckAnswer((), complete=False)


def test_the_longest_answer_can_be_read() -> None:
    answer = CheckAnswer.decode(told(alter(SPENDINGS, "spendings", SPENT[:1] * MAX_SPENDINGS)))
    assert len(answer.spendings) == MAX_SPENDINGS


def test_of_a_denomination_that_is_not_the_banks_nothing_is_said() -> None:
    assert refusal_of(FOREIGN) == Refusal.UNKNOWN_DENOMINATION
