"""`ecash wallet`: make one, register, withdraw, pay, and see what is in hand."""

import asyncio
from typing import Annotated

import typer
from rich.markup import escape

from protocol.messages import Item, OrderLine
from protocol.money import format_minor, parse_amount
from protocol.payment_link import PaymentLink, is_payment_link

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
from ..offer import bank_for, open_offer, pay_once, standing_payment
from ..seed import ENTROPY_BYTES
from ..service import create, open_store, open_wallet
from ..show import describe, history_row, outcome_of
from ..steps import before_paying
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
    shop: Annotated[
        str, typer.Argument(help="The merchant's name; or a payment link, web+ecash:pay/…, from the shop's page.")
    ],
    items: Annotated[
        list[str] | None, typer.Argument(help="What to buy: sku or sku:quantity. Nothing with a payment link.")
    ] = None,
    code: Annotated[
        str, typer.Option(help="A payer code of your own, such as Bluesky; a strong random one unless given.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Pay without asking.")] = False,
    bank: BankName = None,
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Order from a merchant, or open its payment link, and pay with coins that make the exact amount.

    If the coins in hand do not make it, they are exchanged for smaller ones first; if they are worth too little, a
    stock is withdrawn. A link is paid once, however often it is opened.

    Example: ecash wallet pay shop song coffee:2

    Example: ecash wallet pay web+ecash:pay/…
    """
    wanted, steps = _wish(shop, items or [], bank), list[ExchangeRow]()

    def tell(step: ExchangeRow) -> None:
        steps.append(step)
        if not as_json:
            out.print(escape(describe(step)), soft_wrap=True)

    async def do() -> tuple[ExchangeRow | None, bool]:
        async with opened(home) as wallet:
            before = await _paid_before(wallet, wanted)
            if before is not None:
                return before, True
            chosen = bank_for(wallet, wanted) if isinstance(wanted, PaymentLink) else wallet.bank(bank)
            async with wallet.presence(chosen.address.broker) as requester:
                if isinstance(wanted, PaymentLink):
                    quote = await open_offer(wallet, wanted, requester)
                else:
                    quote = await paying.order(wallet, chosen, shop, wanted, requester)
                if not yes and not await _confirmed(wallet, quote):
                    return None, False
                return await pay_once(wallet, quote, requester, code=code, tell=tell), False

    row, again = run(do(), log)
    if row is None:
        out.print("Nothing was paid.")
        raise typer.Exit(1)
    if again and not as_json:
        out.print("This wallet has paid by that link before; nothing more was paid.")
    finish(row, as_json=as_json, assembled=[outcome_of(step) for step in steps], again=again)


def _wish(shop: str, items: list[str], bank: str | None) -> PaymentLink | list[OrderLine]:
    """Return the payment link, or the order, that was typed.

    Raises:
        PeerError: if it begins like a link and is none.
        ValueError: if link, items and bank do not go together.
    """
    if not is_payment_link(shop):
        if not items:
            raise ValueError("say what to buy: sku or sku:quantity, such as coffee:2; `ecash wallet browse` lists it")
        return [_wanted(text) for text in items]
    link = PaymentLink.parse(shop)
    if items:
        raise ValueError("a payment link says itself what is bought: leave the items out")
    if bank not in (None, link.bank):
        raise ValueError(f"the payment link is for coins of bank {link.bank}: leave --bank out")
    return link


async def _paid_before(wallet: Wallet, wanted: PaymentLink | list[OrderLine]) -> ExchangeRow | None:
    """Return the payment that was made by this link before, if any; that takes no shop to be there."""
    if not isinstance(wanted, PaymentLink):
        return None
    return await standing_payment(wallet.store, wanted.unverified.payment_id)


async def _confirmed(wallet: Wallet, quote: paying.Quote) -> bool:
    out.print(
        f"[bold]{escape(_printable(quote.shop.certificate.name))}[/] (certified by {quote.bank.row.name}) asks for"
    )
    for line in quote.payreq.order:
        out.print(f"  {escape(_printable(line))}")
    before = before_paying(quote, await paying.next_step(wallet, quote))
    if before:
        out.print(before, soft_wrap=True)
    question = f"Pay {quote.amount}?"
    return await asyncio.to_thread(typer.confirm, question, default=False)


def _printable(text: str) -> str:
    """Return what a shop wrote without what a terminal would obey."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


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
