from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.mqtt import MqttLink
from broker.port import Link, Outgoing
from tests.conftest import Rig
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network

from .world import START, Town, simulated


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START)


@pytest.fixture
async def network() -> Network:
    return Network()


@pytest.fixture
async def founded(tmp_path: Path, clock: VirtualClock, network: Network) -> AsyncIterator[Town]:
    """A town where nobody is running yet."""
    town = Town(tmp_path, simulated(network), clock)
    await town.found()
    yield town
    await town.close()


@pytest.fixture
async def town(founded: Town) -> Town:
    """A town where bank and shop are open."""
    await founded.start_bank()
    await founded.start_shop()
    return founded


@pytest.fixture
async def real_town(tmp_path: Path, rig: Rig, clock: VirtualClock) -> AsyncIterator[Town]:
    """A town at a real broker."""
    names = {"north-presence": "north", "bookshop-presence": "bookshop"}

    def connect(client: str, *, persistent: bool, will: Outgoing | None = None) -> Link:
        url = rig.log_in(names[client]) if client in names else rig.url
        return MqttLink(url, client, persistent=persistent, will=will)

    town = Town(tmp_path, connect, clock, rig.url.public)
    await town.found()
    await town.start_bank()
    await town.start_shop()
    yield town
    await town.close()
