"""What the wallet keeps of an exchange, to be shown to whoever has to judge it."""

from protocol.machine import State
from protocol.wallet import exchange, payment, redemption, withdrawal

from .show import outcome_of
from .store import ExchangeRow


def evidence_json(row: ExchangeRow) -> dict[str, object]:
    """Return all that is known of an exchange as JSON's values; what is kept as evidence is in hexadecimal."""
    kept = {name: data.hex() for name, data in evidence_of(row.state).items() if data}
    return outcome_of(row) | times_of(row) | {"purpose": row.note.purpose, "evidence": kept}


def times_of(row: ExchangeRow) -> dict[str, int]:
    """Return when an exchange began, and what it waits for, in milliseconds since 1970."""
    times = {"begun_at": row.begun_at}
    match row.state:
        case payment.Paying(payment=paid) | payment.Waiting(payment=paid):
            times["deposit_before"] = paid.deposit_before
        case _:
            pass
    if row.open:
        times["wake_at"] = row.wake_at
    return times


def evidence_of(state: State) -> dict[str, bytes]:
    """Return what the wallet keeps of an exchange: sealed requests and answers, statements with their signatures.

    A request is sealed for who was asked, an answer under a key that derives from the wallet's seed and the request's
    id; `verdict` and `receipt` are an encoded `Signed`, which anybody can check. Empty is what there is not.
    """
    match state:
        case withdrawal.Disputed() | exchange.Disputed() | redemption.Disputed():
            return {"request": state.envelope, "answer": state.answer}
        case payment.Disputed(payment=paid):
            kept = {"digest": paid.digest, "request": paid.pay, "inquiry": paid.inquiry}
            return kept | {"verdict": state.verdict, "answer": state.answer}
        case payment.Paid():
            return {"digest": state.digest, "verdict": state.verdict, "receipt": state.receipt}
        case payment.Refused() | payment.Released():
            return {"digest": state.digest, "verdict": state.verdict}
        case payment.Paying() | payment.Waiting() | payment.Asking():
            return {"digest": state.payment.digest}
        case payment.Unreceipted():
            return {"digest": state.payment.digest, "verdict": state.verdict}
        case exchange.Requested():
            return {"digest": state.swap.digest}
        case _:
            return {}
