"""What `mosquitto.acl` lets wallets give to each other, by what is delivered."""

import asyncio

import aiomqtt
import pytest
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker.address import BrokerUrl
from broker.mosquitto import Mosquitto
from broker.mqtt import MqttLink
from broker.port import Incoming, Outgoing
from protocol import topics

pytestmark = pytest.mark.mosquitto

ALICE, BOB, MALLORY = "a1", "b0b", "ma110ry"
QOS1 = SubscribeOptions(qos=1)


def plain(url: BrokerUrl, client: str) -> aiomqtt.Client:
    return aiomqtt.Client(
        url.host,
        url.port,
        username=url.user,
        password=url.password,
        identifier=client,
        timeout=120,
        protocol=aiomqtt.ProtocolVersion.V5,
    )


async def heard_until(listener: aiomqtt.Client, last: str) -> list[str]:
    """The topics that were delivered, up to and without `last`."""
    heard: list[str] = []
    async with asyncio.timeout(120):
        async for message in listener.messages:
            if message.topic.value == last:
                return heard
            heard.append(message.topic.value)
    raise AssertionError("the connection was lost")


@pytest.mark.parametrize("user", ["anonymous", "shop"])
async def test_nobody_gives_under_another_client_id(own_mosquitto: Mosquitto, user: str) -> None:
    url = own_mosquitto.url if user == "anonymous" else own_mosquitto.log_in(user)
    own = topics.inbox(BOB, MALLORY)
    async with plain(own_mosquitto.url, BOB) as bob, plain(url, MALLORY) as mallory:
        await bob.subscribe(topics.inboxes(BOB), qos=1)
        for topic in (topics.inbox(BOB, ALICE), topics.inbox(BOB, BOB), f"ecash/v1/reply/{BOB}/{MALLORY}"):
            for retain in (False, True):
                await mallory.publish(topic, b"forged", qos=1, retain=retain)
        await mallory.publish(own, b"given", qos=1)
        assert await heard_until(bob, own) == []


@pytest.mark.parametrize("user", ["anonymous", "shop"])
@pytest.mark.parametrize("client", [MALLORY, "+", "#", "b0b/a1"])
async def test_nobody_reads_anothers_inbox(own_mosquitto: Mosquitto, user: str, client: str) -> None:
    url = own_mosquitto.url if user == "anonymous" else own_mosquitto.log_in(user)
    greedy = ["#", "ecash/v1/#", "ecash/v1/inbox/+/+", topics.inboxes(BOB), topics.inbox(BOB, ALICE), "+/+/+/+/+"]
    given = topics.inbox(BOB, ALICE)
    async with (
        plain(url, client) as mallory,
        plain(own_mosquitto.url, BOB) as bob,
        plain(own_mosquitto.url, ALICE) as alice,
    ):
        await mallory.subscribe([(one, QOS1) for one in greedy])
        await bob.subscribe(topics.inboxes(BOB), qos=1)
        await alice.publish(given, b"sealed", qos=1)
        await bob.publish(topics.inbox(BOB, BOB), b"last", qos=1)
        assert await heard_until(bob, topics.inbox(BOB, BOB)) == [given]
        await mallory.subscribe("ecash/v1/nothing", qos=1)  # a round trip: nothing more is under way
        assert len(mallory.messages) == 0


async def test_an_inbox_keeps_what_comes_while_its_owner_is_away(mosquitto_url: BrokerUrl, unique: str) -> None:
    owner, giver = f"owner-{unique}", f"giver-{unique}"
    arrived: asyncio.Queue[Incoming] = asyncio.Queue()

    async def take(message: Incoming) -> None:
        await arrived.put(message)

    async with MqttLink(mosquitto_url, owner, persistent=True) as link:
        await link.subscribe(topics.inboxes(owner))
    async with MqttLink(mosquitto_url, giver, persistent=False) as link:
        await link.publish(Outgoing(topics.inbox(owner, giver), b"sealed"))
    async with MqttLink(mosquitto_url, owner, persistent=True) as link:
        serving = asyncio.create_task(link.serve(take))
        message = await asyncio.wait_for(arrived.get(), 120)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    assert (message.topic, message.payload) == (topics.inbox(owner, giver), b"sealed")
