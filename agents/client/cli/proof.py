"""`ecash wallet prove`: show that a payment was paid, to whom it matters."""

from pathlib import Path
from typing import Annotated

import typer

from ...proof import write_proof
from ...terminal import JsonFlag, LogLevel, fail, out, print_json, run, told
from ..prove import Secrets, prove, secrets_of
from ..store import ExchangeRow
from .app import HOME, Home, app, opened


def _shown(lines: str, row: ExchangeRow) -> set[int]:
    count = len(row.note.order)
    if lines == "all":
        return set(range(count))
    if lines == "none":
        return set()
    try:
        chosen = {int(number) - 1 for number in lines.split(",")}
    except ValueError:
        chosen = {-1}
    if not chosen <= set(range(count)):
        raise ValueError(f"--lines is all, none, or numbers from 1 to {count} such as 1,2")
    return chosen


@app.command("prove")
@told
def prove_payment(
    payment: Annotated[str, typer.Argument(help="The payment's id in `ecash wallet history`, or how it begins.")],
    file: Annotated[
        Path | None, typer.Option("--out", dir_okay=False, help="Ask the bank for its statement and write the proof.")
    ] = None,
    lines: Annotated[str, typer.Option(help="Lines of the order to open in it: all, none, or such as 1,2.")] = "all",
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Show payment id, salt and payer code; with --out, have the bank state under its signature that it was paid.

    Whoever knows the three can have the bank state it. The file can be checked by anybody: `ecash verify FILE`.

    Example: ecash wallet prove 1f2e3d4c --out proof.json
    """

    async def do() -> Secrets:
        async with opened(home) as wallet:
            row = await wallet.store.find(payment)
            if file is not None:
                write_proof(file, await prove(wallet, row, _shown(lines, row)))
            return secrets_of(wallet, row)

    if file is not None and file.exists():
        fail(f"{file} exists already: name another file")
    secrets = run(do(), log)
    if as_json:
        shown: dict[str, str] = {"payment": secrets.payment_id.hex(), "salt": secrets.salt.hex(), "code": secrets.code}
        print_json(shown | {"function": secrets.function, "file": str(file) if file else ""})
        return
    out.print(f"Payment id  {secrets.payment_id.hex()}")
    out.print(f"Salt        {secrets.salt.hex()}")
    out.print(f"Payer code  {secrets.code}", markup=False)
    if file is None:
        out.print("Whoever knows these can have the bank state that it was paid. --out FILE asks for that now.")
    else:
        out.print(
            f"The bank's signed statement is in {file}. Anybody can check it: ecash verify {file}", soft_wrap=True
        )
