from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from broker.address import BrokerUrl
from broker.embedded import embedded_broker
from tests.conftest import free_port

from .process import Processes, processes
from .world import Templates, World, prepare


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    folder = tmp_path_factory.mktemp("template")
    with embedded_broker(free_port(), folder / "broker") as url:
        async with processes() as started:
            return await prepare(folder, url, started)


@pytest.fixture
async def started() -> AsyncIterator[Processes]:
    async with processes() as started:
        yield started


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerUrl]:
    """A broker of one test's own."""
    with embedded_broker(free_port(), tmp_path / "broker") as url:
        yield url


@pytest.fixture
def credited(templates: Templates, tmp_path: Path, broker: BrokerUrl, started: Processes) -> World:
    """Alice has 50.00 in her account; nobody runs but the broker."""
    return templates.credited.move(tmp_path, broker, started)


@pytest.fixture
def with_coins(templates: Templates, tmp_path: Path, broker: BrokerUrl, started: Processes) -> World:
    """Alice has withdrawn 20.00 of it; nobody runs but the broker."""
    return templates.with_coins.move(tmp_path, broker, started)
