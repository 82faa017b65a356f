"""Withdrawal, the wallet's side: the account is debited and the bank signs coins that it cannot see.

The request is durable before it is sent and is repeated, the same bytes, until it is answered. Coins exist only after
each signature has verified (`unblind`). Secrets are derived from the seed, so none stands in a state.
"""

from typing import Final, TypeAlias

import msgspec

from ..codec import Bytes32
from ..coins import Coin
from ..derivation import Root
from ..errors import IllegalTransition
from ..keyset import KeyRing
from ..machine import STAY, Effect, Event, Jitter, Overdue, Send, State, WakeAt, arrows, backoff
from ..messages import WithdrawAnswer
from .outputs import unblind_outputs
from .purse import KeepCoins

KIND: Final = "withdraw"


class New(State, frozen=True):
    """Nothing was asked yet."""


class Requested(State, frozen=True):
    """The request is on its way, or its answer is; the account may be debited already."""

    bank: str
    request_id: bytes
    envelope: bytes
    denominations: tuple[Bytes32, ...]
    amount: int
    commission: int
    attempts: int


class Issued(State, frozen=True):
    """The coins are in the wallet."""

    amount: int
    commission: int


class Refused(State, frozen=True):
    """The bank refused; the account was not debited."""

    refusal: str
    detail: str


class Disputed(State, frozen=True):
    """The bank's signed answer is wrong; request and answer are kept as evidence. What verified was counted."""

    envelope: bytes
    answer: bytes
    detail: str


class Begin(Event, frozen=True):
    """The wallet has written a request (`write`) for `amount`, for which the keyset asks `commission`."""

    bank: str
    request_id: bytes
    envelope: bytes
    denominations: tuple[bytes, ...]
    amount: int
    commission: int
    now: int
    jitter: Jitter


class CoinsVerified(Event, frozen=True):
    """The bank has answered and every signature has verified. Each coin comes with its index in the request."""

    coins: tuple[tuple[int, Coin], ...]


class AnswerWrong(Event, frozen=True):
    """The bank has answered, and its answer is not what was asked for, but for these coins."""

    answer: bytes
    detail: str
    coins: tuple[tuple[int, Coin], ...]


class RefusalArrived(Event, frozen=True):
    """The bank has refused for good."""

    refusal: str
    detail: str


WithdrawalState: TypeAlias = New | Requested | Issued | Refused | Disputed
WithdrawalEvent: TypeAlias = Begin | Overdue | CoinsVerified | AnswerWrong | RefusalArrived
Effects: TypeAlias = tuple[Effect, ...]

TRANSITIONS: Final = arrows(
    ([New], [Begin], [Requested]),
    ([Requested], [Overdue], STAY),
    ([Requested], [CoinsVerified], [Issued]),
    ([Requested], [AnswerWrong], [Disputed]),
    ([Requested], [RefusalArrived], [Refused]),
    ([Issued, Refused, Disputed], [Overdue, CoinsVerified, AnswerWrong, RefusalArrived], STAY),
)


def step(state: WithdrawalState, event: WithdrawalEvent) -> tuple[WithdrawalState, Effects]:
    """Return the next state and what must happen outside.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), Begin():
            requested = Requested(
                event.bank,
                event.request_id,
                event.envelope,
                event.denominations,
                event.amount,
                event.commission,
                attempts=0,
            )
            return _send(requested, event.now, event.jitter)
        case Requested(), Overdue():
            return _send(state, event.now, event.jitter)
        case Requested(), CoinsVerified():
            return Issued(state.amount, state.commission), (KeepCoins(state.request_id, event.coins),)
        case Requested(), AnswerWrong():
            disputed = Disputed(state.envelope, event.answer, event.detail)
            return disputed, (KeepCoins(state.request_id, event.coins),)
        case Requested(), RefusalArrived():
            return Refused(event.refusal, event.detail), ()
        case ((Issued() | Refused() | Disputed()), (Overdue() | CoinsVerified() | AnswerWrong() | RefusalArrived())):
            return state, ()  # a duplicate, or a late timer
        case _:
            raise IllegalTransition(state, event)


def _send(state: Requested, now: int, jitter: int) -> tuple[Requested, Effects]:
    send = Send(state.bank, KIND, state.request_id, state.envelope, state.attempts)
    wake = WakeAt(now + backoff(state.attempts, jitter))
    return msgspec.structs.replace(state, attempts=state.attempts + 1), (send, wake)


def unblind(
    root: Root, ring: KeyRing, state: Requested, answer: WithdrawAnswer, sealed: bytes
) -> CoinsVerified | AnswerWrong:
    """Unblind and verify every signature (RFC 9474, Finalize) and return what the machine sees of the answer.

    Args:
        root: the root of the wallet's secrets.
        ring: the bank's keys.
        state: the withdrawal.
        answer: what the bank says.
        sealed: the same as it came, kept as evidence if it is wrong.
    """
    coins, wrong = unblind_outputs(root, ring, state.request_id, state.denominations, answer.coins)
    if (answer.amount, answer.commission) != (state.amount, state.commission):
        wrong = f"the bank debited {answer.amount} and {answer.commission}"
    return AnswerWrong(sealed, wrong, coins) if wrong else CoinsVerified(coins)
