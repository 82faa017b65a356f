"""Payout at the bank: a merchant's account is debited and the transfer queued, in one transaction.

What becomes of the transfer is the operator's to book: it is exported, settles, or comes back as a credit.
"""

from typing import Final, TypeAlias

from ..errors import IllegalTransition, PeerError
from ..keyset import Tariff
from ..machine import Event, State, arrows
from ..messages import MERCHANT
from ..payout import PayoutAnswer, PayoutRequest, PayoutStatus
from ..refusals import Refusal
from .desk import Account, Committed, Contradicted, New, Post, Refused, contradicted, known, refused
from .ledger import PayoutOrder, payout_entries


class Posting(State, frozen=True):
    """The debit is on its way into the books, and decides."""


class Queued(State, frozen=True):
    """The account is debited, the transfer waits for its file, and the answer may leave."""


class Shown(State, frozen=True):
    """The merchant only looked; the answer may leave, and need not be stored."""

    body: bytes


class Asked(Event, frozen=True):
    """A request, and what the bank knows of who asks. `balance` may be stale: the books decide in the end.

    `payouts` are the account's last ones, the newest first; needed only where the merchant looks.
    """

    request: PayoutRequest
    account: Account | None
    balance: int
    payouts: tuple[PayoutStatus, ...]
    tariff: Tariff
    now: int
    deadline: int


PayoutState: TypeAlias = New | Posting | Queued | Shown | Refused
PayoutEvent: TypeAlias = Asked | Committed | Contradicted
Effects: TypeAlias = tuple[Post, ...]

TRANSITIONS: Final = arrows(
    ([New], [Asked], [Posting, Shown, Refused]),
    ([Posting], [Committed], [Queued]),
    ([Posting], [Contradicted], [Refused]),
)


def step(state: PayoutState, event: PayoutEvent) -> tuple[PayoutState, Effects]:
    """Return the next state and what must happen outside.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), Asked():
            try:
                account = _check(event)
            except PeerError as error:
                return refused(error), ()
            if event.request.amount == 0:
                return Shown(PayoutAnswer(event.balance, event.payouts).encode()), ()
            return Posting(), (_post(event, account),)
        case Posting(), Committed():
            return Queued(), ()
        case Posting(), Contradicted():
            return contradicted(event), ()
        case _:
            raise IllegalTransition(state, event)


def _check(event: Asked) -> Account:
    account, request = known(event.account), event.request
    if account.kind != MERCHANT:
        raise PeerError(Refusal.WRONG_MERCHANT, "only a merchant's account is paid out")
    commission = event.tariff.payout.charge(request.amount)
    if request.commission != commission:
        raise PeerError(Refusal.COMMISSION_CHANGED, f"the commission is {commission}, not {request.commission}")
    if event.balance < request.amount + commission:
        raise PeerError(Refusal.INSUFFICIENT_FUNDS, "the account does not hold the amount and its commission")
    return account


def _post(event: Asked, account: Account) -> Post:
    amount, commission = event.request.amount, event.request.commission
    queued = PayoutStatus(0, amount, commission, "queued", "", event.now)
    return Post(
        body=PayoutAnswer(event.balance - amount - commission, (queued,)).encode(),
        entries=payout_entries(account.number, account.currency, amount, commission),
        payout=PayoutOrder(account.number, amount, commission),
        not_after=event.deadline,
    )
