"""Debian's mosquitto, run with the `mosquitto.conf` and `mosquitto.acl` of this project in a folder of its own."""

import contextlib
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
from .configuration import CONFIGURATION, PASSWORDS, PID, RIGHTS, Plan, render, shipped

OBSERVER: Final = "observer"
"""The log-in that may hear everything and say nothing."""

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


@contextlib.contextmanager
def mosquitto_broker(plan: Plan | int, home: Path) -> Iterator[Mosquitto]:
    """Run mosquitto as a child process while the context is open. Its folder outlives it, with what it keeps.

    Args:
        plan: what it is to do; or only a port of 127.0.0.1, without TLS and websockets.
        home: a folder for it; made if it is not there.

    Raises:
        NotInstalled: there is no mosquitto here.
        BrokerFailed: it did not start.
    """
    program = find("mosquitto")
    home = home.resolve()
    plan = Plan(port=plan) if isinstance(plan, int) else plan
    configure(plan, home)
    command = [program, "-c", str(home / CONFIGURATION)]
    with running(command, plan.port, home / "mosquitto.log") as process:
        yield Mosquitto(BrokerUrl("127.0.0.1", plan.port), home, process)


def configure(plan: Plan, home: Path) -> None:
    """Write configuration and rights into a folder, which is made if it is not there; log-ins are kept.

    Raises:
        ValueError: as `render`.
    """
    text = render(plan, home.resolve())
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / CONFIGURATION).write_text(text)
    _private(home / RIGHTS).write_text(shipped(RIGHTS))
    _private(home / PASSWORDS)


def run_forever(plan: Plan, home: Path, ready: Callable[[], None]) -> int:
    """Run mosquitto until it ends, or SIGTERM or Ctrl-C comes; see `wait_for`."""
    return wait_for(_process(plan, home), ready)


@contextlib.contextmanager
def _process(plan: Plan, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    with mosquitto_broker(plan, home) as broker:
        yield broker.process


def add_password(home: Path, name: str) -> str:
    """Give a bank, a merchant or the observer a fresh password and return it.

    The broker of this folder, if it runs, reads the file again; connections that stand are kept.

    Raises:
        PeerError: MALFORMED, nobody may be called so.
        NotInstalled: there is no mosquitto_passwd here.
    """
    check_log_in(name)
    password = secrets.token_urlsafe(24)
    passwords = _private(home / PASSWORDS)
    twice = f"{password}\n{password}\n".encode()  # it asks twice; as an argument every user of the machine could see it
    subprocess.run([find("mosquitto_passwd"), str(passwords), name], input=twice, check=True, capture_output=True)
    reload(home)
    return password


def check_log_in(name: str) -> None:
    """Raise `PeerError` (MALFORMED) unless this is the observer, or a bank or merchant may be called so."""
    if name != OBSERVER:
        check_name(name)


def reload(home: Path) -> None:
    """Have the broker of this folder, if it runs, read log-ins, rights and certificates again, but not listeners."""
    with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
        os.kill(int((home / PID).read_text()), signal.SIGHUP)


def _private(path: Path) -> Path:
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    return path
