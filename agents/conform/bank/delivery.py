"""§6.5, §7.2: where answers go, and what a bank still knows after it was killed and started again."""

import asyncio
import shlex

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker.address import WEBSOCKET_PATH, BrokerUrl
from broker.port import LinkDown
from broker.tls import client_context
from protocol import topics
from protocol.messages import AccountRequest

from ..case import Skipped, Suite
from ..voice import QUIET_S, Asking
from .visit import Visit

suite = Suite[Visit]("bank")
LOOK = AccountRequest(b"", 0)


def _misleading(client_id: str) -> Properties:
    """Return properties that ask for the answer on another topic."""
    elsewhere = f"{topics.ROOT}/{topics.REPLY}/{client_id}/elsewhere"
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic = elsewhere
    properties.CorrelationData = bytes(16)
    properties.UserProperty = [("reply-to", elsewhere)]
    return properties


@suite.case(
    "topic.response", "6.5", "An answer goes to the client of the request's topic, whatever response topic it names."
)
async def _response(visit: Visit) -> None:
    await visit.client_account()
    url, client_id = visit.address.broker, visit.entropy.bytes(16).hex()
    asking = visit.client.write(visit.receiver, "account", LOOK)
    topic = topics.bank_request(visit.keyset.bank, 0, "account", client_id)
    visit.notes.tell("account: with a response topic, correlation data and user properties of its own")
    try:
        async with _plain(url, client_id) as raw:
            await raw.subscribe(topics.replies(client_id), qos=1)
            await raw.publish(topic, asking.envelope, qos=1, properties=_misleading(client_id))
            heard = await anext(raw.messages)
            await asyncio.sleep(QUIET_S)
            visit.notes.same("messages beside the answer:", 0, len(raw.messages))
    except aiomqtt.MqttError as error:
        raise LinkDown(f"{url.public}: {error}") from error
    visit.notes.same("on", str(topics.Reply(client_id, visit.keyset.bank)), str(heard.topic))
    visit.client.accepted("account", asking.open(bytes(heard.payload)))


def _plain(url: BrokerUrl, client_id: str) -> aiomqtt.Client:
    """Return a connection without any of our own rules, not entered yet."""
    return aiomqtt.Client(
        url.host,
        url.port,
        username=url.user,
        password=url.password,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        transport="websockets" if url.websocket else "tcp",
        websocket_path=WEBSOCKET_PATH if url.websocket else None,
        tls_context=client_context(url) if url.tls else None,
    )


async def _restart(visit: Visit) -> None:
    """Have the bank killed and started again, by the operator's command."""
    visit.notes.tell(f"the command {visit.restart}")
    process = await asyncio.create_subprocess_exec(
        *shlex.split(visit.restart),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    visit.notes.same("exit code", 0, await process.wait())


@suite.case(
    "restart.answers", "7.2", "Effect and answer are durable: a bank that was killed gives the same answers again."
)
async def _answers(visit: Visit) -> None:
    if not visit.restart:
        raise Skipped("no command restarts the bank: --restart names it")
    request_id = visit.client.new_id()
    request = await visit.ordered(await visit.unit(), request_id=request_id)
    payment = await visit.payment(await visit.purse(1))
    asked: list[tuple[Asking, bytes]] = []
    for voice, kind, body, number in (
        (visit.client, "withdraw", request, request_id),
        (visit.merchant, "deposit", payment.request, b""),
    ):
        asking = voice.write(visit.receiver, kind, body, request_id=number)
        visit.notes.tell(f"{kind}: a good one")
        sealed = await voice.send(asking)
        voice.accepted(kind, asking.open(sealed))
        asked.append((asking, sealed))
    balance = await visit.balance(visit.client)
    await _restart(visit)
    for asking, sealed in asked:
        again = await visit.client.send(asking)
        visit.notes.same(f"the same answer to {asking.kind}, byte for byte:", sealed, again)
    visit.notes.same("balance", balance, await visit.balance(visit.client))
