from typing import Any

import msgspec
import pytest

from protocol.blind_rsa import PublicKey, check_blinded
from protocol.coins import MAX_COINS, check_coin
from protocol.derivation import Root
from protocol.errors import PeerError
from protocol.machine import Overdue, Send, State, WakeAt
from protocol.messages import WithdrawAnswer
from protocol.refusals import Refusal
from protocol.wallet.withdrawal import (
    KIND,
    TRANSITIONS,
    AnswerWrong,
    Begin,
    CoinsVerified,
    Disputed,
    Effects,
    Issued,
    KeepCoins,
    New,
    RefusalArrived,
    Refused,
    Requested,
    WithdrawalEvent,
    WithdrawalState,
    step,
    unblind,
    write,
)
from tests.conformance.machine import StoredMachineConformance
from tests.world import BANK, NOW, World, altered, seed

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
        AnswerWrong(b"answer", "a signature is wrong"),
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
    coins = world.purse.coins
    assert step(REQUESTED, CoinsVerified(coins)) == (Issued(300, 3), (KeepCoins(REQUEST_ID, coins),))


def test_a_wrong_answer_is_kept_as_evidence_and_no_coin_is_counted() -> None:
    assert step(REQUESTED, AnswerWrong(b"answer", "why")) == (Disputed(b"sealed", b"answer", "why"), ())


def test_a_refusal_ends_the_withdrawal() -> None:
    assert step(REQUESTED, RefusalArrived("unknown_account", "who?")) == (Refused("unknown_account", "who?"), ())


class TestWhatIsWrittenAndUnblinded:
    @pytest.fixture
    def state(self, world: World) -> Requested:
        return world.requested([world.ids["USD", 100], world.ids["USD", 500]], REQUEST_ID)

    @pytest.fixture
    def answer(self, world: World, state: Requested) -> WithdrawAnswer:
        request = write(world.root, world.ring, REQUEST_ID, state.denominations, 7)
        return WithdrawAnswer(world.sign_blinded(request), state.amount, state.commission)

    def test_the_request_is_the_same_each_time_it_is_written(self, world: World, state: Requested) -> None:
        written = write(world.root, world.ring, REQUEST_ID, state.denominations, 7)
        assert written == write(world.root, world.ring, REQUEST_ID, state.denominations, 7)
        assert tuple(coin.denomination for coin in written.coins) == state.denominations
        for coin in written.coins:
            check_blinded(world.ring.key(coin.denomination), coin.blinded)

    def test_two_requests_two_indices_and_two_wallets_share_no_blinded_value(self, world: World) -> None:
        pair = [world.ids["USD", 100]] * 2
        requests = [
            write(world.root, world.ring, REQUEST_ID, pair, 2),
            write(world.root, world.ring, bytes(16), pair, 2),
            write(Root(bytes(63) + b"\1"), world.ring, REQUEST_ID, pair, 2),
        ]
        assert len({coin.blinded for request in requests for coin in request.coins}) == 6

    def test_an_unknown_denomination_is_not_asked_for(self, world: World) -> None:
        with pytest.raises(PeerError) as caught:
            write(world.root, world.ring, REQUEST_ID, [bytes(32)], 0)
        assert caught.value.refusal is Refusal.UNKNOWN_DENOMINATION

    def test_the_answer_makes_coins_that_verify(self, world: World, state: Requested, answer: WithdrawAnswer) -> None:
        coins = unblind(world.root, world.ring, state, answer)
        assert tuple(coin.denomination for coin in coins) == state.denominations
        for coin in coins:
            check_coin(world.ring.key(coin.denomination), coin)

    @pytest.mark.parametrize("field", ["amount", "commission"])
    def test_another_sum_is_refused(self, world: World, state: Requested, answer: WithdrawAnswer, field: str) -> None:
        changed = msgspec.structs.replace(answer, **{field: altered(getattr(answer, field))})
        with pytest.raises(PeerError) as caught:
            unblind(world.root, world.ring, state, changed)
        assert caught.value.refusal is Refusal.AMOUNT_MISMATCH

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_too_few_or_too_many_signatures_are_refused(
        self, world: World, state: Requested, answer: WithdrawAnswer, count: int
    ) -> None:
        changed = msgspec.structs.replace(answer, signatures=(answer.signatures * 2)[:count])
        with pytest.raises(PeerError) as caught:
            unblind(world.root, world.ring, state, changed)
        assert caught.value.refusal is Refusal.AMOUNT_MISMATCH

    def test_signatures_in_another_order_or_altered_are_refused(
        self, world: World, state: Requested, answer: WithdrawAnswer
    ) -> None:
        first, second = answer.signatures
        key: PublicKey = world.ring.key(state.denominations[0])
        for wrong in ((second, first), (altered(first), second), (first, bytes(256)), (key.n.to_bytes(256), second)):
            with pytest.raises(PeerError) as caught:
                unblind(world.root, world.ring, state, msgspec.structs.replace(answer, signatures=wrong))
            assert caught.value.refusal is Refusal.BAD_COIN
