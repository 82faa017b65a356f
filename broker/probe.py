"""Does a broker keep our rules? Plain MQTT clients without a log-in try what they must not be able to do.

What counts is what is delivered: mosquitto grants every subscription, and tells an MQTT 3.1.1 client that every
publication has succeeded. Names and ids are fresh, and nothing is left behind.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import aiomqtt
from paho.mqtt.subscribeoptions import SubscribeOptions

from protocol import topics

from .address import WEBSOCKET_PATH, BrokerUrl
from .checklist import Finding
from .connection import Connection
from .port import MAX_PAYLOAD, NotAuthorized
from .tls import client_context

PATIENCE_S: Final = 10.0

_QOS1: Final = SubscribeOptions(qos=1)
_TOO_LARGE: Final = MAX_PAYLOAD + (1 << 17)
_COMES_IN: Final = "a buyer comes in without a log-in"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Strangers:
    """Names that nobody has: a bank, and three clients without a log-in."""

    url: BrokerUrl
    bank: str
    alice: str
    bob: str
    mallory: str

    @property
    def end(self) -> str:
        """The topic of what Alice may give to Bob: when he has it, all before it has been decided."""
        return topics.inbox(self.bob, self.alice)

    @property
    def forged(self) -> list[str]:
        """What Mallory may not publish."""
        announced = [topics.keys(self.bank), topics.status(self.bank), topics.totals(self.bank)]
        return [
            *announced,
            topics.catalog(self.bank),
            f"{topics.ROOT}/reply/{self.bob}/{self.bank}",
            topics.inbox(self.bob, self.alice),
            topics.bank_request(self.bank, 0, "deposit", self.alice),
            topics.merchant_request(self.bank, "order", self.alice),
        ]


async def probe(url: BrokerUrl) -> list[Finding]:
    """Try a broker out, without a log-in; takes a second.

    Raises:
        LinkDown, NotTrusted: no connection; the message says why.
    """
    url = url.anonymous
    who = _Strangers(url, f"probe-{secrets.token_hex(8)}", *(secrets.token_hex(16) for _ in range(3)))
    first = Connection(url, who.alice, persistent=False, will=None, arrived=lambda _: None)
    try:
        await first.open()
    except NotAuthorized as error:
        return [Finding(_COMES_IN, good=False, advice=f"allow_anonymous true ({error})")]
    await first.close()
    findings = [Finding(_COMES_IN, good=True, advice="")]
    for rule, advice, attempt in _ATTEMPTS:
        try:
            async with asyncio.timeout(PATIENCE_S):
                findings.append(Finding(rule, await attempt(who), advice))
        except (aiomqtt.MqttError, TimeoutError) as error:
            tried = f"it could not be tried: {str(error) or 'nothing was delivered'}"
            findings.append(Finding(rule, good=False, advice=tried))
    return findings


async def _gives(who: _Strangers) -> bool:
    async with _listening(who, who.bob, topics.inboxes(who.bob)) as bob, _Plain(who.url, who.alice) as alice:
        return await _end(bob, alice, who) == []


async def _forges(who: _Strangers, version: aiomqtt.ProtocolVersion = aiomqtt.ProtocolVersion.V5) -> bool:
    filters = [topics.inboxes(who.bob), topics.replies(who.bob)]
    filters += [f"{topics.ROOT}/{who.bank}/{what}" for what in sorted(topics.ANNOUNCEMENTS)]
    async with (
        _listening(who, who.bob, *filters) as bob,
        _Plain(who.url, who.alice) as alice,
        _Plain(who.url, who.mallory, version) as mallory,
    ):
        for topic in who.forged:
            for retain in (False, True):
                await mallory.publish(topic, b"forged", qos=1, retain=retain)
        if await _end(bob, alice, who):
            return False
    async with _listening(who, who.bob, *filters) as bob, _Plain(who.url, who.alice) as alice:
        return await _end(bob, alice, who) == []  # and nothing was kept


async def _forges_with_the_old_version(who: _Strangers) -> bool:
    return await _forges(who, aiomqtt.ProtocolVersion.V311)


async def _eavesdrops(who: _Strangers) -> bool:
    greedy = ["#", f"{topics.ROOT}/#", "+/+/+/+/+", topics.inboxes(who.bob), f"$share/all/{topics.ROOT}/#", "$SYS/#"]
    async with (
        _listening(who, who.mallory, *greedy) as mallory,
        _listening(who, who.bob, topics.inboxes(who.bob)) as bob,
        _Plain(who.url, who.alice) as alice,
    ):
        await alice.publish(topics.bank_request(who.bank, 0, "deposit", who.alice), b"asked", qos=1)
        if await _end(bob, alice, who):
            return False
        await mallory.subscribe(f"{topics.ROOT}/nothing", qos=1)  # a round trip behind what was sent to Bob
        heard = [await anext(aiter(mallory.messages)) for _ in range(len(mallory.messages))]
        # Others' announcements are for everybody.
        return not any(_secret(message.topic.value) for message in heard)


async def _sends_too_much(who: _Strangers) -> bool:
    own = topics.inbox(who.mallory, who.mallory)

    async def send(mallory: aiomqtt.Client) -> None:
        for payload in (bytes(_TOO_LARGE), b"small"):
            await mallory.publish(own, payload)

    try:
        async with _listening(who, who.mallory, own) as mallory:
            sending = asyncio.create_task(send(mallory))  # it may wait long after the broker has hung up
            try:
                return (await anext(aiter(mallory.messages))).payload == b"small"
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
    except aiomqtt.MqttError:
        return True  # the broker ends the connection


async def _logs_in_without_a_password(who: _Strangers) -> bool:
    for password in (None, "", "password"):
        try:
            async with _Plain(BrokerUrl(who.url.host, who.url.port, who.bank, password), who.mallory, like=who.url):
                return False
        except aiomqtt.MqttError:
            continue
    return True


_Attempt = Callable[[_Strangers], Awaitable[bool]]
_COPY: Final = "acl_file FILE, a copy of the project's mosquitto.acl"
_ATTEMPTS: Final[tuple[tuple[str, str, _Attempt], ...]] = (
    ("a wallet gives to another wallet's inbox", _COPY, _gives),
    ("nothing forged is delivered or kept", _COPY, _forges),
    ("nothing forged is delivered to or by MQTT 3.1.1", _COPY, _forges_with_the_old_version),
    ("nobody hears what is for others", _COPY, _eavesdrops),
    ("a packet that is too large is not delivered", "max_packet_size 1114112", _sends_too_much),
    ("a name without its password is refused", "password_file FILE", _logs_in_without_a_password),
)


def _secret(topic: str) -> bool:
    levels = topic.split("/")
    return topic.startswith("$SYS") or len(levels) != 4 or levels[-1] not in topics.ANNOUNCEMENTS


async def _end(listener: aiomqtt.Client, giver: aiomqtt.Client, who: _Strangers) -> list[str]:
    """Publish what may be published, wait until it is heard, and return the topics of all that was heard before."""
    token = secrets.token_bytes(8)
    await giver.publish(who.end, token, qos=1)
    heard = list[str]()
    async for message in listener.messages:
        if message.payload == token:
            return heard
        heard.append(message.topic.value)
    raise aiomqtt.MqttError("the connection was lost")


@contextlib.asynccontextmanager
async def _listening(who: _Strangers, client: str, *filters: str) -> AsyncIterator[aiomqtt.Client]:
    async with _Plain(who.url, client) as listener:
        await listener.subscribe([(name, _QOS1) for name in filters])
        yield listener


class _Plain(aiomqtt.Client):
    """A client of a URL's log-in, over TLS and websockets as `like` says, or the URL itself."""

    def __init__(
        self,
        url: BrokerUrl,
        client: str,
        version: aiomqtt.ProtocolVersion = aiomqtt.ProtocolVersion.V5,
        *,
        like: BrokerUrl | None = None,
    ) -> None:
        way = like or url
        super().__init__(
            url.host,
            url.port,
            username=url.user,
            password=url.password,
            identifier=client,
            protocol=version,
            clean_session=True if version is aiomqtt.ProtocolVersion.V311 else None,
            transport="websockets" if way.websocket else "tcp",
            websocket_path=WEBSOCKET_PATH if way.websocket else None,
            tls_context=client_context(way) if way.tls else None,
            timeout=PATIENCE_S,
            logger=log,
        )
        for outcome in (self._connected, self._disconnected):
            outcome.add_done_callback(_note)  # a broker that hangs up is a finding, or none; asyncio need not complain


def _note(outcome: asyncio.Future[None]) -> None:
    if not outcome.cancelled():
        outcome.exception()
