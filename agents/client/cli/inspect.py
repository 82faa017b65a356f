"""`ecash wallet show`: one exchange fully, with the evidence that the wallet keeps of it."""

from typing import Annotated

import typer
from rich.markup import escape

from protocol.machine import State
from protocol.money import format_minor
from protocol.wallet import exchange, payment, redemption, withdrawal

from ...terminal import JsonFlag, out, print_json, run, told
from ..service import open_store
from ..show import clock_time, describe, outcome_of
from ..store import ExchangeRow
from .app import HOME, Home, app


@app.command("show")
@told
def show_exchange(
    exchange_id: Annotated[str, typer.Argument(metavar="ID", help="From `ecash wallet history`, or how it begins.")],
    home: Home = HOME,
    as_json: JsonFlag = False,
) -> None:
    """Show one exchange fully. With --json also what is kept as evidence, in hexadecimal.

    Takes no passphrase and no network.

    Example: ecash wallet show 1f2e3d4c --json
    """

    async def read() -> ExchangeRow:
        async with open_store(home) as store:
            return await store.find(exchange_id)

    row = run(read())
    evidence = {name: data for name, data in evidence_of(row.state).items() if data}
    if as_json:
        kept = {name: data.hex() for name, data in evidence.items()}
        print_json(outcome_of(row) | times_of(row) | {"purpose": row.note.purpose, "evidence": kept})
        return
    out.print(escape(describe(row)), soft_wrap=True)
    for line in row.note.order:
        out.print(f"  {escape(line)}")
    facts = {
        "id": row.id.hex(),
        "bank": row.bank,
        "merchant": row.note.merchant,
        "commission": format_minor(row.note.commission, row.note.currency),
        **{name: clock_time(at) for name, at in times_of(row).items()},
        **{name: data.hex() for name, data in evidence.items() if name == "digest"},
        "kept": ", ".join(f"{name} ({len(data)} bytes)" for name, data in evidence.items() if name != "digest"),
    }
    for name, fact in facts.items():
        if fact:
            out.print(f"[dim]{name}[/] {escape(fact)}", soft_wrap=True)


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
