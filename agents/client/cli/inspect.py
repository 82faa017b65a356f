"""`ecash wallet show`: one exchange fully, with the evidence that the wallet keeps of it."""

from typing import Annotated

import typer
from rich.markup import escape

from protocol.money import format_minor

from ...terminal import JsonFlag, out, print_json, run, told
from ..evidence import evidence_json, evidence_of, times_of
from ..service import open_store
from ..show import clock_time, describe
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
    if as_json:
        print_json(evidence_json(row))
        return
    evidence = {name: data for name, data in evidence_of(row.state).items() if data}
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
