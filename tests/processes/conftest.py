import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from broker.embedded import embedded_broker
from tests.conftest import free_port

from .process import KILLED, Processes, processes
from .world import Templates, prepare

# Who runs the tests in the background may have it ignored, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    folder = tmp_path_factory.mktemp("template")
    with embedded_broker(free_port(), folder / "broker") as url:
        async with processes() as started:
            return await prepare(folder, url, started)


@pytest.fixture
async def started() -> AsyncIterator[Processes]:
    """The processes of one test."""
    async with processes() as started:
        yield started


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how large the crash matrix was."""
    if KILLED:
        steps = f"{len(KILLED)} trace points, {KILLED.total()} times kill -9 of an agent there"
        terminalreporter.write_line(steps)
