"""`ecash wallet refund`: collect what a merchant has granted."""

from typing import Annotated

import typer

from ...terminal import JsonFlag, LogLevel, run, told
from ..refund import collect
from ..store import ExchangeRow
from .app import HOME, Home, app, finish, opened


@app.command()
@told
def refund(
    payment: Annotated[str, typer.Argument(help="The payment's id in `ecash wallet history`, or how it begins.")],
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Collect what the merchant has granted as a refund of a payment: in fresh coins, and still nobody knows whose.

    Example: ecash wallet refund 1f2e3d4c
    """

    async def do() -> ExchangeRow:
        async with opened(home) as wallet:
            return await collect(wallet, await wallet.store.find(payment))

    finish(run(do(), log), as_json=as_json)
