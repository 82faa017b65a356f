"""`ecash broker`: an MQTT broker on this machine, its log-ins and certificates, and whether it keeps the rules."""

import datetime
import socket
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from broker import embedded, mosquitto
from broker.address import CERTIFICATE_PORT, PLAIN_PORT, TLS_PORT, BrokerUrl
from broker.certificates import Issued, agent_certificate, new_authority, server_certificate
from broker.checklist import Finding, check_files
from broker.configuration import CA, CERTIFICATE, CONFIGURATION, KEY, Plan
from broker.mosquitto import check_log_in
from broker.probe import probe
from broker.tls import CA_VARIABLE

from .home import load_settings, save_settings, write_secret
from .terminal import JsonFlag, default_home, fail, home_option, out, print_json, run, table, told

_HOME: Final = default_home("broker")
_SETTINGS: Final = "broker"
_CA_KEY: Final = "ca.key"
_DAYS: Final = 30

Home = Annotated[Path, home_option("broker")]
AsPlanned = Annotated[
    int | None, typer.Option(min=1, max=65535, help="TCP port on 127.0.0.1; 1883, or what `init` was told.")
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="TCP port on 127.0.0.1, without TLS.")]

app = typer.Typer(no_args_is_help=True, help="The MQTT broker that the agents meet at.")


@app.command("run")
@told
def run_broker(
    engine: Annotated[
        str, typer.Option(help="embedded (comes with pip, for development) or mosquitto (rights, kept on disk).")
    ] = "embedded",
    port: AsPlanned = None,
    home: Home = _HOME,
) -> None:
    """Run a broker on this machine until Ctrl-C. With mosquitto, as `ecash broker init` has set it up, if it has.

    Example: ecash broker run --engine mosquitto --port 1883
    """
    if engine not in {"embedded", "mosquitto"}:
        fail(f"there is no engine {engine}: it is embedded or mosquitto")
    plan = plan_of(home) if engine == "mosquitto" else Plan()
    plan = msgspec.structs.replace(plan, port=port or plan.port)

    def ready() -> None:
        out.print(f"Broker ({engine}) at [bold]mqtt://127.0.0.1:{plan.port}[/]; Ctrl-C ends it.", soft_wrap=True)
        if plan.tls:
            out.print(f"With TLS at port {plan.tls_port}; for certificates at {plan.certificate_port}.", soft_wrap=True)

    if engine == "embedded":
        raise typer.Exit(embedded.run_forever(plan.port, home, ready))
    raise typer.Exit(mosquitto.run_forever(plan, home, ready))


@app.command()
@told
def init(  # noqa: PLR0913, PLR0917 - each option is one
    port: Port = PLAIN_PORT,
    listen: Annotated[
        str, typer.Option(help="The address where other machines reach it, over TLS; all of this one's by default.")
    ] = "",
    self_signed: Annotated[
        str, typer.Option(metavar="HOST", help="Sign a certificate for this host's name or address with a CA of ours.")
    ] = "",
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, resolve_path=True, help="PEM file of the server's certificate chain."
        ),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, resolve_path=True, help="PEM file of its private key.")
    ] = None,
    tls_port: Annotated[int, typer.Option(min=1, max=65535, help="For buyers, and log-ins with passwords.")] = TLS_PORT,
    certificate_port: Annotated[
        int, typer.Option(min=1, max=65535, help="For log-ins with certificates.")
    ] = CERTIFICATE_PORT,
    websockets: Annotated[bool, typer.Option("--websockets", help="Take MQTT in websockets, too: 8083, 8084.")] = False,
    home: Home = _HOME,
) -> None:
    """Set up a mosquitto: configuration, rights, certificates. Again, to change it or to renew; log-ins are kept.

    Example: ecash broker init --self-signed broker.example --websockets
    """
    if (tls_cert is None) != (tls_key is None) or (self_signed and tls_cert):
        fail("for TLS, give --tls-cert and --tls-key, or --self-signed HOST")
    plan = Plan(
        port=port,
        tls=bool(self_signed or tls_cert),
        listen=listen,
        tls_port=tls_port,
        certificate_port=certificate_port,
        websockets=websockets,
        certificate=str(tls_cert or ""),
        key=str(tls_key or ""),
    )
    if listen and not plan.tls:
        fail("other machines are served over TLS only: give --tls-cert and --tls-key, or --self-signed HOST")
    home = home.resolve()
    mosquitto.configure(plan, home)
    if plan.tls:
        authority = _authority(home)
    if self_signed:
        issued = server_certificate(authority, self_signed, _now())
        write_secret(home / KEY, issued.key)
        write_secret(home / CERTIFICATE, issued.certificate)
    save_settings(home, _SETTINGS, plan)
    mosquitto.reload(home)
    out.print(f"A mosquitto is set up in {home}.", soft_wrap=True)
    if self_signed:
        trust = f"Who is to trust it needs {home / CA}: in an address as ?ca=FILE, or in {CA_VARIABLE}."
        out.print(trust, soft_wrap=True)
    out.print(f"Next: [bold]ecash broker run --engine mosquitto --home {home}[/]", soft_wrap=True)


@app.command()
@told
def grant(
    name: Annotated[str, typer.Argument(help="A bank's or merchant's name, or `observer`.")],
    port: AsPlanned = None,
    home: Home = _HOME,
) -> None:
    """Give a bank, a merchant or the observer a log-in at this machine's mosquitto, and print its address.

    Example: ecash broker grant bank
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = mosquitto.add_password(home, name)
    out.print(str(BrokerUrl("127.0.0.1", port or plan_of(home).port, name, password)), soft_wrap=True)


@app.command()
@told
def certificate(
    name: Annotated[str, typer.Argument(help="A bank's or merchant's name, or `observer`.")],
    host: Annotated[str, typer.Option(help="The broker's host, as its certificate has it.")] = "localhost",
    to: Annotated[
        Path | None, typer.Option(help="The file to write; NAME.pem in the broker's home by default.")
    ] = None,
    home: Home = _HOME,
) -> None:
    """Give a bank, a merchant or the observer a certificate to log in with, and print its address.

    The file holds the certificate and its private key: hand it over as you would a password. Valid for two years.

    Example: ecash broker certificate bank --host broker.example
    """
    check_log_in(name)
    plan, home = plan_of(home), home.resolve()
    if not plan.tls:
        fail("this broker has no TLS: `ecash broker init --self-signed HOST` sets it up")
    issued = agent_certificate(_authority(home), name, _now())
    path = (to or home / f"{name}.pem").absolute()
    write_secret(path, issued.certificate + issued.key)
    ca = None if plan.certificate else home / CA
    out.print(str(BrokerUrl(host, plan.certificate_port, tls=True, ca=ca, cert=path)), soft_wrap=True)


@app.command()
@told
def check(
    broker: Annotated[
        str, typer.Option(envvar="ECASH_BROKER", help="A broker to try out, as a stranger: mqtt://host[:port].")
    ] = "",
    config: Annotated[Path | None, typer.Option(help="A mosquitto.conf to read instead of the home's.")] = None,
    home: Home = _HOME,
    as_json: JsonFlag = False,
) -> None:
    """Tell whether a broker keeps the rules: its files, and with --broker what it does when strangers try.

    Without --broker, the home's mosquitto is tried if it runs. Ends with exit code 1 if a rule is broken.

    Example: ecash broker check --broker mqtts://broker.example
    """
    findings = list[Finding]()
    path = config or home / CONFIGURATION
    if path.exists() or not broker:
        findings += check_files(path, _now())
    url = BrokerUrl.parse(broker) if broker else None if config else _running_at(home)
    if url is not None:
        findings += run(probe(url), "critical")
    _show(findings, as_json)
    if not all(one.good for one in findings):
        raise typer.Exit(1)


def plan_of(home: Path) -> Plan:
    """Return what `init` was told of this home, or the plan without TLS and websockets if it has not been run.

    Raises:
        HomeError: a line of the settings is wrong.
    """
    if not (home / f"{_SETTINGS}.toml").exists():
        return Plan()
    return load_settings(home, _SETTINGS, Plan)


def _show(findings: list[Finding], as_json: bool) -> None:
    if as_json:
        print_json([{"rule": one.rule, "good": one.good, "advice": "" if one.good else one.advice} for one in findings])
        return
    shown = table("", "rule", "what to do")
    for one in findings:
        shown.add_row("[green]✓[/]" if one.good else "[red]✗[/]", one.rule, "" if one.good else one.advice)
    out.print(shown)


def _running_at(home: Path) -> BrokerUrl | None:
    url = BrokerUrl("127.0.0.1", plan_of(home).port)
    with socket.socket() as one:
        return url if one.connect_ex((url.host, url.port)) == 0 else None


def _authority(home: Path) -> Issued:
    certificate_file, key_file = home / CA, home / _CA_KEY
    if not (key_file.exists() and certificate_file.exists()):
        made = new_authority(f"e-cash broker {socket.gethostname()}"[:64], _now())
        write_secret(key_file, made.key)
        write_secret(certificate_file, made.certificate)
        certificate_file.chmod(0o644)
    return Issued(certificate_file.read_bytes(), key_file.read_bytes())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
