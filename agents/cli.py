"""`ecash`: one command for all agents, the broker and the observer."""

from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from typer.core import TyperGroup

from broker import embedded, mosquitto
from broker.address import PLAIN_PORT, BrokerUrl
from broker.observe import Sighting, line, watch

from .bank import cli as bank
from .bench import cli as bench
from .client import cli as client
from .demo.cli import demo
from .merchant import cli as merchant
from .service import until_stopped
from .terminal import BrokerOption, LogLevel, default_home, fail, home_option, out, run, told
from .watch import audit, verify
from .wire import describe

CONFIG: Final = Path("~/.ecash/ecash.toml").expanduser()

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="E-cash after David Chaum: a bank, merchants and wallets that pay each other over MQTT. "
    "Start with `ecash demo`.",
)
broker_app = typer.Typer(no_args_is_help=True, help="The MQTT broker that the agents meet at.")
app.add_typer(bank.app, name="bank")
app.add_typer(merchant.app, name="merchant")
app.add_typer(client.app, name="wallet")
app.add_typer(broker_app, name="broker")
app.add_typer(bench.app, name="bench")
app.command()(demo)
app.command()(verify)
app.command()(audit)

_HOME: Final = default_home("broker")
Home = Annotated[Path, home_option("broker")]


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


@broker_app.command("run")
@told
def run_broker(
    engine: Annotated[
        str, typer.Option(help="embedded (comes with pip, for development) or mosquitto (rights, kept on disk).")
    ] = "embedded",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port on 127.0.0.1.")] = PLAIN_PORT,
    home: Home = _HOME,
) -> None:
    """Run a broker on this machine until Ctrl-C.

    Example: ecash broker run --engine mosquitto --port 1883
    """
    engines = {"embedded": embedded.run_forever, "mosquitto": mosquitto.run_forever}
    if engine not in engines:
        fail(f"there is no engine {engine}: it is embedded or mosquitto")

    def ready() -> None:
        out.print(f"Broker ({engine}) at [bold]mqtt://127.0.0.1:{port}[/]; Ctrl-C ends it.")

    raise typer.Exit(engines[engine](port, home, ready))


@broker_app.command()
@told
def grant(
    name: Annotated[str, typer.Argument(help="A bank's or merchant's name, or `observer`.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="The broker's port on 127.0.0.1.")] = PLAIN_PORT,
    home: Home = _HOME,
) -> None:
    """Give a bank, a merchant or the observer a log-in at this machine's mosquitto, and print its address.

    Example: ecash broker grant bank
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = mosquitto.add_password(home, name)
    out.print(str(BrokerUrl("127.0.0.1", port, name, password)), soft_wrap=True)


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
