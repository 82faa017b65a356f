"""`ecash bank ach`: where payouts go, and the files exchanged with the bank that sends them."""

from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from protocol.money import format_minor

from ..home import write_secret
from ..terminal import JsonFlag, default_home, fail, home_option, out, print_json, run, table, told
from ..world import SystemClock
from .ach import parse_destination, read_file
from .home import settings_of
from .service import open_books
from .store import DestinationRow, PayoutRow
from .transfers import CURRENCY, Booked, book, check_currency, originator_of, write_transfers

app = typer.Typer(no_args_is_help=True, help="Payouts by ACH: where they go, files out, returns and settlements in.")

_HOME: Final = default_home("bank")
Home = Annotated[Path, home_option("bank")]


@app.command("account")
@told
def set_account(
    account: Annotated[int, typer.Argument(help="The number of the merchant's account here.")],
    routing: Annotated[str, typer.Option(help="The ABA routing number of the merchant's bank: 9 digits.")],
    number: Annotated[str, typer.Option(help="The merchant's account number there.")],
    holder: Annotated[str, typer.Option(help="The account holder's name, up to 22 characters.")],
    kind: Annotated[str, typer.Option(help="checking or savings.")] = "checking",
    home: Home = _HOME,
    as_json: JsonFlag = False,
) -> None:
    """Enter where a merchant's payouts go; those not exported yet follow.

    Example: ecash bank ach account 1002 --routing 021000021 --number 12-345A --kind checking --holder "Blue Note"
    """
    check_currency(settings_of(home))
    destination = DestinationRow(*parse_destination(routing, number, kind, holder))

    async def enter() -> None:
        async with open_books(home, SystemClock()) as books:
            await books.set_destination(account, destination)

    run(enter())
    if as_json:
        print_json({"account": account} | destination._asdict())
    else:
        out.print(f"Payouts of account {account} go to {holder}, {kind} account {number} at {routing}.")


@app.command("export")
@told
def export_file(
    number: Annotated[int, typer.Option("--file", min=0, help="Write this file again, with the same bytes.")] = 0,
    path: Annotated[
        Path | None, typer.Option("--out", dir_okay=False, help="Where to; payouts-NUMBER.ach here, unless given.")
    ] = None,
    home: Home = _HOME,
    as_json: JsonFlag = False,
) -> None:
    """Put all queued payouts into a new NACHA file; each payout is in one file only.

    Example: ecash bank ach export --out payouts.ach
    """
    write = partial(write_transfers, originator_of(home, settings_of(home)))

    async def take() -> tuple[int, bytes] | None:
        async with open_books(home, SystemClock()) as books:
            return await (books.ach_file(number) if number else books.export_payouts(write))

    taken = run(take())
    if taken is None and number:
        fail(f"there is no ACH file {number}")
    if taken is None:
        if as_json:
            print_json({"file": None})
        else:
            out.print("No payout is queued: there is nothing to export.")
        return
    written = _save(path, *taken)
    if as_json:
        print_json({"file": taken[0], "path": str(written)})
    else:
        out.print(f"ACH file {taken[0]} is in {written}.", soft_wrap=True)


def _save(path: Path | None, number: int, data: bytes) -> Path:
    target = path or Path(f"payouts-{number}.ach")
    try:
        write_secret(target, data)
    except OSError as error:
        fail(f"{target} cannot be written ({error.strerror}): try `ecash bank ach export --file {number}`")
    return target


@app.command("import")
@told
def import_file(
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Returns in NACHA, or settlements in CSV.")],
    home: Home = _HOME,
    as_json: JsonFlag = False,
) -> None:
    """Book returns and settlements; importing a file again changes nothing. Exit code 1 if a line does not fit.

    Settlements are lines of trace,amount_cents,settled_on under that heading, such as 17,125000,2026-11-24.

    Example: ecash bank ach import returns.ach
    """
    lines = read_file(path.read_bytes(), originator_of(home, settings_of(home)).odfi)

    async def enter() -> list[Booked]:
        async with open_books(home, SystemClock()) as books:
            return [await book(books, line) for line in lines]

    booked = run(enter())
    if as_json:
        print_json([one._asdict() for one in booked])
    else:
        for one in booked:
            out.print(_sentence(one), markup=False, soft_wrap=True)
        out.print(f"{sum(one.outcome == 'booked' for one in booked)} of {len(booked)} lines were new.")
    if any(one.outcome == "refused" for one in booked):
        raise typer.Exit(1)


def _sentence(one: Booked) -> str:
    what = f"Payout {one.payout} of {format_minor(one.amount, CURRENCY)}"
    match one.outcome, one.event:
        case "refused", _:
            return f"{what} is not {one.event}: {one.fault}"
        case "known", _:
            return f"{what} was booked as {one.event} before."
        case _, "returned":
            return f"{what} is returned ({one.reason}): the account is credited."
        case _:
            return f"{what} is settled."


@app.command("list")
@told
def list_payouts(home: Home = _HOME, as_json: JsonFlag = False) -> None:
    """List payouts, the newest first.

    Example: ecash bank ach list --json
    """

    async def read() -> list[PayoutRow]:
        async with open_books(home, SystemClock()) as books:
            return await books.payouts()

    rows = run(read())
    if as_json:
        print_json([row._asdict() | {"destination": row.destination._asdict()} for row in rows])
        return
    shown = table("payout", "account", "amount", "commission", "state", "file", "to", right=[0, 1, 2, 3])
    for row in rows:
        shown.add_row(
            str(row.number),
            str(row.account),
            format_minor(row.amount, row.currency),
            format_minor(row.commission, row.currency),
            f"{row.state}: {row.reason}" if row.reason else row.state,
            str(row.file) if row.file else "-",
            f"{row.destination.holder}, {row.destination.routing}",
        )
    out.print(shown)
