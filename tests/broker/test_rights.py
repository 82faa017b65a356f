"""What `mosquitto.acl` lets pass, by what is delivered: mosquitto grants every subscription and then filters."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker.address import BrokerUrl
from broker.mosquitto import OBSERVER, Mosquitto
from protocol import topics
from protocol.errors import PeerError

pytestmark = pytest.mark.mosquitto

ALICE = "alice0"
MALLORY = "mallory0"
SENTINEL = "ecash/v1/sentinel/keys"
QOS1 = SubscribeOptions(qos=1)


@pytest.fixture
def broker(own_mosquitto: Mosquitto) -> Mosquitto:
    return own_mosquitto


@pytest.fixture
def bank(broker: Mosquitto) -> BrokerUrl:
    return broker.log_in("bank")


@pytest.fixture
def shop(broker: Mosquitto) -> BrokerUrl:
    return broker.log_in("shop")


@pytest.fixture
def observer(broker: Mosquitto) -> BrokerUrl:
    return broker.log_in(OBSERVER)


@pytest.fixture
def sentinel(broker: Mosquitto) -> BrokerUrl:
    return broker.log_in("sentinel")


def plain(url: BrokerUrl, client: str, will: aiomqtt.Will | None = None, clean: bool = True) -> aiomqtt.Client:
    session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    session.SessionExpiryInterval = 0 if clean else 3600
    return aiomqtt.Client(
        url.host,
        url.port,
        username=url.user,
        password=url.password,
        identifier=client,
        timeout=120,
        protocol=aiomqtt.ProtocolVersion.V5,
        will=will,
        clean_start=clean,
        properties=session,
    )


@contextlib.asynccontextmanager
async def listening(url: BrokerUrl, client: str, *filters: str) -> AsyncIterator[aiomqtt.Client]:
    async with plain(url, client) as listener:
        await listener.subscribe([(name, QOS1) for name in filters])
        yield listener


async def heard_until(listener: aiomqtt.Client, last: str) -> list[str]:
    """The topics that were delivered, up to and without `last`."""
    heard: list[str] = []
    async with asyncio.timeout(120):
        async for message in listener.messages:
            if message.topic.value == last:
                return heard
            heard.append(message.topic.value)
    raise AssertionError("the connection was lost")


async def heard_by_now(listener: aiomqtt.Client) -> list[str]:
    """The topics that were delivered; a round trip behind them shows that nothing more is under way."""
    await listener.subscribe("ecash/v1/nothing", qos=1)
    messages = aiter(listener.messages)
    return [(await anext(messages)).topic.value for _ in range(len(listener.messages))]


FORBIDDEN_TO_ALL = [
    "ecash/v1/bank/keys",
    "ecash/v1/bank/status",
    "ecash/v1/bank/catalog",
    "ecash/v1/bank/totals",
    f"ecash/v1/bank/0/withdraw/{ALICE}",
    f"ecash/v1/other/order/{ALICE}",
    f"ecash/v1/other/pay/{ALICE}",
    f"ecash/v1/other/refund/{ALICE}",
    f"ecash/v1/reply/{ALICE}/bank",
    f"ecash/v1/reply/{MALLORY}/bank",
    f"ecash/v1/inbox/{ALICE}/{ALICE}",
    f"ecash/v1/inbox/{ALICE}/bank",
    f"ecash/v1/inbox/{MALLORY}/{ALICE}",
    f"ecash/v1/inbox/{ALICE}",
    f"ecash/v1/inbox/{ALICE}/0/{MALLORY}/more",
    f"ecash/v1/bank/deposit/{MALLORY}",
    "ecash/v1/bank",
    "ecash/v1/bank/keys/more",
]


@pytest.mark.parametrize("user", ["anonymous", "shop", "observer"])
async def test_nobody_publishes_in_the_name_of_others(
    broker: Mosquitto, observer: BrokerUrl, shop: BrokerUrl, user: str
) -> None:
    url = {"anonymous": broker.url, "shop": shop, "observer": observer}[user]
    allowed = topics.bank_request("bank", 0, "withdraw", MALLORY)
    async with listening(observer, "observer-0", "ecash/v1/#") as ear, plain(url, MALLORY) as mallory:
        for topic in FORBIDDEN_TO_ALL:
            for retain in (False, True):
                await mallory.publish(topic, b"forged", qos=1, retain=retain)
        await mallory.publish(allowed, b"asked", qos=1)
        assert await heard_until(ear, allowed) == []


async def test_a_shop_answers_and_announces_in_its_own_name(shop: BrokerUrl, observer: BrokerUrl) -> None:
    own = [topics.catalog("shop"), topics.status("shop"), topics.totals("shop"), f"ecash/v1/reply/{ALICE}/shop"]
    async with listening(observer, "observer-0", "ecash/v1/#") as ear, plain(shop, "shop-0") as agent:
        for topic in (*own, topics.keys("shop")):
            await agent.publish(topic, b"said", qos=1)
        assert await heard_until(ear, topics.keys("shop")) == own


@pytest.mark.parametrize("user", ["anonymous", "shop"])
@pytest.mark.parametrize("client", [MALLORY, "bank", "+", "#", "alice0/bank", "observer"])
async def test_nobody_hears_what_is_for_others(
    broker: Mosquitto, bank: BrokerUrl, shop: BrokerUrl, sentinel: BrokerUrl, user: str, client: str
) -> None:
    url = broker.url if user == "anonymous" else shop
    greedy = [
        "#",
        "ecash/v1/#",
        "+/+/+/+/+",
        "ecash/v1/inbox/+/+",
        topics.inboxes("bob0"),
        f"ecash/v1/reply/{ALICE}/bank",
        "ecash/v1/bank/0/+/+",
    ]
    request = topics.bank_request("bank", 0, "withdraw", ALICE)
    order = topics.merchant_request("other", "order", ALICE)
    gift = topics.inbox("bob0", ALICE)
    async with (
        listening(url, client, *greedy, "$SYS/#", SENTINEL) as mallory,
        listening(bank, "bank-0", topics.bank_requests("bank", 0)) as agent,
        plain(sentinel, "sentinel-0") as last,
        plain(broker.url, ALICE) as alice,
    ):
        await alice.publish(request, b"asked", qos=1)
        await alice.publish(order, b"asked", qos=1)
        await alice.publish(gift, b"given", qos=1)
        assert await heard_until(agent, request) == []
        await agent.publish(f"ecash/v1/reply/{ALICE}/bank", b"answered", qos=1)
        await last.publish(SENTINEL, b"announced", qos=1)
        # mosquitto gives nothing at all by pattern to an id with a wildcard in it
        announced = set() if client in {"+", "#"} else {SENTINEL}
        assert set(await heard_by_now(mallory)) == announced


async def test_buyers_hear_their_own_answers_and_what_is_announced(broker: Mosquitto, bank: BrokerUrl) -> None:
    own = f"ecash/v1/reply/{ALICE}/bank"
    announced = [topics.status("bank"), topics.totals("bank"), topics.keys("bank")]
    async with (
        listening(broker.url, ALICE, topics.replies(ALICE), *announced) as alice,
        plain(bank, "bank-0") as agent,
    ):
        for topic in (own, *announced):
            await agent.publish(topic, b"said", qos=1)
        assert await heard_until(alice, announced[-1]) == [own, *announced[:-1]]


async def test_wallets_give_to_each_other_under_their_own_ids_and_nobody_else_hears(
    broker: Mosquitto, sentinel: BrokerUrl, shop: BrokerUrl
) -> None:
    given = topics.inbox(ALICE, "bob0")
    async with (
        listening(broker.url, ALICE, topics.inboxes(ALICE)) as alice,
        listening(broker.url, MALLORY, topics.inboxes(ALICE), SENTINEL) as mallory,
        listening(shop, "shop-0", topics.inboxes(ALICE), SENTINEL) as till,
        plain(broker.url, "bob0") as bob,
        plain(sentinel, "sentinel-0") as last,
    ):
        await bob.publish(topics.inbox(ALICE, MALLORY), b"in the name of another", qos=1)
        await bob.publish(topics.inbox(MALLORY, "bob0"), b"for another", qos=1)
        await bob.publish(given, b"given", qos=1)
        assert await heard_until(alice, given) == []
        await last.publish(SENTINEL, b"announced", qos=1)
        for ear in (mallory, till):
            assert await heard_until(ear, SENTINEL) == []


@pytest.mark.parametrize("client", ["a/b", "alice0/bank", "+", "#"])
async def test_a_client_id_that_is_none_of_ours_makes_no_topic_of_ours(
    broker: Mosquitto, observer: BrokerUrl, sentinel: BrokerUrl, client: str
) -> None:
    async with (
        listening(observer, "observer-0", "ecash/v1/#") as ear,
        plain(broker.url, client) as mallory,
        plain(sentinel, "sentinel-0") as last,
    ):
        for base in (
            "ecash/v1/bank/0/withdraw",
            "ecash/v1/shop/order",
            "ecash/v1/reply",
            "ecash/v1/inbox/bob0",
            "ecash/v1/bank",
        ):
            for tail in (client, "alice0", "alice0/bank"):
                with contextlib.suppress(ValueError):  # wildcards do not leave this client
                    await mallory.publish(f"{base}/{tail}", b"forged", qos=1)
        await last.publish(SENTINEL, b"announced", qos=1)
        for topic in await heard_until(ear, SENTINEL):
            with pytest.raises(PeerError):
                topics.parse(topic)


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("bank", None),
        ("bank", ""),
        ("bank", "wrong"),
        ("nobody", None),
        ("nobody", "x"),
    ],
)
async def test_a_log_in_that_is_not_proven_is_refused(
    broker: Mosquitto, bank: BrokerUrl, user: str, password: str | None
) -> None:
    with pytest.raises(aiomqtt.MqttError):
        async with plain(BrokerUrl(bank.host, bank.port, user, password), MALLORY):
            pass


async def test_a_client_without_an_id_of_its_own_hears_announcements_only(
    broker: Mosquitto, bank: BrokerUrl, sentinel: BrokerUrl
) -> None:
    async with listening(broker.url, "", "ecash/v1/#") as ear, plain(bank, "bank-0") as speaker:
        await speaker.publish(f"ecash/v1/reply/{ALICE}/bank", b"for alice", qos=1)
        await speaker.publish("ecash/v1/reply//bank", b"for nobody", qos=1)
        await speaker.publish(topics.keys("bank"), b"for all", qos=1)
        async with plain(sentinel, "sentinel-0") as end:
            await end.publish(SENTINEL, b"", qos=1)
        assert await heard_until(ear, SENTINEL) == [topics.keys("bank")]


async def test_a_last_will_is_no_way_round(broker: Mosquitto, observer: BrokerUrl) -> None:
    will = aiomqtt.Will(topics.status("bank"), b"gone", qos=1, retain=True)
    allowed = topics.bank_request("bank", 0, "withdraw", MALLORY)
    async with listening(observer, "observer-0", "ecash/v1/#") as ear:
        first = plain(broker.url, MALLORY, will)
        await first.__aenter__()
        async with plain(broker.url, MALLORY) as second:  # takes the place of the first, whose will is due
            await second.publish(allowed, b"asked", qos=1)
            assert await heard_until(ear, allowed) == []
        with contextlib.suppress(aiomqtt.MqttError):
            await first.__aexit__(None, None, None)


async def test_who_takes_the_place_of_an_agent_hears_nothing_that_is_the_agents(
    broker: Mosquitto, bank: BrokerUrl, sentinel: BrokerUrl
) -> None:
    filters = [(topics.bank_requests("bank", 0), QOS1), (SENTINEL, QOS1)]
    async with plain(bank, "bank-0", clean=False) as agent:
        await agent.subscribe(filters)
    async with plain(broker.url, ALICE) as alice, plain(sentinel, "sentinel-0") as last:
        request = topics.bank_request("bank", 0, "withdraw", ALICE)
        await alice.publish(request, b"waiting for the agent", qos=1)
        await last.publish(SENTINEL, b"announced", qos=1)
        async with plain(broker.url, "bank-0", clean=False) as thief:
            await alice.publish(request, b"sent to the thief", qos=1)
            await last.publish(SENTINEL, b"announced", qos=1)
            assert await heard_by_now(thief) == [SENTINEL, SENTINEL]


async def test_the_observer_hears_everything(broker: Mosquitto, observer: BrokerUrl, bank: BrokerUrl) -> None:
    request = topics.bank_request("bank", 0, "withdraw", ALICE)
    order = topics.merchant_request("shop", "order", ALICE)
    answer = f"ecash/v1/reply/{ALICE}/bank"
    async with (
        listening(observer, "observer-0", "ecash/v1/#") as ear,
        plain(broker.url, ALICE) as alice,
        plain(bank, "bank-0") as agent,
    ):
        await alice.publish(request, b"asked", qos=1)
        await alice.publish(order, b"asked", qos=1)
        await agent.publish(answer, b"answered", qos=1)
        await agent.publish(topics.keys("bank"), b"announced", qos=1)
        assert await heard_until(ear, topics.keys("bank")) == [request, order, answer]
