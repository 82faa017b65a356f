"""`ecash`: one command for all agents, the broker and the observer."""

from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from typer.core import TyperGroup

from broker.address import BrokerUrl
from broker.observe import Sighting, line, watch

from .bank import cli as bank
from .bench import cli as bench
from .broker_cli import app as broker_app
from .client import cli as client
from .conform.cli import app as conform_app
from .demo.cli import demo
from .merchant import cli as merchant
from .service import until_stopped
from .simulate import simulate
from .terminal import BrokerOption, LogLevel, fail, out, run, told
from .watch import audit, verify
from .wire import describe

CONFIG: Final = Path("~/.ecash/ecash.toml").expanduser()

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="E-cash after David Chaum: a bank, merchants and wallets that pay each other over MQTT. "
    "Start with `ecash demo`.",
)
app.add_typer(bank.app, name="bank")
app.add_typer(merchant.app, name="merchant")
app.add_typer(client.app, name="wallet")
app.add_typer(broker_app, name="broker")
app.add_typer(bench.app, name="bench")
app.add_typer(conform_app, name="conform")
app.command()(demo)
app.command()(verify)
app.command()(audit)
app.command()(simulate)


@app.callback()
def main_options(
    context: typer.Context,
    config: Annotated[
        Path, typer.Option(envvar="ECASH_CONFIG", help="TOML with defaults: a table for each command group.")
    ] = CONFIG,
) -> None:
    """Read defaults from a TOML file, such as `[wallet]` with `home = "/data/wallet"`."""
    if config == CONFIG and not config.exists():
        return
    try:
        tables = msgspec.toml.decode(config.read_bytes(), type=dict[str, dict[str, Any]])
    except (OSError, msgspec.MsgspecError) as error:
        fail(f"{config}: {error}")
    groups = context.command
    if not isinstance(groups, TyperGroup):
        return
    context.default_map = {
        name: dict.fromkeys(getattr(groups.commands.get(name), "commands", {}), defaults) | defaults
        for name, defaults in tables.items()
    }


@app.command()
@told
def observe(
    broker: BrokerOption = "mqtt://127.0.0.1:1883",
    log: LogLevel = "warning",
) -> None:
    """Show what travels: when, who to whom, what kind, how large, how long an answer took. Never anything secret.

    Example: ecash observe --broker "$(ecash broker grant observer)"
    """

    def show(sighting: Sighting) -> None:
        out.print(line(sighting), soft_wrap=True)

    run(until_stopped(watch(BrokerUrl.parse(broker), show, describe=describe)), log)


def main() -> None:
    """Run the command line."""
    app(prog_name="ecash")
