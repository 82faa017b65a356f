"""Recovery at the bank: what the books hold is told once more, to a holder who has lost it.

A holder of an account gets its withdrawals; anybody gets the answer to a request whose id it knows, which only the
asker can open; anybody asks for spendings, and reads those of its own coins. Nothing changes, so no answer is stored.
"""

from typing import Final, TypeAlias

from ..coins import Evidence
from ..errors import IllegalTransition, PeerError
from ..keyset import KeyRing
from ..machine import Effect, Event, State, arrows
from ..recovery import (
    CheckAnswer,
    CheckRequest,
    FetchAnswer,
    RecoverAnswer,
    RecoverRequest,
    StoredAnswer,
    seal_spending,
)
from .desk import Account, New, Refused, at_generation, refused


class Told(State, frozen=True):
    """The answer may leave; `body` is its encoding."""

    body: bytes


class WithdrawalsAsked(Event, frozen=True):
    """A device asks for the withdrawals of its account, of which `kept` is a page."""

    request: RecoverRequest
    account: Account | None
    kept: RecoverAnswer


class AnswerAsked(Event, frozen=True):
    """Somebody asks for the answer to a request of which it knows the id; None, if that was not answered."""

    found: StoredAnswer | None


class SpendingsAsked(Event, frozen=True):
    """Somebody asks which coins of a denomination are spent; `spendings` is None if there are too many to tell."""

    request: CheckRequest
    spendings: tuple[Evidence, ...] | None
    ring: KeyRing


RecoveryState: TypeAlias = New | Told | Refused
RecoveryEvent: TypeAlias = WithdrawalsAsked | AnswerAsked | SpendingsAsked

TRANSITIONS: Final = arrows(
    ([New], [WithdrawalsAsked, SpendingsAsked], [Told, Refused]),
    ([New], [AnswerAsked], [Told]),
)


def step(state: RecoveryState, event: RecoveryEvent) -> tuple[RecoveryState, tuple[Effect, ...]]:
    """Return the next state; there are no effects.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), WithdrawalsAsked():
            try:
                at_generation(event.account, event.request.generation)
            except PeerError as error:
                return refused(error), ()
            return Told(event.kept.encode()), ()
        case New(), AnswerAsked():
            return Told(FetchAnswer((event.found,) if event.found else ()).encode()), ()
        case New(), SpendingsAsked():
            try:
                event.ring.denomination(event.request.denomination)
            except PeerError as error:
                return refused(error), ()
            return Told(_sealed(event.spendings).encode()), ()
        case _:
            raise IllegalTransition(state, event)


def _sealed(spendings: tuple[Evidence, ...] | None) -> CheckAnswer:
    if spendings is None:
        return CheckAnswer((), complete=False)
    return CheckAnswer(tuple(map(seal_spending, spendings)), complete=True)
