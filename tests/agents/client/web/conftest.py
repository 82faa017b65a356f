from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agents.world import Town

from .browser import Browser


@pytest.fixture
async def visitor(founded: Town, tmp_path: Path) -> AsyncIterator[Browser]:
    """A browser at the site of a home that holds no wallet yet; nobody else is running."""
    browser = Browser(founded, tmp_path / "alice")
    yield browser
    browser.vault.lock()
    await browser.client.aclose()


@pytest.fixture
async def owner(visitor: Browser) -> Browser:
    """A browser in a new wallet that knows no bank; nobody else is running."""
    await visitor.set_up()
    return visitor


@pytest.fixture
async def alice(town: Town, owner: Browser) -> Browser:
    """A browser in a wallet with an account that holds 1.00 USD, and no coins; bank and shop are open."""
    async with owner.vault.wallet() as wallet:
        await town.customer(wallet, "alice", 100)
    return owner
