"""A transfer, the sender's side: coins are given away as a token, and the bank tells when they are claimed.

Giving a token away takes nothing from its sender yet: both hold the keys until one of them has the coins exchanged. So
the coins stay reserved until the bank shows that they are spent, and are taken back when the token's time is over.
What the receiver acknowledges is a hint to look, no more. The token itself is not kept: it derives again from the
coins and the wallet's seed.
"""

from typing import Final, TypeAlias

import msgspec

from ..codec import Bytes32
from ..errors import IllegalTransition
from ..machine import STAY, Effect, Event, Jitter, Overdue, State, WakeAt, arrows
from .purse import ReleaseCoins, ReserveCoins, SpendCoins

TRANSFER: Final = "transfer"
"""The kind of this exchange in the wallet's file; nothing of it travels to the bank."""

_FIRST_LOOK: Final = 600_000
_LONGEST_LOOK: Final = 86_400_000


class Transfer(msgspec.Struct, frozen=True, array_like=True):
    """What was given.

    `serials` are in the order of the token; bank, `broker` and `memo` stand in it. `to` is the encoded `TokenRequest`
    that it answers, empty if it was given as text. After `expires` it is taken back.
    """

    bank: str
    broker: str
    memo: str
    serials: tuple[Bytes32, ...]
    to: bytes
    expires: int


class New(State, frozen=True):
    """Nothing was given yet."""


class Sent(State, frozen=True):
    """The token is out, or about to be; its coins are reserved. `looks` counts how often the bank was asked."""

    transfer: Transfer
    looks: int


class Closing(State, frozen=True):
    """Time is over, or the sender wants the coins back: what the bank says now decides."""

    transfer: Transfer
    looks: int


class Claimed(State, frozen=True):
    """All coins are spent, as their own signatures prove."""


class TakenBack(State, frozen=True):
    """So many coins came back and are unverified: the token is still about; `claimed` others are spent."""

    back: int
    claimed: int


class Begin(Event, frozen=True):
    """The wallet has chosen coins."""

    transfer: Transfer
    now: int
    jitter: Jitter


class TakeBack(Event, frozen=True):
    """The sender wants the coins back."""

    now: int
    jitter: Jitter


class Found(Event, frozen=True):
    """The bank was asked which of the coins are spent: these, each proven by its signature."""

    spent: tuple[bytes, ...]


class AskSpent(Effect, frozen=True):
    """Ask the bank, anonymously, which of these coins are spent."""

    serials: tuple[bytes, ...]


TransferState: TypeAlias = New | Sent | Closing | Claimed | TakenBack
TransferEvent: TypeAlias = Begin | Overdue | TakeBack | Found
Effects: TypeAlias = tuple[Effect, ...]

TRANSITIONS: Final = arrows(
    ([New], [Begin], [Sent]),
    ([Sent], [Overdue], [Sent, Closing]),
    ([Sent], [TakeBack], [Closing]),
    ([Sent], [Found], [Sent, Claimed]),
    ([Closing], [Overdue, TakeBack], STAY),
    ([Closing], [Found], [Claimed, TakenBack]),
    ([Claimed, TakenBack], [Overdue, TakeBack, Found], STAY),
)


def step(state: TransferState, event: TransferEvent) -> tuple[TransferState, Effects]:
    """Return the next state and what must happen outside.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), Begin(transfer=transfer):
            wake = WakeAt(_next_look(transfer, 0, event.now, event.jitter))
            return Sent(transfer, 0), (ReserveCoins(transfer.serials), wake)
        case Sent(), Overdue() if event.now < state.transfer.expires:
            return _look(Sent, state, event)
        case Sent() | Closing(), Overdue() | TakeBack():
            return _look(Closing, state, event)
        case Sent(transfer=transfer) | Closing(transfer=transfer), Found(spent=spent) if set(spent) >= set(
            transfer.serials
        ):
            return Claimed(), (SpendCoins(transfer.serials),)
        case Sent(), Found():
            return state, ()
        case Closing(transfer=transfer), Found():
            spent = tuple(serial for serial in transfer.serials if serial in event.spent)
            back = tuple(serial for serial in transfer.serials if serial not in event.spent)
            return TakenBack(len(back), len(spent)), (SpendCoins(spent), ReleaseCoins(back, unverified=True))
        case ((Claimed() | TakenBack()), (Overdue() | TakeBack() | Found())):
            return state, ()
        case _:
            raise IllegalTransition(state, event)


def _look(to: type[Sent | Closing], state: Sent | Closing, event: Overdue | TakeBack) -> tuple[Sent | Closing, Effects]:
    transfer, looks = state.transfer, state.looks + 1
    wake = WakeAt(_next_look(transfer, looks, event.now, event.jitter))
    return to(transfer, looks), (AskSpent(transfer.serials), wake)


def _next_look(transfer: Transfer, looks: int, now: int, jitter: int) -> int:
    """Return when to ask next: after 10 minutes, 20, 40 … a day at most, of which half is drawn; or at the end."""
    longest = min(_LONGEST_LOOK, _FIRST_LOOK << min(looks, 16))
    at = now + longest // 2 + longest * jitter // 2000
    return min(at, transfer.expires) if now < transfer.expires else at
