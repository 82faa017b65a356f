"""Withdrawal at the bank: check, sign blindly, debit; nothing leaves before the debit is durable."""

from typing import Final, TypeAlias

from ..errors import IllegalTransition, PeerError
from ..keyset import KeyRing
from ..machine import Event, State, arrows
from ..messages import WithdrawAnswer, WithdrawRequest
from ..refusals import Refusal
from .coins import Minting, check_minting, check_number
from .desk import (
    Account,
    Committed,
    Contradicted,
    New,
    Post,
    Refused,
    SignBlinded,
    Signed,
    SignerRefused,
    at_generation,
    contradicted,
    refused,
)
from .ledger import Generation, Withdrawal, withdrawal_entries


class Signing(State, frozen=True):
    """The account seems to hold enough; the signer is at work."""

    account: Account
    request: WithdrawRequest
    minting: Minting
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
            return signing, (SignBlinded(signing.minting.coins),)
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
    ring, request = event.ring, event.request
    check_number(request.coins, ring)
    account = at_generation(event.account, request.generation)
    minting = check_minting(request.coins, account.currency, ring, event.now)
    commission = ring.keyset.tariff.withdrawal.charge(minting.amount)
    if request.commission != commission:
        raise PeerError(Refusal.COMMISSION_CHANGED, f"the commission is {commission}, not {request.commission}")
    if event.balance < minting.amount + commission:
        raise PeerError(Refusal.INSUFFICIENT_FUNDS, "the account does not hold the amount and its commission")
    return Signing(account, request, minting, commission, event.deadline)


def _post(state: Signing, signatures: tuple[bytes, ...]) -> Post:
    account, minting = state.account, state.minting
    return Post(
        body=WithdrawAnswer(minting.signed(signatures), minting.amount, state.commission).encode(),
        entries=withdrawal_entries(account.number, account.currency, minting.totals, state.commission),
        issued=minting.issued,
        generation=Generation(account.number, state.request.generation),
        withdrawal=Withdrawal(account.number, minting.amount, state.request.settled),
        not_after=state.deadline,
    )
