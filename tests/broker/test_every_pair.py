"""Every role with every topic, at every listener, by what is delivered: mosquitto grants every subscription."""

import asyncio
import contextlib
import itertools
from typing import Final

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker.connection import Connection
from broker.mqtt import MqttLink
from broker.port import Incoming, NotAuthorized, Outgoing
from protocol import topics

from .town import END, LOG_INS, QOS1, ROLES, Role, Town, heard_until, listening, plain

pytestmark = pytest.mark.mosquitto

WAYS: Final = ("loopback", "tls", "certificate", "websocket", "secure-websocket")
CLIENTS: Final = tuple(role.client for role in ROLES)
NAMES: Final = ("bank", "north", "shop", "observer")
OURS: Final = (
    *(f"ecash/v1/{name}/{what}" for name in NAMES for what in sorted(topics.ANNOUNCEMENTS)),
    *(topics.bank_request("bank", 0, "deposit", client) for client in CLIENTS),
    *(topics.bank_request("north", 255, "withdraw", client) for client in CLIENTS),
    *(topics.merchant_request("shop", kind, client) for kind in sorted(topics.MERCHANT_KINDS) for client in CLIENTS),
    *(f"ecash/v1/reply/{client}/{name}" for client in CLIENTS for name in NAMES),
    *(topics.inbox(client, sender) for client in CLIENTS for sender in CLIENTS),
)
SOME: Final = OURS[::5]
NOT_OURS: Final = (
    "ecash/v1",
    "ecash/v1/bank",
    "ecash/v1/bank/keys/more",
    "ecash/v1/bank/0",
    "ecash/v1//keys",
    "ecash/v1/bank/deposit/a11ce",
    "ecash/v1/reply/a11ce",
    "ecash/v1/reply/a11ce/bank/more/levels",
    "ecash/v1/inbox/a11ce",
    "ecash/v2/bank/keys",
    "/ecash/v1/bank/keys",
    "elsewhere",
    "$SYS/broker/version",
    "$CONTROL/dynamic-security/v1",
    "$share/group/ecash/v1/bank/keys",
)
GREEDY: Final = (
    "#",
    "+/#",
    "ecash/#",
    "ecash/v1/#",
    "+/+/+/+",
    "+/+/+/+/+",
    "+/+/+/+/+/+",
    "$SYS/#",
    "$CONTROL/#",
    "/#",
)


async def say_the_end(town: Town) -> None:
    async with plain(town.way("loopback", "sentinel"), "sentinel-0") as last:
        await last.publish(END, b"end", qos=1)


async def publish_all(client: aiomqtt.Client, role: Role, said: tuple[str, ...], *, retain: bool) -> None:
    for topic in said:
        await client.publish(topic, role.name.encode(), qos=1, retain=retain)


@pytest.mark.parametrize(("way", "said"), [("loopback", OURS + NOT_OURS), *((way, SOME) for way in WAYS[1:])])
async def test_what_each_role_publishes_is_delivered_only_where_it_may(
    town: Town, way: str, said: tuple[str, ...]
) -> None:
    async with asyncio.timeout(120), contextlib.AsyncExitStack() as stack:
        ear = await stack.enter_async_context(
            listening(town.way("loopback", "observer"), "observer-ear", "#", "$SYS/#", "$CONTROL/#", "/#")
        )
        for role in ROLES:
            client = await stack.enter_async_context(plain(town.way(way, role.user), role.client))
            await publish_all(client, role, said, retain=False)
        await say_the_end(town)
        heard = {(message.payload, message.topic.value) for message in await heard_until(ear, END)}
    expected = {(role.name.encode(), topic) for role in ROLES for topic in said if role.may_publish(topic)}
    assert heard == expected
    assert {who for who, _ in expected} == {role.name.encode() for role in ROLES}


@pytest.mark.parametrize(("way", "said"), [("loopback", OURS), *((way, SOME) for way in WAYS[1:])])
async def test_each_role_hears_only_what_it_may(town: Town, way: str, said: tuple[str, ...]) -> None:
    names = [Role(name, name, f"{name}-9") for name in LOG_INS]
    async with asyncio.timeout(120), contextlib.AsyncExitStack() as stack:
        clients = dict[Role, aiomqtt.Client]()
        for role in ROLES:
            listener = listening(town.way(way, role.user), role.client, *GREEDY, f"$share/{role.client}/ecash/v1/#")
            clients[role] = await stack.enter_async_context(listener)
        for name in names:
            clients[name] = await stack.enter_async_context(plain(town.way("loopback", name.user), name.client))
        spoken = set()
        for topic in said:
            sender = next((role for role in clients if role.may_publish(topic)), None)
            if sender:
                await clients[sender].publish(topic, b"said", qos=1)
                spoken.add(topic)
        await say_the_end(town)
        for role in ROLES:
            heard = {message.topic.value for message in await heard_until(clients[role], END)} - {END}
            assert heard == {topic for topic in spoken if role.may_hear(topic)}, role
        assert all(any(role.may_hear(topic) for topic in spoken) for role in ROLES)


async def test_mqtt_5_says_what_is_forbidden(town: Town) -> None:
    role = ROLES[0]
    client = Connection(
        town.way("loopback", role.user), role.client, persistent=False, will=None, arrived=lambda _: None
    )
    await client.open()
    try:
        for topic in OURS + NOT_OURS:
            if not role.may_publish(topic):
                message = Outgoing(topic, b"forged", retain=True)
                with pytest.raises(NotAuthorized):
                    await client.finish(message, client.start(message))
    finally:
        await client.close()


async def test_what_is_kept_for_those_who_come_later_was_said_by_who_may(town: Town) -> None:
    roles = [role for role in ROLES if role.user != "observer"]
    announced = tuple(topic for topic in OURS if topic.split("/")[-1] in topics.ANNOUNCEMENTS)
    async with asyncio.timeout(120):
        for role in roles:
            async with plain(town.way("loopback", role.user), role.client) as client:
                await publish_all(client, role, announced, retain=True)
        async with listening(town.way("loopback", None), "late", *announced, END) as late:
            await say_the_end(town)
            kept = {(message.payload, message.topic.value) for message in await heard_until(late, END)}
        for role in roles:
            async with plain(town.way("loopback", role.user), role.client) as client:
                for topic in announced:
                    await client.publish(topic, b"", qos=1, retain=True)
    assert kept == {(role.name.encode(), topic) for role in roles for topic in announced if role.may_publish(topic)}


async def test_a_last_will_goes_no_further_than_its_sender_may(town: Town) -> None:
    mallory = ROLES[1]
    wills = [*OURS[:8], *itertools.islice((one for one in OURS if mallory.may_publish(one)), 0, None, 9)]
    async with asyncio.timeout(120), listening(town.way("loopback", "observer"), "observer-ear", "#") as ear:
        for topic in wills:
            first = plain(town.way("loopback", None), mallory.client, aiomqtt.Will(topic, b"will", qos=1, retain=False))
            await first.__aenter__()
            async with plain(town.way("loopback", None), mallory.client):  # takes its place: the will is due
                pass
            with contextlib.suppress(aiomqtt.MqttError):
                await first.__aexit__(None, None, None)
        await say_the_end(town)
        heard = {message.topic.value for message in await heard_until(ear, END)}
    assert heard == {topic for topic in wills if mallory.may_publish(topic)} != set()


async def test_a_topic_alias_is_no_way_round(town: Town) -> None:
    alias = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    alias.TopicAlias = 1
    own = topics.inbox("a11ce", "b0b")
    async with asyncio.timeout(120), listening(town.way("loopback", "observer"), "observer-ear", "#") as ear:
        async with plain(town.way("loopback", None), "b0b") as mallory:
            await mallory.publish(own, b"1", qos=1, properties=alias)
            await mallory.publish("", b"2", qos=1, properties=alias)
            await mallory.publish(topics.keys("bank"), b"3", qos=1, properties=alias)
            with contextlib.suppress(aiomqtt.MqttError):
                await mallory.publish("", b"4", qos=1, properties=alias)
        await say_the_end(town)
        heard = [(message.topic.value, message.payload) for message in await heard_until(ear, END)]
    assert [one for one in heard if one[0] != own] == []
    assert heard[:2] == [(own, b"1"), (own, b"2")]


@pytest.mark.parametrize("share", ["$share/lanes/", "$share/0/", ""])
async def test_a_shared_subscription_takes_nothing_from_a_bank(town: Town, share: str) -> None:
    lane = topics.bank_requests("bank", 0)
    request = topics.bank_request("bank", 0, "deposit", "a11ce")
    async with (
        asyncio.timeout(120),
        listening(town.way("loopback", None), "b0b", f"{share}{lane}", f"{share}#", END) as mallory,
        listening(town.way("loopback", "bank"), "bank-0", lane, END) as bank,
    ):
        async with plain(town.way("loopback", None), "a11ce") as alice:
            for _ in range(10):
                await alice.publish(request, b"asked", qos=1)
        await say_the_end(town)
        assert [message.topic.value for message in await heard_until(bank, END)] == [request] * 10
        assert {message.topic.value for message in await heard_until(mallory, END)} <= {END}


async def test_an_agent_is_not_sent_requests_that_a_poisoner_has_had_kept(town: Town) -> None:
    lane, request = topics.bank_requests("bank", 7), topics.bank_request("bank", 7, "deposit", "b0b")
    arrived: asyncio.Queue[Incoming] = asyncio.Queue()

    async def take(message: Incoming) -> None:
        await arrived.put(message)

    async with asyncio.timeout(120), plain(town.way("loopback", None), "b0b") as mallory:
        await mallory.publish(request, b"poison", qos=1, retain=True)
        async with MqttLink(town.way("loopback", "bank"), "bank-7", persistent=False) as bank:
            await bank.subscribe(lane)
            await mallory.publish(request, b"asked", qos=1)
            serving = asyncio.create_task(bank.serve(take))
            assert (await arrived.get()).payload == b"asked"
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        async with listening(town.way("loopback", "bank"), "bank-8", lane) as other:  # it was kept indeed
            assert (await anext(aiter(other.messages))).payload == b"poison"
        await mallory.publish(request, b"", qos=1, retain=True)


async def test_what_a_log_in_may_follows_from_the_name_not_from_the_client_id(town: Town) -> None:
    """Two banks and merchants that know each other's client ids get nothing by them but silence for the other."""
    request = topics.bank_request("bank", 0, "deposit", "a11ce")
    filters = [(topics.bank_requests("bank", 0), QOS1), (END, QOS1)]
    async with asyncio.timeout(120):
        async with plain(town.way("certificate", "bank"), "bank-known", stays=True) as bank:
            await bank.subscribe(filters)
        async with plain(town.way("loopback", None), "a11ce") as alice:
            await alice.publish(request, b"waiting", qos=1)
        async with plain(town.way("certificate", "north"), "bank-known", stays=True) as thief:
            async with plain(town.way("loopback", None), "a11ce") as alice:
                await alice.publish(request, b"sent to the thief", qos=1)
            await say_the_end(town)
            assert {message.topic.value for message in await heard_until(thief, END)} <= {END}
            await thief.unsubscribe([name for name, _ in filters])
