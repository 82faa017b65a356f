"""`ecash demo`: see it work, with one command."""

import json
import signal
import socket
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from broker.child import BrokerFailed
from broker.mosquitto import NotInstalled
from protocol.money import format_minor

from ..terminal import err, fail, out
from .drill import Drill
from .processes import StepFailed
from .report import CURRENCY, conservation, report_of
from .story import Purchase
from .web import Web


def demo(
    broker: Annotated[
        str, typer.Option(help="embedded (needs nothing but pip) or mosquitto (Debian's package).")
    ] = "embedded",
    drill: Annotated[bool, typer.Option("--drill", help="Lose the wallet in the middle of a purchase.")] = False,
    web: Annotated[bool, typer.Option("--web", help="Open shop, wallet and bank as web pages, until Ctrl-C.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write what happened to this file, as JSON.")] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Leave the agents' homes in this new folder instead of removing them.")
    ] = None,
) -> None:
    """Start a broker, a bank, a shop and a wallet as processes; withdraw, buy, and balance the books.

    With --drill the wallet is lost in the middle of a purchase, and comes back from its twelve words. With --web you
    play Alice in your browser: shop, wallet and bank are pages on this machine, until Ctrl-C.

    Example: ecash demo --web
    """
    if broker not in {"embedded", "mosquitto"}:
        fail(f"there is no broker {broker}: it is embedded or mosquitto")
    if keep is not None and keep.exists():
        fail(f"{keep} exists: choose a new folder")
    if drill and web:
        fail("choose one: --drill or --web")
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell that starts it in the background has Ctrl-C ignored
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ecash-demo-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tale = Drill if drill else Web if web else Purchase
        story = tale(folder, broker, _free_port(), lambda line: out.print(line, soft_wrap=True))
        failure, conserved = "", None
        try:
            story.tell()
            conserved = conservation(story.bank, [story.wallet])
            _balance(conserved)
        except (StepFailed, BrokerFailed, NotInstalled) as error:
            failure = str(error)
        except KeyboardInterrupt:
            failure = "interrupted; all processes were stopped"
        if report is not None:
            report.write_text(json.dumps(report_of(broker, story.steps, conserved), indent=2) + "\n")
    if failure or conserved is None or not conserved["ok"]:
        err.print(f"[bold red]The demonstration failed:[/] {escape(failure or 'the books do not balance')}")
        raise typer.Exit(1)


def _balance(conserved: dict[str, Any]) -> None:
    money = {name: format_minor(conserved[name], CURRENCY) for name in conserved if name != "ok"}
    brought_in = format_minor(conserved["accounts"] + conserved["commission"] + conserved["held"], CURRENCY)
    out.print("\n[bold]The books, read from the stores after everybody has stopped[/]")
    out.print(f"  minted      {money['minted']} = deposited {money['deposited']} + in Alice's wallet {money['held']}")
    out.print(
        f"  brought in  {brought_in} = accounts {money['accounts']} + commission {money['commission']} "
        f"+ in Alice's wallet {money['held']}",
        soft_wrap=True,
    )
    verdict = "[green]They balance to the cent.[/]" if conserved["ok"] else "[bold red]They do not balance.[/]"
    out.print(f"  {verdict}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
