from typing import Any

import msgspec
import pytest

from protocol.coins import MAX_COINS
from protocol.exchange import EXCHANGE
from protocol.machine import Overdue, Send, State, WakeAt
from protocol.refusals import Refusal
from protocol.wallet.exchange import (
    TRANSITIONS,
    AnswerWrong,
    Begin,
    CoinsVerified,
    Disputed,
    Effects,
    Exchanged,
    ExchangeEvent,
    ExchangeState,
    New,
    RefusalArrived,
    Refused,
    Requested,
    Swap,
    step,
)
from protocol.wallet.purse import KeepCoins, ReleaseCoins, ReserveCoins, SetCoinsAside, SpendCoins, VoidDigest
from tests.conformance.machine import StoredMachineConformance
from tests.world import BANK, NOW, World, alter, seed

ONE, TWO, GIVEN, OTHER = seed("one"), seed("two"), seed("given"), seed("other")
SWAP = Swap(BANK, b"r" * 16, seed("digest"), b"sealed", (ONE, TWO), False, (seed("a"), seed("b")), (GIVEN,))  # noqa: FBT003
UNVERIFIED = alter(SWAP, "unverified", value=True)
REQUESTED = Requested(SWAP, 0)
SPENT = RefusalArrived(Refusal.ALREADY_SPENT, "spent before", (TWO,))


class TestExchangeMachine(StoredMachineConformance):
    table = TRANSITIONS
    state_union = ExchangeState
    event_union = ExchangeEvent
    states = (
        New(),
        REQUESTED,
        Requested(UNVERIFIED, 40),
        Requested(alter(SWAP, "serials", ()), 1),
        Requested(alter(SWAP, "outputs", (seed("a"),) * MAX_COINS), 1),
        Exchanged(300),
        Refused(Refusal.ALREADY_SPENT, "spent before", 1),
        Disputed(b"sealed", b"answer", "a signature is wrong"),
    )
    events = (
        Begin(SWAP, NOW, 0),
        Begin(UNVERIFIED, NOW, 1000),
        Overdue(NOW, 500),
        CoinsVerified((), 300),
        AnswerWrong(b"answer", "a signature is wrong", ()),
        SPENT,
        RefusalArrived(Refusal.COMMISSION_CHANGED, "", ()),
        RefusalArrived(Refusal.REQUEST_ID_REUSED, "", ()),
        RefusalArrived(Refusal.REQUEST_ID_REUSED, "", (), copied=True),
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event)


@pytest.mark.parametrize("swap", [SWAP, UNVERIFIED], ids=["free", "unverified"])
def test_coins_are_reserved_before_the_request_is_sent_and_it_is_repeated_as_it_is(swap: Swap) -> None:
    state, effects = step(New(), Begin(swap, NOW, 1000))
    assert state == Requested(swap, attempts=1)
    send = Send(BANK, EXCHANGE, swap.request_id, b"sealed", 0)
    assert effects == (ReserveCoins((ONE, TWO), swap.unverified), send, WakeAt(NOW + 1000))
    state, effects = step(state, Overdue(NOW + 1000, 0))
    assert state == Requested(swap, attempts=2)
    assert effects == (msgspec.structs.replace(send, attempt=1), WakeAt(NOW + 2000))


def test_new_coins_are_kept_in_the_same_step_that_spends_the_old_ones(world: World) -> None:
    coins = tuple(enumerate(world.purse.coins))
    exchanged = (Exchanged(800), (SpendCoins((ONE, TWO)), KeepCoins(SWAP.request_id, coins)))
    assert step(REQUESTED, CoinsVerified(coins, 800)) == exchanged


def test_a_wrong_answer_is_kept_as_evidence_and_what_verified_counts(world: World) -> None:
    good = ((1, world.purse.coins[1]),)
    disputed, effects = step(REQUESTED, AnswerWrong(b"answer", "why", good))
    assert disputed == Disputed(b"sealed", b"answer", "why")
    assert effects == (SetCoinsAside((ONE, TWO)), KeepCoins(SWAP.request_id, good))


@pytest.mark.parametrize("swap", [SWAP, UNVERIFIED], ids=["free", "unverified"])
@pytest.mark.parametrize(
    ("proven", "spent", "back", "count"),
    [
        ((), (), (ONE, TWO), 0),
        ((TWO,), (TWO,), (ONE,), 1),
        ((TWO, ONE), (ONE, TWO), (), 2),
        ((GIVEN,), (), (ONE, TWO), 1),
        ((OTHER, ONE), (ONE,), (TWO,), 1),
    ],
)
def test_after_a_refusal_each_coin_is_spent_or_as_it_was(
    swap: Swap, proven: tuple[bytes, ...], spent: tuple[bytes, ...], back: tuple[bytes, ...], count: int
) -> None:
    refused, effects = step(Requested(swap, 3), RefusalArrived(Refusal.ALREADY_SPENT, "why", proven))
    assert refused == Refused(Refusal.ALREADY_SPENT, "why", count)
    assert effects == (SpendCoins(spent), ReleaseCoins(back, swap.unverified), VoidDigest(SWAP.digest))


@pytest.mark.parametrize("refusal", [Refusal.COMMISSION_CHANGED, Refusal.REQUEST_ID_REUSED])
def test_every_refusal_voids_the_digest_unless_a_copy_has_shown_to_have_made_the_same_exchange(
    refusal: Refusal,
) -> None:
    refused, effects = step(REQUESTED, RefusalArrived(refusal, "", ()))
    assert refused == Refused(refusal, "", 0)
    assert effects == (SpendCoins(()), ReleaseCoins((ONE, TWO)), VoidDigest(SWAP.digest))
    assert step(REQUESTED, RefusalArrived(refusal, "", (), copied=True)) == (refused, effects[:-1])
