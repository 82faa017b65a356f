from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.machine import Overdue, State, WakeAt
from protocol.wallet.purse import ReleaseCoins, ReserveCoins, SpendCoins
from protocol.wallet.transfer import (
    TRANSITIONS,
    AskSpent,
    Begin,
    Claimed,
    Closing,
    Effects,
    Found,
    New,
    Sent,
    TakeBack,
    TakenBack,
    Transfer,
    TransferEvent,
    TransferState,
    step,
)
from tests.conformance.machine import StoredMachineConformance
from tests.world import BANK, DAY, HOUR, NOW, seed

COINS = (seed("a"), seed("b"), seed("c"))
TRANSFER = Transfer(BANK, "mqtt://127.0.0.1:1883", "tea", COINS, b"", NOW + 7 * DAY)
MINUTES = 60_000


class TestTransferMachine(StoredMachineConformance):
    table = TRANSITIONS
    state_union = TransferState
    event_union = TransferEvent
    states = (
        New(),
        Sent(TRANSFER, 0),
        Sent(msgspec.structs.replace(TRANSFER, to=b"request", memo=""), 40),
        Closing(TRANSFER, 3),
        Claimed(),
        TakenBack(2, 1),
    )
    events = (
        Begin(TRANSFER, NOW, 0),
        Overdue(NOW, 500),
        Overdue(TRANSFER.expires, 500),
        TakeBack(NOW, 1000),
        Found(()),
        Found(COINS[:1]),
        Found((*reversed(COINS), seed("of another"))),
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event)


def test_the_coins_are_reserved_before_the_token_is_out() -> None:
    state, effects = step(New(), Begin(TRANSFER, NOW, 1000))
    assert state == Sent(TRANSFER, 0)
    assert effects == (ReserveCoins(COINS), WakeAt(NOW + 10 * MINUTES))


def test_the_bank_is_asked_more_and_more_rarely() -> None:
    state: TransferState = Sent(TRANSFER, 0)
    for looks, wait in ((1, 20), (2, 40), (3, 80)):
        state, effects = step(state, Overdue(NOW, 1000))
        assert state == Sent(TRANSFER, looks)
        assert effects == (AskSpent(COINS), WakeAt(NOW + wait * MINUTES))
    assert step(Sent(TRANSFER, 40), Overdue(NOW, 0))[1] == (AskSpent(COINS), WakeAt(NOW + DAY // 2))


@given(looks=st.integers(0, 100), now=st.integers(NOW - DAY, TRANSFER.expires + DAY), jitter=st.integers(0, 1000))
def test_it_is_looked_at_when_its_time_is_over(looks: int, now: int, jitter: int) -> None:
    state, (asked, wake) = step(Sent(TRANSFER, looks), Overdue(now, jitter))
    assert isinstance(state, Sent if now < TRANSFER.expires else Closing)
    assert asked == AskSpent(COINS)
    assert isinstance(wake, WakeAt)
    assert now < wake.at <= now + DAY
    assert not now < TRANSFER.expires < wake.at


@pytest.mark.parametrize("state", [Sent(TRANSFER, 1), Closing(TRANSFER, 1)])
def test_it_is_claimed_when_all_coins_are_spent(state: Sent | Closing) -> None:
    assert step(state, Found(COINS[::-1])) == (Claimed(), (SpendCoins(COINS),))


@pytest.mark.parametrize("spent", [(), COINS[:2]])
def test_while_there_is_time_nothing_less_changes_anything(spent: tuple[bytes, ...]) -> None:
    assert step(Sent(TRANSFER, 1), Found(spent)) == (Sent(TRANSFER, 1), ())


@pytest.mark.parametrize("event", [TakeBack(NOW, 1000), Overdue(TRANSFER.expires + HOUR, 1000)])
def test_before_coins_are_taken_back_the_bank_is_asked_once_more(event: TakeBack | Overdue) -> None:
    state, effects = step(Sent(TRANSFER, 0), event)
    assert state == Closing(TRANSFER, 1)
    assert effects == (AskSpent(COINS), WakeAt(event.now + 20 * MINUTES))
    assert step(state, event)[0] == Closing(TRANSFER, 2)


@pytest.mark.parametrize("spent", [0, 1, 2])
def test_what_was_not_claimed_comes_back_unverified(spent: int) -> None:
    state, effects = step(Closing(TRANSFER, 1), Found((seed("of another"), *COINS[:spent])))
    assert state == TakenBack(3 - spent, spent)
    assert effects == (SpendCoins(COINS[:spent]), ReleaseCoins(COINS[spent:], unverified=True))
