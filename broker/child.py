"""A broker as a child process that is known to accept connections."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

START_S: Final = 60.0
STOP_S: Final = 5.0
_LOOK_S: Final = 0.02


class BrokerFailed(RuntimeError):
    """The broker did not start; the message has the end of its log."""


@contextlib.contextmanager
def running(command: Sequence[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a broker, wait until it accepts on 127.0.0.1, and end it on leaving.

    Args:
        command: program and arguments.
        port: where it is going to listen.
        log: takes its output, appended.

    Raises:
        BrokerFailed: somebody else listens there, the program ended, or did not accept within 60 s.
    """
    if accepts(port):
        raise BrokerFailed(f"port {port} is taken")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    try:
        _await_listener(process, port, log)
        yield process
    finally:
        stop(process)


def wait_for(
    broker: contextlib.AbstractContextManager[subprocess.Popen[bytes]], ready: Callable[[], None] = lambda: None
) -> int:
    """Run a broker until it ends, and return its exit status; or until SIGTERM or Ctrl-C ends it, and return 0.

    For the main thread of a process that does nothing else. `ready` is called when the broker accepts connections.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the broker would outlive us
    try:
        with broker as process:
            ready()
            return process.wait()
    except KeyboardInterrupt:
        return 0


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end, and make it end after 5 s. Safe to call again."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def accepts(port: int) -> bool:
    """True if something accepts TCP connections at this port of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _await_listener(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not accepts(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise BrokerFailed(f"{process.args!r} did not start:\n{_end_of(log)}")
        time.sleep(_LOOK_S)


def _end_of(log: Path) -> str:
    return log.read_bytes()[-2000:].decode(errors="replace")
