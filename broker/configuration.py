"""mosquitto's configuration: the project's `mosquitto.conf` is the template, and read as the operator's it is the rule.

The file has sections, each under a line `# ---- name: what it is`. Those that are named for a listener are left out of
what is rendered if they are not wanted; paths, hosts and ports are set; everything else stays as it is.
"""

import getpass
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from .address import CERTIFICATE_PORT, PLAIN_PORT, SECURE_WEBSOCKET_PORT, TLS_PORT, WEBSOCKET_PORT

CONFIGURATION: Final = "mosquitto.conf"
RIGHTS: Final = "mosquitto.acl"
PASSWORDS: Final = "passwords"
PID: Final = "mosquitto.pid"
CA: Final = "ca.crt"
CERTIFICATE: Final = "server.crt"
KEY: Final = "server.key"

_HERE: Final = Path(__file__).parent
_MARK: Final = "# ---- "
_HOST: Final = re.compile(r"[A-Za-z0-9.:-]*")
_LOOPBACK: Final = "127.0.0.1"


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked of a broker, as `broker.toml` in its folder keeps it.

    Attributes:
        port: of the listener on 127.0.0.1 that needs no TLS.
        tls: listen to other machines, too, over TLS.
        listen: the address where; empty for all of this machine's.
        tls_port: for buyers, and for banks and merchants with a password.
        certificate_port: for banks and merchants with a certificate.
        websockets: take MQTT in websockets, too: on 127.0.0.1, and with TLS on `listen`.
        websocket_port: on 127.0.0.1, without TLS.
        secure_websocket_port: with TLS.
        certificate: PEM file of the server's certificate chain; empty for `server.crt` in the folder.
        key: PEM file of its private key; empty for `server.key`.

    Raises:
        ValueError: a host or a path cannot stand in the configuration, or two listeners have one port.
    """

    port: int = PLAIN_PORT
    tls: bool = False
    listen: str = ""
    tls_port: int = TLS_PORT
    certificate_port: int = CERTIFICATE_PORT
    websockets: bool = False
    websocket_port: int = WEBSOCKET_PORT
    secure_websocket_port: int = SECURE_WEBSOCKET_PORT
    certificate: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        """Refuse what would write lines of its own into the configuration."""
        if not _HOST.fullmatch(self.listen):
            raise ValueError("listen: an IP address or a host's name")
        if not (self.certificate + self.key).isprintable() and self.certificate + self.key:
            raise ValueError("certificate, key: a path of printable characters")
        ports = [int(where.split()[0]) for where in self.listeners.values()]
        if len(set(ports)) < len(ports) or not all(0 < port < 65_536 for port in ports):
            raise ValueError("each listener has a port of its own, 1 to 65535")

    @property
    def listeners(self) -> dict[str, str]:
        """Port and host of each listener that is wanted, by the name of its section."""
        wanted = {"loopback": f"{self.port} {_LOOPBACK}"}
        if self.tls:
            wanted["tls"] = f"{self.tls_port} {self.listen}".rstrip()
            wanted["certificate"] = f"{self.certificate_port} {self.listen}".rstrip()
        if self.websockets:
            wanted["websocket"] = f"{self.websocket_port} {_LOOPBACK}"
        if self.websockets and self.tls:
            wanted["secure-websocket"] = f"{self.secure_websocket_port} {self.listen}".rstrip()
        return wanted


OPERATOR: Final = Plan(tls=True, websockets=True)
"""The plan that the project's own `mosquitto.conf` shows."""

_OPERATORS_PATHS: Final = {
    "user": "mosquitto",
    "pid_file": "/run/mosquitto/mosquitto.pid",
    "log_dest": "syslog",
    "persistence_location": "/var/lib/mosquitto/",
    "password_file": "/etc/mosquitto/passwords",
    "acl_file": "/etc/mosquitto/mosquitto.acl",
    "cafile": "/etc/mosquitto/certs/ca.crt",
    "certfile": "/etc/mosquitto/certs/server.crt",
    "keyfile": "/etc/mosquitto/certs/server.key",
}


def shipped(name: str) -> str:
    """A file of the project: at the root of the source tree, or installed beside this module."""
    installed = _HERE / name
    return (installed if installed.exists() else _HERE.parent / name).read_text()


def render(plan: Plan, home: Path | None) -> str:
    """The configuration for a plan, with its files in a folder; without one, where an operator's are.

    Raises:
        ValueError: the template lacks one of the lines that are to be set, or the folder's path cannot stand in it.
    """
    values = _OPERATORS_PATHS if home is None else _paths(plan, home)
    if not all(value.isprintable() for value in values.values()):
        raise ValueError("a broker's folder has a path of printable characters")
    listeners, unset = plan.listeners, set(values)
    everywhere = OPERATOR.listeners.keys()
    section, lines = "", list[str]()
    for line in shipped(CONFIGURATION).splitlines():
        if line.startswith(_MARK):
            section = line.removeprefix(_MARK).partition(":")[0]
        option = line.partition(" ")[0]
        unset.discard(option)
        if section in everywhere and section not in listeners:
            continue
        set_here = listeners | values if option != "listener" else {"listener": listeners[section]}
        lines.append(f"{option} {set_here[option]}" if option in set_here else line)
    if unset:
        raise ValueError(f"{CONFIGURATION} lacks {sorted(unset)}")
    return "\n".join(lines).rstrip("\n") + "\n"


def _paths(plan: Plan, home: Path) -> dict[str, str]:
    return {
        "user": getpass.getuser(),
        "pid_file": str(home / PID),
        "log_dest": "stderr",
        "persistence_location": f"{home}/",
        "password_file": str(home / PASSWORDS),
        "acl_file": str(home / RIGHTS),
        "cafile": str(home / CA),
        "certfile": plan.certificate or str(home / CERTIFICATE),
        "keyfile": plan.key or str(home / KEY),
    }


@dataclass(frozen=True, slots=True)
class Listener:
    """A listener as a configuration has it; `options` are the lines below it."""

    port: int
    host: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def on_loopback(self) -> bool:
        """True if other machines cannot reach it."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration as mosquitto reads it: what holds for all, by option, and the listeners."""

    options: dict[str, str]
    listeners: tuple[Listener, ...]

    @classmethod
    def parse(cls, text: str) -> "Configuration":
        """Read a file.

        Raises:
            ValueError: a listener has no port.
        """
        options, listeners = dict[str, str](), list[Listener]()
        current = options
        for option, value in _lines(text):
            if option == "listener":
                port, _, host = value.partition(" ")
                if not port.isdecimal():
                    raise ValueError(f"listener {value!r}: its port is no number")
                listeners.append(Listener(int(port), host.strip()))
                current = listeners[-1].options
            elif option == "log_type":  # comes several times
                options[option] = f"{options.get(option, '')} {value}".strip()
            else:
                current[option] = value
        return cls(options, tuple(listeners))


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        option, _, value = line.strip().partition(" ")
        if option and not option.startswith("#"):
            yield option, value.strip()
