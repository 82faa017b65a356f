import asyncio
import shutil
from pathlib import Path

import pytest

from agents.bank.sqlite import SqliteBooks
from tests.agents.bank.audited import do_business
from tests.agents.byhand import Caller, Purse, client, shopkeeper
from tests.agents.world import Town
from tests.conformance.bookkeeping import ManualClock


@pytest.fixture
async def alice(founded: Town) -> Caller:
    return await client(founded)


@pytest.fixture
async def keeper(founded: Town) -> Caller:
    return await shopkeeper(founded)


@pytest.fixture
async def purse(alice: Caller) -> Purse:
    """Coins of 8, 4 and 1; the account holds 86 after that."""
    return await alice.withdraw(8, 4, 1)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Books with business in them, and a folded balance after each debit."""
    path = tmp_path_factory.mktemp("finished") / "books.db"

    async def make() -> None:
        async with SqliteBooks(path, ManualClock()) as books:
            await do_business(books)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agents.bank.journal.FOLD_AFTER", 0)
        asyncio.run(make())
    return path


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished books, to be tampered with."""
    return Path(shutil.copy(finished, tmp_path))
