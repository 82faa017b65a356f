"""`ecash wallet tend` and `ecash wallet run`: the wallet keeps its coins in order by itself."""

from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from ...service import until_stopped
from ...terminal import STILL_OPEN, JsonFlag, LogLevel, out, passphrase, print_json, run, told
from ...world import SystemClock, SystemEntropy
from .. import tending
from ..service import open_store, open_unlocked, open_wallet, unlock
from ..show import describe, outcome_of
from ..store import ExchangeRow
from ..tending import UP_TO, Keeper
from .app import HOME, BankName, Home, app

UpTo = Annotated[
    int, typer.Option("--up-to", min=0, help="Have small change for sums up to this, in minor units (cents).")
]
_QUIET: Final = "Nothing was to be done: the coins are in order."


@app.command()
@told
def tend(
    bank: BankName = None,
    up_to: UpTo = UP_TO,
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Put the coins in order now: carry on what is open, refresh coins before they expire, have small change.

    Example: ecash wallet tend
    """
    _tend(bank, up_to, home, as_json=as_json, log=log)


@app.command("run")
@told
def keep(
    up_to: UpTo = UP_TO,
    once: Annotated[bool, typer.Option("--once", help="Make one pass and end: the same as `tend`.")] = False,
    home: Home = HOME,
    log: LogLevel = "info",
) -> None:
    """Keep the coins in order until Ctrl-C: at random times, so that nobody can tell what they were ordered for.

    Open payments are carried on when their time comes. Other commands can be used meanwhile.

    Example: ecash wallet run
    """
    if once:
        _tend(None, up_to, home, as_json=False, log=log)
        return
    word = passphrase()

    async def do() -> None:
        root, clock, entropy = await unlock(home, word), SystemClock(), SystemEntropy()
        open_home = partial(open_unlocked, home, root, clock, entropy)
        out.print("Keeping the coins in order until Ctrl-C.")
        await until_stopped(Keeper(open_home, partial(open_store, home), clock, entropy, up_to).run())

    run(do(), log)


def _tend(bank: str | None, up_to: int, home: Path, *, as_json: bool, log: str) -> None:
    async def do() -> list[ExchangeRow]:
        async with open_wallet(home, passphrase(), SystemClock(), SystemEntropy()) as wallet:
            banks = wallet.banks if bank is None else [wallet.bank(bank)]
            return [row for one in banks for row in await tending.tend(wallet, one, up_to)]

    rows = run(do(), log)
    if as_json:
        print_json([outcome_of(row) for row in rows])
    elif not rows:
        out.print(_QUIET)
    for row in () if as_json else rows:
        out.print(escape(describe(row)), soft_wrap=True)
    if any(row.open for row in rows):
        raise typer.Exit(STILL_OPEN)
