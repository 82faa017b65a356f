"""`ecash merchant`: the account at each bank, and payouts from it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from broker.address import BrokerUrl
from broker.mqtt import MqttLink
from protocol.merchant import payout as machine
from protocol.messages import AccountAnswer
from protocol.money import format_minor
from protocol.payout import PayoutStatus
from protocol.refusals import TABLE, Refusal

from ...terminal import STILL_OPEN, JsonFlag, LogLevel, fail, out, print_json, run, table, told
from ...world import SystemClock, SystemEntropy
from ..desk import Desk
from ..home import Stock, keys_of, settings_of
from ..office import Office
from ..store import MerchantStore, PayoutRow
from .app import HOME, Home, app

Bank = Annotated[str, typer.Option("--bank", help="At which bank.")]


@asynccontextmanager
async def _office(home: Path) -> AsyncIterator[Office]:
    settings, keys = settings_of(home), keys_of(home)
    async with MerchantStore(home / "sales.db") as store:
        yield Office(Desk(settings, keys, Stock(), store, SystemClock(), SystemEntropy()), _link)


def _link(broker: BrokerUrl, client_id: str) -> MqttLink:
    return MqttLink(broker, client_id, persistent=False)


def _chosen(home: Path, bank: str) -> list[str]:
    return [bank] if bank else list(settings_of(home).addresses)


@app.command()
@told
def balance(bank: Bank = "", home: Home = HOME, as_json: JsonFlag = False, log: LogLevel = "warning") -> None:
    """Show what the account at each bank holds. The shop may be open meanwhile.

    Example: ecash merchant balance
    """

    async def ask() -> list[tuple[str, AccountAnswer]]:
        async with _office(home) as office:
            return [(name, await office.account(office.bank(name))) for name in _chosen(home, bank)]

    rows = run(ask(), log)
    if as_json:
        keys = ("bank", "account", "balance", "currency")
        print_json([dict(zip(keys, (name, a.account, a.balance, a.currency), strict=True)) for name, a in rows])
        return
    for name, account in rows:
        held = format_minor(account.balance, account.currency)
        out.print(f"Account {account.account} at bank {name}: [bold]{held}[/]")


@app.command()
@told
def payout(
    amount: Annotated[str, typer.Argument(help="How much, such as 20.00; the commission comes on top.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="As much as the account holds.")] = False,
    bank: Bank = "",
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Have money moved from the account to the one that the merchant has elsewhere, by ACH.

    Safe to repeat: a payout that is still open is carried on first, and one of the same amount is not made twice then.

    Example: ecash merchant payout --all
    """
    if bool(amount) == everything:
        fail("say how much, or --all")

    async def ask() -> PayoutRow:
        async with _office(home) as office:
            return await office.pay_out(office.bank(bank), amount)

    row = run(ask(), log)
    moved = format_minor(row.amount, row.currency)
    if as_json:
        print_json(_as_json(row))
    match row.state:
        case machine.Queued(balance=left):
            if not as_json:
                commission = f" (commission {format_minor(row.commission, row.currency)})" if row.commission else ""
                out.print(
                    f"[green]{row.bank} pays out {moved}{commission}.[/] Left: {format_minor(left, row.currency)}"
                )
        case machine.Refused(refusal=refusal, detail=detail):
            if as_json:
                raise typer.Exit(1)
            fail(f"{row.bank} refuses to pay out {moved}: {TABLE[Refusal(refusal)].meaning} ({detail or refusal})")
        case _:
            if not as_json:
                out.print(f"[yellow]{row.bank} has not answered yet; the same command carries the payout on.[/]")
            raise typer.Exit(STILL_OPEN)


def _as_json(row: PayoutRow) -> dict[str, object]:
    shown: dict[str, object] = {
        "id": row.request_id.hex(),
        "bank": row.bank,
        "state": type(row.state).__name__.lower(),
        "amount": row.amount,
        "commission": row.commission,
        "currency": row.currency,
    }
    if isinstance(row.state, machine.Refused):
        shown["refusal"] = row.state.refusal
    return shown


@app.command()
@told
def payouts(bank: Bank = "", home: Home = HOME, as_json: JsonFlag = False, log: LogLevel = "warning") -> None:
    """List the last payouts from the account at each bank, the newest first, as the bank tells of them.

    Example: ecash merchant payouts --json
    """

    async def ask() -> list[tuple[str, str, PayoutStatus]]:
        async with _office(home) as office:
            found = []
            for name in _chosen(home, bank):
                account = await office.account(office.bank(name))
                told_of = await office.payouts(name)
                found += [(name, account.currency, one) for one in told_of.payouts]
            return found

    rows = run(ask(), log)
    if as_json:
        print_json(
            [
                {
                    "bank": name,
                    "payout": one.number,
                    "amount": one.amount,
                    "commission": one.commission,
                    "currency": currency,
                    "state": one.state,
                    "reason": one.reason,
                    "at": one.at,
                }
                for name, currency, one in rows
            ]
        )
        return
    shown = table("bank", "payout", "amount", "commission", "state", "reason", right=[1, 2, 3])
    for name, currency, one in rows:
        amounts = (format_minor(one.amount, currency), format_minor(one.commission, currency))
        shown.add_row(name, str(one.number), *amounts, one.state, escape(one.reason))
    out.print(shown)
