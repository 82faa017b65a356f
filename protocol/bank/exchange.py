"""Exchange at the bank: coins in, blinded coins out, in one transaction, for nobody in particular.

The coins are looked at first, by themselves. Spent ones buy nothing, neither a signature nor a place in the books: they
stay spent, so that this refusal lasts by itself. Once the coins are good and unspent, whatever else is refused stays
refused: their holder may use them elsewhere then, and this request, late on its way, must not take them after all.
"""

from typing import Final, TypeAlias

import msgspec

from ..coins import Evidence
from ..errors import IllegalTransition, PeerError
from ..exchange import EXCHANGE_AHEAD_MS, ExchangeRequest, Issue, exchange_digest
from ..keyset import KeyRing
from ..machine import Event, State, arrows
from ..refusals import Refusal
from .coins import Minting, Taken, check_minting, check_number, check_taken, currency_of, value_of
from .desk import (
    Committed,
    Contradicted,
    New,
    Post,
    Refused,
    SignBlinded,
    Signed,
    SignerRefused,
    already_spent,
    contradicted,
    refused,
)
from .ledger import exchange_entries


class Examined(msgspec.Struct, frozen=True):
    """A request whose coins have passed every check that needs no books; they are spent on `digest` (32 bytes)."""

    request: ExchangeRequest
    digest: bytes
    currency: str
    taken: Taken


class Signing(State, frozen=True):
    """The coins are good and were unspent a moment ago; the signer is at work."""

    examined: Examined
    minting: Minting
    deadline: int


class Posting(State, frozen=True):
    """Signed; whether the coins were spent meanwhile is for the books to say."""


class Granted(State, frozen=True):
    """Spent and issued; the answer may leave."""


class CoinsGood(Event, frozen=True):
    """`examine` found nothing wrong, and none of the coins is on the spent list."""

    examined: Examined
    ring: KeyRing
    now: int
    deadline: int


class CoinsBad(Event, frozen=True):
    """`examine` found a fault."""

    refusal: Refusal
    detail: str


class CoinsSpent(Event, frozen=True):
    """`examine` found nothing wrong, but coins are on the spent list, as `evidence` shows."""

    evidence: tuple[Evidence, ...]


ExchangeState: TypeAlias = New | Signing | Posting | Granted | Refused
ExchangeEvent: TypeAlias = CoinsGood | CoinsBad | CoinsSpent | Signed | SignerRefused | Committed | Contradicted
Effects: TypeAlias = tuple[SignBlinded | Post, ...]

TRANSITIONS: Final = arrows(
    ([New], [CoinsGood], [Signing, Refused]),
    ([New], [CoinsBad, CoinsSpent], [Refused]),
    ([Signing], [Signed], [Posting]),
    ([Signing], [SignerRefused], [Refused]),
    ([Posting], [Committed], [Granted]),
    ([Posting], [Contradicted], [Refused]),
)


def step(state: ExchangeState, event: ExchangeEvent) -> tuple[ExchangeState, Effects]:
    """Return the next state and what must happen outside.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), CoinsGood():
            try:
                minting = _check(event)
            except PeerError as error:
                return refused(error, lasting=True), ()
            return Signing(event.examined, minting, event.deadline), (SignBlinded(minting.coins),)
        case New(), CoinsBad():
            return Refused(event.refusal.value, event.detail), ()
        case New(), CoinsSpent():
            return already_spent(event.evidence), ()
        case Signing(), Signed():
            return Posting(), (_post(state, event.signatures),)
        case Signing(), SignerRefused():
            return Refused(event.refusal.value, event.detail, lasting=True), ()
        case Posting(), Committed():
            return Granted(), ()
        case Posting(), Contradicted():
            return contradicted(event, lasting=True), ()
        case _:
            raise IllegalTransition(state, event)


def examine(request: ExchangeRequest, request_id: bytes, ring: KeyRing, now: int) -> Examined:
    """Check everything about a request's coins that needs no books; the dear checks come last.

    Args:
        request: what was asked.
        request_id: of the request, 16 bytes.
        ring: the bank's keys.
        now: the bank's time, in milliseconds.

    Raises:
        PeerError: in this order, `UNKNOWN_DENOMINATION`, `KEY_REVOKED`, `DENOMINATION_CLOSED` or `WRONG_CURRENCY` of
            the first coin that has a fault; `DUPLICATE_COIN`, `BAD_COIN`, `BAD_SPEND_SIGNATURE`.
    """
    currency = currency_of(request.coins, ring)
    taken = value_of(request.coins, currency, lambda key: ring.exchangeable(key, now))
    digest = exchange_digest(ring.keyset.bank, request_id, request.commission, request.outputs)
    check_taken(taken, digest, ring)
    return Examined(request, digest, currency, taken)


def _check(event: CoinsGood) -> Minting:
    request, taken, ring = event.examined.request, event.examined.taken, event.ring
    # As late as this, for both may be taken another time: these refusals must last.
    check_number(request.coins, ring)
    if event.deadline > event.now + EXCHANGE_AHEAD_MS:
        raise PeerError(Refusal.MALFORMED, "the deadline is more than 26 hours ahead of the bank's clock")
    minting = check_minting(request.outputs, event.examined.currency, ring, event.now)
    if taken.amount != minting.amount + request.commission:
        detail = f"the coins are worth {taken.amount}, not {minting.amount} and a commission of {request.commission}"
        raise PeerError(Refusal.AMOUNT_MISMATCH, detail)
    commission = ring.keyset.tariff.exchange.charge(taken.amount)
    if request.commission != commission:
        raise PeerError(Refusal.COMMISSION_CHANGED, f"the commission is {commission}, not {request.commission}")
    return minting


def _post(state: Signing, signatures: tuple[bytes, ...]) -> Post:
    examined, minting = state.examined, state.minting
    taken, commission = examined.taken, examined.request.commission
    return Post(
        body=Issue(minting.signed(signatures)).encode(),
        entries=exchange_entries(examined.currency, taken.totals, minting.totals, commission),
        issued=minting.issued,
        spent=taken.spendings,
        spent_on=examined.digest,
        not_after=state.deadline,
    )
