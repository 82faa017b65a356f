"""A mosquitto as `ecash broker init` sets it up, everybody's way to it, and what each may publish and hear."""

import contextlib
import datetime
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker.address import WEBSOCKET_PATH, BrokerUrl
from broker.certificates import Issued, agent_certificate, new_authority, server_certificate
from broker.child import running
from broker.configuration import CA, CERTIFICATE, CONFIGURATION, KEY, Plan
from broker.mosquitto import OBSERVER, Mosquitto, configure, find
from broker.tls import client_context
from protocol import topics
from protocol.errors import PeerError
from tests.conftest import free_port

QOS1: Final = SubscribeOptions(qos=1)
NOW: Final = datetime.datetime.now(datetime.UTC)
LOG_INS: Final = ("bank", "north", "shop", "south", OBSERVER, "sentinel")
END: Final = topics.keys("sentinel")


@dataclass(frozen=True)
class Role:
    """Somebody at the broker: the log-in, if there is one, and the client id."""

    name: str
    user: str | None
    client: str

    def may_publish(self, topic: str) -> bool:
        """By the meaning of the topics, not by the rights' file."""
        match _parsed(topic):
            case topics.BankRequest(client=client) | topics.MerchantRequest(client=client):
                return client == self.client
            case topics.Reply(sender=sender):
                return sender == self.user
            case topics.Inbox(sender=sender):
                return sender == self.client
            case topics.Announcement(owner=owner):
                return owner == self.user
        return False

    def may_hear(self, topic: str) -> bool:
        """By the meaning of the topics, not by the rights' file."""
        match _parsed(topic):
            case topics.BankRequest(bank=owner) | topics.MerchantRequest(merchant=owner):
                return self.user in {owner, OBSERVER}
            case topics.Reply(client=client) | topics.Inbox(client=client):
                return self.user == OBSERVER or client == self.client
            case topics.Announcement():
                return True
        return False


ROLES: Final = (
    Role("buyer", None, "a11ce"),
    Role("other buyer", None, "b0b"),
    Role("stranger called as the bank", None, "bank"),
    Role("stranger with an empty name", "", "ca51m1r"),
    Role("bank", "bank", "bank-0"),
    Role("other bank", "north", "north-0"),
    Role("merchant", "shop", "shop-0"),
    Role("other merchant", "south", "south-0"),
    Role("observer", OBSERVER, "observer-0"),
)


@dataclass(frozen=True)
class Town:
    """A running mosquitto with all its listeners, and how each log-in gets there."""

    broker: Mosquitto
    plan: Plan
    authority: Issued
    passwords: dict[str, str]

    def way(self, by: str, user: str | None) -> BrokerUrl:
        """The address for a log-in: by loopback, tls, certificate, websocket or secure-websocket."""
        port = int(self.plan.listeners[by].split()[0])
        ca = self.broker.home / CA
        password = self.passwords[user] if user else None
        match by:
            case "loopback" | "websocket":
                return BrokerUrl("127.0.0.1", port, user, password, websocket=by == "websocket")
            case "certificate" if user:
                return BrokerUrl("localhost", port, tls=True, ca=ca, cert=self.broker.home / f"{user}.pem")
            case "certificate":
                return self.way("tls", None)  # without one, nobody comes in there
        return BrokerUrl("localhost", port, user, password, tls=True, websocket=by != "tls", ca=ca)


@contextlib.contextmanager
def open_town(home: Path, edit: Callable[[str], str] = str) -> Iterator[Town]:
    """Run one with every listener; `edit` changes its configuration."""
    plan = full_plan()
    authority = certify(home, "localhost")
    with edited(plan, home, edit) as broker:
        passwords = dict[str, str]()
        for name in LOG_INS:
            password = broker.log_in(name).password
            assert password
            passwords[name] = password
            (home / f"{name}.pem").write_bytes(b"".join(agent_certificate(authority, name, NOW)))
        yield Town(broker, plan, authority, passwords)


@contextlib.contextmanager
def edited(plan: Plan, home: Path, edit: Callable[[str], str]) -> Iterator[Mosquitto]:
    """A mosquitto whose configuration is ours as `edit` returns it."""
    configure(plan, home)
    path = home / CONFIGURATION
    text = edit(path.read_text())
    assert edit is str or text != path.read_text()
    path.write_text(text)
    with running([find("mosquitto"), "-c", str(path)], plan.port, home / "log") as process:
        yield Mosquitto(BrokerUrl("127.0.0.1", plan.port), home, process)


def full_plan(**changes: object) -> Plan:
    """A plan with every listener, on free ports."""
    names = ("port", "tls_port", "certificate_port", "websocket_port", "secure_websocket_port")
    ports = {name: free_port() for name in names}
    return Plan(**{"tls": True, "websockets": True, "listen": "127.0.0.1", **ports, **changes})  # type: ignore[arg-type]


def certify(home: Path, host: str, now: datetime.datetime = NOW) -> Issued:
    """Give a broker's folder an authority and a server certificate."""
    home.mkdir(exist_ok=True)
    authority = new_authority("authority", NOW - datetime.timedelta(days=1))
    issued = server_certificate(authority, host, now)
    (home / CA).write_bytes(authority.certificate)
    (home / CERTIFICATE).write_bytes(issued.certificate)
    (home / KEY).write_bytes(issued.key)
    (home / KEY).chmod(0o600)
    return authority


def plain(url: BrokerUrl, client: str, will: aiomqtt.Will | None = None, *, stays: bool = False) -> aiomqtt.Client:
    """A client that knows nothing of us; its session stays for an hour, or ends with the connection."""
    session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    session.SessionExpiryInterval = 3600 if stays else 0
    made = aiomqtt.Client(
        url.host,
        url.port,
        username=url.user,
        password=url.password,
        identifier=client,
        timeout=120,
        protocol=aiomqtt.ProtocolVersion.V5,
        will=will,
        clean_start=not stays,
        properties=session,
        transport="websockets" if url.websocket else "tcp",
        websocket_path=WEBSOCKET_PATH if url.websocket else None,
        tls_context=client_context(url) if url.tls else None,
    )
    made.pending_calls_threshold = 1000
    return made


@contextlib.asynccontextmanager
async def listening(url: BrokerUrl, client: str, *filters: str) -> AsyncIterator[aiomqtt.Client]:
    async with plain(url, client) as listener:
        await listener.subscribe([(name, QOS1) for name in filters])
        yield listener


async def heard_until(listener: aiomqtt.Client, last: str, payload: bytes = b"end") -> list[aiomqtt.Message]:
    """What was delivered before this."""
    heard = list[aiomqtt.Message]()
    async for message in listener.messages:
        if message.topic.value == last and message.payload == payload:
            return heard
        heard.append(message)
    raise AssertionError("the connection was lost")


def _parsed(topic: str) -> topics.Topic | None:
    try:
        return topics.parse(topic)
    except PeerError:
        return None
