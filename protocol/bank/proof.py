"""Proof at the bank: who shows the payer code of a payment gets the bank's signed statement that it was paid.

Who does not is told the same whether the code is wrong or the payment unknown. Answers are not stored: the statement
changes in its time only.
"""

from typing import Final, TypeAlias

from ..errors import IllegalTransition
from ..machine import Effect, Event, State, arrows
from ..messages import PaymentInfo, Signed
from ..proof import PaymentProof, ProofRequest, proves
from ..refusals import Refusal
from ..signatures import Domain
from .desk import New, Refused
from .ledger import Payment


class Proven(State, frozen=True):
    """The bank's `Signed` `PaymentProof` may leave."""

    proof: bytes


class Asked(Event, frozen=True):
    """A payer code is shown; `payments` are the accepted payments of this id, with their payment information.

    A merchant chooses its payment ids, so there may be one for each merchant. `now` is the bank's time.
    """

    request: ProofRequest
    payments: tuple[Payment, ...]
    now: int


ProofState: TypeAlias = New | Proven | Refused

TRANSITIONS: Final = arrows(([New], [Asked], [Proven, Refused]))


def step(state: ProofState, event: Asked, bank: str, identity_seed: bytes) -> tuple[ProofState, tuple[Effect, ...]]:
    """Return the next state; there are no effects. The identity key signs the statement.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state:
        case New():
            payment = _proven(event)
            if payment is None:
                return Refused(Refusal.NOT_PROVEN, "this payer code proves no payment of this id"), ()
            proof = PaymentProof(bank, payment.info, payment.verdict, event.now)
            return Proven(Signed.make(identity_seed, Domain.PROOF, proof).encode()), ()
        case _:
            raise IllegalTransition(state, event)


def _proven(event: Asked) -> Payment | None:
    infos = [PaymentInfo.decode(payment.info) for payment in event.payments]
    answers = [proves(info, event.request) for info in infos or [_NOBODYS]]  # all of them, whatever the first one says
    return next((payment for payment, yes in zip(event.payments, answers, strict=False) if yes), None)


_NOBODYS: Final = PaymentInfo(
    "USD", 1, 0, "-", 1, "sha-256", bytes(32), "sha-256", bytes(32), bytes(16), bytes(32), deposit_before=0
)
"""Compared with where no payment has the id, so that an unknown one takes as long as a wrong code."""
