import pytest

from broker.port import Link, Outgoing
from tests.conformance.link import LinkConformance, World

from .network import Network, matches


class SimulatedWorld(World):
    def __init__(self) -> None:
        self._network = Network()

    async def link(self, client: str, owner: str | None = None, will: Outgoing | None = None) -> Link:
        return self._network.link(client, persistent=owner is not None, will=will)

    def cut(self, client: str) -> None:
        self._network.cut(client)

    async def restart(self) -> None:
        self._network.restart()


@pytest.fixture
async def world() -> World:
    return SimulatedWorld()


class TestSimulatedLink(LinkConformance):
    pass


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matched"),
    [("a/+/c", "a/b/c", True), ("a/+", "a/b/c", False), ("a/b", "a/b", True), ("+/b", "a/c", False)],
)
def test_a_plus_stands_for_one_level(topic_filter: str, topic: str, matched: bool) -> None:
    assert matches(topic_filter, topic) is matched
