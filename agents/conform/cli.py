"""`ecash conform`: whether an implementation, whoever wrote it, does what the specification says."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import typer

from protocol.messages import MERCHANT
from protocol.refusals import Refusal

from ..address import BankAddress
from ..bank.service import open_books
from ..invitation import hash_invitation, read_invitation, write_invitation
from ..terminal import JsonFlag, LogLevel, default_home, name_of, out, print_json, run, told
from ..world import SystemClock, SystemEntropy
from .bank.cases import bank_suite
from .bank.unreachable import UNREACHABLE
from .bank.visit import visiting
from .case import Notes, Suite
from .merchant.cases import UNREACHABLE as SHOP_UNREACHABLE
from .merchant.cases import merchant_suite
from .merchant.visit import Wish, visiting_shop
from .played import LARGEST, played_settings, prepare
from .report import line, listing, summary, tell_failures, tell_unreachable, write_junit
from .runner import Outcome, Result, run_cases
from .wallet.cases import wallet_suite
from .wallet.visit import visiting_wallet

app = typer.Typer(
    no_args_is_help=True,
    help="Check an implementation, in whatever language, against docs/protocol.md: a black box at a broker.",
)
merchant_app = typer.Typer(no_args_is_help=True, help="Check a merchant: first init, then run.")
app.add_typer(merchant_app, name="merchant")

Only = Annotated[
    list[str] | None,
    typer.Option(help="Run these alone: a section (§9 or 9.2), or how the ids of cases begin (withdraw)."),
]
List = Annotated[bool, typer.Option("--list", help="Show the cases, and run none.")]
Junit = Annotated[Path | None, typer.Option(help="Write the results as JUnit XML to this file.", dir_okay=False)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show each case, not only those that fail.")]

_QUIET: Final = "critical"


def shown_as_list(suite: Suite[Any], only: list[str] | None) -> None:
    """Print the chosen cases, and end the command."""
    out.print(listing(suite.chosen(only or [])))
    raise typer.Exit


def concluded(role: str, results: list[Result], to: Path | None) -> None:
    """Report the results, and end the command with 1 if a case has failed."""
    tell_failures(results)
    out.print(summary(results))
    if to is not None:
        write_junit(to, role, results)
    if any(result.outcome is Outcome.FAILED for result in results):
        raise typer.Exit(1)


def telling(*, verbose: bool) -> Callable[[Result], None]:
    """Return what prints each result as it comes."""

    def tell(result: Result) -> None:
        if verbose or result.outcome is not Outcome.PASSED:
            out.print(line(result), soft_wrap=True)

    return tell


@app.command()
@told
def bank(  # noqa: PLR0913, PLR0917 - each option is one
    address: Annotated[str, typer.Argument(help="The bank's address: ecash://…", show_default=False)] = "",
    client_invitation: Annotated[str, typer.Option(help="Of a client's account with money in it.")] = "",
    merchant_invitation: Annotated[str, typer.Option(help="Of an empty merchant's account.")] = "",
    restart: Annotated[
        str, typer.Option(help="A command that kills the bank and starts it again, and then ends.")
    ] = "",
    only: Only = None,
    listed: List = False,
    junit: Junit = None,
    verbose: Verbose = False,
    log: LogLevel = _QUIET,
) -> None:
    """Check a bank: the suite is its client and its merchant.

    Example: ecash conform bank "ecash://bank@…#…" --client-invitation abcd-… --merchant-invitation efgh-…
    """
    suite = bank_suite()
    if listed:
        shown_as_list(suite, only)
    if not (address and client_invitation and merchant_invitation):
        raise ValueError("say which bank, and give the invitations of two accounts: a client's and a merchant's")
    invitations = (read_invitation(client_invitation), read_invitation(merchant_invitation))
    cases, notes, clock, entropy = suite.chosen(only or []), Notes(), SystemClock(), SystemEntropy()

    async def check() -> list[Result]:
        async with visiting(BankAddress.parse(address), invitations, notes, clock, entropy) as visit:
            visit.restart = restart
            return await run_cases(cases, visit, notes, telling(verbose=verbose))

    results = run(check(), log)
    if verbose:
        tell_unreachable({code.value: UNREACHABLE[code] for code in Refusal if code in UNREACHABLE})
    concluded("bank", results, junit)


Home = Annotated[Path, typer.Option("--home", help="A folder for the bank that the suite plays.", file_okay=False)]
_HOME: Final = default_home("conform")
Broker = Annotated[str, typer.Option(envvar="ECASH_BROKER", help="Where all meet: mqtt://[user:password@]host[:port].")]
_BROKER: Final = "mqtt://127.0.0.1:1883"


@merchant_app.command("init")
@told
def merchant_init(
    merchant: Annotated[str, typer.Argument(help="The merchant's name on topics: a-z, 0-9 and '-'.")],
    broker: Broker = _BROKER,
    name: Annotated[str, typer.Option(help="The name of the bank that the suite plays.")] = "conform",
    currency: Annotated[str, typer.Option(help="ISO 4217 code of the currency that the merchant takes.")] = "USD",
    largest_denomination: Annotated[
        int, typer.Option(min=0, max=40, help="Coins are worth up to two to the power of this.")
    ] = LARGEST,
    home: Home = _HOME,
    as_json: JsonFlag = False,
) -> None:
    """Prepare the bank that the suite plays, and print what the merchant needs to know of it.

    Example: ecash conform merchant init my-shop
    """
    clock, entropy = SystemClock(), SystemEntropy()
    address = run(prepare(home, played_settings(name, currency, broker, largest_denomination, entropy), clock, entropy))
    invitation = write_invitation(run(_invite(home, merchant, currency)))
    if as_json:
        print_json({"address": str(address), "invitation": invitation})
        return
    out.print(f"Have the merchant {merchant} claim its account at this bank:", soft_wrap=True)
    out.print(f"  address     {address}", soft_wrap=True)
    out.print(f"  invitation  {invitation}", soft_wrap=True)
    out.print(f"Then, before it starts: [bold]ecash conform merchant run {merchant} --home {home}[/]", soft_wrap=True)


async def _invite(home: Path, merchant: str, currency: str) -> bytes:
    secret = SystemEntropy().bytes(16)
    async with open_books(home, SystemClock()) as books:
        await books.open_account(MERCHANT, name_of(merchant), merchant, currency, b"", hash_invitation(secret))
    return secret


@merchant_app.command("run")
@told
def merchant_run(  # noqa: PLR0913, PLR0917 - each option is one
    merchant: Annotated[str, typer.Argument(help="The merchant's name on topics.", show_default=False)] = "",
    item: Annotated[str, typer.Option(help="What to buy (a sku); the cheapest unless given.")] = "",
    grant: Annotated[
        str, typer.Option(help="A command that grants a refund; {payment_id} and {amount} stand for sale and sum.")
    ] = "",
    wait: Annotated[int, typer.Option(min=0, help="How many seconds to wait for an offer to expire.")] = 0,
    patience: Annotated[int, typer.Option(min=1, help="How many seconds to wait for the merchant to come.")] = 60,
    home: Home = _HOME,
    only: Only = None,
    listed: List = False,
    junit: Junit = None,
    verbose: Verbose = False,
    log: LogLevel = _QUIET,
) -> None:
    """Check a merchant: the suite is its bank, whose moods change, and its buyer.

    Start this first, and then the merchant.

    Example: ecash conform merchant run my-shop --item coffee
    """
    suite = merchant_suite()
    if listed:
        shown_as_list(suite, only)
    cases, notes, clock, entropy = suite.chosen(only or []), Notes(), SystemClock(), SystemEntropy()

    async def check() -> list[Result]:
        wish = Wish(name_of(merchant), item, grant, wait, patience)

        def ready() -> None:
            out.print(f"The bank is open; merchant {merchant} may start now.", soft_wrap=True)

        async with visiting_shop(home, wish, notes, clock, entropy, ready) as visit:
            return await run_cases(cases, visit, notes, telling(verbose=verbose))

    results = run(check(), log)
    if verbose:
        tell_unreachable({code.value: reason for code, reason in SHOP_UNREACHABLE.items()})
    concluded("merchant", results, junit)


@app.command()
@told
def wallet(  # noqa: PLR0913, PLR0917 - each option is one
    command: Annotated[str, typer.Option(help="How the wallet is called; verbs and arguments are put behind.")] = "",
    broker: Broker = _BROKER,
    shop_broker: Annotated[str, typer.Option(help="The same, with the log-in of conform-shop, if there is one.")] = "",
    currency: Annotated[str, typer.Option(help="ISO 4217 code of the currency of the account.")] = "USD",
    only: Only = None,
    listed: List = False,
    junit: Junit = None,
    verbose: Verbose = False,
    log: LogLevel = _QUIET,
) -> None:
    """Check a wallet that was made and has no account yet: the suite is its bank and a shop, and calls it.

    Example: ecash conform wallet --command "ecash wallet"
    """
    suite = wallet_suite()
    if listed:
        shown_as_list(suite, only)
    if not command:
        raise ValueError("say how the wallet is called: --command 'ecash wallet'")
    cases, notes, clock, entropy = suite.chosen(only or []), Notes(), SystemClock(), SystemEntropy()

    async def check(home: Path) -> list[Result]:
        await prepare(home, played_settings("conform", currency, broker, 8, entropy), clock, entropy)
        async with visiting_wallet(home, shop_broker or broker, command, notes, clock, entropy) as visit:
            return await run_cases(cases, visit, notes, telling(verbose=verbose))

    with TemporaryDirectory(prefix="ecash-conform-") as folder:
        results = run(check(Path(folder) / "bank"), log)
    concluded("wallet", results, junit)
