"""The broker that comes with pip (iotcore, rumqttd inside): for development and tests only.

It has no rights (everybody may publish and hear everything), keeps nothing on disk, and listens on 127.0.0.1.
"""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from .address import BrokerUrl
from .child import running, wait_for

_CONFIG: Final = """\
id = 0

[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 10485760
max_segment_count = 10

[v5.1]
name = "v5"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1114112
max_inflight_count = 100
dynamic_filters = true
"""


@contextlib.contextmanager
def embedded_broker(port: int, home: Path) -> Iterator[BrokerUrl]:
    """Run the broker as a child process while the context is open.

    Args:
        port: of 127.0.0.1.
        home: a folder for its configuration and log; made if it is not there.

    Raises:
        BrokerFailed: it did not start.
    """
    with _process(port, home):
        yield BrokerUrl("127.0.0.1", port)


def run_forever(port: int, home: Path, ready: Callable[[], None]) -> int:
    """Run the broker until it ends, or SIGTERM or Ctrl-C comes; see `wait_for`."""
    return wait_for(_process(port, home), ready)


@contextlib.contextmanager
def _process(port: int, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    home.mkdir(parents=True, exist_ok=True)
    config = home / "iotcore.toml"
    config.write_text(_CONFIG.format(port=port))
    # rumqttd writes every packet to its log as an error, so only what is worse is let through.
    command = [sys.executable, "-P", "-m", "iotcore", "--config", str(config), "--log-level", "CRITICAL"]
    with running(command, port, home / "iotcore.log") as process:
        yield process
