from typing import Any

import msgspec
import pytest

from protocol.coins import MAX_COINS, check_coin
from protocol.machine import Overdue, Send, State, WakeAt
from protocol.messages import WithdrawAnswer
from protocol.refusals import Refusal
from protocol.wallet.purse import KeepCoins
from protocol.wallet.withdrawal import (
    KIND,
    TRANSITIONS,
    AnswerWrong,
    Begin,
    CoinsVerified,
    Disputed,
    Effects,
    Issued,
    New,
    RefusalArrived,
    Refused,
    Requested,
    WithdrawalEvent,
    WithdrawalState,
    step,
    unblind,
)
from tests.conformance.machine import StoredMachineConformance
from tests.world import BANK, NOW, World, alter, seed

REQUEST_ID = b"r" * 16
DENOMINATIONS = (seed("a"), seed("b"))
REQUESTED = Requested(BANK, REQUEST_ID, b"sealed", DENOMINATIONS, 300, 3, attempts=0)


class TestWithdrawalMachine(StoredMachineConformance):
    table = TRANSITIONS
    state_union = WithdrawalState
    event_union = WithdrawalEvent
    states = (
        New(),
        REQUESTED,
        msgspec.structs.replace(REQUESTED, denominations=DENOMINATIONS * (MAX_COINS // 2), attempts=40),
        Issued(300, 3),
        Refused(Refusal.INSUFFICIENT_FUNDS, "not enough"),
        Disputed(b"sealed", b"answer", "a signature is wrong"),
    )
    events = (
        Begin(BANK, REQUEST_ID, b"sealed", DENOMINATIONS, 300, 3, NOW, 0),
        Overdue(NOW, 500),
        CoinsVerified(()),
        AnswerWrong(b"answer", "a signature is wrong", ()),
        RefusalArrived(Refusal.INSUFFICIENT_FUNDS, "not enough"),
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event)


def test_the_request_is_sent_and_repeated_as_it_is_until_it_is_answered() -> None:
    state, effects = step(New(), Begin(BANK, REQUEST_ID, b"sealed", DENOMINATIONS, 300, 3, NOW, 1000))
    assert state == msgspec.structs.replace(REQUESTED, attempts=1)
    assert effects == (Send(BANK, KIND, REQUEST_ID, b"sealed", 0), WakeAt(NOW + 1000))
    state, effects = step(state, Overdue(NOW + 1000, 0))
    assert state == msgspec.structs.replace(REQUESTED, attempts=2)
    assert effects == (Send(BANK, KIND, REQUEST_ID, b"sealed", 1), WakeAt(NOW + 2000))


def test_verified_coins_are_kept(world: World) -> None:
    coins = tuple(enumerate(world.purse.coins))
    assert step(REQUESTED, CoinsVerified(coins)) == (Issued(300, 3), (KeepCoins(REQUEST_ID, coins),))


def test_a_wrong_answer_is_kept_as_evidence_and_the_coins_that_verified_count(world: World) -> None:
    """The account was debited for them: dropping them would be the wallet's loss."""
    good = ((0, world.purse.coins[0]), (2, world.purse.coins[2]))
    disputed = Disputed(b"sealed", b"answer", "why")
    assert step(REQUESTED, AnswerWrong(b"answer", "why", good)) == (disputed, (KeepCoins(REQUEST_ID, good),))
    assert step(disputed, CoinsVerified(tuple(enumerate(world.purse.coins)))) == (disputed, ())


def test_a_refusal_ends_the_withdrawal() -> None:
    assert step(REQUESTED, RefusalArrived("unknown_account", "who?")) == (Refused("unknown_account", "who?"), ())


class TestWhatIsUnblinded:
    @pytest.fixture
    def state(self, world: World) -> Requested:
        return world.requested([world.ids["USD", 100], world.ids["USD", 500]], REQUEST_ID)

    @pytest.fixture
    def answer(self, world: World, state: Requested) -> WithdrawAnswer:
        coins = world.issue(world.blind(state.denominations, REQUEST_ID))
        return WithdrawAnswer(coins, state.amount, state.commission)

    def test_the_answer_makes_coins_that_verify(self, world: World, state: Requested, answer: WithdrawAnswer) -> None:
        event = unblind(world.root, world.ring, state, answer, b"answer")
        assert isinstance(event, CoinsVerified)
        assert [index for index, _ in event.coins] == [0, 1]
        assert tuple(coin.denomination for _, coin in event.coins) == state.denominations
        for _, coin in event.coins:
            check_coin(world.ring.key(coin.denomination), coin)

    @pytest.mark.parametrize("field", ["amount", "commission"])
    def test_another_sum_is_disputed_and_the_coins_are_kept(
        self, world: World, state: Requested, answer: WithdrawAnswer, field: str
    ) -> None:
        changed = alter(answer, field)
        event = unblind(world.root, world.ring, state, changed, b"answer")
        good = unblind(world.root, world.ring, state, answer, b"answer")
        assert isinstance(good, CoinsVerified)
        detail = f"the bank debited {changed.amount} and {changed.commission}"
        assert event == AnswerWrong(b"answer", detail, good.coins)

    def test_a_coin_that_does_not_verify_is_disputed_and_the_others_are_kept(
        self, world: World, state: Requested, answer: WithdrawAnswer
    ) -> None:
        first, second = answer.coins
        changed = msgspec.structs.replace(answer, coins=(alter(first, "signature"), second))
        event = unblind(world.root, world.ring, state, changed, b"answer")
        assert isinstance(event, AnswerWrong)
        assert (event.answer, [index for index, _ in event.coins]) == (b"answer", [1])
        assert event.detail.startswith("coin 0: ")
