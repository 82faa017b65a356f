"""Exchange and refund: what is said when coins are made without an account's owner being known.

An *exchange* is anonymous: coins in, new coins out, in one transaction. It makes change, refreshes coins before they
expire, and receives coins from another wallet. A *refund* goes to a buyer who stays unknown: the buyer seals a *ticket*
with blinded coins for the bank, the merchant pays for it, and the bank's answer to the ticket travels back.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from .codec import Blob, Bytes16, Bytes32, Message, Minor
from .coins import MAX_COINS, SpentCoin
from .messages import BlindedCoin, BlindedCoins, BlindSignatures

EXCHANGE: Final = "exchange"
TICKET: Final = "ticket"
"""The kind of the envelope that holds a `Ticket`; its request id is the ticket's."""
REFUND: Final = "refund"

_HOUR_MS: Final = 60 * 60 * 1000
EXCHANGE_AHEAD_MS: Final = 26 * _HOUR_MS
"""How far ahead of the bank's time the deadline of an exchange may be: a day, rounded up, and an error of clocks."""
TICKET_AHEAD_MS: Final = 8 * 24 * _HOUR_MS
"""How far ahead of the bank's time the deadline of a ticket may be: a week, rounded up, and an error of clocks."""

TicketEnvelope = Annotated[bytes, msgspec.Meta(max_length=160 * 1024)]


class ExchangeRequest(Message, frozen=True):
    """Kind `exchange`, anonymous: sign these blinded coins for those coins, spent on `exchange_digest`.

    What the coins are worth is what the blinded ones are worth, and `commission`. The answer is an `Issue`; a refusal
    as `already_spent` has `Exhibits` in its body.
    """

    commission: Minor
    coins: Annotated[tuple[SpentCoin, ...], msgspec.Meta(min_length=1, max_length=MAX_COINS)]
    outputs: BlindedCoins


class Issue(Message, frozen=True):
    """Blind signatures in the order of the blinded coins of an exchange or a ticket."""

    coins: BlindSignatures


def exchange_digest(bank: str, request_id: bytes, commission: int, outputs: Iterable[BlindedCoin]) -> bytes:
    """Return the 32 bytes that each coin signs when it is exchanged for these."""
    encoded = b"".join(coin.encode() for coin in outputs)
    parts = (bank.encode(), request_id, commission.to_bytes(8, "big"), encoded)
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hashlib.sha256(b"ecash/v1 exchange\0" + framed).digest()


class Ticket(Message, frozen=True):
    """Sealed for the bank (kind `ticket`): whoever pays for it has these signed for its writer."""

    outputs: BlindedCoins


class RefundRequest(Message, frozen=True):
    """Kind `refund` to a merchant, anonymous: the buyer of the payment with this digest collects what is granted.

    `salt` is that of the payment request, which only buyer and merchant know. `ticket` is an envelope with a `Ticket`
    worth exactly what is granted; empty to ask how much that is. The answer is a `RefundAnswer`.
    """

    digest: Bytes32
    salt: Bytes16
    ticket: TicketEnvelope


class RefundAnswer(Message, frozen=True):
    """What is granted; `issue` is the bank's sealed answer to the ticket, empty if none was shown."""

    amount: Minor
    issue: Blob


class RefundOrder(Message, frozen=True):
    """Kind `refund` to a bank: debit the sender's account by amount and commission, and serve this ticket.

    The answer is a `RefundOrderAnswer`.
    """

    amount: Minor
    commission: Minor
    ticket: TicketEnvelope


class RefundOrderAnswer(Message, frozen=True):
    """The sealed answer to the ticket (an `Issue`), for the buyer."""

    issue: Blob
