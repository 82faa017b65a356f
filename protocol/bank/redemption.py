"""Redemption at the bank: the value of coins that their holder still has goes back into its account.

Revoked denominations are taken here, and only here. Any account may redeem; that none redeems more than it has
withdrawn, nor more revoked coins than it had withdrawn before they were revoked, is for the books to say, and leaves
nothing to a merchant that has only made deposits.
"""

from collections.abc import Collection, Iterable
from typing import Final, TypeAlias

import msgspec

from ..errors import IllegalTransition, PeerError
from ..keyset import KeyRing, Keyset
from ..machine import Event, State, arrows
from ..recovery import RedeemAnswer, RedeemRequest, redeem_digest
from ..refusals import Refusal
from .coins import Taken, check_number, check_taken, value_of
from .desk import Account, Committed, Contradicted, New, Post, Refused, at_generation, contradicted, refused
from .ledger import Generation, Redemption, deposit_entries


class Examined(msgspec.Struct, frozen=True):
    """A request whose coins have passed every check that needs no books.

    They are spent on `digest` (32 bytes); `commission` is what the bank charges for them. `revoked` is the value of
    those whose denomination is revoked, `before` when the first of these was.
    """

    request: RedeemRequest
    account: Account
    digest: bytes
    taken: Taken
    commission: int
    revoked: int = 0
    before: int = 0


class Posting(State, frozen=True):
    """The coins are good; whether they were spent before is for the books to say, and whether it is too much."""


class Credited(State, frozen=True):
    """Spent and credited; the answer may leave."""


class CoinsGood(Event, frozen=True):
    """`examine` found nothing wrong."""

    examined: Examined
    deadline: int


class CoinsBad(Event, frozen=True):
    """`examine` found a fault."""

    refusal: Refusal
    detail: str


RedemptionState: TypeAlias = New | Posting | Credited | Refused
RedemptionEvent: TypeAlias = CoinsGood | CoinsBad | Committed | Contradicted
Effects: TypeAlias = tuple[Post, ...]

TRANSITIONS: Final = arrows(
    ([New], [CoinsGood], [Posting, Refused]),
    ([New], [CoinsBad], [Refused]),
    ([Posting], [Committed], [Credited]),
    ([Posting], [Contradicted], [Refused]),
)


def step(state: RedemptionState, event: RedemptionEvent) -> tuple[RedemptionState, Effects]:
    """Return the next state and what must happen outside.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), CoinsGood():
            examined, commission = event.examined, event.examined.commission
            if examined.request.commission != commission:
                detail = f"the commission is {commission}, not {examined.request.commission}"
                return refused(PeerError(Refusal.COMMISSION_CHANGED, detail), lasting=True), ()
            return Posting(), (_credit(examined, event.deadline),)
        case New(), CoinsBad():
            return Refused(event.refusal.value, event.detail), ()
        case Posting(), Committed():
            return Credited(), ()
        case Posting(), Contradicted():
            return contradicted(event, lasting=True), ()
        case _:
            raise IllegalTransition(state, event)


def revoked_from(denominations: Collection[bytes], keysets: Iterable[Keyset]) -> int:
    """Return when the first keyset that revokes one of these denominations was issued; 0 if none does.

    Args:
        denominations: their ids.
        keysets: of the bank, by number.
    """
    revoking = (keyset.issued_at for keyset in keysets if not set(denominations).isdisjoint(keyset.revoked))
    return next(revoking, 0)


def examine(
    request: RedeemRequest, account: Account | None, request_id: bytes, ring: KeyRing, now: int, before: int = 0
) -> Examined:
    """Check everything about a request that needs no books; the dear checks come last.

    Args:
        request: what was asked.
        account: of the key that signed the request, if it has one.
        request_id: of the request, 16 bytes.
        ring: the bank's keys.
        now: the bank's time, in milliseconds.
        before: what `revoked_from` says of the request's denominations.

    Raises:
        PeerError: in this order, `MALFORMED` if these are more coins than the bank takes at once; `UNKNOWN_ACCOUNT`,
            `SUPERSEDED`; `UNKNOWN_DENOMINATION`, `DENOMINATION_CLOSED` or `WRONG_CURRENCY` of the first coin that has
            a fault; `DUPLICATE_COIN`; `AMOUNT_MISMATCH` if the commission is more than the coins are worth;
            `BAD_COIN`, `BAD_SPEND_SIGNATURE`.
    """
    check_number(request.coins, ring)
    holder = at_generation(account, request.generation)
    taken = value_of(request.coins, holder.currency, lambda key: ring.redeemable(key, now))
    commission = ring.keyset.tariff.redemption.charge(taken.amount)
    if commission > taken.amount:
        raise PeerError(Refusal.AMOUNT_MISMATCH, "the commission is more than the coins are worth")
    digest = redeem_digest(ring.keyset.bank, request_id, holder.key)
    check_taken(taken, digest, ring)
    revoked = sum(value for key, value in taken.totals.items() if key in ring.revoked)
    return Examined(request, holder, digest, taken, commission, revoked, before)


def _credit(examined: Examined, deadline: int) -> Post:
    account, taken = examined.account, examined.taken
    return Post(
        body=RedeemAnswer(taken.amount, examined.commission).encode(),
        entries=deposit_entries(account.number, account.currency, taken.totals, examined.commission),
        spent=taken.spendings,
        spent_on=examined.digest,
        generation=Generation(account.number, examined.request.generation),
        redemption=Redemption(account.number, taken.amount, examined.revoked, examined.before),
        not_after=deadline,
    )
