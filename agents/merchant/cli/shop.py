"""`ecash merchant`: make a merchant, open the shop, look at sales, grant refunds."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from broker.address import BrokerUrl
from protocol.merchant import sale
from protocol.money import format_minor, parse_amount

from ...address import BankAddress
from ...invitation import read_invitation
from ...service import until_stopped
from ...terminal import JsonFlag, LogLevel, fail, name_of, out, print_json, run, table, told
from ...trace import point
from ...web.listen import Listen
from ...world import SystemClock, SystemEntropy
from ..home import Settings, create, settings_of
from ..service import Web, serve
from ..store import MerchantStore, Refundable, SaleRow
from .app import HOME, Home, app


@app.command()
@told
def init(
    name: Annotated[str, typer.Argument(help="The name on topics, as the banks have it: a-z, 0-9 and '-'.")],
    bank: Annotated[list[str], typer.Option(envvar="ECASH_BANK", help="A bank's address: ecash://…; several may be.")],
    broker: Annotated[
        str, typer.Option(envvar="ECASH_BROKER", help="mqtt://[user:password@]host[:port]; the banks' unless given.")
    ] = "",
    home: Home = HOME,
    as_json: JsonFlag = False,
) -> None:
    """Make a new merchant: its keys and a sample catalogue to edit. All its banks meet at one broker.

    Example: ecash merchant init shop --bank "ecash://bank@127.0.0.1:1883#61357e…"
    """
    entropy, addresses = SystemEntropy(), [BankAddress.parse(text) for text in bank]
    url = BrokerUrl.parse(broker) if broker else addresses[0].broker
    settings = Settings(name_of(name), [str(one) for one in addresses], str(url), presence=entropy.bytes(12).hex())
    banks = settings.addresses
    keys = create(home, settings, entropy)
    if as_json:
        print_json({"merchant": name, "home": str(home), "key": keys.public.hex(), "banks": list(banks)})
        return
    out.print(f"Merchant [bold]{name}[/] is made in {home}. Its public key, for {', '.join(banks)}:", soft_wrap=True)
    out.print(keys.public.hex(), soft_wrap=True)
    out.print(f"Edit {home / 'catalog.toml'}, and have an account opened at each bank:", soft_wrap=True)
    out.print(f"  [bold]ecash bank open-account {name} --kind merchant --key {keys.public.hex()}[/]", soft_wrap=True)
    out.print(f"Then: [bold]ecash merchant run --home {home}[/]", soft_wrap=True)


def invitations_of(texts: Sequence[str], banks: Sequence[str]) -> Mapping[str, bytes]:
    """Read invitations as they are typed: `BANK=abcd-…`, or without the bank if there is only one.

    Raises:
        ValueError: with a sentence for the person who typed it.
    """
    read = {}
    for text in texts:
        bank, _, secret = text.rpartition("=")
        if not bank and len(banks) == 1:
            bank = banks[0]
        if bank not in banks:
            raise ValueError(f"say which bank the invitation is from, as BANK=abcd-…: {', '.join(banks)}")
        read[bank] = read_invitation(secret)
    return read


@app.command("run")
@told
def run_merchant(
    invitation: Annotated[
        list[str] | None,
        typer.Option(help="Claims the account at the first start; BANK=abcd-… if there are several banks."),
    ] = None,
    web: Annotated[
        str, typer.Option(help="Serves the shop's pages, too: at :8080 (this machine alone) or 0.0.0.0:8080.")
    ] = "",
    public_url: Annotated[
        str, typer.Option(help="The address at which buyers find the pages: https://shop.example.")
    ] = "",
    home: Home = HOME,
    log: LogLevel = "info",
) -> None:
    """Open the shop and serve until Ctrl-C or SIGTERM.

    Example: ecash merchant run --web :8080
    """
    secrets = invitations_of(invitation or [], list(settings_of(home).addresses))
    if public_url and not web:
        fail("say where the pages are served, too: --web :8080")
    site = Web(Listen.parse(web), public_url) if web else None
    run(until_stopped(serve(home, SystemClock(), SystemEntropy(), secrets, site)), log)


@app.command()
@told
def sales(home: Home = HOME, as_json: JsonFlag = False) -> None:
    """List all sales, the oldest first: what was sold, and what of it was granted and collected as refunds.

    Example: ecash merchant sales --json
    """
    settings_of(home)

    async def read() -> list[tuple[SaleRow, Refundable]]:
        async with MerchantStore(home / "sales.db") as store:
            return [(row, await store.refundable(row.payment_id)) for row in await store.sales()]

    rows = run(read())
    if as_json:
        print_json([_as_json(*row) for row in rows])
        return
    shown = table("sale", "state", "amount", "granted", "refunded", "order", right=[2, 3, 4])
    total: dict[str, int] = {}
    for row, refundable in rows:
        state = type(row.state).__name__.lower()
        amounts = [format_minor(row.amount, row.currency)]
        for refunded in (refundable.granted, refundable.collected):
            amounts.append(format_minor(refunded, row.currency) if refunded else "")
        shown.add_row(row.payment_id.hex()[:8], state, *amounts, row.title)
        if isinstance(row.state, sale.Sold):
            total[row.currency] = total.get(row.currency, 0) + row.amount - refundable.collected
    out.print(shown)
    for currency, value in total.items():
        out.print(f"Sold and not refunded: [bold]{format_minor(value, currency)}[/]")


def _as_json(row: SaleRow, refundable: Refundable) -> dict[str, str | int]:
    return {
        "sale": row.payment_id.hex(),
        "state": type(row.state).__name__.lower(),
        "amount": row.amount,
        "currency": row.currency,
        "order": row.title,
        "begun_at": row.begun_at,
        "granted": refundable.granted,
        "refunded": refundable.collected,
    }


@app.command()
@told
def refund(
    number: Annotated[str, typer.Argument(metavar="SALE", help="The sale, or how its number begins.")],
    amount: Annotated[str, typer.Argument(help="How much, such as 5.00; all that is left of it unless given.")] = "",
    home: Home = HOME,
    as_json: JsonFlag = False,
) -> None:
    """Grant a refund, which the buyer collects at the open shop; the bank takes it from the account then.

    Nobody learns who the buyer is. If the account does not hold the money when the buyer comes, the grant stays open.

    Example: ecash merchant refund 61357e 5.00
    """
    settings_of(home)

    async def do() -> tuple[SaleRow, int]:
        async with MerchantStore(home / "sales.db") as store:
            row = await sale_like(store, number)
            left = row.amount - (await store.refundable(row.payment_id)).granted
            wanted = parse_amount(amount, row.currency).value if amount else left
            if wanted <= 0:
                raise ValueError(f"nothing is left to refund of sale {row.payment_id.hex()[:8]}")
            await store.grant(row.payment_id, wanted, SystemClock().now())
            point("merchant.grant.saved")
            return row, wanted

    row, granted = run(do())
    if as_json:
        print_json({"sale": row.payment_id.hex(), "granted": granted, "currency": row.currency})
        return
    out.print(f"Granted {format_minor(granted, row.currency)} of sale {row.payment_id.hex()[:8]} ({row.title}).")
    out.print("The buyer collects it: [bold]ecash wallet refund PAYMENT[/]")


async def sale_like(store: MerchantStore, number: str) -> SaleRow:
    """Return the one sale that is sold and whose number begins so.

    Raises:
        ValueError: if there is none, or several, or it is not paid.
    """
    found = await store.sales_like(number)
    if len(found) != 1:
        raise ValueError(
            f"{'several sales begin' if found else 'no sale begins'} with {number}: see `ecash merchant sales`"
        )
    if not isinstance(found[0].state, sale.Sold):
        raise ValueError(f"sale {found[0].payment_id.hex()[:8]} is not paid: there is nothing to refund")
    return found[0]
