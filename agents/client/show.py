"""What the wallet tells its owner of an exchange, in a sentence and as JSON."""

from datetime import UTC, datetime

from protocol.messages import Receipt, Signed
from protocol.money import format_minor
from protocol.refusals import TABLE, Refusal
from protocol.wallet import payment, withdrawal

from .store import ExchangeRow


def describe(row: ExchangeRow) -> str:
    """Return a sentence (or a few) that says where an exchange stands and what to do, if anything."""
    note = row.note
    amount = format_minor(note.amount, note.currency)
    match row.state:
        case withdrawal.Issued():
            commission = f" (commission {format_minor(note.commission, note.currency)})" if note.commission else ""
            return f"Withdrew {amount} from {row.bank}{commission}."
        case withdrawal.Requested():
            return f"The withdrawal of {amount} has no answer yet; the next command carries it on."
        case withdrawal.Refused(refusal=refusal):
            return f"The bank refused to pay out {amount}: {meaning(refusal)}"
        case withdrawal.Disputed(detail=detail):
            return f"The bank's answer to the withdrawal of {amount} is wrong ({detail}); it is kept as evidence."
        case payment.Paid(receipt=receipt):
            goods = goods_of(receipt)
            return f"Paid {amount} to {note.title}. Payment {row.id.hex()[:8]}." + (f"\n{goods}" if goods else "")
        case payment.Paying():
            return f"The payment of {amount} to {note.title} has no receipt yet; the next command carries it on."
        case payment.Waiting(refusal=refusal, payment=paid):
            until = clock_time(paid.deposit_before)
            return (
                f"{note.title} did not take the payment of {amount}: {meaning(refusal)} "
                f"The coins are safe, and free again at {until}, when nobody can deposit them any more."
            )
        case payment.Unreceipted():
            return (
                f"Paid {amount} to {note.title}, says the bank, but the receipt has not come yet; "
                "the next command asks the merchant for it."
            )
        case payment.Asking():
            return f"The bank is asked what became of the payment of {amount} to {note.title}."
        case payment.Refused(refusal=refusal, spent=spent):
            return f"The bank refused the payment of {amount} to {note.title}: {_why(refusal, spent)}"
        case payment.Released():
            return f"The payment of {amount} to {note.title} came to nothing; its coins are free again."
        case payment.Disputed():
            return (
                f"The bank says that coins of the payment of {amount} were spent before, and shows no valid evidence. "
                "They are set aside, and its signed verdict is kept."
            )
        case _:
            return f"Nothing was sent for {amount} yet."


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


def history_row(row: ExchangeRow) -> tuple[str, str, str, str, str, str]:
    """Return an exchange as a line of the history."""
    what = "paid" if row.kind == payment.PAY else "withdrew"
    partner = row.note.title if row.kind == payment.PAY else row.bank
    state = type(row.state).__name__.lower()
    amount = format_minor(row.note.amount, row.note.currency)
    return row.id.hex()[:8], clock_time(row.begun_at), what, amount, state, partner


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
        shown |= {"merchant": row.note.merchant, "order": row.note.order}
    if isinstance(state, payment.Paid):
        shown["goods"] = goods_of(state.receipt)
    if isinstance(state, withdrawal.Refused | payment.Refused | payment.Waiting):
        shown["refusal"] = state.refusal
    if isinstance(state, payment.Refused):
        shown["coins_spent_before"] = state.spent
    return shown
