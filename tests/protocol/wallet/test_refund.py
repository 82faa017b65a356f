from typing import Any

import msgspec
import pytest

from protocol.coins import MAX_COINS, Coin
from protocol.exchange import REFUND
from protocol.machine import Effect, Overdue, Send, State, WakeAt
from protocol.recovery import FETCH
from protocol.refusals import Refusal
from protocol.wallet.purse import KeepCoins
from protocol.wallet.refund import (
    FETCH_EVERY,
    LOOK_EVERY_MS,
    MARGIN_MS,
    TRANSITIONS,
    AnswerWrong,
    Begin,
    Checking,
    Claim,
    CoinsVerified,
    Collected,
    Disputed,
    Effects,
    Lapsed,
    New,
    NothingFetched,
    RefundEvent,
    RefundState,
    RefusalArrived,
    Requested,
    Waiting,
    step,
)
from tests.conformance.machine import StoredMachineConformance
from tests.world import BANK, NOW, seed

DEADLINE = NOW + 1_000_000
OVER = DEADLINE + MARGIN_MS
CLAIM = Claim(
    merchant="bookshop",
    bank=BANK,
    ticket_id=b"t" * 16,
    ticket=b"ticket",
    outputs=(seed("a"), seed("b")),
    deadline=DEADLINE,
    refund_id=b"r" * 16,
    refund=b"refund",
    fetch_id=b"f" * 16,
    fetch=b"fetch",
)
REQUESTED = Requested(CLAIM, attempts=1)
CHECKING = Checking(CLAIM, Refusal.NO_REFUND, "none", attempts=1)
WAITING = Waiting(CLAIM, Refusal.NO_REFUND, "none")
COINS = ((0, Coin(seed("a"), seed("serial"), bytes(256))),)
NO = RefusalArrived(Refusal.NO_REFUND, "none", NOW, 0)


class TestRefundMachine(StoredMachineConformance):
    table = TRANSITIONS
    state_union = RefundState
    event_union = RefundEvent
    states = (
        New(),
        REQUESTED,
        Requested(msgspec.structs.replace(CLAIM, outputs=CLAIM.outputs * (MAX_COINS // 2)), attempts=3),
        CHECKING,
        Checking(CLAIM, "", "", attempts=4),
        Collected(13),
        WAITING,
        Lapsed(),
        Disputed(b"ticket", b"answer", "a signature is wrong"),
    )
    events = (
        Begin(CLAIM, NOW, 0),
        Overdue(NOW, 500),
        Overdue(OVER, 500),
        CoinsVerified(COINS, 13),
        AnswerWrong(b"answer", "a signature is wrong", ()),
        NO,
        NothingFetched(NOW, NOW),
        NothingFetched(NOW, OVER),
        NothingFetched(OVER, OVER),
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event)


def test_the_merchant_is_asked_and_every_fourth_time_the_bank() -> None:
    state, effects = step(New(), Begin(CLAIM, NOW, 1000))
    assert effects == (Send("bookshop", REFUND, CLAIM.refund_id, b"refund", 0), WakeAt(NOW + 1000))
    sent = list[Effect]()
    for _ in range(2 * FETCH_EVERY):
        sent.append(effects[0])
        state, effects = step(state, Overdue(NOW, 0))
    asked = [(send.to, send.kind, send.envelope) for send in sent if isinstance(send, Send)]
    merchant, bank = ("bookshop", REFUND, b"refund"), (BANK, FETCH, b"fetch")
    assert asked == ([merchant] * (FETCH_EVERY - 1) + [bank]) * 2


@pytest.mark.parametrize("state", [REQUESTED, CHECKING, WAITING], ids=["asking", "checking", "waiting"])
def test_coins_are_kept_whoever_brought_them_and_whatever_the_merchant_said(state: RefundState) -> None:
    kept = KeepCoins(CLAIM.ticket_id, COINS)
    assert step(state, CoinsVerified(COINS, 13)) == (Collected(13), (kept,))
    disputed = Disputed(b"ticket", b"answer", "wrong")
    assert step(state, AnswerWrong(b"answer", "wrong", COINS)) == (disputed, (kept,))


def test_after_a_merchants_refusal_the_bank_is_asked_at_once_and_then_daily_while_it_could_serve_the_ticket() -> None:
    state, effects = step(REQUESTED, NO)
    assert state == CHECKING
    assert effects == (Send(BANK, FETCH, CLAIM.fetch_id, b"fetch", 0), WakeAt(NOW + 500))
    assert step(CHECKING, NO) == (CHECKING, ())
    again, effects = step(CHECKING, Overdue(NOW, 0))
    assert again == msgspec.structs.replace(CHECKING, attempts=2)
    assert effects == (Send(BANK, FETCH, CLAIM.fetch_id, b"fetch", 1), WakeAt(NOW + 1000))
    long = msgspec.structs.replace(CLAIM, deadline=NOW + 7 * LOOK_EVERY_MS)
    for claim, wake in ((long, NOW + LOOK_EVERY_MS), (CLAIM, OVER)):
        checking = msgspec.structs.replace(CHECKING, claim=claim)
        waiting = msgspec.structs.replace(WAITING, claim=claim)
        assert step(checking, NothingFetched(NOW, NOW)) == (waiting, (WakeAt(wake),))
        assert step(waiting, Overdue(wake, 0))[0] == checking
    assert step(CHECKING, NothingFetched(OVER, OVER)) == (Lapsed(), ())
    assert step(CHECKING, NothingFetched(OVER - 1, OVER)) == (CHECKING, ()), "the bank's clock decides"
    for event in (NO, NothingFetched(NOW, NOW)):
        assert step(WAITING, event) == (WAITING, ())


def test_nobodys_silence_keeps_a_refund_open_longer_than_the_bank_serves_the_ticket() -> None:
    assert step(REQUESTED, NothingFetched(OVER - 1, OVER)) == (REQUESTED, ())
    assert step(REQUESTED, NothingFetched(OVER, OVER)) == (Lapsed(), ())
    asked, effects = step(REQUESTED, Overdue(OVER - 1, 0))
    assert isinstance(asked, Requested)
    last, effects = step(REQUESTED, Overdue(OVER, 0))
    assert last == Checking(CLAIM, "", "", attempts=1)
    assert effects[0] == Send(BANK, FETCH, CLAIM.fetch_id, b"fetch", 0)
    assert step(last, NothingFetched(OVER - 1, OVER)) == (last, ()), "the bank's clock decides"
    assert step(last, NothingFetched(OVER, OVER)) == (Lapsed(), ())
