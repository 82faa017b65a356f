import pytest

from tests.world import World
from tests.world import world as make_world


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()
