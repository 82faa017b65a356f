"""`ecash wallet` when something was lost: recover, restore, backup; and coins put back into the account."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from protocol.money import format_minor, parse_amount

from ...address import BankAddress
from ...terminal import JsonFlag, LogLevel, err, out, passphrase, print_json, run, table, told
from ...world import SystemClock, SystemEntropy
from .. import recover as recovering
from ..recover import GAP, Report
from ..seed import entropy_of
from ..service import backup as write_backup
from ..service import open_wallet, restore_backup, restore_seed
from ..verify import Progress, Sums, newest, quiet
from ..wallet import Wallet
from .app import HOME, BankName, Home, app, opened

Keep = Annotated[bool, typer.Option("--keep", help="Get fresh coins for the unspent ones, instead of a credit.")]
Gap = Annotated[
    int, typer.Option(min=1, max=10_000, help="How many unknown exchanges in a row, at the least, end the search.")
]
_DO_TAKE_OVER: Final = "Take it over now? The other device is served no more then."


@app.command()
@told
def recover(
    keep: Keep = False,
    gap: Gap = GAP,
    bank: BankName = None,
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Find lost coins again, from the seed and what the bank has kept, and bring their value back.

    What is unspent is credited to the account, or with --keep exchanged for fresh coins. May be run at any time, and
    again after an interruption.

    Example: ecash wallet recover
    """

    async def do() -> list[Report]:
        async with opened(home) as wallet:
            banks = [wallet.bank(bank)] if bank is not None or not wallet.banks else wallet.banks
            with _bars(as_json=as_json) as progress:
                return [await recovering.recover(wallet, b, keep=keep, gap=gap, progress=progress) for b in banks]

    _tell(run(do(), log), as_json=as_json)


@app.command()
@told
def restore(
    bank: Annotated[list[str] | None, typer.Option(help="A bank's address: ecash://…; may be given again.")] = None,
    backup: Annotated[Path | None, typer.Option(help="A file that `ecash wallet backup` has written.")] = None,
    keep: Keep = False,
    gap: Gap = GAP,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take accounts over without asking.")] = False,
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Bring a lost wallet back into an empty folder: from its twelve words, or from a backup.

    The words are asked for, or taken from ECASH_WORDS or the standard input. A backup opens with its own passphrase,
    and its coins are exchanged for fresh ones, as a copy of them may be elsewhere.

    Example: ecash wallet restore --bank "ecash://bank@127.0.0.1:1883#61357e…"
    """
    addresses = [BankAddress.parse(one) for one in bank or ()]
    if (backup is None) == (not addresses):
        raise ValueError("restore from the twelve words with --bank ADDRESS, or from a file with --backup FILE")
    seed = entropy_of(_words()) if backup is None else b""
    secret = passphrase(new=backup is None)

    async def do() -> list[Report]:
        if backup is not None:
            await restore_backup(home, backup, SystemEntropy())
        else:
            await restore_seed(home, secret, seed, SystemEntropy())
        async with open_wallet(home, secret, SystemClock(), SystemEntropy()) as wallet:
            places = addresses or [known.address for known in wallet.banks]
            return [await _bring_back(wallet, one, keep=keep or backup is not None) for one in places]

    async def _bring_back(wallet: Wallet, address: BankAddress, *, keep: bool) -> Report:
        account = await recovering.settle_in(wallet, address, _confirm(yes=yes))
        if account is not None and not as_json:
            out.print(f"Account {account.account} at bank {address.bank}, held by {escape(account.name)}.")
        with _bars(as_json=as_json) as progress:
            return await recovering.restore(wallet, wallet.bank(address.bank), keep=keep, gap=gap, progress=progress)

    _tell(run(do(), log), as_json=as_json)


def _confirm(*, yes: bool) -> recovering.Confirm:
    async def confirm(question: str) -> bool:
        if yes:
            return True
        if not sys.stdin.isatty():
            return False
        err.print(escape(question[:1].upper() + question[1:] + "."), soft_wrap=True)
        return await asyncio.to_thread(typer.confirm, _DO_TAKE_OVER, default=False, err=True)

    return confirm


def _words() -> str:
    """Return the wallet's words, from ECASH_WORDS, the keyboard, or a line of the standard input."""
    given = os.environ.get("ECASH_WORDS")
    if given is not None:
        return given
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    typed: str = typer.prompt("The twelve words", err=True)
    return typed


@app.command()
@told
def backup(
    file: Annotated[Path, typer.Argument(help="Where to; it must not exist.", dir_okay=False)],
    home: Home = HOME,
    as_json: JsonFlag = False,
) -> None:
    """Write a copy of the wallet, even while it is in use. Takes no passphrase; the copy opens with the same one.

    Example: ecash wallet backup wallet-2026-11.backup
    """
    run(write_backup(home, file))
    if as_json:
        print_json({"file": str(file)})
        return
    out.print(f"The wallet is copied to {file}. `ecash wallet restore --backup {file}` brings it back.", soft_wrap=True)


@app.command()
@told
def redeem(
    amount: Annotated[str, typer.Argument(help="An amount, such as 20.00; the commission is taken from it.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All coins of the account's currency.")] = False,
    bank: BankName = None,
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Put coins back into the account.

    Example: ecash wallet redeem 5.00
    """
    if bool(amount) == everything:
        raise ValueError("say how much to put back, such as 20.00, or --all")

    async def do() -> tuple[Sums, tuple[str, ...]]:
        async with opened(home) as wallet:
            chosen = await newest(wallet, wallet.bank(bank))
            wanted = parse_amount(amount, chosen.row.currency) if amount else None
            with _bars(as_json=as_json) as progress:
                return await recovering.put_back(wallet, chosen, wanted, progress)

    credited, notes = run(do(), log)
    if as_json:
        print_json({"credited": credited, "notes": notes})
    else:
        _tell_notes(notes)
        out.print(f"Credited to the account: [bold]{_worth(credited)}[/].")
    if notes:
        raise typer.Exit(1)


@dataclass
class _Bar:
    """One bar for each thing that is done, made when it begins."""

    bars: Bars
    tasks: dict[str, TaskID] = field(default_factory=dict)

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.bars.add_task(what)
        self.bars.update(self.tasks[what], completed=done, total=total or None)


@contextmanager
def _bars(*, as_json: bool) -> Iterator[Progress]:
    """Show how far it is on the standard error, if a person is looking at it."""
    if as_json or not err.is_terminal:
        yield quiet
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Bars(*columns, console=err, transient=True) as bars:
        yield _Bar(bars)


def _tell(reports: list[Report], *, as_json: bool) -> None:
    if as_json:
        print_json([_shown(report) for report in reports])
        return
    for report in reports:
        shown = table("from", "answers", "coins", "known before", right=[1, 2, 3])
        for source, found in (("withdrawals", report.withdrawals), ("exchanges", report.exchanges)):
            shown.add_row(source, str(found.answers), str(found.coins), str(found.known))
        out.print(f"[bold]{report.bank}[/]")
        out.print(shown)
        for what, sums in (
            ("spent before", report.spent),
            ("credited to the account", report.credited),
            ("in the wallet as fresh coins", report.kept),
            ("set aside in a dispute", report.aside),
            ("still unverified", report.left),
        ):
            if sums:
                out.print(f"{what}: [bold]{_worth(sums)}[/]")
        _tell_notes(report.notes)


def _tell_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        err.print(f"[yellow]{escape(note)}[/]", soft_wrap=True)


def _worth(sums: Sums) -> str:
    return ", ".join(format_minor(value, currency) for currency, value in sums.items()) or "nothing"


def _shown(report: Report) -> dict[str, object]:
    """Return a report as JSON's values; amounts are in minor units, by currency."""
    shown: dict[str, object] = dict(report._asdict())
    return shown | {"withdrawals": report.withdrawals._asdict(), "exchanges": report.exchanges._asdict()}
