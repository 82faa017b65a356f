import pytest

from tests.agents.byhand import Caller, Purse, client, shopkeeper
from tests.agents.world import Town


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
