"""`ecash wallet`: make one, register, withdraw, pay, and see what is in hand."""

import asyncio
from typing import Annotated, NamedTuple

import typer
from rich.markup import escape

from protocol.messages import Item, OrderLine
from protocol.money import format_minor, parse_amount

from ...address import BankAddress
from ...invitation import read_invitation
from ...terminal import (
    JsonFlag,
    LogLevel,
    name_of,
    out,
    passphrase,
    print_json,
    run,
    table,
    told,
)
from ...world import SystemClock, SystemEntropy
from .. import pay as paying
from .. import withdraw as withdrawing
from ..seed import ENTROPY_BYTES
from ..service import create, open_store, open_wallet
from ..show import describe, history_row, outcome_of
from ..store import ExchangeRow
from ..wallet import Wallet
from .app import HOME, BankName, Home, app, finish, opened


@app.command()
@told
def init(home: Home = HOME, as_json: JsonFlag = False) -> None:
    """Make a new wallet and show the twelve words that bring it back if this machine is lost.

    The passphrase is asked for, or taken from ECASH_PASSPHRASE.

    Example: ecash wallet init --home ~/.ecash/wallet
    """
    entropy = SystemEntropy()
    words = run(create(home, passphrase(new=True), entropy.bytes(ENTROPY_BYTES), entropy))
    if as_json:
        print_json({"home": str(home), "words": words})
        return
    out.print(f"The wallet is made in {home}. Write these words down; they are shown once:", soft_wrap=True)
    out.print(f"  [bold]{words}[/]", soft_wrap=True)


@app.command()
@told
def register(
    bank: Annotated[str, typer.Argument(help="The bank's address: ecash://…", envvar="ECASH_BANK")],
    invitation: Annotated[str, typer.Option(help="The invitation that claims the account.")] = "",
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Take the place of another device with the same words.")
    ] = False,
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Claim an account at a bank with its invitation; without one, look at the account of this wallet's key.

    Example: ecash wallet register "ecash://bank@127.0.0.1:1883#61357e…" --invitation abcd-efgh-…
    """
    address = BankAddress.parse(bank)
    secret = read_invitation(invitation) if invitation else b""

    async def do() -> None:
        async with opened(home) as wallet:
            answer = await wallet.register(address, secret, take_over=take_over)
            balance = format_minor(answer.balance, answer.currency)
            if as_json:
                print_json({"bank": address.bank, "account": answer.account, "balance": answer.balance})
                return
            holder = escape(answer.name)
            out.print(f"Account {answer.account} at bank {address.bank}, held by {holder}: [bold]{balance}[/]")

    run(do(), log)


@app.command()
@told
def balance(home: Home = HOME, as_json: JsonFlag = False) -> None:
    """Show the coins in hand, by bank and denomination. Takes no passphrase and no network.

    Example: ecash wallet balance
    """

    async def read() -> list[tuple[str, str, str, int, int]]:
        async with open_store(home) as store:
            return await store.holdings()

    rows = run(read())
    if as_json:
        keys = ("bank", "currency", "state", "value", "count")
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    shown = table("bank", "state", "coins", "each", "worth", right=[2, 3, 4])
    totals: dict[tuple[str, str, str], int] = {}
    for bank, currency, state, value, count in rows:
        worth = format_minor(value * count, currency)
        shown.add_row(bank, state, str(count), format_minor(value, currency), worth)
        totals[bank, currency, state] = totals.get((bank, currency, state), 0) + value * count
    if rows:
        out.print(shown)
    for (bank, currency, state), total in totals.items():
        out.print(f"{bank}: [bold]{format_minor(total, currency)}[/] {state}")
    if not rows:
        out.print("No coins in hand. `ecash wallet withdraw 20.00` gets some.")


@app.command()
@told
def withdraw(
    amount: Annotated[str, typer.Argument(help="An amount, such as 20.00; the commission comes on top.")],
    bank: BankName = None,
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Withdraw coins against the account.

    Example: ecash wallet withdraw 20.00
    """

    async def do() -> ExchangeRow:
        async with opened(home) as wallet:
            chosen = wallet.bank(bank)
            return await withdrawing.withdraw(wallet, chosen, parse_amount(amount, chosen.row.currency))

    finish(run(do(), log), as_json=as_json)


class Wanted(NamedTuple):
    """An item and how many of it."""

    sku: str
    quantity: int


def _wanted(text: str) -> OrderLine:
    sku, _, quantity = text.partition(":")
    if quantity and not (quantity.isascii() and quantity.isdigit() and 0 < int(quantity) <= 10_000):
        raise ValueError(f"{text!r}: order an item as sku or sku:quantity, such as coffee:2")
    return OrderLine(name_of(sku), int(quantity or 1))


@app.command()
@told
def browse(
    shop: Annotated[str, typer.Argument(help="The merchant's name.")],
    bank: BankName = None,
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Show what a merchant sells, and whether the bank has certified it.

    Example: ecash wallet browse shop
    """

    async def do() -> tuple[str, tuple[Item, ...]]:
        async with open_wallet(home, passphrase(), SystemClock(), SystemEntropy()) as wallet:
            chosen = wallet.bank(bank)
            async with wallet.presence(chosen.address.broker) as requester:
                _, seen = await paying.visit(wallet, chosen, shop, requester)
                return seen.certificate.name, seen.catalog.items

    title, items = run(do(), log)
    if as_json:
        print_json({"merchant": shop, "name": title, "items": [[i.sku, i.title, i.price, i.currency] for i in items]})
        return
    out.print(f"[bold]{escape(title)}[/], certified by the bank")
    shown = table("sku", "item", "price", right=[2])
    for item in items:
        shown.add_row(item.sku, escape(item.title), format_minor(item.price, item.currency))
    out.print(shown)


@app.command()
@told
def pay(
    shop: Annotated[str, typer.Argument(help="The merchant's name.")],
    items: Annotated[list[str], typer.Argument(help="What to buy: sku or sku:quantity.")],
    code: Annotated[
        str, typer.Option(help="A payer code of your own, such as Bluesky; a strong random one unless given.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Pay without asking.")] = False,
    bank: BankName = None,
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Order from a merchant and pay with coins that make the exact amount.

    If the coins in hand do not make it, they are exchanged for smaller ones first; if they are worth too little, a
    stock is withdrawn.

    Example: ecash wallet pay shop song coffee:2
    """
    lines, steps = [_wanted(text) for text in items], list[ExchangeRow]()

    def tell(step: ExchangeRow) -> None:
        steps.append(step)
        if not as_json:
            out.print(escape(describe(step)), soft_wrap=True)

    async def do() -> ExchangeRow | None:
        async with opened(home) as wallet:
            chosen = wallet.bank(bank)
            async with wallet.presence(chosen.address.broker) as requester:
                quote = await paying.order(wallet, chosen, shop, lines, requester)
                if not yes and not await _confirmed(wallet, quote):
                    return None
                return await paying.pay(wallet, quote, requester, code=code, tell=tell)

    row = run(do(), log)
    if row is None:
        out.print("Nothing was paid.")
        raise typer.Exit(1)
    finish(row, as_json=as_json, assembled=[outcome_of(step) for step in steps])


async def _confirmed(wallet: Wallet, quote: paying.Quote) -> bool:
    out.print(f"[bold]{escape(quote.shop.certificate.name)}[/] (certified by {quote.bank.row.name}) asks for")
    for line in quote.payreq.order:
        out.print(f"  {escape(line)}")
    before = _before_paying(quote, await paying.next_step(wallet, quote))
    if before:
        out.print(before, soft_wrap=True)
    question = f"Pay {quote.amount}?"
    return await asyncio.to_thread(typer.confirm, question, default=False)


def _before_paying(quote: paying.Quote, step: paying.Step) -> str:
    """Say what has to be done before the payment, and what that costs."""
    bank, currency = quote.bank, quote.amount.currency
    match step:
        case paying.Ready():
            return ""
        case paying.Change(plan=plan, purpose=purpose):
            why = "are changed for smaller ones" if purpose == "change" else "are exchanged for fresh ones"
            worth = format_minor(sum(value * count for value, count in plan.inputs.items()), currency)
            return (
                f"Your coins do not make {quote.amount}: coins worth {worth} {why} first, without anybody seeing whose "
                f"they are, at a commission of {format_minor(plan.commission, currency)}."
            )
        case paying.Shortfall(amounts=(stock, _, _)):
            commission = bank.keyset.tariff.withdrawal.charge(stock.value)
            return (
                f"Your coins are worth less than {quote.amount}: {stock} will be withdrawn first, at a commission of "
                f"{format_minor(commission, currency)}, or less if the account holds less. "
                "Withdrawing well ahead of paying keeps the two apart."
            )


@app.command()
@told
def history(home: Home = HOME, as_json: JsonFlag = False) -> None:
    """List withdrawals and payments, the oldest first. Takes no passphrase and no network.

    Example: ecash wallet history --json
    """

    async def read() -> list[ExchangeRow]:
        async with open_store(home) as store:
            return await store.exchanges()

    rows = run(read())
    if as_json:
        print_json([outcome_of(row) for row in rows])
        return
    shown = table("id", "when", "what", "amount", "state", "with", right=[3])
    for row in rows:
        shown.add_row(*map(escape, history_row(row)))
    out.print(shown)
