"""`ecash merchant`: make a merchant, open the shop, look at sales."""

from pathlib import Path
from typing import Annotated, Final

import typer

from broker.address import BrokerUrl
from protocol.merchant import sale
from protocol.money import format_minor

from ..address import BankAddress
from ..invitation import read_invitation
from ..service import until_stopped
from ..terminal import JsonFlag, LogLevel, default_home, home_option, name_of, out, print_json, run, table, told
from ..world import SystemClock, SystemEntropy
from .home import Settings, create, settings_of
from .service import serve
from .store import MerchantStore, SaleRow

app = typer.Typer(no_args_is_help=True, help="The merchant: it is paid at once and never sees a coin.")

_HOME: Final = default_home("merchant")
Home = Annotated[Path, home_option("merchant")]


@app.command()
@told
def init(
    name: Annotated[str, typer.Argument(help="The name on topics, as the bank has it: a-z, 0-9 and '-'.")],
    bank: Annotated[str, typer.Option(envvar="ECASH_BANK", help="The bank's address: ecash://…")],
    broker: Annotated[
        str, typer.Option(envvar="ECASH_BROKER", help="mqtt://[user:password@]host[:port]; the bank's unless given.")
    ] = "",
    home: Home = _HOME,
    as_json: JsonFlag = False,
) -> None:
    """Make a new merchant: its keys and a sample catalogue to edit.

    Example: ecash merchant init shop --bank "ecash://bank@127.0.0.1:1883#61357e…"
    """
    entropy, address = SystemEntropy(), BankAddress.parse(bank)
    url = BrokerUrl.parse(broker) if broker else address.broker
    settings = Settings(name_of(name), str(address), str(url), presence=entropy.bytes(12).hex())
    keys = create(home, settings, entropy)
    if as_json:
        print_json({"merchant": name, "home": str(home), "key": keys.public.hex()})
        return
    out.print(f"Merchant [bold]{name}[/] is made in {home}. Its public key, for the bank:", soft_wrap=True)
    out.print(keys.public.hex(), soft_wrap=True)
    out.print(f"Edit {home / 'catalog.toml'}, and have the bank open an account:", soft_wrap=True)
    out.print(f"  [bold]ecash bank open-account {name} --kind merchant --key {keys.public.hex()}[/]", soft_wrap=True)
    out.print(f"Then: [bold]ecash merchant run --home {home}[/]", soft_wrap=True)


@app.command("run")
@told
def run_merchant(
    invitation: Annotated[str, typer.Option(help="Claims the account at the first start.")] = "",
    home: Home = _HOME,
    log: LogLevel = "info",
) -> None:
    """Open the shop and serve until Ctrl-C or SIGTERM.

    Example: ecash merchant run --home ~/.ecash/merchant
    """
    secret = read_invitation(invitation) if invitation else b""
    run(until_stopped(serve(home, SystemClock(), SystemEntropy(), secret)), log)


@app.command()
@told
def sales(home: Home = _HOME, as_json: JsonFlag = False) -> None:
    """List all sales, the oldest first, and what was sold.

    Example: ecash merchant sales --json
    """
    settings_of(home)

    async def read() -> list[SaleRow]:
        async with MerchantStore(home / "sales.db") as store:
            return await store.sales()

    rows = run(read())
    if as_json:
        print_json([_as_json(row) for row in rows])
        return
    shown = table("sale", "state", "amount", "order", right=[2])
    total: dict[str, int] = {}
    for row in rows:
        state = type(row.state).__name__.lower()
        shown.add_row(row.payment_id.hex()[:8], state, format_minor(row.amount, row.currency), row.title)
        if isinstance(row.state, sale.Sold):
            total[row.currency] = total.get(row.currency, 0) + row.amount
    out.print(shown)
    for currency, amount in total.items():
        out.print(f"Sold: [bold]{format_minor(amount, currency)}[/]")


def _as_json(row: SaleRow) -> dict[str, str | int]:
    return {
        "sale": row.payment_id.hex(),
        "state": type(row.state).__name__.lower(),
        "amount": row.amount,
        "currency": row.currency,
        "order": row.title,
        "begun_at": row.begun_at,
    }
