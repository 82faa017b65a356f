"""An exchange as a line of the history: what was done, with whom, how much, and how it stands."""

from typing import Final, NamedTuple

from protocol.exchange import EXCHANGE, REFUND
from protocol.recovery import REDEEM
from protocol.wallet import exchange, payment, redemption, refund, transfer, withdrawal
from protocol.wallet.transfer import TRANSFER

from ..show import succeeded
from ..store import ExchangeRow


class Line(NamedTuple):
    """One line; `number` is the exchange's id in hexadecimal, `tone` one of good, bad, wait and plain."""

    number: str
    at: int
    what: str
    partner: str
    amount: int
    currency: str
    state: str
    tone: str


_DONE: Final = {
    "withdraw": "Withdrawal",
    payment.PAY: "Payment",
    EXCHANGE: "Exchange",
    REDEEM: "Put back",
    REFUND: "Refund",
    TRANSFER: "Sent",
}
_PURPOSES: Final = {
    "change": "Change",
    "refresh": "Fresh coins for old ones",
    "tidy": "Small coins put together",
    "stock": "Small change",
    "receive": "Received",
    "verify": "Coins made sure of",
}


def line_of(row: ExchangeRow) -> Line:
    """Return the line of an exchange."""
    note = row.note
    what = _PURPOSES.get(note.purpose, _DONE[row.kind]) if row.kind == EXCHANGE else _DONE[row.kind]
    state, tone = _state_of(row)
    return Line(row.id.hex(), row.begun_at, what, note.title or row.bank, note.amount, note.currency, state, tone)


def _state_of(row: ExchangeRow) -> tuple[str, str]:
    match row.state:
        case payment.Paid():
            return "Paid", "good"
        case transfer.Claimed():
            return "Claimed", "good"
        case _ if succeeded(row):
            return "Done", "good"
        case transfer.Sent():
            return "Not claimed yet", "wait"
        case transfer.Closing():
            return "Being taken back", "wait"
        case transfer.TakenBack():
            return "Taken back", "plain"
        case payment.Waiting():
            return "Not taken", "wait"
        case payment.Unreceipted():
            return "Paid, receipt to come", "wait"
        case payment.Released():
            return "Came to nothing", "plain"
        case refund.Lapsed():
            return "Lapsed", "plain"
        case refund.Checking(refusal=refusal) | refund.Waiting(refusal=refusal) if refusal:
            return "Not granted", "wait"
        case withdrawal.Disputed() | payment.Disputed() | exchange.Disputed() | redemption.Disputed():
            return "In dispute", "bad"
        case refund.Disputed():
            return "In dispute", "bad"
        case _ if row.open:
            return "Under way", "wait"
        case _:
            return "Refused", "bad"
