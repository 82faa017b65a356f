"""Deposit at the bank: valid coins that were never spent are entered as spent and credited, in one transaction.

The unique index of the spent list *is* the check. Every decision on a payment is a signed verdict, given once: accepted
or refused, it does not change. Refusals from before the payment is known to be the depositor's carry no verdict.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from ..answer import seal_secret
from ..errors import IllegalTransition, PeerError
from ..keyset import KeyRing
from ..machine import Event, State, arrows
from ..messages import DepositAnswer, DepositRequest, Exhibits, Parcel, PaymentInfo, Signed, Verdict
from ..refusals import Refusal
from ..signatures import Domain
from .coins import Taken, check_taken, value_of
from .desk import Account, Committed, Contradicted, New, Post, Refused, contradicted, known
from .ledger import Conflict, Payment, deposit_entries


class Examined(msgspec.Struct, frozen=True):
    """A deposit whose coins have passed every check that needs no books: kept apart from what was only claimed."""

    info: PaymentInfo
    parcel: Parcel
    taken: Taken
    commission: int


class Posting(State, frozen=True):
    """The coins are good; whether they were spent before is for the books to say."""

    examined: Examined


class Refusing(State, frozen=True):
    """A refusing verdict is on its way into the books."""

    info: PaymentInfo
    verdict: bytes


class Accepted(State, frozen=True):
    """Spent and credited; the answer may leave."""


class Settled(State, frozen=True):
    """A verdict was given, just now or before; `commission` is what was taken then, 0 if it refuses."""

    verdict: bytes
    commission: int


class CoinsGood(Event, frozen=True):
    """`examine` found nothing wrong."""

    examined: Examined
    now: int


class CoinsBad(Event, frozen=True):
    """`examine` found a fault in a payment that is the depositor's own."""

    info: PaymentInfo
    refusal: Refusal
    now: int


class NotTheirs(Event, frozen=True):
    """The request is not about a payment that the depositor may deposit."""

    refusal: Refusal
    detail: str


DepositState: TypeAlias = New | Posting | Refusing | Accepted | Settled | Refused
DepositEvent: TypeAlias = CoinsGood | CoinsBad | NotTheirs | Committed | Contradicted
Effects: TypeAlias = tuple[Post, ...]
Sign: TypeAlias = Callable[[Verdict], Signed]

TRANSITIONS: Final = arrows(
    ([New], [CoinsGood], [Posting]),
    ([New], [CoinsBad], [Refusing]),
    ([New], [NotTheirs], [Refused]),
    ([Posting], [Committed], [Accepted]),
    ([Posting], [Contradicted], [Refusing, Settled, Refused]),
    ([Refusing], [Committed], [Settled]),
    ([Refusing], [Contradicted], [Refusing, Settled, Refused]),
)


def step(state: DepositState, event: DepositEvent, sign: Sign) -> tuple[DepositState, Effects]:
    """Return the next state and what must happen outside. `sign` signs verdicts as the bank.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), CoinsGood():
            return Posting(event.examined), (_accept(event.examined, event.now, sign),)
        case New(), CoinsBad():
            return _refuse(event.info, Conflict(event.refusal), b"", event.now, sign)
        case New(), NotTheirs():
            return Refused(event.refusal, event.detail), ()
        case Posting(), Committed():
            return Accepted(), ()
        case ((Posting() | Refusing()), Contradicted()) if event.conflict.verdict:
            return Settled(event.conflict.verdict, event.conflict.commission), ()
        case Posting(), Contradicted() if event.conflict.refusal != Refusal.REQUEST_ID_REUSED:
            info, key = state.examined.info, state.examined.parcel.evidence_key
            return _refuse(info, event.conflict, key, event.now, sign)
        case Refusing(), Committed():
            return Settled(state.verdict, 0), ()
        case Refusing(), Contradicted() if event.conflict.refusal == Refusal.PAYMENT_EXPIRED:
            return _refuse(state.info, event.conflict, b"", event.now, sign)
        case ((Posting() | Refusing()), Contradicted()):
            return contradicted(event), ()  # a fault of the request, not of the payment: no verdict
        case _:
            raise IllegalTransition(state, event)


def _accept(examined: Examined, now: int, sign: Sign) -> Post:
    info = examined.info
    verdict = sign(_verdict(info, "", now, b"")).encode()
    return Post(
        body=DepositAnswer(verdict, examined.commission).encode(),
        entries=deposit_entries(info.account, info.currency, examined.taken.totals, examined.commission),
        spent=examined.taken.spendings,
        spent_on=info.digest,
        payment=_payment(info, verdict, accepted=True, commission=examined.commission),
        not_after=info.deposit_before,
    )


def _refuse(
    info: PaymentInfo, conflict: Conflict, evidence_key: bytes, now: int, sign: Sign
) -> tuple[Refusing, Effects]:
    evidence = b""
    if conflict.evidence:
        evidence = seal_secret(evidence_key, info.digest, Exhibits(conflict.evidence).encode())
    verdict = sign(_verdict(info, conflict.refusal, now, evidence)).encode()
    post = Post(
        body=DepositAnswer(verdict, 0).encode(),
        payment=_payment(info, verdict, accepted=False, commission=0),
        # From deposit-before on the verdict is "expired", whatever else is wrong: the payer may have been told so.
        not_after=0 if conflict.refusal == Refusal.PAYMENT_EXPIRED else info.deposit_before,
    )
    return Refusing(info, verdict), (post,)


def _payment(info: PaymentInfo, verdict: bytes, *, accepted: bool, commission: int) -> Payment:
    return Payment(
        info.digest, info.account, info.payment_id, accepted, verdict, info=info.encode(), commission=commission
    )


def _verdict(info: PaymentInfo, refusal: str, now: int, evidence: bytes) -> Verdict:
    at = info.deposit_before if refusal == Refusal.PAYMENT_EXPIRED else now
    return Verdict(
        info.bank, info.digest, info.payment_id, info.account, info.currency, info.amount, refusal, at, evidence
    )


def expired_verdict(info: PaymentInfo, sign: Sign) -> Signed:
    """Return the verdict on a payment that nobody deposited in time: the same bytes, whenever it is asked for."""
    return sign(_verdict(info, Refusal.PAYMENT_EXPIRED, 0, b""))


def own_payment(request: DepositRequest, account: Account | None, bank: str) -> PaymentInfo:
    """Return the payment information of a deposit, once it is known to be the depositor's own.

    Raises:
        PeerError: `UNKNOWN_ACCOUNT`, `MALFORMED`, `WRONG_BANK`, `WRONG_CURRENCY` or `WRONG_MERCHANT`.
    """
    depositor = known(account)
    info = PaymentInfo.decode(request.info)
    if info.bank != bank:
        raise PeerError(Refusal.WRONG_BANK, f"the payment is for bank {info.bank}")
    if info.currency != depositor.currency:
        raise PeerError(Refusal.WRONG_CURRENCY, f"the account is in {depositor.currency}")
    if info.account != depositor.number or depositor.kind != "merchant":
        raise PeerError(Refusal.WRONG_MERCHANT, "the payment is for another merchant's account")
    info.check_functions()
    return info


def examine(info: PaymentInfo, open_parcel: Callable[[], bytes], ring: KeyRing, now: int) -> Examined:
    """Check everything about a payment's coins that needs no books; the dear checks come last.

    Args:
        info: the payment information, known to be the depositor's own.
        open_parcel: opens the sealed parcel; raises PeerError if it cannot.
        ring: the bank's keys.
        now: the bank's time, in milliseconds.

    Raises:
        PeerError: in this order, `PAYMENT_EXPIRED`, `BAD_PARCEL`, `PAYMENT_ALTERED`, `UNKNOWN_DENOMINATION`,
            `KEY_REVOKED`, `DENOMINATION_CLOSED`, `WRONG_CURRENCY`, `DUPLICATE_COIN`, `AMOUNT_MISMATCH`, `BAD_COIN`,
            `BAD_SPEND_SIGNATURE`.
    """
    if now >= info.deposit_before:
        raise PeerError(Refusal.PAYMENT_EXPIRED, "the deposit came after the payment's deposit-before")
    try:
        parcel = Parcel.decode(open_parcel())
    except PeerError as error:
        raise PeerError(Refusal.BAD_PARCEL, error.detail) from error
    if len(parcel.coins) > ring.keyset.limits.max_coins:
        raise PeerError(Refusal.BAD_PARCEL, f"more than {ring.keyset.limits.max_coins} coins in one payment")
    if parcel.digest != info.digest or parcel.commitment != info.parcel:
        raise PeerError(Refusal.PAYMENT_ALTERED, "these are not the coins that the payer sealed for this payment")
    taken = value_of(parcel.coins, info.currency, lambda key: ring.spendable(key, now))
    if taken.amount != info.amount:
        raise PeerError(Refusal.AMOUNT_MISMATCH, f"the coins are worth {taken.amount}, the payment {info.amount}")
    commission = ring.keyset.tariff.deposit.charge(taken.amount)
    if commission > taken.amount:
        raise PeerError(Refusal.AMOUNT_MISMATCH, "the commission is more than the amount")
    check_taken(taken, parcel.digest, ring)
    return Examined(info, parcel, taken, commission)


def sign_verdict(identity_seed: bytes) -> Sign:
    """Return what signs verdicts with the bank's identity key."""
    return lambda verdict: Signed.make(identity_seed, Domain.VERDICT, verdict)
