"""Refund at the bank: a merchant pays for the coins of a buyer whom nobody knows.

The buyer's ticket is an anonymous letter inside the merchant's order. Its answer is an answer like any other, sealed
for the buyer alone and stored under the ticket's id; the merchant carries it.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from ..answer import Answer, seal_answer
from ..envelope import Letter, request_hash
from ..errors import IllegalTransition, PeerError
from ..exchange import TICKET_AHEAD_MS, Issue, RefundOrder, RefundOrderAnswer, Ticket
from ..keyset import KeyRing
from ..machine import Event, State, arrows
from ..messages import MERCHANT, BlindedCoin
from ..refusals import Refusal
from .coins import Minting, check_minting
from .desk import (
    DETAILS,
    Account,
    Committed,
    Contradicted,
    New,
    Post,
    Refused,
    SignBlinded,
    Signed,
    SignerRefused,
    contradicted,
    known,
    refused,
)
from .ledger import Reply, withdrawal_entries


class Examined(msgspec.Struct, frozen=True):
    """An order that has passed every check that needs no books. `ticket` is the buyer's letter, `hashed` its hash."""

    account: Account
    commission: int
    ticket: Letter
    hashed: bytes
    minting: Minting


class Signing(State, frozen=True):
    """The account seems to hold enough; the signer is at work."""

    examined: Examined
    not_after: int


class Posting(State, frozen=True):
    """Signed; the debit is on its way into the books, and decides."""


class Granted(State, frozen=True):
    """The account is debited; the answers to order and ticket may leave."""


class OrderGood(Event, frozen=True):
    """`examine` found nothing wrong. `balance` may be stale: the books decide in the end."""

    examined: Examined
    balance: int
    deadline: int


class OrderBad(Event, frozen=True):
    """`examine` found a fault."""

    refusal: Refusal
    detail: str


RefundState: TypeAlias = New | Signing | Posting | Granted | Refused
RefundEvent: TypeAlias = OrderGood | OrderBad | Signed | SignerRefused | Committed | Contradicted
Effects: TypeAlias = tuple[SignBlinded | Post, ...]

TRANSITIONS: Final = arrows(
    ([New], [OrderGood], [Signing, Refused]),
    ([New], [OrderBad], [Refused]),
    ([Signing], [Signed], [Posting]),
    ([Signing], [SignerRefused], [Refused]),
    ([Posting], [Committed], [Granted]),
    ([Posting], [Contradicted], [Refused]),
)


def step(state: RefundState, event: RefundEvent, identity_seed: bytes, now: int) -> tuple[RefundState, Effects]:
    """Return the next state and what must happen outside. The identity key signs the answer to the ticket.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    match state, event:
        case New(), OrderGood():
            examined = event.examined
            if event.balance < examined.minting.amount + examined.commission:
                short = PeerError(Refusal.INSUFFICIENT_FUNDS, DETAILS[Refusal.INSUFFICIENT_FUNDS])
                return refused(short), ()
            not_after = min(event.deadline, examined.ticket.deadline)
            return Signing(examined, not_after), (SignBlinded(examined.minting.coins),)
        case New(), OrderBad():
            return Refused(event.refusal.value, event.detail), ()
        case Signing(), Signed():
            return Posting(), (_post(state, event.signatures, identity_seed, now),)
        case Signing(), SignerRefused():
            return Refused(event.refusal.value, event.detail), ()
        case Posting(), Committed():
            return Granted(), ()
        case Posting(), Contradicted():
            return contradicted(event), ()
        case _:
            raise IllegalTransition(state, event)


def examine(
    order: RefundOrder,
    account: Account | None,
    request_id: bytes,
    open_ticket: Callable[[], Letter],
    ring: KeyRing,
    now: int,
) -> Examined:
    """Check everything about an order that needs no books.

    Args:
        order: what was asked.
        account: of the key that signed the order, if it has one.
        request_id: of the order, 16 bytes.
        open_ticket: opens the ticket as a letter of kind `ticket`; raises PeerError if it cannot.
        ring: the bank's keys.
        now: the bank's time, in milliseconds.

    Raises:
        PeerError: in this order, `UNKNOWN_ACCOUNT`, `WRONG_MERCHANT` if the account is no merchant's, `BAD_TICKET`;
            `UNKNOWN_DENOMINATION`, `KEY_REVOKED`, `DENOMINATION_CLOSED` or `WRONG_CURRENCY` of the first coin that
            has a fault; `BAD_BLINDED_VALUE`, `BLINDED_VALUE_REUSED`, `AMOUNT_MISMATCH`, `COMMISSION_CHANGED`.
    """
    merchant = known(account)
    if merchant.kind != MERCHANT:
        raise PeerError(Refusal.WRONG_MERCHANT, "only a merchant refunds")
    ticket, outputs = _read(open_ticket, request_id, ring, now)
    minting = check_minting(outputs, merchant.currency, ring, now)
    if minting.amount != order.amount:
        raise PeerError(Refusal.AMOUNT_MISMATCH, f"the ticket is worth {minting.amount}, not {order.amount}")
    commission = ring.keyset.tariff.refund.charge(order.amount)
    if order.commission != commission:
        raise PeerError(Refusal.COMMISSION_CHANGED, f"the commission is {commission}, not {order.commission}")
    return Examined(merchant, commission, ticket, request_hash(order.ticket), minting)


def _read(
    open_ticket: Callable[[], Letter], request_id: bytes, ring: KeyRing, now: int
) -> tuple[Letter, tuple[BlindedCoin, ...]]:
    try:
        letter = open_ticket()
        outputs = Ticket.decode(letter.body).outputs
    except PeerError as error:
        raise PeerError(Refusal.BAD_TICKET, error.detail) from error
    if letter.sender:
        raise PeerError(Refusal.BAD_TICKET, "a ticket is anonymous")
    if letter.request_id == request_id:
        raise PeerError(Refusal.BAD_TICKET, "order and ticket have one id, so they cannot both be answered")
    if letter.deadline > now + TICKET_AHEAD_MS:
        raise PeerError(Refusal.BAD_TICKET, "the ticket's deadline is more than 8 days ahead of the bank's clock")
    if len(outputs) > ring.keyset.limits.max_coins:
        raise PeerError(Refusal.BAD_TICKET, f"more than {ring.keyset.limits.max_coins} coins in one ticket")
    return letter, outputs


def _post(state: Signing, signatures: tuple[bytes, ...], identity_seed: bytes, now: int) -> Post:
    examined, minting, ticket = state.examined, state.examined.minting, state.examined.ticket
    answer = Answer(now, "", "", Issue(minting.signed(signatures)).encode())
    issue = seal_answer(identity_seed, ticket.answer_key, ticket.request_id, examined.hashed, answer)
    number, currency = examined.account.number, examined.account.currency
    return Post(
        body=RefundOrderAnswer(issue).encode(),
        entries=withdrawal_entries(number, currency, minting.totals, examined.commission),
        issued=minting.issued,
        reply=Reply(ticket.request_id, examined.hashed, issue),
        not_after=state.not_after,
    )
