"""What the machines at the bank's desk share: the account that asks, the books' reaction, and refusal."""

from typing import Final

import msgspec

from ..coins import Evidence
from ..errors import PeerError
from ..machine import Effect, Event, State
from ..messages import BlindedCoin
from ..refusals import Refusal
from .ledger import (
    Claim,
    Conflict,
    Entry,
    Generation,
    Payment,
    PayoutOrder,
    Redemption,
    Reply,
    Spending,
    Withdrawal,
)


class Account(msgspec.Struct, frozen=True):
    """A row of the bank's accounts. `key` is empty until its holder has claimed it with the invitation.

    `generation` counts the devices that have used it; only the last one is served.
    """

    number: int
    kind: str
    name: str
    title: str
    currency: str
    key: bytes
    generation: int = 0


class New(State, frozen=True):
    """The request was opened and authenticated; nothing was decided."""


class Refused(State, frozen=True):
    """Nothing has changed; this is why. `evidence` shows how coins were spent, `lasting` that it stays the answer.

    A refusal lasts if who asks has shown good coins: it may use them elsewhere then, and this very request, late on
    its way, must not take them after all.
    """

    refusal: str
    detail: str
    evidence: tuple[Evidence, ...] = ()
    lasting: bool = False


class Committed(Event, frozen=True):
    """The posting is durable."""


class Contradicted(Event, frozen=True):
    """The books contradict the posting: nothing has changed. `now` is the bank's time."""

    conflict: Conflict
    now: int


class Signed(Event, frozen=True):
    """The signer's answer, in the order asked."""

    signatures: tuple[bytes, ...]


class SignerRefused(Event, frozen=True):
    """The signer will not sign one of the values."""

    refusal: Refusal
    detail: str


class SignBlinded(Effect, frozen=True):
    """Sign these with the private keys of their denominations."""

    coins: tuple[BlindedCoin, ...]


class Post(Effect, frozen=True, kw_only=True):
    """Commit this to the books in one transaction, together with the answer `body`."""

    body: bytes
    entries: tuple[Entry, ...] = ()
    issued: tuple[tuple[bytes, bytes], ...] = ()
    spent: tuple[Spending, ...] = ()
    spent_on: bytes = b""
    payment: Payment | None = None
    claim: Claim | None = None
    generation: Generation | None = None
    withdrawal: Withdrawal | None = None
    redemption: Redemption | None = None
    payout: PayoutOrder | None = None
    reply: Reply | None = None
    not_after: int = 0


def known(account: Account | None) -> Account:
    """Return the account; raise PeerError (`UNKNOWN_ACCOUNT`) if there is none."""
    if account is None:
        raise PeerError(Refusal.UNKNOWN_ACCOUNT, "no account is open for this key")
    return account


def at_generation(account: Account | None, number: int) -> Account:
    """Return the account if the device that asks is the one that is served.

    Raises:
        PeerError: `UNKNOWN_ACCOUNT`, `SUPERSEDED`.
    """
    found = known(account)
    if found.generation != number:
        raise PeerError(Refusal.SUPERSEDED, DETAILS[Refusal.SUPERSEDED])
    return found


def refused(error: PeerError, *, lasting: bool = False) -> Refused:
    """Return the state that tells of `error`."""
    return Refused(error.refusal.value, error.detail, lasting=lasting)


def already_spent(evidence: tuple[Evidence, ...]) -> Refused:
    """Return the state that tells that coins are spent. It need not be stored: nothing is ever unspent again."""
    return Refused(Refusal.ALREADY_SPENT.value, DETAILS[Refusal.ALREADY_SPENT], evidence)


def contradicted(event: Contradicted, *, lasting: bool = False) -> Refused:
    """Return the state that tells of what the books say."""
    conflict = event.conflict
    if conflict.refusal == Refusal.ALREADY_SPENT:
        return already_spent(conflict.evidence)
    return Refused(conflict.refusal, DETAILS.get(conflict.refusal, ""), conflict.evidence, lasting)


DETAILS: Final = {
    Refusal.REQUEST_ID_REUSED.value: "another request with this id was answered",
    Refusal.INSUFFICIENT_FUNDS.value: "the account does not hold the amount and its commission",
    Refusal.BLINDED_VALUE_REUSED.value: "a blinded value was signed before",
    Refusal.REQUEST_EXPIRED.value: "the request's deadline has passed",
    Refusal.ACCOUNT_EXISTS.value: "this key has an account already",
    Refusal.INVALID_INVITATION.value: "the invitation was used",
    Refusal.SUPERSEDED.value: "another device has taken over this account",
    Refusal.ALREADY_SPENT.value: "coins were spent before, as their holders' signatures show",
    Refusal.KEY_OVERDRAWN.value: "more coins of a denomination came back than were ever signed",
    Refusal.REDEMPTION_CAPPED.value: "an account never redeems more than it has withdrawn",
    Refusal.NO_DESTINATION.value: "the bank's operator has entered no account to pay out to",
}
