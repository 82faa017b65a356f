"""Accounts at the bank: a holder claims an account with a one-time invitation, looks at it, or takes it over.

A holder has one seed and may have several devices; the bank serves the one that took the account over last.
"""

from typing import Final, TypeAlias

from ..errors import IllegalTransition, PeerError
from ..machine import Event, State, arrows
from ..messages import MERCHANT, AccountAnswer, Certificate, Signed
from ..refusals import Refusal
from ..signatures import Domain, check_public_key
from .desk import Account, Committed, Contradicted, New, Post, Refused, contradicted, refused
from .ledger import Claim, Generation


class Posting(State, frozen=True):
    """The answer is on its way into the books."""


class Told(State, frozen=True):
    """The answer may leave."""


class Asked(Event, frozen=True):
    """A request by the holder of `key`.

    `held` is the account of that key, `invited` the unclaimed account of the invitation; `balance` that of either.
    `wants` tells whether an invitation was shown, `generation` under which number a device takes over, or 0.
    """

    key: bytes
    held: Account | None
    invited: Account | None
    wants: bool
    generation: int
    balance: int
    deadline: int


AccountState: TypeAlias = New | Posting | Told | Refused
AccountEvent: TypeAlias = Asked | Committed | Contradicted
Effects: TypeAlias = tuple[Post, ...]

TRANSITIONS: Final = arrows(
    ([New], [Asked], [Posting, Refused]),
    ([Posting], [Committed], [Told]),
    ([Posting], [Contradicted], [Refused]),
)


def step(
    state: AccountState, event: AccountEvent, bank: str, identity_seed: bytes, now: int
) -> tuple[AccountState, Effects]:
    """Return the next state and what must happen outside. The identity key signs a merchant's certificate.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), Asked():
            try:
                account = _check(event)
            except PeerError as error:
                return refused(error), ()
            certificate = certify(bank, identity_seed, account, event.key, now)
            claim = None if event.held else Claim(account.number, event.key)
            generation = 1 if claim else event.generation or account.generation
            body = AccountAnswer(
                account.number, account.kind, account.title, account.currency, event.balance, certificate, generation
            )
            post = Post(
                body=body.encode(),
                claim=claim,
                generation=Generation(account.number, generation, taken_over=generation != account.generation)
                if event.held
                else None,
                not_after=event.deadline,
            )
            return Posting(), (post,)
        case Posting(), Committed():
            return Told(), ()
        case Posting(), Contradicted():
            return contradicted(event), ()
        case _:
            raise IllegalTransition(state, event)


def _check(event: Asked) -> Account:
    if event.held is not None:
        if event.invited is not None:
            raise PeerError(Refusal.ACCOUNT_EXISTS, "this key has an account already")
        if event.generation not in (0, event.held.generation + 1):
            raise PeerError(Refusal.SUPERSEDED, f"the account was taken over {event.held.generation} times already")
        return event.held  # also for who lost the answer and shows the invitation that it has used
    if not event.wants:
        raise PeerError(Refusal.UNKNOWN_ACCOUNT, "no account is open for this key")
    if event.invited is None:
        raise PeerError(Refusal.INVALID_INVITATION, "the invitation is unknown or was used")
    check_public_key(event.key)
    return event.invited


def certify(bank: str, identity_seed: bytes, account: Account, key: bytes, now: int) -> bytes:
    """Return the `Signed` certificate of a merchant's account, or nothing for a client's."""
    if account.kind != MERCHANT:
        return b""
    certificate = Certificate(bank, account.number, account.currency, account.name, account.title, key, now)
    return Signed.make(identity_seed, Domain.CERTIFICATE, certificate).encode()
