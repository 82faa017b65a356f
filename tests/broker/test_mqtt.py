import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncIterator

import aiomqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.address import BrokerUrl
from broker.connection import Connection
from broker.mqtt import MqttLink, pause_s
from broker.port import MAX_PAYLOAD, Incoming, Link, LinkDown, NotAuthorized, NotDelivered, Outgoing, TooLarge
from protocol import topics
from protocol.errors import PeerError
from tests.conformance.link import Asker, Bank, LinkConformance, World
from tests.conformance.wire import Wire
from tests.conftest import Rig, free_port


class MqttWorld(World):
    def __init__(self, rig: Rig, wires: contextlib.AsyncExitStack) -> None:
        self._rig = rig
        self._open = wires
        self._wires: dict[str, Wire] = {}

    async def link(self, client: str, owner: str | None = None, will: Outgoing | None = None) -> Link:
        wire = self._wires[client] = await self._open.enter_async_context(Wire(self._rig.url.port))
        url = self._rig.log_in(owner) if owner else self._rig.url
        through = BrokerUrl(url.host, wire.port, url.user, url.password)
        return MqttLink(through, client, persistent=owner is not None, will=will, patience_s=120)

    def cut(self, client: str) -> None:
        self._wires[client].cut()

    async def restart(self) -> None:
        await asyncio.to_thread(self._rig.restart)


@pytest.fixture
async def world(rig: Rig) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as wires:
        yield MqttWorld(rig, wires)


class TestMqttLink(LinkConformance):
    pass


async def test_what_is_noted_while_the_link_comes_up_is_not_forgotten(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    granting, go_on, heard = asyncio.Event(), asyncio.Event(), asyncio.Event()
    grant, late = Connection.grant, Outgoing(topics.status("north"), b"late", retain=True)

    async def slow_grant(self: Connection, filters: tuple[str, ...]) -> None:
        await grant(self, filters)
        granting.set()
        await go_on.wait()

    async def hear(message: Incoming) -> None:
        if (message.topic, message.payload) == (late.topic, late.payload):
            heard.set()

    async def note(link: Link) -> None:
        await granting.wait()
        assert not link.connected
        await link.subscribe(late.topic)
        await link.announce(late)
        go_on.set()

    monkeypatch.setattr(Connection, "grant", slow_grant)
    link = MqttLink(rig.log_in("north"), "north-late", persistent=False)
    await link.subscribe(topics.keys("north"))
    noting = asyncio.create_task(note(link))
    async with asyncio.timeout(120), link:
        serving = asyncio.create_task(link.serve(hear))
        await heard.wait()
        await noting
        await link.publish(Outgoing(late.topic, b"", retain=True))
        serving.cancel()


async def test_entering_fails_when_there_is_no_broker() -> None:
    url = BrokerUrl("127.0.0.1", free_port())
    with pytest.raises(LinkDown, match=url.public):
        async with MqttLink(url, "client", persistent=False, patience_s=0.2):
            pass


async def test_entering_fails_when_what_listens_is_silent() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with server:
        url = BrokerUrl("127.0.0.1", server.sockets[0].getsockname()[1])
        async with asyncio.timeout(120):
            with pytest.raises(LinkDown):
                async with MqttLink(url, "client", persistent=False, patience_s=0.2):
                    pass


async def test_entering_fails_when_the_host_can_have_no_address() -> None:
    with pytest.raises(LinkDown, match="no connection"):
        async with MqttLink(BrokerUrl("h" * 70 + ".example"), "client", persistent=False, patience_s=0.2):
            pass


async def test_entering_fails_when_what_listens_hangs_up() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        url = BrokerUrl("127.0.0.1", server.sockets[0].getsockname()[1])
        with pytest.raises(LinkDown, match="no connection"):
            async with MqttLink(url, "client", persistent=False, patience_s=0.2):
                pass


async def test_a_patient_link_waits_for_a_broker_that_starts_later(embedded: Rig) -> None:
    embedded.stop()
    link = MqttLink(embedded.url, secrets.token_hex(8), persistent=False, patience_s=math.inf)
    entering = asyncio.create_task(link.__aenter__())
    await asyncio.to_thread(embedded.restart)
    async with asyncio.timeout(120):
        await entering
    assert link.connected
    await link.__aexit__(None, None, None)


async def test_entering_can_be_cancelled() -> None:
    link = MqttLink(BrokerUrl("127.0.0.1", free_port()), "client", persistent=False, patience_s=math.inf)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), link:
            pass
    assert not link.connected


@pytest.mark.mosquitto
async def test_a_wrong_password_is_told_at_once(mosquitto: Rig, unique: str) -> None:
    url = BrokerUrl(mosquitto.url.host, mosquitto.url.port, mosquitto.log_in(unique).user, "wrong")
    with pytest.raises(NotAuthorized):
        async with MqttLink(url, f"{unique}-0", persistent=True, patience_s=math.inf):
            pass


@pytest.mark.mosquitto
async def test_a_forbidden_publication_is_told(mosquitto_url: BrokerUrl, unique: str) -> None:
    async with MqttLink(mosquitto_url, unique, persistent=False) as link:
        with pytest.raises(NotAuthorized):
            await link.publish(Outgoing(topics.keys("bank"), b"forged", retain=True))


@pytest.mark.mosquitto
async def test_a_forbidden_announcement_does_not_keep_the_link_from_connecting_again(mosquitto: Rig) -> None:
    async with contextlib.AsyncExitStack() as wires:
        world = MqttWorld(mosquitto, wires)
        bank, asker = Bank(world), Asker(world)
        kept = Outgoing(topics.keys(bank.name), b"kept", retain=True)
        async with asyncio.timeout(120), bank.open() as server, asker.open(kept.topic) as link:
            await server.announce(kept)
            await asker.hear()
            with pytest.raises(NotAuthorized):
                await link.announce(Outgoing(topics.status(bank.name), b"forged", retain=True))
            world.cut(asker.client)
            await asker.hear()
            await link.wait_connected()


async def test_an_announcement_that_is_too_large_is_told_without_a_connection() -> None:
    link = MqttLink(BrokerUrl("127.0.0.1", 1), "client", persistent=False)
    with pytest.raises(TooLarge):
        await link.announce(Outgoing(topics.keys("bank"), bytes(MAX_PAYLOAD + 1), retain=True))


@pytest.mark.mosquitto
async def test_that_nobody_listens_is_told_unless_the_broker_keeps_it(mosquitto: Rig, unique: str) -> None:
    async with MqttLink(mosquitto.log_in(unique), f"{unique}-0", persistent=True) as link:
        with pytest.raises(NotDelivered):
            await link.publish(Outgoing(topics.bank_request("nobody", 0, "deposit", f"{unique}-0"), b""))
        await link.publish(Outgoing(topics.status(unique), b"here", retain=True))


@pytest.mark.mosquitto
async def test_an_answer_that_nobody_hears_is_counted(mosquitto: Rig) -> None:
    async with contextlib.AsyncExitStack() as wires:
        world = MqttWorld(mosquitto, wires)
        bank, leaver, asker = Bank(world), Asker(world), Asker(world)
        bank.held[b"leaving"] = asyncio.Event()
        async with asyncio.timeout(120), bank.open() as server, asker.open() as link:
            async with leaver.open() as leaving:
                await leaving.publish(bank.request(leaver.client, b"leaving"))
                await bank.arrivals.get()
            # Whoever takes over the id and hears nothing proves that the broker has forgotten the session before.
            async with MqttLink(mosquitto.url, leaver.client, persistent=False):
                bank.held[b"leaving"].set()
                for question in (b"staying", b"still here"):  # what comes to the bank next comes after the PUBACK
                    await link.publish(bank.request(asker.client, question))
                    await asker.hear()
            assert server.counters.unheard == 1


@pytest.mark.mosquitto
async def test_messages_outside_the_window_are_ignored(mosquitto: Rig) -> None:
    """With QoS 0 nothing bounds how many can be sent to an agent that is slow."""
    async with contextlib.AsyncExitStack() as wires:
        bank, asker = Bank(MqttWorld(mosquitto, wires)), Asker(MqttWorld(mosquitto, wires))
        request = bank.request(asker.client, b"").topic
        async with asyncio.timeout(120), bank.open():
            async with aiomqtt.Client(
                mosquitto.url.host,
                mosquitto.url.port,
                identifier=asker.client,
                timeout=120,
                protocol=aiomqtt.ProtocolVersion.V5,
            ) as client:
                await client.publish(request, b"zero", qos=0)
                await client.publish(request, b"one", qos=1)
            assert (await bank.arrivals.get()).payload == b"one"


@pytest.mark.mosquitto
async def test_the_will_is_heard_of_who_leaves_while_it_is_still_announcing(
    mosquitto: Rig, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    topic = topics.status(unique)
    async with asyncio.timeout(120), contextlib.AsyncExitStack() as wires:
        asker = Asker(MqttWorld(mosquitto, wires))
        async with asker.open(topic):
            will = Outgoing(topic, b"gone", retain=True)
            link = MqttLink(mosquitto.log_in(unique), f"{unique}-0", persistent=True, will=will)
            await link.announce(Outgoing(topic, b"here", retain=True))
            monkeypatch.setattr(Connection, "finish", never)
            entering = asyncio.create_task(link.__aenter__())
            assert (await asker.hear()).payload == b"here"
            entering.cancel()
            await asyncio.gather(entering, return_exceptions=True)
            assert (await asker.hear()).payload == b"gone"


@given(attempt=st.integers(0, 10_000), draw=st.floats(0, 1, exclude_max=True))
def test_pauses_grow_to_five_seconds_and_half_of_each_is_jitter(attempt: int, draw: float) -> None:
    full = min(5.0, 0.05 * 2 ** min(attempt, 10))
    assert full / 2 <= pause_s(attempt, draw) <= full


def test_a_client_id_is_checked() -> None:
    with pytest.raises(PeerError):
        MqttLink(BrokerUrl("127.0.0.1"), "a/b", persistent=False)
