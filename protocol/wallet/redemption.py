"""Redemption, the wallet's side: the value of coins goes back into its account.

It is for coins that were found again, for those whose key was revoked, and for who wants no coins any more. The
request is durable before it is sent and is repeated, the same bytes, until it is answered.
"""

from typing import Final, TypeAlias

import msgspec

from ..codec import Bytes32
from ..errors import IllegalTransition
from ..machine import STAY, Effect, Event, Jitter, Overdue, Send, State, WakeAt, arrows, backoff
from ..recovery import REDEEM
from .purse import ReleaseCoins, ReserveCoins, SetCoinsAside, SpendCoins, VoidDigest


class Redemption(msgspec.Struct, frozen=True, array_like=True):
    """What is redeemed: written and sealed before anything is sent.

    `digest` is what every coin signs; `serials` are those of the coins, all `unverified` or all free, worth `amount`,
    from which the bank takes `commission`.
    """

    bank: str
    request_id: bytes
    digest: Bytes32
    envelope: bytes
    serials: tuple[Bytes32, ...]
    unverified: bool
    amount: int
    commission: int


class New(State, frozen=True):
    """Nothing was asked yet."""


class Requested(State, frozen=True):
    """The request is on its way, or its answer is; the coins may be credited already."""

    redemption: Redemption
    attempts: int


class Redeemed(State, frozen=True):
    """The coins, worth `amount`, are spent; the account was credited with that less `commission`."""

    amount: int
    commission: int


class Refused(State, frozen=True):
    """The bank refused; what was not proven spent is as it was. `spent` counts what was."""

    refusal: str
    detail: str
    spent: int


class Disputed(State, frozen=True):
    """The bank's signed answer is wrong, or shows no valid evidence; request and answer are kept as evidence."""

    envelope: bytes
    answer: bytes
    detail: str


class Begin(Event, frozen=True):
    """The wallet has written a request."""

    redemption: Redemption
    now: int
    jitter: Jitter


class Credited(Event, frozen=True):
    """The bank has answered that it credited the account, as it was asked to."""


class AnswerWrong(Event, frozen=True):
    """The bank has answered, and its answer is not what was asked for."""

    answer: bytes
    detail: str


class RefusalArrived(Event, frozen=True):
    """The bank has refused for good. `spent` are serial numbers whose earlier spending is proven by evidence."""

    refusal: str
    detail: str
    spent: tuple[bytes, ...]


RedemptionState: TypeAlias = New | Requested | Redeemed | Refused | Disputed
RedemptionEvent: TypeAlias = Begin | Overdue | Credited | AnswerWrong | RefusalArrived
Effects: TypeAlias = tuple[Effect, ...]

TRANSITIONS: Final = arrows(
    ([New], [Begin], [Requested]),
    ([Requested], [Overdue], STAY),
    ([Requested], [Credited], [Redeemed]),
    ([Requested], [AnswerWrong], [Disputed]),
    ([Requested], [RefusalArrived], [Refused]),
    ([Redeemed, Refused, Disputed], [Overdue, Credited, AnswerWrong, RefusalArrived], STAY),
)


def step(state: RedemptionState, event: RedemptionEvent) -> tuple[RedemptionState, Effects]:
    """Return the next state and what must happen outside.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), Begin(redemption=redemption):
            requested, effects = _send(Requested(redemption, attempts=0), event.now, event.jitter)
            return requested, (ReserveCoins(redemption.serials, redemption.unverified), *effects)
        case Requested(), Overdue():
            return _send(state, event.now, event.jitter)
        case Requested(redemption=redemption), Credited():
            return Redeemed(redemption.amount, redemption.commission), (SpendCoins(redemption.serials),)
        case Requested(redemption=redemption), AnswerWrong():
            disputed = Disputed(redemption.envelope, event.answer, event.detail)
            return disputed, (SetCoinsAside(redemption.serials),)
        case Requested(redemption=redemption), RefusalArrived():
            spent = tuple(serial for serial in redemption.serials if serial in event.spent)
            back = tuple(serial for serial in redemption.serials if serial not in event.spent)
            refused = Refused(event.refusal, event.detail, len(spent))
            effects = SpendCoins(spent), ReleaseCoins(back, redemption.unverified), VoidDigest(redemption.digest)
            return refused, effects
        case (
            (Redeemed() | Refused() | Disputed()),
            (Overdue() | Credited() | AnswerWrong() | RefusalArrived()),
        ):
            return state, ()  # a duplicate, or a late timer
        case _:
            raise IllegalTransition(state, event)


def _send(state: Requested, now: int, jitter: int) -> tuple[Requested, Effects]:
    redemption = state.redemption
    send = Send(redemption.bank, REDEEM, redemption.request_id, redemption.envelope, state.attempts)
    return Requested(redemption, state.attempts + 1), (send, WakeAt(now + backoff(state.attempts, jitter)))
