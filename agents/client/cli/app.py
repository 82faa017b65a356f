"""What the wallet's commands share: the app that they are entered in, options, opening the wallet, and the end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from ...terminal import STILL_OPEN, default_home, err, fail, home_option, out, passphrase, print_json
from ...world import SystemClock, SystemEntropy
from ..refund import refused
from ..resume import resume
from ..service import open_wallet
from ..show import describe, outcome_of, succeeded
from ..store import ExchangeRow
from ..wallet import Wallet

app = typer.Typer(no_args_is_help=True, help="The wallet: coins that nobody else can spend, and that nobody can trace.")

HOME: Final = default_home("wallet")
Home = Annotated[Path, home_option("wallet")]
BankName = Annotated[str | None, typer.Option("--bank", help="Which bank's coins; the only one unless given.")]


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[Wallet]:
    """Open the wallet and carry on what was left open before doing anything new."""
    async with open_wallet(home, passphrase(), SystemClock(), SystemEntropy()) as wallet:
        for row in await resume(wallet):
            err.print(f"[dim]Carried on: {escape(describe(row))}[/]", soft_wrap=True)
        yield wallet


def finish(row: ExchangeRow, *, as_json: bool, **more: object) -> None:
    """Say how an exchange has ended (in JSON with whatever `more` there is to say), and end the command accordingly."""
    if as_json:
        print_json(outcome_of(row) | more)
    match row.state:
        case _ if succeeded(row):
            if not as_json:
                out.print(f"[green]{escape(describe(row))}[/]")
        case _ if row.open and not refused(row):
            if not as_json:
                out.print(f"[yellow]{escape(describe(row))}[/]")
            raise typer.Exit(STILL_OPEN)
        case _:
            if as_json:
                raise typer.Exit(1)
            fail(describe(row))
