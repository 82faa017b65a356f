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
from protocol.signatures import public_key
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
        event = unblind(world.root, world.ring, state, answer, b"answer")
        assert isinstance(event, CoinsVerified)
        assert [index for index, _ in event.coins] == [0, 1]
        assert tuple(coin.denomination for _, coin in event.coins) == state.denominations
        for index, coin in event.coins:
            check_coin(world.ring.key(coin.denomination), coin)
            assert coin.serial == public_key(world.root.coin(REQUEST_ID, index))

    def wrong(self, world: World, state: Requested, answer: WithdrawAnswer) -> AnswerWrong:
        event = unblind(world.root, world.ring, state, answer, b"answer")
        assert isinstance(event, AnswerWrong)
        assert event.answer == b"answer"
        for index, coin in event.coins:
            assert coin.denomination == state.denominations[index]
            check_coin(world.ring.key(coin.denomination), coin)
        return event

    @pytest.mark.parametrize("field", ["amount", "commission"])
    def test_another_sum_is_disputed_and_the_coins_are_kept(
        self, world: World, state: Requested, answer: WithdrawAnswer, field: str
    ) -> None:
        changed = msgspec.structs.replace(answer, **{field: altered(getattr(answer, field))})
        event = self.wrong(world, state, changed)
        assert event.detail == f"the bank debited {changed.amount} and {changed.commission}"
        assert [index for index, _ in event.coins] == [0, 1]

    @pytest.mark.parametrize(("count", "kept"), [(0, []), (1, [0]), (3, [0, 1])])
    def test_too_few_or_too_many_signatures_are_disputed(
        self, world: World, state: Requested, answer: WithdrawAnswer, count: int, kept: list[int]
    ) -> None:
        event = self.wrong(world, state, msgspec.structs.replace(answer, signatures=(answer.signatures * 2)[:count]))
        assert event.detail == f"{count} signatures came for 2 coins"
        assert [index for index, _ in event.coins] == kept

    def test_a_wrong_signature_costs_its_own_coin_and_no_other(
        self, world: World, state: Requested, answer: WithdrawAnswer
    ) -> None:
        first, second = answer.signatures
        key: PublicKey = world.ring.key(state.denominations[0])
        tried = [
            ((second, first), []),
            ((altered(first), second), [1]),
            ((first, bytes(256)), [0]),
            ((key.n.to_bytes(256), second), [1]),
        ]
        for signatures, kept in tried:
            event = self.wrong(world, state, msgspec.structs.replace(answer, signatures=signatures))
            assert event.detail.startswith("coin ")
            assert [index for index, _ in event.coins] == kept
