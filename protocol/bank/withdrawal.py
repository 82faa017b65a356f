"""Withdrawal at the bank: check, sign blindly, debit; nothing leaves before the debit is durable."""

import hashlib
from collections import defaultdict
from typing import Final, TypeAlias

from ..blind_rsa import check_blinded
from ..errors import IllegalTransition, PeerError
from ..keyset import KeyRing
from ..machine import Effect, Event, State, arrows
from ..messages import BlindedCoin, WithdrawAnswer, WithdrawRequest
from ..refusals import Refusal
from .desk import Account, Committed, Contradicted, New, Post, Refused, contradicted, known, refused
from .ledger import withdrawal_entries


class Signing(State, frozen=True):
    """The account seems to hold enough; the signer is at work."""

    account: int
    currency: str
    coins: tuple[BlindedCoin, ...]
    totals: dict[bytes, int]
    commission: int
    deadline: int


class Posting(State, frozen=True):
    """Signed; the debit is on its way into the books, and decides."""


class Granted(State, frozen=True):
    """The account is debited and the answer may leave."""


class Asked(Event, frozen=True):
    """A request, and what the bank knows of who asks. `balance` may be stale: the books decide in the end."""

    request: WithdrawRequest
    account: Account | None
    balance: int
    ring: KeyRing
    now: int
    deadline: int


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


WithdrawalState: TypeAlias = New | Signing | Posting | Granted | Refused
WithdrawalEvent: TypeAlias = Asked | Signed | SignerRefused | Committed | Contradicted
Effects: TypeAlias = tuple[SignBlinded | Post, ...]

TRANSITIONS: Final = arrows(
    ([New], [Asked], [Signing, Refused]),
    ([Signing], [Signed], [Posting]),
    ([Signing], [SignerRefused], [Refused]),
    ([Posting], [Committed], [Granted]),
    ([Posting], [Contradicted], [Refused]),
)


def step(state: WithdrawalState, event: WithdrawalEvent) -> tuple[WithdrawalState, Effects]:
    """Return the next state and what must happen outside.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), Asked():
            try:
                signing = _check(event)
            except PeerError as error:
                return refused(error), ()
            return signing, (SignBlinded(signing.coins),)
        case Signing(), Signed():
            return Posting(), (_post(state, event.signatures),)
        case Signing(), SignerRefused():
            return Refused(event.refusal.value, event.detail), ()
        case Posting(), Committed():
            return Granted(), ()
        case Posting(), Contradicted():
            return contradicted(event), ()
        case _:
            raise IllegalTransition(state, event)


def _check(event: Asked) -> Signing:
    ring, coins = event.ring, event.request.coins
    if len(coins) > ring.keyset.limits.max_coins:
        raise PeerError(Refusal.MALFORMED, f"more than {ring.keyset.limits.max_coins} coins in one request")
    account = known(event.account)
    totals: defaultdict[bytes, int] = defaultdict(int)
    for coin in coins:
        denomination = ring.mintable(coin.denomination, event.now)
        if denomination.currency != account.currency:
            raise PeerError(Refusal.WRONG_CURRENCY, f"the account is in {account.currency}")
        totals[coin.denomination] += denomination.value
    for coin in coins:
        check_blinded(ring.key(coin.denomination), coin.blinded)
    if len({coin.blinded for coin in coins}) != len(coins):
        raise PeerError(Refusal.BLINDED_VALUE_REUSED, "a blinded value stands twice in the request")
    amount = sum(totals.values())
    commission = ring.keyset.withdrawal_commission.charge(amount)
    if event.request.commission != commission:
        raise PeerError(Refusal.COMMISSION_CHANGED, f"the commission is {commission}, not {event.request.commission}")
    if event.balance < amount + commission:
        raise PeerError(Refusal.INSUFFICIENT_FUNDS, "the account does not hold the amount and its commission")
    return Signing(account.number, account.currency, coins, dict(totals), commission, event.deadline)


def _post(state: Signing, signatures: tuple[bytes, ...]) -> Post:
    return Post(
        body=WithdrawAnswer(signatures, sum(state.totals.values()), state.commission).encode(),
        entries=withdrawal_entries(state.account, state.currency, state.totals, state.commission),
        issued=tuple((coin.denomination, hashlib.sha256(coin.blinded).digest()) for coin in state.coins),
        not_after=state.deadline,
    )
