"""Brokers for the tests, one of each kind for the whole run, on free ports."""

import atexit
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from broker.address import BrokerUrl
from broker.embedded import embedded_broker
from broker.mosquitto import Mosquitto, NotInstalled, add_password, find, mosquitto_broker

# What takes how long is the machine's affair: it may stand still at any time.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


class Rig:
    """A broker that runs, and can be ended and started again on the same port and folder."""

    def __init__(self, start: Callable[[], AbstractContextManager[BrokerUrl]], passwords: Path | None) -> None:
        self._start = start
        self._passwords = passwords
        self._running = contextlib.ExitStack()
        self.url = self._running.enter_context(start())

    def log_in(self, name: str) -> BrokerUrl:
        """The address for an agent that has a log-in, if this broker has log-ins."""
        if self._passwords is None:
            return self.url
        return BrokerUrl(self.url.host, self.url.port, name, add_password(self._passwords, name))

    def restart(self) -> None:
        self.stop()
        self._running.enter_context(self._start())

    def stop(self) -> None:
        self._running.close()


_TAKEN: Final = contextlib.ExitStack()
"""Names that hold the ports of this process."""
atexit.register(_TAKEN.close)


def free_port() -> int:
    """Return a port that nobody else takes before the caller listens there, however late, nor while it is away.

    It is below those that the kernel gives to connections, and held by a name, until this process ends, against other
    runs of the tests at the same time.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0ecash-tests-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            name.close()
            continue
        _TAKEN.enter_context(name)
        return port


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    port, home = free_port(), tmp_path_factory.mktemp("iotcore")
    rig = Rig(lambda: embedded_broker(port, home), None)
    yield rig
    rig.stop()


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    try:
        find("mosquitto")
    except NotInstalled as missing:
        pytest.skip(str(missing))
    port, home = free_port(), tmp_path_factory.mktemp("mosquitto")

    @contextlib.contextmanager
    def start() -> Iterator[BrokerUrl]:
        with mosquitto_broker(port, home) as broker:
            yield broker.url

    rig = Rig(start, home)
    yield rig
    rig.stop()


@pytest.fixture(params=["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def rig(request: pytest.FixtureRequest) -> Rig:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Rig)
    return found


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Commands set up logging for their process: here it must not outlast the test."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def embedded_url(embedded: Rig) -> BrokerUrl:
    return embedded.url


@pytest.fixture
def mosquitto_url(mosquitto: Rig) -> BrokerUrl:
    return mosquitto.url


@pytest.fixture
def broker_url(rig: Rig) -> BrokerUrl:
    return rig.url


@pytest.fixture
def unique() -> str:
    """A word that no other test uses, for names and client ids: 8 of 0-9a-f."""
    return secrets.token_hex(4)


@pytest.fixture
def own_mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A mosquitto of one test's own."""
    try:
        find("mosquitto")
    except NotInstalled as missing:
        pytest.skip(str(missing))
    with mosquitto_broker(free_port(), tmp_path) as broker:
        yield broker
