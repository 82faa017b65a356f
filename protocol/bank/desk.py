"""What the machines at the bank's desk share: the account that asks, the books' reaction, and refusal."""

from typing import Final

import msgspec

from ..errors import PeerError
from ..machine import Effect, Event, State
from ..refusals import Refusal
from .ledger import Claim, Conflict, Entry, Payment, Spending


class Account(msgspec.Struct, frozen=True):
    """A row of the bank's accounts. `key` is empty until its holder has claimed it with the invitation."""

    number: int
    kind: str
    name: str
    title: str
    currency: str
    key: bytes


class New(State, frozen=True):
    """The request was opened and authenticated; nothing was decided."""


class Refused(State, frozen=True):
    """Nothing has changed; this is why."""

    refusal: str
    detail: str


class Committed(Event, frozen=True):
    """The posting is durable."""


class Contradicted(Event, frozen=True):
    """The books contradict the posting: nothing has changed. `now` is the bank's time."""

    conflict: Conflict
    now: int


class Post(Effect, frozen=True, kw_only=True):
    """Commit this to the books in one transaction, together with the answer `body`."""

    body: bytes
    entries: tuple[Entry, ...] = ()
    issued: tuple[tuple[bytes, bytes], ...] = ()
    spent: tuple[Spending, ...] = ()
    payment: Payment | None = None
    claim: Claim | None = None
    not_after: int = 0


def known(account: Account | None) -> Account:
    """Return the account; raise PeerError (`UNKNOWN_ACCOUNT`) if there is none."""
    if account is None:
        raise PeerError(Refusal.UNKNOWN_ACCOUNT, "no account is open for this key")
    return account


def refused(error: PeerError) -> Refused:
    """Return the state that tells of `error`."""
    return Refused(error.refusal.value, error.detail)


def contradicted(event: Contradicted) -> Refused:
    """Return the state that tells of what the books say."""
    return Refused(event.conflict.refusal, DETAILS.get(event.conflict.refusal, ""))


DETAILS: Final = {
    Refusal.REQUEST_ID_REUSED.value: "another request with this id was answered",
    Refusal.INSUFFICIENT_FUNDS.value: "the account does not hold the amount and its commission",
    Refusal.BLINDED_VALUE_REUSED.value: "a blinded value was signed before",
    Refusal.REQUEST_EXPIRED.value: "the request's deadline has passed",
    Refusal.ACCOUNT_EXISTS.value: "this key has an account already",
    Refusal.INVALID_INVITATION.value: "the invitation was used",
}
