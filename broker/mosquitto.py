"""Debian's mosquitto, run with the `mosquitto.conf` and `mosquitto.acl` of this project in a folder of its own."""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.topics import check_name

from .address import BrokerUrl
from .child import running, wait_for

OBSERVER: Final = "observer"
"""The log-in that may hear everything and say nothing."""

_HERE: Final = Path(__file__).parent
_PATH: Final = os.pathsep.join((os.defpath, "/usr/sbin", "/usr/local/sbin"))


class NotInstalled(RuntimeError):
    """A program of mosquitto is not on this machine; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Mosquitto:
    """A running mosquitto.

    Attributes:
        url: its plain listener, without a log-in.
        home: its folder: configuration, passwords, database, log.
        process: its process.
    """

    url: BrokerUrl
    home: Path
    process: subprocess.Popen[bytes]

    def log_in(self, name: str) -> BrokerUrl:
        """Give `name` a fresh password, let the broker know, and return the address with the log-in."""
        password = add_password(self.home, name)
        return BrokerUrl(self.url.host, self.url.port, name, password)


def find(program: str) -> str:
    """The path of mosquitto or one of its tools.

    Raises:
        NotInstalled: it is not on the PATH nor where Debian puts it.
    """
    path = shutil.which(program) or shutil.which(program, path=_PATH)
    if path is None:
        raise NotInstalled(f"{program} is not installed: apt install mosquitto")
    return path


def render(port: int, home: Path) -> str:
    """The project's `mosquitto.conf`, with port, user and paths set for a folder.

    Raises:
        ValueError: the file lacks one of the lines that are to be set.
    """
    values = {
        "user": getpass.getuser(),
        "pid_file": str(home / "mosquitto.pid"),
        "log_dest": "stderr",
        "persistence_location": f"{home}/",
        "listener": f"{port} 127.0.0.1",
        "password_file": str(home / "passwords"),
        "acl_file": str(home / "mosquitto.acl"),
    }
    lines = []
    for line in _shipped("mosquitto.conf").splitlines():
        option = line.partition(" ")[0]
        lines.append(f"{option} {values.pop(option)}" if option in values else line)
    if values:
        raise ValueError(f"mosquitto.conf lacks {sorted(values)}")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def mosquitto_broker(port: int, home: Path) -> Iterator[Mosquitto]:
    """Run mosquitto as a child process while the context is open. Its folder outlives it, with what it keeps.

    Args:
        port: of 127.0.0.1.
        home: a folder for it; made if it is not there.

    Raises:
        NotInstalled: there is no mosquitto here.
        BrokerFailed: it did not start.
    """
    program = find("mosquitto")
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    (home / "mosquitto.conf").write_text(render(port, home))
    _private(home / "mosquitto.acl").write_text(_shipped("mosquitto.acl"))
    _private(home / "passwords")
    command = [program, "-c", str(home / "mosquitto.conf")]
    with running(command, port, home / "mosquitto.log") as process:
        yield Mosquitto(BrokerUrl("127.0.0.1", port), home, process)


def run_forever(port: int, home: Path, ready: Callable[[], None]) -> int:
    """Run mosquitto until it ends, or SIGTERM or Ctrl-C comes; see `wait_for`."""
    return wait_for(_process(port, home), ready)


@contextlib.contextmanager
def _process(port: int, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    with mosquitto_broker(port, home) as broker:
        yield broker.process


def add_password(home: Path, name: str) -> str:
    """Give a bank, a merchant or the observer a fresh password and return it.

    The broker of this folder, if it runs, reads the file again; connections that stand are kept.

    Raises:
        PeerError: MALFORMED, nobody may be called so.
        NotInstalled: there is no mosquitto_passwd here.
    """
    if name != OBSERVER:
        check_name(name)
    password = secrets.token_urlsafe(24)
    passwords = _private(home / "passwords")
    subprocess.run([find("mosquitto_passwd"), "-b", str(passwords), name, password], check=True, capture_output=True)
    with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
        os.kill(int((home / "mosquitto.pid").read_text()), signal.SIGHUP)
    return password


def _shipped(name: str) -> str:
    """A file of the project: at the root of the source tree, or installed beside this module."""
    installed = _HERE / name
    return (installed if installed.exists() else _HERE.parent / name).read_text()


def _private(path: Path) -> Path:
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    return path
