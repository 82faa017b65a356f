"""What the wallet tells its owner of an exchange, in a sentence and as JSON."""

from datetime import UTC, datetime
from typing import Final

from protocol.messages import Receipt, Signed
from protocol.money import format_minor
from protocol.refusals import TABLE, Refusal
from protocol.wallet import exchange, payment, redemption, refund, transfer, withdrawal

from .store import ExchangeRow


def succeeded(row: ExchangeRow) -> bool:
    """Tell whether an exchange has come to what its owner wanted."""
    return isinstance(
        row.state,
        withdrawal.Issued
        | payment.Paid
        | exchange.Exchanged
        | redemption.Redeemed
        | refund.Collected
        | transfer.Claimed,
    )


def describe(row: ExchangeRow) -> str:
    """Return a sentence (or a few) that says where an exchange stands and what to do, if anything."""
    amount = format_minor(row.note.amount, row.note.currency)
    told = (tell(row, amount) for tell in (_withdrawal, _payment, _exchange, _redemption, _refund, _transfer))
    return next(filter(None, told), f"Nothing was sent for {amount} yet.")


def _withdrawal(row: ExchangeRow, amount: str) -> str:
    note = row.note
    match row.state:
        case withdrawal.Issued():
            commission = f" (commission {format_minor(note.commission, note.currency)})" if note.commission else ""
            return f"Withdrew {amount} from {row.bank}{commission}."
        case withdrawal.Requested():
            return f"The withdrawal of {amount} has no answer yet; the wallet carries it on."
        case withdrawal.Refused(refusal=refusal):
            return f"The bank refused to pay out {amount}: {meaning(refusal)}"
        case withdrawal.Disputed(detail=detail):
            return f"The bank's answer to the withdrawal of {amount} is wrong ({detail}); it is kept as evidence."
        case _:
            return ""


def _payment(row: ExchangeRow, amount: str) -> str:
    note = row.note
    match row.state:
        case payment.Paid(receipt=receipt):
            goods = goods_of(receipt)
            return f"Paid {amount} to {note.title}. Payment {row.number[:8]}." + (f"\n{goods}" if goods else "")
        case payment.Paying():
            return f"The payment of {amount} to {note.title} has no receipt yet; the wallet carries it on."
        case payment.Waiting(refusal=refusal, payment=paid):
            until = clock_time(paid.deposit_before)
            return (
                f"{note.title} did not take the payment of {amount}: {meaning(refusal)} "
                f"The coins are safe, and free again at {until}, when nobody can deposit them any more."
            )
        case payment.Unreceipted():
            return (
                f"Paid {amount} to {note.title}, says the bank, but the receipt has not come yet; "
                "the wallet asks the merchant for it."
            )
        case payment.Asking():
            return f"The bank is asked what became of the payment of {amount} to {note.title}."
        case payment.Refused(refusal=refusal, spent=spent):
            return f"The bank refused the payment of {amount} to {note.title}: {_why(refusal, spent)}"
        case payment.Released():
            return f"The payment of {amount} to {note.title} came to nothing; its coins are free again."
        case payment.Disputed(detail=detail):
            what = (
                f"The bank does not tell what became of the payment of {amount} to {note.title} ({detail})."
                if detail
                else f"The bank says that coins of the payment of {amount} were spent before, without valid evidence."
            )
            return f"{what} The coins are set aside. {_complain(row)}"
        case _:
            return ""


def _exchange(row: ExchangeRow, amount: str) -> str:
    note = row.note
    match row.state:
        case exchange.Exchanged(amount=fresh) if note.token:
            commission = f" (after a commission of {format_minor(note.commission, note.currency)})"
            return f"Received {format_minor(fresh, note.currency)}{commission if note.commission else ''}."
        case exchange.Refused(refusal=Refusal.ALREADY_SPENT) if note.token:
            return (
                "The coins were spent before, as an earlier signature with a coin's own key proves: whoever gave them "
                "has taken them back, or has given them to somebody else, too. Nothing was received."
            )
        case exchange.Refused(refusal=refusal) if note.token:
            return f"The bank refused the coins: {meaning(refusal)} Nothing was received."
        case exchange.Exchanged(amount=fresh):
            worth = format_minor(fresh + note.commission, note.currency)
            commission = f" (commission {format_minor(note.commission, note.currency)})" if note.commission else ""
            return f"{_PURPOSES.get(note.purpose, _EXCHANGED).format(worth=worth)}{commission}."
        case exchange.Requested():
            return f"The exchange of coins worth {amount} has no answer yet; the wallet carries it on."
        case exchange.Refused(refusal=refusal, spent=spent):
            return f"The bank refused to exchange coins worth {amount}: {_why(refusal, spent)}"
        case exchange.Disputed(detail=detail):
            return f"The bank's answer to an exchange of {amount} is wrong ({detail}). {_complain(row)}"
        case _:
            return ""


def _redemption(row: ExchangeRow, amount: str) -> str:
    note = row.note
    match row.state:
        case redemption.Redeemed(commission=charge):
            commission = f" (commission {format_minor(charge, note.currency)})" if charge else ""
            return f"Put coins worth {amount} back into the account at {row.bank}{commission}."
        case redemption.Requested():
            return f"The redemption of coins worth {amount} has no answer yet; the wallet carries it on."
        case redemption.Refused(refusal=refusal, spent=spent):
            return f"The bank refused to redeem coins worth {amount}: {_why(refusal, spent)}"
        case redemption.Disputed(detail=detail):
            return (
                f"The bank's answer to the redemption of {amount} is wrong ({detail}); it is kept as evidence, "
                "and the coins are set aside."
            )
        case _:
            return ""


def _refund(row: ExchangeRow, amount: str) -> str:
    note = row.note
    match row.state:
        case refund.Collected(amount=back):
            return f"Collected a refund of {format_minor(back, note.currency)} from {note.title}."
        case refund.Requested() | refund.Checking(refusal=""):
            return f"The refund of {amount} from {note.title} has not come yet; the wallet carries it on."
        case refund.Checking(refusal=refusal, detail=detail) | refund.Waiting(refusal=refusal, detail=detail):
            told = f"{meaning(refusal)} ({detail})" if detail else meaning(refusal)
            return f"{note.title} did not refund {amount}: {told} What is granted can be collected later."
        case refund.Lapsed():
            return f"{note.title} did not refund {amount} in time; what is granted can be asked for once more."
        case refund.Disputed(detail=detail):
            return f"The bank's answer to the refund of {amount} is wrong ({detail}); it is kept as evidence."
        case _:
            return ""


def _transfer(row: ExchangeRow, amount: str) -> str:
    match row.state:
        case transfer.Sent(transfer=given) | transfer.Closing(transfer=given):
            until = clock_time(given.expires)
            return f"{amount} were given and are not claimed yet, as far as is known; at {until} they are taken back."
        case transfer.Claimed():
            return f"{amount} were given, and are claimed."
        case transfer.TakenBack(claimed=0):
            return f"{amount} were not claimed, and are taken back."
        case transfer.TakenBack(back=back, claimed=claimed):
            return f"Of {amount}, {claimed} coins were claimed, and {back} coins are taken back."
        case _:
            return ""


_EXCHANGED: Final = "Exchanged coins worth {worth} for fresh ones"
_PURPOSES: Final = {
    "change": "Changed {worth} for smaller coins",
    "refresh": "Exchanged coins worth {worth} for fresh ones before they expire",
    "tidy": "Put small coins worth {worth} together into fewer",
    "stock": "Changed a coin of {worth} into smaller ones, to have all sums at hand",
}


def _complain(row: ExchangeRow) -> str:
    return f"Show the bank what it said: `ecash wallet show {row.id.hex()[:8]} --json` prints it as evidence."


def _why(refusal: str, spent: int) -> str:
    if refusal != Refusal.ALREADY_SPENT:
        return f"{meaning(refusal)} All coins are free again."
    coins = "one of its coins was" if spent == 1 else f"{spent} of its coins were"
    return (
        f"{coins} spent before, as an earlier signature with the coin's own key proves. Was this wallet copied or "
        "restored from a backup? Spent coins were taken off the balance, the others are free again; just pay once more."
    )


def meaning(refusal: str) -> str:
    """Return what a refusal code means, for a person."""
    return TABLE[Refusal(refusal)].meaning if refusal in set(Refusal) else refusal


def goods_of(receipt: bytes) -> str:
    """Return the goods that came with a `Signed` receipt, or nothing."""
    return Receipt.decode(Signed.decode(receipt).statement).goods if receipt else ""


def clock_time(at: int) -> str:
    """Return a time of day with its date, as the owner's clock shows it."""
    return datetime.fromtimestamp(at / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


_DONE = {
    "withdraw": "withdrew",
    "pay": "paid",
    "exchange": "exchanged",
    "redeem": "redeemed",
    "refund": "refunded",
    "transfer": "gave",
}


def history_row(row: ExchangeRow) -> tuple[str, str, str, str, str, str]:
    """Return an exchange as a line of the history."""
    what = _DONE.get(row.kind, row.kind)
    partner = row.note.title or row.bank
    state = type(row.state).__name__.lower()
    amount = format_minor(row.note.amount, row.note.currency)
    return row.number[:8], clock_time(row.begun_at), what, amount, state, partner


_REFUSED: Final = (
    withdrawal.Refused,
    payment.Refused,
    payment.Waiting,
    exchange.Refused,
    redemption.Refused,
    refund.Checking,
    refund.Waiting,
)


def outcome_of(row: ExchangeRow) -> dict[str, object]:
    """Return an exchange as JSON's values; amounts are in minor units."""
    state = row.state
    shown: dict[str, object] = {
        "id": row.id.hex(),
        "kind": row.kind,
        "state": type(state).__name__.lower(),
        "open": row.open,
        "bank": row.bank,
        "amount": row.note.amount,
        "commission": row.note.commission,
        "currency": row.note.currency,
        "begun_at": row.begun_at,
        "told": describe(row),
    }
    if row.kind == payment.PAY:
        shown |= {"merchant": row.note.merchant, "sale": row.number, "order": row.note.order}
    if isinstance(state, payment.Paid):
        shown["goods"] = goods_of(state.receipt)
    if isinstance(state, _REFUSED) and state.refusal:
        shown["refusal"] = state.refusal
    if isinstance(state, payment.Refused):
        shown["coins_spent_before"] = state.spent
    return shown
