"""Refund, the wallet's side: a ticket to the merchant, coins back, and nobody knows whose.

The ticket's answer is sealed for the wallet alone and kept at the bank under the ticket's id. A merchant that is silent
or refuses cannot keep it from the wallet: then the wallet asks the bank, anonymously, and once a day from then on, for
the merchant may still have the ticket served. The ticket has a deadline, after which the bank serves it no more, so
that the refund always ends.
"""

from typing import Final, TypeAlias

import msgspec

from ..codec import Bytes32
from ..coins import Coin
from ..errors import IllegalTransition
from ..exchange import REFUND
from ..machine import STAY, Effect, Event, Jitter, Overdue, Send, State, WakeAt, arrows, backoff
from ..recovery import FETCH
from .purse import KeepCoins

FETCH_EVERY: Final = 4
"""While the merchant is asked and silent, every fourth message goes to the bank instead."""
MARGIN_MS: Final = 600_000
"""So long after the ticket's deadline, a bank that knows no answer will not have one any more."""
LOOK_EVERY_MS: Final = 86_400_000
"""How often the bank is asked for the answer to a ticket that the merchant has refused."""


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """What a refund consists of: written and sealed before anything is sent.

    `ticket` is the envelope with `ticket_id` and `deadline`, asking for coins of the denominations `outputs`; `refund`
    carries it to the merchant; `fetch` asks the bank for its answer.
    """

    merchant: str
    bank: str
    ticket_id: bytes
    ticket: bytes
    outputs: tuple[Bytes32, ...]
    deadline: int
    refund_id: bytes
    refund: bytes
    fetch_id: bytes
    fetch: bytes


class New(State, frozen=True):
    """Nothing was asked yet."""


class Requested(State, frozen=True):
    """The ticket is on its way to merchant and bank, or its answer is on its way back."""

    claim: Claim
    attempts: int


class Checking(State, frozen=True):
    """The merchant has refused, or (`refusal` is "") the deadline has passed: the bank is asked for the answer."""

    claim: Claim
    refusal: str
    detail: str
    attempts: int


class Waiting(State, frozen=True):
    """The merchant has refused, and the bank has not served the ticket, but could still: it is asked again in a day."""

    claim: Claim
    refusal: str
    detail: str


class Collected(State, frozen=True):
    """The coins are in the wallet, worth `amount`."""

    amount: int


class Lapsed(State, frozen=True):
    """The ticket's deadline has passed, and the bank has not served it."""


class Disputed(State, frozen=True):
    """The bank's signed answer to the ticket is wrong; ticket and answer are kept as evidence."""

    ticket: bytes
    answer: bytes
    detail: str


class Begin(Event, frozen=True):
    """The wallet has written a ticket."""

    claim: Claim
    now: int
    jitter: Jitter


class CoinsVerified(Event, frozen=True):
    """The bank's answer has come, from whomever, and every signature has verified; each coin with its index."""

    coins: tuple[tuple[int, Coin], ...]
    amount: int


class AnswerWrong(Event, frozen=True):
    """The bank's signed answer has come, and is not what the ticket asks for, but for these coins."""

    answer: bytes
    detail: str
    coins: tuple[tuple[int, Coin], ...]


class RefusalArrived(Event, frozen=True):
    """The merchant has refused for good."""

    refusal: str
    detail: str
    now: int
    jitter: Jitter


class NothingFetched(Event, frozen=True):
    """The bank says, at the time `at` by its own clock, that it has not answered the ticket."""

    at: int
    now: int


RefundState: TypeAlias = New | Requested | Checking | Waiting | Collected | Lapsed | Disputed
RefundEvent: TypeAlias = Begin | Overdue | CoinsVerified | AnswerWrong | RefusalArrived | NothingFetched
Effects: TypeAlias = tuple[Effect, ...]

TRANSITIONS: Final = arrows(
    ([New], [Begin], [Requested]),
    ([Requested], [Overdue], [Requested, Checking]),
    ([Requested], [NothingFetched], [Requested, Lapsed]),
    ([Requested], [RefusalArrived], [Checking]),
    ([Checking], [Overdue, RefusalArrived], STAY),
    ([Checking], [NothingFetched], [Checking, Waiting, Lapsed]),
    ([Waiting], [Overdue], [Checking]),
    ([Waiting], [RefusalArrived, NothingFetched], STAY),
    ([Requested, Checking, Waiting], [CoinsVerified], [Collected]),
    ([Requested, Checking, Waiting], [AnswerWrong], [Disputed]),
    (
        [Collected, Lapsed, Disputed],
        [Overdue, CoinsVerified, AnswerWrong, RefusalArrived, NothingFetched],
        STAY,
    ),
)


def step(state: RefundState, event: RefundEvent) -> tuple[RefundState, Effects]:
    """Return the next state and what must happen outside.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), Begin(claim=claim):
            return _ask(Requested(claim, attempts=0), event.now, event.jitter)
        case Requested(claim=claim), Overdue():
            if event.now >= claim.deadline + MARGIN_MS:
                return _check(Checking(claim, "", "", attempts=0), event.now, event.jitter)
            return _ask(state, event.now, event.jitter)
        case Requested(claim=claim), RefusalArrived():
            return _check(Checking(claim, event.refusal, event.detail, attempts=0), event.now, event.jitter)
        case Checking(), Overdue():
            return _check(state, event.now, event.jitter)
        case Waiting(), Overdue():
            return _check(Checking(state.claim, state.refusal, state.detail, attempts=0), event.now, event.jitter)
        case ((Requested() | Checking()), NothingFetched()):
            return _nothing(state, event)
        case ((Requested() | Checking() | Waiting()), CoinsVerified()):
            return Collected(event.amount), (KeepCoins(state.claim.ticket_id, event.coins),)
        case ((Requested() | Checking() | Waiting()), AnswerWrong()):
            disputed = Disputed(state.claim.ticket, event.answer, event.detail)
            return disputed, (KeepCoins(state.claim.ticket_id, event.coins),)
        case ((Checking() | Waiting()), RefusalArrived()) | (Waiting(), NothingFetched()):
            return state, ()  # once more
        case (
            (Collected() | Lapsed() | Disputed()),
            (Overdue() | CoinsVerified() | AnswerWrong() | RefusalArrived() | NothingFetched()),
        ):
            return state, ()  # a duplicate, or a late timer
        case _:
            raise IllegalTransition(state, event)


def _ask(state: Requested, now: int, jitter: int) -> tuple[Requested, Effects]:
    claim, attempt = state.claim, state.attempts
    send = Send(claim.merchant, REFUND, claim.refund_id, claim.refund, attempt)
    if attempt % FETCH_EVERY == FETCH_EVERY - 1:
        send = _fetch(claim, attempt)
    return Requested(claim, attempt + 1), (send, WakeAt(now + backoff(attempt, jitter)))


def _check(state: Checking, now: int, jitter: int) -> tuple[Checking, Effects]:
    sent = msgspec.structs.replace(state, attempts=state.attempts + 1)
    return sent, (_fetch(state.claim, state.attempts), WakeAt(now + backoff(state.attempts, jitter)))


def _fetch(claim: Claim, attempt: int) -> Send:
    return Send(claim.bank, FETCH, claim.fetch_id, claim.fetch, attempt)


def _nothing(state: Requested | Checking, event: NothingFetched) -> tuple[RefundState, Effects]:
    over = state.claim.deadline + MARGIN_MS
    if event.at >= over:
        return Lapsed(), ()
    if isinstance(state, Checking) and state.refusal and event.now < over:
        waiting = Waiting(state.claim, state.refusal, state.detail)
        return waiting, (WakeAt(min(event.now + LOOK_EVERY_MS, over)),)
    return state, ()
