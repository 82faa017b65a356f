"""`ecash bank`: make a bank, open accounts, run it, audit it."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.markup import escape

from broker.address import BrokerUrl
from protocol.errors import PeerError
from protocol.keyset import Keyset
from protocol.messages import MERCHANT
from protocol.money import format_minor, parse_amount
from protocol.signatures import check_public_key

from ..invitation import hash_invitation, write_invitation
from ..service import until_stopped
from ..terminal import JsonFlag, LogLevel, default_home, fail, home_option, name_of, out, print_json, run, table, told
from ..world import SystemClock, SystemEntropy
from .audit import Report
from .auditing import DEFAULT_SAMPLE, coins_of, judge, read_books
from .home import DEFAULT_LARGEST, Settings, address_of, create, keys_of, settings_of, sign_keyset
from .keys_cli import keys, revoke, rotate_keys
from .last_audit import keep
from .prove import prove
from .service import open_books, serve
from .transfers_cli import app as transfers_app
from .web_cli import web

app = typer.Typer(no_args_is_help=True, help="The bank: it signs coins that it cannot see, and takes them back once.")
app.add_typer(transfers_app, name="ach")

_HOME: Final = default_home("bank")
Home = Annotated[Path, home_option("bank")]


@app.command()
@told
def init(  # noqa: PLR0913, PLR0917 - each option is one
    name: Annotated[str, typer.Option(help="The bank's name on topics: a-z, 0-9 and '-'.")] = "bank",
    currency: Annotated[str, typer.Option(help="ISO 4217 code of the currency it keeps accounts in.")] = "USD",
    broker: Annotated[
        str, typer.Option(envvar="ECASH_BROKER", help="Where it will be reached: mqtt://[user:password@]host[:port].")
    ] = "mqtt://127.0.0.1:1883",
    public_broker: Annotated[
        str, typer.Option(help="Where customers reach it, if elsewhere: mqtts://host[:port] of a broker with TLS.")
    ] = "",
    withdrawal_commission: Annotated[
        str, typer.Option(help="What a client pays on top of a withdrawal, such as '1%' or '0.5% + 0.02'.")
    ] = "0",
    deposit_commission: Annotated[str, typer.Option(help="What a merchant is charged of a deposit.")] = "0",
    exchange_commission: Annotated[str, typer.Option(help="How much less new coins are worth than the old.")] = "0",
    refund_commission: Annotated[str, typer.Option(help="What a merchant pays on top of a refund.")] = "0",
    redemption_commission: Annotated[str, typer.Option(help="What is taken from coins that are redeemed.")] = "0",
    payout_commission: Annotated[str, typer.Option(help="What a merchant pays on top of a payout.")] = "0",
    largest_denomination: Annotated[
        int, typer.Option(min=0, max=40, help="Coins are worth 1, 2, 4 … up to two to the power of this.")
    ] = DEFAULT_LARGEST,
    home: Home = _HOME,
    as_json: JsonFlag = False,
) -> None:
    """Make a new bank: its keys, its first keyset, its empty books.

    Example: ecash bank init --currency USD --withdrawal-commission 1% --deposit-commission 0.5%
    """
    clock, entropy = SystemClock(), SystemEntropy()
    for url in (broker, public_broker or broker):
        BrokerUrl.parse(url)
    settings = Settings(
        name=name_of(name),
        currency=currency,
        broker=broker,
        presence=entropy.bytes(12).hex(),
        withdrawal_commission=withdrawal_commission,
        deposit_commission=deposit_commission,
        exchange_commission=exchange_commission,
        refund_commission=refund_commission,
        redemption_commission=redemption_commission,
        payout_commission=payout_commission,
        largest_denomination=largest_denomination,
        public_broker=public_broker,
    )
    with out.status(f"Making {largest_denomination + 1} denomination keys …"):
        keyset = create(home, settings, clock, entropy)
    run(_enter(home, keyset))
    bank_address = str(address_of(settings, keys_of(home).identity))
    if as_json:
        print_json({"bank": name, "home": str(home), "address": bank_address})
        return
    out.print(f"Bank [bold]{name}[/] is made in {home}. Its address, for customers:", soft_wrap=True)
    out.print(bank_address, soft_wrap=True)
    out.print(f"Next: [bold]ecash bank run --home {home}[/]", soft_wrap=True)


async def _enter(home: Path, keyset: Keyset) -> None:
    async with open_books(home, SystemClock()) as books:
        await books.add_keyset(keyset.number, sign_keyset(keys_of(home).identity, keyset))


@app.command("run")
@told
def run_bank(
    despite_loss: Annotated[
        bool, typer.Option("--despite-loss", help="Run, too, if the books are behind what the bank has announced.")
    ] = False,
    home: Home = _HOME,
    log: LogLevel = "info",
) -> None:
    """Serve requests until Ctrl-C or SIGTERM.

    Example: ecash bank run --home ~/.ecash/bank
    """
    run(until_stopped(serve(home, SystemClock(), despite_loss=despite_loss)), log)


@app.command()
@told
def address(home: Home = _HOME) -> None:
    """Print the bank's address, which pins its identity key.

    Example: ecash bank address
    """
    out.print(str(address_of(settings_of(home), keys_of(home).identity)), soft_wrap=True)


@app.command()
@told
def open_account(
    name: Annotated[str, typer.Argument(help="The holder's name; a merchant's is also its name on topics.")],
    kind: Annotated[str, typer.Option(help="client or merchant.")] = "client",
    title: Annotated[str, typer.Option(help="The name that people see; the plain name unless given.")] = "",
    key: Annotated[str, typer.Option(help="The holder's public key (64 hex digits), if it is known.")] = "",
    home: Home = _HOME,
    as_json: JsonFlag = False,
) -> None:
    """Open an account: for a known key, or with a one-time invitation that its holder claims it with.

    Example: ecash bank open-account shop --kind merchant --title "Blue Note Records"
    """
    if kind not in {"client", MERCHANT}:
        fail(f"an account is a client's or a merchant's, not a {kind}'s")
    holder = _public_key(key) if key else b""
    settings = settings_of(home)
    if name == settings.name:
        fail(f"{name} is the bank's own name on topics: choose another one")
    secret = b"" if holder else SystemEntropy().bytes(16)
    currency = settings.currency

    async def open_it() -> int:
        async with open_books(home, SystemClock()) as books:
            hashed = hash_invitation(secret) if secret else b""
            opened = await books.open_account(kind, name_of(name), title or name, currency, holder, hashed)
            return opened.number

    number = run(open_it())
    invitation = write_invitation(secret) if secret else ""
    if as_json:
        print_json({"account": number, "kind": kind, "name": name, "currency": currency, "invitation": invitation})
        return
    out.print(f"Account {number} is open for {kind} {name}.")
    if invitation:
        out.print(f"One-time invitation: [bold]{invitation}[/]")


def _public_key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
        check_public_key(key)
    except (ValueError, PeerError) as error:
        raise ValueError("that is no public key: it has 64 hexadecimal digits, as `init` printed it") from error
    return key


@app.command()
@told
def credit(
    account: Annotated[int, typer.Argument(help="The account's number.")],
    amount: Annotated[str, typer.Argument(help="An amount, such as 100.00.")],
    reference: Annotated[
        str, typer.Option(help="What this money is, once and for all: crediting it again changes nothing.")
    ],
    home: Home = _HOME,
    as_json: JsonFlag = False,
) -> None:
    """Credit an account with money that the bank has received.

    Example: ecash bank credit 1001 100.00 --reference "cash 2026-11-22 #1"
    """
    paid = parse_amount(amount, settings_of(home).currency)

    async def book() -> bool:
        async with open_books(home, SystemClock()) as books:
            return await books.credit(account, paid.value, reference)

    booked = run(book())
    if as_json:
        print_json({"account": account, "amount": paid.value, "currency": paid.currency, "booked": booked})
    elif booked:
        out.print(f"Account {account} is credited with {paid}.")
    else:
        out.print("This was credited before, under the same reference; nothing has changed.")


@app.command()
@told
def accounts(home: Home = _HOME, as_json: JsonFlag = False) -> None:
    """List all accounts with their balances.

    Example: ecash bank accounts --json
    """

    async def read() -> list[dict[str, str | int]]:
        async with open_books(home, SystemClock()) as books:
            return [
                {
                    "account": account.number,
                    "kind": account.kind,
                    "name": account.name,
                    "title": account.title,
                    "claimed": bool(account.key),
                    "balance": balance,
                    "currency": account.currency,
                }
                for account, balance in await books.accounts()
            ]

    rows = run(read())
    if as_json:
        print_json(rows)
        return
    shown = table("account", "kind", "name", "title", "claimed", "balance", right=[5])
    for row in rows:
        balance = format_minor(int(row["balance"]), str(row["currency"]))
        claimed = "yes" if row["claimed"] else "not yet"
        shown.add_row(str(row["account"]), str(row["kind"]), str(row["name"]), str(row["title"]), claimed, balance)
    out.print(shown)


@app.command("audit")
@told
def audit_books(
    sample: Annotated[
        int, typer.Option(min=0, help="How many verdicts, and how many coins' signatures, are verified: chosen anew.")
    ] = DEFAULT_SAMPLE,
    home: Home = _HOME,
    as_json: JsonFlag = False,
) -> None:
    """Prove from the tables alone that money was neither made nor lost; exit code 1 if it was.

    Example: ecash bank audit --sample 100000
    """
    books = run(read_books(home))
    report = judge(books, sample)
    keep(home, report, SystemClock().now())
    if as_json:
        found = {key.hex(): one._asdict() for key, one in coins_of(books).items()}
        print_json(msgspec.to_builtins(report) | {"denominations": found, "ok": report.ok})
    else:
        _show(report)
    if not report.ok:
        raise typer.Exit(1)


def _show(report: Report) -> None:
    names = ("accounts", "payouts under way", "coins outstanding", "commission", "money held", "minted", "taken back")
    shown = table("currency", *names, right=range(1, 8))
    for currency, total in report.totals.items():
        figures = (
            total.accounts,
            total.clearing,
            total.outstanding,
            total.commission,
            -total.cash,
            total.minted,
            total.deposited,
        )
        shown.add_row(currency, *(format_minor(figure, currency).split()[0] for figure in figures))
    out.print(shown)
    out.print(f"Signatures verified: {report.verdicts} on verdicts, {report.spendings} on spent coins.")
    for fault in report.faults:
        out.print(f"[bold red]fault:[/] {escape(fault)}", soft_wrap=True)
    if report.ok:
        out.print(
            "[green]The books balance: money held = accounts + payouts under way + coins outstanding + commission.[/]"
        )


app.command()(prove)
app.command()(keys)
app.command("rotate")(rotate_keys)
app.command()(revoke)
app.command()(web)
