"""`ecash wallet send`, `request`, `receive`, `transfers`, `take-back`: coins from wallet to wallet."""

import asyncio
import os
import shutil
import sys
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from protocol.money import format_minor
from protocol.token import Token, TokenRequest
from protocol.wallet import transfer as machine
from protocol.wallet.exchange import Exchanged

from ...address import BankAddress
from ...terminal import STILL_OPEN, JsonFlag, LogLevel, err, out, print_json, run, table, told
from .. import inbox, transfer
from ..inbox import Asked
from ..qr import drawn
from ..service import attend, open_store
from ..show import clock_time, describe, outcome_of
from ..store import ExchangeRow
from ..wallet import Wallet, WalletError
from .app import HOME, BankName, Home, app, finish, opened

_MINUTE_MS: Final = 60_000
_ANY: Final = "any amount"

Qr = Annotated[bool | None, typer.Option("--qr/--no-qr", help="Draw a QR code; in a terminal unless told otherwise.")]
MemoText = Annotated[str, typer.Option("--memo", help="A line for the other side, at most 120 characters.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: trust a bank that is new to this wallet.")]


@app.command()
@told
def send(
    amount: Annotated[str, typer.Argument(help="An amount, such as 5.00; as asked for with --to unless given.")] = "",
    to: Annotated[str, typer.Option("--to", help="Send it to this request over the broker: ECASHREQ:…")] = "",
    memo: MemoText = "",
    days: Annotated[int, typer.Option(min=1, max=365, help="Take it back after so many days.")] = transfer.DAYS,
    qr: Qr = None,
    bank: BankName = None,
    home: Home = HOME,
    as_json: JsonFlag = False,
) -> None:
    """Give coins to another wallet: print a token that whoever reads it can claim, or send it to a request.

    Example: ecash wallet send 5.00 --memo "for the tea"
    """
    request = TokenRequest.parse(to) if to else None

    async def do() -> tuple[ExchangeRow, Token | None, str]:
        async with opened(home) as wallet:
            chosen = await inbox.bank_of(wallet, request, _no_coins) if request else wallet.bank(bank)
            gift = transfer.Gift(transfer.amount_of(chosen, amount, request), memo, days, request)
            row, said = await transfer.give(wallet, chosen, gift), None
            if request:
                row, said = await transfer.deliver(wallet, row, attend)
            token = await transfer.token_of(wallet, row) if row.open else None
            return row, token, said.refusal if said else ""

    row, token, refusal = run(do())
    if as_json:
        print_json(outcome_of(row) | {"token": str(token) if token else "", "receiver_refuses": refusal})
        return
    if token is None:
        finish(row, as_json=False)
        return
    if request:
        said = f"The receiver refuses it ({refusal})." if refusal else "The receiver has not claimed it yet."
        out.print(f"[yellow]{said} This is the same token as a text; it can be claimed once.[/]")
    _show(str(token), qr)
    out.print(f"[dim]{escape(describe(row))} Transfer {row.id.hex()[:8]}.[/]", soft_wrap=True)


@app.command()
@told
def request(
    amount: Annotated[str, typer.Argument(help="An amount, such as 5.00; any unless given.")] = "",
    memo: MemoText = "",
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="Wait for so long.")] = 30,
    qr: Qr = None,
    bank: BankName = None,
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Ask another wallet for coins: print a request and wait in an inbox for what is sent to it.

    Ctrl-C ends the waiting, not the request: `ecash wallet receive` waits on.

    Example: ecash wallet request 5.00 --memo "for the tea"
    """

    async def do() -> ExchangeRow | None:
        async with opened(home) as wallet:
            chosen = wallet.bank(bank)
            expires = wallet.clock.now() + minutes * _MINUTE_MS
            asked = await inbox.ask(wallet, chosen, transfer.amount_of(chosen, amount or "0"), memo, expires)
            if as_json:
                print_json({"request": str(asked.request), "expires": expires})
            else:
                _show(str(asked.request), qr)
                out.print(f"[dim]Waiting until {clock_time(expires)}; `ecash wallet receive` waits on.[/]")
            return await inbox.wait(wallet, asked, attend)

    _end(run(do(), log), as_json=as_json)


@app.command()
@told
def receive(
    given: Annotated[
        str, typer.Argument(metavar="TOKEN", help="ECASH:…, or - for standard input; else wait for what was asked.")
    ] = "",
    yes: Yes = False,
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Receive a token: check it and exchange its coins. Without one, wait on for the requests that were made.

    Example: ecash wallet receive ECASH:…
    """
    text = sys.stdin.read(1 << 20) if given == "-" else given

    async def claim() -> inbox.Received:
        token = Token.parse(text)
        async with opened(home) as wallet:
            bank = await inbox.bank_of(wallet, token, _agree(yes=yes))
            if token.memo and not as_json:
                out.print(f"Memo: {escape(token.memo)}")
            return await inbox.receive(wallet, bank, token)

    async def wait() -> list[ExchangeRow | None]:
        async with opened(home) as wallet:
            waiting = await inbox.waiting(wallet)
            if not waiting:
                raise WalletError("nothing was asked for: `ecash wallet request` asks, and a token may be given here")
            for asked in waiting:
                err.print(f"[dim]Waiting for {_asked(asked)} until {clock_time(asked.request.expires)}.[/]")
            return await asyncio.gather(*(inbox.wait(wallet, asked, attend) for asked in waiting))

    if not text.strip():
        *others, last = run(wait(), log)
        for row in filter(None, others):
            out.print(describe(row))
        _end(last, as_json=as_json)
        return
    row, again = run(claim(), log)
    if again and isinstance(row.state, Exchanged) and not as_json:
        out.print("This wallet has it already.")
    finish(row, as_json=as_json)


@app.command()
@told
def transfers(
    token: Annotated[str, typer.Option("--token", help="Show the token of this transfer once more: its id.")] = "",
    qr: Qr = None,
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """List what was given, the oldest first. Takes no passphrase and no network, but for --token.

    Example: ecash wallet transfers
    """
    if token:

        async def find() -> Token:
            async with opened(home) as wallet:
                return await transfer.token_of(wallet, await _transfer(wallet, token))

        _show(str(run(find(), log)), qr)
        return

    async def read() -> list[ExchangeRow]:
        async with open_store(home) as store:
            return [row for row in await store.exchanges() if row.kind == machine.TRANSFER]

    rows = run(read())
    if as_json:
        print_json([outcome_of(row) for row in rows])
        return
    shown = table("id", "when", "amount", "state", "memo", right=[2])
    for row in rows:
        amount, state = format_minor(row.note.amount, row.note.currency), type(row.state).__name__.lower()
        shown.add_row(row.id.hex()[:8], clock_time(row.begun_at), amount, state, escape(row.note.title))
    out.print(shown)


@app.command("take-back")
@told
def take_back(
    transfer_id: Annotated[str, typer.Argument(help="The transfer's id, or how it begins.")],
    home: Home = HOME,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Take back what was given and is not claimed: its coins are exchanged, and the token is worth nothing then.

    Example: ecash wallet take-back 3f2a91c0
    """

    async def do() -> ExchangeRow:
        async with opened(home) as wallet:
            return await transfer.take_back(wallet, await _transfer(wallet, transfer_id))

    row = run(do(), log)
    if as_json:
        print_json(outcome_of(row))
        return
    out.print(describe(row))


async def _transfer(wallet: Wallet, prefix: str) -> ExchangeRow:
    rows = [row for row in await wallet.store.exchanges() if row.kind == machine.TRANSFER]
    found = [row for row in rows if prefix and row.id.hex().startswith(prefix.lower())]
    if len(found) != 1:
        raise WalletError(f"{len(found)} transfers begin with {prefix!r}: see `ecash wallet transfers`")
    return found[0]


def _agree(*, yes: bool) -> inbox.Agree:
    async def agree(address: BankAddress) -> bool:
        if yes:
            return True
        err.print(f"This wallet does not know the bank {escape(str(address))}", soft_wrap=True)
        if not sys.stdin.isatty():
            raise WalletError("add --yes to trust it: coins are worth as much as their bank")
        question = "Trust it? Coins are worth as much as their bank."
        return await asyncio.to_thread(typer.confirm, question, default=False, err=True)

    return agree


async def _no_coins(address: BankAddress) -> bool:
    raise WalletError(f"this wallet has no coins of bank {address.bank}")


def _asked(asked: Asked) -> str:
    request = asked.request
    return format_minor(request.amount, request.currency) if request.amount else _ANY


def _show(text: str, qr: bool | None) -> None:
    out.print(text, soft_wrap=True)
    if qr if qr is not None else os.isatty(1):
        drawing = drawn(text, shutil.get_terminal_size().columns)
        if drawing is None:
            err.print("[dim]A QR code does not fit: the window is too narrow, or the text too long.[/]")
        else:
            sys.stdout.write(drawing)


def _end(row: ExchangeRow | None, *, as_json: bool) -> None:
    if row is not None:
        finish(row, as_json=as_json)
        return
    nothing: dict[str, Any] = {"told": "Nothing came in time."}
    if as_json:
        print_json(nothing)
    else:
        out.print(f"[yellow]{nothing['told']}[/]")
    raise typer.Exit(STILL_OPEN)
