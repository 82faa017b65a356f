"""Exchange, the wallet's side: coins in, new coins out, and the bank does not know whose.

It makes change, refreshes coins before they expire, verifies coins that came back, and receives coins from another
wallet: those are spent in the request itself and were never this wallet's. The request is durable before it is sent
and is repeated, the same bytes, until it is answered; its id is counted, so its answer can be asked for again.
"""

from typing import Final, TypeAlias

import msgspec

from ..codec import Bytes32
from ..coins import Coin
from ..errors import IllegalTransition
from ..exchange import EXCHANGE
from ..machine import STAY, Effect, Event, Jitter, Overdue, Send, State, WakeAt, arrows, backoff
from .purse import KeepCoins, ReleaseCoins, ReserveCoins, SetCoinsAside, SpendCoins, VoidDigest


class Swap(msgspec.Struct, frozen=True, array_like=True):
    """What is exchanged: written and sealed before anything is sent.

    `digest` is what every input signs; `serials` are those of the wallet's own coins among the inputs, which are
    `unverified` or free; `given` are those of the others; `outputs` are the denominations asked for.
    """

    bank: str
    request_id: bytes
    digest: Bytes32
    envelope: bytes
    serials: tuple[Bytes32, ...]
    unverified: bool
    outputs: tuple[Bytes32, ...]
    given: tuple[Bytes32, ...] = ()


class New(State, frozen=True):
    """Nothing was asked yet."""


class Requested(State, frozen=True):
    """The request is on its way, or its answer is; the coins may be exchanged already."""

    swap: Swap
    attempts: int


class Exchanged(State, frozen=True):
    """The new coins are in the wallet, worth `amount`."""

    amount: int


class Refused(State, frozen=True):
    """The bank refused; what was not proven spent is as it was. `spent` counts the inputs that were."""

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

    swap: Swap
    now: int
    jitter: Jitter


class CoinsVerified(Event, frozen=True):
    """The bank has answered and every signature has verified. Each coin comes with its index in the request."""

    coins: tuple[tuple[int, Coin], ...]
    amount: int


class AnswerWrong(Event, frozen=True):
    """The bank has answered, and its answer is not what was asked for, but for these coins."""

    answer: bytes
    detail: str
    coins: tuple[tuple[int, Coin], ...]


class RefusalArrived(Event, frozen=True):
    """The bank has refused for good. `spent` are serial numbers whose earlier spending is proven by evidence.

    `copied` if a copy of this wallet has made the very same exchange, as the bank's answer to it has shown.
    """

    refusal: str
    detail: str
    spent: tuple[bytes, ...]
    copied: bool = False


ExchangeState: TypeAlias = New | Requested | Exchanged | Refused | Disputed
ExchangeEvent: TypeAlias = Begin | Overdue | CoinsVerified | AnswerWrong | RefusalArrived
Effects: TypeAlias = tuple[Effect, ...]

TRANSITIONS: Final = arrows(
    ([New], [Begin], [Requested]),
    ([Requested], [Overdue], STAY),
    ([Requested], [CoinsVerified], [Exchanged]),
    ([Requested], [AnswerWrong], [Disputed]),
    ([Requested], [RefusalArrived], [Refused]),
    ([Exchanged, Refused, Disputed], [Overdue, CoinsVerified, AnswerWrong, RefusalArrived], STAY),
)


def step(state: ExchangeState, event: ExchangeEvent) -> tuple[ExchangeState, Effects]:
    """Return the next state and what must happen outside.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), Begin(swap=swap):
            requested, effects = _send(Requested(swap, attempts=0), event.now, event.jitter)
            return requested, (ReserveCoins(swap.serials, swap.unverified), *effects)
        case Requested(), Overdue():
            return _send(state, event.now, event.jitter)
        case Requested(swap=swap), CoinsVerified():
            return Exchanged(event.amount), (SpendCoins(swap.serials), KeepCoins(swap.request_id, event.coins))
        case Requested(swap=swap), AnswerWrong():
            disputed = Disputed(swap.envelope, event.answer, event.detail)
            return disputed, (SetCoinsAside(swap.serials), KeepCoins(swap.request_id, event.coins))
        case Requested(swap=swap), RefusalArrived():
            spent = tuple(serial for serial in swap.serials if serial in event.spent)
            back = tuple(serial for serial in swap.serials if serial not in event.spent)
            lost = sum(serial in event.spent for serial in swap.given)
            refused = Refused(event.refusal, event.detail, len(spent) + lost)
            # Whatever the reason: else the bank could keep the signatures and show them against the next request.
            void = () if event.copied else (VoidDigest(swap.digest),)
            return refused, (SpendCoins(spent), ReleaseCoins(back, swap.unverified), *void)
        case (
            (Exchanged() | Refused() | Disputed()),
            (Overdue() | CoinsVerified() | AnswerWrong() | RefusalArrived()),
        ):
            return state, ()  # a duplicate, or a late timer
        case _:
            raise IllegalTransition(state, event)


def _send(state: Requested, now: int, jitter: int) -> tuple[Requested, Effects]:
    swap = state.swap
    send = Send(swap.bank, EXCHANGE, swap.request_id, swap.envelope, state.attempts)
    return Requested(swap, state.attempts + 1), (send, WakeAt(now + backoff(state.attempts, jitter)))
